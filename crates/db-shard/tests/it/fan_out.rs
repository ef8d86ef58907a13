//! One statement for many shards: complete, or plainly not.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;
use trine_core::{CallContext, Deadline, ErrorKind, Secret, Span};
use trine_db_shard::conformance::Fixture;
use trine_db_shard::{
    DatabaseName, DbConfig, DbDeps, DbService, FanOut, Partial, ShardId, ShardStatus,
};
use trine_testkit::{Door, Flow, MariaDb, Proxy, TestDatabase};

use crate::routing::{create_notes, on_both_engines, sqlite};

on_both_engines!(
    rows_come_in_the_order_of_the_shards(4),
    a_missing_shard_is_an_error_or_a_mark(4),
    a_merge_is_ordered_and_cut_off(3),
    aggregates_cover_every_shard(3),
    every_shard_answers_for_its_own_write(3),
    all_rows_together_are_bounded(3),
);

/// Three notes on each shard: ids 0, 1, 2 on shard 0, 10, 11, 12 on shard 1 …
async fn with_notes(fixture: &Fixture) -> DbService {
    let db = fixture.start().await;
    create_notes(&db).await;
    for shard in db.shards() {
        for number in 0..3 {
            let note = (shard.id.get() * 10 + number, "ada", format!("note {number}"));
            let insert = "INSERT INTO note (id, owner, text) VALUES (?, ?, ?)";
            db.shard(shard.id).unwrap().execute(insert, note).await.unwrap();
        }
    }
    db
}

fn failed_shards<T>(found: &FanOut<T>) -> Vec<u32> {
    found.failed.iter().map(|(shard, _)| shard.get()).collect()
}

const ALL: &str = "SELECT id FROM note WHERE owner = ? ORDER BY id";

async fn rows_come_in_the_order_of_the_shards(fixture: Fixture) {
    let db = with_notes(&fixture).await;
    for concurrency in [0, 1, 2, 100] {
        let call = db.fan_out().concurrency(concurrency);
        let found = call.query::<u32>(ALL, ("ada",)).await.unwrap();
        assert!(found.is_complete());
        let ids: Vec<u32> = found.rows.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids, [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]);
        assert!(found.rows.iter().all(|(shard, id)| id / 10 == shard.get()));
    }
    let some = db.fan_out().on([3_u32, 1, 3]).query::<u32>(ALL, ("ada",)).await.unwrap();
    assert_eq!(some.into_complete().unwrap(), [10, 11, 12, 30, 31, 32]);
    let unknown = db.fan_out().on([1_u32, 9]).query::<u32>(ALL, ("ada",)).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let invalid = db.fan_out().query::<u32>("DELETE FROM note", ()).await.unwrap_err();
    assert_eq!(invalid.kind(), ErrorKind::Invalid);
}

// DB-13
async fn a_missing_shard_is_an_error_or_a_mark(fixture: Fixture) {
    let db = with_notes(&fixture).await;
    for status in [ShardStatus::Maintenance, ShardStatus::Offline] {
        db.set_shard_status(2, status).await.unwrap();
        let strict = db.fan_out().query::<u32>(ALL, ("ada",)).await.unwrap_err();
        assert_eq!(strict.kind(), ErrorKind::Unavailable, "{strict}");
        assert_eq!(strict.at().unwrap().database(), &DatabaseName::Shard(ShardId::new(2)));
        assert!(strict.to_string().contains(status.as_str()), "{strict}");
        assert!(db.fan_out().count("SELECT COUNT(*) FROM note", ()).await.is_err());

        let call = db.fan_out().partial(Partial::Mark);
        let marked = call.query::<u32>(ALL, ("ada",)).await.unwrap();
        assert!(!marked.is_complete());
        assert_eq!(marked.rows.len(), 9);
        assert_eq!(failed_shards(&marked), [2]);
        assert_eq!(marked.into_complete().unwrap_err().kind(), ErrorKind::Unavailable);
        let count = call.count("SELECT COUNT(*) FROM note", ()).await.unwrap();
        assert_eq!((count.value, count.is_complete()), (9, false));
        assert!(count.into_complete().is_err());
        let merged = call.ordered::<u32, _>(ALL, ("ada",), |id| *id, 100).await.unwrap();
        assert_eq!((merged.rows.len(), failed_shards(&merged)), (9, vec![2]));
    }
    let others = db.fan_out().on([0_u32, 1, 3]).query::<u32>(ALL, ("ada",)).await.unwrap();
    assert!(others.is_complete());
}

