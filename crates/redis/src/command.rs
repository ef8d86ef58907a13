use std::borrow::Cow;
use std::fmt;

use redis::{Arg, Cmd, ToRedisArgs};

use crate::Script;
use crate::slot::slot;

/// Whether a command changes anything: what a lost reply means depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It changes nothing. A lost reply is `Unavailable` or `Timeout`.
    Read,
    /// It may change something. A lost reply is `OutcomeUnknown`.
    Write,
}

/// One command for the server.
///
/// Keys are told apart from other arguments, because a cluster routes by them.
///
/// # Example
///
/// ```
/// use trine_redis::Command;
///
/// let read = Command::read("GET").key("shop:prod:cache.default:user:1");
/// let write = Command::write("SET").key("k").arg("value").arg("PX").arg(1_500);
/// assert_eq!(write.name(), "SET");
/// ```
#[derive(Clone)]
pub struct Command {
    cmd: Cmd,
    name: &'static str,
    access: Access,
    /// Where the first key is among the arguments; the name is number 0.
    first_key: Option<usize>,
    other_keys: Vec<usize>,
    /// Where the identity of the server goes.
    run_id: Option<usize>,
    script: Option<Script>,
    /// A rule that it breaks; said when it is to be run.
    broken: Option<&'static str>,
}

/// Why a command may not be sent on a connection that others use too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    /// Waits on the server: needs a connection of its own.
    Blocking,
    /// Changes the connection for whoever uses it next, or everybody's data.
    Forbidden,
}

impl Command {
    /// Returns the command `name` in capitals, which changes nothing.
    #[must_use]
    pub fn read(name: &'static str) -> Self {
        Self::new(name, Access::Read)
    }

    /// Returns the command `name` in capitals, which may change something.
    #[must_use]
    pub fn write(name: &'static str) -> Self {
        Self::new(name, Access::Write)
    }

    fn new(name: &'static str, access: Access) -> Self {
        // Most commands have a name, a key and a little more.
        let mut cmd = Cmd::with_capacity(4, 96);
        cmd.arg(name);
        let broken = None;
        let (first_key, other_keys, run_id, script) = (None, Vec::new(), None, None);
        Self { cmd, name, access, first_key, other_keys, run_id, script, broken }
    }

    /// Of a script: its text or digest is argument 1 and the number of keys 2.
    pub(crate) fn of_script(script: &Script, name: &'static str, access: Access) -> Self {
        let mut command = Self::new(name, access);
        command.cmd.arg(script.digest());
        command.script = Some(script.clone());
        command
    }

