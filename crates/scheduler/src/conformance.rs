//! The suite that every store passes: checks for each promise of
//! [`SchedulerBackend`].
//!
//! A store's test file names a function that makes a fresh, empty store and
//! expands [`conformance_tests!`](crate::conformance_tests) with it.
//!
//! ```ignore
//! async fn connect() -> trine_scheduler::conformance::Fixture { /* … */ }
//! trine_scheduler::conformance_tests!(suite, super::connect);
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "checks fail by panicking, like any test"
)]

mod claims;
mod history;
mod leases;
mod lifecycle;
mod operators;
mod planner;
mod registration;

use std::any::Any;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trine_core::{Claim, ErrorKind, Fence, LeaseTerms, ManualClock, Renewal};

use crate::{
    AttemptEnd, Call, ClaimAnswer, ClaimedTick, Definition, Error, Finish, FinishOutcome, JobFacts,
    JobId, Overlap, Overview, PlanAnswer, Registered, Result, SchedulerBackend, Terms, Tick,
    TriggerOutcome,
};

pub use claims::*;
pub use history::*;
pub use leases::*;
pub use lifecycle::*;
pub use operators::*;
pub use planner::*;
pub use registration::*;

/// A lease that is to end during a check, and how long its calls may take in
/// all.
const SHORT: Duration = Duration::from_millis(300);

/// A lease that is not.
const LONG: Duration = Duration::from_secs(3_600);

/// A schedule that does not come.
const FAR: &str = "once 9000-01-01T00:00:00Z";

/// A fresh, empty store for one check.
///
/// With the [clock](Self::with_clock) of the store, a check sets it and takes no
/// time. Without one it waits, for 0.3 s at a time and a second in all at most,
/// and a few calls in a row must take less than 0.3 s: so a store on a server
/// goes by its real clock.
pub struct Fixture {
    backend: Box<dyn Fn() -> Arc<dyn SchedulerBackend> + Send + Sync>,
    clock: Option<Arc<ManualClock>>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// The instance whose store it is.
    pub const NAME: &str = "scheduler.default";

    /// Returns a fixture; `backend` makes a backend over the one store as each
    /// process has one, and `keep` is dropped with the fixture.
    #[must_use]
    pub fn new(
        backend: impl Fn() -> Arc<dyn SchedulerBackend> + Send + Sync + 'static,
        keep: impl Any + Send + Sync,
    ) -> Self {
        Self { backend: Box::new(backend), clock: None, _keep: Box::new(keep) }
    }

