//! What the starter does by itself, and what administrators make of it.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::home::{ADMIN_TOKEN, BOUND, Home, Starter};

impl Starter {
    fn admin(&self) -> Client {
        self.client().with_token(ADMIN_TOKEN)
    }
}

async fn job(admin: &Client, id: &str) -> Value {
    let listed = admin.get("/api/admin/jobs").await.expect(StatusCode::OK).json;
    let jobs = listed["jobs"].as_array().unwrap();
    jobs.iter().find(|job| job["job_id"] == id).unwrap_or_else(|| panic!("{listed}")).clone()
}

/// Waits until the job's latest run is one that `is_it` wants.
async fn until_ran(admin: &Client, id: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let job = job(admin, id).await;
        if !job["last"].is_null() && is_it(&job["last"]) {
            return job;
        }
        assert!(start.elapsed() < BOUND, "{job}");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn act(admin: &Client, id: &str, action: &str, body: Value) -> crate::client::Answer {
    admin.post(&format!("/api/admin/jobs/{id}/{action}"), body).await
}

pub(crate) async fn a_job_is_listed_and_done_when_asked_for(home: Home) {
    let starter = home.serve().await;
    let admin = starter.admin();
    let cleanup = job(&admin, "cleanup").await;
    assert_eq!(cleanup["schedule"], "daily 03:40; jitter 20m", "{cleanup}");
    assert!(cleanup["description"].as_str().unwrap().contains("03:40"), "{cleanup}");
    let next = cleanup["next"].as_str().unwrap();
    assert!(next.contains("T03:40:00"), "{cleanup}");
    let expected = [("state", json!("active")), ("revision", json!(1)), ("failures", json!(0))];
    for (field, value) in expected.into_iter().chain([("last", Value::Null)]) {
        assert_eq!(cleanup[field], value, "{field}: {cleanup}");
    }

    let ann = starter.account("ann@example.com").await;
    ann.put("a", "nine chars").await.expect(StatusCode::OK);
    ann.put("b", "x").await.expect(StatusCode::OK);
    let asked = act(&admin, "statistics", "trigger", json!({})).await;
    let nominal = asked.expect(StatusCode::ACCEPTED).json["nominal"].clone();
    let ran = until_ran(&admin, "statistics", |last| last["nominal"] == nominal).await;
    let last = &ran["last"];
    assert_eq!(last["outcome"], "succeeded", "{ran}");
    assert_eq!((&last["attempts"], &last["error"]), (&json!(1), &Value::Null), "{ran}");
    assert!(last["took_ms"].is_u64() && last["began"].is_string(), "{ran}");
    let days = admin.get("/api/admin/statistics").await.expect(StatusCode::OK).json;
    let day = nominal.as_str().unwrap().split_once('T').unwrap().0;
    let counted = json!({ "day": day, "accounts": 1, "documents": 2, "bytes": 11 });
    assert!(days["days"].as_array().unwrap().contains(&counted), "{days}");

    act(&admin, "cleanup", "trigger", json!({})).await.expect(StatusCode::ACCEPTED);
    let cleaned = until_ran(&admin, "cleanup", |_| true).await;
    assert_eq!(cleaned["last"]["outcome"], "succeeded", "{cleaned}");
    assert_eq!(cleaned["next"], next, "a trigger is beside the schedule: {cleaned}");
    let days_left = admin.get("/api/admin/statistics").await.expect(StatusCode::OK).json;
    assert_eq!(days_left, days);

    // Another process, or the next one, knows as much.
    starter.process.terminate().unwrap();
    starter.process.wait(BOUND).await.unwrap();
    let starter = home.serve().await;
    let known = job(&starter.admin(), "cleanup").await;
    assert_eq!(known["last"], cleaned["last"], "{known}");
}

pub(crate) async fn a_job_is_done_when_it_is_due(home: Home) {
    let home = home.with_setting("jobs.statistics", "schedule = \"every 1s\"");
    let starter = home.serve().await;
    let admin = starter.admin();
    let first = until_ran(&admin, "statistics", |last| last["outcome"] == "succeeded").await;
    let first = first["last"]["nominal"].clone();
    until_ran(&admin, "statistics", |last| last["nominal"] != first).await;
    let days = admin.get("/api/admin/statistics").await.expect(StatusCode::OK).json;
    assert!(!days["days"].as_array().unwrap().is_empty(), "{days}");
}

pub(crate) async fn a_job_is_paused_and_resumed(home: Home) {
    let starter = home.serve().await;
    let admin = starter.admin();
    let why = json!({ "note": "the disk is full" });
    let paused = act(&admin, "cleanup", "pause", why).await.expect(StatusCode::OK).json;
    assert_eq!(paused["state"], "paused", "{paused}");
    assert_eq!(paused["paused"]["note"], "the disk is full", "{paused}");
    assert!(paused["paused"]["since"].is_string() && paused["next"].is_null(), "{paused}");
    assert_eq!(job(&admin, "cleanup").await, paused);
    assert_eq!(job(&admin, "statistics").await["state"], "active");
    let resumed = act(&admin, "cleanup", "resume", json!({})).await.expect(StatusCode::OK).json;
    assert_eq!(resumed["state"], "active", "{resumed}");
    assert!(resumed["next"].is_string() && resumed["paused"].is_null(), "{resumed}");
    act(&admin, "cleanup", "resume", json!({})).await.expect_problem(409, None);
}

pub(crate) async fn what_is_wrong_with_a_call_about_a_job_is_named(home: Home) {
    let starter = home.serve().await;
    let (admin, ann) = (starter.admin(), starter.account("ann@example.com").await);
    let note = json!({ "note": "why" });
    let calls = [("pause", note.clone()), ("resume", json!({})), ("trigger", json!({}))];
    for (action, body) in calls {
        for unknown in ["reports", "a%23b", "a%0Ab"] {
            act(&admin, unknown, action, body.clone()).await.expect_problem(404, None);
        }
        act(&starter.client(), "cleanup", action, body.clone()).await.expect_problem(401, None);
        act(&ann, "cleanup", action, body).await.expect_problem(403, None);
    }
    for path in ["/api/admin/jobs", "/api/admin/statistics"] {
        starter.client().get(path).await.expect_problem(401, None);
        ann.get(path).await.expect_problem(403, None);
    }
    let long = json!({ "note": "x".repeat(501) });
    act(&admin, "cleanup", "pause", long).await.expect_problem(422, Some("note"));
    act(&admin, "cleanup", "pause", json!({})).await.expect_problem(422, Some("note"));
    assert_eq!(job(&admin, "cleanup").await["state"], "active");
}

mod sqlite {
    use super::*;

    /// Two processes with different schedules would fight without it.
    #[trine_testkit::test]
    async fn another_schedule_takes_a_higher_revision() {
        let home = Home::sqlite();
        let starter = home.serve().await;
        starter.process.terminate().unwrap();
        starter.process.wait(BOUND).await.unwrap();
        let home = home.with_setting("jobs.cleanup", "schedule = \"weekly sun 04:00\"");
        let (status, said) = home.run(["--listen", "127.0.0.1:0"]).await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("job `cleanup`") && said.contains("revision"), "{said}");
        let home = home.with_setting("jobs.cleanup", "revision = 2");
        let starter = home.serve().await;
        let cleanup = job(&starter.admin(), "cleanup").await;
        assert_eq!(cleanup["schedule"], "weekly sun 04:00", "{cleanup}");
        assert_eq!(cleanup["revision"], 2, "{cleanup}");
    }
}

