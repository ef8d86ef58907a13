use std::time::Duration;

use futures_util::future::join_all;
use trine_core::{CallContext, Deadline, ErrorKind, HealthStatus, Service, State};

use super::{Fixture, SLOW, add, count, create_items, soon};
use crate::{DbDeps, DbService, Row, ShardStatus};

/// Calls answer `Unavailable` before the start and `Closed` after the end.
pub async fn nothing_is_answered_before_start_and_after_shutdown(fixture: Fixture) {
    let service = DbService::open(&fixture.config, DbDeps::default()).unwrap();
    assert_eq!(service.state(), State::Created);
    let one = || service.global().query_one::<i64>("SELECT 1", ());
    assert_eq!(one().await.unwrap_err().kind(), ErrorKind::Unavailable);
    service.start().await.unwrap();
    assert_eq!(service.state(), State::Running);
    assert_eq!(one().await.unwrap(), 1);
    let shard = service.shard(0).unwrap();
    service.shutdown(soon()).await.unwrap();
    assert_eq!(service.state(), State::Closed);
    assert_eq!(one().await.unwrap_err().kind(), ErrorKind::Closed);
    let error = shard.execute("DELETE FROM trine_inbox", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(service.start().await.unwrap_err().kind(), ErrorKind::Closed);
    service.shutdown(soon()).await.unwrap();
}

/// What was let in is answered; what comes later is not let in.
pub async fn a_shutdown_waits_for_what_is_under_way(fixture: Fixture) {
    let service = fixture.start().await;
    let db = service.global();
    create_items(db).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO item (name) VALUES ('a')", ()).await.unwrap();
    let ending = service.shutdown(soon());
    let finishing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(service.state(), State::Draining);
        tx.commit().await
    };
    let (ended, finished) = tokio::join!(ending, finishing);
    ended.unwrap();
    finished.unwrap();
    let service = fixture.start().await;
    assert_eq!(count(service.global()).await, 1);
}

/// Starting twice is starting once, side by side as well.
pub async fn a_start_may_be_repeated(fixture: Fixture) {
    let service = DbService::open(&fixture.config, DbDeps::default()).unwrap();
    let (one, two) = tokio::join!(service.start(), service.start());
    one.unwrap();
    two.unwrap();
    service.start().await.unwrap();
    assert_eq!(service.shards().len(), 2);
}

