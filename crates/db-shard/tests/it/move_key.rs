//! A key moves while it is used: nothing is lost, nothing stays behind.

mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use trine_core::{ErrorKind, ManualClock, Report, Span};
use trine_db_shard::conformance::Fixture;
use trine_db_shard::{
    AbortOutcome, DbDeps, DbService, Error, KeyShard, Move, MoveOutcome, Result, ShardId, ShardKey,
    ShardStatus, TxOptions, Unavailable,
};
use trine_testkit::DropPlan;

use crate::routing::{mariadb, on_both_engines, sqlite};

on_both_engines!(
    a_move_brings_every_row_and_removes_the_old_ones(3),
    writes_are_refused_and_reads_served_while_moving(2),
    what_cannot_be_moved_is_refused(3),
    an_aborted_move_gives_the_key_back(2),
    a_replaced_move_changes_nothing(2),
    a_failed_copy_is_repeated(2),
    a_removal_that_was_cut_off_is_finished(3),
    a_move_survives_a_drop_at_every_await(2),
);

/// Leases short enough to be waited for.
fn brief(fixture: Fixture) -> Fixture {
    leased(fixture, 300)
}

fn leased(fixture: Fixture, millis: u64) -> Fixture {
    fixture.with(|config| {
        config.map.refresh = Span::millis(millis / 4);
        config.map.lease = Span::millis(millis);
    })
}

async fn start(fixture: &Fixture) -> DbService {
    let db = fixture.start().await;
    let table =
        "CREATE TABLE entry (id VARCHAR(64) NOT NULL PRIMARY KEY, owner VARCHAR(64) NOT NULL)";
    // Without it a removal would lock the rows of other keys.
    let index = "CREATE INDEX entry_owner ON entry (owner)";
    for statement in [table, index] {
        db.fan_out().execute(statement, ()).await.unwrap().into_complete().unwrap();
    }
    db
}

const INSERT: &str = "INSERT INTO entry (id, owner) VALUES (?, ?)";
const OF: &str = "SELECT id FROM entry WHERE owner = ? ORDER BY id";

/// Makes the target's rows of `owner` equal to the source's.
async fn copy(step: Move, owner: String) -> Result<()> {
    let ids: Vec<String> = step.source().query(OF, (owner.as_str(),)).await?;
    let (ids, owner) = (&ids, owner.as_str());
    step.write(|mut tx| async move {
        tx.execute("DELETE FROM entry WHERE owner = ?", (owner,)).await?;
        for id in ids {
            tx.execute(INSERT, (id.as_str(), owner)).await?;
        }
        Ok(())
    })
    .await
}

async fn remove(step: Move, owner: String) -> Result<()> {
    let owner = owner.as_str();
    step.write(|mut tx| async move {
        tx.execute("DELETE FROM entry WHERE owner = ?", (owner,)).await?;
        Ok(())
    })
    .await
}

/// Moves a key with all its rows and removes the old ones.
async fn relocate(db: &DbService, owner: &str, to: u32) -> Result<MoveOutcome> {
    let (copied, removed) = (owner.to_owned(), owner.to_owned());
    db.move_key(owner, to, move |step| copy(step, copied.clone()))
        .then_remove(move |step| remove(step, removed.clone()))
        .await
}

/// Every row of `owner`, with the shard it is on.
async fn rows(db: &DbService, owner: &str) -> Vec<(u32, String)> {
    let found = db.fan_out().query::<String>(OF, (owner,)).await.unwrap();
    found.rows.into_iter().map(|(shard, id)| (shard.get(), id)).collect()
}

fn expected(shard: u32, ids: &[&str]) -> Vec<(u32, String)> {
    ids.iter().map(|id| (shard, (*id).to_owned())).collect()
}

fn is_moving(error: &Error) -> bool {
    matches!(error, Error::Unavailable { reason: Unavailable::Moving, .. })
}

async fn insert(handle: &KeyShard, id: &str, owner: &str) -> Result<()> {
    handle.execute(INSERT, (id, owner)).await.map(|_| ())
}

async fn insert_in_transaction(handle: &KeyShard, id: &str, owner: &str) -> Result<()> {
    handle
        .transaction(|mut tx| async move {
            tx.execute(INSERT, (id, owner)).await?;
            Ok(())
        })
        .await
}

