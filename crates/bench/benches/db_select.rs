//! A primary-key select through a shard handle against a hand-written pool of
//! the same connections and sqlx's own, over TCP and the socket.

use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleResult};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{ConnectOptions, Connection, MySqlConnection, Row as _};
use trine_bench::{Rounds, compare, operation};
use trine_core::Secret;
use trine_db_shard::{ConnectionConfig, DbConfig, DbService, MigrateMode};
use trine_testkit::MariaDb;

const POOL: u32 = 16;
const ROWS: u64 = 10_000;
const SELECT: &str = "SELECT id, name FROM item WHERE id = ?";

/// What a careful application writes by itself: no ping, one connection each.
#[derive(Debug)]
struct Manager(MySqlConnectOptions);

impl managed::Manager for Manager {
    type Type = MySqlConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.0.connect().await?;
        let _id: u64 =
            sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(&mut connection).await?;
        Ok(connection)
    }

    async fn recycle(&self, _: &mut MySqlConnection, _: &Metrics) -> RecycleResult<sqlx::Error> {
        Ok(())
    }
}

#[tokio::main]
async fn main() {
    let server = MariaDb::start().await.expect("a MariaDB server");
    let database = server.database().await.expect("a database");
    let shard = server.database().await.expect("a database");
    println!("{}, pool of {POOL}", server.version());
    let socket = shard.socket_url().expect("a server of its own has a socket");
    let mut setup = MySqlConnection::connect(&shard.url()).await.expect("a connection");
    sqlx::raw_sql("CREATE TABLE item (id BIGINT PRIMARY KEY, name VARCHAR(64)) ENGINE=InnoDB")
        .execute(&mut setup)
        .await
        .expect("a table");
    for id in 0..ROWS {
        sqlx::query("INSERT INTO item VALUES (?, ?)")
            .bind(id)
            .bind(format!("name of {id}"))
            .execute(&mut setup)
            .await
            .expect("a row");
    }
    for (way, url) in [("tcp", shard.url()), ("socket", socket)] {
        let mut config = DbConfig::mysql(Secret::new(database.url()), [Secret::new(url.clone())])
            .with_migrate(MigrateMode::Auto);
        for connection in config.connections.values_mut() {
            if let ConnectionConfig::Mysql(mysql) = connection {
                mysql.pool.max = std::num::NonZeroU32::new(POOL).expect("not zero");
            }
        }
        let service = DbService::connect(&config).await.expect("a service");
        let trine = service.shard(0).expect("a shard");
        let options: MySqlConnectOptions = url.parse().expect("a url");
        let options = options.disable_statement_logging();
        let raw = managed::Pool::<Manager>::builder(Manager(options.clone()))
            .max_size(POOL as usize)
            .build()
            .expect("a pool");
        let sqlx_pool = |ping: bool| {
            MySqlPoolOptions::new()
                .max_connections(POOL)
                .test_before_acquire(ping)
                .acquire_timeout(Duration::from_secs(10))
                .connect_lazy_with(options.clone())
        };
        let (unpinged, pinged) = (sqlx_pool(false), sqlx_pool(true));
        let competitors = [
            (
                "trine shard handle",
                operation(move |index| {
                    let db = trine.clone();
                    async move {
                        let row: (u64, String) =
                            db.query_one(SELECT, (index % ROWS,)).await.expect("a row");
                        assert_eq!(row.0, index % ROWS);
                    }
                }),
            ),
            (
                "hand-written deadpool manager",
                operation(move |index| {
                    let pool = raw.clone();
                    async move {
                        let mut connection = pool.get().await.expect("a connection");
                        let row = sqlx::query(SELECT)
                            .bind(index % ROWS)
                            .fetch_one(&mut *connection)
                            .await
                            .expect("a row");
                        let row: (u64, String) = (row.get::<i64, _>(0).unsigned_abs(), row.get(1));
                        assert_eq!(row.0, index % ROWS);
                    }
                }),
            ),
            ("sqlx pool, no test before acquire", with_sqlx(unpinged)),
            ("sqlx pool, default", with_sqlx(pinged)),
        ];
        for tasks in [1, 16, 32] {
            compare(
                &format!("primary-key select over {way}"),
                tasks,
                Rounds::from_args(),
                &competitors,
            )
            .await;
        }
        service
            .shutdown(trine_core::Deadline::after(Duration::from_secs(5)))
            .await
            .expect("a shutdown");
    }
}

fn with_sqlx(pool: sqlx::MySqlPool) -> trine_bench::Operation {
    operation(move |index| {
        let pool = pool.clone();
        async move {
            let row = sqlx::query(SELECT).bind(index % ROWS).fetch_one(&pool).await.expect("a row");
            let row: (u64, String) = (row.get::<i64, _>(0).unsigned_abs(), row.get(1));
            assert_eq!(row.0, index % ROWS);
        }
    })
}
