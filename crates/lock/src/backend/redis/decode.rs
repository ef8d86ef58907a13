use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trine_redis::Value;

use super::place::fence;
use crate::{Answer, At, Error, HeldKey, Holder, HolderState, Key, Shape, Unavailable, Want};

/// Reads what a question was answered; `None` if it is none of the answers.
pub(super) fn answer(name: &str, want: &Want, reply: Value) -> Option<Answer> {
    if let Some(token) = reply.as_text() {
        return Some(Answer::Granted(
            fence(name, want.key.as_str(), None, token.parse().ok()?).ok()?,
        ));
    }
    let mut parts = Parts::of(reply)?;
    Some(match parts.number()? {
        0 => {
            let retry_in = Duration::from_micros(parts.number()?);
            Answer::Held { holder: parts.holder()?, retry_in }
        }
        1 => {
            let (token, slot) = (parts.number()?, parts.int()?);
            let slot = if slot < 0 { None } else { Some(u32::try_from(slot).ok()?) };
            Answer::Granted(fence(name, want.key.as_str(), slot, token).ok()?)
        }
        2 => Answer::Barred { retry_in: Duration::from_micros(parts.number()?) },
        _ => return None,
    })
}

/// Reads a page of a tag: where it goes on, and what is there.
pub(super) fn page(reply: Value) -> Option<(Box<str>, Vec<HeldKey>)> {
    let mut parts = Parts::of(reply)?;
    let next = parts.text()?;
    let keys = parts.next()?.into_array()?.into_iter().map(|held| {
        let mut parts = Parts::of(held)?;
        let (key, waiters) = (Key::new(parts.text()?).ok()?, parts.number()?);
        let holders = parts.0.map(|holder| Parts::of(holder)?.holder());
        Some(HeldKey::new(key, holders.collect::<Option<_>>()?, waiters))
    });
    Some((next.as_ref().into(), keys.collect::<Option<_>>()?))
}

/// The rest of a reply.
struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    fn of(reply: Value) -> Option<Self> {
        Some(Self(reply.into_array()?.into_iter()))
    }

    fn next(&mut self) -> Option<Value> {
        self.0.next()
    }

    fn int(&mut self) -> Option<i64> {
        self.next()?.to_int()
    }

    fn number(&mut self) -> Option<u64> {
        u64::try_from(self.int()?).ok()
    }

    fn text(&mut self) -> Option<Arc<str>> {
        self.next()?.as_text().map(Into::into)
    }

    fn holder(&mut self) -> Option<Holder> {
        let (process, label) = (self.text()?, self.text()?);
        let (shape, of) = (self.text()?, self.number()?);
        let shape = match &*shape {
            "w" => Shape::Write,
            "r" => Shape::Read,
            "p" => Shape::Permit { of: u32::try_from(of).ok()?.try_into().ok()? },
            _ => return None,
        };
        let since = SystemTime::UNIX_EPOCH + Duration::from_micros(self.number()?);
        let expires_in = Duration::from_micros(self.number()?);
        let (state, token) = (self.number()?, self.number()?);
        let state = match state {
            0 => HolderState::Holding { token },
            1 => HolderState::Kept { token },
            _ => HolderState::Next,
        };
        let label = Some(label).filter(|label| !label.is_empty());
        Some(Holder::new(process, shape, since, expires_in, state).with_label(label))
    }
}

/// Every write may be sent again, so that one whose reply was lost is only a
/// store that was not reached.
pub(super) fn translate(at: At, error: trine_redis::Error) -> Error {
    use trine_redis::Error as Redis;
    let cause = |reason: Unavailable, error: Redis| Error::Unavailable {
        at: at.clone(),
        reason,
        retry_after: None,
        cause: Some(error.into()),
    };
    match error {
        Redis::Denied { .. } => Error::Denied { at, cause: error.into() },
        Redis::Timeout { after, limit, .. } => Error::Timeout { at, after, limit },
        Redis::Unavailable { reason, .. } => cause(reason.into(), error),
        Redis::OutcomeUnknown { .. } => cause(Unavailable::Unreachable, error),
        Redis::OutOfMemory { .. } => Error::Exhausted { at, cause: error.into() },
        Redis::Closed { .. } => Error::Closed { at },
        Redis::Unsupported { .. } => {
            Error::Unsupported { at, what: "a command", backend: error.to_string().into() }
        }
        other => Error::Internal { at, cause: other.into() },
    }
}

impl From<trine_redis::Unavailable> for Unavailable {
    fn from(reason: trine_redis::Unavailable) -> Self {
        use trine_redis::Unavailable as Redis;
        match reason {
            Redis::Refused | Redis::NoMaster | Redis::Redirected => Self::Refused,
            Redis::NotStarted => Self::NotStarted,
            _ => Self::Unreachable,
        }
    }
}
