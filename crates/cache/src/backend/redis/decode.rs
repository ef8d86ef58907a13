use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use trine_core::ErrorKind;
use trine_redis::{ServerError, Value};

use super::RedisBackend;
use super::encode::Form;
use super::script::HALF;
use crate::{
    At, Batch, Call, Error, FieldPage, Lifetime, Op, Outcome, Ranked, Reply, Result, Scored,
};

impl RedisBackend {
    /// Reads the answer to one operation.
    pub(super) fn decode(&self, call: Call, op: &Op, form: Form, value: Value) -> Reply {
        let value = match form {
            Form::Script => match ran(value) {
                Some(mut values) if values.len() == 1 => values.pop().unwrap_or(Value::Nil),
                _ => return Reply::Failed(self.unexpected(call, op)),
            },
            Form::Plain | Form::Lookups => value,
        };
        if let Value::Error(said) = &value {
            return Reply::Failed(refused(self.at(call), op, said));
        }
        reply(op, value).unwrap_or_else(|| Reply::Failed(self.unexpected(call, op)))
    }

    /// Adds the replies of the operations that one command was for.
    pub(super) fn gather(
        &self,
        call: Call,
        ops: &[Op],
        form: Form,
        value: trine_redis::Result<Value>,
        replies: &mut SmallVec<[Reply; 1]>,
    ) {
        let value = match (value, ops) {
            (Ok(value), _) => value,
            (Err(error), [op]) => {
                replies.push(self.failed(call, op, error).unwrap_or_else(Reply::Failed));
                return;
            }
            (Err(error), _) => {
                let first = translate(self.at(call), error);
                // The cause is told once, by the one that callers look at first.
                let others: SmallVec<[Reply; 1]> =
                    ops.iter().skip(1).map(|_| Reply::Failed(self.again(call, &first))).collect();
                replies.push(Reply::Failed(first));
                replies.extend(others);
                return;
            }
        };
        if form != Form::Lookups {
            replies.extend(ops.iter().map(|op| self.decode(call, op, form, value.clone())));
            return;
        }
        match value.into_array() {
            Some(values) if values.len() == ops.len() => replies.extend(
                values.into_iter().map(|value| Reply::Value(value.into_bytes().map(Bytes::from))),
            ),
            _ => replies.extend(ops.iter().map(|op| Reply::Failed(self.unexpected(call, op)))),
        }
    }

    /// Reads the answer of the script for a whole batch.
    pub(super) fn decode_atomic(&self, call: Call, batch: &Batch, value: Value) -> Result<Outcome> {
        let unexpected = || Error::Internal {
            at: self.at(call),
            cause: "the script answered in another form".into(),
        };
        let mut parts = value.into_array().ok_or_else(unexpected)?.into_iter();
        let kind = parts.next().and_then(|kind| kind.to_int());
        let rest = parts.next().ok_or_else(unexpected)?;
        match (kind, batch.guard()) {
            (Some(0), _) => {
                let place = rest.to_int().and_then(|place| usize::try_from(place).ok());
                Ok(Outcome::Refused { condition: place.ok_or_else(unexpected)? })
            }
            (Some(1), _) => {
                let values = rest.into_array().ok_or_else(unexpected)?;
                if values.len() != batch.ops().len() {
                    return Err(unexpected());
                }
                let ops = batch.ops().iter().zip(values);
                let reply = |(op, value)| self.decode(call, op, Form::Plain, value);
                Ok(Outcome::Ran(ops.map(reply).collect()))
            }
            (Some(2), Some(guard)) => Err(Error::Fenced {
                at: self.at(call),
                key: guard.fence.key().into(),
                token: guard.fence.token(),
                seen: rest.as_text().and_then(|text| text.parse().ok()).ok_or_else(unexpected)?,
            }),
            (Some(3), Some(_)) => {
                let why = rest.as_text().ok_or_else(unexpected)?;
                let cause = format!("written, but the fence was not kept: {why}").into();
                Err(Error::OutcomeUnknown { at: self.at(call), cause })
            }
            _ => Err(unexpected()),
        }
    }

