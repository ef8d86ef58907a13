use std::time::Duration;

use tokio::time::Instant;
use trine_core::{Backoff, CallContext, Deadline, ErrorKind};
use trine_db_shard::Error as DbError;

use super::tables::Failure;
use crate::{At, Error, Result, Unavailable};

/// Longest time of one call with all its attempts.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits between two attempts.
const FIRST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// The attempts of one call, until its deadline.
#[derive(Debug)]
pub(super) struct Attempts {
    at: At,
    began: Instant,
    deadline: Deadline,
    backoff: Backoff,
    failures: u32,
    is_unknown: bool,
}

impl Attempts {
    pub(super) fn new(at: At, deadline: Option<Deadline>) -> Self {
        Self {
            at,
            began: Instant::now(),
            deadline: Deadline::after(LONGEST).or_earlier(deadline),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            failures: 0,
            is_unknown: false,
        }
    }

    /// Whether one of them may have happened though nobody has said so.
    pub(super) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Runs one attempt, which the database ends at the deadline. The call is
    /// no tenant's: a lock must not wait for what it protects.
    pub(super) async fn bound<F: Future>(&self, attempt: F) -> F::Output {
        CallContext::default().with_deadline(self.deadline).scope(attempt).await
    }

    /// Waits before the next attempt after somebody else was faster.
    pub(super) async fn lost_race(&mut self) -> Result<()> {
        self.pause(None).await
    }

    /// Waits before the next attempt if there is to be one after `failure`.
    pub(super) async fn failed(&mut self, failure: Failure) -> Result<()> {
        let Failure::Database(error) = failure else { return Err(self.error(failure)) };
        let is_again = match error.kind() {
            ErrorKind::OutcomeUnknown => {
                self.is_unknown = true;
                true
            }
            // A deadlock, a row that another has just made, a killed statement:
            // it has not happened.
            ErrorKind::Conflict => error.is_deadlock() || error.unique_key().is_some(),
            ErrorKind::Interrupted => true,
            // What may have happened is worth more patience than what has not.
            _ => self.is_unknown && error.is_retryable(),
        };
        if is_again { self.pause(Some(error)).await } else { Err(self.translate(error)) }
    }

    async fn pause(&mut self, error: Option<DbError>) -> Result<()> {
        let wait = self.backoff.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        if self.deadline.remaining() <= wait {
            return Err(match error.filter(|_| !self.is_unknown) {
                Some(error) => self.translate(error),
                None => self.timed_out(),
            });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    pub(super) fn error(&self, failure: Failure) -> Error {
        let at = self.at.clone();
        match failure {
            Failure::Database(error) => self.translate(error),
            Failure::NoTable(table) => Error::NoTable { at, table, set: crate::schema::OWNER },
            Failure::Internal(cause) => Error::Internal { at, cause },
        }
    }

    fn timed_out(&self) -> Error {
        let (at, after) = (self.at.clone(), self.began.elapsed());
        Error::Timeout { at, after, limit: "the attempts of one call" }
    }

    fn translate(&self, error: DbError) -> Error {
        let at = self.at.clone();
        match error.kind() {
            ErrorKind::Unavailable
            | ErrorKind::Exhausted
            | ErrorKind::Interrupted
            | ErrorKind::Conflict
            | ErrorKind::Closed => Error::Unavailable {
                at,
                reason: Unavailable::Unreachable,
                retry_after: None,
                cause: Some(error.into()),
            },
            ErrorKind::Timeout | ErrorKind::OutcomeUnknown => self.timed_out(),
            ErrorKind::Denied => Error::Denied { at, cause: error.into() },
            // Our own statements and values: nothing that a caller can mend.
            _ => Error::Internal { at, cause: error.into() },
        }
    }
}
