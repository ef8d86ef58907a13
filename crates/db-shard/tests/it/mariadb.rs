//! The suite on MariaDB.

use trine_core::Secret;
use trine_db_shard::DbConfig;
use trine_db_shard::conformance::Fixture;
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
