//! The processes: this very binary, started again.

use std::fs;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use trine_core::{BoxError, Deadline, Span};
use trine_db_shard::{Database, Once, Timestamp, TxOptions};
use trine_scheduler::{
    Job, JobContext, JobId, Overlap, Retries, SchedulerConfig, SchedulerDeps, SchedulerService,
};

use crate::mariadb::handle;

pub(super) const CHILD: &str = "fleet::member::child_that_runs_jobs";

/// The file in its folder that tells a child what to do.
pub(super) const TASK: &str = "task";

/// What a member does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) url: String,
    pub(super) jobs: u32,
    pub(super) schedule: String,
    pub(super) effect: Effect,
    /// How long a run waits before its effect.
    pub(super) before: Duration,
    /// How long a run waits after it.
    pub(super) after: Duration,
    pub(super) lease: Duration,
    pub(super) planner_lease: Duration,
}

impl Task {
    pub(super) fn new(jobs: u32, schedule: &str) -> Self {
        let (before, after) = (Duration::ZERO, Duration::ZERO);
        Self {
            url: String::new(),
            jobs,
            schedule: schedule.to_owned(),
            effect: Effect::Together,
            before,
            after,
            lease: Duration::from_secs(2),
            planner_lease: Duration::from_secs(3),
        }
    }
}

/// How a run does what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Effect {
    /// In the transaction that completes its tick.
    Together,
    /// In a transaction of its own, a moment before its tick is completed: wrong.
    Before,
    /// In a transaction of its own, a moment after its tick is completed: wrong.
    After,
}

/// Between the two transactions of a run that has two: most of a second, so that
/// a kill meets it.
const MOMENT: Duration = Duration::from_millis(900);

/// Those of even numbers run one tick after the other, the others some at once.
pub(super) fn job(number: u32) -> JobId {
    JobId::new(format!("job-{number:03}")).unwrap()
}

pub(super) fn overlap(number: u32) -> Overlap {
    let at_most = if number.is_multiple_of(2) { 1 } else { 8 };
    Overlap::Allow { at_most: NonZeroU32::new(at_most).unwrap() }
}

const EFFECT: &str = "INSERT INTO effect (job, nominal, attempt, token, process, at) \
                      VALUES (?, ?, ?, ?, ?, SYSDATE(6))";

struct Worker {
    db: Database,
    task: Task,
    process: OnceLock<String>,
}

impl Worker {
    async fn run(&self, ctx: &JobContext) -> Result<(), BoxError> {
        println!("begins {} as attempt {}", ctx.job(), ctx.attempt());
        sleep(self.task.before).await;
        match self.work(ctx).await {
            Ok(()) => println!("done {} as attempt {}", ctx.job(), ctx.attempt()),
            Err(error) => {
                println!("refused {} as attempt {}: {error}", ctx.job(), ctx.attempt());
                return Err(error);
            }
        }
        sleep(self.task.after).await;
        Ok(())
    }

    async fn work(&self, ctx: &JobContext) -> Result<(), BoxError> {
        let row = (
            ctx.job().as_str().to_owned(),
            Timestamp::from(ctx.nominal()),
            ctx.attempt(),
            ctx.fence().token(),
            self.process.get().cloned().unwrap_or_default(),
        );
        let is_with = self.task.effect == Effect::Together;
        if self.task.effect == Effect::Before {
            self.db.execute(EFFECT, row).await?;
            sleep(MOMENT).await;
            return Ok(());
        }
        let (ctx, effect) = (ctx.clone(), row.clone());
        let options = TxOptions::default().with_idle_timeout(Duration::from_secs(5));
        self.db
            .transaction_with(&options, move |mut tx| {
                let (ctx, effect) = (ctx.clone(), effect.clone());
                async move {
                    if is_with {
                        tx.execute(EFFECT, effect).await?;
                    }
                    if ctx.complete_in(&mut tx).await? == Once::Repeated {
                        return Err("its effect is committed already".into());
                    }
                    Ok::<(), BoxError>(())
                }
            })
            .await?;
        if !is_with {
            sleep(MOMENT).await;
            self.db.execute(EFFECT, row).await?;
        }
        Ok(())
    }
}

fn config(task: &Task) -> SchedulerConfig {
    let config = SchedulerConfig::database().with_lease(Span::from(task.lease));
    let config = config.with_planner_lease(Span::from(task.planner_lease));
    let mut config = config.with_max_running(256);
    config.poll = Span::millis(100);
    config.history_runs = 1_000_000;
    config
}

fn service(task: Task) -> SchedulerService {
    let db = handle(&task.url);
    let deps = SchedulerDeps::default().with_database(db.clone());
    let process = OnceLock::new();
    let worker = Arc::new(Worker { db, task, process });
    let task = &worker.task;
    let jobs = (0..task.jobs).map(|number| {
        let worker = Arc::clone(&worker);
        let retries = NonZeroU32::new(50).unwrap();
        let job = Job::new(job(number), task.schedule.as_str())
            .with_overlap(overlap(number))
            .with_takeovers(100)
            .with_retries(Retries::new(
                retries,
                Duration::from_millis(50),
                Duration::from_millis(500),
            ));
        job.run(move |ctx| {
            let worker = Arc::clone(&worker);
            async move { worker.run(&ctx).await }
        })
    });
    let deps = jobs.fold(deps, |deps, job| deps.with_job(job.unwrap()));
    let service = SchedulerService::open(&config(task), deps).unwrap();
    worker.process.set(service.process().to_owned()).unwrap();
    service
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the other tests: runs jobs until it is told to end, or killed"]
async fn child_that_runs_jobs() {
    let Ok(text) = fs::read_to_string(TASK) else { return };
    let service = service(serde_json::from_str(&text).unwrap());
    let mut end = signal(SignalKind::interrupt()).unwrap();
    service.start().await.unwrap();
    println!("ready {}", service.process());
    end.recv().await;
    println!("ends");
    service.shutdown(Deadline::after(Duration::from_secs(20))).await.unwrap();
    println!("ended");
}