/// Each status takes what its name says, and refusals name it.
pub async fn statuses_decide_what_a_shard_takes(fixture: Fixture) {
    let service = fixture.start().await;
    let shard = service.shard(1).unwrap();
    create_items(&shard).await;
    for status in ShardStatus::ALL {
        service.set_shard_status(1, status).await.unwrap();
        let read = shard.query::<Row>("SELECT * FROM item", ()).await;
        let write = shard.execute("UPDATE item SET name = 'x' WHERE id = 0", ()).await;
        let begin = shard.begin().await.map(drop);
        assert_eq!(read.is_ok(), status.can_read(), "{status}");
        assert_eq!(write.is_ok(), status.can_write(), "{status}");
        assert_eq!(begin.is_ok(), status.can_write(), "{status}");
        let refusals = [read.err(), write.err(), begin.err()];
        for error in refusals.into_iter().flatten() {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            let text = error.to_string();
            assert!(text.contains(status.as_str()) || text.contains("not ready"), "{error}");
        }
        // Others are not concerned.
        service.shard(0).unwrap().query_one::<i64>("SELECT 1", ()).await.unwrap();
    }
    assert_eq!(service.shard(1).unwrap_err().kind(), ErrorKind::Unavailable);
    service.set_shard_status(1, ShardStatus::Active).await.unwrap();
    let back = async {
        while shard.execute("UPDATE item SET name = 'x' WHERE id = 0", ()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.unwrap();
}

/// Neither the global database nor any other shard stands in.
pub async fn an_unknown_shard_is_never_another_one(fixture: Fixture) {
    let service = fixture.start().await;
    assert_eq!(service.shard(7).unwrap_err().kind(), ErrorKind::NotFound);
    let error = service.set_shard_status(7, ShardStatus::Active).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// Health tells version, durability and pools; counters count.
pub async fn health_and_metrics_show_the_work(fixture: Fixture) {
    let service = fixture.start().await;
    let db = service.global();
    create_items(db).await;
    add(db, "a").await;
    add(db, "a-").await;
    db.execute("INSERT INTO item (name) VALUES ('a')", ()).await.unwrap_err();
    let health = service.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    let details = serde_json::to_string(&health).unwrap();
    for part in ["global", "shard 0", "shard 1", "durability", "version", "pool_max", "active"] {
        assert!(details.contains(part), "{part} in {details}");
    }
    let engine = db.engine().as_str();
    let labels = |outcome| {
        [("database", "global"), ("backend", engine), ("operation", "run"), ("outcome", outcome)]
    };
    let conflicts = |service: &DbService| {
        service.metrics().counter("trine_db_operations_total", &labels("conflict"))
    };
    assert_eq!(conflicts(&service), Some(1));
    let name = "trine_db_operations_total";
    assert!(service.metrics().counter(name, &labels("ok")).unwrap_or_default() >= 3);
    service.reset_metrics();
    assert_eq!(conflicts(&service), Some(0));
    assert_eq!(service.metrics().counter_total(name, &labels("conflict")), Some(1));
    let pool = [("database", "global"), ("backend", engine)];
    let gauge = |name| service.metrics().gauge(name, &pool).unwrap();
    assert!(gauge("trine_db_pool_max") >= 1.0 && gauge("trine_db_pool_size") >= 1.0);
    assert_eq!(gauge("trine_db_pool_idle"), gauge("trine_db_pool_size"));
    assert_eq!(gauge("trine_db_pool_waiting"), 0.0);
    let broken = fixture.config.connections.values().next().map(|config| format!("{config:?}"));
    assert!(!broken.unwrap_or_default().contains("password="));
}

/// With half the pool at most, one tenant cannot keep others from theirs.
pub async fn a_busy_tenant_leaves_room_for_others(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    let as_tenant = |tenant: &str, secs: u64| {
        let deadline = Deadline::after(Duration::from_secs(secs));
        CallContext::default().with_tenant(tenant).unwrap().with_deadline(deadline)
    };
    let max = db.stats().max;
    // The first ones keep the tenant's places for longer than the rest waits.
    let busy = (0..max * 2).map(|index| {
        let secs = if index < max { 4 } else { 1 };
        as_tenant("busy", secs).scope(db.query::<Row>(SLOW, ()))
    });
    let other = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        as_tenant("other", 2).scope(db.query_one::<i64>("SELECT 1", ())).await
    };
    let (busy, other) = tokio::join!(join_all(busy), other);
    assert_eq!(other.unwrap(), 1);
    let kinds: Vec<_> = busy.into_iter().map(|answer| answer.unwrap_err().kind()).collect();
    let (first, rest) = kinds.split_at(max);
    assert!(first.contains(&ErrorKind::Timeout), "{kinds:?}");
    assert!(rest.iter().all(|kind| *kind == ErrorKind::Exhausted), "{kinds:?}");
}

/// Dropped at any moment, a query gives back what it held.
pub async fn dropped_queries_cost_no_connection(fixture: Fixture) {
    let opened = fixture.open().await;
    let db = opened.database();
    create_items(db).await;
    add(db, "a").await;
    for round in 0..60_u64 {
        let slow = db.query::<Row>(SLOW, ());
        let _cut = tokio::time::timeout(Duration::from_millis(round % 7), slow).await;
        let quick = db.query::<Row>("SELECT * FROM item", ());
        let _cut = tokio::time::timeout(Duration::from_micros(round * 50), quick).await;
    }
    let max = db.stats().max;
    let answers =
        join_all((0..max).map(|_| db.query_one::<String>("SELECT name FROM item", ()))).await;
    for answer in answers {
        assert_eq!(answer.unwrap(), "a");
    }
    assert!(db.stats().size <= max);
}
