//! Health and metrics routes, call context and problem details of Trine services
//! for axum.
//!
//! A server puts together what it needs: [`routes()`] over anything that implements
//! [`Operations`](trine_core::Operations), such as the container; a
//! [`ContextLayer`] around its handlers; [`Problem`] as their error; and [`serve()`]
//! to end in good order.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, routing::post};
//! use serde::Deserialize;
//! use trine_axum::{ContextLayer, Problem, ProblemJson, with_problem_fallbacks};
//! use trine_core::CallContext;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Order {
//!     article: String,
//!     count: u32,
//! }
//!
//! async fn order(ProblemJson(order): ProblemJson<Order>) -> Result<String, Problem> {
//!     if order.count == 0 {
//!         return Err(Problem::invalid_field("count", "must not be 0"));
//!     }
//!     let context = CallContext::current(); // deadline, seed, tenant and trace
//!     Ok(format!("{} x {} for {:?}", order.count, order.article, context.tenant()))
//! }
//!
//! let router = Router::new()
//!     .route("/orders", post(order))
//!     .layer(ContextLayer::new(Duration::from_secs(30)));
//! let router: Router = with_problem_fallbacks(router);
//! ```
//!
//! # Guarantees
//!
//! Each line names the test that proves it.
//!
//! * Every kind of failure has one status, and of its text only what it declares
//!   public is sent (`every_kind_has_its_status_and_none_leaks_its_text`,
//!   `what_a_fault_declares_public_is_sent`).
//! * A body, query or path that cannot be read is a problem that names the field
//!   and does not repeat what was sent (`what_is_wrong_is_named_by_its_field`,
//!   `a_query_names_its_field`, `a_path_that_cannot_be_read_is_a_problem`), and a
//!   body is bounded
//!   (`a_body_that_is_no_json_no_text_or_too_large_is_refused`).
//! * A caller's deadline never exceeds the server's
//!   (`a_deadline_is_the_callers_but_never_beyond_the_servers`), and an
//!   idempotency key means the same tenant, method and path only
//!   (`a_seed_is_the_same_for_the_same_request_only`).
//! * Strangers who may ask [`probes`] get neither details nor metrics
//!   (`probes_tell_a_status_and_details_the_rest`).
//! * A server that stops accepts nothing new, finishes what is in flight, and
//!   cuts what does not end in time
//!   (`requests_in_flight_are_finished_and_new_connections_are_not`,
//!   `what_does_not_end_in_time_is_cut_and_counted`).
//!
//! # Not provided
//!
//! TLS, limits of connections and time-outs for slow headers: put a proxy in
//! front. Authentication. A handler is not cut off at its deadline: services obey
//! it, and own loops should.

#![forbid(unsafe_code)]

mod context;
mod extract;
mod problem;
mod routes;
mod serve;

pub use context::{ContextLayer, ContextService, REQUEST_ID, REQUEST_TIMEOUT};
pub use extract::{ProblemJson, ProblemPath, ProblemQuery, ProblemText};
pub use problem::status::status_of;
pub use problem::{FieldProblem, Problem};
pub use routes::{details, probes, routes, with_problem_fallbacks};
pub use serve::{ServeError, serve};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
