//! What a service does when a database goes away: at start, in the middle of a
//! commit, and under load.

use std::time::Duration;

use sqlx::{Connection, MySqlConnection};
use tokio::time::{Instant, sleep, timeout};
use trine_core::{Deadline, ErrorKind, HealthStatus, Secret};
use trine_db_shard::{
    ConnectionConfig, DbConfig, DbDeps, DbService, MigrateMode, Outcome, Result, TxOptions,
};
use trine_testkit::{Door, Flow, MariaDb, Proxy, TestDatabase};

mod mariadb {
    use super::*;

    mod killed;

    /// A service whose shard 0 is reached through a proxy.
    struct Behind {
        global: TestDatabase,
        near: TestDatabase,
        far: TestDatabase,
        proxy: Proxy,
    }

    impl Behind {
        async fn new(server: &MariaDb) -> Self {
            let database = || async { server.database().await.unwrap() };
            let (global, near, far) = (database().await, database().await, database().await);
            let proxy = Proxy::to(server.addr()).await.unwrap();
            Self { global, near, far, proxy }
        }

        fn config(&self) -> DbConfig {
            let far = Secret::new(self.far.url_via(self.proxy.addr()));
            let urls = [far, Secret::new(self.near.url())];
            let mut config = DbConfig::mysql(Secret::new(self.global.url()), urls)
                .with_migrate(MigrateMode::Auto)
                .with_query_timeout(Duration::from_secs(3));
            for connection in config.connections.values_mut() {
                if let ConnectionConfig::Mysql(mysql) = connection {
                    mysql.pool.connect_timeout = Duration::from_secs(1).into();
                    mysql.pool.acquire_timeout = Duration::from_secs(2).into();
                }
            }
            config
        }
    }

    async fn create(service: &DbService) {
        for shard in service.shards() {
            let shard = service.shard(shard.id).unwrap();
            let create = "CREATE TABLE item (id BIGINT PRIMARY KEY) ENGINE=InnoDB";
            shard.execute(create, ()).await.unwrap();
        }
    }

