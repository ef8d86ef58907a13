use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use trine_redis::Command;

use super::RedisBackend;
use super::script::{READ, WRITE};
use crate::{Batch, End, Expected, Key, Op, Order, PutMode, SortedMode, Ttl};

/// One command, and how its answer is to be read.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) command: Command,
    pub(super) form: Form,
}

/// The operations that one command is for.
pub(super) struct Part {
    pub(super) range: Range<usize>,
    pub(super) form: Form,
}

/// How an answer is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It is the operation's own.
    Plain,
    /// It is that of a script with this operation only.
    Script,
    /// It has one part for each of several look-ups.
    Lookups,
}

/// An operation as the script takes it: what happens to the lifetime, and the
/// command without its key.
struct Step {
    action: &'static str,
    life: Duration,
    words: Vec<Word>,
}

/// A word of a command.
enum Word {
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

/// Most look-ups in one command: others wait meanwhile.
const LOOKUPS: usize = 1_000;

impl RedisBackend {
    /// Returns one command for an operation.
    pub(super) fn encode(&self, op: &Op) -> Sent {
        match self.plain(op) {
            Some(command) => Sent { command, form: Form::Plain },
            None => Sent { command: self.script_of(std::slice::from_ref(op)), form: Form::Script },
        }
    }

    /// Returns the commands for independent operations, and which operations
    /// each is for.
    pub(super) fn plan(&self, ops: &[Op]) -> Vec<(Part, Command)> {
        let mut plan = Vec::new();
        let mut place = 0;
        while let Some(op) = ops.get(place) {
            let looked = self.lookups(ops.get(place..).unwrap_or_default());
            let range = place..place + looked.len().max(1);
            place = range.end;
            if looked.len() > 1 {
                let command = self.lookup(looked);
                plan.push((Part { range, form: Form::Lookups }, command));
            } else {
                let Sent { command, form } = self.encode(op);
                plan.push((Part { range, form }, command));
            }
        }
        plan
    }

    /// Returns one command for several look-ups.
    fn lookup(&self, ops: &[Op]) -> Command {
        let prefix = self.namespace.prefix();
        let mut full = String::from(prefix);
        ops.iter().fold(Command::read("MGET"), |command, op| {
            full.truncate(prefix.len());
            full.push_str(op.key().as_str());
            command.key(&full)
        })
    }

    /// Returns the look-ups at the beginning that one command can do.
    fn lookups<'a>(&self, ops: &'a [Op]) -> &'a [Op] {
        let is_one = |op: &&Op| matches!(op, Op::Lookup { .. });
        let looked = ops.iter().take(LOOKUPS).take_while(is_one);
        let slot = |op: &Op| self.pool.slot(self.full_key(op.key()).as_bytes());
        // Without slots, one key after the other need not be looked at.
        let count = match ops.first().and_then(slot) {
            Some(first) => looked.take_while(|op| slot(op) == Some(first)).count(),
            None => looked.count(),
        };
        ops.get(..count).unwrap_or_default()
    }

    /// Returns the script for a whole batch.
    pub(super) fn encode_atomic(&self, batch: &Batch) -> Command {
        let script = if batch.is_write() { &WRITE } else { &READ };
        let mut keys = Keys { backend: self, full: Vec::new() };
        let mut words = Vec::new();
        match batch.guard() {
            Some(guard) => {
                let key = self.full_key(&guard.key);
                keys.full.push(self.namespace.mark(&key, guard.fence.key()));
                keys.place(&guard.key);
                let is_alone = guard.key.tag() == guard.key.as_str();
                words.push(guard.fence.token().to_string().into());
                words.push(self.fence_retention.as_millis().to_string().into());
                words.push(if is_alone { "1" } else { "0" }.into());
            }
            None => words.extend(["0", "0", "0"].map(Word::Name)),
        }
        words.push(batch.conditions().len().to_string().into());
        for condition in batch.conditions() {
            let place = keys.place(&condition.key);
            let (kind, values) = match &condition.expected {
                Expected::Absent => ("absent", vec![]),
                Expected::Present => ("present", vec![]),
                Expected::Value(value) => ("value", vec![value]),
                Expected::Field { field, value: Some(value) } => ("field", vec![field, value]),
                Expected::Field { field, value: None } => ("no field", vec![field]),
            };
            words.push(kind.into());
            words.push(place);
            words.extend(values.into_iter().map(Word::from));
        }
        for op in batch.ops() {
            let place = keys.place(op.key());
            step(op).append_to(place, &mut words);
        }
        words.into_iter().fold(script.command(keys.full), add)
    }

    fn script_of(&self, ops: &[Op]) -> Command {
        let mut batch = Batch::atomic();
        batch.ops.extend(ops.iter().cloned());
        self.encode_atomic(&batch)
    }

    /// Returns the command that does all of an operation, if Redis has one.
    fn plain(&self, op: &Op) -> Option<Command> {
        // The most frequent ones, without a detour.
        match op {
            Op::Get { key } => return Some(Command::read("GET").key(self.full_key(key))),
            Op::Lookup { key } => return Some(Command::read("MGET").key(self.full_key(key))),
            _ => {}
        }
        let Step { action, life, words } = step(op);
        let mut words = words.into_iter();
        let Some(Word::Name(name)) = words.next() else { return None };
        let is_special = matches!(op, Op::Time { .. } | Op::SortedRank { .. });
        let command = if op.is_write() { Command::write(name) } else { Command::read(name) };
        let key = self.full_key(op.key());
        let command = words.fold(command.key(&key), add);
        match (action, op) {
            _ if is_special => None,
            ("keep", _) => Some(command),
            ("after", Op::Touch { .. }) => {
                let command = Command::write("GETEX").key(key);
                Some(command.arg("PX").arg(millis(life)))
            }
            ("after", Op::Expire { .. }) => {
                Some(Command::write("PEXPIRE").key(key).arg(millis(life)))
            }
            ("never", Op::Touch { .. }) => Some(Command::write("GETEX").key(key).arg("PERSIST")),
            _ => None,
        }
    }
}

