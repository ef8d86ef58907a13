//! How transactions end, on every engine.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use trine_core::{CallContext, Deadline, ErrorKind, Span};
use trine_db_shard::conformance::Fixture;
use trine_db_shard::{ConnectionConfig, Error, Outcome, Tx, TxOptions};

use crate::routing::{create_notes, on_both_engines};

on_both_engines!(
    a_body_may_end_its_transaction_by_itself(1),
    a_hook_may_add_hooks(1),
    a_ticket_outlives_the_savepoint_it_was_taken_after(1),
    nothing_is_sent_after_the_time_is_over(1),
    a_body_that_waits_keeps_nothing_beyond_its_time(1),
);

const INSERT: &str = "INSERT INTO note (id, owner, text) VALUES (?, 'ada', 'x')";
const COUNT: &str = "SELECT COUNT(*) FROM note";

async fn a_body_may_end_its_transaction_by_itself(fixture: Fixture) {
    let service = fixture.start().await;
    create_notes(&service).await;
    let db = service.shard(0).unwrap();
    let kept: Result<u32, Error> = db
        .transaction(|mut tx| async move {
            tx.execute(INSERT, (1,)).await?;
            tx.commit().await?;
            Ok(7)
        })
        .await;
    assert_eq!(kept.unwrap(), 7);
    let undone: Result<u32, Error> = db
        .transaction(|mut tx| async move {
            tx.execute(INSERT, (2,)).await?;
            tx.rollback().await?;
            Ok(8)
        })
        .await;
    assert_eq!(undone.unwrap(), 8);
    // A commit that its own hook refused is not tried again by others.
    let refused: Result<(), Error> = db
        .transaction(|mut tx| async move {
            tx.execute(INSERT, (3,)).await?;
            tx.before_commit(|tx| {
                Box::pin(async move { tx.execute(INSERT, (1,)).await.map(drop) })
            });
            let refused = tx.commit().await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
            Ok(())
        })
        .await;
    refused.unwrap();
    let found: Vec<u32> = db.query("SELECT id FROM note", ()).await.unwrap();
    assert_eq!(found, [1]);
}

async fn a_hook_may_add_hooks(fixture: Fixture) {
    let service = fixture.start().await;
    create_notes(&service).await;
    let db = service.shard(0).unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.before_commit(|tx| {
        Box::pin(async move {
            tx.before_commit(|tx| {
                Box::pin(async move { tx.execute(INSERT, (2,)).await.map(drop) })
            });
            tx.execute(INSERT, (1,)).await.map(drop)
        })
    });
    tx.commit().await.unwrap();
    let found: Vec<u32> = db.query("SELECT id FROM note ORDER BY id", ()).await.unwrap();
    assert_eq!(found, [1, 2]);
}

async fn a_ticket_outlives_the_savepoint_it_was_taken_after(fixture: Fixture) {
    let service = fixture.start().await;
    create_notes(&service).await;
    let db = service.shard(0).unwrap();
    for takes_before in [true, false] {
        let mut tx = db.begin().await.unwrap();
        let before = if takes_before { Some(tx.ticket().await.unwrap()) } else { None };
        let outer = tx.savepoint().await.unwrap();
        let inner = tx.savepoint().await.unwrap();
        let ticket = tx.ticket().await.unwrap();
        assert!(before.is_none_or(|before| before == ticket));
        tx.rollback_to(inner).await.unwrap();
        tx.rollback_to(outer).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.outcome(ticket).await.unwrap(), Outcome::Committed, "{takes_before}");
    }
}

async fn nothing_is_sent_after_the_time_is_over(fixture: Fixture) {
    let service = fixture.start().await;
    create_notes(&service).await;
    let db = service.shard(0).unwrap();
    let span = Duration::from_millis(400);
    let rolled_back = Arc::new(AtomicU32::new(0));
    let begin = async |id: u32| -> Tx {
        let options = TxOptions::default().with_timeout(span).with_ticket();
        let mut tx = db.begin_with(&options).await.unwrap();
        let counting = Arc::clone(&rolled_back);
        tx.after_rollback(move || {
            counting.fetch_add(1, Ordering::Relaxed);
        });
        tx.execute(INSERT, (id,)).await.unwrap();
        sleep(span).await;
        tx
    };
    let late = begin(1).await.commit().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    assert!(late.to_string().contains("400ms (TxOptions::timeout)"), "{late}");
    let mut tx = begin(2).await;
    let late = tx.execute(INSERT, (3,)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    drop(tx);
    assert_eq!(rolled_back.load(Ordering::Relaxed), 2);

    let over = CallContext::default().with_deadline(Deadline::after(Duration::ZERO));
    let late = over.clone().scope(db.execute(INSERT, (4,))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    let late = over.scope(db.begin()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    assert_eq!(db.query_one::<u32>(COUNT, ()).await.unwrap(), 0);
}

async fn a_body_that_waits_keeps_nothing_beyond_its_time(fixture: Fixture) {
    let fixture = fixture.with(|config| {
        config.tenant_in_flight = NonZeroU32::new(1);
        for connection in config.connections.values_mut() {
            match connection {
                // Not what ends it here.
                ConnectionConfig::Sqlite(sqlite) => sqlite.hold_limit = Span::secs(600),
                ConnectionConfig::Mysql(mysql) => mysql.pool.max = NonZeroU32::MIN,
                other => panic!("{other:?}"),
            }
        }
    });
    let service = fixture.start().await;
    create_notes(&service).await;
    let db = service.shard(0).unwrap();
    let tenant = CallContext::default().with_tenant("busy").unwrap();
    let options = TxOptions::default().with_timeout(Duration::from_millis(300));
    let mut waiting = tenant.clone().scope(db.begin_with(&options)).await.unwrap();
    waiting.execute(INSERT, (1,)).await.unwrap();
    // One place of the tenant, one connection, one row: all are free again.
    let other = async {
        loop {
            match tenant.clone().scope(db.execute(INSERT, (1,))).await {
                Ok(done) => return done,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    timeout(Duration::from_secs(20), other).await.unwrap();
    let late = waiting.execute(INSERT, (2,)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    assert!(late.to_string().contains("300ms (TxOptions::timeout)"), "{late}");
    let late = waiting.commit().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    assert_eq!(db.query_one::<u32>(COUNT, ()).await.unwrap(), 1);
}
