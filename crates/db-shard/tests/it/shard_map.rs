//! What operators and newer releases write into the shard map, and what every
//! process makes of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use trine_core::{
    Deadline, ErrorKind, HealthStatus, ManualClock, MigrationScope, MigrationSet, MigrationStep,
    Report, Secret, Service, Span,
};
use trine_db_shard::conformance::Fixture;
use trine_db_shard::{
    AbortOutcome, ConnectionConfig, Database, DbConfig, DbDeps, DbService, Engine, Error,
    MigrateMode, Partial, Result, ShardConfig, ShardId, ShardStatus, Sql, Unavailable,
};
use trine_testkit::MariaDb;

use crate::routing::{create_notes, on_both_engines};

on_both_engines!(
    a_row_that_cannot_be_used_stops_no_other(3),
    the_global_connection_is_no_shard(2),
    connections_that_change_hands_are_opened_anew(3),
    a_move_is_aborted_while_its_target_is_offline(2),
    a_write_that_outlasts_its_lease_is_unknown(1),
    a_fan_out_says_which_writes_were_sent(2),
    a_start_writes_nothing_that_is_there(2),
    a_shard_that_comes_back_is_ready_at_once(2),
    a_check_lists_what_every_shard_misses(3),
    no_key_goes_to_a_shard_that_begins_to_drain(2),
);

const INSERT: &str = "INSERT INTO note (id, owner, text) VALUES (?, 'ada', 'x')";
const COUNT: &str = "SELECT COUNT(*) FROM note";

async fn answers(db: &Database) -> bool {
    db.query_one::<i64>("SELECT 1", ()).await.is_ok()
}

/// Waits until the shard answers.
async fn until_it_answers(db: &DbService, id: u32) {
    let waiting = async {
        while !matches!(db.shard(id), Ok(shard) if answers(&shard).await) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(50), waiting).await.unwrap();
}

async fn a_row_that_cannot_be_used_stops_no_other(fixture: Fixture) {
    let db = fixture.start().await;
    create_notes(&db).await;
    db.assign_to("ada", 1).await.unwrap();
    let held = db.shard(1).unwrap();
    let set = "UPDATE trine_shard SET status = ? WHERE id = 1";
    db.global().execute(set, ("frozen",)).await.unwrap();
    db.reload().await.unwrap();

    let refused = [
        db.shard(1).unwrap_err(),
        db.for_key("ada").await.unwrap_err(),
        db.fan_out().query::<u32>("SELECT id FROM note", ()).await.unwrap_err(),
    ];
    for error in refused {
        let is_left_out = matches!(error, Error::Unavailable { reason: Unavailable::LeftOut, .. });
        assert!(is_left_out && Report(&error).to_string().contains("frozen"), "{error}");
    }
    assert_eq!(
        held.query_one::<i64>("SELECT 1", ()).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let some = db.fan_out().partial(Partial::Mark).query::<u32>("SELECT id FROM note", ()).await;
    let failed: Vec<ShardId> = some.unwrap().failed.into_iter().map(|(id, _)| id).collect();
    assert_eq!(failed, [ShardId::new(1)]);
    let health = db.health().await;
    assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
    assert!(serde_json::to_string(&health).unwrap().contains("frozen"), "{health:?}");
    assert!(answers(&db.shard(0).unwrap()).await && answers(&db.shard(2).unwrap()).await);
    // A process that starts now is not stopped either; one that has files
    // alone cannot have a second one beside it.
    if db.global().engine() == Engine::Mysql {
        let second = fixture.start().await;
        assert!(answers(&second.shard(0).unwrap()).await && second.shard(1).is_err());
    }

    db.global().execute(set, ("active",)).await.unwrap();
    db.reload().await.unwrap();
    until_it_answers(&db, 1).await;
    assert!(answers(&held).await, "an old handle follows");
}

async fn the_global_connection_is_no_shard(fixture: Fixture) {
    let db = fixture.start().await;
    let shard = ShardConfig::new(ShardId::new(9), "global");
    let error = db.add_shard(&shard).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("connection `global` is the global database's"), "{error}");

    let insert = "INSERT INTO trine_shard (id, connection, weight, status, epoch) \
                  VALUES (9, 'global', 1, 'active', 1)";
    db.global().execute(insert, ()).await.unwrap();
    db.reload().await.unwrap();
    assert_eq!(db.shard(9).unwrap_err().kind(), ErrorKind::Unavailable);
    db.set_shard_status(9, ShardStatus::Offline).await.unwrap();
    assert!(answers(db.global()).await);
}

