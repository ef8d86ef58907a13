use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Barrier;
use trine_core::ErrorKind;

use super::{Fixture, SLOW, add, count, create_items, soon};
use crate::{Batch, Error, Isolation, Result, Row, Sql, TxOptions};

const INSERT: &str = "INSERT INTO item (name) VALUES (?)";

/// `Ok` keeps everything, `Err` of any type nothing; a transaction sees its
/// own writes and nobody else does before the commit.
pub async fn a_transaction_is_kept_or_undone_as_a_whole(fixture: Fixture) {
    #[derive(Debug)]
    enum HostError {
        Refused,
        Db,
    }
    impl From<Error> for HostError {
        fn from(_: Error) -> Self {
            Self::Db
        }
    }
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let inside: u64 = db
        .transaction(|mut tx| async move {
            tx.execute(INSERT, ("a",)).await?;
            tx.execute(INSERT, ("b",)).await?;
            tx.query_one("SELECT COUNT(*) FROM item", ()).await
        })
        .await
        .unwrap();
    assert_eq!((inside, count(db).await), (2, 2));
    let refused = db
        .transaction(|mut tx| async move {
            tx.execute(INSERT, ("c",)).await?;
            Err::<(), _>(HostError::Refused)
        })
        .await;
    assert!(matches!(refused, Err(HostError::Refused)));
    let broken = db
        .transaction(|mut tx| async move {
            tx.execute(INSERT, ("d",)).await?;
            tx.execute(INSERT, ("a",)).await?;
            Ok::<_, HostError>(())
        })
        .await;
    assert!(matches!(broken, Err(HostError::Db)));
    assert_eq!(count(db).await, 2);
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, ("e",)).await.unwrap();
    assert_eq!(count(db).await, 2);
    assert!(tx.isolation() >= Isolation::ReadCommitted);
    tx.commit().await.unwrap();
    assert_eq!(count(db).await, 3);
}

/// Dropping rolls back, and the connection is free again.
pub async fn a_dropped_transaction_leaves_nothing(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    for _ in 0..db.stats().max + 3 {
        let mut tx = db.begin().await.unwrap();
        tx.execute(INSERT, ("a",)).await.unwrap();
        drop(tx);
    }
    add(db, "a").await;
    assert_eq!(count(db).await, 1);
}

/// A panic in the body rolls back and costs no connection.
pub async fn a_panicking_body_leaves_nothing(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let tasks = trine_core::Tasks::new("test");
    for _ in 0..db.stats().max + 3 {
        let body = db.clone();
        let ended = tasks.spawn("panicking", async move {
            body.transaction(|mut tx| async move {
                tx.execute(INSERT, ("a",)).await?;
                if tx.isolation() >= Isolation::ReadCommitted {
                    panic!("the body's own fault");
                }
                Ok::<(), Error>(())
            })
            .await
        });
        ended.await.unwrap_err();
    }
    assert_eq!(count(db).await, 0);
    tasks.shutdown(soon()).await;
}

