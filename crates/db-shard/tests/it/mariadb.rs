//! The suite on MariaDB.

use sqlx::mysql::MySqlPoolOptions;
use trine_core::Secret;
use trine_db_shard::conformance::Fixture;
use trine_db_shard::{ConnectionConfig, Database, DbConfig};
use trine_testkit::MariaDb;

async fn connect() -> Fixture {
    let server = MariaDb::shared().await.unwrap();
    let global = server.database().await.unwrap();
    let shards = [server.database().await.unwrap(), server.database().await.unwrap()];
    let urls = shards.iter().map(|shard| Secret::new(shard.url()));
    let config = DbConfig::mysql(Secret::new(global.url()), urls);
    Fixture::new(config, (global, shards))
}

trine_db_shard::conformance_tests!(suite, super::connect);

/// Connections of a pool that the host has made with the driver's defaults.
async fn borrow() -> Fixture {
    let fixture = connect().await;
    let ConnectionConfig::Mysql(mysql) = &fixture.config.connections["global"] else {
        panic!("{:?}", fixture.config);
    };
    let pool = MySqlPoolOptions::new().max_connections(10);
    let database = Database::from_mysql_pool(pool.connect(mysql.url.expose()).await.unwrap());
    database.migrate_with(&[]).await.unwrap();
    fixture.with_database(database)
}

trine_db_shard::conformance_tests!(database host_pool, super::borrow);