    async fn answers(service: &DbService, shard: u32, within: Duration) {
        let asking = async {
            loop {
                let asked: Result<i64> = match service.shard(shard) {
                    Ok(shard) => shard.query_one("SELECT COUNT(*) FROM item", ()).await,
                    Err(error) => Err(error),
                };
                if asked.is_ok() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(within, asking).await.unwrap();
    }

    // DB-24
    #[trine_testkit::test(timeout = "120s")]
    async fn a_broken_shard_stops_nobody_else() {
        let server = MariaDb::start().await.unwrap();
        let behind = Behind::new(&server).await;
        let service = DbService::connect(&behind.config()).await.unwrap();
        create(&service).await;
        service.shutdown(Deadline::after(Duration::from_secs(5))).await.unwrap();

        for door in [Door::Refuse, Door::Silent] {
            behind.proxy.set_door(door).await.unwrap();
            behind.proxy.kill_all();
            let service = DbService::connect(&behind.config()).await.unwrap();
            answers(&service, 1, Duration::from_secs(1)).await;
            let far = service.shard(0).unwrap();
            let error = far.query_one::<i64>("SELECT 1", ()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{door:?}: {error}");
            let health = service.health().await;
            assert_eq!(health.status, HealthStatus::Degraded, "{door:?}: {health:?}");
            behind.proxy.set_door(Door::Open).await.unwrap();
            answers(&service, 0, Duration::from_secs(50)).await;
            // Away once more, this time under a service that knew it.
            behind.proxy.set_door(door).await.unwrap();
            behind.proxy.kill_all();
            let began = Instant::now();
            far.query_one::<i64>("SELECT 1", ()).await.unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(15), "{door:?}");
            answers(&service, 1, Duration::from_secs(1)).await;
            behind.proxy.set_door(Door::Open).await.unwrap();
            answers(&service, 0, Duration::from_secs(50)).await;
            service.shutdown(Deadline::after(Duration::from_secs(5))).await.unwrap();
        }
    }

    // CO-10
    #[trine_testkit::test(timeout = "120s")]
    async fn a_service_waits_for_a_database_that_is_down_at_its_start() {
        let server = MariaDb::start().await.unwrap();
        let behind = Behind::new(&server).await;
        server.kill().await.unwrap();
        let mut config = behind.config();
        config.start_timeout = Duration::from_millis(500).into();
        let service = DbService::open(&config, DbDeps::default()).unwrap();
        let error = service.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(std::error::Error::source(&error).is_some());
        // The next start waits, and is ready soon after the server is.
        let mut config = behind.config();
        config.start_timeout = Duration::from_secs(60).into();
        let service = DbService::open(&config, DbDeps::default()).unwrap();
        let starting = service.start();
        let coming = async {
            sleep(Duration::from_secs(1)).await;
            server.restart().await.unwrap();
            Instant::now()
        };
        let (started, up) = tokio::join!(starting, coming);
        started.unwrap();
        // Five times the two seconds that a start may take then.
        assert!(up.elapsed() < Duration::from_secs(10));
        create(&service).await;
        answers(&service, 0, Duration::from_secs(1)).await;
    }

    // CO-11
    #[trine_testkit::test(timeout = "400s")]
    async fn a_service_outlives_its_server() {
        let server = MariaDb::start().await.unwrap();
        let behind = Behind::new(&server).await;
        let service = DbService::connect(&behind.config()).await.unwrap();
        create(&service).await;
        for _ in 0..3 {
            server.kill().await.unwrap();
            let error = service.shard(1).unwrap().query_one::<i64>("SELECT 1", ()).await;
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
            server.restart().await.unwrap();
            for shard in [0, 1] {
                answers(&service, shard, Duration::from_secs(50)).await;
            }
        }
    }

    // DB-15
    /// The reply to a commit is lost while the server goes on: the ticket
    /// answers, and the caller never learns of it.
    #[trine_testkit::test(timeout = "120s")]
    async fn a_lost_commit_reply_is_answered_by_its_ticket() {
        let server = MariaDb::start().await.unwrap();
        let behind = Behind::new(&server).await;
        let service = DbService::connect(&behind.config()).await.unwrap();
        create(&service).await;
        let far = service.shard(0).unwrap();
        let mut tx = far.begin_with(&TxOptions::default().with_ticket()).await.unwrap();
        let ticket = tx.ticket().await.unwrap();
        tx.execute("INSERT INTO item VALUES (1)", ()).await.unwrap();
        // The commit gets through, its reply does not.
        behind.proxy.set_replies(Flow::Hang);
        let committing = tx.commit();
        let healing = async {
            let mut witness = MySqlConnection::connect(&behind.far.url()).await.unwrap();
            let count = "SELECT COUNT(*) FROM item";
            while sqlx::query_scalar::<_, i64>(count).fetch_one(&mut witness).await.unwrap() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
            behind.proxy.kill_all();
            behind.proxy.set(Flow::Pass);
        };
        let (committed, ()) = tokio::join!(committing, healing);
        committed.unwrap();
        assert_eq!(far.outcome(ticket).await.unwrap(), Outcome::Committed);
        let count: i64 = far.query_one("SELECT COUNT(*) FROM item", ()).await.unwrap();
        assert_eq!(count, 1);
    }

    // DB-15
    /// Without a ticket the same loss is told as it is.
    #[trine_testkit::test(timeout = "120s")]
    async fn a_lost_commit_reply_without_a_ticket_is_unknown() {
        let server = MariaDb::start().await.unwrap();
        let behind = Behind::new(&server).await;
        let service = DbService::connect(&behind.config()).await.unwrap();
        create(&service).await;
        let far = service.shard(0).unwrap();
        let mut tx = far.begin().await.unwrap();
        tx.execute("INSERT INTO item VALUES (1)", ()).await.unwrap();
        behind.proxy.set_replies(Flow::CutAfter(0));
        let error = tx.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        assert!(!error.is_retryable());
    }

    // DB-15
    /// The commit never reaches the server: the ticket makes that final.
    #[trine_testkit::test(timeout = "120s")]
    async fn a_commit_that_never_arrived_is_rolled_back_for_good() {
        let server = MariaDb::start().await.unwrap();
        let behind = Behind::new(&server).await;
        let service = DbService::connect(&behind.config()).await.unwrap();
        create(&service).await;
        let far = service.shard(0).unwrap();
        let mut tx = far.begin_with(&TxOptions::default().with_ticket()).await.unwrap();
        let ticket = tx.ticket().await.unwrap();
        tx.execute("INSERT INTO item VALUES (1)", ()).await.unwrap();
        behind.proxy.set_requests(Flow::CutAfter(0));
        let committing = tx.commit();
        let healing = async {
            sleep(Duration::from_millis(300)).await;
            behind.proxy.set(Flow::Pass);
        };
        let (committed, ()) = tokio::join!(committing, healing);
        assert_eq!(committed.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(far.outcome(ticket).await.unwrap(), Outcome::RolledBack);
        let count: i64 = far.query_one("SELECT COUNT(*) FROM item", ()).await.unwrap();
        assert_eq!(count, 0);
    }
}
