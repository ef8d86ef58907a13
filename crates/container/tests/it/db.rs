use serde_json::json;
use trine::{Builder, Db, Error, Loader};
use trine_core::{Deadline, HealthStatus, Report, Secret};
use trine_db_shard::{ConnectionConfig, Row, Sql};

use crate::fake::SECOND;

/// Sets a global database and a shard in files of `folder`.
pub(crate) fn files(loader: Loader, folder: &std::path::Path) -> Loader {
    let sqlite = |name: &str| json!({ "kind": "sqlite", "path": folder.join(name) });
    loader
        .with_override("test", "database.global", sqlite("global.db"))
        .with_override("test", "database.one", sqlite("one.db"))
        .with_override("test", "db.shards", json!([{ "id": 1, "connection": "one" }]))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_starts_answers_and_stops_from_its_sections() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = Builder::new();
    let handle = builder.add(Db::new());
    let container =
        builder.configure(&files(Loader::new(), folder.path())).unwrap().build().unwrap();
    container.start().await.unwrap();
    let db = container.db().unwrap();
    let shard = db.shard(1_u32).unwrap();
    let rows: Vec<Row> = shard.query(Sql::portable("SELECT 1 AS one"), ()).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(container.get(&handle).unwrap().shards().len(), 1);
    let health = container.health().await;
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    let text = container.metrics().to_prometheus();
    assert!(text.contains("instance=\"default\""), "{text}");
    container.shutdown(Deadline::after(SECOND * 10)).await.unwrap();
}

#[test]
fn problems_of_connections_and_fields_have_their_own_paths() {
    let mut builder = Builder::new();
    builder.add(Db::new());
    let loader = Loader::new().with_defaults(
        "[database.global]\nkind = 'sqlite'\npath = ''\n\
             [db]\nmax_row = 3\nshards = [{ id = 1, connection = 'on' }]",
    );
    let error = builder.configure(&loader).unwrap_err().to_string();
    for expected in [
        "database.global.path: must not be empty",
        "db.max_row: unknown key; did you mean `max_rows`?",
        "db.shards[0].connection: ",
    ] {
        assert!(error.contains(expected), "{expected} is not in {error}");
    }
}

#[test]
fn a_password_of_a_server_never_shows() {
    let mut builder = Builder::new();
    let db = builder.add(Db::new());
    let loader = Loader::new()
        .with_defaults("[database.global]\nkind = 'mysql'\nurl = 'mysql://me:${PASSWORD}@h/db'")
        .with_environment([("PASSWORD", "hunter2")].into_iter().collect());
    let configured = builder.configure(&loader).unwrap();
    let config = configured.config(&db).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let ConnectionConfig::Mysql(mysql) = &config.connections["global"] else { panic!() };
    assert_eq!(Secret::expose(&mysql.url), "mysql://me:hunter2@h/db");
}

#[test]
fn a_database_that_was_not_added_is_named_by_its_key() {
    let container = Builder::new().configure(&Loader::new()).unwrap().build().unwrap();
    let error = container.db_instance("reports").unwrap_err();
    assert!(matches!(&error, Error::Missing { key } if key == "db.reports"), "{}", Report(&error));
}
