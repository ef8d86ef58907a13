use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{Deadline, Health, HealthStatus};

/// Changes an answer only after several observations in a row speak against it.
///
/// The first observation counts at once. Later ones that agree with the answer
/// confirm it. After `streak` in a row that are all worse, the answer becomes
/// the mildest of them; after as many that are all better, the worst of them.
#[derive(Clone, Debug)]
pub struct Hysteresis {
    streak: u32,
    answer: Option<HealthStatus>,
    against: Option<Against>,
}

#[derive(Clone, Copy, Debug)]
struct Against {
    /// The observation that is nearest to the answer.
    nearest: HealthStatus,
    count: u32,
}

impl Hysteresis {
    /// Returns one that wants `streak` observations in a row; 0 counts as 1.
    #[must_use]
    pub fn new(streak: u32) -> Self {
        Self { streak: streak.max(1), answer: None, against: None }
    }

    /// Notes an observation and returns the answer.
    pub fn observe(&mut self, seen: HealthStatus) -> HealthStatus {
        let Some(answer) = self.answer.filter(|answer| *answer != seen) else {
            self.answer = Some(seen);
            self.against = None;
            return seen;
        };
        let is_worse = seen > answer;
        let same_side = self.against.filter(|against| (against.nearest > answer) == is_worse);
        let against = same_side.map_or(Against { nearest: seen, count: 1 }, |before| {
            let (low, high) = (before.nearest.min(seen), before.nearest.max(seen));
            let nearest = if is_worse { low } else { high };
            Against { nearest, count: before.count + 1 }
        });
        if against.count < self.streak {
            self.against = Some(against);
            return answer;
        }
        self.answer = Some(against.nearest);
        self.against = None;
        against.nearest
    }
}

impl Default for Hysteresis {
    /// Three in a row.
    fn default() -> Self {
        Self::new(3)
    }
}

/// One health check: bounded in time, never run twice at once, and not run more
/// often than its interval, however often it is asked. Cloning shares it.
///
/// Between two runs the last answer is given again. The status passes
/// [`Hysteresis`]; where it differs from what was just seen, the detail
/// `observed` has that.
#[derive(Clone)]
pub struct Probe {
    shared: Arc<Shared>,
}

struct Shared {
    timeout: Duration,
    interval: Duration,
    checking: Mutex<Hysteresis>,
    last: std::sync::Mutex<Option<(Instant, Health)>>,
}

impl Probe {
    /// Returns a probe whose check may take `timeout` and runs at most once per
    /// `interval`.
    #[must_use]
    pub fn new(timeout: Duration, interval: Duration) -> Self {
        Self::with_hysteresis(timeout, interval, Hysteresis::default())
    }

    /// Returns such a probe with a hysteresis other than three in a row.
    #[must_use]
    pub fn with_hysteresis(timeout: Duration, interval: Duration, hysteresis: Hysteresis) -> Self {
        let (checking, last) = (Mutex::new(hysteresis), std::sync::Mutex::new(None));
        Self { shared: Arc::new(Shared { timeout, interval, checking, last }) }
    }