/// The keys of a script, each once.
struct Keys<'a> {
    backend: &'a RedisBackend,
    full: Vec<String>,
}

impl Keys<'_> {
    /// Returns the place of a key, counted from 1.
    fn place(&mut self, key: &Key) -> Word {
        let full = self.backend.full_key(key);
        let place = match self.full.iter().position(|known| *known == full) {
            Some(place) => place,
            None => {
                self.full.push(full);
                self.full.len() - 1
            }
        };
        (place + 1).to_string().into()
    }
}

impl Step {
    fn append_to(self, key: Word, words: &mut Vec<Word>) {
        words.push(self.action.into());
        words.push(millis(self.life).to_string().into());
        words.push(key);
        words.push(self.words.len().to_string().into());
        words.extend(self.words);
    }
}

fn add(command: Command, word: Word) -> Command {
    match word {
        Word::Name(name) => command.arg(name),
        Word::Bytes(bytes) => command.arg(&*bytes),
        Word::Text(text) => command.arg(text),
    }
}

/// Rounded up, so that nothing ends early.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A score in the shortest form that is read back as the same number.
fn score(score: f64) -> Word {
    format!("{score:e}").into()
}

fn step(op: &Op) -> Step {
    let (action, life) = match op.ttl() {
        Some(Ttl::After(span)) => ("after", span),
        Some(Ttl::IfNew(span)) => ("new", span),
        Some(Ttl::Never) => ("never", Duration::ZERO),
        Some(Ttl::Default | Ttl::Keep) | None => ("keep", Duration::ZERO),
    };
    let mut step = Step { action, life, words: words(op) };
    // One that its mode forbids must not change the lifetime of what is there,
    // so the command gives it by itself; without a word of it, it is endless.
    if matches!(op, Op::Put { .. } | Op::Swap { .. }) && step.action != "new" {
        if step.action == "after" {
            step.words.extend(["PX".into(), millis(life).to_string().into()]);
        }
        step.action = "keep";
    }
    step
}

/// Returns the command of an operation without its key and lifetime.
fn words(op: &Op) -> Vec<Word> {
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
            let cursor = if cursor.is_empty() { "0".into() } else { cursor.into() };
            vec!["HSCAN".into(), cursor, "COUNT".into(), (*count).into()]
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
            vec!["LREM".into(), (*count).into(), value.into()]
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
