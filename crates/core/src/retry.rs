use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Deadline, Fault};

/// How long to wait before the next attempt: twice as long each time up to a
/// cap, scaled by a random fraction ("full jitter").
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    cap: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// Returns waits that start at `initial` and never exceed `cap`, with
    /// random jitter.
    #[must_use]
    pub fn new(initial: Duration, cap: Duration) -> Self {
        Self { initial, cap, jitter: Jitter::random() }
    }

    /// Replaces the source of randomness.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns the wait after the failure number `failure`, counted from 0.
    #[must_use]
    pub fn delay(&self, failure: u32) -> Duration {
        let factor = 1_u32.checked_shl(failure).unwrap_or(u32::MAX);
        let longest = self.initial.saturating_mul(factor).min(self.cap);
        longest.mul_f64(self.jitter.next())
    }
}

impl Default for Backoff {
    /// From 50 ms to 2 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }
}

/// A source of random fractions. Clones share it.
#[derive(Clone)]
pub struct Jitter(Option<Arc<AtomicU64>>);

impl Jitter {
    /// Returns a source that differs in every process.
    #[must_use]
    pub fn random() -> Self {
        Self::seeded(RandomState::new().hash_one(0_u8))
    }

    /// Returns a source that gives the same fractions for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Some(Arc::new(AtomicU64::new(seed))))
    }

    /// Returns a source that always gives 1: the full wait.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Returns the next fraction, from 0 to 1.
    #[must_use]
    pub fn next(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let Some(state) = &self.0 else {
            return 1.0;
        };
        // SplitMix64 of Steele, Lea and Flood: a counter and a mixing function,
        // so that one atomic addition serves all threads.
        let mut bits = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // The upper 32 bits fit a float exactly.
        f64::from(u32::try_from(bits >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
    }
}

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Jitter(random)" } else { "Jitter(none)" })
    }
}

/// What retries one process may spend on one dependency, so that an outage is
/// not multiplied by those who wait for its end.
///
/// Every first attempt earns a fraction of a retry, up to a limit; besides,
/// a minimum per second is always allowed. Clones share the budget.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    shared: Arc<Budget>,
}

#[derive(Debug)]
struct Budget {
    /// Thousandths of a retry.
    earned: AtomicU64,
    per_call: u64,
    limit: u64,
    reserve: Mutex<Reserve>,
    per_second: f64,
}

#[derive(Debug)]
struct Reserve {
    retries: f64,
    counted_at: Instant,
}

const RETRY: u64 = 1_000;

impl RetryBudget {
    /// Most retries that can be saved up.
    const LIMIT: u64 = 100;

    /// Returns a budget that earns `per_call` of a retry (0 to 1) with each
    /// call, and allows `per_second` retries whatever was earned. Numbers
    /// outside their range count as its nearest end.
    #[must_use]
    pub fn new(per_call: f64, per_second: f64) -> Self {
        let per_second = if per_second.is_finite() { per_second.max(0.0) } else { 0.0 };
        // A cast of NaN gives 0.
        let thousandths = (per_call.clamp(0.0, 1.0) * 1_000.0).round() as u64;
        let reserve = Reserve { retries: per_second, counted_at: Instant::now() };
        Self {
            shared: Arc::new(Budget {
                earned: AtomicU64::new(0),
                per_call: thousandths,
                limit: Self::LIMIT * RETRY,
                reserve: Mutex::new(reserve),
                per_second,
            }),
        }
    }

    /// Notes a first attempt.
    pub fn deposit(&self) {
        let budget = &*self.shared;
        // Racing deposits may pass the limit by one call each, which is harmless.
        if budget.earned.load(Ordering::Relaxed) < budget.limit {
            budget.earned.fetch_add(budget.per_call, Ordering::Relaxed);
        }
    }

    /// Takes one retry; `false` if none is left.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        let budget = &*self.shared;
        let take = |earned: u64| earned.checked_sub(RETRY);
        let taken = budget.earned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok() || budget.withdraw_reserve()
    }
}

