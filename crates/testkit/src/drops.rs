mod drive;
mod verdict;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use self::drive::{Driven, Patience, drive};
pub use self::verdict::Verdict;
use crate::Rng;

/// Drops a future at its first await point, then a new one at its second, and
/// so on until one runs to its end, and calls `check` after each.
///
/// The short form of [`DropPlan::every_await`].
///
/// # Errors
///
/// As [`DropPlan::run`].
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use tokio::sync::Semaphore;
/// use trine_testkit::drop_at_every_await;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let slots = Arc::new(Semaphore::new(1));
/// let work = || {
///     let slots = Arc::clone(&slots);
///     async move {
///         let _slot = slots.acquire().await;
///         tokio::task::yield_now().await;
///     }
/// };
/// let report = drop_at_every_await(work, async |_| {
///     assert_eq!(slots.available_permits(), 1);
/// })
/// .await
/// .unwrap();
/// assert_eq!(report.confirmed, 1);
/// # }
/// ```
pub async fn drop_at_every_await<M, F, C, V>(make: M, check: C) -> Result<DropReport, DropFailure>
where
    M: FnMut() -> F,
    F: Future,
    C: AsyncFnMut(DropPoint) -> V,
    V: Verdict,
{
    DropPlan::every_await().run(make, check).await
}

/// Where and how often a future is dropped before it has finished.
///
/// The harness polls by hand, inside the runtime of the test: it polls again
/// only after the future has woken it (or when [nudging](Self::nudging)), so real
/// input and output drive it, and a drop counts only if the poll before it
/// answered `Pending`.
///
/// One poll can pass several await points when everything is ready at once. To
/// see each packet of a reply on its own, set the replies of a
/// [`Proxy`](crate::Proxy) to [`Flow::Step`](crate::Flow::Step) and
/// [feed](Self::feeding) one step per poll.
pub struct DropPlan<'a> {
    mode: Mode,
    feed: Box<dyn FnMut() + 'a>,
    patience: Patience,
    most_points: u64,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Every,
    Random { seed: u64, rounds: u64 },
}

/// One round of a [`DropPlan`], as the check sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropPoint {
    /// Which round it was, from 0.
    pub round: u64,
    /// How many polls had answered `Pending`.
    pub pending: u64,
    /// Whether the future ran to its end instead of being dropped.
    pub finished: bool,
}

/// What a [`DropPlan`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DropReport {
    /// Drops of a future whose last poll had answered `Pending`.
    pub confirmed: u64,
    /// Futures that ran to their end.
    pub finished: u64,
    /// The most pending polls before a drop.
    pub deepest: u64,
}

/// Why a [`DropPlan`] stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropFailure {
    /// The check found something wrong.
    #[error("after {point}{}: {complaint}", Seeded(*.seed))]
    Check {
        /// After which round.
        point: DropPoint,
        /// The seed of a random plan.
        seed: Option<u64>,
        /// What the check said.
        complaint: String,
    },
    /// A future waited for longer than the stall time and nothing woke it.
    #[error("{point}{}: nothing woke the future within {after:?}", Seeded(*.seed))]
    Stalled {
        /// In which round.
        point: DropPoint,
        /// The seed of a random plan.
        seed: Option<u64>,
        /// The stall time.
        after: Duration,
    },
    /// A future did not end within the bound on its polls.
    #[error("{point}{}: not finished yet", Seeded(*.seed))]
    Endless {
        /// In which round.
        point: DropPoint,
        /// The seed of a random plan.
        seed: Option<u64>,
    },
}

impl<'a> DropPlan<'a> {
    /// Returns the plan that drops at the first pending poll, then at the
    /// second, and so on until a future runs to its end.
    #[must_use]
    pub fn every_await() -> Self {
        Self::new(Mode::Every)
    }

    /// Returns the plan that drops at random pending polls, `rounds` times
    /// after a first round that runs to the end and shows how deep it goes.
    #[must_use]
    pub fn random(seed: u64, rounds: u64) -> Self {
        Self::new(Mode::Random { seed, rounds })
    }

    fn new(mode: Mode) -> Self {
        let patience = Patience { stall: Duration::from_secs(10), nudge: None };
        Self { mode, feed: Box::new(|| {}), patience, most_points: 10_000 }
    }

    /// Calls `feed` after each pending poll of a future that is kept.
    #[must_use]
    pub fn feeding(mut self, feed: impl FnMut() + 'a) -> Self {
        self.feed = Box::new(feed);
        self
    }

    /// Sets how much real time a future may wait without being woken.
    /// Default: 10 s.
    #[must_use]
    pub fn with_stall_time(mut self, stall: Duration) -> Self {
        self.patience.stall = stall;
        self
    }

    /// Polls a future again after so much real time although nothing has woken
    /// it: one that shares its connection with others is woken by the last of
    /// its packets only, and is to be dropped between them. Default: never.
    #[must_use]
    pub fn nudging(mut self, every: Duration) -> Self {
        self.patience.nudge = Some(every);
        self
    }

