use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use trine_core::{Health, HealthStatus, Metrics, Probe, Report};

use super::{SchedulerService, Shared};
use crate::engine::Engine;
use crate::{Call, Overview};

/// Longest check of the store.
const CHECK: Duration = Duration::from_secs(2);

/// Least time between two checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// A handler that has its thread for so long holds up others.
const HELD: Duration = Duration::from_secs(1);

/// Most jobs that are named.
const NAMED: usize = 10;

pub(super) fn probe() -> Probe {
    Probe::new(CHECK, INTERVAL)
}

/// When the runtime was last seen to stand still.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    seen: u64,
    last: Option<Instant>,
}

impl Stalls {
    /// Tells whether one was noticed within `span`, of `total` in all.
    fn is_recent(&mut self, total: u64, span: Duration) -> bool {
        if total > self.seen {
            *self = Self { seen: total, last: Some(Instant::now()) };
        }
        self.last.is_some_and(|last| last.elapsed() <= span)
    }
}

impl SchedulerService {
    /// Checks the store with one round trip that is bounded and shared by
    /// concurrent callers, and whether planning, claiming and runs make
    /// progress, whatever the store answers.
    pub async fn health(&self) -> Health {
        let shared = &self.shared;
        let observe = || async {
            match self.observe().await {
                Ok(health) => health,
                Err(error) => Health::down(Report(&error)),
            }
        };
        let health = shared.probe.check(observe).await;
        let health = health
            .with_detail("backend", shared.once.backend.name())
            .with_detail("running", shared.parts.runs.count() as u64);
        shared.runs(shared.progress(health))
    }

    async fn observe(&self) -> crate::Result<Health> {
        let facts = self.prove("health").await?;
        let overview = self.shared.once.backend.overview(Call::new("health")).await?;
        let health = Health::up()
            .with_detail("version", &*facts.version)
            .with_detail("durability", facts.durability.to_string());
        Ok(self.shared.work(health, &overview))
    }
}

impl Shared {
    /// Adds what waits in the store.
    fn work(&self, health: Health, overview: &Overview) -> Health {
        let late = |since: Option<std::time::SystemTime>| {
            since.and_then(|since| overview.now.duration_since(since).ok()).unwrap_or_default()
        };
        let bound = self.config.max_lag.get();
        let (due, ready) = (late(overview.oldest_due), late(overview.oldest_ready));
        let health = health
            .with_detail("jobs", overview.jobs)
            .with_detail("paused", overview.paused)
            .with_detail("without_handler", overview.without_handler)
            .with_detail("running_everywhere", overview.running)
            .with_detail("planner", overview.planner.as_deref().unwrap_or("nobody"))
            .with_detail("oldest_due_ms", millis(due))
            .with_detail("oldest_ready_ms", millis(ready));
        let health = by_age(health, "ticks that are due are not planned", due, bound);
        let health = by_age(health, "ticks that are ready are not run", ready, bound);
        match overview.without_handler {
            0 => health,
            jobs => worse(
                health,
                HealthStatus::Degraded,
                format!("no process has a handler for {jobs} of the jobs"),
            ),
        }
    }

    /// Adds whether the loops make progress. At once: an age needs no second
    /// look.
    fn progress(&self, mut health: Health) -> Health {
        let started = [("", &self.once), ("every_process_", &self.every)];
        for (prefix, engine) in started.into_iter().filter(|(_, engine)| engine.is_started()) {
            let lag = self.config.max_lag.get();
            // A process that is not heard of for a lease has no handlers.
            let lease = self.config.lease.get().max(lag);
            for (name, part, bound) in [
                ("planner", &engine.planner, lag),
                ("claims", &engine.claims, lag),
                ("beats", &engine.beats, lease),
            ] {
                let part = part.watermark.health(bound);
                if part.status > HealthStatus::Up {
                    health = health.with_part(format!("{prefix}{name}_progress"), &part);
                }
            }
            if let Some(next) = next_due(engine) {
                health = health.with_detail(format!("{prefix}next_due_ms"), millis(next));
            }
        }
        health
    }

    /// Adds which runs go on for too long, or hold up a thread.
    fn runs(&self, health: Health) -> Health {
        let grace = self.config.cancel_grace.get();
        let all = self.parts.runs.all();
        let stuck = all.iter().filter(|run| run.is_stuck(grace));
        let stuck: Vec<&str> = stuck.map(|run| run.tick.job.as_str()).take(NAMED).collect();
        let holding = all.iter().filter(|run| !run.is_blocking && run.holds_thread() > HELD);
        let holding: Vec<&str> = holding.map(|run| run.tick.job.as_str()).take(NAMED).collect();
        let mut health = health;
        for (name, jobs, error) in [
            ("stuck", stuck, "runs go on after their time-out"),
            ("holding_threads", holding, "handlers hold up threads of the runtime"),
        ] {
            if !jobs.is_empty() {
                health = worse(health, HealthStatus::Degraded, format!("{error}: {jobs:?}"));
                health = health.with_detail(name, jobs);
            }
        }
        let total = stalls(&self.metrics);
        let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        if stalls.is_recent(total, self.config.max_lag.get()) {
            let error = "the runtime stood still: a job or the host holds up its threads";
            health = worse(health, HealthStatus::Degraded, error.to_owned());
        }
        health.with_detail("stalls", total)
    }
}

/// How often the detector has found the runtime standing still.
fn stalls(metrics: &Metrics) -> u64 {
    let snapshot = metrics.snapshot();
    snapshot.counter_total("trine_scheduler_stalls_total", &[]).unwrap_or_default()
}

fn next_due(engine: &Engine) -> Option<Duration> {
    let now = engine.clock.now();
    let loops = [&engine.planner, &engine.claims];
    let due = loops.into_iter().filter_map(|part| part.bell.asleep()?.due).min()?;
    Some(due.saturating_since(now))
}

fn by_age(health: Health, what: &str, age: Duration, bound: Duration) -> Health {
    let status = match age {
        _ if age <= bound => return health,
        _ if age <= bound.saturating_mul(2) => HealthStatus::Degraded,
        _ => HealthStatus::Down,
    };
    worse(health, status, format!("{what} for {age:?}; at most {bound:?} expected"))
}

/// The worst status wins and keeps its error.
fn worse(mut health: Health, status: HealthStatus, error: String) -> Health {
    if status > health.status {
        health.status = status;
        return health.with_error(error);
    }
    health
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Publishes how much runs in a service; zero once it is gone.
pub(super) fn publish(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    let running = move || weak.upgrade().map_or(0.0, |shared| shared.parts.runs.count() as f64);
    shared.metrics.gauge_fn("running", "Runs of this process.", &[], Arc::new(running));
}