    /// Has the checks set this clock, which is the one of the store, instead of
    /// waiting.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<ManualClock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Lets time go by on the clock of the store.
    async fn pass(&self, span: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(span),
            // The store's clock may go a little slower.
            None => tokio::time::sleep(span + span / 20 + Duration::from_millis(1)).await,
        }
    }

    /// Returns one more process, which is not there yet.
    fn absent(&self, process: &str) -> Peer {
        Peer { store: (self.backend)(), process: process.into() }
    }

    /// Returns one more process, which is there.
    async fn peer(&self, process: &str) -> Peer {
        let peer = self.absent(process);
        peer.beat(LONG).await;
        peer
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// A process, as its store sees it.
struct Peer {
    store: Arc<dyn SchedulerBackend>,
    process: Arc<str>,
}

impl Peer {
    async fn beat(&self, ttl: Duration) -> u64 {
        self.store.beat(Call::new("beat"), &self.process, ttl).await.unwrap()
    }

    async fn try_register(&self, definitions: &[Definition]) -> Result<Vec<Registered>> {
        let definitions: Vec<_> = definitions.iter().cloned().map(Arc::new).collect();
        self.store.register(Call::new("register"), &self.process, &definitions).await
    }

    async fn register(&self, definition: &Definition) -> Registered {
        let registered = self.try_register(std::slice::from_ref(definition)).await.unwrap();
        assert_eq!(registered.len(), 1);
        *registered.first().unwrap()
    }

    async fn withdraw(&self, jobs: Option<&[JobId]>) {
        self.store.withdraw(Call::new("withdraw"), &self.process, jobs).await.unwrap();
    }

    async fn try_trigger(&self, job: &str) -> TriggerOutcome {
        self.store.trigger(Call::new("trigger"), &id(job)).await.unwrap()
    }

    async fn trigger(&self, job: &str) -> SystemTime {
        match self.try_trigger(job).await {
            TriggerOutcome::Triggered { nominal } => nominal,
            other @ TriggerOutcome::Overlaps { .. } => panic_with(&format!("{other:?}")),
        }
    }

    async fn plan_for(&self, ttl: Duration, jobs: u32) -> PlanAnswer {
        self.store.plan(Call::new("plan"), &self.process, ttl, jobs).await.unwrap()
    }

    /// Plans all that is due, and says how many ticks were made and when.
    async fn plan(&self) -> (u64, SystemTime) {
        match self.plan_for(LONG, 1_000).await {
            PlanAnswer::Planned { now, ticks, .. } => (ticks, now),
            other @ PlanAnswer::Other { .. } => panic_with(&format!("{other:?}")),
        }
    }

    async fn resign(&self) {
        self.store.resign(Call::new("resign"), &self.process).await.unwrap();
    }

    async fn claim_for(&self, ttl: Duration, count: u32) -> ClaimAnswer {
        self.store.claim(Call::new("claim"), &self.process, ttl, count).await.unwrap()
    }

    async fn claim(&self, count: u32) -> Vec<ClaimedTick> {
        self.claim_for(LONG, count).await.ticks
    }

    /// Claims what is to be the only one.
    async fn claim_one(&self) -> ClaimedTick {
        self.claim_one_for(LONG).await
    }

    async fn claim_one_for(&self, ttl: Duration) -> ClaimedTick {
        let mut ticks = self.claim_for(ttl, 10).await.ticks;
        assert_eq!(ticks.len(), 1, "{ticks:?}");
        ticks.pop().unwrap()
    }

    async fn renew(&self, fence: &Fence, ttl: Duration) -> Renewal {
        let claim = Claim::new(fence.clone(), LeaseTerms::new(ttl, ttl / 10).unwrap());
        let renewals = self.store.renew(Call::new("renew"), &[claim]).await.unwrap();
        assert_eq!(renewals.len(), 1);
        *renewals.first().unwrap()
    }

    async fn try_finish(&self, finish: Finish) -> Result<FinishOutcome> {
        let outcomes = self.store.finish(Call::new("finish"), &[finish]).await?;
        assert_eq!(outcomes.len(), 1);
        Ok(*outcomes.first().unwrap())
    }

    async fn finish(&self, tick: &ClaimedTick, end: AttemptEnd) -> FinishOutcome {
        self.try_finish(Finish::new(tick, end, None)).await.unwrap()
    }

    async fn succeed(&self, tick: &ClaimedTick) -> FinishOutcome {
        self.finish(tick, AttemptEnd::Succeeded).await
    }

    /// Says that it failed and is tried again.
    async fn retry(&self, tick: &ClaimedTick, after: Duration) -> FinishOutcome {
        self.try_finish(Finish::new(tick, failed(), Some(after))).await.unwrap()
    }

    async fn find(&self, job: &str) -> Option<JobFacts> {
        self.store.job(Call::new("job"), &id(job)).await.unwrap()
    }

    async fn job(&self, job: &str) -> JobFacts {
        self.find(job).await.unwrap()
    }

    /// The ticks of a job, the latest first.
    async fn ticks(&self, job: &str) -> Vec<Tick> {
        let page = self.store.ticks(Call::new("ticks"), &id(job), None, 1_000).await.unwrap();
        assert_eq!(page.next, None);
        page.ticks
    }

    async fn tick(&self, job: &str) -> Tick {
        let mut ticks = self.ticks(job).await;
        assert_eq!(ticks.len(), 1, "{ticks:?}");
        ticks.pop().unwrap()
    }

    async fn overview(&self) -> Overview {
        self.store.overview(Call::new("overview")).await.unwrap()
    }

    async fn now(&self) -> SystemTime {
        self.overview().await.now
    }

    async fn sweep(&self, age: Duration, runs: u32, rows: u32) -> u64 {
        self.store.sweep(Call::new("sweep"), age, runs, rows).await.unwrap()
    }

    async fn remove(&self, job: &str) -> bool {
        self.store.remove(Call::new("remove"), &id(job)).await.unwrap()
    }

    async fn pause(&self, job: &str, note: &str) {
        self.store.pause(Call::new("pause"), &id(job), note).await.unwrap();
    }

    async fn resume(&self, job: &str) -> bool {
        self.store.resume(Call::new("resume"), &id(job)).await.unwrap()
    }
}

fn id(job: &str) -> JobId {
    JobId::new(job).unwrap()
}

/// Revision 1 of a job.
fn job(name: &str, schedule: &str) -> Definition {
    job_with(name, schedule, |_| {})
}

fn job_with(name: &str, schedule: &str, change: impl FnOnce(&mut Terms)) -> Definition {
    let mut terms = Terms::new(schedule.parse().unwrap());
    change(&mut terms);
    Definition::new(id(name), 1, terms)
}

/// A job that runs when it is triggered, up to `at_most` times at once.
fn parallel(name: &str, at_most: u32) -> Definition {
    job_with(name, FAR, |terms| {
        terms.overlap = Overlap::Allow { at_most: NonZeroU32::new(at_most).unwrap() };
    })
}

fn failed() -> AttemptEnd {
    AttemptEnd::Failed { error: "no such host".into() }
}

/// The nominal times of ticks.
fn nominals(ticks: &[ClaimedTick]) -> Vec<SystemTime> {
    ticks.iter().map(|tick| tick.nominal).collect()
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
            // registration
            a_new_job_begins_with_its_first_time,
            definitions_come_back_as_they_were,
            the_same_definition_changes_nothing,
            a_higher_revision_replaces_a_lower_one,
            a_lower_revision_never_replaces_a_higher_one,
            a_refusal_leaves_nothing_half_registered,
            a_tick_is_given_only_to_who_has_its_handler,
            a_newer_tick_hides_no_older_one,
            who_withdraws_is_given_nothing,
            a_job_without_a_handler_is_noticed,
            a_process_that_was_forgotten_learns_it,
            a_run_outlives_the_definition_it_began_with,
            // planning
            one_process_plans_at_a_time,
            a_planner_stays_the_planner,
            who_resigns_is_followed_at_once,
            a_planner_that_was_replaced_makes_nothing,
            a_time_has_one_tick_when_several_plan,
            a_time_that_has_a_tick_gets_no_other,
            what_is_due_is_made_as_planning_says,
            jobs_that_are_due_first_are_planned_first,
            a_tick_is_due_by_its_jitter,
            a_delay_counts_from_the_end_of_the_run,
            a_delay_waits_for_what_was_triggered,
            a_job_that_runs_once_is_done_when_it_is_over,
            missed_runs_come_one_after_the_other,
            // claims
            as_many_run_at_once_as_overlap_allows,
            a_tick_beside_a_run_is_skipped_or_waits,
            a_retry_keeps_its_place,
            a_crowded_job_stops_no_other,
            what_waits_longest_is_given_first,
            a_claim_says_when_to_ask_again,
            tokens_rise_under_a_key,
            runs_beside_each_other_have_keys_of_their_own,
            a_claimed_tick_says_what_it_is_for,
            // leases
            a_lease_that_is_over_is_taken_over,
            a_renewed_lease_is_not_taken_over,
            a_renewal_never_brings_back_what_is_over,
            an_end_counts_until_another_has_taken_over,
            an_end_of_who_was_replaced_counts_for_nothing,
            an_end_may_be_told_again,
            ends_are_told_together,
            a_tick_that_is_lost_too_often_fails,
            a_lower_limit_holds_for_what_was_lost,
            what_is_handed_over_goes_on_elsewhere_at_once,
            attempts_are_listed,
            // operators
            a_paused_job_is_neither_planned_nor_given_out,
            what_passes_in_a_pause_is_passed_over,
            a_pause_holds_back_retries_and_takeovers,
            a_job_is_paused_after_failures_in_a_row,
            a_trigger_makes_a_tick_for_this_moment,
            triggers_of_one_moment_have_ticks_of_their_own,
            a_job_that_is_not_there_is_not_found,
            a_removed_job_runs_no_more,
            a_lost_run_of_a_removed_job_is_not_taken_over,
            a_run_of_a_removed_job_counts_for_the_next_of_its_name,
            // history
            ticks_come_in_pages,
            jobs_come_in_pages,
            a_sweep_forgets_what_is_old_and_what_is_too_much,
            the_overview_says_what_waits,
            // life cycle
            a_store_says_what_it_is,
            a_closed_store_answers_nothing,
            a_dropped_call_loses_nothing,
            processes_run_each_tick_once_together
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
