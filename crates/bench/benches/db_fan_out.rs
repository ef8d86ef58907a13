//! One query over 16 shards against one shard, and against the raw futures.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::mysql::MySqlPoolOptions;
use trine_bench::{Rounds, compare, median_time, operation};
use trine_core::Secret;
use trine_db_shard::{DbConfig, DbService, MigrateMode};
use trine_testkit::MariaDb;

const SHARDS: usize = 16;
const SLOW: &str = "SELECT SLEEP(0.02)";
const QUICK: &str = "SELECT 1";

#[tokio::main]
async fn main() {
    let server = MariaDb::start().await.expect("a MariaDB server");
    let global = server.database().await.expect("a database");
    let mut shards = Vec::new();
    for _ in 0..SHARDS {
        shards.push(server.database().await.expect("a database"));
    }
    let urls = shards.iter().map(|shard| Secret::new(shard.url()));
    let config = DbConfig::mysql(Secret::new(global.url()), urls).with_migrate(MigrateMode::Auto);
    let db = DbService::connect(&config).await.expect("a service");
    let one = db.shard(0).expect("a shard");
    println!("{}, {SHARDS} shards", server.version());

    let runs = if std::env::args().any(|arg| arg == "--quick") { 11 } else { 51 };
    read_all(&db, SLOW).await;
    let all_time = median_time(runs, || async {
        read_all(&db, SLOW).await;
    })
    .await;
    let one_time = median_time(runs, || async {
        one.query_one::<i64>(SLOW, ()).await.expect("a row");
    })
    .await;
    let ratio = all_time.as_secs_f64() / one_time.as_secs_f64();
    println!("20 ms of server time: all {all_time:?}, one {one_time:?}, all/one {ratio:.2}");

    let mut raw = Vec::new();
    for shard in &shards {
        let pool = MySqlPoolOptions::new()
            .max_connections(10)
            .test_before_acquire(false)
            .connect(&shard.url())
            .await
            .expect("a pool");
        raw.push(pool);
    }
    let handles: Vec<_> = (0..SHARDS as u32).map(|id| db.shard(id).expect("a shard")).collect();
    let service = db.clone();
    let competitors = [
        (
            "fan-out",
            operation(move |_| {
                let db = service.clone();
                async move {
                    read_all(&db, QUICK).await;
                }
            }),
        ),
        (
            "join_all over the same pools",
            operation(move |_| {
                let handles = handles.clone();
                async move {
                    let queries = handles.iter().map(|shard| shard.query_one::<i64>(QUICK, ()));
                    for row in join_all(queries).await {
                        row.expect("a row");
                    }
                }
            }),
        ),
        (
            "join_all over sqlx pools, no test",
            operation(move |_| {
                let raw = raw.clone();
                async move {
                    let queries =
                        raw.iter().map(|pool| sqlx::query_scalar::<_, i32>(QUICK).fetch_one(pool));
                    for row in join_all(queries).await {
                        row.expect("a row");
                    }
                }
            }),
        ),
    ];
    for tasks in [1, 8] {
        compare("plain select over 16 shards", tasks, Rounds::from_args(), &competitors).await;
    }
    db.shutdown(trine_core::Deadline::after(Duration::from_secs(5))).await.expect("a shutdown");
}

async fn read_all(db: &DbService, statement: &'static str) {
    let rows = db.fan_out().query::<i64>(statement, ()).await.expect("rows");
    assert_eq!(rows.into_complete().expect("every shard").len(), SHARDS);
}
