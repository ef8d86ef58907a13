use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor};
use trine_core::ErrorKind;
use trine_db_shard::Error;

use super::*;

#[tokio::test]
async fn a_turn_that_does_not_come_is_exhausted_and_nothing_was_run() {
    let db = Db::with(|config| config.acquire_timeout = Span::millis(50)).await;
    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let error = db.run(insert(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("acquire_timeout"), "{error}");
    let begin = db.backend.begin(call(), Default::default()).await.unwrap_err();
    assert_eq!(begin.kind(), ErrorKind::Exhausted);
    tx.rollback(call()).await.unwrap();
    db.run(insert(2)).await.unwrap();
    assert_eq!(db.ids().await, [2]);
}

#[tokio::test]
async fn a_deadline_before_the_turn_is_a_timeout_and_nothing_was_run() {
    let db = Db::new().await;
    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let error = db.backend.run(within(Duration::from_millis(50)), insert(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    tx.rollback(call()).await.unwrap();
    db.run(insert(2)).await.unwrap();
    assert_eq!(db.ids().await, [2]);
}

#[tokio::test]
async fn a_full_queue_answers_at_once() {
    let db = Db::with(|config| config.queue = 2.try_into().unwrap()).await;
    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let (first, second, ()) = tokio::join!(db.run(insert(1)), db.run(insert(2)), async {
        db.until_waiting(2).await;
        let error = db.run(insert(3)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(error.to_string().contains("queue"), "{error}");
        tx.rollback(call()).await.unwrap();
    });
    first.unwrap();
    second.unwrap();
    assert_eq!(db.ids().await, [1, 2]);
}

#[tokio::test]
async fn readers_in_use_are_counted_in_the_error() {
    let db = Db::with(|config| {
        config.readers = 2.try_into().unwrap();
        config.acquire_timeout = Span::millis(50);
    })
    .await;
    let busy = || db.backend.run(within(Duration::from_millis(400)), read(ENDLESS));
    let (_, _, ()) = tokio::join!(busy(), busy(), async {
        sleep(Duration::from_millis(50)).await;
        match db.run(read("SELECT 1")).await.unwrap_err() {
            Error::Exhausted { in_use, max, setting, .. } => {
                assert_eq!((in_use, max), (2, 2));
                assert!(setting.ends_with(".readers"));
            }
            other => panic!("{other}"),
        }
        // Writes have their own connection.
        db.run(insert(1)).await.unwrap();
    });
    assert_eq!(db.ids().await, [1]);
}

#[tokio::test]
async fn a_lock_of_another_program_is_a_timeout_for_the_whole_group_at_once() {
    let db = Db::new().await;
    let path = db.path().join("test.db");
    let mut other = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let tx = db.backend.begin(call(), Default::default()).await.unwrap_err();
    assert_eq!(tx.kind(), ErrorKind::Timeout);

    let started = tokio::time::Instant::now();
    let writes = futures_util::future::join_all((0..100).map(|id| db.run(insert(id)))).await;
    for error in writes.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("another program"), "{error}");
    }
    assert!(started.elapsed() < BOUND);
    // Readers do not mind.
    assert!(db.ids().await.is_empty());
    other.execute("ROLLBACK").await.unwrap();
    db.run(insert(1)).await.unwrap();
    assert_eq!(db.ids().await, [1]);
}
