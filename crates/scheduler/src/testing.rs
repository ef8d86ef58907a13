//! A scheduler for tests of one's own: in memory, on a clock that the test moves.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use trine_core::{Clock, ManualClock, Moment, Span};

use crate::engine::Engine;
use crate::{
    InvalidJobId, Job, JobId, Result, SchedulerConfig, SchedulerDeps, SchedulerService, Tick,
    TickState,
};

/// Longest lease, so that the clock can be moved in long steps.
const LEASE: Span = Span::secs(3_600);

/// Ten years.
const HISTORY: Span = Span::secs(3_650 * 24 * 60 * 60);

/// Longest step of the clock: renewals of leases must have their turns.
const STEP: Duration = Duration::from_secs(600);

/// How long runs are waited for that wait for something else than the clock.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks before the test begins to wait by its own clock.
const LOOKS: u32 = 1_000;

/// A running scheduler, and the clock of its times.
#[derive(Clone, Debug)]
pub struct TestScheduler {
    service: SchedulerService,
    clock: Arc<ManualClock>,
}

/// Returns a running scheduler in memory with these jobs, and the clock of its
/// times, which begins on 2024-01-03.
///
/// # Errors
///
/// Fails as [`SchedulerService::open`] and [`SchedulerService::start`].
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trine_scheduler::Result<()> {
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
///
/// use trine_scheduler::{Job, TickState, testing};
///
/// let sent = Arc::new(AtomicU32::new(0));
/// let count = Arc::clone(&sent);
/// let reminder = Job::new("reminder", "daily 09:00; zone Europe/Berlin").run(move |_| {
///     count.fetch_add(1, Ordering::Relaxed);
///     async { Ok::<(), std::io::Error>(()) }
/// })?;
///
/// let scheduler = testing::scheduler([reminder]).await?;
/// scheduler.advance(Duration::from_secs(3 * 24 * 60 * 60)).await;
/// assert_eq!(sent.load(Ordering::Relaxed), 3);
/// assert_eq!(scheduler.count("reminder", TickState::Succeeded).await?, 3);
/// # Ok(())
/// # }
/// ```
pub async fn scheduler(jobs: impl IntoIterator<Item = Job>) -> Result<TestScheduler> {
    let mut config = SchedulerConfig::memory().with_lease(LEASE).with_planner_lease(LEASE);
    // What the test asks for at its end must still be there.
    config.history_age = HISTORY;
    let clock = Arc::new(ManualClock::new());
    let deps = SchedulerDeps::default().with_clock(Arc::<ManualClock>::clone(&clock));
    let deps = jobs.into_iter().fold(deps, SchedulerDeps::with_job);
    let service = SchedulerService::open(&config, deps)?;
    service.start().await?;
    let scheduler = TestScheduler { service, clock };
    scheduler.settle().await;
    Ok(scheduler)
}

impl TestScheduler {
    /// Returns the scheduler.
    #[must_use]
    pub fn service(&self) -> &SchedulerService {
        &self.service
    }

    /// Returns the clock. [`advance`](Self::advance) moves it in steps; moved
    /// by itself, it jumps.
    #[must_use]
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// Returns the time by the clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.clock.wall()
    }

    /// Moves the clock forward by `span`, stopping wherever something falls due,
    /// and [settles](Self::settle) each time: what falls due is run in its order
    /// and at its time.
    pub async fn advance(&self, span: Duration) {
        let end = self.clock.now() + span;
        self.settle().await;
        loop {
            let now = self.clock.now();
            let step = self.next(now).unwrap_or(end).min(now + STEP).min(end);
            self.clock.advance(step.saturating_since(now));
            self.settle().await;
            if step >= end {
                return;
            }
        }
    }

    /// Waits until nothing is left to do at this moment of the clock, and all
    /// runs have ended. Runs that wait for something else are waited for no
    /// longer than a second: one that waits for its own time-out goes on while
    /// the clock moves.
    pub async fn settle(&self) {
        let began = Instant::now();
        let mut looks = 0_u32;
        let mut idle = 0;
        while idle < 2 {
            looks = looks.saturating_add(1);
            if looks < LOOKS {
                yield_now().await;
            } else {
                sleep(Duration::from_millis(1)).await;
            }
            let is_over = !self.has_runs() || began.elapsed() > PATIENCE;
            idle = if is_over && self.is_asleep() { idle + 1 } else { 0 };
        }
    }

    /// Returns the ticks of a job, the first ones first, at most
    /// [`MAX_PAGE`](SchedulerService::MAX_PAGE) of the last ones.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for what is no name.
    pub async fn ticks<I>(&self, job: I) -> Result<Vec<Tick>>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        let page = self.service.ticks(job, None, SchedulerService::MAX_PAGE).await?;
        Ok(page.ticks.into_iter().rev().collect())
    }

    /// Returns how many of the ticks of a job are in this state.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for what is no name.
    pub async fn count<I>(&self, job: I, state: TickState) -> Result<usize>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        Ok(self.ticks(job).await?.iter().filter(|tick| tick.state == state).count())
    }

    /// Returns the nominal times of a job that were run with success, in order.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for what is no name.
    pub async fn succeeded<I>(&self, job: I) -> Result<Vec<SystemTime>>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        let mut ticks = self.ticks(job).await?;
        ticks.retain(|tick| tick.state == TickState::Succeeded);
        Ok(ticks.into_iter().map(|tick| tick.nominal).collect())
    }

    fn engines(&self) -> impl Iterator<Item = &Arc<Engine>> {
        let shared = &self.service.shared;
        [&shared.once, &shared.every].into_iter().filter(|engine| engine.is_started())
    }

    fn has_runs(&self) -> bool {
        self.service.shared.parts.runs.count() > 0
    }

    /// Tells whether all loops sleep: those that wake others first.
    fn is_asleep(&self) -> bool {
        self.engines().all(|engine| {
            let mut loops = [&engine.beats, &engine.planner, &engine.claims].into_iter();
            engine.finishes.is_empty() && loops.all(|part| part.bell.asleep().is_some())
        })
    }

    /// Returns when something falls due next.
    fn next(&self, now: Moment) -> Option<Moment> {
        let grace = self.service.shared.config.cancel_grace.get();
        let runs = self.service.shared.parts.runs.all();
        let limits = runs.iter().filter_map(|run| run.limit);
        let limits = limits.flat_map(|limit| [limit, limit + grace]).filter(|limit| *limit > now);
        let bells = self.engines().flat_map(|engine| {
            [&engine.beats, &engine.planner, &engine.claims].map(|part| &part.bell)
        });
        let due = bells.filter_map(|bell| bell.asleep()?.due);
        due.chain(limits).min()
    }
}
