//! Processes of their own over one MariaDB, which are killed, stopped and cut
//! off while jobs run, and what is found of that afterwards.

mod audit;
mod cuts;
mod member;
mod planner_kill;
mod skew;
mod stops;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use trine_db_shard::{Database, Timestamp};
use trine_scheduler::{Call, JobId, SchedulerBackend, SqlBackend, Tick, migrations};
use trine_testkit::{Child, TestDatabase};

use self::audit::Audit;
use self::member::{Effect, Task};
use crate::mariadb::handle;

/// Until what must happen has happened, on a machine that is busy.
const BOUND: Duration = Duration::from_secs(60);

/// How often somebody looks whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// Processes with the same jobs, and the database that they share.
struct Fleet {
    store: SqlBackend,
    task: Task,
    members: Vec<Member>,
    joined: usize,
    /// By the clock of the database, after the jobs were registered.
    from: Option<SystemTime>,
    /// For what is left to be done at the end.
    patience: Duration,
    folder: TempDir,
    database: TestDatabase,
}

/// One of the processes.
struct Member {
    child: Child,
    /// As the store knows it.
    process: String,
}

impl Member {
    /// Until it has said so.
    async fn says(&self, text: &str) -> String {
        self.child.wait_for_log(text, BOUND).await.unwrap()
    }
}

impl Fleet {
    /// A database with the tables, and nobody on it.
    async fn over(database: TestDatabase, task: Task) -> Self {
        let db = handle(&database.url());
        db.migrate_with(&migrations()).await.unwrap();
        audit::prepare(&db).await;
        let store = SqlBackend::open(&"scheduler.default".into(), db);
        let folder = TempDir::new().unwrap();
        let (members, joined, from, patience) = (Vec::new(), 0, None, BOUND);
        Self { store, task, members, joined, from, patience, folder, database }
    }

    /// On the server that the tests share.
    async fn new(task: Task) -> Self {
        let server = trine_testkit::MariaDb::shared().await.unwrap();
        Self::over(server.database().await.unwrap(), task).await
    }

    fn db(&self) -> &Database {
        self.store.database()
    }

    /// One more process, as soon as it plans and runs.
    async fn join(&mut self) {
        let url = self.database.url();
        self.join_with(&url, 0).await;
    }

    /// One more process, which reaches the database so, and whose wall clock is
    /// so many seconds ahead.
    async fn join_with(&mut self, url: &str, ahead: i64) {
        let child = self.spawn(url, ahead);
        let line = child.wait_for_log("ready ", BOUND).await.unwrap();
        let process = line.rsplit("ready ").next().unwrap().trim().to_owned();
        self.members.push(Member { child, process });
        if self.from.is_none() {
            self.from = Some(self.now().await);
        }
    }

    fn spawn(&mut self, url: &str, ahead: i64) -> Child {
        self.joined += 1;
        let own: PathBuf = self.folder.path().join(self.joined.to_string());
        fs::create_dir(&own).unwrap();
        let task = Task { url: url.to_owned(), ..self.task.clone() };
        fs::write(own.join(member::TASK), serde_json::to_string(&task).unwrap()).unwrap();
        let child = Child::builder(env::current_exe().unwrap())
            .args([member::CHILD, "--exact", "--ignored", "--nocapture"])
            .log_to(own.join("log"))
            .folder(own);
        let child = if ahead == 0 { child } else { child.clock(ahead) };
        child.spawn().unwrap()
    }

    /// The member that plans, once one of them does.
    async fn planner(&self) -> usize {
        self.planner_but("").await
    }

    /// The member that plans, once another than `process` does.
    async fn planner_but(&self, process: &str) -> usize {
        let found = async {
            loop {
                let overview = self.store.overview(Call::new("overview")).await;
                // The store may be away.
                let planner = overview.ok().and_then(|overview| overview.planner);
                let planner = planner.filter(|planner| **planner != *process);
                let of_planner =
                    |member: &Member| planner.as_deref() == Some(member.process.as_str());
                if let Some(found) = self.members.iter().position(of_planner) {
                    return found;
                }
                sleep(LOOK).await;
            }
        };
        timeout(BOUND, found).await.expect("nobody plans")
    }

    /// Takes a member out of the fleet.
    fn leave(&mut self, member: usize) -> Member {
        self.members.remove(member)
    }

    /// What the clock of the database shows.
    async fn now(&self) -> SystemTime {
        let now: Timestamp = self.db().query_one("SELECT UTC_TIMESTAMP(6)", ()).await.unwrap();
        now.into()
    }

    /// Until all is over that was due until now, and what is found then.
    async fn audit(&self) -> Audit {
        let until = self.now().await;
        let text = "SELECT (SELECT COUNT(*) FROM trine_tick WHERE ended_at IS NULL AND nominal <= ?) \
                    + (SELECT COUNT(*) FROM trine_job WHERE next_at <= ?)";
        let at = Timestamp::from(until);
        self.within(self.patience, "all that was due is over", async || {
            let open: u64 = self.db().query_one(text, (at, at)).await.unwrap();
            open == 0
        })
        .await;
        Audit::of(self, until).await
    }

    async fn until(&self, what: &str, is_so: impl AsyncFnMut() -> bool) {
        self.within(BOUND, what, is_so).await;
    }

    async fn within(&self, bound: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let waits = async {
            while !is_so().await {
                sleep(LOOK).await;
            }
        };
        if timeout(bound, waits).await.is_err() {
            let logs: Vec<_> = self.members.iter().map(|member| member.child.log()).collect();
            panic!("not in time: {what}: {logs:#?}");
        }
    }

    /// All ticks of a job, the first one first.
    async fn ticks(&self, job: &JobId) -> Vec<Tick> {
        let (mut ticks, mut before) = (Vec::new(), None);
        loop {
            let page = self.store.ticks(Call::new("ticks"), job, before, 1_000).await.unwrap();
            ticks.extend(page.ticks);
            before = page.next;
            if before.is_none() {
                ticks.reverse();
                return ticks;
            }
        }
    }

    /// Runs the first job once, at once.
    async fn trigger(&self) {
        self.store.trigger(Call::new("trigger"), &member::job(0)).await.unwrap();
    }
}

/// A task of so many jobs that all run at each whole second.
fn each_second(jobs: u32) -> Task {
    Task::new(jobs, "every 1s")
}

/// A task of one job that runs when it is told to.
fn when_told() -> Task {
    Task::new(1, "once 9000-01-01T00:00:00Z")
}
