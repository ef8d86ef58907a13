//! Start and stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::Client;
use crate::home::{ADMIN_TOKEN, BOUND, Home, Starter};

/// A load balancer in small: it sends to whoever says that it is ready.
#[derive(Debug)]
struct Replica {
    client: Client,
    is_ready: AtomicBool,
}

impl Replica {
    fn new(starter: &Starter) -> Arc<Self> {
        Arc::new(Self { client: starter.client(), is_ready: AtomicBool::new(true) })
    }

    async fn watch(self: Arc<Self>) {
        loop {
            let ready = self.client.try_send(self.client.request(Method::GET, "/health/ready"));
            let is_ready = ready.await.is_ok_and(|answer| answer.status == 200);
            self.is_ready.store(is_ready, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Sends until told to stop, and counts what was answered; nothing may fail.
async fn send_to_the_ready(replicas: Vec<Arc<Replica>>, token: String, answered: Arc<AtomicU64>) {
    for number in 0_u64.. {
        let turn = usize::try_from(number).unwrap() % replicas.len();
        let ready = replicas.iter().cycle().skip(turn).take(replicas.len());
        let mut ready = ready.filter(|replica| replica.is_ready.load(Ordering::SeqCst));
        let Some(replica) = ready.next() else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let client = replica.client.with_token(&token);
        let name = format!("{}", number % 10);
        client.put(&name, "some text").await.expect(StatusCode::OK);
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// Stops each replica in turn under load, and has `replace` start another one.
async fn stop_in_turn(home: &Home, email: &str, count: usize, replace: bool) {
    let mut starters = Vec::new();
    for _ in 0..count {
        starters.push(home.serve().await);
    }
    let token = starters[0].account(email).await.token().to_owned();
    for round in 0..count {
        let replicas: Vec<_> = starters.iter().map(Replica::new).collect();
        let (mut tasks, answered) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for replica in &replicas {
            tasks.spawn(Arc::clone(replica).watch());
        }
        for _ in 0..8 {
            let (replicas, token) = (replicas.clone(), token.clone());
            tasks.spawn(send_to_the_ready(replicas, token, Arc::clone(&answered)));
        }
        sleep(Duration::from_millis(300)).await;
        let before = answered.load(Ordering::SeqCst);
        assert!(before > 0, "no load in round {round}");

        let leaving = starters.remove(0);
        leaving.process.terminate().unwrap();
        // Not ready comes first, while it still takes requests.
        let unready = async {
            loop {
                let answer = leaving.client().get("/health/ready").await;
                if answer.status == 503 {
                    break;
                }
                assert_eq!(answer.status, 200);
            }
            leaving.client().get("/health/live").await.expect(StatusCode::OK);
        };
        unready.await;
        let status = leaving.process.wait(BOUND).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", leaving.process.log());
        if replace {
            starters.push(home.serve().await);
        }
        // A request that failed has ended its task with a panic.
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        tasks.abort_all();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                assert!(error.is_cancelled(), "{error}");
            }
        }
    }
}

mod sqlite {
    use super::*;

    #[trine_testkit::test(timeout = "120s")]
    async fn no_request_fails_when_it_is_asked_to_stop_under_load() {
        let home = Home::sqlite().with_setting("container", "drain_timeout = \"20s\"");
        let home = home.with_drain_delay("500ms");
        stop_in_turn(&home, "ann@example.com", 1, false).await;
    }

    #[trine_testkit::test]
    async fn a_stop_while_nothing_happens_is_quick_and_leaves_the_folder_free() {
        let home = Home::sqlite();
        for _ in 0..3 {
            let starter = home.serve().await;
            starter.process.terminate().unwrap();
            let status = starter.process.wait(BOUND).await.unwrap();
            assert_eq!(status.code(), Some(0), "{}", starter.process.log());
        }
    }

    #[trine_testkit::test]
    async fn health_and_metrics_tell_the_administrator_about_the_database() {
        let home = Home::sqlite();
        let starter = home.serve().await;
        let ann = starter.account("ann@example.com").await;
        for path in ["/health", "/metrics"] {
            starter.client().get(path).await.expect_problem(401, None);
            ann.get(path).await.expect_problem(403, None);
        }
        for path in ["/health/live", "/health/ready"] {
            let told = starter.client().get(path).await.expect(StatusCode::OK);
            assert!(!told.text.contains("db.default"), "{}", told.text);
        }
        let admin = starter.client().with_token(ADMIN_TOKEN);
        let health = admin.until_up(BOUND).await;
        for service in ["db.default", "cache.default", "lock.default", "scheduler.default"] {
            assert!(health.to_string().contains(service), "{health}");
        }
        let metrics = admin.get("/metrics").await.expect(StatusCode::OK).text;
        assert!(metrics.contains("trine_db_operations_total{"), "{metrics}");
    }
}

mod mariadb {
    use trine_testkit::SoakPlan;

    use super::*;
    use crate::home::Engine;

    #[trine_testkit::test(timeout = "200s")]
    async fn no_request_fails_while_three_replicas_are_restarted_in_turn() {
        let home = Home::new(Engine::MariaDb).await.with_drain_delay("500ms");
        stop_in_turn(&home, "ann@example.com", 3, true).await;
    }

    #[trine_testkit::test(timeout = "600m")]
    #[ignore = "long form: cargo xtask soak starter_restart"]
    async fn soak_starter_restart() {
        let home = Home::new(Engine::MariaDb).await.with_drain_delay("500ms");
        let mut plan = SoakPlan::new("starter_restart", 1).unwrap();
        while let Some(round) = plan.next_round() {
            stop_in_turn(&home, &format!("ann{round}@example.com"), 3, true).await;
        }
    }

    #[trine_testkit::test(timeout = "120s")]
    async fn it_lives_and_waits_while_its_database_is_away() {
        let (home, server) = Home::with_own_server().await;
        let starter = home.serve().await;
        let token = starter.account("bob@example.com").await.token().to_owned();
        starter.process.kill().await.unwrap();
        server.kill().await.unwrap();
        let starter = home.listen("127.0.0.1:0").await;
        let client = starter.client();
        for _ in 0..5 {
            client.get("/health/live").await.expect(StatusCode::OK);
            client.get("/health/ready").await.expect(StatusCode::SERVICE_UNAVAILABLE);
            sleep(Duration::from_millis(100)).await;
        }
        client.get("/api/me").await.expect_problem(401, None);
        client.with_token(&token).get("/api/me").await.expect_problem(503, None);
        server.restart().await.unwrap();
        client.until_ready(BOUND).await;
        client.with_token(&token).get("/api/me").await.expect(StatusCode::OK);
        starter.account("ann@example.com").await.put("x", "y").await.expect(StatusCode::OK);
    }
}
