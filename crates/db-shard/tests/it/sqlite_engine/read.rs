use futures_util::StreamExt;
use tokio::time::timeout;
use trine_core::ErrorKind;
use trine_testkit::drop_at_every_await;

use super::*;

const COUNTING: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
     SELECT x FROM c";

async fn with_one_reader() -> Db {
    Db::with(|config| config.readers = 1.try_into().unwrap()).await
}

#[tokio::test]
async fn a_dropped_query_frees_its_reader() {
    let db = with_one_reader().await;
    db.ids().await;
    for _ in 0..5 {
        let dropped = timeout(Duration::from_millis(30), db.run(read(ENDLESS))).await;
        assert!(dropped.is_err());
        db.run(read("SELECT 1")).await.unwrap();
    }
    let stats = db.backend.stats();
    assert_eq!((stats.abandoned, stats.size), (0, 2), "{stats:?}");
    assert!(stats.cancelled > 0, "{stats:?}");
}

#[tokio::test]
async fn a_query_past_its_deadline_is_ended_and_frees_its_reader() {
    let db = with_one_reader().await;
    let late = db.backend.run(within(Duration::from_millis(50)), read(ENDLESS)).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    db.run(read("SELECT 1")).await.unwrap();
    assert_eq!(db.backend.stats().abandoned, 0);
}

#[tokio::test]
async fn a_query_dropped_anywhere_leaves_a_clean_reader() {
    let db = with_one_reader().await;
    for id in 0..200 {
        db.run(insert(id)).await.unwrap();
    }
    let report = drop_at_every_await(
        async || {
            let reply = db.run(read("SELECT id, name FROM item")).await.unwrap();
            assert_eq!(reply.rows.len(), 200);
        },
        async |_| {
            let reply = db.run(read("SELECT 'mine'")).await.unwrap();
            assert_eq!(reply.rows.len(), 1);
            assert_eq!(reply.rows[0].decode::<String>().unwrap(), "mine");
        },
    )
    .await
    .unwrap();
    assert!(report.confirmed > 0);
    assert_eq!(db.backend.stats().size, 2);
}

#[tokio::test]
async fn a_stream_yields_rows_before_the_query_ends_and_frees_its_reader_when_dropped() {
    let db = with_one_reader().await;
    for _ in 0..3 {
        let mut rows = db.backend.stream(call(), read(COUNTING));
        for expected in 1..=500_i64 {
            let row = rows.next().await.unwrap().unwrap();
            assert_eq!(row.decode::<i64>().unwrap(), expected);
        }
        drop(rows);
        db.run(read("SELECT 1")).await.unwrap();
    }
    assert_eq!(db.backend.stats().abandoned, 0);
}

#[tokio::test]
async fn a_stream_dropped_anywhere_leaves_a_clean_reader() {
    let db = with_one_reader().await;
    let text = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 300) \
         SELECT x FROM c";
    let report = drop_at_every_await(
        async || {
            let rows: Vec<_> = db.backend.stream(call(), read(text)).collect().await;
            assert_eq!(rows.len(), 300);
        },
        async |_| {
            let reply = db.run(read("SELECT 'mine'")).await.unwrap();
            assert_eq!(reply.rows[0].decode::<String>().unwrap(), "mine");
        },
    )
    .await
    .unwrap();
    assert!(report.confirmed > 0);
    assert_eq!(db.backend.stats().abandoned, 0);
}

#[tokio::test]
async fn a_stream_ends_with_its_rows_or_with_its_deadline() {
    let db = with_one_reader().await;
    db.run(insert(1)).await.unwrap();
    let rows: Vec<_> = db.backend.stream(call(), read("SELECT id FROM item")).collect().await;
    assert_eq!(rows.len(), 1);
    let rows = db.backend.stream(within(Duration::from_millis(50)), read(ENDLESS));
    let rows: Vec<_> = rows.collect().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].as_ref().unwrap_err().kind(), ErrorKind::Timeout);
    let bad: Vec<_> = db.backend.stream(call(), read("SELECT nothing")).collect().await;
    assert_eq!(bad[0].as_ref().unwrap_err().kind(), ErrorKind::Invalid);
    db.run(read("SELECT 1")).await.unwrap();
}

#[tokio::test]
async fn more_rows_than_asked_for_are_an_error_that_names_the_bound() {
    let db = with_one_reader().await;
    let mut few = call();
    few.max_rows = 3;
    for _ in 0..2 {
        let error = db.backend.run(few, read(COUNTING)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("max_rows"), "{error}");
    }
    let three = db.backend.run(few, read("VALUES (1), (2), (3)")).await.unwrap();
    assert_eq!(three.rows.len(), 3);
}

#[tokio::test]
async fn more_returned_rows_than_asked_for_undo_the_write() {
    let db = Db::new().await;
    let mut few = call();
    few.max_rows = 1;
    let text = "INSERT INTO item (id, name) VALUES (1, 'a'), (2, 'b') RETURNING id";
    let alone = db.backend.run(few, write(text, vec![])).await;
    assert_eq!(alone.unwrap_err().kind(), ErrorKind::Invalid);

    let tx = db.backend.begin(call(), Default::default()).await.unwrap();
    let (grouped, other, ()) =
        tokio::join!(db.backend.run(few, write(text, vec![])), db.run(insert(3)), async {
            db.until_waiting(2).await;
            tx.rollback(call()).await.unwrap();
        });
    assert_eq!(grouped.unwrap_err().kind(), ErrorKind::Invalid);
    other.unwrap();

    let mut tx = db.backend.begin(call(), Default::default()).await.unwrap();
    assert_eq!(tx.run(few, write(text, vec![])).await.unwrap_err().kind(), ErrorKind::Invalid);
    tx.commit(call()).await.unwrap();
    assert_eq!(db.ids().await, [3]);
}

#[tokio::test]
async fn a_reader_refuses_to_write() {
    let db = Db::new().await;
    for text in ["DELETE FROM item", "WITH a AS (SELECT 1) DELETE FROM item"] {
        let error = db.run(read(text)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("`execute`"), "{error}");
    }
}

#[tokio::test]
async fn long_reads_do_not_hold_up_writes() {
    let db = with_one_reader().await;
    let reading = db.backend.run(within(Duration::from_millis(500)), read(ENDLESS));
    let (late, ()) = tokio::join!(reading, async {
        for id in 0..20 {
            db.run(insert(id)).await.unwrap();
        }
    });
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(db.ids().await.len(), 20);
}

#[tokio::test]
async fn a_reader_that_does_not_stop_in_time_is_replaced_and_counted() {
    let db = with_one_reader().await;
    // One step of SQLite that nothing interrupts and that takes very long.
    let stuck = "SELECT instr(printf('%.1200000c', 'a'), printf('%.600000c', 'a') || 'b')";
    db.ids().await;
    let dropped = timeout(Duration::from_millis(50), db.run(read(stuck))).await;
    assert!(dropped.is_err());
    db.run(read("SELECT 1")).await.unwrap();
    let stats = db.backend.stats();
    assert_eq!((stats.abandoned, stats.size), (1, 2), "{stats:?}");
}
