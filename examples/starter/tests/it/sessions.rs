//! Sessions.

use reqwest::StatusCode;
use serde_json::json;
use tokio::time::Duration;

use crate::client::PASSWORD;
use crate::home::Home;

/// Has the form of a token, and is nobody's.
const UNKNOWN: &str = "10123456789abcdefAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(crate) async fn a_log_out_everywhere_ends_every_session_of_the_account(home: Home) {
    let starter = home.serve().await;
    let bob = starter.account("bob@example.com").await;
    let ann = starter.account("ann@example.com").await;
    let other = ann.log_in("ann@example.com").await;
    starter.client().delete("/api/sessions").await.expect_problem(401, None);
    ann.delete("/api/sessions").await.expect(StatusCode::NO_CONTENT);
    for session in [&ann, &other] {
        session.get("/api/me").await.expect_problem(401, None);
    }
    ann.delete("/api/sessions").await.expect_problem(401, None);
    bob.get("/api/me").await.expect(StatusCode::OK);
    ann.log_in("ann@example.com").await.get("/api/me").await.expect(StatusCode::OK);
}

pub(crate) async fn a_session_ends_when_asked_to_and_in_time(home: Home) {
    let home = home.with_setting("sessions", "idle = \"2s\"");
    let home = home.with_setting("sessions", "absolute = \"2s\"");
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    let other = ann.log_in("ann@example.com").await;
    ann.get("/api/me").await.expect(StatusCode::OK);
    ann.delete("/api/sessions/current").await.expect(StatusCode::NO_CONTENT);
    let answer = ann.get("/api/me").await;
    answer.expect_problem(401, None);
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    ann.delete("/api/sessions/current").await.expect_problem(401, None);

    other.get("/api/me").await.expect(StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    other.get("/api/me").await.expect_problem(401, None);
    other.put("x", "text").await.expect_problem(401, None);
    for token in ["", "nonsense", &"0".repeat(64), UNKNOWN] {
        other.with_token(token).get("/api/documents").await.expect_problem(401, None);
    }
    starter.client().get("/api/me").await.expect_problem(401, None);
}

pub(crate) async fn of_too_many_sessions_the_oldest_end(home: Home) {
    let home = home.with_setting("sessions", "max_per_user = 3");
    let starter = home.serve().await;
    let bob = starter.account("bob@example.com").await;
    let client = starter.client();
    client.register("ann@example.com").await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(client.log_in("ann@example.com").await);
    }
    for (n, session) in sessions.iter().enumerate() {
        let expected = if n < 2 { 401 } else { 200 };
        assert_eq!(session.get("/api/me").await.status, expected, "{n}");
    }
    bob.get("/api/me").await.expect(StatusCode::OK);
}

pub(crate) async fn a_login_does_not_tell_which_half_is_wrong(home: Home) {
    let starter = home.serve().await;
    let client = starter.client();
    client.register("ann@example.com").await;
    let log_in = |email: &str, password: &str| {
        client.post("/api/sessions", json!({ "email": email, "password": password }))
    };
    let wrong = log_in("ann@example.com", "wrong password").await;
    wrong.expect_problem(401, None);
    let unknown = log_in("bob@example.com", PASSWORD).await;
    unknown.expect_problem(401, None);
    assert_eq!(wrong.json["detail"], unknown.json["detail"]);
    log_in("ann@example.com", &"x".repeat(2_000)).await.expect_problem(422, Some("password"));
    log_in("", PASSWORD).await.expect_problem(422, Some("email"));
}

pub(crate) async fn too_many_failed_logins_have_to_wait(home: Home) {
    let home = home
        .with_setting("starter.login", "failures_per_account = 3")
        .with_setting("starter.login", "window = \"10m\"");
    let starter = home.serve().await;
    let client = starter.client();
    client.register("ann@example.com").await;
    client.register("bob@example.com").await;
    for _ in 0..5 {
        client.log_in("ann@example.com").await;
    }
    let wrong = json!({ "email": "ann@example.com", "password": "wrong password" });
    for _ in 0..3 {
        client.post("/api/sessions", wrong.clone()).await.expect_problem(401, None);
    }
    let right = json!({ "email": "ann@example.com", "password": PASSWORD });
    let refused = client.post("/api/sessions", right).await;
    refused.expect_problem(429, None);
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=200).contains(&wait), "{wait}");
    client.log_in("bob@example.com").await;
}

