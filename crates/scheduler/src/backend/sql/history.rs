use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trine_db_shard::Timestamp;

use super::Failure;
use crate::{Attempt, AttemptEnd, JobId};

/// Most attempts of a tick that are kept: the latest.
const KEPT: usize = 100;

/// The attempts of a tick in their column, a JSON list. Its fields are part of
/// `docs/wire.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History(Vec<Stored>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    /// Its number.
    n: u32,
    /// Its process.
    p: Box<str>,
    /// Its token.
    t: u64,
    /// When it began, in µs since the Unix epoch.
    b: i64,
    /// How long it took, in µs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<u64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<Cow<'static, str>>,
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<Box<str>>,
}

impl History {
    pub(super) fn read(job: &JobId, text: &str) -> Result<Self, Failure> {
        let read = serde_json::from_str(text).map(Self);
        read.map_err(|error| Failure::stored(job, "attempts", error))
    }

    pub(super) fn write(&self) -> String {
        // Numbers and texts only: nothing that JSON does not have.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    pub(super) fn begin(&mut self, number: u32, process: &Arc<str>, token: u64, now: Timestamp) {
        let (p, b) = ((**process).into(), now.as_micros());
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push(Stored { n: number, p, t: token, b, d: None, e: None, x: None });
    }

    /// Ends the last attempt, if it goes on.
    pub(super) fn end(&mut self, end: &AttemptEnd, now: Timestamp) {
        let Some(last) = self.0.last_mut().filter(|last| last.e.is_none()) else { return };
        let (name, text) = match end {
            AttemptEnd::Succeeded => ("succeeded", None),
            AttemptEnd::Failed { error } => ("failed", Some(cut(error))),
            AttemptEnd::Panicked { message } => ("panicked", Some(cut(message))),
            AttemptEnd::TimedOut => ("timed_out", None),
            AttemptEnd::Lost => ("lost", None),
            AttemptEnd::HandedOver => ("handed_over", None),
        };
        let took = now.as_micros().saturating_sub(last.b);
        last.d = Some(u64::try_from(took).unwrap_or(0));
        (last.e, last.x) = (Some(name.into()), text);
    }

    /// Returns how the last attempt ended, if it is over.
    pub(super) fn last_end(&self) -> Option<&str> {
        self.0.last()?.e.as_deref()
    }

    pub(super) fn attempts(self, job: &JobId) -> Result<Vec<Attempt>, Failure> {
        self.0.into_iter().map(|stored| stored.attempt(job)).collect()
    }
}

impl Stored {
    fn attempt(self, job: &JobId) -> Result<Attempt, Failure> {
        let began = Timestamp::from_micros(self.b).into();
        let attempt = Attempt::new(self.n, self.p.into(), self.t, began);
        let text = self.x.unwrap_or_default();
        let end = match self.e.as_deref() {
            None => return Ok(attempt),
            Some("succeeded") => AttemptEnd::Succeeded,
            Some("failed") => AttemptEnd::Failed { error: text },
            Some("panicked") => AttemptEnd::Panicked { message: text },
            Some("timed_out") => AttemptEnd::TimedOut,
            Some("lost") => AttemptEnd::Lost,
            Some("handed_over") => AttemptEnd::HandedOver,
            Some(other) => return Err(Failure::stored(job, "end of an attempt", other)),
        };
        Ok(attempt.ended(Duration::from_micros(self.d.unwrap_or(0)), end))
    }
}

/// Cuts what a handler said, so that no row is long.
fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(AttemptEnd::MAX_ERROR)].into()
}