async fn connections_that_change_hands_are_opened_anew(fixture: Fixture) {
    let db = fixture.start().await;
    create_notes(&db).await;
    for shard in db.shards() {
        db.shard(shard.id).unwrap().execute(INSERT, (shard.id.get(),)).await.unwrap();
    }
    let connections: Vec<String> =
        db.global().query("SELECT connection FROM trine_shard ORDER BY id", ()).await.unwrap();
    let name = "UPDATE trine_shard SET connection = ? WHERE id = ?";
    // The databases of 0 and 1 swap, and that of 2 goes to a new shard.
    let statements = [
        (name, ("spare".to_owned(), 0)),
        (name, (connections[0].clone(), 1)),
        (name, (connections[1].clone(), 0)),
        (name, ("none".to_owned(), 2)),
    ];
    for (sql, params) in statements {
        db.global().execute(sql, params).await.unwrap();
    }
    let insert = "INSERT INTO trine_shard (id, connection, weight, status, epoch) \
                  VALUES (7, ?, 1, 'active', 1)";
    db.global().execute(insert, (connections[2].as_str(),)).await.unwrap();
    db.reload().await.unwrap();
    for (id, row) in [(0, 1), (1, 0), (7, 2)] {
        until_it_answers(&db, id).await;
        let found: Vec<u32> = db.shard(id).unwrap().query("SELECT id FROM note", ()).await.unwrap();
        assert_eq!(found, [row], "shard {id}");
    }
    assert_eq!(db.shard(2).unwrap_err().kind(), ErrorKind::Unavailable);
}