mod sqlite {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[trine_testkit::test]
    async fn sessions_in_memory_end_with_the_process() {
        let home = Home::sqlite();
        let starter = home.serve().await;
        let ann = starter.account("ann@example.com").await;
        starter.process.terminate().unwrap();
        starter.process.wait(crate::home::BOUND).await.unwrap();
        let starter = home.serve().await;
        let ann = starter.client().with_token(ann.token());
        ann.get("/api/me").await.expect_problem(401, None);
        ann.log_in("ann@example.com").await.get("/api/me").await.expect(StatusCode::OK);
    }

    /// Whoever reads the files learns neither tokens nor passwords.
    #[trine_testkit::test]
    async fn neither_tokens_nor_passwords_are_stored() {
        let home = Home::sqlite();
        let starter = home.serve().await;
        let ann = starter.account("ann@example.com").await;
        starter.process.terminate().unwrap();
        starter.process.wait(crate::home::BOUND).await.unwrap();
        let mut stored = Vec::new();
        for file in std::fs::read_dir(home.data()).unwrap() {
            stored.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        let holds = |text: &[u8]| stored.windows(text.len()).any(|window| window == text);
        assert!(holds(b"ann@example.com") && holds(b"$argon2id$"), "the files are read");
        let secret = &ann.token()[ann.token().len() - 43..];
        let bytes = URL_SAFE_NO_PAD.decode(secret).unwrap();
        assert_eq!(bytes.len(), 32);
        assert!(!holds(secret.as_bytes()) && !holds(&bytes), "a token is stored");
        assert!(!holds(PASSWORD.as_bytes()), "a password is stored");
        assert!(!starter.process.log().contains(ann.token()));
    }
}

mod redis {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};
    use trine_testkit::{Child, Redis};

    use super::*;
    use crate::client::Client;
    use crate::home::{ADMIN_TOKEN, BOUND, Engine, Starter};

    /// Five times the 10 s in which it is to be back.
    const BACK: Duration = Duration::from_secs(50);

    #[trine_testkit::test(timeout = "120s")]
    async fn a_session_outlives_the_starter() {
        let home = Home::new(Engine::SqliteAndRedis).await;
        let mut starter = home.serve().await;
        let token = starter.account("ann@example.com").await.token().to_owned();
        for round in 0..2 {
            if round == 0 {
                starter.process.terminate().unwrap();
                starter.process.wait(BOUND).await.unwrap();
            } else {
                starter.process.kill().await.unwrap();
            }
            starter = home.serve().await;
            let ann = starter.client().with_token(&token);
            ann.get("/api/me").await.expect(StatusCode::OK);
        }
    }

