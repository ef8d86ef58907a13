use std::convert::Infallible;

use tokio::sync::mpsc;
use tokio::time::timeout;
use trine::{Builder, Db, Error, Loader, Scheduler};
use trine_core::{Deadline, HealthStatus, Report};
use trine_scheduler::{Job, RegisterOutcome, SchedulerService};

use crate::fake::SECOND;

/// Longest wait for a run that is due at once.
const BOUND: std::time::Duration = std::time::Duration::from_secs(30);

type Runs = mpsc::UnboundedReceiver<String>;

/// Returns a job that is not due by itself before the test is over, and what
/// tells of its runs.
fn job(id: &str) -> (Job, Runs) {
    let (sender, runs) = mpsc::unbounded_channel();
    let job = Job::new(id, "every 3650d").run(move |ctx| {
        let _ = sender.send(ctx.job().to_string());
        async { Ok::<(), Infallible>(()) }
    });
    (job.unwrap(), runs)
}

/// Has the job run, and waits for it.
async fn works(scheduler: &SchedulerService, id: &str, runs: &mut Runs) {
    scheduler.trigger(id).await.unwrap();
    let ran = timeout(BOUND, runs.recv()).await.unwrap();
    assert_eq!(ran.as_deref(), Some(id), "{}", scheduler.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn schedulers_of_every_kind_start_work_and_stop_from_their_sections() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = Builder::new();
    builder.add(
        trine_scheduler::migrations()
            .into_iter()
            .fold(Db::new(), |db, set| db.with_migrations(set)),
    );
    let (given, mut runs_of_given) = job("given");
    let (kept, mut runs_of_kept) = job("kept");
    let (late, mut runs_of_late) = job("late");
    builder.add(Scheduler::new().with_job(given));
    builder.add_as("rows", Scheduler::new());
    let loader = Loader::new().with_defaults(format!(
        "[scheduler]\nbackend = {{ kind = 'memory' }}\n\
         [scheduler.rows]\nbackend = {{ kind = 'database' }}\n\
         [db]\nmigrate = 'auto'\n\
         [database.global]\nkind = 'sqlite'\npath = '{}'",
        folder.path().join("global.db").display()
    ));
    let container = builder.configure(&loader).unwrap().build().unwrap();
    let memory = container.scheduler().unwrap();
    let rows = container.scheduler_instance("rows").unwrap();
    assert_eq!(rows.register(kept).await.unwrap(), RegisterOutcome::AtStart);
    container.start().await.unwrap();
    let outcome = rows.register(late).await.unwrap();
    assert!(matches!(outcome, RegisterOutcome::Stored(_)), "{outcome:?}");

    works(&memory, "given", &mut runs_of_given).await;
    works(&rows, "kept", &mut runs_of_kept).await;
    works(&rows, "late", &mut runs_of_late).await;
    assert_eq!((memory.name(), rows.name()), ("scheduler.default", "scheduler.rows"));
    assert!(rows.capabilities().transactions && !memory.capabilities().transactions);
    let health = container.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    assert!(health.details.contains_key("scheduler.rows"), "{health:?}");
    container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
    assert!(rows.trigger("kept").await.is_err(), "it is closed");
}

#[test]
fn typos_and_broken_rules_of_schedulers_are_listed_at_once() {
    let mut builder = Builder::new();
    builder.add(Scheduler::new());
    builder.add_as("local", Scheduler::new());
    builder.add_as("rows", Scheduler::new());
    let loader = Loader::new().with_defaults(
        "[scheduler]\nlaese = '5m'\nbackend = { kind = 'redis' }\n\
         [scheduler.local]\nlease = '1ms'\nbackend = { kind = 'memory' }\n\
         [scheduler.rows]\nbackend = { kind = 'database', databse = 'orders' }",
    );
    let error = builder.configure(&loader).unwrap_err().to_string();
    for expected in [
        "scheduler.laese: unknown key; did you mean `lease`?",
        "scheduler.backend.kind: expected one of `database`, `memory`",
        "scheduler.local.lease: 1ms is not between 1s and 1h",
        "scheduler.rows.backend.databse: unknown key; did you mean `database`?",
    ] {
        assert!(error.contains(expected), "{expected} is not in {error}");
    }
}

#[test]
fn what_schedulers_are_on_has_to_be_there() {
    let mut builder = Builder::new();
    builder.add(Scheduler::new());
    let backend = "[scheduler]\nbackend = { kind = 'database', database = 'orders' }";
    let error = builder.configure(&Loader::new().with_defaults(backend)).unwrap_err().to_string();
    assert!(error.contains("scheduler.backend.database"), "{error}");
    assert!(error.contains("db.orders"), "{error}");
    let container = Builder::new().configure(&Loader::new()).unwrap().build().unwrap();
    let error = container.scheduler().unwrap_err();
    assert!(
        matches!(&error, Error::Missing { key } if key == "scheduler.default"),
        "{}",
        Report(&error)
    );
}