impl Budget {
    fn withdraw_reserve(&self) -> bool {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(reserve.counted_at).as_secs_f64();
        // At most one second's worth, at least one whole retry, can be saved.
        let limit = if self.per_second > 0.0 { self.per_second.max(1.0) } else { 0.0 };
        reserve.retries = (reserve.retries + elapsed * self.per_second).min(limit);
        reserve.counted_at = now;
        if reserve.retries < 1.0 {
            return false;
        }
        reserve.retries -= 1.0;
        true
    }
}

impl Default for RetryBudget {
    /// One retry for five calls, and 10 per second.
    fn default() -> Self {
        Self::new(0.2, 10.0)
    }
}

/// How often and how fast a call is repeated.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    attempts: NonZeroU32,
    backoff: Backoff,
}

impl RetryPolicy {
    /// Returns a policy of at most `attempts` attempts, the first included.
    #[must_use]
    pub fn new(attempts: NonZeroU32, backoff: Backoff) -> Self {
        Self { attempts, backoff }
    }

    /// Returns the policy of a single attempt.
    #[must_use]
    pub fn never() -> Self {
        Self::new(NonZeroU32::MIN, Backoff::default())
    }
}

impl Default for RetryPolicy {
    /// Three attempts with the default backoff.
    fn default() -> Self {
        Self::new(NonZeroU32::MIN.saturating_add(2), Backoff::default())
    }
}

