use std::fmt;
use std::sync::Arc;

use crate::{Access, Command};

/// A Lua script with constant text. Cheap to clone; make it once.
///
/// It is sent by its digest. A server that does not know it gets the text on
/// the same route, and knows it from then on.
///
/// # Example
///
/// ```
/// use trine_redis::Script;
///
/// let release = Script::new(
///     "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
///      return 0",
/// );
/// let command = release.command(["lock:{1}"]).arg("owner");
/// ```
#[derive(Clone)]
pub struct Script {
    shared: Arc<Shared>,
}

struct Shared {
    text: &'static str,
    digest: String,
    access: Access,
}

impl Script {
    /// Returns the script of `text`, which may change something.
    #[must_use]
    pub fn new(text: &'static str) -> Self {
        Self::of(text, Access::Write)
    }

    /// Returns the script of `text`, which changes nothing; the server refuses
    /// writes in it.
    #[must_use]
    pub fn read_only(text: &'static str) -> Self {
        Self::of(text, Access::Read)
    }

    fn of(text: &'static str, access: Access) -> Self {
        let digest = redis::Script::new(text).get_hash().to_owned();
        Self { shared: Arc::new(Shared { text, digest, access }) }
    }

    /// Returns the command that runs it with these keys; arguments are added
    /// to the command.
    ///
    /// A script must not answer with the codes by which a server refuses a
    /// command before it begins (`MOVED`, `ASK`, `TRYAGAIN`, `READONLY`,
    /// `NOSCRIPT`): it would be sent again.
    ///
    /// Every key that the script touches is declared here, and all of them are
    /// in one slot, on a single server too; `run` refuses anything else.
    #[must_use]
    pub fn command<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Command {
        let name = match self.shared.access {
            Access::Read => "EVALSHA_RO",
            Access::Write => "EVALSHA",
        };
        let keys: Vec<K> = keys.into_iter().collect();
        let command = Command::of_script(self, name, self.shared.access).arg(keys.len());
        keys.into_iter().fold(command, Command::key)
    }

    /// Returns the SHA-1 digest of the text in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.shared.digest
    }

    pub(crate) fn text(&self) -> &'static str {
        self.shared.text
    }

    pub(crate) fn eval_name(&self) -> &'static str {
        match self.shared.access {
            Access::Read => "EVAL_RO",
            Access::Write => "EVAL",
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("digest", &self.digest())
            .field("access", &self.shared.access)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Form, Shape};

    #[test]
    fn it_is_sent_by_digest_or_as_text() {
        let script = Script::new("return 1");
        assert_eq!(script.digest(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        let command = script.command(["k"]).arg("a");
        let wire = |form| {
            let packed = command.packed("id", form).get_packed_command();
            String::from_utf8(packed).unwrap().replace("\r\n", " ")
        };
        let digest = "$7 EVALSHA $40 e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(wire(Form::Digest), format!("*5 {digest} $1 1 $1 k $1 a "));
        assert_eq!(wire(Form::Text), "*5 $4 EVAL $8 return 1 $1 1 $1 k $1 a ");
    }

    #[test]
    fn its_keys_are_in_one_slot_on_any_server() {
        let script = Script::read_only("return 1");
        assert!(script.command(["{a}1", "{a}2"]).check(Shape::Plain).is_ok());
        assert!(script.command(["a", "b"]).check(Shape::Plain).is_err());
        assert!(script.command([""; 0]).check(Shape::Plain).is_ok());
    }
}