async fn a_move_brings_every_row_and_removes_the_old_ones(fixture: Fixture) {
    let fixture = brief(fixture);
    let db = start(&fixture).await;
    db.assign_to("ada", 0).await.unwrap();
    db.assign_to("bob", 0).await.unwrap();
    let handle = db.for_key("ada").await.unwrap();
    insert(&handle, "a1", "ada").await.unwrap();
    insert_in_transaction(&handle, "a2", "ada").await.unwrap();
    insert(&db.for_key("bob").await.unwrap(), "b1", "bob").await.unwrap();

    assert_eq!(relocate(&db, "ada", 2).await.unwrap(), MoveOutcome::Moved);
    assert_eq!(db.shard_of("ada").await.unwrap(), Some(ShardId::new(2)));
    assert_eq!(rows(&db, "ada").await, expected(2, &["a1", "a2"]));
    assert_eq!(rows(&db, "bob").await, expected(0, &["b1"]));

    // The old handle follows, and the key can go on and come back.
    insert(&handle, "a3", "ada").await.unwrap();
    insert_in_transaction(&handle, "a4", "ada").await.unwrap();
    assert_eq!(rows(&db, "ada").await, expected(2, &["a1", "a2", "a3", "a4"]));
    assert_eq!(relocate(&db, "ada", 2).await.unwrap(), MoveOutcome::AlreadyThere);
    for to in [1, 0, 2, 0] {
        assert_eq!(relocate(&db, "ada", to).await.unwrap(), MoveOutcome::Moved);
        let id = format!("at {to}");
        let delete = "DELETE FROM entry WHERE id = ?";
        handle.execute(delete, (id.as_str(),)).await.unwrap();
        insert_in_transaction(&handle, &id, "ada").await.unwrap();
        assert!(rows(&db, "ada").await.iter().all(|(shard, _)| *shard == to));
    }
    assert_eq!(rows(&db, "ada").await.len(), 7);
}

/// A move whose copy waits until it is let go.
struct Held {
    task: JoinSet<Result<MoveOutcome>>,
    go: Arc<Notify>,
}

impl Held {
    /// Returns once the copy has read the source and not written yet.
    async fn begin(db: &DbService, owner: &'static str, to: u32) -> Self {
        let (reached, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (is_reached, lets_go) = (Arc::clone(&reached), Arc::clone(&go));
        let db = db.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let held = move |step: Move| {
                let (reached, go) = (Arc::clone(&is_reached), Arc::clone(&lets_go));
                async move {
                    let ids: Vec<String> = step.source().query(OF, (owner,)).await?;
                    reached.notify_one();
                    go.notified().await;
                    let ids = &ids;
                    step.write(|mut tx| async move {
                        tx.execute("DELETE FROM entry WHERE owner = ?", (owner,)).await?;
                        for id in ids {
                            tx.execute(INSERT, (id.as_str(), owner)).await?;
                        }
                        Ok::<_, Error>(())
                    })
                    .await
                }
            };
            db.move_key(owner, to, held).await
        });
        reached.notified().await;
        Self { task, go }
    }

    async fn finish(mut self) -> Result<MoveOutcome> {
        self.go.notify_one();
        self.task.join_next().await.unwrap().unwrap()
    }
}

async fn writes_are_refused_and_reads_served_while_moving(fixture: Fixture) {
    let fixture = brief(fixture);
    let db = start(&fixture).await;
    db.assign_to("ada", 0).await.unwrap();
    let handle = db.for_key("ada").await.unwrap();
    insert(&handle, "a1", "ada").await.unwrap();

    let held = Held::begin(&db, "ada", 1).await;
    for refused in [
        insert(&handle, "no", "ada").await,
        insert_in_transaction(&handle, "no", "ada").await,
        handle.begin().await.map(|_| ()),
        insert(&db.for_key("ada").await.unwrap(), "no", "ada").await,
    ] {
        let error = refused.unwrap_err();
        assert!(is_moving(&error), "{}", Report(&error));
        assert!(error.is_retryable());
    }
    assert_eq!(db.shard_of("ada").await.unwrap(), Some(ShardId::new(0)));
    assert_eq!(handle.query::<String>(OF, ("ada",)).await.unwrap(), ["a1"]);
    let read: Vec<String> = handle
        .transaction_with(&TxOptions::default().read_only(), |mut tx| async move {
            tx.query(OF, ("ada",)).await
        })
        .await
        .unwrap_or_else(|error: Error| panic!("{}", Report(&error)));
    assert_eq!(read, ["a1"]);

    assert_eq!(held.finish().await.unwrap(), MoveOutcome::Moved);
    insert(&handle, "a2", "ada").await.unwrap();
    assert_eq!(handle.query::<String>(OF, ("ada",)).await.unwrap(), ["a1", "a2"]);
}