/// Calls `attempt` until it succeeds, fails for good, or may not be repeated.
///
/// Repeats only what [`Fault::is_retryable`] allows, waits at least as long as
/// [`Fault::retry_after`] asks, and draws each repetition from `budget`. It
/// never sleeps past `deadline` and never after the last attempt; bounding a
/// single attempt is the attempt's own task. Cancel-safe if the attempt is.
///
/// # Errors
///
/// Fails with the error of the last attempt, as it is.
///
/// # Example
///
/// ```
/// # use trine_core::{ErrorKind, Fault, RetryBudget, RetryPolicy, retry};
/// # #[derive(Debug, thiserror::Error)]
/// # #[error("away")]
/// # struct Away;
/// # impl Fault for Away {
/// #     fn kind(&self) -> ErrorKind { ErrorKind::Unavailable }
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let budget = RetryBudget::default();
/// let mut calls = 0;
/// let answer = retry(&RetryPolicy::default(), &budget, None, || {
///     calls += 1;
///     std::future::ready(if calls < 2 { Err(Away) } else { Ok("here") })
/// })
/// .await?;
/// assert_eq!(answer, "here");
/// # Ok::<(), Away>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn retry<T, E, F, Fut>(
    policy: &RetryPolicy,
    budget: &RetryBudget,
    deadline: Option<Deadline>,
    mut attempt: F,
) -> Result<T, E>
where
    E: Fault,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    budget.deposit();
    let mut failures = 0;
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if failures + 1 >= policy.attempts.get() || !error.is_retryable() {
            return Err(error);
        }
        let delay = policy.backoff.delay(failures).max(error.retry_after().unwrap_or_default());
        let too_late = deadline.is_some_and(|deadline| deadline.remaining() <= delay);
        if too_late || !budget.withdraw() {
            return Err(error);
        }
        failures += 1;
        sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("{kind}")]
    struct Failure {
        kind: ErrorKind,
        after: Option<Duration>,
        number: u32,
    }

    impl Fault for Failure {
        fn kind(&self) -> ErrorKind {
            self.kind
        }

        fn retry_after(&self) -> Option<Duration> {
            self.after
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(attempts: u32) -> RetryPolicy {
        let backoff = Backoff::new(SECOND, SECOND * 4).with_jitter(Jitter::none());
        RetryPolicy::new(attempts.try_into().unwrap(), backoff)
    }

    /// Fails always; returns how often it was called, the time it took and the last error.
    async fn failing(
        policy: &RetryPolicy,
        budget: &RetryBudget,
        deadline: Option<Deadline>,
        kind: ErrorKind,
        after: Option<Duration>,
    ) -> (u32, Duration, Failure) {
        let started = Instant::now();
        let mut calls = 0;
        let result = retry(policy, budget, deadline, || {
            calls += 1;
            std::future::ready(Err::<(), _>(Failure { kind, after, number: calls }))
        });
        let error = result.await.unwrap_err();
        (calls, started.elapsed(), error)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_error_comes_unwrapped_and_without_a_last_sleep() {
        let budget = RetryBudget::default();
        let (calls, took, error) =
            failing(&policy(4), &budget, None, ErrorKind::Unavailable, None).await;
        assert_eq!((calls, took, error.number), (4, SECOND * 7, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_retryable_is_tried_once() {
        for kind in [ErrorKind::Invalid, ErrorKind::OutcomeUnknown, ErrorKind::Fenced] {
            let (calls, took, _) =
                failing(&policy(4), &RetryBudget::default(), None, kind, None).await;
            assert_eq!((calls, took), (1, Duration::ZERO), "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_backend_may_ask_for_a_longer_wait() {
        let budget = RetryBudget::default();
        let (calls, took, _) =
            failing(&policy(2), &budget, None, ErrorKind::Unavailable, Some(SECOND * 9)).await;
        assert_eq!((calls, took), (2, SECOND * 9));
    }

    #[tokio::test(start_paused = true)]
    async fn it_never_sleeps_past_the_deadline() {
        let budget = RetryBudget::default();
        let deadline = Some(Deadline::after(SECOND * 2));
        let (calls, took, _) =
            failing(&policy(9), &budget, deadline, ErrorKind::Timeout, None).await;
        assert_eq!((calls, took), (2, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_not_multiplied() {
        let budget = RetryBudget::new(0.1, 0.0);
        let immediate =
            RetryPolicy::new(3.try_into().unwrap(), Backoff::new(Duration::ZERO, Duration::ZERO));
        let mut calls = 0;
        for _ in 0..1_000 {
            calls +=
                failing(&immediate, &budget.clone(), None, ErrorKind::Unavailable, None).await.0;
        }
        assert_eq!(calls, 1_100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_minimum_of_retries_per_second_is_always_there() {
        let budget = RetryBudget::new(0.0, 2.0);
        let taken = |budget: &RetryBudget| (0..10).filter(|_| budget.withdraw()).count();
        assert_eq!(taken(&budget), 2);
        tokio::time::advance(SECOND * 60).await;
        assert_eq!(taken(&budget), 2);
        assert_eq!(taken(&RetryBudget::new(f64::NAN, f64::NAN)), 0);
    }

    #[test]
    fn savings_are_limited() {
        let budget = RetryBudget::new(1.0, 0.0);
        for _ in 0..1_000 {
            budget.deposit();
        }
        assert_eq!((0..1_000).filter(|_| budget.withdraw()).count(), 100);
    }

    #[test]
    fn waits_double_up_to_the_cap_and_jitter_only_shortens() {
        let fixed = Backoff::new(SECOND, SECOND * 5).with_jitter(Jitter::none());
        let waits: Vec<_> = [0, 1, 2, 3, 40, u32::MAX].map(|n| fixed.delay(n).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 5, 5, 5]);
        let random = fixed.with_jitter(Jitter::seeded(1));
        let waits: Vec<_> = (0..1_000).map(|_| random.delay(9)).collect();
        assert!(waits.iter().all(|wait| *wait <= SECOND * 5));
        let mean = waits.iter().sum::<Duration>() / 1_000;
        assert!(mean > SECOND * 2 && mean < SECOND * 3, "{mean:?}");
    }

    #[test]
    fn a_seed_repeats_its_fractions() {
        let fractions = |seed| (0..9).map(move |_| seed).map(|j: &Jitter| j.next()).collect();
        let (a, b, c) = (Jitter::seeded(1), Jitter::seeded(1), Jitter::seeded(2));
        let [a, b, c]: [Vec<f64>; 3] = [fractions(&a), fractions(&b), fractions(&c)];
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