    /// Returns the last answer without checking; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<Health> {
        self.stored().map(|(_, health)| health)
    }

    /// Runs `check` if the last answer is older than the interval, and returns
    /// the answer within the time-out.
    ///
    /// Who asks while a check runs waits for its answer. A check that takes too
    /// long is dropped and counts as `down`, unless waiting had left it less
    /// than the whole time: that proves nothing, and the last answer is given
    /// again. If the future is dropped, so is its check, and nothing is noted.
    pub async fn check<F, Fut>(&self, check: F) -> Health
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Health>,
    {
        let deadline = Deadline::after(self.shared.timeout);
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let known = || self.last().unwrap_or_else(|| self.timed_out());
        let (mut hysteresis, had_to_wait) = match self.shared.checking.try_lock() {
            Ok(hysteresis) => (hysteresis, false),
            Err(_) => match deadline.limit(self.shared.checking.lock()).await {
                Some(hysteresis) => (hysteresis, true),
                None => return known(),
            },
        };
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let began = Instant::now();
        let mut health = match deadline.limit(check()).await {
            Some(health) => health,
            None if had_to_wait => return known(),
            None => self.timed_out(),
        };
        health.latency = health.latency.or_else(|| Some(began.elapsed()));
        let seen = health.status;
        health.status = hysteresis.observe(seen);
        if seen != health.status {
            health = health.with_detail("observed", seen.as_str());
        }
        let stored = Some((Instant::now(), health.clone()));
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) = stored;
        health
    }

    fn timed_out(&self) -> Health {
        Health::down(format_args!("no answer within {:?}", self.shared.timeout))
    }

    fn fresh(&self) -> Option<Health> {
        let (at, health) = self.stored()?;
        (at.elapsed() < self.shared.interval).then_some(health)
    }

    fn stored(&self) -> Option<(Instant, Health)> {
        self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("timeout", &self.shared.timeout)
            .field("interval", &self.shared.interval)
            .field("last", &self.last())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const UP: HealthStatus = HealthStatus::Up;
    const DEGRADED: HealthStatus = HealthStatus::Degraded;
    const DOWN: HealthStatus = HealthStatus::Down;

    fn answers(seen: &[HealthStatus]) -> Vec<HealthStatus> {
        let mut hysteresis = Hysteresis::default();
        seen.iter().map(|status| hysteresis.observe(*status)).collect()
    }

    // CO-09
    #[test]
    fn three_in_a_row_change_the_answer_in_both_directions() {
        assert_eq!(answers(&[DOWN, UP, UP, UP]), [DOWN, DOWN, DOWN, UP]);
        assert_eq!(answers(&[UP, DOWN, DOWN, DOWN, UP]), [UP, UP, UP, DOWN, DOWN]);
        assert_eq!(answers(&[UP, DOWN, DOWN, UP, DOWN, DOWN, UP]), [UP; 7]);
    }

    #[test]
    fn a_mixed_streak_moves_to_its_mildest_or_worst() {
        assert_eq!(answers(&[UP, DOWN, DEGRADED, DOWN]), [UP, UP, UP, DEGRADED]);
        assert_eq!(answers(&[DOWN, UP, DEGRADED, UP]), [DOWN, DOWN, DOWN, DEGRADED]);
        assert_eq!(answers(&[DEGRADED, UP, UP, DOWN, DOWN, UP]), [DEGRADED; 6]);
    }

    #[test]
    fn a_streak_of_one_follows_at_once() {
        let mut hysteresis = Hysteresis::new(0);
        assert_eq!([UP, DOWN, UP].map(|seen| hysteresis.observe(seen)), [UP, DOWN, UP]);
    }

    #[tokio::test(start_paused = true)]
    async fn scraping_does_not_hammer_the_backend() {
        let probe = Probe::new(SECOND, SECOND * 5);
        let checks = Cell::new(0);
        for _ in 0..100 {
            probe
                .check(|| {
                    checks.set(checks.get() + 1);
                    ready(Health::up())
                })
                .await;
            advance(Duration::from_millis(100)).await;
        }
        assert_eq!(checks.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn two_checks_never_run_at_once() {
        let probe = Probe::new(SECOND, SECOND);
        let (running, checks) = (Cell::new(false), Cell::new(0));
        let check = || async {
            assert!(!running.replace(true));
            checks.set(checks.get() + 1);
            sleep(SECOND / 2).await;
            running.set(false);
            Health::up()
        };
        let (first, second) = tokio::join!(probe.check(check), probe.check(check));
        assert_eq!((checks.get(), first), (1, second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_down_within_its_bound_for_everybody() {
        let probe = Probe::new(SECOND, SECOND);
        let began = Instant::now();
        let (first, second) = tokio::join!(probe.check(pending), probe.check(pending));
        assert_eq!((first.status, second.status), (DOWN, DOWN));
        assert_eq!(began.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_did_not_have_its_time_proves_nothing() {
        let probe = Probe::with_hysteresis(SECOND, Duration::ZERO, Hysteresis::new(1));
        assert_eq!(probe.check(|| ready(Health::up())).await.status, UP);
        let first = Deadline::after(SECOND * 9 / 10).limit(probe.check(pending));
        let slow = || async {
            sleep(SECOND / 2).await;
            Health::up()
        };
        let (first, second) = tokio::join!(first, probe.check(slow));
        assert!(first.is_none());
        assert_eq!((second.status, second.error), (UP, None));
        assert_eq!(probe.check(pending).await.status, DOWN);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_is_told_while_the_answer_holds() {
        let probe = Probe::new(SECOND, Duration::ZERO);
        assert_eq!(probe.check(|| ready(Health::up())).await.status, UP);
        let held = probe.check(|| ready(Health::down("refused"))).await;
        assert_eq!((held.status, held.error.as_deref()), (UP, Some("refused")));
        assert_eq!(held.details["observed"], "down");
        probe.check(|| ready(Health::down("refused"))).await;
        let down = probe.check(|| ready(Health::down("refused"))).await;
        assert_eq!(down.status, DOWN);
        assert!(!down.details.contains_key("observed"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_check_notes_nothing_and_frees_the_probe() {
        let probe = Probe::new(SECOND * 9, SECOND);
        assert!(Deadline::after(SECOND).limit(probe.check(pending)).await.is_none());
        assert_eq!(probe.last(), None);
        assert_eq!(probe.check(|| ready(Health::up())).await.status, UP);
    }
}