    /// Sets how many pending polls a future may have. Default: 10,000.
    #[must_use]
    pub fn with_most_points(mut self, most_points: u64) -> Self {
        self.most_points = most_points;
        self
    }

    /// Makes a future per round with `make`, drops it where the plan says, and
    /// calls `check`, which asserts or returns a `Result`.
    ///
    /// The output of a future that ran to its end is not looked at: what must
    /// hold for it belongs into the future.
    ///
    /// # Errors
    ///
    /// Fails with the first [`DropFailure`]; it names the round, the point and
    /// the seed.
    pub async fn run<M, F, C, V>(
        mut self,
        mut make: M,
        mut check: C,
    ) -> Result<DropReport, DropFailure>
    where
        M: FnMut() -> F,
        F: Future,
        C: AsyncFnMut(DropPoint) -> V,
        V: Verdict,
    {
        let mut report = DropReport::default();
        let mut targets = Targets::new(self.mode, self.most_points);
        let seed = targets.seed();
        let mut round = 0;
        while let Some(target) = targets.next(&report) {
            let driven = drive(make(), target, self.patience, &mut *self.feed).await;
            let (pending, finished) = match driven {
                Driven::Finished { pending } => (pending, true),
                Driven::Dropped { pending } | Driven::Stalled { pending } => (pending, false),
            };
            let point = DropPoint { round, pending, finished };
            match driven {
                Driven::Finished { .. } => report.finished += 1,
                Driven::Stalled { .. } => {
                    return Err(DropFailure::Stalled { point, seed, after: self.patience.stall });
                }
                Driven::Dropped { .. } if target >= self.most_points => {
                    return Err(DropFailure::Endless { point, seed });
                }
                Driven::Dropped { .. } => {
                    report.confirmed += 1;
                    report.deepest = report.deepest.max(pending);
                }
            }
            targets.learn(point);

            let whose = Checking { point, seed };
            let verdict = check(point).await;
            drop(whose);
            if let Some(complaint) = verdict.into_complaint() {
                return Err(DropFailure::Check { point, seed, complaint });
            }
            round += 1;
        }
        Ok(report)
    }
}

impl fmt::Debug for DropPlan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropPlan").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl fmt::Display for DropPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.finished { "finished after" } else { "dropped after" };
        write!(f, "round {} {what} {} pending polls", self.round, self.pending)
    }
}

/// The seed in a message, if there is one.
struct Seeded(Option<u64>);

impl fmt::Display for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |seed| write!(f, " (seed {seed})"))
    }
}

/// At which pending poll the next future is dropped.
struct Targets {
    mode: Mode,
    rng: Rng,
    /// The bound on pending polls, at which a future counts as endless.
    most: u64,
    rounds: u64,
    /// The most pending polls of a future that ran to its end.
    depth: u64,
}

impl Targets {
    fn new(mode: Mode, most: u64) -> Self {
        let seed = match mode {
            Mode::Every => 0,
            Mode::Random { seed, .. } => seed,
        };
        Self { mode, rng: Rng::seeded(seed), most, rounds: 0, depth: 0 }
    }

    fn seed(&self) -> Option<u64> {
        match self.mode {
            Mode::Every => None,
            Mode::Random { seed, .. } => Some(seed),
        }
    }

    fn next(&mut self, report: &DropReport) -> Option<u64> {
        let round = self.rounds;
        self.rounds += 1;
        match self.mode {
            Mode::Every if report.finished > 0 => None,
            Mode::Every => Some((round + 1).min(self.most)),
            Mode::Random { rounds, .. } if round > rounds => None,
            Mode::Random { .. } if round == 0 => Some(self.most),
            // A quarter more than seen: some run longer than the first did.
            Mode::Random { .. } => {
                let reach = self.depth + self.depth / 4 + 1;
                Some((1 + self.rng.below(reach)).min(self.most))
            }
        }
    }

    fn learn(&mut self, point: DropPoint) {
        if point.finished {
            self.depth = self.depth.max(point.pending);
        }
    }
}

/// Says where it was when a check panics.
struct Checking {
    point: DropPoint,
    seed: Option<u64>,
}

impl Drop for Checking {
    #[expect(clippy::print_stderr, reason = "the test harness shows it beside the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the check failed after {}{}", self.point, Seeded(self.seed));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use tokio::sync::{Notify, Semaphore};
    use tokio::task::yield_now;

    use super::*;

