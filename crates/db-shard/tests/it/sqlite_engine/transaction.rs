use std::future::poll_fn;
use std::task::Poll;

use trine_core::ErrorKind;
use trine_db_shard::{BackendTransaction, BeginOptions, Isolation, SavepointStep};
use trine_testkit::drop_at_every_await;

use super::*;

fn reading() -> BeginOptions {
    let mut options = BeginOptions::default();
    options.access = Access::Read;
    options
}

/// Polls once, so that the call is under way, and drops it; tells whether it
/// was unfinished.
async fn poll_once<T>(future: impl Future<Output = T>) -> bool {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Drops a begin that is under way. Now and then the database's thread answers
/// before the first poll is over: then it takes another one.
async fn drop_a_begin(db: &Db, options: BeginOptions) {
    for _ in 0..1_000 {
        if poll_once(db.backend.begin(call(), options)).await {
            return;
        }
    }
    panic!("every begin was answered at once");
}

async fn begin(db: &Db) -> Box<dyn BackendTransaction> {
    db.backend.begin(call(), BeginOptions::default()).await.unwrap()
}

#[tokio::test]
async fn it_sees_what_it_wrote_and_others_do_not_before_the_commit() {
    let db = Db::new().await;
    let mut tx = begin(&db).await;
    assert_eq!(tx.isolation(), Isolation::Serializable);
    tx.run(call(), insert(1)).await.unwrap();
    let count = tx.run(call(), read("SELECT count(*) FROM item")).await.unwrap();
    assert_eq!(count.rows[0].decode::<i64>().unwrap(), 1);
    assert!(db.ids().await.is_empty());
    tx.commit(call()).await.unwrap();
    assert_eq!(db.ids().await, [1]);
}

#[tokio::test]
async fn dropping_it_rolls_back_and_frees_the_writer_at_once() {
    let db = Db::new().await;
    let mut tx = begin(&db).await;
    tx.run(call(), insert(1)).await.unwrap();
    drop(tx);
    db.run(insert(2)).await.unwrap();
    assert_eq!(db.ids().await, [2]);
}

#[tokio::test]
async fn a_dropped_begin_leaves_the_writer_free() {
    let db = Db::new().await;
    drop_a_begin(&db, BeginOptions::default()).await;
    db.run(insert(1)).await.unwrap();
}

#[tokio::test]
async fn one_that_keeps_the_writer_too_long_is_rolled_back_unasked() {
    let db = Db::with(|config| config.hold_limit = Span::millis(100)).await;
    let mut tx = begin(&db).await;
    tx.run(call(), insert(1)).await.unwrap();
    // The holder is not polled; the writer goes on with others all the same.
    db.run(insert(2)).await.unwrap();
    let error = tx.run(call(), insert(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.to_string().contains("hold_limit"), "{error}");
    assert_eq!(tx.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(db.ids().await, [2]);
}

#[tokio::test]
async fn the_hold_limit_stops_a_statement_that_runs() {
    let db = Db::with(|config| config.hold_limit = Span::millis(200)).await;
    let mut tx = begin(&db).await;
    let error = tx.run(call(), read(ENDLESS)).await.unwrap_err();
    assert!(error.to_string().contains("hold_limit"), "{error}");
    db.run(insert(2)).await.unwrap();
}

#[tokio::test]
async fn a_dropped_call_breaks_it_and_frees_the_writer() {
    let db = Db::new().await;
    for text in [ENDLESS, ENDLESS_WRITE] {
        let mut tx = begin(&db).await;
        tx.run(call(), insert(1)).await.unwrap();
        assert!(poll_once(tx.run(call(), write(text, vec![]))).await);
        db.run(write("DELETE FROM part", vec![])).await.unwrap();
        let error = tx.run(call(), insert(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert_eq!(tx.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
        assert!(db.ids().await.is_empty());
    }
}

#[tokio::test]
async fn a_deferred_foreign_key_is_reported_by_the_commit_and_nothing_stays_open() {
    let db = Db::new().await;
    let mut tx = begin(&db).await;
    tx.run(call(), write("INSERT INTO part (id, item) VALUES (1, 77)", vec![])).await.unwrap();
    assert_eq!(tx.commit(call()).await.unwrap_err().kind(), ErrorKind::Invalid);
    db.run(insert(1)).await.unwrap();
    let parts = db.run(read("SELECT count(*) FROM part")).await.unwrap();
    assert_eq!(parts.rows[0].decode::<i64>().unwrap(), 0);
}

#[tokio::test]
async fn one_that_sqlite_rolled_back_is_over() {
    let db = Db::new().await;
    db.run(insert(1)).await.unwrap();
    let mut tx = begin(&db).await;
    tx.run(call(), insert(2)).await.unwrap();
    let text = "INSERT OR ROLLBACK INTO item (id, name) VALUES (1, 'y')";
    let error = tx.run(call(), write(text, vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let error = tx.run(call(), insert(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(tx.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(db.ids().await, [1]);
}

#[tokio::test]
async fn a_late_read_fails_alone_and_a_late_write_ends_the_transaction() {
    let db = Db::new().await;
    let soon = || within(Duration::from_millis(100));
    let mut tx = begin(&db).await;
    tx.run(call(), insert(1)).await.unwrap();
    assert_eq!(tx.run(soon(), read(ENDLESS)).await.unwrap_err().kind(), ErrorKind::Timeout);
    tx.run(call(), insert(2)).await.unwrap();
    tx.commit(call()).await.unwrap();

    let mut tx = begin(&db).await;
    tx.run(call(), insert(3)).await.unwrap();
    let late = tx.run(soon(), write(ENDLESS_WRITE, vec![])).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(tx.commit(call()).await.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(db.ids().await, [1, 2]);
}

#[tokio::test]
async fn savepoints_keep_or_undo_what_followed() {
    let db = Db::new().await;
    let mut tx = begin(&db).await;
    tx.savepoint(call(), SavepointStep::Set, 1).await.unwrap();
    tx.run(call(), insert(1)).await.unwrap();
    tx.savepoint(call(), SavepointStep::Set, 2).await.unwrap();
    tx.run(call(), insert(2)).await.unwrap();
    tx.savepoint(call(), SavepointStep::RollBack, 2).await.unwrap();
    tx.savepoint(call(), SavepointStep::Release, 1).await.unwrap();
    tx.savepoint(call(), SavepointStep::Release, 2).await.unwrap_err();
    tx.run(call(), insert(3)).await.unwrap();
    tx.commit(call()).await.unwrap();
    assert_eq!(db.ids().await, [1, 3]);
}

#[tokio::test]
async fn transactions_and_single_writes_take_turns() {
    let db = Db::new().await;
    let writes = futures_util::future::join_all((0..50).map(|id| db.run(insert(id))));
    let transactions = futures_util::future::join_all((50..60).map(|id| {
        let db = &db;
        async move {
            let mut tx = begin(db).await;
            tx.run(call(), insert(id)).await.unwrap();
            tx.commit(call()).await.unwrap();
        }
    }));
    let (writes, _) = tokio::join!(writes, transactions);
    assert!(writes.iter().all(Result::is_ok));
    assert_eq!(db.ids().await.len(), 60);
}

#[tokio::test]
async fn one_that_reads_sees_one_state_and_takes_no_writes() {
    let db = Db::new().await;
    db.run(insert(1)).await.unwrap();
    let mut tx = db.backend.begin(call(), reading()).await.unwrap();
    let text = "SELECT count(*) FROM item";
    let before = tx.run(call(), read(text)).await.unwrap();
    db.run(insert(2)).await.unwrap();
    let after = tx.run(call(), read(text)).await.unwrap();
    assert_eq!(before.rows, after.rows);
    assert_eq!(tx.run(call(), insert(3)).await.unwrap_err().kind(), ErrorKind::Invalid);
    tx.commit(call()).await.unwrap();
    assert_eq!(db.ids().await, [1, 2]);
}

#[tokio::test]
async fn a_dropped_begin_of_one_that_reads_leaves_no_old_state_behind() {
    let db = Db::with(|config| config.readers = 1.try_into().unwrap()).await;
    db.ids().await;
    drop_a_begin(&db, reading()).await;
    // A transaction that was left open would begin to see with this query.
    db.ids().await;
    db.run(insert(1)).await.unwrap();
    assert_eq!(db.ids().await, [1]);
}

#[tokio::test]
async fn a_dropped_one_that_reads_holds_no_old_state() {
    let db = Db::with(|config| config.readers = 1.try_into().unwrap()).await;
    let mut tx = db.backend.begin(call(), reading()).await.unwrap();
    tx.run(call(), read("SELECT count(*) FROM item")).await.unwrap();
    drop(tx);
    db.run(insert(1)).await.unwrap();
    assert_eq!(db.ids().await, [1]);

    let mut tx = db.backend.begin(call(), reading()).await.unwrap();
    assert!(poll_once(tx.run(call(), read(ENDLESS))).await);
    let error = tx.run(call(), read("SELECT 1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    drop(tx);
    db.run(insert(2)).await.unwrap();
    assert_eq!(db.ids().await, [1, 2]);
}

#[tokio::test]
async fn one_dropped_anywhere_leaves_all_or_nothing_and_the_writer_free() {
    let db = Db::new().await;
    let mut id = 0;
    let report = drop_at_every_await(
        || {
            id += 2;
            let (first, second) = (insert(id), insert(id + 1));
            let db = &db;
            async move {
                let mut tx = begin(db).await;
                tx.run(call(), first).await.unwrap();
                tx.run(call(), second).await.unwrap();
                tx.commit(call()).await.unwrap();
            }
        },
        async |_| {
            db.execute("DELETE FROM part").await.unwrap();
            let ids = db.ids().await;
            assert!(ids.chunks(2).all(|pair| pair == [pair[0], pair[0] + 1]), "{ids:?}");
        },
    )
    .await
    .unwrap();
    assert!(report.confirmed > 0, "{report:?}");
}

#[tokio::test]
async fn one_that_reads_dropped_anywhere_leaves_a_clean_reader() {
    let db = Db::with(|config| config.readers = 1.try_into().unwrap()).await;
    let report = drop_at_every_await(
        async || {
            let mut tx = db.backend.begin(call(), reading()).await.unwrap();
            tx.run(call(), read("SELECT count(*) FROM item")).await.unwrap();
            tx.commit(call()).await.unwrap();
        },
        async |point| {
            let id = i64::try_from(point.round).unwrap();
            db.run(insert(id)).await.unwrap();
            assert_eq!(db.ids().await.last(), Some(&id));
        },
    )
    .await
    .unwrap();
    assert!(report.confirmed > 0, "{report:?}");
}
