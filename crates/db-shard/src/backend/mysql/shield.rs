use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sqlx::{AssertSqlSafe, SqlSafeStr as _};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use trine_core::{Intensity, Tasks};

use super::connector::{Connector, Refusal};
use super::manager::Object;
use super::session::Session;
use super::translate::number;
use crate::Cancel;

/// "Unknown thread id": the proof that a connection is gone.
const UNKNOWN_THREAD: u16 = 1094;
/// "You are not owner of thread": the id is a stranger's.
const NOT_OWNER: u16 = 1095;
/// The waits between two KILLs of one connection.
const PACE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Longest wait for the answer to one KILL.
const KILL_BOUND: Duration = Duration::from_secs(1);

/// Ends on the server what a caller has walked away from.
///
/// A connection that is dropped with an answer outstanding keeps its place in
/// the pool while a background task kills it, from a connection of its own that
/// is not in the pool, again and again until the server does not know the id
/// any more. Only then, or after the grace time, the place is given back; the
/// dropped connection is always closed, never used again.
///
/// An id means nothing to another server, or to the same one after a restart:
/// nothing is killed unless both connections were told the same identity.
pub(super) struct Shield {
    policy: Cancel,
    grace: Duration,
    connector: Arc<Connector>,
    sender: mpsc::Sender<Left>,
    queue: Mutex<mpsc::Receiver<Left>>,
    killer: Mutex<Option<Session>>,
    is_running: AtomicBool,
    is_closed: AtomicBool,
    cancelled: AtomicU64,
    abandoned: AtomicU64,
}

impl Shield {
    pub(super) fn new(
        policy: Cancel,
        grace: Duration,
        connector: Arc<Connector>,
        places: usize,
    ) -> Self {
        // Every connection has its place in the pool, so there are never more.
        let (sender, queue) = mpsc::channel(places);
        Self {
            policy,
            grace,
            connector,
            sender,
            queue: Mutex::new(queue),
            killer: Mutex::new(None),
            is_running: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            cancelled: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
        }
    }

