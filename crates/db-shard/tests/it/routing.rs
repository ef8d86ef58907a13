//! Which shard a key is on: assigned once, found again, never guessed.

mod assigning;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::{join_all, try_join_all};
use sqlx::{Connection, MySqlConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;
use trine_core::{CallContext, ErrorKind, ManualClock, Report, Secret, Span};
use trine_db_shard::conformance::Fixture;
use trine_db_shard::{
    ConnectionConfig, Database, DatabaseName, DbConfig, DbDeps, DbService, Error, Routed,
    ShardConfig, ShardId, ShardKey, ShardStatus, TxOptions, Unavailable,
};
use trine_testkit::{MariaDb, TestDatabase};
use uuid::Uuid;

/// Databases in a folder of their own, with `shards` shards.
pub(crate) async fn sqlite(shards: u32) -> Fixture {
    let folder = TempDir::new().unwrap();
    let mut config = DbConfig::sqlite(folder.path(), shards);
    for connection in config.connections.values_mut() {
        if let ConnectionConfig::Sqlite(sqlite) = connection {
            sqlite.readers = NonZeroU32::new(2).unwrap();
        }
    }
    Fixture::new(config, folder)
}

/// Databases on the shared server, with `shards` shards.
pub(crate) async fn mariadb(shards: u32) -> Fixture {
    let server = MariaDb::shared().await.unwrap();
    let databases: Vec<TestDatabase> =
        try_join_all((0..=shards).map(|_| server.database())).await.unwrap();
    let config = mysql_config(databases.iter().map(TestDatabase::url));
    Fixture::new(config, databases)
}

/// The first of the URLs is the global database's.
pub(crate) fn mysql_config(urls: impl IntoIterator<Item = String>) -> DbConfig {
    let mut urls = urls.into_iter().map(Secret::new);
    let global = urls.next().unwrap();
    DbConfig::mysql(global, urls)
}

/// Two tests, one for each engine, of a check that takes a fixture.
macro_rules! on_both_engines {
    ($($check:ident($shards:literal)),+ $(,)?) => {
        mod sqlite_engine {
            $(#[trine_testkit::test]
            async fn $check() {
                super::$check(crate::routing::sqlite($shards).await).await;
            })+
        }
        mod mariadb_engine {
            $(#[trine_testkit::test(timeout = "180s")]
            async fn $check() {
                super::$check(crate::routing::mariadb($shards).await).await;
            })+
        }
    };
}
pub(crate) use on_both_engines;

on_both_engines!(
    keys_follow_the_weights_of_shards_that_take_them(3),
    a_chosen_shard_is_kept(3),
    an_unknown_key_is_not_found_and_never_global(2),
    every_kind_of_key_finds_its_rows(2),
    statuses_are_respected(2),
    no_taker_is_an_error_that_says_why(2),
    a_stale_map_assigns_nothing_to_a_draining_shard(2),
);

/// Returns the shard of every key in the global database.
async fn stored(db: &DbService) -> Vec<u32> {
    db.global().query("SELECT shard_id FROM trine_shard_key", ()).await.unwrap()
}

async fn keys_follow_the_weights_of_shards_that_take_them(fixture: Fixture) {
    let fixture = fixture.with(|config| {
        config.shards[0].weight = 1;
        config.shards[1].weight = 3;
        config.shards[2].weight = 0;
    });
    let db = fixture.start().await;
    let keys: Vec<String> = (0..400).map(|number| format!("user:{number}")).collect();
    try_join_all(keys.iter().map(|key| db.assign(key))).await.unwrap();
    let mut counts = BTreeMap::<u32, u32>::new();
    for shard in stored(&db).await {
        *counts.entry(shard).or_default() += 1;
    }
    // Expected 100 and 300; five standard deviations are 43.
    assert!((57..=143).contains(&counts[&0]), "{counts:?}");
    assert_eq!(counts[&0] + counts[&1], 400, "{counts:?}");

    db.set_shard_status(1, ShardStatus::Draining).await.unwrap();
    for key in 0..50_u64 {
        assert_eq!(db.assign(key).await.unwrap(), ShardId::new(0));
    }
}

async fn a_chosen_shard_is_kept(fixture: Fixture) {
    let db = fixture.start().await;
    db.assign_to("ada", 2).await.unwrap();
    db.assign_to("ada", 2).await.unwrap();
    assert_eq!(db.assign("ada").await.unwrap(), ShardId::new(2));
    let other = db.assign_to("ada", 1).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict, "{other}");
    let unknown = db.assign_to("bob", 9).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{unknown}");
    db.set_shard_status(1, ShardStatus::Draining).await.unwrap();
    let full = db.assign_to("bob", 1).await.unwrap_err();
    assert!(full.to_string().contains("shard 1: the shard is draining"), "{full}");
    assert_eq!(db.shard_of("bob").await.unwrap(), None);
}