async fn a_move_is_aborted_while_its_target_is_offline(fixture: Fixture) {
    let fixture = fixture.with(|config| {
        config.map.refresh = Span::millis(75);
        config.map.lease = Span::millis(300);
    });
    let db = fixture.start().await;
    create_notes(&db).await;
    db.assign_to("ada", 0).await.unwrap();
    let failing = db.move_key("ada", 1, |step| async move {
        Err::<(), _>(step.source().query_one::<i64>("SELECT nothing", ()).await.unwrap_err())
    });
    failing.await.unwrap_err();
    let handle = db.for_key("ada").await.unwrap();
    assert_eq!(handle.execute(INSERT, (1,)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    db.set_shard_status(1, ShardStatus::Offline).await.unwrap();
    assert_eq!(db.abort_move("ada").await.unwrap(), AbortOutcome::Aborted);
    for outcome in ["failed", "aborted"] {
        let moves = db.metrics().counter("trine_db_moves_total", &[("outcome", outcome)]);
        assert_eq!(moves, Some(1), "{outcome}");
    }
    let asked = db.metrics().counter("trine_db_key_lookups_total", &[("source", "map")]);
    assert!(asked >= Some(1), "{asked:?}");
    handle.execute(INSERT, (1,)).await.unwrap();
}

async fn a_write_that_outlasts_its_lease_is_unknown(fixture: Fixture) {
    let clock = ManualClock::new();
    let db = fixture.start_with(DbDeps::default().with_clock(Arc::new(clock.clone()))).await;
    create_notes(&db).await;
    db.assign_to("ada", 0).await.unwrap();
    let handle = db.for_key("ada").await.unwrap();
    let shard = db.shard(0).unwrap();
    let mut holder = shard.begin().await.unwrap();
    holder.execute(INSERT, (1,)).await.unwrap();
    // Waits for the writer, or for the row.
    let writing = handle.execute("DELETE FROM note WHERE id = ?", (1,));
    let stopping = async {
        sleep(Duration::from_millis(200)).await;
        clock.advance(Duration::from_secs(5));
        holder.commit().await.unwrap();
    };
    let (done, ()) = tokio::join!(writing, stopping);
    let error = done.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert!(Report(&error).to_string().contains("db.map.lease"), "{error}");
    assert_eq!(shard.query_one::<u32>(COUNT, ()).await.unwrap(), 0, "it was written");
}

async fn a_fan_out_says_which_writes_were_sent(fixture: Fixture) {
    let db = fixture.start().await;
    create_notes(&db).await;
    let shard = db.shard(0).unwrap();
    shard.execute(INSERT, (1,)).await.unwrap();
    let mut holder = shard.begin().await.unwrap();
    holder.execute("UPDATE note SET text = 'held' WHERE id = 1", ()).await.unwrap();
    let call = db.fan_out().concurrency(1).timeout(Duration::from_millis(300));
    let done = call.execute("UPDATE note SET text = 'late'", ()).await.unwrap();
    let kinds: Vec<_> = done.failed.iter().map(|(id, error)| (id.get(), error.kind())).collect();
    // What waits for SQLite's writer was not begun; what waits for a row was.
    let first = match db.global().engine() {
        Engine::Sqlite => ErrorKind::Timeout,
        _ => ErrorKind::OutcomeUnknown,
    };
    assert_eq!(kinds, [(0, first), (1, ErrorKind::Timeout)]);
    holder.commit().await.unwrap();
}

async fn a_start_writes_nothing_that_is_there(fixture: Fixture) {
    const REFUSE: Sql = Sql::per_engine()
        .sqlite(
            "CREATE TRIGGER refuse BEFORE INSERT ON trine_shard \
             BEGIN SELECT RAISE(ABORT, 'read only'); END",
        )
        .mysql(
            "CREATE TRIGGER refuse BEFORE INSERT ON trine_shard FOR EACH ROW \
             SIGNAL SQLSTATE '45000'",
        );
    let db = fixture.start().await;
    db.global().execute(REFUSE, ()).await.unwrap();
    db.shutdown(Deadline::after(Duration::from_secs(5))).await.unwrap();
    let db = fixture.start().await;
    let error = db.global().execute("INSERT INTO trine_shard VALUES (7, 'x', 1, 'active', 1)", ());
    assert_eq!(error.await.unwrap_err().kind(), ErrorKind::Invalid, "the trigger works");
}

async fn a_shard_that_comes_back_is_ready_at_once(fixture: Fixture) {
    let fixture = fixture.with(|config| {
        config.map.refresh = Span::secs(600);
        config.map.lease = Span::secs(1_200);
    });
    let db = fixture.start().await;
    db.set_shard_status(1, ShardStatus::Offline).await.unwrap();
    assert!(db.shard(1).is_err());
    // The file is free again once its former connections are closed.
    until_it_was_set_active(&db).await;
    assert!(answers(&db.shard(1).unwrap()).await);
}

async fn until_it_was_set_active(db: &DbService) {
    let setting = async {
        loop {
            db.set_shard_status(1, ShardStatus::Active).await.unwrap();
            if answers(&db.shard(1).unwrap()).await {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(50), setting).await.unwrap();
}

async fn a_check_lists_what_every_shard_misses(fixture: Fixture) {
    let fixture = fixture.with(|config| config.migrate = Some(MigrateMode::Auto));
    let db = fixture.start().await;
    db.shutdown(Deadline::after(Duration::from_secs(5))).await.unwrap();
    let fixture = fixture.with(|config| config.migrate = Some(MigrateMode::Check));
    let table = "CREATE TABLE extra (id INTEGER NOT NULL PRIMARY KEY)";
    let step = MigrationStep::new(1, "extra").on("sqlite", [table]).on("mysql", [table]);
    let set = MigrationSet::new("host", MigrationScope::Shards).step(step);
    let deps = DbDeps::default().with_migrations(set);
    let db = DbService::open(&fixture.config, deps).unwrap();
    let text = db.start().await.unwrap_err().to_string();
    let expected = "db start shard 0: pending migrations: host 1 extra; shard 1: host 1 extra; \
                    shard 2: host 1 extra; apply them with";
    assert!(text.starts_with(expected), "{text}");
}

async fn no_key_goes_to_a_shard_that_begins_to_drain(fixture: Fixture) {
    let db = fixture.start().await;
    let mut draining = db.global().begin().await.unwrap();
    let drain = "UPDATE trine_shard SET status = 'draining' WHERE id = 0";
    draining.execute(drain, ()).await.unwrap();
    let assigning = join_all((0..8_u64).map(|key| db.assign(key)));
    let committing = async {
        sleep(Duration::from_millis(300)).await;
        draining.commit().await.unwrap();
    };
    let (assigned, ()) = tokio::join!(assigning, committing);
    for shard in assigned {
        assert_eq!(shard.unwrap(), ShardId::new(1));
    }
}

/// A password that one shard refuses concerns that shard alone.
#[trine_testkit::test]
async fn a_shard_that_lets_nobody_in_stops_no_start() {
    let server = MariaDb::shared().await.unwrap();
    let databases = [
        server.database().await.unwrap(),
        server.database().await.unwrap(),
        server.database().await.unwrap(),
    ];
    let [global, wrong, right] = databases.each_ref().map(|database| database.url());
    let (before, after) = wrong.split_once('@').unwrap();
    let wrong = format!("{before}x@{after}");
    let mut config = DbConfig::mysql(Secret::new(global), [Secret::new(wrong), Secret::new(right)])
        .with_migrate(MigrateMode::Auto);
    config.start_timeout = Span::secs(50);
    let db = DbService::connect(&config).await.unwrap();
    assert!(answers(&db.shard(1).unwrap()).await);
    let error = db.shard(0).unwrap().query_one::<i64>("SELECT 1", ()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { reason: Unavailable::NotProved, .. }), "{error}");
    assert!(Report(&error).to_string().contains("access denied"), "{}", Report(&error));
}

#[test]
fn a_connection_that_leads_nowhere_is_a_problem_of_the_configuration() -> Result<()> {
    let url = "mysql://trine:secret@127.0.0.1:3306/shard_1?ssl_mode=REQUIRED";
    let mut config = DbConfig::mysql(
        Secret::new("mysql://trine:secret@127.0.0.1:3306/global"),
        [Secret::new(url), Secret::new("mysql://trine:secret@127.0.0.1:3306")],
    );
    let problems = config.validate().unwrap_err().to_string();
    let named =
        |index: usize| format!("connections.{}.url: expected", config.shards[index].connection);
    assert!(problems.contains(&named(0)) && problems.contains("ssl-mode"), "{problems}");
    assert!(problems.contains(&named(1)) && !problems.contains("secret"), "{problems}");
    for connection in config.connections.values_mut() {
        if let ConnectionConfig::Mysql(mysql) = connection {
            mysql.url = Secret::new("mysql://trine:secret@127.0.0.1:3306/one?ssl-mode=REQUIRED");
        }
    }
    config.validate()?;
    Ok(())
}
