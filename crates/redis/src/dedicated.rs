mod manager;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{PoolError, TimeoutType};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trine_core::{CallContext, Deadline, InFlight};

use crate::command::{Form, Shape};
use crate::dial::alongside;
use crate::error::At;
use crate::link::Trouble;
use crate::node::Node;
use crate::slot::slot;
use crate::{Command, Error, RedisPool, Result, ServerFacts, Unavailable, Value};

use manager::{Connection, Object};
pub(crate) use manager::{Pool, pool};

/// Where a connection of one's own leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route<'a> {
    /// To whoever has this key.
    Key(&'a [u8]),
    /// To any node that takes writes.
    Any,
}

/// A connection that nobody else uses meanwhile, for commands that block.
///
/// It goes back to its pool when it is dropped between two commands. Dropped,
/// late or broken during one, it is closed: no reply is left for the next
/// owner, and the server ends what the command was waiting for.
pub struct Dedicated {
    object: Option<Object>,
    at: At,
    node: Arc<Node>,
    closing: CancellationToken,
    _call: InFlight,
}

impl RedisPool {
    /// Waits for a connection of one's own: `dedicated.acquire_timeout` for a
    /// free one, `response_timeout` where it has to be asked whether it is still
    /// there, and `connect_timeout` where it has to be made. The deadline of the
    /// current [`CallContext`] bounds all of it. While the server is known to be
    /// away, it fails at once.
    ///
    /// Cancel-safe. A shutdown waits until it is dropped, and ends the command
    /// that is under way on it when the deadline has passed.
    ///
    /// # Errors
    ///
    /// Fails with `Exhausted` after `dedicated.acquire_timeout`, and with
    /// `Unavailable` or `Denied` if there is no connection to be had.
    pub async fn acquire(&self, route: Route<'_>) -> Result<Dedicated> {
        const OPERATION: &str = "acquire";
        let timer = self.shared.counters.begin(OPERATION);
        let result = self.acquire_one(OPERATION, route).await;
        timer.end(&result);
        result
    }

    async fn acquire_one(&self, operation: &'static str, route: Route<'_>) -> Result<Dedicated> {
        let call = self.enter(operation)?;
        let at = || self.at(operation);
        let began = Instant::now();
        let slot = match route {
            Route::Key(key) => Some(slot(key)),
            Route::Any => None,
        };
        let failed = |trouble: Trouble| trouble.into_error(at(), crate::Access::Read);
        let node = self.shared.topology.node(slot).map_err(failed)?;
        if let Some(refusal) = node.refusal() {
            return Err(failed(Trouble::Away(refusal)));
        }
        // Boxed: making a connection is deep, and callers' futures hold it.
        let getting = Box::pin(node.dedicated.get());
        let got = self.bounded(operation, getting).await?;
        let object = got.map_err(|error| match error {
            PoolError::Backend(refusal) => refusal.to_error(at()),
            PoolError::Closed => Error::unavailable(at(), Unavailable::NoMaster),
            PoolError::Timeout(TimeoutType::Wait) => {
                let status = node.dedicated.status();
                Error::Exhausted {
                    at: at(),
                    waited: began.elapsed(),
                    in_use: status.size.saturating_sub(status.available),
                    max: status.max_size,
                    setting: "dedicated.max, dedicated.acquire_timeout",
                }
            }
            other => Error::Internal { at: at(), cause: other.to_string().into() },
        })?;
        Ok(Dedicated {
            object: Some(object),
            at: self.at("dedicated"),
            node,
            closing: self.shared.tasks.token(),
            _call: call,
        })
    }
}

impl Dedicated {
    /// Runs one command, which may block, and returns its reply.
    ///
    /// `time_out` is how long the reply may take: longer than what the command
    /// itself is told to wait. The deadline of the current [`CallContext`]
    /// shortens it. In a cluster it stays with the node it was acquired for; a
    /// key that has moved is `Unavailable`, and the next one acquired leads to
    /// its new place.
    ///
    /// Dropping the future closes the connection, and the server forgets the
    /// command if it was still waiting.
    ///
    /// # Errors
    ///
    /// As [`RedisPool::run`], and `Unavailable` once the connection is closed.
    /// A shutdown that ends the command leaves a write `OutcomeUnknown`;
    /// `Closed` says that nothing was sent.
    pub async fn run(&mut self, command: &Command, time_out: Duration) -> Result<Value> {
        let at = self.at.clone();
        if let Err(why) = command.check(Shape::Blocking) {
            return Err(Error::invalid(at, why));
        }
        let Some(connection) = self.object.as_deref_mut() else {
            return Err(Error::unavailable(at, Unavailable::Broken));
        };
        if self.closing.is_cancelled() {
            return Err(Error::Closed { at });
        }
        let bound = Deadline::after(time_out);
        let (bound, limit) = match CallContext::current().deadline() {
            Some(until) if until < bound => (until, "deadline of the call"),
            _ => (bound, "time-out of the call"),
        };
        let after = bound.remaining();
        if after.is_zero() {
            return Err(Trouble::TooLate.into_error(at, command.access()));
        }
        // Whatever happens before the reply is there leaves it so.
        connection.is_busy = true;
        let working = self.closing.run_until_cancelled(exchange(connection, command));
        let outcome = match bound.limit(working).await {
            Some(Some(outcome)) => outcome,
            // The command may have been carried out before the shutdown ended
            // the wait for its reply.
            Some(None) => Err(Trouble::broken()),
            None => Err(Trouble::Late { after, limit }),
        };
        match &outcome {
            Ok(_) => connection.is_busy = false,
            Err(Trouble::Server(error)) => {
                connection.is_busy = false;
                if error.is_redirect() {
                    self.node.give_notice();
                }
            }
            Err(_) => self.discard(),
        }
        outcome.map_err(|trouble| trouble.into_error(at, command.access()))
    }

    /// Returns the server as it was when the connection was made.
    #[must_use]
    pub fn server(&self) -> Option<&ServerFacts> {
        self.object.as_deref().map(|connection| &connection.dialed.facts)
    }

    fn discard(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        if self.object.as_deref().is_some_and(|connection| connection.is_busy) {
            self.discard();
        }
    }
}

async fn exchange(connection: &mut Connection, command: &Command) -> Result<Value, Trouble> {
    let outcome = send(connection, command, Form::Digest).await;
    match outcome {
        Err(Trouble::Server(error)) if error.is_unknown_script() => {
            send(connection, command, Form::Text).await
        }
        outcome => outcome,
    }
}

async fn send(
    connection: &mut Connection,
    command: &Command,
    form: Form,
) -> Result<Value, Trouble> {
    let dialed = &mut connection.dialed;
    let packed = command.packed(&dialed.facts.run_id, form);
    let sending = dialed.connection.send_packed_command(&packed);
    match alongside(&mut dialed.driver, sending).await {
        Some(Ok(reply)) => Trouble::checked(Value::new(reply)),
        Some(Err(error)) => Err(Trouble::Lost(error)),
        None => Err(Trouble::broken()),
    }
}

impl fmt::Debug for Dedicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedicated")
            .field("address", &self.node.name)
            .field("is_open", &self.object.is_some())
            .finish_non_exhaustive()
    }
}