mod mariadb {
    use super::*;
    use crate::home::Engine;

    #[trine_testkit::test(timeout = "120s")]
    async fn a_job_that_goes_on_is_not_asked_for_again() {
        let home = Home::new(Engine::MariaDb).await;
        let starter = home.serve().await;
        let other = home.serve().await;
        let (admin, elsewhere) = (starter.admin(), other.admin());
        let trigger = || act(&admin, "statistics", "trigger", json!({}));
        let first = trigger().await.expect(StatusCode::ACCEPTED).json["nominal"].clone();
        until_ran(&admin, "statistics", |last| last["nominal"] == first).await;
        let held = home.hold(0, "SELECT day FROM statistics FOR UPDATE").await;
        let second = trigger().await.expect(StatusCode::ACCEPTED).json["nominal"].clone();
        let refused = act(&elsewhere, "statistics", "trigger", json!({})).await;
        refused.expect_problem(409, None);
        let since = second.as_str().unwrap();
        assert!(refused.json["detail"].as_str().unwrap().contains(since), "{}", refused.text);
        held.rollback().await.unwrap();
        let ran = until_ran(&elsewhere, "statistics", |last| last["nominal"] == second).await;
        assert_eq!(ran["last"]["outcome"], "succeeded", "{ran}");
    }
}