    fn unexpected(&self, call: Call, op: &Op) -> Error {
        Error::Internal {
            at: self.at(call),
            cause: format!("the server answered {} in another form", op.name()).into(),
        }
    }

    /// Says the same of another operation of the command that failed.
    fn again(&self, call: Call, first: &Error) -> Error {
        let at = self.at(call);
        match first {
            Error::Timeout { after, limit, .. } => Error::Timeout { at, after: *after, limit },
            Error::Unavailable { reason, .. } => Error::unavailable(at, *reason),
            Error::Closed { .. } => Error::Closed { at },
            Error::Denied { cause, .. } => Error::Denied { at, cause: cause.to_string().into() },
            Error::Invalid { detail, .. } => Error::invalid(at, detail.clone()),
            Error::Unsupported { what, backend, .. } => {
                Error::Unsupported { at, what, backend: backend.clone() }
            }
            other => Error::Internal { at, cause: other.to_string().into() },
        }
    }
}

/// Returns what the operations of a script answered.
fn ran(value: Value) -> Option<Vec<Value>> {
    let mut parts = value.into_array()?.into_iter();
    (parts.next()?.to_int()? == 1).then(|| parts.next()?.into_array()).flatten()
}

/// Tells whether the server refused because of what is stored or asked, not
/// because of its own state.
pub(super) fn is_about_the_value(said: &ServerError) -> bool {
    said.code() == WRONG_TYPE || said.kind() == ErrorKind::Invalid
}

const WRONG_TYPE: &str = "WRONGTYPE";

/// Returns what the refusal of one operation means.
pub(super) fn refused(at: At, op: &Op, said: &ServerError) -> Error {
    if said.code() == HALF {
        return Error::OutcomeUnknown { at, cause: said.clone().into() };
    }
    if said.code() == WRONG_TYPE {
        let (key, expected) = (op.key().clone(), op.kind());
        return Error::WrongType { at, key, expected, found: "another type" };
    }
    let cause = Some(said.clone().into());
    match said.kind() {
        ErrorKind::Exhausted => exhausted(at),
        ErrorKind::Denied => Error::Denied { at, cause: said.clone().into() },
        ErrorKind::Unavailable => {
            Error::Unavailable { at, reason: crate::Unavailable::Refused, cause }
        }
        ErrorKind::Invalid => {
            let detail = format!("key `{}`: the server refuses the operation", op.key()).into();
            Error::Invalid { at, detail, cause }
        }
        _ => Error::Internal { at, cause: said.clone().into() },
    }
}

fn exhausted(at: At) -> Error {
    Error::Exhausted { at, used: 0, max: 0, setting: "maxmemory of the server" }
}

/// The one table from the pool's errors to the cache's.
pub(super) fn translate(at: At, error: trine_redis::Error) -> Error {
    use trine_redis::Error as Redis;
    match error {
        Redis::Denied { .. } => Error::Denied { at, cause: error.into() },
        Redis::Timeout { after, limit, .. } => Error::Timeout { at, after, limit },
        Redis::Unavailable { reason, .. } => {
            Error::Unavailable { at, reason: reason.into(), cause: Some(error.into()) }
        }
        Redis::OutOfMemory { .. } => exhausted(at),
        Redis::Closed { .. } => Error::Closed { at },
        Redis::OutcomeUnknown { .. } => Error::OutcomeUnknown { at, cause: error.into() },
        Redis::Unsupported { .. } => {
            Error::Unsupported { at, what: "a command", backend: error.to_string().into() }
        }
        Redis::Config(_) | Redis::Key(_) | Redis::Invalid { .. } => {
            let detail = "the store refuses the operation".into();
            Error::Invalid { at, detail, cause: Some(error.into()) }
        }
        other => Error::Internal { at, cause: other.into() },
    }
}