async fn an_unknown_key_is_not_found_and_never_global(fixture: Fixture) {
    let db = fixture.start().await;
    let error = db.for_key("nobody").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!error.to_string().contains("nobody"), "keys may be personal: {error}");
    assert_eq!(db.shard_of("nobody").await.unwrap(), None);
    // The miss is not remembered.
    let shard = db.assign("nobody").await.unwrap();
    assert_eq!(db.for_key("nobody").await.unwrap().shard_id(), shard);
    let invalid = db.for_key("").await.unwrap_err();
    assert_eq!(invalid.kind(), ErrorKind::Invalid);
}

struct Session(ShardKey);

impl Routed for Session {
    fn shard_key(&self) -> ShardKey {
        self.0.clone()
    }
}

async fn every_kind_of_key_finds_its_rows(fixture: Fixture) {
    let db = fixture.start().await;
    create_notes(&db).await;
    let uuid = Uuid::from_u128(7);
    let keys = [
        ShardKey::from(7_u64),
        ShardKey::from(-7_i64),
        ShardKey::from(uuid),
        ShardKey::try_from("7").unwrap(),
    ];
    for (number, key) in (0..).zip(&keys) {
        db.assign_to(key, number % 2).await.unwrap();
        let shard = db.for_key(key).await.unwrap();
        let note = (number, "all", format!("note {number}"));
        shard.execute("INSERT INTO note (id, owner, text) VALUES (?, ?, ?)", note).await.unwrap();
    }
    let mut handles = vec![
        db.for_key(7_u64).await.unwrap(),
        db.for_key(-7_i64).await.unwrap(),
        db.for_key(uuid).await.unwrap(),
        db.for_key("7").await.unwrap(),
    ];
    for (number, handle) in (0..).zip(&handles) {
        let id = (number,);
        let text: String =
            handle.query_one("SELECT text FROM note WHERE id = ?", id).await.unwrap();
        assert_eq!(text, format!("note {number}"));
        assert_eq!(handle.shard_id(), ShardId::new(number % 2));
    }
    let session = db.for_session(&Session(keys[3].clone())).await.unwrap();
    assert_eq!(session.key(), &keys[3]);
    let last = handles.pop().unwrap();
    let ids = last.stream::<u32>("SELECT id FROM note ORDER BY id", ());
    let ids: Vec<u32> = ids.try_collect().await.unwrap();
    assert_eq!(ids, [1, 3]);
    let count: u32 = last
        .transaction_with(&TxOptions::default().read_only(), |mut tx| async move {
            tx.query_one("SELECT COUNT(*) FROM note", ()).await
        })
        .await
        .unwrap_or_else(|error: Error| panic!("{}", Report(&error)));
    assert_eq!(count, 2);
    let mut tx = last.begin().await.unwrap();
    tx.execute("DELETE FROM note", ()).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(last.query::<u32>("SELECT id FROM note", ()).await.unwrap().len(), 2);
}

pub(crate) async fn create_notes(db: &DbService) {
    let table = "CREATE TABLE note (id INTEGER NOT NULL PRIMARY KEY, \
                 owner VARCHAR(64) NOT NULL, text VARCHAR(64) NOT NULL)";
    db.fan_out().execute(table, ()).await.unwrap().into_complete().unwrap();
}

