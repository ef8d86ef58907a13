use std::borrow::Cow;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serde_json::json;
use trine_axum::{ContextLayer, Problem};
use trine_core::{ErrorKind, Fault};

use crate::{Answer, ask};

const INSIDE: &str = "10.0.0.7:3306";

/// A failure whose text nobody outside may read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("db query global: connection to {INSIDE} refused")]
struct Failure(ErrorKind);

impl Fault for Failure {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

/// A failure that says what may be read.
#[derive(Debug, thiserror::Error)]
#[error("db insert: duplicate entry in {INSIDE}")]
struct Told(#[source] io::Error);

impl Fault for Told {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Conflict
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_millis(1_200))
    }

    fn public_detail(&self) -> Option<Cow<'_, str>> {
        Some("the address is taken".into())
    }

    fn field(&self) -> Option<&str> {
        Some("email")
    }
}

async fn answer(fail: fn() -> Result<(), Problem>) -> Answer {
    let router = Router::new().route("/", get(async move || fail()));
    crate::get(&router, "/").await
}

#[tokio::test]
async fn every_kind_has_its_status_and_none_leaks_its_text() {
    let expected = [422, 404, 409, 403, 504, 503, 503, 503, 409, 501, 503, 500, 500, 500];
    for (kind, status) in ErrorKind::ALL.into_iter().zip(expected) {
        let router =
            Router::new().route("/", get(async move || Err::<(), Problem>(Failure(kind).into())));
        let answer = crate::get(&router, "/").await;
        assert_eq!(answer.status, status, "{kind}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["kind"], kind.as_str());
        assert_eq!(answer.json()["status"], status);
        assert!(!answer.text().contains("10.0.0.7"), "{}", answer.text());
        assert!(answer.json().get("detail").is_none());
    }
}

#[tokio::test]
async fn what_a_fault_declares_public_is_sent() {
    let answer = answer(|| Err(Told(io::Error::other(INSIDE)))?).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(
        answer.json(),
        json!({
            "type": "about:blank",
            "title": "Conflict",
            "status": 409,
            "kind": "conflict",
            "detail": "the address is taken",
            "field": "email",
            "retry_after": 2,
        })
    );
}

#[tokio::test]
async fn a_host_says_what_it_likes() {
    let answer = answer(|| {
        Err(Problem::invalid_field("email", "must have an @")
            .with_type("https://example.org/problems/invalid", "Not valid")
            .with_instance("urn:x")
            .with_error("email", "must have an @")
            .with_error("name", "must not be empty"))
    })
    .await;
    assert_eq!(
        answer.json(),
        json!({
            "type": "https://example.org/problems/invalid",
            "title": "Not valid",
            "status": 422,
            "kind": "invalid",
            "detail": "must have an @",
            "instance": "urn:x",
            "field": "email",
            "errors": [
                { "field": "email", "detail": "must have an @" },
                { "field": "name", "detail": "must not be empty" },
            ],
        })
    );
}

#[tokio::test]
async fn the_helpers_have_their_statuses() {
    let expected = [
        (Problem::malformed("x"), 400, "invalid"),
        (Problem::unauthorized("x"), 401, "denied"),
        (Problem::forbidden("x"), 403, "denied"),
        (Problem::not_found("x"), 404, "not_found"),
        (Problem::method_not_allowed(), 405, "unsupported"),
        (Problem::conflict("x"), 409, "conflict"),
        (Problem::too_large("x"), 413, "invalid"),
        (Problem::unsupported_media_type("x"), 415, "invalid"),
        (Problem::too_many_requests(Duration::from_secs(3)), 429, "exhausted"),
    ];
    for (problem, status, kind) in expected {
        assert_eq!((problem.status().as_u16(), problem.kind()), (status, kind));
    }
}

#[tokio::test]
async fn the_answer_names_the_trace_under_which_the_log_has_the_rest() {
    let router = Router::new()
        .route("/", get(async || Err::<(), Problem>(Failure(ErrorKind::Internal).into())))
        .layer(ContextLayer::new(Duration::from_secs(1)));
    let request = http::Request::get("/")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let answer = ask(&router, request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(answer.json()["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}
