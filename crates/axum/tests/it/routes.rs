use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::Request;
use trine_axum::{details, probes, routes, with_problem_fallbacks};
use trine_core::{Health, HealthStatus, Metrics, Operations, Snapshot};

use crate::ask;

#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) live: Mutex<HealthStatus>,
    pub(crate) ready: Mutex<HealthStatus>,
    pub(crate) health: Mutex<HealthStatus>,
    metrics: Metrics,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        let metrics = Metrics::new("db");
        metrics.counter("calls_total", "Calls.", &[("instance", "a\"b")]).add(3);
        Arc::new(Self {
            live: Mutex::default(),
            ready: Mutex::default(),
            health: Mutex::default(),
            metrics,
        })
    }
}

#[async_trait]
impl Operations for Fake {
    fn live(&self) -> Health {
        Health::new(*self.live.lock().unwrap())
    }

    fn ready(&self) -> Health {
        Health::new(*self.ready.lock().unwrap())
    }

    async fn health(&self) -> Health {
        Health::new(*self.health.lock().unwrap()).with_detail("db.default", 7)
    }

    fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }
}

fn set(status: &Mutex<HealthStatus>, to: HealthStatus) {
    *status.lock().unwrap() = to;
}

#[tokio::test]
async fn each_route_follows_its_own_answer() {
    let fake = Fake::new();
    let router = routes(fake.clone());
    let statuses = async || {
        let mut all = Vec::new();
        for path in ["/health/live", "/health/ready", "/health"] {
            let answer = crate::get(&router, path).await;
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
            all.push(answer.status);
        }
        all
    };
    assert_eq!(statuses().await, [200, 200, 200]);
    set(&fake.ready, HealthStatus::Degraded);
    set(&fake.health, HealthStatus::Degraded);
    assert_eq!(statuses().await, [200, 200, 200]);
    set(&fake.ready, HealthStatus::Down);
    assert_eq!(statuses().await, [200, 503, 200]);
    set(&fake.health, HealthStatus::Down);
    assert_eq!(statuses().await, [200, 503, 503]);
    set(&fake.live, HealthStatus::Down);
    assert_eq!(statuses().await, [503, 503, 503]);
    let body = crate::get(&router, "/health").await.json();
    assert_eq!((&body["status"], &body["details"]["db.default"]), (&"down".into(), &7.into()));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let answer = crate::get(&routes(Fake::new()), "/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(
        answer.text(),
        "# HELP trine_db_calls_total Calls.\n# TYPE trine_db_calls_total counter\n\
         trine_db_calls_total{instance=\"a\\\"b\"} 3\n"
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let router = Router::new().route("/x", get(async || "x")).merge(routes(Fake::new()));
    let router = with_problem_fallbacks(router);
    let answer = crate::get(&router, "/nowhere").await;
    assert_eq!((answer.status, &answer.json()["kind"]), (404, &"not_found".into()));
    for path in ["/x", "/health"] {
        let answer = ask(&router, Request::delete(path).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, &answer.json()["kind"]), (405, &"unsupported".into()), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{path}");
    }
}

#[tokio::test]
async fn probes_tell_a_status_and_details_the_rest() {
    let statuses = async |router: Router| {
        let mut statuses = Vec::new();
        for path in ["/health/live", "/health/ready", "/health", "/metrics"] {
            statuses.push(crate::get(&router, path).await.status);
        }
        statuses
    };
    assert_eq!(statuses(probes(Fake::new())).await, [200, 200, 404, 404]);
    assert_eq!(statuses(details(Fake::new())).await, [404, 404, 200, 200]);
    let alive = crate::get(&probes(Fake::new()), "/health/live").await;
    assert!(!alive.text().contains("db.default"), "{}", alive.text());
}