async fn a_merge_is_ordered_and_cut_off(fixture: Fixture) {
    let db = with_notes(&fixture).await;
    let sql = "SELECT text, id FROM note ORDER BY text, id LIMIT ?";
    let by_text = |row: &(String, u32)| row.0.clone();
    let found = db.fan_out().ordered::<(String, u32), _>(sql, (4,), by_text, 4).await.unwrap();
    let ids: Vec<u32> = found.rows.iter().map(|(_, row)| row.1).collect();
    assert_eq!(ids, [0, 10, 20, 1]);

    let descending = "SELECT id FROM note ORDER BY id DESC";
    let reversed = |id: &u32| Reverse(*id);
    let found = db.fan_out().ordered(descending, (), reversed, 5).await.unwrap();
    assert_eq!(found.into_complete().unwrap(), [22, 21, 20, 12, 11]);
    assert!(db.fan_out().ordered(descending, (), reversed, 0).await.unwrap().rows.is_empty());

    let unordered = db.fan_out().ordered::<u32, _>(descending, (), |id| *id, 5).await.unwrap_err();
    assert_eq!(unordered.kind(), ErrorKind::Invalid);
    assert!(unordered.to_string().contains("ORDER BY"), "{unordered}");
}

async fn aggregates_cover_every_shard(fixture: Fixture) {
    let db = with_notes(&fixture).await;
    let all = db.fan_out();
    assert_eq!(all.count("SELECT COUNT(*) FROM note", ()).await.unwrap().value, 9);
    assert_eq!(all.sum::<i64>("SELECT SUM(id) FROM note", ()).await.unwrap().value, 99);
    assert_eq!(all.sum::<u64>("SELECT id FROM note", ()).await.unwrap().value, 99);
    let half = all.sum::<f64>("SELECT SUM(id / 2.0) FROM note", ()).await.unwrap().value;
    assert!((half - 49.5).abs() < 1e-9, "{half}");
    let none = all.sum::<i64>("SELECT SUM(id) FROM note WHERE id < 0", ()).await.unwrap();
    assert_eq!(none.value, 0);
    assert_eq!(all.min::<i64>("SELECT MIN(id) FROM note", ()).await.unwrap().value, Some(0));
    let greatest = all.max::<String>("SELECT MAX(text) FROM note", ()).await.unwrap();
    assert_eq!(greatest.into_complete().unwrap().as_deref(), Some("note 2"));
    let none = all.max::<i64>("SELECT MAX(id) FROM note WHERE id < 0", ()).await.unwrap();
    assert_eq!(none.value, None);

    // Fits on each shard, not over all of them.
    let large = "SELECT 9223372036854775807";
    let overflow = all.sum::<i64>(large, ()).await.unwrap_err();
    assert_eq!(overflow.kind(), ErrorKind::Codec, "{overflow}");
    assert!(overflow.to_string().contains("fits i64"), "{overflow}");
    assert_eq!(all.on([0_u32]).sum::<i64>(large, ()).await.unwrap().value, i64::MAX);
    let text = db.fan_out().sum::<i64>("SELECT text FROM note", ()).await.unwrap_err();
    assert_eq!(text.kind(), ErrorKind::Codec, "{text}");
}

async fn every_shard_answers_for_its_own_write(fixture: Fixture) {
    let db = with_notes(&fixture).await;
    let done =
        db.fan_out().execute("UPDATE note SET text = 'x' WHERE id < ?", (11,)).await.unwrap();
    let affected: Vec<u64> =
        done.into_complete().unwrap().iter().map(|done| done.affected).collect();
    assert_eq!(affected, [3, 1, 0]);
    // Taken on shard 1 only.
    let insert = "INSERT INTO note (id, owner, text) VALUES (?, 'bob', 'y')";
    let done = db.fan_out().execute(insert, (10,)).await.unwrap();
    assert_eq!(failed_shards(&done), [1]);
    assert_eq!(done.failed[0].1.kind(), ErrorKind::Conflict);
    assert_eq!(done.rows.len(), 2);
}

async fn all_rows_together_are_bounded(fixture: Fixture) {
    let fixture = fixture.with(|config| config.max_rows = 8.try_into().unwrap());
    let db = with_notes(&fixture).await;
    let error = db.fan_out().query::<u32>(ALL, ("ada",)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("db.max_rows"), "{error}");
    assert!(db.fan_out().on([0_u32, 1]).query::<u32>(ALL, ("ada",)).await.is_ok());
}