    /// Asks until told to stop; counts what was answered by status, and accepts
    /// no other than 200 and 503.
    async fn ask(client: Client, good: Arc<AtomicU64>, refused: Arc<AtomicU64>) {
        loop {
            let answer = client.get("/api/me").await;
            match answer.status {
                200 => good.fetch_add(1, Ordering::SeqCst),
                503 => {
                    assert!(answer.headers.contains_key("retry-after"), "{}", answer.text);
                    refused.fetch_add(1, Ordering::SeqCst)
                }
                _ => panic!("{}: {}", answer.status, answer.text),
            };
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_more(counter: &AtomicU64, starter: &Starter) -> Duration {
        let (before, began) = (counter.load(Ordering::SeqCst), Instant::now());
        while counter.load(Ordering::SeqCst) < before + 20 {
            assert!(began.elapsed() < BACK, "{}", starter.process.log());
            sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    #[trine_testkit::test(timeout = "300s")]
    async fn a_redis_that_is_killed_under_load_is_missed_and_found_again() {
        let (home, redis) = Home::with_own_redis().await;
        let starter = home.serve().await;
        let ann = starter.account("ann@example.com").await;
        let (good, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            tasks.spawn(ask(ann.clone(), Arc::clone(&good), Arc::clone(&refused)));
        }
        let mut slowest = Duration::ZERO;
        for _ in 0..3 {
            until_more(&good, &starter).await;
            redis.kill().await.unwrap();
            until_more(&refused, &starter).await;
            // A token that nobody has is no more unknown than another.
            let unknown = starter.client().with_token(UNKNOWN);
            unknown.get("/api/me").await.expect_problem(503, None);
            redis.restart().await.unwrap();
            slowest = slowest.max(until_more(&good, &starter).await);
        }
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        assert!(starter.process.is_running(), "{}", starter.process.log());
        println!("answered again in at most {slowest:?}");
    }

    #[trine_testkit::test(timeout = "120s")]
    async fn it_lives_and_waits_while_its_redis_is_away() {
        let (home, redis) = Home::with_own_redis().await;
        redis.kill().await.unwrap();
        let starter = home.listen("127.0.0.1:0").await;
        let client = starter.client();
        for _ in 0..5 {
            client.get("/health/live").await.expect(StatusCode::OK);
            client.get("/health/ready").await.expect(StatusCode::SERVICE_UNAVAILABLE);
            client.with_token(UNKNOWN).get("/api/me").await.expect_problem(503, None);
            sleep(Duration::from_millis(100)).await;
        }
        redis.restart().await.unwrap();
        client.until_ready(BACK).await;
        starter.account("ann@example.com").await.put("x", "y").await.expect(StatusCode::OK);
    }

    #[trine_testkit::test(timeout = "120s")]
    async fn an_optional_redis_leaves_it_ready_and_sessions_for_later() {
        let (home, redis) = Home::with_own_redis().await;
        redis.kill().await.unwrap();
        let home = home
            .with_setting("redis.main", "required = false")
            .with_setting("cache", "required = false");
        let starter = home.serve().await;
        let client = starter.client();
        client.register("ann@example.com").await;
        let body = json!({ "email": "ann@example.com", "password": PASSWORD });
        client.post("/api/sessions", body.clone()).await.expect_problem(503, None);
        let admin = client.with_token(ADMIN_TOKEN);
        let health = admin.get("/health").await.expect(StatusCode::OK).json;
        assert_eq!(health["status"], "degraded", "{health}");
        redis.restart().await.unwrap();
        let began = Instant::now();
        while client.post("/api/sessions", body.clone()).await.status != 200 {
            assert!(began.elapsed() < BACK, "{}", starter.process.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    #[trine_testkit::test]
    async fn health_and_metrics_tell_the_administrator_about_redis_and_the_cache() {
        let home = Home::new(Engine::SqliteAndRedis).await;
        let starter = home.serve().await;
        starter.account("ann@example.com").await.get("/api/me").await.expect(StatusCode::OK);
        let admin = starter.client().with_token(ADMIN_TOKEN);
        let health = admin.until_up(BOUND).await;
        for service in ["redis.main", "cache.default"] {
            assert!(health.to_string().contains(service), "{health}");
        }
        let metrics = admin.get("/metrics").await.expect(StatusCode::OK).text;
        for name in ["trine_redis_masters_connected{", "trine_cache_operations_total{"] {
            assert!(metrics.contains(name), "{name}: {metrics}");
        }
    }

    /// An address to which nothing can be said, so that its text is all that
    /// could leak.
    #[trine_testkit::test]
    async fn a_connection_that_nothing_defines_is_named_and_no_secret_is_shown() {
        let home = Home::sqlite().with_setting("cache", "backend = { kind = \"redis\" }");
        let (status, said) = home.run(["--listen", "127.0.0.1:0"]).await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("cache.backend.connection"), "{said}");
        assert!(said.contains("[redis.main]"), "{said}");

        let program = Child::builder(env!("CARGO_BIN_EXE_trine-starter"))
            .args(["--profile", "prod"])
            .env("TRINE__REDIS__MAIN__SERVER__URL", "redis://:hidden-password@h/7")
            .env("TRINE__SESSIONS__KEY", "too-short");
        let child = program.spawn().unwrap();
        let status = child.wait(BOUND).await.unwrap();
        let said = child.log();
        assert_eq!(status.code(), Some(2), "{said}");
        for expected in ["redis.main.server.url", "sessions.key", "database.global"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert!(!said.contains("hidden-password") && !said.contains("too-short"), "{said}");
        let server = Redis::shared().await.unwrap();
        let child = Child::builder(env!("CARGO_BIN_EXE_trine-starter"))
            .args(["--profile", "prod"])
            .env("TRINE__REDIS__MAIN__SERVER__URL", server.url());
        let child = child.spawn().unwrap();
        child.wait(BOUND).await.unwrap();
        let said = child.log();
        assert!(said.contains("sessions.key: missing, itself or as a file"), "{said}");
    }
}
