use bytes::Bytes;
use trine_redis::Command;

use crate::{End, Op, Order, PutMode, SortedMode, Ttl};

/// A word of a command.
pub(super) enum Word {
    Name(&'static str),
    Bytes(Bytes),
    Text(String),
}

impl From<&'static str> for Word {
    fn from(name: &'static str) -> Self {
        Self::Name(name)
    }
}

impl From<&Bytes> for Word {
    fn from(bytes: &Bytes) -> Self {
        Self::Bytes(bytes.clone())
    }
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

macro_rules! number_word {
    ($($type:ty),+) => {
        $(impl From<$type> for Word {
            fn from(number: $type) -> Self {
                Self::Text(number.to_string())
            }
        })+
    };
}

number_word!(i64, u32);

/// Adds a word to a command.
pub(super) fn add(command: Command, word: Word) -> Command {
    match word {
        Word::Name(name) => command.arg(name),
        Word::Bytes(bytes) => command.arg(&*bytes),
        Word::Text(text) => command.arg(text),
    }
}

/// Returns the command of an operation without its key and lifetime.
pub(super) fn words(op: &Op) -> Vec<Word> {
    match op {
        Op::Get { .. } | Op::Touch { .. } => vec!["GET".into()],
        // One key of several reads as absent if it holds a collection.
        Op::Lookup { .. } => vec!["MGET".into()],
        Op::Put { value, ttl, mode, .. } => {
            let mut words = vec!["SET".into(), value.into()];
            words.extend(match mode {
                PutMode::Always => None,
                PutMode::IfAbsent => Some(Word::Name("NX")),
                PutMode::IfPresent => Some(Word::Name("XX")),
            });
            words.extend(keeps(*ttl));
            words
        }
        Op::Swap { value, ttl, .. } => {
            let mut words = vec!["SET".into(), value.into(), "GET".into()];
            words.extend(keeps(*ttl));
            words
        }
        Op::Take { .. } => vec!["GETDEL".into()],
        Op::Add { by, .. } => vec!["INCRBY".into(), (*by).into()],
        Op::Remove { .. } => vec!["UNLINK".into()],
        Op::Exists { .. } | Op::Expire { .. } => vec!["EXISTS".into()],
        Op::Lifetime { .. } => vec!["PTTL".into()],
        Op::Time { .. } => vec!["TIME".into()],
        Op::HashGet { fields, .. } => with("HMGET", fields),
        Op::HashAll { .. } => vec!["HGETALL".into()],
        Op::HashScan { cursor, count, .. } => {
            let cursor = match &**cursor {
                [] => "0".into(),
                text if text.iter().all(u8::is_ascii_digit) => cursor.into(),
                // The server would take a sign for a position.
                _ => "none".into(),
            };
            vec!["HSCAN".into(), cursor, "COUNT".into(), (*count).max(1).into()]
        }
        Op::HashPut { fields, .. } => {
            let mut words = vec!["HSET".into()];
            words.extend(fields.iter().flat_map(|(name, value)| [name.into(), value.into()]));
            words
        }
        Op::HashPutNew { field, value, .. } => vec!["HSETNX".into(), field.into(), value.into()],
        Op::HashAdd { field, by, .. } => vec!["HINCRBY".into(), field.into(), (*by).into()],
        Op::HashRemove { fields, .. } => with("HDEL", fields),
        Op::HashLen { .. } => vec!["HLEN".into()],
        Op::SetAdd { members, .. } => with("SADD", members),
        Op::SetRemove { members, .. } => with("SREM", members),
        Op::SetHas { members, .. } => with("SMISMEMBER", members),
        Op::SetAll { .. } => vec!["SMEMBERS".into()],
        Op::SetLen { .. } => vec!["SCARD".into()],
        Op::SetRandom { count, .. } => vec!["SRANDMEMBER".into(), (*count).into()],
        Op::SetPop { count, .. } => vec!["SPOP".into(), (*count).into()],
        Op::ListPush { end, values, .. } => with(at_end(*end, "LPUSH", "RPUSH"), values),
        Op::ListPop { end, count, .. } => {
            vec![at_end(*end, "LPOP", "RPOP").into(), (*count).into()]
        }
        Op::ListRange { start, stop, .. } => {
            vec!["LRANGE".into(), (*start).into(), (*stop).into()]
        }
        Op::ListTrim { start, stop, .. } => {
            vec!["LTRIM".into(), (*start).into(), (*stop).into()]
        }
        Op::ListIndex { index, .. } => vec!["LINDEX".into(), (*index).into()],
        Op::ListRemove { value, count, .. } => {
            // A server refuses the one number that has no opposite.
            vec!["LREM".into(), (*count).max(-i64::MAX).into(), value.into()]
        }
        Op::ListLen { .. } => vec!["LLEN".into()],
        _ => sorted_words(op),
    }
}

fn sorted_words(op: &Op) -> Vec<Word> {
    match op {
        Op::SortedPut { entries, mode, .. } => {
            let mut words = vec!["ZADD".into()];
            words.extend(match mode {
                SortedMode::Always => None,
                SortedMode::IfAbsent => Some(Word::Name("NX")),
                SortedMode::IfPresent => Some(Word::Name("XX")),
                SortedMode::IfHigher => Some(Word::Name("GT")),
                SortedMode::IfLower => Some(Word::Name("LT")),
            });
            words.extend(
                entries.iter().flat_map(|entry| [score(entry.score), (&entry.member).into()]),
            );
            words
        }
        Op::SortedAdd { member, by, .. } => {
            vec!["ZINCRBY".into(), score(*by), member.into()]
        }
        Op::SortedRemove { members, .. } => with("ZREM", members),
        Op::SortedRemovePlaces { start, stop, .. } => {
            vec!["ZREMRANGEBYRANK".into(), (*start).into(), (*stop).into()]
        }
        Op::SortedRemoveScores { min, max, .. } => {
            vec!["ZREMRANGEBYSCORE".into(), score(*min), score(*max)]
        }
        Op::SortedScores { members, .. } => with("ZMSCORE", members),
        Op::SortedRank { member, order, .. } => {
            vec!["RANK".into(), ordered(*order, "ZRANK", "ZREVRANK").into(), member.into()]
        }
        Op::SortedByPlace { start, stop, order, .. } => vec![
            ordered(*order, "ZRANGE", "ZREVRANGE").into(),
            (*start).into(),
            (*stop).into(),
            "WITHSCORES".into(),
        ],
        Op::SortedByScore { min, max, order, skip, count, .. } => {
            let (first, last) = match order {
                Order::Ascending => (min, max),
                Order::Descending => (max, min),
            };
            vec![
                ordered(*order, "ZRANGEBYSCORE", "ZREVRANGEBYSCORE").into(),
                score(*first),
                score(*last),
                "WITHSCORES".into(),
                "LIMIT".into(),
                (*skip).into(),
                (*count).into(),
            ]
        }
        Op::SortedCount { min, max, .. } => vec!["ZCOUNT".into(), score(*min), score(*max)],
        Op::SortedPop { order, count, .. } => {
            vec![ordered(*order, "ZPOPMIN", "ZPOPMAX").into(), (*count).into()]
        }
        _ => vec!["ZCARD".into()],
    }
}

fn with(name: &'static str, values: &[Bytes]) -> Vec<Word> {
    std::iter::once(name.into()).chain(values.iter().map(Word::from)).collect()
}

fn at_end(end: End, left: &'static str, right: &'static str) -> &'static str {
    match end {
        End::Left => left,
        End::Right => right,
    }
}

fn ordered(order: Order, up: &'static str, down: &'static str) -> &'static str {
    match order {
        Order::Ascending => up,
        Order::Descending => down,
    }
}

/// A put takes the lifetime away unless told otherwise.
fn keeps(ttl: Ttl) -> Option<Word> {
    matches!(ttl, Ttl::Keep | Ttl::Default | Ttl::IfNew(_)).then_some(Word::Name("KEEPTTL"))
}

/// A score in the shortest form that is read back as the same number.
fn score(score: f64) -> Word {
    format!("{score:e}").into()
}