    /// Adds a key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        let place = self.len();
        match self.first_key {
            None => self.first_key = Some(place),
            Some(_) => self.other_keys.push(place),
        }
        self.cmd.arg(key.as_ref());
        self
    }

    /// Adds an argument: bytes, text or a number.
    #[must_use]
    pub fn arg<A: CommandArg>(mut self, arg: A) -> Self {
        arg.add_to(&mut CommandArgs(&mut self.cmd));
        self
    }

    /// Adds the `run_id` of the server that gets the command, as the connection
    /// that carries it knows it. Once per command.
    #[must_use]
    pub fn server_id(mut self) -> Self {
        if self.run_id.is_some() {
            self.broken = Some("server_id stands in a command once");
        }
        self.run_id = Some(self.len());
        self.cmd.arg("");
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the script that it runs, if it runs one.
    pub(crate) fn script(&self) -> Option<&Script> {
        self.script.as_ref()
    }

    /// Tells whether it changes anything.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    fn len(&self) -> usize {
        self.cmd.args_iter().len()
    }

    /// Returns about how many bytes it has on the wire.
    pub(crate) fn size(&self) -> usize {
        self.args().map(|arg| arg.len() + 16).sum()
    }

    fn args(&self) -> impl Iterator<Item = &[u8]> {
        self.cmd.args_iter().map(|arg| match arg {
            Arg::Simple(bytes) => bytes,
            // Cursors are added by the driver's own scans only.
            _ => &[],
        })
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        // Their places rise, so that one walk finds them all.
        let mut places = self.first_key.iter().chain(&self.other_keys).copied().peekable();
        let args = self.args().enumerate();
        args.filter_map(move |(place, arg)| places.next_if_eq(&place).map(|_place| arg))
    }

    /// Returns the slot of its keys, `None` if it has none.
    ///
    /// # Errors
    ///
    /// Fails if they are in several slots.
    pub(crate) fn slot(&self) -> Result<Option<u16>, &'static str> {
        let mut slots = self.keys().map(slot);
        let Some(first) = slots.next() else { return Ok(None) };
        if slots.all(|slot| slot == first) {
            return Ok(Some(first));
        }
        Err("its keys are in several slots; give them one {hash tag}")
    }

    /// Checks what does not depend on the server, so that what works on a
    /// single server works on a cluster.
    pub(crate) fn check(&self, allowed: Shape) -> Result<(), &'static str> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        match (self.shape(), allowed) {
            (Shape::Plain, _) | (Shape::Blocking, Shape::Blocking) => {}
            (Shape::Blocking, _) => {
                return Err("it blocks everybody's connection; acquire one for it");
            }
            (Shape::Forbidden, _) => {
                return Err("it changes the connection or all data, and is not sent");
            }
        }
        if self.script.is_some() { self.slot().map(|_slot| ()) } else { Ok(()) }
    }

    fn shape(&self) -> Shape {
        match self.name {
            "BLPOP" | "BRPOP" | "BLMOVE" | "BRPOPLPUSH" | "BLMPOP" | "BZPOPMIN" | "BZPOPMAX"
            | "BZMPOP" | "WAIT" | "WAITAOF" => Shape::Blocking,
            "XREAD" | "XREADGROUP" if self.reads_until_there_is_something() => Shape::Blocking,
            "SELECT" | "FLUSHALL" | "FLUSHDB" | "SWAPDB" | "MOVE" | "MULTI" | "EXEC"
            | "DISCARD" | "WATCH" | "UNWATCH" | "SUBSCRIBE" | "UNSUBSCRIBE" | "PSUBSCRIBE"
            | "PUNSUBSCRIBE" | "SSUBSCRIBE" | "SUNSUBSCRIBE" | "MONITOR" | "SYNC" | "PSYNC"
            | "REPLCONF" | "REPLICAOF" | "SLAVEOF" | "AUTH" | "HELLO" | "RESET" | "QUIT"
            | "ASKING" | "READONLY" | "READWRITE" | "SHUTDOWN" => Shape::Forbidden,
            // Those of the connection, and one that stops everybody's.
            "CLIENT"
                if self.is_sub(&[
                    "REPLY", "TRACKING", "CACHING", "NO-EVICT", "NO-TOUCH", "SETNAME", "SETINFO",
                    "PAUSE",
                ]) =>
            {
                Shape::Forbidden
            }
            "SCRIPT" if self.is_sub(&["FLUSH", "DEBUG"]) => Shape::Forbidden,
            // A restore may flush what is there.
            "FUNCTION" if self.is_sub(&["FLUSH", "RESTORE"]) && self.has_word("FLUSH") => {
                Shape::Forbidden
            }
            "CLUSTER" if self.is_sub(&["RESET", "FLUSHSLOTS"]) => Shape::Forbidden,
            name if name.is_empty() || name.contains(|c: char| c.is_lowercase() || c == ' ') => {
                Shape::Forbidden
            }
            _ => Shape::Plain,
        }
    }

    fn is_sub(&self, names: &[&str]) -> bool {
        let is = |sub: &[u8]| names.iter().any(|name| sub.eq_ignore_ascii_case(name.as_bytes()));
        self.args().nth(1).is_some_and(is)
    }

    fn has_word(&self, word: &str) -> bool {
        self.args().skip(1).any(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Looks for `BLOCK` among the options of a read from streams, whether the
    /// streams were added as keys or not. Groups, consumers and streams may have
    /// the name of an option.
    fn reads_until_there_is_something(&self) -> bool {
        let mut args = self.args().skip(1);
        while let Some(option) = args.next() {
            let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
            if is("BLOCK") {
                return true;
            }
            if is("STREAMS") {
                return false;
            }
            let values = match () {
                () if is("GROUP") => 2,
                () if is("COUNT") || is("CLAIM") => 1,
                () => 0,
            };
            args.by_ref().take(values).for_each(drop);
        }
        false
    }

    /// Returns what is sent to the server with this `run_id`.
    pub(crate) fn packed(&self, run_id: &str, form: Form) -> Cow<'_, Cmd> {
        let text = self.script.as_ref().filter(|_| form == Form::Text);
        if self.run_id.is_none() && text.is_none() {
            return Cow::Borrowed(&self.cmd);
        }
        let bytes: usize = self.args().map(<[u8]>::len).sum();
        let mut cmd = Cmd::with_capacity(
            self.len(),
            bytes + run_id.len() + text.map_or(0, |s| s.text().len()),
        );
        for (place, arg) in self.args().enumerate() {
            match (place, text) {
                (0, Some(script)) => cmd.arg(script.eval_name()),
                (1, Some(script)) => cmd.arg(script.text()),
                _ if Some(place) == self.run_id => cmd.arg(run_id),
                _ => cmd.arg(arg),
            };
        }
        Cow::Owned(cmd)
    }
}

/// How a script is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// By its digest.
    Digest,
    /// As a whole, for a server that does not know it.
    Text,
}

impl fmt::Debug for Command {
    /// Leaves the arguments out: they are data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name)
            .field("access", &self.access)
            .field("args", &(self.len() - 1))
            .finish_non_exhaustive()
    }
}

/// Where arguments are added.
#[derive(Debug)]
pub struct CommandArgs<'a>(&'a mut Cmd);

impl CommandArgs<'_> {
    fn add(&mut self, arg: impl ToRedisArgs) {
        self.0.arg(arg);
    }
}

