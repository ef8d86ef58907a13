//! The primary dies around a commit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use futures_util::TryStreamExt;
use tokio::task::JoinSet;
use trine_db_shard::{Database, Error, Ticket, Tx};
use trine_testkit::{Ledger, SoakPlan};

use super::*;

/// Longer than a commit asks after its lost reply.
const BOUND: Duration = Duration::from_secs(50);

const INSERT: &str = "INSERT INTO item VALUES (?)";

/// How far a commit gets before its server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// It is on its way and never arrives.
    Sent,
    /// It has happened, and its reply is on its way.
    Done,
}

/// Commits `tx` and kills the server once the commit has got that far. The
/// commit's answer is there or not when this returns to `after`.
async fn commit_and_kill<T>(
    server: &MariaDb,
    behind: &Behind,
    tx: Tx,
    reach: Reach,
    after: impl AsyncFnOnce() -> T,
) -> (Result<()>, T) {
    match reach {
        Reach::Sent => behind.proxy.set_requests(Flow::Hang),
        Reach::Done => behind.proxy.set_replies(Flow::Hang),
    }
    let killing = async {
        if reach == Reach::Done {
            let mut witness = MySqlConnection::connect(&behind.far.url()).await.unwrap();
            let count = "SELECT COUNT(*) FROM item";
            while sqlx::query_scalar::<_, i64>(count).fetch_one(&mut witness).await.unwrap() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        }
        server.kill().await.unwrap();
        behind.proxy.kill_all();
        behind.proxy.set(Flow::Pass);
        after().await
    };
    // The commit goes first: it is sent before the server dies.
    tokio::join!(biased; tx.commit(), killing)
}

async fn rows(shard: &Database) -> i64 {
    shard.query_one("SELECT COUNT(*) FROM item", ()).await.unwrap()
}

/// A server of its own, and a service that has a table there.
async fn served() -> (MariaDb, Behind, DbService) {
    let server = MariaDb::start().await.unwrap();
    let behind = Behind::new(&server).await;
    let service = DbService::connect(&behind.config()).await.unwrap();
    create(&service).await;
    (server, behind, service)
}

/// Asks until somebody answers.
async fn outcome(shard: &Database, ticket: Ticket) -> Outcome {
    let asking = async {
        loop {
            match shard.outcome(ticket).await {
                Ok(Outcome::Running) => {}
                Ok(outcome) => return outcome,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, asking).await.unwrap()
}

// DB-15
#[trine_testkit::test(timeout = "300s")]
async fn a_primary_that_dies_in_a_commit_and_stays_away_leaves_a_ticket() {
    for reach in [Reach::Sent, Reach::Done] {
        let (server, behind, service) = served().await;
        let far = service.shard(0).unwrap();
        let mut tx = far.begin_with(&TxOptions::default().with_ticket()).await.unwrap();
        let ticket = tx.ticket().await.unwrap();
        tx.execute(INSERT, (1,)).await.unwrap();
        assert_eq!(far.outcome(ticket).await.unwrap(), Outcome::Running);
        let (committed, ()) = commit_and_kill(&server, &behind, tx, reach, async || ()).await;
        let error = committed.unwrap_err();
        let Error::OutcomeUnknown { ticket: Some(found), .. } = &error else {
            panic!("{reach:?}: {error:?}");
        };
        assert_eq!(*found, ticket);
        assert!(!error.is_retryable());

        server.restart().await.unwrap();
        let expected = match reach {
            Reach::Sent => (Outcome::RolledBack, 0),
            Reach::Done => (Outcome::Committed, 1),
        };
        assert_eq!((outcome(&far, ticket).await, rows(&far).await), expected, "{reach:?}");
    }
}

// DB-15
#[trine_testkit::test(timeout = "300s")]
async fn a_primary_that_dies_in_a_commit_and_comes_back_is_asked() {
    for reach in [Reach::Sent, Reach::Done] {
        let (server, behind, service) = served().await;
        let far = service.shard(0).unwrap();
        let mut tx = far.begin_with(&TxOptions::default().with_ticket()).await.unwrap();
        let ticket = tx.ticket().await.unwrap();
        tx.execute(INSERT, (1,)).await.unwrap();
        let restart = async || server.restart().await.unwrap();
        let (committed, ()) = commit_and_kill(&server, &behind, tx, reach, restart).await;
        // A machine that is slow with the restart leaves the ticket.
        match (reach, committed) {
            (_, Err(Error::OutcomeUnknown { ticket: Some(found), .. })) if found == ticket => {}
            (Reach::Sent, Err(Error::Interrupted { .. })) | (Reach::Done, Ok(())) => {}
            wrong => panic!("{wrong:?}"),
        }
        let expected = match reach {
            Reach::Sent => (Outcome::RolledBack, 0),
            Reach::Done => (Outcome::Committed, 1),
        };
        assert_eq!((outcome(&far, ticket).await, rows(&far).await), expected, "{reach:?}");
    }
}

// DB-15
#[trine_testkit::test(timeout = "300s")]
async fn without_a_ticket_a_primary_that_dies_in_a_commit_leaves_no_answer() {
    for reach in [Reach::Sent, Reach::Done] {
        let (server, behind, service) = served().await;
        let far = service.shard(0).unwrap();
        let mut tx = far.begin().await.unwrap();
        tx.execute(INSERT, (1,)).await.unwrap();
        let restart = async || server.restart().await.unwrap();
        let (committed, ()) = commit_and_kill(&server, &behind, tx, reach, restart).await;
        let error = committed.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { ticket: None, .. }), "{error:?}");
        assert!(!error.is_retryable());
        answers(&service, 0, BOUND).await;
        assert_eq!(rows(&far).await, i64::from(reach == Reach::Done), "{reach:?}");
    }
}