async fn statuses_are_respected(fixture: Fixture) {
    let db = fixture.start().await;
    create_notes(&db).await;
    db.assign_to("ada", 1).await.unwrap();
    let handle = db.for_key("ada").await.unwrap();
    let write = "INSERT INTO note (id, owner, text) VALUES (?, 'ada', 'x')";
    let read = "SELECT COUNT(*) FROM note";

    db.set_shard_status(1, ShardStatus::Draining).await.unwrap();
    handle.execute(write, (1,)).await.unwrap();

    db.set_shard_status(1, ShardStatus::ReadOnly).await.unwrap();
    let refused = handle.execute(write, (2,)).await.unwrap_err();
    assert_eq!(refused.to_string(), "db execute shard 1: the shard is read_only");
    assert!(handle.begin().await.is_err());
    assert_eq!(handle.query_one::<u32>(read, ()).await.unwrap(), 1);

    for status in [ShardStatus::Maintenance, ShardStatus::Offline] {
        db.set_shard_status(1, status).await.unwrap();
        let error = handle.query_one::<u32>(read, ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let error = db.for_key("ada").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(status.as_str()), "{error}");
    }
    // The map still knows the key, and nothing else stopped.
    assert_eq!(db.shard_of("ada").await.unwrap(), Some(ShardId::new(1)));
    db.assign_to("bob", 0).await.unwrap();
    db.for_key("bob").await.unwrap().execute(write, (3,)).await.unwrap();

    db.set_shard_status(1, ShardStatus::Active).await.unwrap();
    for _ in 0..500 {
        if handle.query_one::<u32>(read, ()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the shard did not come back");
}

async fn no_taker_is_an_error_that_says_why(fixture: Fixture) {
    let fixture = fixture.with(|config| config.shards[1].weight = 0);
    let db = fixture.start().await;
    db.set_shard_status(0, ShardStatus::ReadOnly).await.unwrap();
    let error = db.assign("ada").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = Report(&error).to_string();
    assert!(text.contains("shard 0 is read_only, shard 1 has weight 0"), "{text}");
    assert_eq!(db.shard_of("ada").await.unwrap(), None);
}

async fn a_stale_map_assigns_nothing_to_a_draining_shard(fixture: Fixture) {
    let fixture = fixture.with(|config| {
        config.map.refresh = Span::secs(600);
        config.map.lease = Span::secs(1_200);
    });
    let db = fixture.start().await;
    // As another process would.
    let drain = "UPDATE trine_shard SET status = 'draining' WHERE id = 0";
    db.global().execute(drain, ()).await.unwrap();
    for key in 0..30_u64 {
        assert_eq!(db.assign(key).await.unwrap(), ShardId::new(1));
    }
}

#[trine_testkit::test]
async fn numbers_of_shards_need_not_be_contiguous() {
    let fixture = sqlite(0).await.with(|config| {
        let connections: Vec<_> = [("a", 0_u32), ("b", 7), ("c", u32::MAX)].into();
        let folder = match &config.connections["global"] {
            ConnectionConfig::Sqlite(sqlite) => sqlite.path.parent().unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
        for (name, id) in connections {
            let file = folder.join(format!("{name}.db"));
            let sqlite = trine_db_shard::SqliteConfig::new(file);
            config.connections.insert(name.into(), ConnectionConfig::Sqlite(sqlite));
            config.shards.push(ShardConfig::new(ShardId::new(id), name));
        }
    });
    let db = fixture.start().await;
    let shards = join_all((0..200_u64).map(|key| db.assign(key))).await;
    let used: BTreeSet<u32> = shards.into_iter().map(|shard| shard.unwrap().get()).collect();
    assert_eq!(used, BTreeSet::from([0, 7, u32::MAX]));
}

/// What a suspended machine knows is old, though its own timers stood still.
#[trine_testkit::test]
async fn a_key_is_asked_for_again_after_its_lease() {
    let fixture = sqlite(2).await;
    let clock = ManualClock::new();
    let db = fixture.start_with(DbDeps::default().with_clock(Arc::new(clock.clone()))).await;
    create_notes(&db).await;
    db.assign_to("ada", 0).await.unwrap();
    let handle = db.for_key("ada").await.unwrap();
    let write = "INSERT INTO note (id, owner, text) VALUES (?, 'ada', 'x')";
    handle.execute(write, (1,)).await.unwrap();
    // Behind the back of the handle, as another process would.
    let switch = "UPDATE trine_shard_key SET shard_id = 1, epoch = 3";
    db.global().execute(switch, ()).await.unwrap();
    handle.execute(write, (2,)).await.unwrap();
    clock.advance(Duration::from_secs(3));
    handle.execute(write, (3,)).await.unwrap();
    let found = db.fan_out().query::<u32>("SELECT id FROM note ORDER BY id", ()).await.unwrap();
    let (old, new) = (ShardId::new(0), ShardId::new(1));
    assert_eq!(found.rows, [(old, 1), (old, 2), (new, 3)]);
}

#[trine_testkit::test]
async fn a_plain_statement_ends_before_its_lease_does() {
    let fixture = mariadb(1).await.with(|config| {
        config.map.refresh = Span::millis(200);
        config.map.lease = Span::millis(800);
    });
    let db = fixture.start().await;
    create_notes(&db).await;
    db.assign_to("ada", 0).await.unwrap();
    let handle = db.for_key("ada").await.unwrap();
    handle
        .execute("INSERT INTO note (id, owner, text) VALUES (1, 'ada', 'old')", ())
        .await
        .unwrap();
    let slow = handle.query::<i64>("SELECT SLEEP(20)", ()).await.unwrap_err();
    assert_eq!(slow.kind(), ErrorKind::Timeout, "{slow}");
    assert!(slow.to_string().contains("db.map.lease"), "{slow}");

    let shard = db.shard(0).unwrap();
    let mut holder = shard.begin().await.unwrap();
    holder.execute("UPDATE note SET text = 'held' WHERE id = 1", ()).await.unwrap();
    let late = handle.execute("UPDATE note SET text = 'late' WHERE id = 1", ()).await.unwrap_err();
    assert!(matches!(late.kind(), ErrorKind::Timeout | ErrorKind::OutcomeUnknown), "{late}");
    // The pool's bound on ending it, after which nothing of it is left.
    wait_until_idle(&shard, 1).await;
    holder.commit().await.unwrap();
    let text: String = shard.query_one("SELECT text FROM note", ()).await.unwrap();
    assert_eq!(text, "held");

    // A transaction may take longer than the lease, and a stream that began.
    let slept: i64 = handle
        .transaction(|mut tx| async move { tx.query_one("SELECT SLEEP(1.5)", ()).await })
        .await
        .unwrap_or_else(|error: Error| panic!("{}", Report(&error)));
    assert_eq!(slept, 0);
    // Rows so long that the server does not gather them before it sends.
    let rows = handle.stream::<(i64, i64, String)>(
        "SELECT seq, SLEEP(0.2), REPEAT('x', 100000) FROM seq_1_to_8",
        (),
    );
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 8);
}

/// Waits until no more than `left` connections of the account do anything.
async fn wait_until_idle(shard: &Database, left: i64) {
    const BUSY: &str = "SELECT COUNT(*) FROM information_schema.processlist \
                        WHERE user = SUBSTRING_INDEX(USER(), '@', 1) AND command = 'Query' \
                        AND info LIKE 'UPDATE note SET text = ''late''%'";
    for _ in 0..1_000 {
        if shard.query_one::<i64>(BUSY, ()).await.unwrap() < left {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the statement goes on");
}

// DB-19
#[trine_testkit::test(timeout = "120s", threads = 4)]
async fn a_busy_tenant_starves_no_other() {
    let starved = serve_beside_a_busy_tenant(None).await;
    assert!(starved.is_empty(), "{starved:?}");
}

/// Shows that the limit is what keeps the others alive.
#[trine_testkit::test(timeout = "120s", threads = 4)]
async fn without_a_limit_a_busy_tenant_starves_the_others() {
    let starved = serve_beside_a_busy_tenant(NonZeroU32::new(4)).await;
    assert!(!starved.is_empty());
    assert!(starved.iter().all(|kind| *kind == ErrorKind::Exhausted), "{starved:?}");
}

/// Half of the load is one tenant's and never ends. Returns what the others
/// failed with.
async fn serve_beside_a_busy_tenant(tenant_in_flight: Option<NonZeroU32>) -> Vec<ErrorKind> {
    const BUSY: &str = "SELECT COUNT(*) FROM information_schema.processlist \
                        WHERE info LIKE 'SELECT SLEEP(25)%'";
    let fixture = mariadb(1).await.with(|config| {
        config.tenant_in_flight = tenant_in_flight;
        for connection in config.connections.values_mut() {
            if let ConnectionConfig::Mysql(mysql) = connection {
                mysql.pool.max = NonZeroU32::new(4).unwrap();
                mysql.pool.acquire_timeout = Span::secs(3);
            }
        }
    });
    let shard = fixture.config.shards[0].connection.as_str();
    let ConnectionConfig::Mysql(mysql) = &fixture.config.connections[shard] else {
        panic!("{:?}", fixture.config);
    };
    let url = mysql.url.expose().to_owned();
    let db = fixture.start().await;
    db.assign_to("ada", 0).await.unwrap();
    let tenant = |name: String| CallContext::default().with_tenant(name).unwrap();

    let mut busy = JoinSet::new();
    for _ in 0..12 {
        let (db, tenant) = (db.clone(), tenant("busy".to_owned()));
        busy.spawn(tenant.scope(async move {
            let shard = db.shard(0).unwrap();
            let _ended = shard.query::<i64>("SELECT SLEEP(25)", ()).await;
        }));
    }
    let shard = db.shard(0).unwrap();
    let expected = tenant_in_flight.map_or(2, |places| usize::try_from(places.get()).unwrap());
    while shard.stats().size - shard.stats().idle < expected {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let mut others = JoinSet::new();
    for number in 0..12 {
        let (db, tenant) = (db.clone(), tenant(format!("quiet {number}")));
        others.spawn(tenant.scope(async move {
            let handle = db.for_key("ada").await?;
            for _ in 0..20 {
                handle.query_one::<i64>("SELECT 1", ()).await?;
            }
            Ok::<_, Error>(())
        }));
    }
    // Counted by the server: the pool's own figures are what is being tested.
    let mut watch = MySqlConnection::connect(&url).await.unwrap();
    let mut most = 0;
    let mut results = Vec::new();
    while let Some(ended) = others.join_next().await {
        results.push(ended.unwrap());
        most = most.max(sqlx::query_scalar(BUSY).fetch_one(&mut watch).await.unwrap());
    }
    assert_eq!(most, i64::try_from(expected).unwrap(), "the busy tenant's statements at once");
    assert_eq!(busy.len(), 12);
    assert!(busy.try_join_next().is_none(), "the busy tenant's load ended before the others'");
    busy.shutdown().await;
    results.into_iter().filter_map(|result| result.err().map(|error| error.kind())).collect()
}

/// Handles and futures can be used from any task.
#[trine_testkit::test]
async fn handles_and_futures_are_send() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let fixture = sqlite(1).await;
    let db = fixture.start().await;
    sent(db.assign("ada")).await.unwrap();
    let handle = sent(db.for_key("ada").await.unwrap());
    let body =
        |mut tx: trine_db_shard::Tx| async move { tx.query_one::<i64>("SELECT 1", ()).await };
    assert_eq!(sent(handle.transaction(body)).await.unwrap(), 1);
    assert_eq!(sent(handle.query_one::<i64>("SELECT 1", ())).await.unwrap(), 1);
    let key = sent(db.for_key("nobody")).await.unwrap_err();
    assert_eq!(key.at().unwrap().database(), &DatabaseName::Global);
    assert!(!matches!(key, Error::Unavailable { reason: Unavailable::Moving, .. }));
}
