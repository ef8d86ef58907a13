use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use trine_core::{Health, HealthStatus, Operations};

use crate::Problem;

/// Returns the routes for orchestrators and monitors, [`probes`] and
/// [`details`] together:
///
/// | route | answer |
/// |---|---|
/// | `/health/live` | 200, or 503 if the process should be restarted |
/// | `/health/ready` | 200, or 503 if it should get no work |
/// | `/health` | every service with its details, 503 if a required one is down |
/// | `/metrics` | the Prometheus text format 0.0.4 |
///
/// The last two are not for strangers. Serve all of them together only where
/// none can reach them, such as on a listener of their own.
pub fn routes(operations: Arc<dyn Operations>) -> Router {
    probes(Arc::clone(&operations)).merge(details(operations))
}

/// Returns `/health/live` and `/health/ready`, which tell a status and what the
/// container says of it, at most the names of services that are down: anybody
/// may ask.
pub fn probes(operations: Arc<dyn Operations>) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .with_state(operations)
}

/// Returns `/health` and `/metrics`. They hold no secrets, but addresses, names
/// of services and what drivers say: put an authentication around them.
pub fn details(operations: Arc<dyn Operations>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(operations)
}

/// Makes a router answer unknown paths and methods with a [`Problem`].
///
/// Call it last: only routes that are there get the answer for methods.
pub fn with_problem_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
}

type Asked = State<Arc<dyn Operations>>;

async fn live(State(operations): Asked) -> Response {
    respond(&operations.live())
}

async fn ready(State(operations): Asked) -> Response {
    respond(&operations.ready())
}

async fn health(State(operations): Asked) -> Response {
    respond(&operations.health().await)
}

async fn metrics(State(operations): Asked) -> Response {
    let headers =
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (headers, operations.metrics().to_prometheus()).into_response()
}

fn respond(health: &Health) -> Response {
    let status = match health.status {
        HealthStatus::Up | HealthStatus::Degraded => StatusCode::OK,
        HealthStatus::Down => StatusCode::SERVICE_UNAVAILABLE,
    };
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, serde_json::to_vec(health).unwrap_or_default()).into_response()
}
