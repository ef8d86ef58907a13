use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::PoolError;
use tokio::time::Instant;
use trine_core::{Deadline, Tasks};

use super::alarm::Alarms;
use super::connector::{Connector, Refusal};
use super::manager::{Manager, Object, Pool};
use super::shield::Shield;
use super::translate::{Stake, timed_out};
use crate::backend::{Call, PoolStats};
use crate::error::At;
use crate::{DatabaseName, Error, MysqlConfig, Result, Unavailable};

/// The connections that this crate makes by itself, and the shield that ends
/// what dropped calls leave behind.
pub(super) struct OwnPool {
    pool: Pool,
    max: usize,
    acquire_timeout: Duration,
    alarms: Alarms,
    tasks: Tasks,
}

impl OwnPool {
    /// Checks the configuration; does no I/O.
    pub(super) fn open(
        name: &DatabaseName,
        config: &MysqlConfig,
        query_timeout: Duration,
    ) -> Result<Self> {
        let connector = Arc::new(Connector::new(name, config, query_timeout)?);
        let max = usize::try_from(config.pool.max.get()).unwrap_or(usize::MAX);
        let grace = config.cancel_grace.get();
        let shield = Arc::new(Shield::new(config.cancel, grace, Arc::clone(&connector), max));
        let manager = Manager::new(connector, shield, config.pool.idle_check.get());
        let pool =
            Pool::builder(manager).max_size(max).runtime(Runtime::Tokio1).build().map_err(
                |error| Error::Internal { at: At::new("open", name), cause: error.into() },
            )?;
        Ok(Self {
            pool,
            max,
            acquire_timeout: config.pool.acquire_timeout.get(),
            alarms: Alarms::default(),
            tasks: Tasks::new(format!("db {name}")),
        })
    }

    /// Takes a connection. No timer runs if one is free.
    pub(super) async fn acquire(&self, name: &DatabaseName, call: &Call) -> Result<Object> {
        self.shield().start(&self.tasks);
        // Boxed: a call's future of more than a kibibyte would cost the
        // allocator's lock each time.
        let mut taking = Box::pin(self.pool.get());
        let first = poll_fn(|context| Poll::Ready(taking.as_mut().poll(context))).await;
        match first {
            Poll::Ready(taken) => taken.map_err(|error| refused(name, call, error)),
            Poll::Pending => Box::pin(self.wait(name, call, taking)).await,
        }
    }

    /// Waits until a connection is free, or one is made.
    async fn wait(
        &self,
        name: &DatabaseName,
        call: &Call,
        taking: impl Future<Output = Result<Object, PoolError<Refusal>>>,
    ) -> Result<Object> {
        let at = || At::new(call.operation, name);
        let started = Instant::now();
        let until = call.deadline.min(Deadline::after(self.acquire_timeout));
        if let Some(taken) = self.alarms.limit(until, taking).await {
            return taken.map_err(|error| refused(name, call, error));
        }
        // With fewer connections than there may be, the wait was for one to
        // be made.
        let stats = self.stats();
        let is_connecting = stats.size < stats.max;
        if is_connecting && call.deadline.has_passed() {
            return Err(timed_out(at(), call, Stake::Nothing));
        }
        if let Some(refusal) = self.pool.manager().gate().refusal() {
            return Err(refusal.into_error(at()));
        }
        if is_connecting {
            return Err(Error::unavailable(at(), Unavailable::Unreachable));
        }
        Err(Error::Exhausted {
            at: at(),
            what: "connection",
            waited: started.elapsed(),
            in_use: stats.size.saturating_sub(stats.idle),
            max: stats.max,
            waiting: stats.waiting,
            setting: "db.connections.<name>.pool.max",
        })
    }

    /// Proves that statements can be ended.
    pub(super) async fn prove(&self, name: &DatabaseName, call: &Call) -> Result<()> {
        let at = At::new(call.operation, name);
        match call.deadline.limit(self.shield().prove()).await {
            Some(Ok(())) => Ok(()),
            Some(Err(refusal)) => Err(refusal.into_error(at)),
            None => Err(timed_out(at, call, Stake::Nothing)),
        }
    }

    pub(super) fn stats(&self) -> PoolStats {
        let status = self.pool.status();
        let (cancelled, abandoned) = self.shield().counts();
        PoolStats {
            max: self.max,
            size: status.size,
            idle: status.available,
            waiting: status.waiting,
            connects: self.pool.manager().connector().connects(),
            cancelled,
            abandoned,
        }
    }

    /// Waiting callers are refused; connections that are given back from now on
    /// leave the pool.
    pub(super) async fn close(&self, deadline: Deadline) {
        let idle = self.pool.retain(|_, _| false).removed;
        self.pool.close();
        let farewell = async {
            for session in idle {
                session.close().await;
            }
        };
        deadline.limit(farewell).await;
        deadline.limit(self.emptied()).await;
        self.tasks.shutdown(deadline).await;
        self.shield().close().await;
    }

    async fn emptied(&self) {
        loop {
            let left = self.pool.manager().left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.pool.status().size == 0 {
                return;
            }
            left.await;
        }
    }

    fn shield(&self) -> &Arc<Shield> {
        self.pool.manager().shield()
    }
}

impl fmt::Debug for OwnPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnPool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn refused(name: &DatabaseName, call: &Call, error: PoolError<Refusal>) -> Error {
    let at = At::new(call.operation, name);
    match error {
        PoolError::Backend(refusal) => refusal.into_error(at),
        PoolError::Closed => Error::Closed { at },
        other => Error::Internal { at, cause: other.to_string().into() },
    }
}
