//! Clients that use a few keys in every way, while things go wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use trine_core::ErrorKind;
use trine_core::Tasks;
use trine_lock::{AcquireOutcome, Error, Guard, LockBackend, LockOptions, LockService};
use trine_testkit::Rng;

use super::faults::{Lossy, steps};
use super::flaws::{Flaw, Flawed};
use super::recorder::{Log, Recorder};
use super::stores::Stage;

/// How much goes on in one round.
pub(crate) const PROCESSES: usize = 3;
const CLIENTS: usize = 12;
const CALLS: u64 = 8;
const TTL: Duration = Duration::from_millis(300);
const KEYS: [&str; 3] = ["a", "b", "c"];

/// One store, its processes and their clients.
struct Round {
    stage: Stage,
    ttl: Duration,
    log: Arc<Log>,
    /// Clients that are not done.
    busy: AtomicUsize,
}

/// Lets clients work until they are done, and returns what was written down.
pub(crate) async fn run(stage: Stage, seed: u64, flaw: Option<Flaw>) -> (Arc<Log>, usize) {
    let (ttl, fixture) = (TTL, &stage.fixture);
    let config = fixture.config().with_ttl(ttl.into()).with_wait((ttl * 2).into());
    let log = Log::new(fixture.clock());
    let (mut processes, mut ways) = (Vec::new(), Vec::new());
    for place in 0..PROCESSES {
        let rng = |part: &str| Rng::for_part(seed, &format!("{part} {place}"));
        let way = |backend: Arc<dyn LockBackend>| {
            let backend = match flaw {
                Some(flaw) => Arc::new(Flawed::new(backend, flaw, rng("flaw"))),
                None => backend,
            };
            let way = Arc::new(Lossy::new(backend, fixture.clock(), ttl, rng("way")));
            ways.push(Arc::clone(&way));
            Arc::new(Recorder::new(way, &log, place)) as Arc<dyn LockBackend>
        };
        let locks = fixture.open_over(&config, way);
        locks.start().await.unwrap();
        processes.push(locks);
    }
    let busy = AtomicUsize::new(CLIENTS);
    let round = Arc::new(Round { stage, ttl, log, busy });
    let tasks = Tasks::new("clients");
    let clients = (0..CLIENTS).map(|client| {
        let (locks, process) = (processes[client % PROCESSES].clone(), client % PROCESSES);
        let rng = Rng::for_part(seed, &format!("client {client}"));
        let client = Client { round: Arc::clone(&round), locks, process, rng };
        tasks.spawn("client", client.work())
    });
    let clients: Vec<_> = clients.collect();
    let went_by = round.time(Rng::for_part(seed, "time"), &ways);
    let troubles = round.troubles(Rng::for_part(seed, "troubles"));
    let done = futures_util::future::join_all(clients);
    let patience = Duration::from_secs(60);
    let all = async { tokio::join!(done, went_by, troubles) };
    let (done, (), troubles) = tokio::time::timeout(patience, all).await.unwrap();
    for client in done {
        client.unwrap();
    }
    (Arc::clone(&round.log), troubles)
}

impl Round {
    /// Has time go by, mostly less than a renewal takes, and ways be cut.
    async fn time(&self, mut rng: Rng, ways: &[Arc<Lossy>]) {
        while self.busy.load(Ordering::Relaxed) > 0 {
            self.steps(rng.below(12)).await;
            let part = |rng: &mut Rng, most| u32::try_from(1 + rng.below(most)).unwrap();
            let span = match rng.below(12) {
                // Past every ttl.
                0 => self.ttl * part(&mut rng, 3),
                _ => self.ttl * part(&mut rng, 100) / 1_000,
            };
            self.stage.fixture.pass(span).await;
            if let Some(way) = rng.pick(ways).cloned() {
                way.set_cut(rng.one_in(12));
            }
        }
    }

    /// Has the network fail, if there is one; returns how often.
    async fn troubles(&self, mut rng: Rng) -> usize {
        let Some(network) = &self.stage.network else { return 0 };
        while self.busy.load(Ordering::Relaxed) > 0 {
            let pause = self.ttl * u32::try_from(rng.below(100)).unwrap() / 100;
            tokio::time::sleep(pause).await;
            network.trouble(&mut rng, &self.log, self.ttl).await;
        }
        network.troubles()
    }

    /// Lets others go on.
    async fn steps(&self, count: u64) {
        match self.stage.step {
            Duration::ZERO => steps(count).await,
            step => tokio::time::sleep(step * u32::try_from(count).unwrap()).await,
        }
    }
}

/// Nothing was heard in time.
#[track_caller]
fn assert_not_heard(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
}

struct Client {
    round: Arc<Round>,
    locks: LockService,
    process: usize,
    rng: Rng,
}

impl Client {
    async fn work(mut self) {
        for _ in 0..CALLS {
            self.round.steps(self.rng.below(8)).await;
            if let Some(guard) = self.acquire().await {
                self.hold(guard).await;
            }
        }
        self.round.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tries, waits, takes by force, or gives up somewhere on the way.
    async fn acquire(&mut self) -> Option<Guard> {
        let key = *self.rng.pick(&KEYS)?;
        let (locks, options) = (&self.locks, LockOptions::default());
        let guard = match self.rng.below(16) {
            0..=5 => locks.try_acquire(key, options).await.map(|outcome| outcome.into_guard()),
            6..=10 => locks.acquire(key, options).await.map(AcquireOutcome::into_guard),
            11..=14 => {
                let patience = self.round.steps(1 + self.rng.below(40));
                let waiting = locks.acquire(key, options).map(Some);
                let dropped = async {
                    tokio::select! {
                        biased;
                        outcome = waiting => outcome,
                        () = patience => None,
                    }
                };
                dropped.await.transpose().map(|outcome| outcome?.into_guard())
            }
            _ => locks.steal(key, options).await.map(Some),
        };
        let guard = match guard {
            Ok(guard) => guard?,
            Err(error) => {
                assert_not_heard(&error);
                return None;
            }
        };
        self.round.log.give(&guard);
        Some(guard)
    }

    async fn hold(&mut self, guard: Guard) {
        for _ in 0..self.rng.below(4) {
            self.round.steps(self.rng.below(10)).await;
            self.look(&guard);
            match self.rng.below(6) {
                0 => {
                    let ttl = self.round.ttl * u32::try_from(1 + self.rng.below(3)).unwrap();
                    match guard.extend(ttl).await {
                        Ok(()) | Err(Error::Lost { .. }) => {}
                        Err(error) => assert_not_heard(&error),
                    }
                }
                1 => {
                    let clock = self.round.stage.fixture.clock();
                    let span = self.round.ttl * u32::try_from(self.rng.below(12)).unwrap() / 10;
                    clock.sleep_until(clock.now() + span).await;
                }
                _ => {}
            }
            self.look(&guard);
        }
        match self.rng.below(4) {
            // Given back in the background.
            0 => drop(guard),
            1 => drop(guard.release().now_or_never()),
            _ => {
                let released = guard.release().await;
                let _ = released.inspect_err(assert_not_heard);
            }
        }
    }

    fn look(&self, guard: &Guard) {
        self.round.log.look(self.process, guard);
    }
}
