use std::time::{Duration, SystemTime};

use trine_core::{Counter, Histogram, Metrics};

use crate::{AttemptEnd, ClaimedTick, FinishOutcome};

/// What is counted of the runs of this process.
pub(crate) struct Meters {
    pub(crate) planned: Counter,
    takeovers: Counter,
    lateness: Histogram,
    duration: Histogram,
    succeeded: Counter,
    failed: Counter,
    panicked: Counter,
    timed_out: Counter,
    handed_over: Counter,
    lost: Counter,
}

impl Meters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let runs = |outcome| {
            metrics.counter("runs_total", "Attempts that ended.", &[("outcome", outcome)])
        };
        let late = "Time from when a tick was due to when this process had it.";
        let took = "Time from having a tick to the end of its handler.";
        let taken = "Attempts after one that was lost.";
        Self {
            planned: metrics.counter("planned_total", "Ticks made by this process.", &[]),
            takeovers: metrics.counter("takeovers_total", taken, &[]),
            lateness: metrics.histogram("tick_lateness_seconds", late, &[]),
            duration: metrics.histogram("run_duration_seconds", took, &[]),
            succeeded: runs("succeeded"),
            failed: runs("failed"),
            panicked: runs("panicked"),
            timed_out: runs("timed_out"),
            handed_over: runs("handed_over"),
            lost: runs("lost"),
        }
    }

    /// Counts a tick that was given to this process at `now`, by the store.
    pub(crate) fn claimed(&self, tick: &ClaimedTick, now: SystemTime) {
        if tick.attempt <= 1 {
            self.lateness.record(now.duration_since(tick.due).unwrap_or_default());
        }
        if tick.was_lost {
            self.takeovers.add(1);
        }
    }

    pub(crate) fn ended(&self, end: &AttemptEnd, outcome: Option<FinishOutcome>, took: Duration) {
        self.duration.record(took);
        let counter = match (end, outcome) {
            (_, None | Some(FinishOutcome::Replaced)) => &self.lost,
            (AttemptEnd::Succeeded, _) => &self.succeeded,
            (AttemptEnd::Failed { .. }, _) => &self.failed,
            (AttemptEnd::Panicked { .. }, _) => &self.panicked,
            (AttemptEnd::TimedOut, _) => &self.timed_out,
            (AttemptEnd::HandedOver, _) => &self.handed_over,
            (AttemptEnd::Lost, _) => &self.lost,
        };
        counter.add(1);
    }
}
