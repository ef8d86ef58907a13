use std::sync::{Arc, Mutex, PoisonError};

use redis::{Pipeline, RedisError};

use crate::Value;
use crate::config::Address;
use crate::dial::{Dialed, Dialer, Purpose, Reason, Refusal, alongside};
use crate::facts::Mode;

/// One sentinel, and the connection on which it is asked again and again.
pub(super) struct Witness {
    pub(super) address: Address,
    kept: Mutex<Option<Dialed>>,
}

/// What a sentinel says of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Grows with every fail-over.
    pub(super) epoch: u64,
    pub(super) master: Address,
}

impl Witness {
    pub(super) fn new(address: &Address) -> Self {
        Self { address: address.clone(), kept: Mutex::default() }
    }

    /// Asks for the master called `name`.
    ///
    /// Cancel-safe: dropped unfinished, the next call makes a connection.
    pub(super) async fn ask(&self, dialer: &Dialer, name: &str) -> Result<Word, Arc<Refusal>> {
        let question = question(name);
        // It may have ended since the last time.
        if let Some(mut kept) = self.keep(None)
            && let Some(Ok(replies)) = send(&mut kept, &question).await
        {
            return self.heard(kept, replies, name);
        }
        let mut dialed = dialer.dial(&self.address, Purpose::Commands).await?;
        if dialed.facts.mode != Mode::Sentinel {
            let found = dialed.facts.mode;
            let problem = format!("it is {found}, and server.kind is \"sentinel\"");
            return Err(self.refused(Reason::Invalid(problem.into())));
        }
        match send(&mut dialed, &question).await {
            Some(Ok(replies)) => self.heard(dialed, replies, name),
            Some(Err(error)) => Err(self.refused(Reason::Broken(error))),
            None => Err(self.refused(Reason::Closed)),
        }
    }

    /// Has the next question make a connection.
    pub(super) fn forget(&self) {
        self.keep(None);
    }

    fn keep(&self, dialed: Option<Dialed>) -> Option<Dialed> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut kept, dialed)
    }

    fn heard(
        &self,
        dialed: Dialed,
        replies: Vec<redis::Value>,
        name: &str,
    ) -> Result<Word, Arc<Refusal>> {
        self.keep(Some(dialed));
        Word::read(replies, &self.address, name).map_err(|reason| self.refused(reason))
    }

    fn refused(&self, reason: Reason) -> Arc<Refusal> {
        Arc::new(Refusal::new(&self.address.to_string().into(), reason))
    }
}

/// The epoch first: if the master changes between the two, the word is older
/// than what it says, and never newer.
fn question(name: &str) -> Pipeline {
    let mut question = Pipeline::new();
    question.cmd("SENTINEL").arg("MASTER").arg(name);
    question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    question
}

async fn send(
    dialed: &mut Dialed,
    question: &Pipeline,
) -> Option<Result<Vec<redis::Value>, RedisError>> {
    let asking = dialed.connection.send_packed_commands(question, 0, question.len());
    alongside(&mut dialed.driver, asking).await
}

impl Word {
    /// Reads what `sentinel` answered to the two questions; an unknown host is
    /// its own.
    fn read(replies: Vec<redis::Value>, sentinel: &Address, name: &str) -> Result<Self, Reason> {
        let mut replies = replies.into_iter().map(Value::new);
        let (fields, place) = (replies.next(), replies.next());
        let Some(Value::Array(parts)) = &place else {
            return Err(match place {
                Some(Value::Error(error)) => Reason::Server(error),
                Some(_) => Reason::NoMaster(format!("it knows no master `{name}`").into()),
                None => Reason::Protocol,
            });
        };
        let epoch = match &fields {
            Some(Value::Array(fields)) => field(fields, "config-epoch"),
            Some(Value::Error(error)) => return Err(Reason::Server(error.clone())),
            _ => return Err(Reason::Protocol),
        };
        let text = |place: usize| parts.get(place).and_then(Value::as_text);
        let port = text(1).and_then(|port| port.parse().ok()).ok_or(Reason::Protocol)?;
        let epoch = epoch.and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
        Ok(Self { epoch, master: sentinel.with(text(0).unwrap_or_default(), port) })
    }

    /// Returns the newest of `words`: that of the highest epoch, and of several
    /// the one that most say.
    pub(super) fn newest(words: &[Self]) -> Option<&Self> {
        words.iter().max_by_key(|word| (word.epoch, word.count(words)))
    }

    /// Returns how many of `words` say the same.
    pub(super) fn count(&self, words: &[Self]) -> usize {
        words.iter().filter(|word| *word == self).count()
    }
}

/// Returns the value that follows `name` in names and values in turn.
fn field<'a>(fields: &'a [Value], name: &str) -> Option<&'a str> {
    let mut pairs = fields.chunks(2).filter_map(|pair| match pair {
        [key, value] => Some((key.as_text()?, value.as_text()?)),
        _ => None,
    });
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(epoch: u64, port: u16) -> Word {
        Word { epoch, master: Address::tcp("h", port) }
    }

    fn texts(texts: &[&str]) -> redis::Value {
        let text = |text: &&str| redis::Value::BulkString(text.as_bytes().to_vec());
        redis::Value::Array(texts.iter().map(text).collect())
    }

    #[test]
    fn a_word_is_the_epoch_and_the_master() {
        let sentinel = Address::tcp("s", 26_379);
        let read = |fields, place| Word::read(vec![fields, place], &sentinel, "m");
        let fields = || texts(&["name", "m", "port", "1", "config-epoch", "7"]);
        assert_eq!(read(fields(), texts(&["h", "6379"])).unwrap(), word(7, 6_379));
        let own = read(fields(), texts(&["", "1"])).unwrap();
        assert_eq!(own.master, Address::tcp("s", 1));
        assert!(matches!(read(fields(), redis::Value::Nil), Err(Reason::NoMaster(_))));
        assert!(matches!(read(redis::Value::Nil, texts(&["h", "1"])), Err(Reason::Protocol)));
    }

    #[test]
    fn the_highest_epoch_counts_and_then_what_most_say() {
        let words = [word(1, 1), word(2, 2), word(2, 3), word(2, 2), word(1, 1), word(1, 1)];
        assert_eq!(Word::newest(&words), Some(&word(2, 2)));
        assert_eq!(Word::newest(&[]), None);
    }
}