/// What the writers were told.
#[derive(Default)]
struct Tally {
    committed: AtomicU64,
    /// By the database, after the reply was lost.
    answered: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn ambiguous(&self) -> u64 {
        self.answered.load(Ordering::Relaxed) + self.unknown.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} committed, {} asked for afterwards, {} unknown, {} refused",
            of(&self.committed),
            of(&self.answered),
            of(&self.unknown),
            of(&self.refused)
        )
    }
}

/// Writes rows with and without tickets until it is over.
async fn write_on(
    service: DbService,
    next: Arc<AtomicI64>,
    ledger: Arc<Ledger>,
    tally: Arc<Tally>,
    is_over: Arc<AtomicBool>,
) {
    while !is_over.load(Ordering::Relaxed) {
        let id = next.fetch_add(1, Ordering::Relaxed);
        let shard = service.shard(u32::from(id % 2 == 0)).unwrap();
        ledger.attempt(id).unwrap();
        let written = async {
            let mut tx = shard.begin().await?;
            if id % 3 == 0 {
                tx.ticket().await?;
            }
            tx.execute(INSERT, (id,)).await?;
            Ok(tx)
        };
        let tx = match written.await {
            Ok(tx) => tx,
            Err(error) => {
                let error: Error = error;
                assert_ne!(error.kind(), ErrorKind::OutcomeUnknown, "nothing was committed");
                ledger.refuse(id).unwrap();
                Tally::count(&tally.refused);
                sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        match tx.commit().await {
            Ok(()) => {
                ledger.acknowledge(id).unwrap();
                Tally::count(&tally.committed);
            }
            Err(Error::OutcomeUnknown { ticket: Some(ticket), .. }) => {
                match outcome(&shard, ticket).await {
                    Outcome::Committed => ledger.acknowledge(id).unwrap(),
                    Outcome::RolledBack => ledger.refuse(id).unwrap(),
                    other => panic!("{other:?}"),
                }
                Tally::count(&tally.answered);
            }
            Err(Error::OutcomeUnknown { ticket: None, .. }) => Tally::count(&tally.unknown),
            Err(_) => {
                ledger.refuse(id).unwrap();
                Tally::count(&tally.refused);
            }
        }
    }
}

/// Kills the server at random moments under load. What a commit was told is
/// what is found, and what nobody was told is a part of the figures.
#[expect(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
async fn kill_the_primary() {
    let mut plan = SoakPlan::new("primary_kill", 6).unwrap();
    let (server, behind, service) = served().await;
    // Commits are on their way for long enough to be met there.
    behind.proxy.set_replies(Flow::Delay(Duration::from_millis(10)));
    let (ledger, tally) = (Arc::new(Ledger::in_memory()), Arc::new(Tally::default()));
    let (next, is_over) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let (next, ledger, tally) = (Arc::clone(&next), Arc::clone(&ledger), Arc::clone(&tally));
        writers.spawn(write_on(service.clone(), next, ledger, tally, Arc::clone(&is_over)));
    }
    while plan.next_round().is_some() {
        let before = tally.committed.load(Ordering::Relaxed);
        let writing = async {
            while tally.committed.load(Ordering::Relaxed) < before + 100 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(BOUND, writing).await.expect("the writers came back");
        sleep(Duration::from_micros(plan.rng().below(30_000))).await;
        server.kill().await.unwrap();
        // Every fourth time it stays away for longer than a commit asks.
        if plan.rng().one_in(4) {
            sleep(Duration::from_secs(6)).await;
        }
        server.restart().await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let mut found: Vec<i64> = Vec::new();
    for shard in [0, 1] {
        answers(&service, shard, BOUND).await;
        let shard = service.shard(shard).unwrap();
        let mut ids = shard.stream::<i64>("SELECT id FROM item", ());
        while let Some(id) = ids.try_next().await.unwrap() {
            found.push(id);
        }
    }
    let audit = ledger.check(found);
    println!("{} kills, seed {}: {tally}; {audit}", plan.rounds(), plan.seed());
    assert!(audit.is_clean(), "{audit}");
    assert!(tally.ambiguous() > 0, "no kill met a commit: {tally}");
}

// DB-15
#[trine_testkit::test(timeout = "300s", threads = 4)]
async fn commits_around_a_kill_are_as_they_were_told() {
    kill_the_primary().await;
}

// DB-15
#[trine_testkit::test(timeout = "3000m", threads = 4)]
#[ignore = "long form: cargo xtask soak primary_kill --minutes 60"]
async fn soak_primary_kill() {
    kill_the_primary().await;
}