#[trine_testkit::test]
async fn before_the_start_nothing_is_answered() {
    let fixture = sqlite(2).await;
    let db = DbService::open(&fixture.config, DbDeps::default()).unwrap();
    let error = db.fan_out().query::<u32>("SELECT 1", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

/// Shards on the shared server, the last of them behind a proxy.
async fn behind_a_proxy(shards: u32) -> (Fixture, Proxy) {
    let server = MariaDb::shared().await.unwrap();
    let mut databases: Vec<TestDatabase> = Vec::new();
    for _ in 0..=shards {
        databases.push(server.database().await.unwrap());
    }
    let proxy = Proxy::to(databases[0].addr().await.unwrap()).await.unwrap();
    let mut urls: Vec<String> = databases.iter().map(TestDatabase::url).collect();
    *urls.last_mut().unwrap() = databases.last().unwrap().url_via(proxy.addr());
    let mut urls = urls.into_iter().map(Secret::new);
    let config = DbConfig::mysql(urls.next().unwrap(), urls);
    (Fixture::new(config, databases), proxy)
}

// DB-24
#[trine_testkit::test(timeout = "120s")]
async fn a_black_holed_shard_delays_nobody_beyond_the_deadline() {
    let (fixture, proxy) = behind_a_proxy(4).await;
    let db = with_notes(&fixture).await;
    proxy.set(Flow::Hang);
    proxy.set_door(Door::Silent).await.unwrap();

    let timeout = Duration::from_millis(600);
    let call = db.fan_out().timeout(timeout);
    let began = Instant::now();
    let marked = call.clone().partial(Partial::Mark).query::<u32>(ALL, ("ada",)).await.unwrap();
    assert!(began.elapsed() < timeout * 5, "{:?}", began.elapsed());
    assert_eq!(failed_shards(&marked), [3]);
    assert_eq!(marked.rows.len(), 9);
    let (_, error) = &marked.failed[0];
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("db.fan_out.timeout"), "{error}");

    let began = Instant::now();
    let strict = call.query::<u32>(ALL, ("ada",)).await.unwrap_err();
    assert!(began.elapsed() < timeout * 5, "{:?}", began.elapsed());
    assert_eq!(strict.at().unwrap().database(), &DatabaseName::Shard(ShardId::new(3)));

    // The deadline of the caller counts as well.
    let context = CallContext::default().with_deadline(Deadline::after(timeout));
    let call = db.fan_out().partial(Partial::Mark);
    let marked = context.scope(call.query::<u32>(ALL, ("ada",))).await.unwrap();
    assert_eq!(marked.rows.len(), 9);
    let (_, error) = &marked.failed[0];
    assert!(error.to_string().contains("the deadline of the call"), "{error}");

    // Nobody else noticed.
    let others = db.fan_out().on([0_u32, 1, 2]).query::<u32>(ALL, ("ada",)).await.unwrap();
    assert_eq!(others.rows.len(), 9);

    proxy.set(Flow::Pass);
    proxy.kill_all();
    proxy.set_door(Door::Open).await.unwrap();
    for _ in 0..500 {
        if db.fan_out().query::<u32>(ALL, ("ada",)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the shard did not come back");
}

// DB-13
#[trine_testkit::test(timeout = "180s")]
async fn a_shard_that_is_away_fails_alone() {
    const SHARDS: u32 = 16;
    let (fixture, proxy) = behind_a_proxy(SHARDS).await;
    let fixture = fixture.with(|config| config.query_timeout = Span::secs(5));
    let db = with_notes(&fixture).await;
    let of_the_others: Vec<u32> =
        (0..SHARDS - 1).flat_map(|shard| (0..3).map(move |number| shard * 10 + number)).collect();
    proxy.set_door(Door::Refuse).await.unwrap();
    proxy.kill_all();
    for _ in 0..3 {
        let strict = db.fan_out().query::<u32>(ALL, ("ada",)).await.unwrap_err();
        assert_eq!(strict.kind(), ErrorKind::Unavailable, "{strict}");
        assert_eq!(strict.at().unwrap().database(), &DatabaseName::Shard(ShardId::new(SHARDS - 1)));

        let call = db.fan_out().partial(Partial::Mark);
        let marked = call.query::<u32>(ALL, ("ada",)).await.unwrap();
        assert!(!marked.is_complete());
        assert_eq!(failed_shards(&marked), [SHARDS - 1]);
        assert_eq!(marked.failed[0].1.kind(), ErrorKind::Unavailable, "{}", marked.failed[0].1);
        let ids: Vec<u32> = marked.rows.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids, of_the_others);
        assert!(marked.into_complete().is_err());
    }
}

#[trine_testkit::test]
async fn a_dropped_call_leaves_nothing_behind() {
    let fixture = crate::routing::mariadb(3).await;
    let db = with_notes(&fixture).await;
    let call = db.fan_out();
    for _ in 0..5 {
        let slow = call.query::<i64>("SELECT SLEEP(20)", ());
        assert!(tokio::time::timeout(Duration::from_millis(50), slow).await.is_err());
    }
    for _ in 0..20 {
        let found = db.fan_out().query::<u32>(ALL, ("ada",)).await.unwrap();
        assert_eq!(found.rows.len(), 9);
    }
}
