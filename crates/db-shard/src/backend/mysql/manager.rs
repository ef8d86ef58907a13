use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use tokio::sync::Notify;

use super::connector::{Connector, Refusal};
use super::gate::Gate;
use super::session::Session;
use super::shield::Shield;

/// A pool of connections.
pub(super) type Pool = managed::Pool<Manager>;
/// A connection on loan from the pool.
pub(super) type Object = managed::Object<Manager>;

/// Makes the pool's connections and decides which of them are still good.
///
/// No connection is asked before its use, except for one that was idle for too
/// long, and for every one that has not answered since a connection of the pool
/// broke: after a restart of the server, few callers find a dead connection.
#[derive(Debug)]
pub(super) struct Manager {
    connector: Arc<Connector>,
    gate: Gate,
    shield: Arc<Shield>,
    idle_check: Duration,
    /// Raised whenever a connection breaks.
    generation: AtomicU64,
    /// Connections that last answered in a generation before this one are dead.
    alive_since: AtomicU64,
    /// Told whenever a connection leaves the pool for good.
    pub(super) left: Notify,
}

impl Manager {
    pub(super) fn new(
        connector: Arc<Connector>,
        shield: Arc<Shield>,
        idle_check: Duration,
    ) -> Self {
        Self {
            connector,
            shield,
            gate: Gate::new(),
            idle_check,
            generation: AtomicU64::new(1),
            alive_since: AtomicU64::new(0),
            left: Notify::new(),
        }
    }

    pub(super) fn shield(&self) -> &Arc<Shield> {
        &self.shield
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// Has every idle connection asked before its next use.
    pub(super) fn suspect_all(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Asks an idle connection whether it is still there. If it is not, those
    /// that are as old are not even asked: each would cost a time-out when the
    /// server is a black hole.
    async fn is_alive(&self, session: &mut Session, generation: u64) -> bool {
        if session.generation < self.alive_since.load(Ordering::Acquire) {
            return false;
        }
        let answered = tokio::time::timeout(self.connector.connect_timeout, session.ping()).await;
        if matches!(answered, Ok(Ok(()))) {
            session.generation = generation;
            return true;
        }
        self.alive_since.fetch_max(self.suspect_all(), Ordering::AcqRel);
        false
    }
}

impl managed::Manager for Manager {
    type Type = Box<Session>;
    type Error = Refusal;

    // The futures of what is rare are boxed: all of them would be moved with
    // the future of every acquire.
    async fn create(&self) -> Result<Box<Session>, Refusal> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut session = Box::pin(self.gate.connect(&self.connector)).await?;
        session.generation = generation;
        Ok(Box::new(session))
    }

    async fn recycle(
        &self,
        session: &mut Box<Session>,
        metrics: &Metrics,
    ) -> RecycleResult<Refusal> {
        const RETIRED: RecycleError<Refusal> =
            RecycleError::Message(std::borrow::Cow::Borrowed("retired"));
        // Guards give no such connection back; a row of another caller's would
        // be too high a price for a mistake there.
        let idle = metrics.last_used();
        let age = idle + metrics.recycled.map_or(Duration::ZERO, |last| last - metrics.created);
        if !session.is_clean() || session.is_full() || age >= session.lifetime {
            return Err(RETIRED);
        }
        let generation = self.generation.load(Ordering::Acquire);
        if session.generation == generation && idle < self.idle_check {
            return Ok(());
        }
        if Box::pin(self.is_alive(session, generation)).await { Ok(()) } else { Err(RETIRED) }
    }

    fn detach(&self, _: &mut Box<Session>) {
        self.left.notify_waiters();
    }
}