async fn what_cannot_be_moved_is_refused(fixture: Fixture) {
    let fixture = brief(fixture);
    let db = start(&fixture).await;
    let kind = |result: Result<MoveOutcome>| result.unwrap_err().kind();
    assert_eq!(kind(relocate(&db, "nobody", 1).await), ErrorKind::NotFound);
    db.assign_to("ada", 0).await.unwrap();
    assert_eq!(kind(relocate(&db, "ada", 9).await), ErrorKind::NotFound);
    assert_eq!(kind(relocate(&db, "", 1).await), ErrorKind::Invalid);
    for status in [ShardStatus::Draining, ShardStatus::ReadOnly, ShardStatus::Offline] {
        db.set_shard_status(1, status).await.unwrap();
        let error = relocate(&db, "ada", 1).await.unwrap_err();
        assert!(error.to_string().contains(&format!("shard 1: the shard is {status}")), "{error}");
    }
    db.set_shard_status(0, ShardStatus::ReadOnly).await.unwrap();
    assert_eq!(kind(relocate(&db, "ada", 2).await), ErrorKind::Unavailable);
    // A shard that is being emptied is left by moves.
    db.set_shard_status(0, ShardStatus::Draining).await.unwrap();
    let held = Held::begin(&db, "ada", 2).await;
    db.set_shard_status(0, ShardStatus::Active).await.unwrap();
    let error = relocate(&db, "ada", 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("moved to shard 2"), "{error}");
    held.finish().await.unwrap();
    assert_eq!(db.shard_of("ada").await.unwrap(), Some(ShardId::new(2)));
}

async fn an_aborted_move_gives_the_key_back(fixture: Fixture) {
    let fixture = brief(fixture);
    let db = start(&fixture).await;
    assert_eq!(db.abort_move("ada").await.unwrap_err().kind(), ErrorKind::NotFound);
    db.assign_to("ada", 0).await.unwrap();
    assert_eq!(db.abort_move("ada").await.unwrap(), AbortOutcome::NotMoving);
    let handle = db.for_key("ada").await.unwrap();
    insert(&handle, "a1", "ada").await.unwrap();

    let held = Held::begin(&db, "ada", 1).await;
    assert_eq!(db.abort_move("ada").await.unwrap(), AbortOutcome::Aborted);
    insert(&handle, "a2", "ada").await.unwrap();
    insert_in_transaction(&handle, "a3", "ada").await.unwrap();
    // The copy wakes up, and neither writes nor switches.
    let error = held.finish().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", Report(&error));
    assert_eq!(rows(&db, "ada").await, expected(0, &["a1", "a2", "a3"]));
    assert_eq!(db.abort_move("ada").await.unwrap(), AbortOutcome::NotMoving);
    relocate(&db, "ada", 1).await.unwrap();
    assert_eq!(rows(&db, "ada").await, expected(1, &["a1", "a2", "a3"]));
}

async fn a_replaced_move_changes_nothing(fixture: Fixture) {
    let fixture = brief(fixture);
    let db = start(&fixture).await;
    db.assign_to("ada", 0).await.unwrap();
    let handle = db.for_key("ada").await.unwrap();
    insert(&handle, "a1", "ada").await.unwrap();
    let held = Held::begin(&db, "ada", 1).await;
    // As if the first process had been taken for dead.
    assert_eq!(relocate(&db, "ada", 1).await.unwrap(), MoveOutcome::Moved);
    insert(&handle, "a2", "ada").await.unwrap();
    let error = held.finish().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", Report(&error));
    assert_eq!(rows(&db, "ada").await, expected(1, &["a1", "a2"]));
    insert_in_transaction(&handle, "a3", "ada").await.unwrap();
}