    /// Starts the background task, once; needs a runtime.
    pub(super) fn start(self: &Arc<Self>, tasks: &Tasks) {
        if self.is_running.load(Ordering::Relaxed) || self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shield, token) = (Arc::clone(self), tasks.token());
        tasks.supervise("db cancel", Intensity::default(), move || {
            Arc::clone(&shield).serve(token.clone())
        });
    }

    /// Makes sure that the connection that kills others is there.
    pub(super) async fn prove(&self) -> Result<(), Refusal> {
        if self.policy == Cancel::Kill {
            let mut killer = self.killer.lock().await;
            if killer.as_ref().is_none_or(|killer| !killer.is_clean()) {
                *killer = None;
                *killer = Some(self.connector.connect().await?);
            }
        }
        Ok(())
    }

    /// Closes what is left, those still to be cancelled among it.
    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let mut queue = self.queue.lock().await;
        while let Ok(left) = queue.try_recv() {
            self.give_up(left.object);
        }
        if let Some(killer) = self.killer.lock().await.take() {
            let _ = timeout(KILL_BOUND, killer.close()).await;
        }
    }

    /// Returns how many statements were ended, and of how many of these the
    /// end was not confirmed in time.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.cancelled.load(Ordering::Relaxed), self.abandoned.load(Ordering::Relaxed))
    }

    /// Takes a connection with an answer outstanding or a transaction open.
    pub(super) fn take_over(&self, object: Object) {
        if object.is_busy {
            self.cancelled.fetch_add(1, Ordering::Relaxed);
            if self.policy == Cancel::Close {
                drop(Object::take(object));
                return;
            }
        }
        if self.is_closed.load(Ordering::Acquire) {
            return self.give_up(object);
        }
        let left = Left { object, until: Instant::now() + self.grace };
        if let Err(refused) = self.sender.try_send(left) {
            self.give_up(refused.into_inner().object);
        }
    }

    /// Closes a connection without knowing what the server still does.
    fn give_up(&self, object: Object) {
        if object.is_busy {
            self.abandoned.fetch_add(1, Ordering::Relaxed);
        }
        drop(Object::take(object));
    }

    async fn serve(self: Arc<Self>, token: CancellationToken) {
        let mut queue = self.queue.lock().await;
        let mut victims: Vec<Victim> = Vec::new();
        let mut rollbacks = FuturesUnordered::new();
        loop {
            let due = victims.iter().map(|victim| victim.due).min();
            let is_idle = victims.is_empty() && rollbacks.is_empty();
            tokio::select! {
                () = token.cancelled(), if is_idle => return,
                next = queue.recv() => match next {
                    Some(left) if left.object.is_busy => victims.push(Victim::new(left)),
                    Some(left) => rollbacks.push(roll_back(left)),
                    None => return,
                },
                Some(unfinished) = rollbacks.next() => {
                    victims.extend(unfinished.map(Victim::new));
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            self.kill_due(&mut victims).await;
        }
    }

    async fn kill_due(&self, victims: &mut Vec<Victim>) {
        let mut is_reachable = true;
        let mut index = 0;
        while let Some(victim) = victims.get_mut(index) {
            if victim.due > Instant::now() {
                index += 1;
                continue;
            }
            let killed = if is_reachable { self.kill(victim).await } else { Killed::Unreachable };
            is_reachable = !matches!(killed, Killed::Unreachable);
            match killed {
                Killed::Gone => drop(Object::take(victims.swap_remove(index).left.object)),
                Killed::Never => self.give_up(victims.swap_remove(index).left.object),
                _ if Instant::now() >= victim.left.until => {
                    self.give_up(victims.swap_remove(index).left.object);
                }
                _ => {
                    victim.wait();
                    index += 1;
                }
            }
        }
    }

    async fn kill(&self, victim: &Victim) -> Killed {
        let until = victim.left.until.min(Instant::now() + KILL_BOUND);
        let mut killer = self.killer.lock().await;
        let mut is_foreign = false;
        // A second look with a new connection: the first may lead to a server
        // that was the right one yesterday, or be dead.
        for _ in 0..2 {
            let Some(session) = self.ready(&mut killer, until).await else {
                return Killed::Unreachable;
            };
            is_foreign = !is_same_server(session, &victim.left.object);
            if is_foreign {
                *killer = None;
                continue;
            }
            // An id is a number that the server gave.
            let text = AssertSqlSafe(format!("KILL {}", victim.left.object.id())).into_sql_str();
            match timeout_at(until, session.command(text)).await {
                Ok(Ok(())) => return Killed::NotYet,
                Ok(Err(error)) => match number(&error) {
                    Some(UNKNOWN_THREAD) => return Killed::Gone,
                    Some(NOT_OWNER) => return Killed::Never,
                    _ => *killer = None,
                },
                Err(_) => {
                    *killer = None;
                    return Killed::Unreachable;
                }
            }
        }
        if is_foreign { Killed::Never } else { Killed::NotYet }
    }

    async fn ready<'a>(
        &self,
        killer: &'a mut Option<Session>,
        until: Instant,
    ) -> Option<&'a mut Session> {
        if killer.is_none() {
            let connecting = self.connector.connect();
            *killer = timeout_at(until, connecting).await.ok()?.ok();
        }
        killer.as_mut()
    }
}

impl fmt::Debug for Shield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cancelled, abandoned) = self.counts();
        f.debug_struct("Shield")
            .field("policy", &self.policy)
            .field("cancelled", &cancelled)
            .field("abandoned", &abandoned)
            .finish()
    }
}

enum Killed {
    /// The server does not know it any more.
    Gone,
    /// The server was told.
    NotYet,
    /// The server did not answer.
    Unreachable,
    /// Nobody can tell the server that ran it.
    Never,
}

/// A connection that its caller has left, and until when its place waits.
struct Left {
    object: Object,
    until: Instant,
}

/// A connection to be killed.
struct Victim {
    left: Left,
    due: Instant,
    pace: Duration,
}

impl Victim {
    fn new(left: Left) -> Self {
        Self { left, due: Instant::now(), pace: PACE.0 }
    }

    fn wait(&mut self) {
        self.due = self.left.until.min(Instant::now() + self.pace);
        self.pace = PACE.1.min(self.pace * 2);
    }
}

/// Rolls back what a caller has left open; returns the connection if that did
/// not end in time.
async fn roll_back(mut left: Left) -> Option<Left> {
    match timeout_at(left.until, left.object.tidy()).await {
        // Clean now: goes back to the pool.
        Ok(Ok(())) => None,
        Ok(Err(_)) => {
            drop(Object::take(left.object));
            None
        }
        Err(_) => Some(left),
    }
}

/// Tells whether an id of the one means the same to the other.
///
/// Within one run of a server, ids grow in the order in which connections are
/// made: where they do not, two runs happen to have told the same identity.
fn is_same_server(killer: &Session, victim: &Session) -> bool {
    let in_order = |first: &Session, second: &Session| {
        first.made.1 > second.made.0 || first.id() < second.id()
    };
    killer.server().identity == victim.server().identity
        && in_order(killer, victim)
        && in_order(victim, killer)
}
