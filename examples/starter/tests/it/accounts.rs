//! Accounts.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::client::PASSWORD;
use crate::home::Home;

pub(crate) async fn an_account_is_registered_and_logs_in(home: Home) {
    let starter = home.serve().await;
    let client = starter.client();
    let registered = client.register("Ann@Example.com").await.json;
    let shard = registered["shard_id"].as_u64().unwrap();
    let body = json!({ "email": " ann@EXAMPLE.com ", "password": PASSWORD });
    let opened = client.post("/api/sessions", body).await.expect(StatusCode::OK).json;
    assert_eq!(opened["expires_in"], 12 * 60 * 60);
    let me = client.with_token(opened["access_token"].as_str().unwrap()).get("/api/me").await;
    let me = me.expect(StatusCode::OK).json;
    assert_eq!(me["account_id"], registered["account_id"]);
    assert_eq!(me["shard_id"].as_u64().unwrap(), shard);
    assert_eq!(me["email"], "ann@example.com");
    assert_eq!(me["name"], "Ann");
}

pub(crate) async fn an_account_is_renamed_for_everybody_at_once(home: Home) {
    let starter = home.serve().await;
    let ann = starter.account("ann@example.com").await;
    for name in ["Bea", "Cleo"] {
        let before = ann.get("/api/me").await.expect(StatusCode::OK).json;
        // Asked for meanwhile, it is either the old or the new name.
        let readers = join_all((0..8).map(|_| ann.get("/api/me")));
        let change = ann.patch("/api/me", json!({ "name": name }));
        let (seen, renamed) = tokio::join!(readers, change);
        let renamed = renamed.expect(StatusCode::OK).json;
        assert_eq!(renamed["name"], name);
        for answer in seen {
            let seen = answer.expect(StatusCode::OK).json;
            assert!(seen == before || seen == renamed, "{seen}");
        }
        for _ in 0..4 {
            assert_eq!(ann.get("/api/me").await.expect(StatusCode::OK).json, renamed);
        }
    }
    ann.patch("/api/me", json!({ "name": " " })).await.expect_problem(422, Some("name"));
    ann.patch("/api/me", json!({ "email": "x@y.z" })).await.expect_problem(422, Some("email"));
    starter.client().patch("/api/me", json!({ "name": "Eve" })).await.expect_problem(401, None);
}

pub(crate) async fn of_fifty_registrations_of_one_address_one_wins(home: Home) {
    let starter = home.serve().await;
    let client = starter.client();
    let body = json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann" });
    let answers = join_all((0..50).map(|_| client.post("/api/accounts", body.clone()))).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    for lost in answers.iter().filter(|answer| answer.status != 201) {
        lost.expect_problem(409, Some("email"));
    }
    let me = client.log_in("ann@example.com").await.get("/api/me").await.json;
    assert_eq!(me["account_id"], won[0].json["account_id"]);
}

pub(crate) async fn what_is_wrong_with_a_registration_is_named(home: Home) {
    let starter = home.serve().await;
    let client = starter.client();
    let good = json!({ "email": "ann@example.com", "password": PASSWORD, "name": "Ann" });
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let cases = [
        ("email", with("email", json!("ann"))),
        ("email", with("email", json!("a b@example.com"))),
        ("password", with("password", json!("short"))),
        ("password", with("password", json!("x".repeat(1_025)))),
        ("name", with("name", json!(" "))),
        ("name", with("name", json!("x".repeat(101)))),
        ("email", with("email", json!(7))),
        ("nmae", with("nmae", json!("Ann"))),
        ("password", json!({ "email": "ann@example.com", "name": "Ann" })),
    ];
    for (field, body) in cases {
        client.post("/api/accounts", body).await.expect_problem(422, Some(field));
    }
    for text in ["", "{", "[]", "\u{feff}{}", "{\"email\":\"a@b.c\",\"password\":\"12345678\""] {
        let request = client.request(reqwest::Method::POST, "/api/accounts");
        let request = request.header("content-type", "application/json").body(text);
        let answer = client.send(request).await;
        assert!(matches!(answer.status, 400 | 422), "{text}: {}", answer.text);
        assert_eq!(answer.json["field"], "body", "{text}: {}", answer.text);
        assert!(!answer.text.contains("12345678"), "{}", answer.text);
    }
    client.register("ann@example.com").await;
}

pub(crate) async fn too_many_registrations_have_to_wait(home: Home) {
    let home = home.with_registrations(3);
    let starter = home.serve().await;
    let client = starter.client();
    client.register("ann@example.com").await;
    client.log_in("ann@example.com").await;
    let body = |email: &str| json!({ "email": email, "password": PASSWORD, "name": "Ann" });
    client.post("/api/accounts", body("nobody")).await.expect_problem(422, Some("email"));
    client.post("/api/accounts", body("ann@example.com")).await.expect_problem(409, Some("email"));
    client.register("bob@example.com").await;
    let refused = client.post("/api/accounts", body("eve@example.com")).await;
    refused.expect_problem(429, None);
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=1_200).contains(&wait), "{wait}");
    client.log_in("bob@example.com").await;
}
