//! Ticks that are completed in a transaction of the host's.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use tempfile::TempDir;
use trine_core::{Deadline, ErrorKind, Rfc3339};
use trine_db_shard::{Database, Once};
use trine_scheduler::{
    Call, ClaimedTick, Definition, Finish, FinishOutcome, JobId, Overlap, SchedulerBackend,
    SqlBackend, Terms, TickState, once_in,
};
use trine_testkit::{Child, Rng};

use crate::sqlite;

pub(crate) const LONG: Duration = Duration::from_secs(3_600);
pub(crate) const SHORT: Duration = Duration::from_millis(300);
const BOUND: Duration = Duration::from_secs(60);

/// A process over a store, and a table of effects beside its ticks.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) store: SqlBackend,
    pub(crate) process: Arc<str>,
}

impl Peer {
    pub(crate) async fn new(process: &str, database: Database) -> Self {
        let store = SqlBackend::open(&"scheduler.default".into(), database);
        let peer = Self { store, process: process.into() };
        peer.store.beat(Call::new("beat"), &peer.process, LONG).await.unwrap();
        peer
    }

    pub(crate) fn db(&self) -> &Database {
        self.store.database()
    }

    pub(crate) async fn register(&self, job: &str, schedule: &str) {
        let mut terms = Terms::new(schedule.parse().unwrap());
        terms.overlap = Overlap::Allow { at_most: NonZeroU32::new(8).unwrap() };
        terms.takeovers = 1_000;
        let definition = Arc::new(Definition::new(id(job), 1, terms));
        let call = Call::new("register");
        self.store.register(call, &self.process, &[definition]).await.unwrap();
    }

    pub(crate) async fn trigger(&self, job: &str) {
        self.store.trigger(Call::new("trigger"), &id(job)).await.unwrap();
    }

    pub(crate) async fn claim(&self, ttl: Duration) -> Vec<ClaimedTick> {
        self.store.claim(Call::new("claim"), &self.process, ttl, 10).await.unwrap().ticks
    }

    pub(crate) async fn claim_one(&self, ttl: Duration) -> ClaimedTick {
        let mut ticks = self.claim(ttl).await;
        assert_eq!(ticks.len(), 1, "{ticks:?}");
        ticks.pop().unwrap()
    }

    pub(crate) async fn states(&self, job: &str) -> Vec<TickState> {
        let page = self.store.ticks(Call::new("ticks"), &id(job), None, 1_000).await.unwrap();
        page.ticks.into_iter().map(|tick| tick.state).collect()
    }

    async fn effects(&self) -> u64 {
        self.db().query_one("SELECT COUNT(*) FROM effect", ()).await.unwrap()
    }
}

pub(crate) fn id(job: &str) -> JobId {
    JobId::new(job).unwrap()
}

async fn with_effects(database: &Database) {
    database.execute("CREATE TABLE effect (nominal VARCHAR(40) NOT NULL)", ()).await.unwrap();
}

const EFFECT: &str = "INSERT INTO effect (nominal) VALUES (?)";

fn text(tick: &ClaimedTick) -> String {
    written(tick.nominal)
}

fn written(nominal: SystemTime) -> String {
    format!("{:.6}", Rfc3339(nominal))
}

async fn effects_are_committed_with_their_ticks(peer: Peer) {
    with_effects(peer.db()).await;
    peer.register("x", "once 9000-01-01T00:00:00Z").await;
    peer.trigger("x").await;
    let tick = peer.claim_one(LONG).await;

    let mut tx = peer.db().begin().await.unwrap();
    assert_eq!(peer.store.complete_in(&mut tx, &tick).await.unwrap(), Once::First);
    tx.execute(EFFECT, (text(&tick),)).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!((peer.states("x").await, peer.effects().await), (vec![TickState::Running], 0));

    let (store, claimed) = (&peer.store, &tick);
    let complete = |mut tx: trine_db_shard::Tx| async move {
        let once = store.complete_in(&mut tx, claimed).await.unwrap();
        if once == Once::First {
            tx.execute(EFFECT, (text(claimed),)).await?;
        }
        Ok::<_, trine_db_shard::Error>(once)
    };
    assert_eq!(peer.db().transaction(complete).await.unwrap(), Once::First);
    assert_eq!(peer.db().transaction(complete).await.unwrap(), Once::Repeated);
    assert_eq!((peer.states("x").await, peer.effects().await), (vec![TickState::Succeeded], 1));

    let end = Finish::new(&tick, trine_scheduler::AttemptEnd::Succeeded, None);
    let told = peer.store.finish(Call::new("finish"), &[end]).await.unwrap();
    assert_eq!(told, [FinishOutcome::Repeated]);
}