    async fn three_points() {
        for _ in 0..3 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn every_await_is_dropped_once_and_then_the_future_finishes() {
        let mut points = Vec::new();
        let report =
            drop_at_every_await(three_points, async |point| points.push(point)).await.unwrap();
        assert_eq!(report, DropReport { confirmed: 3, finished: 1, deepest: 3 });
        let pending: Vec<_> = points.iter().map(|point| (point.pending, point.finished)).collect();
        assert_eq!(pending, [(1, false), (2, false), (3, false), (3, true)]);
    }

    #[tokio::test]
    async fn a_future_that_is_ready_at_once_is_never_dropped() {
        let report = drop_at_every_await(|| async {}, async |_| {}).await.unwrap();
        assert_eq!(report, DropReport { confirmed: 0, finished: 1, deepest: 0 });
    }

    #[tokio::test]
    async fn a_planted_leak_is_found_at_its_point() {
        let slots = Arc::new(Semaphore::new(1));
        let leaking = || {
            let slots = Arc::clone(&slots);
            async move {
                yield_now().await;
                // Gives the slot back by hand, and only if it gets that far.
                slots.acquire().await.unwrap().forget();
                yield_now().await;
                slots.add_permits(1);
            }
        };
        let check = async |_| match slots.available_permits() {
            1 => Ok(()),
            left => Err(format!("{left} slots left")),
        };
        let failure = drop_at_every_await(leaking, check).await.unwrap_err();
        let point = DropPoint { round: 1, pending: 2, finished: false };
        assert_eq!(
            failure,
            DropFailure::Check { point, seed: None, complaint: "0 slots left".into() }
        );
    }

    #[tokio::test]
    async fn a_future_that_cleans_up_passes() {
        let slots = Arc::new(Semaphore::new(1));
        let clean = || {
            let slots = Arc::clone(&slots);
            async move {
                yield_now().await;
                let _slot = slots.acquire().await.unwrap();
                yield_now().await;
            }
        };
        let report = drop_at_every_await(clean, async |_| {
            assert_eq!(slots.available_permits(), 1);
        })
        .await;
        assert_eq!(report.unwrap().confirmed, 2);
    }

    #[tokio::test]
    async fn a_random_plan_repeats_itself_and_reaches_every_point() {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let mut points = Vec::new();
            let plan = DropPlan::random(11, 100);
            let report = plan.run(three_points, async |point| points.push(point)).await.unwrap();
            assert_eq!(report.confirmed + report.finished, 101);
            assert!((1..=3).all(|at| points.iter().any(|p| !p.finished && p.pending == at)));
            runs.push(points);
        }
        assert_eq!(runs[0], runs[1]);
    }

    #[tokio::test]
    async fn a_failure_of_a_random_plan_names_its_seed() {
        let check = async |point: DropPoint| if point.finished { Ok(()) } else { Err("lost") };
        let failure = DropPlan::random(11, 100).run(three_points, check).await.unwrap_err();
        assert!(failure.to_string().contains("(seed 11): lost"), "{failure}");
    }

    #[tokio::test]
    async fn a_future_that_nothing_wakes_is_reported() {
        let plan = DropPlan::random(1, 1).with_stall_time(Duration::from_millis(20));
        let failure = plan.run(std::future::pending::<()>, async |_| {}).await.unwrap_err();
        assert!(matches!(failure, DropFailure::Stalled { .. }), "{failure}");
    }

    /// Woken by the last of five steps only.
    #[tokio::test]
    async fn a_nudged_future_is_dropped_before_it_is_woken() {
        let steps = Cell::new(0);
        let last = Notify::new();
        let feed = || {
            steps.set(steps.get() + 1);
            if steps.get() == 5 {
                last.notify_one();
            }
        };
        let mut pending = Vec::new();
        let plan = DropPlan::every_await().nudging(Duration::from_millis(1)).feeding(feed);
        let check = async |point: DropPoint| {
            pending.push((point.pending, steps.replace(0)));
        };
        let report = plan.run(|| last.notified(), check).await.unwrap();
        assert_eq!(pending, [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (5, 5)]);
        assert_eq!(report, DropReport { confirmed: 5, finished: 1, deepest: 5 });
    }

    #[tokio::test]
    async fn a_nudged_future_that_nothing_wakes_is_reported() {
        let plan = DropPlan::random(1, 1).nudging(Duration::from_millis(1));
        let plan = plan.with_stall_time(Duration::from_millis(20));
        let failure = plan.run(std::future::pending::<()>, async |_| {}).await.unwrap_err();
        assert!(matches!(failure, DropFailure::Stalled { .. }), "{failure}");
    }

    #[tokio::test]
    async fn a_future_without_end_is_reported() {
        let endless = || async {
            loop {
                yield_now().await;
            }
        };
        let plan = DropPlan::every_await().with_most_points(20);
        let failure = plan.run(endless, async |_| {}).await.unwrap_err();
        assert!(matches!(failure, DropFailure::Endless { .. }), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn paused_time_moves_on_while_a_future_sleeps() {
        let sleeping = || tokio::time::sleep(Duration::from_secs(3_600));
        let report = drop_at_every_await(sleeping, async |_| {}).await.unwrap();
        assert_eq!(report.confirmed, 1);
    }
}