/// What can be an argument: bytes, text and numbers.
pub trait CommandArg {
    /// Adds it.
    fn add_to(self, args: &mut CommandArgs<'_>);
}

macro_rules! command_arg {
    ($($type:ty),+) => {
        $(impl CommandArg for $type {
            fn add_to(self, args: &mut CommandArgs<'_>) {
                args.add(self);
            }
        })+
    };
}

command_arg!(i32, i64, u32, u64, usize, f64, &[u8], &str, &Vec<u8>, &String, Vec<u8>, String);

impl<const N: usize> CommandArg for &[u8; N] {
    fn add_to(self, args: &mut CommandArgs<'_>) {
        args.add(self.as_slice());
    }
}

impl CommandArg for Box<str> {
    fn add_to(self, args: &mut CommandArgs<'_>) {
        args.add(&*self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(command: &Command) -> String {
        let packed = command.packed("id", Form::Digest).get_packed_command();
        String::from_utf8(packed).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn arguments_are_bytes_text_and_numbers() {
        let command = Command::write("X").key("k").arg(1_i64).arg(2.5).arg(b"\x01").arg("t");
        assert_eq!(wire(&command), "*6 $1 X $1 k $1 1 $3 2.5 $1 \u{1} $1 t ");
        assert_eq!(wire(&Command::write("X").arg(Vec::from(*b"ab"))), "*2 $1 X $2 ab ");
        assert_eq!(wire(&Command::write("X").arg("")), "*2 $1 X $0  ");
    }

    #[test]
    fn the_identity_goes_where_it_was_asked_for() {
        assert_eq!(wire(&Command::write("X").server_id().arg("t")), "*3 $1 X $2 id $1 t ");
        assert!(Command::write("X").server_id().server_id().check(Shape::Plain).is_err());
    }

    #[test]
    fn keys_have_one_slot() {
        let one = Command::read("MGET").key("{a}1").key("{a}2");
        assert_eq!(one.slot(), Ok(Some(slot(b"a"))));
        assert_eq!(Command::read("PING").slot(), Ok(None));
        assert!(Command::read("MGET").key("a").key("b").slot().is_err());
    }

    #[test]
    fn what_harms_others_is_not_sent() {
        for name in ["SELECT", "FLUSHALL", "FLUSHDB", "SUBSCRIBE", "MULTI", "get", "CONFIG SET", ""]
        {
            assert!(Command::write(name).check(Shape::Blocking).is_err(), "{name}");
        }
        let reads = [
            Command::write("BLPOP").key("k").arg(1),
            Command::read("XREAD").arg("BLOCK").arg(0).arg("STREAMS").key("s").arg("$"),
            Command::read("XREAD").arg("COUNT").arg(1).arg("block").arg(0).arg("STREAMS").key("s"),
            Command::read("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(0).arg("STREAMS").arg("s"),
            Command::write("XREADGROUP").arg("GROUP").arg("STREAMS").arg("c").arg("BLOCK").arg(0),
            Command::write("XREADGROUP").arg("GROUP").key("g").key("c").arg("BLOCK").arg(0),
        ];
        for read in reads {
            assert!(read.check(Shape::Plain).is_err(), "{read:?}");
            assert!(read.check(Shape::Blocking).is_ok(), "{read:?}");
        }
        let plain = [
            Command::read("XREAD").arg("STREAMS").key("BLOCK").arg("0"),
            Command::read("XREAD").arg("STREAMS").arg("BLOCK").arg("0"),
            Command::write("XREADGROUP").arg("GROUP").arg("BLOCK").arg("block").arg("STREAMS"),
            Command::read("CLIENT").arg("LIST"),
            Command::write("SCRIPT").arg("LOAD").arg("return 1"),
            Command::write("FUNCTION").arg("LOAD").arg("FLUSH"),
            Command::write("FUNCTION").arg("RESTORE").arg("x").arg("APPEND"),
            Command::read("CLUSTER").arg("SLOTS"),
        ];
        for plain in plain {
            assert!(plain.check(Shape::Plain).is_ok(), "{plain:?}");
        }
        for (name, sub) in [
            ("CLIENT", "REPLY"),
            ("CLIENT", "tracking"),
            ("CLIENT", "NO-EVICT"),
            ("CLIENT", "NO-TOUCH"),
            ("CLIENT", "SETNAME"),
            ("CLIENT", "PAUSE"),
            ("SCRIPT", "FLUSH"),
            ("FUNCTION", "flush"),
            ("CLUSTER", "RESET"),
            ("CLUSTER", "FLUSHSLOTS"),
            ("REPLICAOF", "NO"),
            ("SLAVEOF", "NO"),
        ] {
            let command = Command::write(name).arg(sub).arg("x");
            assert!(command.check(Shape::Blocking).is_err(), "{name} {sub}");
        }
        let restore = Command::write("FUNCTION").arg("RESTORE").arg("x").arg("FLUSH");
        assert!(restore.check(Shape::Plain).is_err());
    }

    #[test]
    fn debug_shows_no_argument() {
        let shown = format!("{:?}", Command::write("SET").key("hunter").arg("hunter2"));
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