async fn a_replaced_attempt_commits_nothing(peer: Peer) {
    with_effects(peer.db()).await;
    peer.register("x", "once 9000-01-01T00:00:00Z").await;
    peer.trigger("x").await;
    let old = peer.claim_one(SHORT).await;
    tokio::time::sleep(SHORT + SHORT / 10).await;
    let new = peer.claim_one(LONG).await;
    assert_eq!(new.attempt, 2);

    let mut tx = peer.db().begin().await.unwrap();
    tx.execute(EFFECT, (text(&old),)).await.unwrap();
    let error = peer.store.complete_in(&mut tx, &old).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    // Whatever its owner makes of that.
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!((peer.states("x").await, peer.effects().await), (vec![TickState::Running], 0));
}

#[tokio::test]
async fn sqlite_commits_an_effect_with_its_tick() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::new("a", sqlite::database(&folder).await).await;
    effects_are_committed_with_their_ticks(peer).await;
}

#[tokio::test]
async fn sqlite_commits_nothing_of_a_replaced_attempt() {
    let folder = TempDir::new().unwrap();
    a_replaced_attempt_commits_nothing(Peer::new("a", sqlite::database(&folder).await).await).await;
}

#[tokio::test]
async fn mariadb_commits_an_effect_with_its_tick() {
    let database = crate::mariadb::database().await;
    let peer = Peer::new("a", crate::mariadb::handle(&database.url())).await;
    effects_are_committed_with_their_ticks(peer).await;
}

#[tokio::test]
async fn mariadb_commits_nothing_of_a_replaced_attempt() {
    let database = crate::mariadb::database().await;
    let peer = Peer::new("a", crate::mariadb::handle(&database.url())).await;
    a_replaced_attempt_commits_nothing(peer).await;
}

/// In whatever database.
#[tokio::test]
async fn an_effect_elsewhere_is_remembered_with_its_tick() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let peer = Peer::new("a", sqlite::database(&folder).await).await;
    let elsewhere = sqlite::database(&other).await;
    peer.register("x", "once 9000-01-01T00:00:00Z").await;
    peer.trigger("x").await;
    let tick = peer.claim_one(LONG).await;
    let service: Arc<str> = "scheduler.default".into();
    for expected in [Once::First, Once::Repeated] {
        let mut tx = elsewhere.begin().await.unwrap();
        assert_eq!(once_in(&service, &mut tx, &tick).await.unwrap(), expected);
        tx.commit().await.unwrap();
    }
    let rows: Vec<(String, String)> =
        elsewhere.query("SELECT consumer, message_id FROM trine_inbox", ()).await.unwrap();
    assert_eq!(rows, [("job.default/x".to_owned(), text(&tick))]);
}

#[tokio::test]
async fn a_transaction_on_another_database_is_refused() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let peer = Peer::new("a", sqlite::database(&folder).await).await;
    let elsewhere = sqlite::database(&other).await;
    peer.register("x", "once 9000-01-01T00:00:00Z").await;
    peer.trigger("x").await;
    let tick = peer.claim_one(LONG).await;
    let mut tx = elsewhere.begin().await.unwrap();
    let error = peer.store.complete_in(&mut tx, &tick).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let expected = "scheduler.default complete_in: the transaction is on database `jobs`, the \
                    ticks are on `jobs`: begin it there, or use `once_in`";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn a_database_without_the_tables_says_what_is_missing() {
    let folder = TempDir::new().unwrap();
    let name = trine_db_shard::DatabaseName::Named("bare".into());
    let file = trine_db_shard::SqliteConfig::new(folder.path().join("bare.db"));
    let engine = trine_db_shard::SqliteBackend::open(&name, &file).unwrap();
    let config = trine_db_shard::DbConfig::sqlite(folder.path(), 0);
    let database = Database::with_backend("bare", engine, &config);
    let store = SqlBackend::open(&"scheduler.default".into(), database);
    let error = store.prove(Call::new("start")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("`trine-scheduler`"), "{error}");
}