/// Reads a reply in the form that the operation has.
fn reply(op: &Op, value: Value) -> Option<Reply> {
    Some(match op {
        Op::Lookup { .. } => {
            let mut values = value.into_array()?;
            Reply::Value(values.pop()?.into_bytes().map(Bytes::from))
        }
        Op::Get { .. }
        | Op::Swap { .. }
        | Op::Take { .. }
        | Op::Touch { .. }
        | Op::ListIndex { .. } => Reply::Value(bytes(value)?),
        Op::Put { .. } => Reply::Applied(!value.is_nil()),
        Op::ListTrim { .. } => Reply::Applied(true),
        Op::Remove { .. } | Op::Exists { .. } | Op::Expire { .. } | Op::HashPutNew { .. } => {
            Reply::Applied(value.to_int()? > 0)
        }
        Op::Add { .. } | Op::HashAdd { .. } => Reply::Int(value.to_int()?),
        Op::Lifetime { .. } => Reply::Lifetime(match value.to_int()? {
            -2 => Lifetime::Absent,
            -1 => Lifetime::Endless,
            left => Lifetime::Left(Duration::from_millis(u64::try_from(left).ok()?)),
        }),
        Op::Time { .. } => {
            let mut parts = value.into_array()?.into_iter();
            let mut part = || u64::try_from(parts.next()?.to_int()?).ok();
            Reply::Time(Duration::from_secs(part()?) + Duration::from_micros(part()?))
        }
        Op::HashGet { .. } => {
            Reply::Values(value.into_array()?.into_iter().map(bytes).collect::<Option<_>>()?)
        }
        Op::HashAll { .. } => Reply::Pairs(pairs(value)?),
        Op::HashScan { .. } => {
            let mut parts = value.into_array()?.into_iter();
            let cursor = parts.next()?.into_bytes()?;
            let fields = pairs(parts.next()?)?;
            let next = (cursor != b"0").then(|| Bytes::from(cursor));
            Reply::Fields(FieldPage::new(fields, next))
        }
        Op::SetHas { .. } => {
            let flags = value.into_array()?.into_iter().map(|flag| Some(flag.to_int()? != 0));
            Reply::Flags(flags.collect::<Option<_>>()?)
        }
        Op::SetAll { .. }
        | Op::SetRandom { .. }
        | Op::SetPop { .. }
        | Op::ListPop { .. }
        | Op::ListRange { .. } => Reply::Members(members(value)?),
        Op::SortedAdd { .. } => Reply::Score(value.to_float()?),
        Op::SortedScores { .. } => {
            let score = |value: Value| match value {
                Value::Nil => Some(None),
                value => value.to_float().map(Some),
            };
            Reply::Scores(value.into_array()?.into_iter().map(score).collect::<Option<_>>()?)
        }
        Op::SortedRank { .. } => Reply::Ranked(match value {
            Value::Nil => None,
            value => {
                let mut parts = value.into_array()?.into_iter();
                let place = u64::try_from(parts.next()?.to_int()?).ok()?;
                Some(Ranked::new(place, parts.next()?.to_float()?))
            }
        }),
        Op::SortedByPlace { .. } | Op::SortedByScore { .. } | Op::SortedPop { .. } => {
            let pairs = pair_values(value)?.into_iter();
            let scored = |(member, score): (Value, Value)| {
                Some(Scored::new(score.to_float()?, member.into_bytes()?))
            };
            Reply::Scored(pairs.map(scored).collect::<Option<_>>()?)
        }
        _ => Reply::Count(u64::try_from(value.to_int()?).ok()?),
    })
}

fn bytes(value: Value) -> Option<Option<Bytes>> {
    match value {
        Value::Nil => Some(None),
        value => value.into_bytes().map(|bytes| Some(bytes.into())),
    }
}

fn members(value: Value) -> Option<Vec<Bytes>> {
    match value {
        // What a list that is not there answers to a pop.
        Value::Nil => Some(Vec::new()),
        value => value.into_array()?.into_iter().map(|each| bytes(each)?).collect(),
    }
}

fn pairs(value: Value) -> Option<Vec<(Bytes, Bytes)>> {
    let pairs = pair_values(value)?.into_iter();
    pairs.map(|(name, value)| Some((bytes(name)??, bytes(value)??))).collect()
}

fn pair_values(value: Value) -> Option<Vec<(Value, Value)>> {
    let mut values = value.into_array()?.into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let Some(first) = values.next() {
        pairs.push((first, values.next()?));
    }
    Some(pairs)
}
