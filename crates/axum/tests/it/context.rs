use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get};
use http::Request;
use serde_json::{Value, json};
use trine_axum::ContextLayer;
use trine_core::{CallContext, Seed};

use crate::{Answer, ask};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Answers what the handler sees of its context.
async fn seen() -> String {
    let context = CallContext::current();
    let millis = context.deadline().map(|deadline| deadline.remaining().as_millis() as u64);
    json!({
        "deadline": millis,
        "seed": context.seed().map(|seed| seed.to_string()),
        "tenant": context.tenant(),
        "trace": context.trace().map(|trace| format!("{:032x}", trace.trace_id())),
    })
    .to_string()
}

fn router() -> Router {
    let layer = ContextLayer::new(Duration::from_secs(10)).with_tenant(|parts| {
        let tenant = parts.headers.get("x-tenant")?.to_str().ok()?;
        Some(Arc::from(tenant))
    });
    Router::new().route("/", any(seen)).route("/other", get(seen)).layer(layer)
}

async fn send(method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(&router(), request.body(Body::empty()).unwrap()).await
}

async fn context(headers: &[(&str, &str)]) -> Value {
    send("GET", "/", headers).await.json()
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_the_callers_but_never_beyond_the_servers() {
    assert_eq!(context(&[]).await["deadline"], 10_000);
    assert_eq!(context(&[("request-timeout", "1500ms")]).await["deadline"], 1_500);
    assert_eq!(context(&[("request-timeout", "9d")]).await["deadline"], 10_000);
    for wrong in ["5", "soon", "-1s", ""] {
        let answer = send("GET", "/", &[("request-timeout", wrong)]).await;
        assert_eq!(
            (answer.status, &answer.json()["field"]),
            (400, &"request-timeout".into()),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_trace_is_continued_or_begun_and_answered() {
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let answer = send("GET", "/", &[("traceparent", &parent)]).await;
    assert_eq!(answer.json()["trace"], TRACE);
    assert_eq!(answer.header("x-request-id"), Some(TRACE));
    let own = answer.header("traceparent").unwrap();
    assert!(own.starts_with(&format!("00-{TRACE}-")) && own.ends_with("-01") && own != parent);

    for headers in [&[][..], &[("traceparent", "rubbish")]] {
        let answer = send("GET", "/", headers).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["trace"].as_str(), answer.header("x-request-id"));
        assert_ne!(answer.json()["trace"], TRACE);
    }
}

#[tokio::test]
async fn a_seed_is_the_same_for_the_same_request_only() {
    let seed = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let answer = send(method, path, headers).await;
        answer.json()["seed"].as_str().map(str::to_owned)
    };
    let key = ("idempotency-key", "k1");
    let first = seed("POST", "/", &[key]).await.unwrap();
    assert_eq!(seed("POST", "/", &[key]).await.as_ref(), Some(&first));
    assert_eq!(seed("POST", "/", &[]).await, None);
    for other in [
        seed("POST", "/", &[("idempotency-key", "k2")]).await,
        seed("PUT", "/", &[key]).await,
        seed("GET", "/other", &[key]).await,
        seed("POST", "/", &[key, ("x-tenant", "acme")]).await,
    ] {
        assert_ne!(other, Some(first.clone()));
        assert!(other.is_some());
    }
    assert_eq!(first, Seed::from_text("\nPOST\n/", "k1").to_string());
    for wrong in ["", &"x".repeat(256)] {
        let answer = send("POST", "/", &[("idempotency-key", wrong)]).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &"idempotency-key".into()));
    }
}

#[tokio::test]
async fn a_tenant_is_what_the_host_finds() {
    assert_eq!(context(&[]).await["tenant"], Value::Null);
    assert_eq!(context(&[("x-tenant", "acme")]).await["tenant"], "acme");
    let answer = send("GET", "/", &[("x-tenant", "")]).await;
    assert_eq!((answer.status, &answer.json()["field"]), (400, &"tenant".into()));
    assert!(answer.header("x-request-id").is_some(), "refusals can be traced too");
}
