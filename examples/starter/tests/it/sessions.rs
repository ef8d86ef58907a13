//! Sessions.

use reqwest::StatusCode;
use serde_json::json;
use tokio::time::Duration;

use crate::client::PASSWORD;
use crate::home::Home;

pub(crate) async fn a_session_ends_when_asked_to_and_in_time(home: Home) {
    let home = home.with_setting("starter", "session_lifetime = \"2s\"");
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
    for token in ["", "nonsense", &"0".repeat(64)] {
        other.with_token(token).get("/api/documents").await.expect_problem(401, None);
    }
    starter.client().get("/api/me").await.expect_problem(401, None);
}

pub(crate) async fn of_too_many_sessions_the_oldest_end(home: Home) {
    let home = home.with_setting("starter", "sessions_per_account = 3");
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
    use super::*;

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
        let pair = |at: usize| u8::from_str_radix(&ann.token()[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..64).step_by(2).map(pair).collect();
        assert!(!holds(ann.token().as_bytes()) && !holds(&bytes), "a token is stored");
        assert!(!holds(PASSWORD.as_bytes()), "a password is stored");
        assert!(!starter.process.log().contains(ann.token()));
    }
}
