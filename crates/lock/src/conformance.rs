//! The suite that every backend passes: one check for each guarantee.
//!
//! A backend's test file names a function that makes a fresh, empty store and
//! expands [`conformance_tests!`](crate::conformance_tests) with it.
//!
//! ```ignore
//! async fn connect() -> trine_lock::conformance::Fixture { /* … */ }
//! trine_lock::conformance_tests!(suite, super::connect);
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "checks fail by panicking, like any test"
)]

mod driven;
mod exclusion;
mod leaders;
mod lifecycle;
mod owners;
mod shapes;
mod times;
mod waiting;

use std::any::Any;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use trine_core::{Claim, Clock, Deadline, ErrorKind, Fence, ManualClock, Span};
use uuid::Uuid;

use crate::options::terms;
use crate::{
    AcquireOutcome, Answer, Call, Error, Guard, Key, LockBackend, LockConfig, LockDeps,
    LockOptions, LockService, Mode, Shape, Waiter, Want,
};

use driven::Driven;

pub use exclusion::*;
pub use leaders::*;
pub use lifecycle::*;
pub use owners::*;
pub use shapes::*;
pub use times::*;
pub use waiting::*;

/// The ttl of the locks of a fixture.
const TTL: Duration = Duration::from_secs(2);

/// How long a free key is kept for who is next.
const CLAIM: Duration = Duration::from_millis(500);

/// What a server rounds its times by, and what its clock and ours drift apart
/// within a check.
const SLACK: Duration = Duration::from_millis(20);

/// Longest wait of a check for what is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A fresh, empty store for one check.
pub struct Fixture {
    backend: Box<dyn Fn() -> Arc<dyn LockBackend> + Send + Sync>,
    deps: LockDeps,
    clock: Option<Arc<ManualClock>>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// The instance whose store it is.
    pub const NAME: &str = "lock.default";

    /// For how long the store keeps a free key for who is next.
    pub const CLAIM_TIMEOUT: Duration = CLAIM;

    /// Returns a fixture; `backend` makes a backend over the one store as each
    /// process has one, and `keep` is dropped with the fixture.
    #[must_use]
    pub fn new(
        backend: impl Fn() -> Arc<dyn LockBackend> + Send + Sync + 'static,
        keep: impl Any + Send + Sync,
    ) -> Self {
        let deps = LockDeps::default().with_name(Self::NAME);
        Self { backend: Box::new(backend), deps, clock: None, _keep: Box::new(keep) }
    }

    /// Has the checks set this clock, which is the one of the store, instead of
    /// waiting.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<ManualClock>) -> Self {
        self.deps = self.deps.with_clock(Arc::<ManualClock>::clone(&clock));
        self.clock = Some(clock);
        self
    }

    /// Has the calls of the store go on by themselves, as checks that begin a
    /// call and look what it has done at the store expect it: for stores whose
    /// answers take time.
    #[must_use]
    pub fn with_slow_store(mut self) -> Self {
        let backend = self.backend;
        self.backend = Box::new(move || Arc::new(Driven::new(backend())));
        self
    }

    /// Returns the configuration of its services.
    #[must_use]
    pub fn config(&self) -> LockConfig {
        let mut config = LockConfig::memory().with_ttl(Span::from(TTL));
        config.wait = Span::from(PATIENCE);
        config.claim_timeout = Span::from(CLAIM);
        config
    }

    /// Opens the locks of one more process.
    #[must_use]
    pub fn open(&self, config: &LockConfig) -> LockService {
        self.open_over(config, |backend| backend)
    }

    /// Opens the locks of one more process over what `decorate` makes of its
    /// backend.
    #[must_use]
    pub fn open_over(
        &self,
        config: &LockConfig,
        decorate: impl FnOnce(Arc<dyn LockBackend>) -> Arc<dyn LockBackend>,
    ) -> LockService {
        LockService::with_backend(decorate((self.backend)()), config, self.deps.clone()).unwrap()
    }

    /// Returns the clock of its services.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.deps.clock)
    }

    /// Returns by how much a time that the store takes may be beside the same
    /// one on the clock of its services: nothing where both have one clock.
    #[must_use]
    pub fn slack(&self) -> Duration {
        if self.clock.is_some() { Duration::ZERO } else { SLACK }
    }

    /// Starts the locks of one more process.
    pub async fn start(&self) -> LockService {
        self.start_with(|_| {}).await
    }

    /// Starts the locks of one more process with a changed configuration.
    pub async fn start_with(&self, change: impl FnOnce(&mut LockConfig)) -> LockService {
        let mut config = self.config();
        change(&mut config);
        let locks = self.open(&config);
        locks.start().await.unwrap();
        locks
    }

    /// Lets time go by at once, on the clocks of the store and of its clients.
    pub async fn pass(&self, span: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(span),
            None => tokio::time::sleep(span).await,
        }
    }

    /// Lets time go by in steps in which `is_done` comes true, such as what is
    /// held is renewed.
    async fn pass_slowly(&self, span: Duration, mut is_done: impl FnMut() -> bool) {
        let step = TTL / 8;
        let mut passed = Duration::ZERO;
        while passed < span {
            self.pass(step).await;
            passed += step;
            eventually(&mut is_done).await;
        }
    }

    /// What a process wants that never renews nor listens.
    fn want(name: &str, shape: Shape, mode: Mode) -> Want {
        let process: Arc<str> = "silent:1:0".into();
        Want {
            key: key(name),
            shape,
            terms: terms(TTL, TTL).unwrap(),
            at_least: None,
            waiter: Waiter::new(&process, 0),
            label: None,
            mode,
            nonce: Uuid::new_v4().as_u64_pair().1,
        }
    }

    async fn silent(&self, name: &str, shape: Shape, mode: Mode) -> Answer {
        let want = Self::want(name, shape, mode);
        (self.backend)().acquire(Call::new("acquire"), &want).await.unwrap()
    }

    async fn silent_fence(&self, name: &str, shape: Shape) -> Fence {
        match self.silent(name, shape, Mode::Try).await {
            Answer::Granted(fence) => fence,
            other => panic_with(&format!("{other:?}")),
        }
    }

    async fn release(&self, fence: Fence) -> crate::ReleaseOutcome {
        let claim = Claim::new(fence, terms(TTL, TTL).unwrap());
        (self.backend)().release(Call::new("release"), &[claim]).await.unwrap().pop().unwrap()
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("deps", &self.deps).finish_non_exhaustive()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Options that ask once.
fn once() -> LockOptions {
    LockOptions::default().with_wait(Duration::ZERO)
}

fn any() -> LockOptions {
    LockOptions::default()
}

async fn acquire(locks: &LockService, name: &str) -> Guard {
    guard(locks.acquire(name, any()).await)
}

#[track_caller]
fn guard<G: fmt::Debug>(outcome: Result<AcquireOutcome<G>, Error>) -> G {
    match outcome.unwrap() {
        AcquireOutcome::Acquired(guard) => guard,
        AcquireOutcome::TimedOut(holder) => panic_with(&format!("held by {holder}")),
    }
}

async fn is_free(locks: &LockService, name: &str) -> bool {
    let outcome = locks.try_acquire(name, any()).await.unwrap();
    match outcome.into_guard() {
        Some(guard) => {
            guard.release().await.unwrap();
            true
        }
        None => false,
    }
}

/// How many the store has in line for a key.
async fn waiters(locks: &LockService, name: &str) -> u64 {
    let page = locks.holders(name, None, 1).await.unwrap();
    page.keys.first().map_or(0, |held| held.waiters)
}

/// Waits until the store has so many waiters of a key.
async fn until_waiting(locks: &LockService, name: &str, count: u64) {
    let waited = async {
        while waiters(locks, name).await != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(waited).await;
}

/// Waits until it is so: what happens in the background has no other signal.
async fn eventually(mut is_so: impl FnMut() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time(waited).await;
}

/// Fails what takes longer than anything should.
async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// Polls a future once, which is to wait.
async fn begin<F: Future>(future: &mut std::pin::Pin<&mut F>) {
    let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending()));
    assert!(polled.await, "it did not wait");
}

