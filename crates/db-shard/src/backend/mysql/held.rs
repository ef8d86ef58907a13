use std::ops::{Deref, DerefMut};
use std::pin::pin;

use sqlx::SqlStr;

use super::manager::Object;
use super::session::{Failure, Session, Work};
use super::translate::{Stake, Verdict, number, timed_out, translate};
use crate::backend::{Call, Reply, Statement};
use crate::error::At;
use crate::{DatabaseName, Error, Result};

/// "Lock wait timeout exceeded."
const LOCK_WAIT: u16 = 1205;

/// A connection on loan to one call or transaction.
///
/// However it is dropped, the next caller gets a connection in order: one with
/// an answer outstanding goes to the cancel shield, one with an open
/// transaction is rolled back in the background, a broken one is closed.
#[derive(Debug)]
pub(super) struct Held {
    /// Taken by the drop only.
    loan: Option<Loan>,
}

#[derive(Debug)]
enum Loan {
    Own(Object),
    /// Of the host's pool: whatever is not in order is closed.
    #[cfg(feature = "sqlx-0_9")]
    Host(Box<Session>),
}

impl Held {
    pub(super) fn new(object: Object) -> Self {
        Self { loan: Some(Loan::Own(object)) }
    }

    #[cfg(feature = "sqlx-0_9")]
    pub(super) fn lent(session: Box<Session>) -> Self {
        Self { loan: Some(Loan::Host(session)) }
    }

    /// Runs a statement until the call's deadline.
    pub(super) async fn run(
        &mut self,
        name: &DatabaseName,
        call: &Call,
        stake: Stake,
        statement: &Statement,
    ) -> Result<Reply> {
        let mut alarm = std::mem::take(&mut self.alarm);
        let ended = {
            let work = pin!(Session::run(self, call, statement));
            alarm.limit(call.deadline, work).await
        };
        self.alarm = alarm;
        self.judge(name, call, stake, ended)
    }

    /// Runs one of our own texts until the call's deadline.
    pub(super) async fn command(
        &mut self,
        name: &DatabaseName,
        call: &Call,
        stake: Stake,
        text: SqlStr,
    ) -> Result<()> {
        let ended = call.deadline.limit(Session::command(self, text)).await;
        self.judge(name, call, stake, ended.map(|ended| ended.map_err(Failure::from)))
    }

    /// Turns the end of an exchange into the caller's answer; `None` is the
    /// end of its time.
    pub(super) fn judge<T>(
        &mut self,
        name: &DatabaseName,
        call: &Call,
        stake: Stake,
        ended: Option<Result<T, Failure>>,
    ) -> Result<T> {
        let failure = match ended {
            Some(Ok(value)) => return Ok(value),
            Some(Err(failure)) => Some(failure),
            None => None,
        };
        let at = At::new(call.operation, name);
        let Some(failure) = failure else {
            return Err(timed_out(at, call, stake));
        };
        Err(match failure {
            Failure::Driver(error) => {
                let was_lock_wait = number(&error) == Some(LOCK_WAIT);
                let verdict = translate(at, call, stake, error);
                self.note(&verdict, was_lock_wait);
                verdict.error
            }
            Failure::Parameter(problem) => Error::invalid(at, problem),
            Failure::Column(column) => column.at(at),
            Failure::TooManyRows => call.too_many_rows(at),
            Failure::LeftOpen => Error::invalid(
                at,
                "the procedure ended with a transaction open: what it had not committed is rolled \
                 back",
            ),
        })
    }

    fn note(&mut self, verdict: &Verdict, was_lock_wait: bool) {
        self.is_broken |= verdict.closes;
        let ends = was_lock_wait && self.server().rolls_back_on_lock_wait;
        if (verdict.rolled_back || ends) && self.work == Work::Open {
            self.work = Work::Ended;
        }
        if verdict.is_broken
            && let Some(Loan::Own(object)) = &self.loan
            && let Some(pool) = Object::pool(object)
        {
            pool.manager().suspect_all();
        }
    }
}

impl Deref for Held {
    type Target = Session;

    #[expect(clippy::expect_used, reason = "only the drop takes the connection")]
    fn deref(&self) -> &Session {
        match self.loan.as_ref().expect("held until dropped") {
            Loan::Own(object) => object,
            #[cfg(feature = "sqlx-0_9")]
            Loan::Host(session) => session,
        }
    }
}

impl DerefMut for Held {
    #[expect(clippy::expect_used, reason = "only the drop takes the connection")]
    fn deref_mut(&mut self) -> &mut Session {
        match self.loan.as_mut().expect("held until dropped") {
            Loan::Own(object) => object,
            #[cfg(feature = "sqlx-0_9")]
            Loan::Host(session) => session,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.loan.take() {
            Some(Loan::Own(object)) if !object.is_clean() => match Object::pool(&object) {
                Some(pool) if !object.is_broken => pool.manager().shield().take_over(object),
                _ => drop(Object::take(object)),
            },
            #[cfg(feature = "sqlx-0_9")]
            Some(Loan::Host(session)) if !session.is_clean() => session.discard(),
            // Goes back to the pool.
            _ => {}
        }
    }
}