/// How long a child waits before each commit.
const HOLD: Duration = Duration::from_millis(60);

const CHILD: &str = "complete::child_that_completes_ticks_until_it_is_killed";

/// Completes what is due, each with its effect, and waits for so long before the
/// commit.
async fn work(peer: &Peer, ttl: Duration, hold: Duration) {
    peer.store.plan(Call::new("plan"), &peer.process, SHORT, 10).await.unwrap();
    for tick in peer.claim(ttl).await {
        let (store, tick) = (&peer.store, &tick);
        let completed = peer.db().transaction(|mut tx| async move {
            tx.execute(EFFECT, (text(tick),)).await?;
            let once = store.complete_in(&mut tx, tick).await.unwrap();
            assert_eq!(once, Once::First);
            if !hold.is_zero() {
                println!("holding");
                tokio::time::sleep(hold).await;
            }
            Ok::<_, trine_db_shard::Error>(())
        });
        completed.await.unwrap();
    }
}

#[tokio::test]
#[ignore = "the child of another test: works in its folder until it is killed"]
async fn child_that_completes_ticks_until_it_is_killed() {
    let folder = env::current_dir().unwrap();
    if !folder.join("victim").exists() {
        return;
    }
    let process = fs::read_to_string(folder.join("victim")).unwrap();
    let peer = Peer::new(&process, sqlite::database_in(&folder).await).await;
    peer.register("x", "every 10ms").await;
    for _ in 0..20 {
        work(&peer, SHORT, Duration::ZERO).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    loop {
        work(&peer, SHORT, HOLD).await;
    }
}

/// Wherever a process is killed, each tick has its effect once.
#[tokio::test]
async fn a_killed_process_has_each_effect_once() {
    let folder = TempDir::new().unwrap();
    let database = sqlite::database(&folder).await;
    with_effects(&database).await;
    database.shutdown(Deadline::after(BOUND)).await.unwrap();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    println!("seed {seed}");
    let mut rng = Rng::seeded(seed);
    for round in 0..5 {
        fs::write(folder.path().join("victim"), format!("victim-{round}")).unwrap();
        let child = Child::builder(env::current_exe().unwrap())
            .args([CHILD, "--exact", "--ignored", "--nocapture"])
            .folder(folder.path())
            .spawn()
            .unwrap();
        child.wait_for_log("holding", BOUND).await.unwrap();
        tokio::time::sleep(Duration::from_micros(rng.below(100_000))).await;
        child.kill().await.unwrap();
    }
    let peer = Peer::new("heir", sqlite::database(&folder).await).await;
    peer.register("x", "every 10ms").await;
    // What was left is taken over once its lease is over.
    tokio::time::sleep(SHORT).await;
    while peer.states("x").await.contains(&TickState::Running) {
        work(&peer, LONG, Duration::ZERO).await;
    }
    let found: Vec<(String, u64)> =
        peer.db().query("SELECT nominal, COUNT(*) FROM effect GROUP BY nominal", ()).await.unwrap();
    let found: BTreeMap<_, _> = found.into_iter().collect();
    let page = peer.store.ticks(Call::new("ticks"), &id("x"), None, 1_000).await.unwrap();
    let done = page.ticks.iter().filter(|tick| tick.state == TickState::Succeeded);
    let done: BTreeMap<_, _> = done.map(|tick| (written(tick.nominal), 1)).collect();
    assert!(page.ticks.iter().any(|tick| tick.attempts.len() > 1), "nothing was taken over");
    assert!(!done.is_empty());
    assert_eq!(found, done);
}