#[track_caller]
fn assert_kind<T: fmt::Debug>(result: Result<T, Error>, kind: ErrorKind) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

#[expect(clippy::panic, reason = "checks fail by panicking, like any test")]
#[track_caller]
fn panic_with<T>(what: &str) -> T {
    panic!("{what}")
}

/// Expands to one named test per check, in a module of its own.
///
/// `$connect` is an `async fn` that returns a [`Fixture`], and panics with
/// instructions when its server cannot be had. The caller's crate needs tokio
/// with its macros.
#[macro_export]
macro_rules! conformance_tests {
    ($module:ident, $connect:path) => {
        $crate::conformance_tests!(
            @each $module, $connect,
            // exclusion
            a_key_is_held_by_one_at_a_time,
            keys_are_independent,
            a_release_says_what_the_store_had,
            a_request_that_is_asked_again_has_its_grant,
            tokens_grow_however_a_key_changes_hands,
            a_steal_ends_every_grant_and_tells_its_holder,
            several_keys_are_taken_together_or_not_at_all,
            two_who_take_several_keys_never_wait_for_each_other,
            // times
            an_expired_key_is_given_on_with_a_higher_token,
            what_is_held_is_renewed,
            a_key_stays_taken_for_its_least_time,
            the_key_of_a_holder_that_died_stays_taken_for_its_least_time,
            a_hold_is_over_after_its_most,
            an_extension_holds_from_now_on,
            a_late_renewal_shortens_nothing,
            // shapes
            reads_share_and_exclude_writes,
            who_waits_to_write_goes_before_later_reads,
            permits_are_bounded_and_numbered,
            an_expired_permit_is_given_on,
            // waiting
            a_release_wakes_who_waits,
            waiters_of_a_process_come_in_their_order,
            processes_take_turns,
            who_came_first_is_first_if_told,
            a_wait_that_ends_says_who_holds,
            a_dead_waiter_is_skipped,
            a_dropped_wait_leaves_the_line,
            an_expiry_that_nobody_tells_is_noticed,
            nobody_passes_who_was_told,
            // owners
            an_owner_takes_its_key_again,
            a_waiting_call_of_the_owner_is_let_in,
            a_body_runs_with_the_key_and_gives_it_back,
            a_body_is_dropped_when_the_lock_is_lost,
            a_body_does_not_begin_before_its_fence_is_raised,
            // leaders
            one_candidate_leads_and_another_takes_over,
            a_leader_that_is_lost_leads_no_more,
            a_shutdown_ends_a_candidacy,
            // life cycle
            nothing_is_answered_before_start_and_after_shutdown,
            a_shutdown_gives_everything_back_and_ends_the_waits,
            holders_are_listed_with_who_waits,
            keys_and_options_that_can_never_be_are_refused,
            health_and_metrics_show_the_work
        );
    };
    (@each $module:ident, $connect:path, $($check:ident),+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::conformance::$check($connect().await).await;
            })+
        }
    };
}