/// A transaction that the body kept cannot be committed, and is rolled back.
pub async fn a_transaction_cannot_outlive_its_body(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let (keep, mut kept) = tokio::sync::mpsc::channel(1);
    let error = db
        .transaction(|mut tx| {
            let keep = keep.clone();
            async move {
                tx.execute(INSERT, ("a",)).await?;
                let _full = keep.try_send(tx);
                Ok::<(), Error>(())
            }
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    drop(kept.recv().await);
    add(db, "a").await;
    assert_eq!(count(db).await, 1);
}

/// After a dropped call nobody knows where the connection stands, so nothing
/// is committed.
pub async fn a_dropped_call_breaks_its_transaction(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, ("a",)).await.unwrap();
    let slow = tx.query::<Row>(SLOW, ());
    tokio::time::timeout(Duration::from_millis(100), slow).await.unwrap_err();
    let error = tx.execute(INSERT, ("b",)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    add(db, "a").await;
    assert_eq!(count(db).await, 1);
}

/// Rolling back to a savepoint undoes what came after it, and no more.
pub async fn savepoints_undo_a_part(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, ("a",)).await.unwrap();
    let outer = tx.savepoint().await.unwrap();
    tx.execute(INSERT, ("b",)).await.unwrap();
    let inner = tx.savepoint().await.unwrap();
    tx.execute(INSERT, ("c",)).await.unwrap();
    tx.release(inner).await.unwrap();
    tx.rollback_to(outer).await.unwrap();
    let kept = tx.savepoint().await.unwrap();
    tx.execute(INSERT, ("a",)).await.unwrap_err();
    tx.execute(INSERT, ("d",)).await.unwrap();
    tx.release(kept).await.unwrap();
    tx.commit().await.unwrap();
    let names: Vec<String> = db.query("SELECT name FROM item ORDER BY name", ()).await.unwrap();
    assert_eq!(names, ["a", "d"]);
}

/// The first failing statement decides, and its neighbours in a shared commit
/// are not concerned.
pub async fn a_closed_list_is_kept_or_undone_as_a_whole(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let good = |index: i64| {
        Batch::new().with(INSERT, (format!("{index} x"),)).with(INSERT, (format!("{index} y"),))
    };
    let bad = |index: i64| good(index).with(INSERT, (format!("{index} x"),));
    let runs = (0..40).map(|index| {
        let batch = if index % 4 == 0 { bad(index) } else { good(index) };
        async move { (index, db.execute_all(batch).await) }
    });
    for (index, result) in futures_util::future::join_all(runs).await {
        match result {
            Ok(done) => assert_eq!((index % 4 != 0, done.len()), (true, 2)),
            Err(error) => assert_eq!((index % 4, error.kind()), (0, ErrorKind::Conflict)),
        }
    }
    assert_eq!(count(db).await, 60);
    assert!(db.execute_all(Batch::new()).await.unwrap().is_empty());
}

/// A transaction that promised to read is held to it.
pub async fn a_reading_transaction_cannot_write(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let mut tx = db.begin_with(&TxOptions::default().read_only()).await.unwrap();
    assert_eq!(tx.query_one::<u64>("SELECT COUNT(*) FROM item", ()).await.unwrap(), 0);
    tx.execute(INSERT, ("a",)).await.unwrap_err();
    drop(tx);
    assert_eq!(count(db).await, 0);
}

/// Where transactions write side by side, two that wait for each other are
/// both committed in the end, whatever error the body makes of the deadlock.
pub async fn a_deadlock_runs_the_body_again(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let (first, second) = (add(db, "a").await, add(db, "b").await);
    if !db.capabilities().concurrent_writers {
        return;
    }
    let barrier = Barrier::new(2);
    let runs = AtomicU32::new(0);
    let (barrier, runs) = (&barrier, &runs);
    let touch = |one: u64, two: u64, mark: &'static str| async move {
        let meet = AtomicU32::new(0);
        let meet = &meet;
        db.transaction(|mut tx| async move {
            const TOUCH: &str = "UPDATE item SET name = name || ? WHERE id = ?";
            runs.fetch_add(1, Ordering::Relaxed);
            let touched = async {
                tx.execute(TOUCH, (mark, one)).await?;
                if meet.fetch_add(1, Ordering::Relaxed) == 0 {
                    barrier.wait().await;
                }
                tx.execute(TOUCH, (mark, two)).await
            };
            // Another error type hides the deadlock; the transaction knows.
            touched.await.map(|_| ()).map_err(|_| Hidden)
        })
        .await
    };
    struct Hidden;
    impl From<Error> for Hidden {
        fn from(_: Error) -> Self {
            Self
        }
    }
    let (one, two) = tokio::join!(touch(first, second, "1"), touch(second, first, "2"));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    let names: Vec<String> = db.query("SELECT name FROM item ORDER BY id", ()).await.unwrap();
    assert_eq!(names.iter().map(String::len).collect::<Vec<_>>(), [3, 3]);
    // A transaction begun by hand is told and never run again.
    let lone = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&lone);
    let error: Result<()> = db
        .transaction_with(&TxOptions::default().with_deadlock_retries(0), move |tx| {
            counted.fetch_add(1, Ordering::Relaxed);
            let at = tx.database().at("test");
            async move { Err(Error::Conflict { at, conflict: crate::Conflict::Deadlock, cause: None }) }
        })
        .await;
    assert!(error.is_err());
    assert_eq!(lone.load(Ordering::Relaxed), 1);
}

/// Where a change of the schema would commit the transaction it is refused,
/// else it is undone with it.
pub async fn a_change_of_the_schema_is_undone_or_refused(fixture: Fixture) {
    const CREATE: Sql = Sql::portable("CREATE TABLE other (id INTEGER)");
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, ("a",)).await.unwrap();
    let created = tx.execute(CREATE, ()).await;
    if db.capabilities().transactional_schema {
        created.unwrap();
    } else {
        assert_eq!(created.unwrap_err().kind(), ErrorKind::Invalid);
    }
    tx.rollback().await.unwrap();
    assert_eq!(count(db).await, 0);
    db.query::<Row>("SELECT * FROM other", ()).await.unwrap_err();
}
