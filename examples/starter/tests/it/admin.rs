//! The administrator's calls.

use reqwest::StatusCode;
use serde_json::json;

use crate::home::{ADMIN_TOKEN, Home};

pub(crate) async fn a_status_is_set_and_obeyed(home: Home) {
    let starter = home.serve().await;
    let admin = starter.client().with_token(ADMIN_TOKEN);
    let ann = starter.account("ann@example.com").await;
    ann.put("before", "text").await.expect(StatusCode::OK);
    let shard = ann.get("/api/me").await.json["shard_id"].as_u64().unwrap();
    let path = format!("/api/admin/shards/{shard}/status");
    let set = |status: &str| admin.post(&path, json!({ "status": status }));
    let changed = set("read_only").await.expect(StatusCode::OK).json;
    assert_eq!(changed, json!({ "shard_id": shard, "status": "read_only" }));
    let refused = ann.put("after", "text").await;
    refused.expect_problem(503, None);
    assert!(refused.json["detail"].as_str().unwrap().contains("read_only"), "{}", refused.text);
    assert_eq!(ann.documents(10).await.len(), 1);
    set("offline").await.expect(StatusCode::OK);
    ann.get("/api/documents").await.expect_problem(503, None);
    set("active").await.expect(StatusCode::OK);
    // The shard is connected to again in the background.
    let mut answer = ann.put("after", "text").await;
    for _ in 0..500 {
        if answer.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        answer = ann.put("after", "text").await;
    }
    answer.expect(StatusCode::OK);
    assert_eq!(ann.documents(10).await.len(), 2);
}

pub(crate) async fn nobody_else_is_an_administrator(home: Home) {
    let starter = home.serve().await;
    let path = "/api/admin/shards/0/status";
    let active = json!({ "status": "active" });
    starter.client().post(path, active.clone()).await.expect_problem(401, None);
    let ann = starter.account("ann@example.com").await;
    ann.post(path, active.clone()).await.expect_problem(403, None);
    let close = starter.client().with_token(&ADMIN_TOKEN[1..]);
    close.post(path, active.clone()).await.expect_problem(403, None);

    let admin = starter.client().with_token(ADMIN_TOKEN);
    admin.get("/api/me").await.expect_problem(401, None);
    admin.post(path, json!({ "status": "sleepy" })).await.expect_problem(422, Some("status"));
    admin.post(path, json!({})).await.expect_problem(422, Some("status"));
    let unknown = admin.post("/api/admin/shards/99/status", active.clone()).await;
    unknown.expect_problem(404, None);
    admin.post("/api/admin/shards/x/status", active.clone()).await.expect_problem(422, Some("id"));
    admin.post(path, active).await.expect(StatusCode::OK);
}