async fn a_failed_copy_is_repeated(fixture: Fixture) {
    let fixture = brief(fixture);
    let db = start(&fixture).await;
    db.assign_to("ada", 0).await.unwrap();
    insert(&db.for_key("ada").await.unwrap(), "a1", "ada").await.unwrap();

    #[derive(Debug, thiserror::Error)]
    enum HostError {
        #[error("the disk of the host is full")]
        DiskFull,
        #[error(transparent)]
        Db(#[from] Error),
    }
    let failing = |step: Move| async move {
        // What a failed attempt leaves behind must not survive the next one.
        step.write(|mut tx| async move {
            tx.execute(INSERT, ("rest", "ada")).await?;
            Ok::<_, HostError>(())
        })
        .await?;
        Err(HostError::DiskFull)
    };
    let error = db.move_key("ada", 1, failing).await.unwrap_err();
    assert!(matches!(error, HostError::DiskFull), "{error}");
    let refused = insert(&db.for_key("ada").await.unwrap(), "no", "ada").await.unwrap_err();
    assert!(is_moving(&refused));
    assert_eq!(relocate(&db, "ada", 1).await.unwrap(), MoveOutcome::Moved);
    assert_eq!(rows(&db, "ada").await, expected(1, &["a1"]));
}

async fn a_removal_that_was_cut_off_is_finished(fixture: Fixture) {
    let fixture = brief(fixture);
    let db = start(&fixture).await;
    db.assign_to("ada", 0).await.unwrap();
    insert(&db.for_key("ada").await.unwrap(), "a1", "ada").await.unwrap();
    let owner = |step| copy(step, "ada".to_owned());
    assert_eq!(db.move_key("ada", 1, owner).await.unwrap(), MoveOutcome::Moved);
    assert_eq!(db.move_key("ada", 2, owner).await.unwrap(), MoveOutcome::Moved);
    assert_eq!(rows(&db, "ada").await.len(), 3, "nothing was to be removed");
    assert_eq!(relocate(&db, "ada", 2).await.unwrap(), MoveOutcome::AlreadyThere);
    assert_eq!(rows(&db, "ada").await, expected(2, &["a1"]));
    let handle = db.for_key("ada").await.unwrap();
    insert_in_transaction(&handle, "a2", "ada").await.unwrap();
    // There is nothing left to do.
    let never = |_: Move| async { panic!("nothing is left") };
    let again = db.move_key("ada", 2, owner).then_remove(never).await;
    assert_eq!(again.unwrap(), MoveOutcome::AlreadyThere);
}

// DB-23
/// A process whose clock stands still acts on what it knew for ever: only the
/// rows in the shards can tell it.
#[trine_testkit::test(timeout = "120s")]
async fn a_stale_process_cannot_begin_a_transaction_on_the_old_shard() {
    let fixture = brief(mariadb(2).await);
    let db = start(&fixture).await;
    let stopped = Arc::new(ManualClock::new());
    let stale = fixture.start_with(DbDeps::default().with_clock(stopped)).await;
    for key in ["ada", "bob"] {
        db.assign_to(key, 0).await.unwrap();
    }
    let ada = stale.for_key("ada").await.unwrap();
    let bob = stale.for_key("bob").await.unwrap();
    insert_in_transaction(&ada, "a1", "ada").await.unwrap();

    let held = Held::begin(&db, "ada", 1).await;
    let error = insert_in_transaction(&ada, "no", "ada").await.unwrap_err();
    assert!(is_moving(&error), "{}", Report(&error));
    held.finish().await.unwrap();
    insert_in_transaction(&ada, "a2", "ada").await.unwrap();
    let mut tx = ada.begin().await.unwrap();
    tx.execute(INSERT, ("a3", "ada")).await.unwrap();
    tx.commit().await.unwrap();

    // Away and back again: the old look is refused and made anew.
    relocate(&db, "bob", 1).await.unwrap();
    relocate(&db, "bob", 0).await.unwrap();
    insert_in_transaction(&bob, "b1", "bob").await.unwrap();
    assert_eq!(rows(&db, "bob").await, expected(0, &["b1"]));
    let found: Vec<_> =
        rows(&db, "ada").await.into_iter().filter(|(shard, _)| *shard == 1).collect();
    assert_eq!(found, expected(1, &["a1", "a2", "a3"]));
}

/// A move waits for the transactions of the key that are under way, and for no
/// others.
#[trine_testkit::test(timeout = "120s")]
async fn a_move_waits_for_transactions_of_its_key() {
    let fixture = brief(mariadb(2).await);
    let db = start(&fixture).await;
    for key in ["ada", "bob"] {
        db.assign_to(key, 0).await.unwrap();
    }
    let ada = db.for_key("ada").await.unwrap();
    let bob = db.for_key("bob").await.unwrap();
    // Two of one key side by side.
    let mut first = ada.begin().await.unwrap();
    let mut second = ada.begin().await.unwrap();
    let mut other = bob.begin().await.unwrap();
    first.execute(INSERT, ("a1", "ada")).await.unwrap();
    second.execute(INSERT, ("a2", "ada")).await.unwrap();
    other.execute(INSERT, ("b1", "bob")).await.unwrap();

    let mut moving = JoinSet::new();
    let mover = db.clone();
    moving.spawn(async move { relocate(&mover, "ada", 1).await });
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(moving.try_join_next().is_none(), "the move did not wait");
    first.commit().await.unwrap();
    second.commit().await.unwrap();
    assert_eq!(moving.join_next().await.unwrap().unwrap().unwrap(), MoveOutcome::Moved);
    other.commit().await.unwrap();
    assert_eq!(rows(&db, "ada").await, expected(1, &["a1", "a2"]));
    assert_eq!(rows(&db, "bob").await, expected(0, &["b1"]));
}

/// Reads the key's rows, again where a busy machine lets a lease run out.
async fn read_patiently(handle: &KeyShard, owner: &str) -> Vec<String> {
    let reading = async {
        loop {
            match handle.query(OF, (owner,)).await {
                Ok(rows) => return rows,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap()
}

// DB-23
async fn a_move_survives_a_drop_at_every_await(fixture: Fixture) {
    const ROUNDS: u64 = 400;
    let fixture = leased(fixture, 100);
    let db = start(&fixture).await;
    for round in 0..ROUNDS {
        let owner = format!("key {round}");
        db.assign_to(&owner, 0).await.unwrap();
        for id in ["x", "y"] {
            let id = format!("{round} {id}");
            db.shard(0).unwrap().execute(INSERT, (id.as_str(), owner.as_str())).await.unwrap();
        }
    }
    let next = AtomicU64::new(0);
    let make = || {
        let owner = format!("key {}", next.fetch_add(1, Ordering::Relaxed));
        let db = db.clone();
        async move {
            relocate(&db, &owner, 1).await.unwrap();
        }
    };
    let report = DropPlan::every_await()
        .with_most_points(ROUNDS - 1)
        .run(make, async |point| {
            let (round, owner) = (point.round, format!("key {}", point.round));
            let handle = db.for_key(&owner).await.unwrap();
            let ids = [format!("{round} x"), format!("{round} y"), format!("{round} z")];
            // Reads never miss a row, whatever was reached.
            assert_eq!(read_patiently(&handle, &owner).await, ids[..2]);
            let to = if round % 3 == 0 {
                db.abort_move(&owner).await.unwrap();
                let home = db.shard_of(&owner).await.unwrap().unwrap();
                insert_in_transaction(&handle, &ids[2], &owner).await.unwrap();
                home.get()
            } else {
                relocate(&db, &owner, 1).await.unwrap();
                insert_in_transaction(&handle, &ids[2], &owner).await.unwrap();
                1
            };
            let found: Vec<_> = rows(&db, &owner).await;
            let at_home: Vec<_> = found.iter().filter(|(shard, _)| *shard == to).collect();
            assert_eq!(at_home.len(), 3, "{point:?}: {found:?}");
            // And the key can go on from there with nothing left behind.
            relocate(&db, &owner, 1 - to).await.unwrap();
            relocate(&db, &owner, 1 - to).await.unwrap();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            assert_eq!(rows(&db, &owner).await, expected(1 - to, &ids), "{point:?}");
        })
        .await
        .unwrap();
    assert!(report.confirmed >= 10, "{report:?}");
    assert_eq!(report.finished, 1, "{report:?}");
}

/// A key of another type is another key, also while moving.
#[trine_testkit::test]
async fn keys_of_different_types_move_apart() {
    let fixture = brief(sqlite(2).await);
    let db = start(&fixture).await;
    db.assign_to(7_u64, 0).await.unwrap();
    db.assign_to(7_i64, 0).await.unwrap();
    let key = ShardKey::from(7_u64);
    db.move_key(&key, 1, |_: Move| async { Ok::<_, Error>(()) }).await.unwrap();
    assert_eq!(db.shard_of(&key).await.unwrap(), Some(ShardId::new(1)));
    assert_eq!(db.shard_of(7_i64).await.unwrap(), Some(ShardId::new(0)));
}
