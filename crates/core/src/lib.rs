//! What all Trine service crates share: life cycle, tasks, health, metrics,
//! errors, retries, call context, fences and leases. No network, no driver.
//!
//! A service owns one [`Lifecycle`] that admits its calls, one [`Tasks`] that
//! owns its background work and one [`Metrics`] that counts; it implements
//! [`Service`], and its errors implement [`Fault`].
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use trine_core::{Backoff, Deadline, ErrorKind, Fault, Lifecycle, Metrics, Refused, Tasks};
//!
//! #[derive(Debug, thiserror::Error)]
//! enum Error {
//!     #[error("echo: {0}")]
//!     Refused(#[from] Refused),
//! }
//!
//! impl Fault for Error {
//!     fn kind(&self) -> ErrorKind {
//!         match self {
//!             Self::Refused(refused) => refused.kind(),
//!         }
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let lifecycle = Lifecycle::new("echo.default");
//! let (tasks, metrics) = (Tasks::new("echo.default"), Metrics::new("echo"));
//! let calls = metrics.counter("calls_total", "Calls admitted.", &[]);
//! let echo = |text: &'static str| -> Result<&'static str, Error> {
//!     let _call = lifecycle.enter()?;
//!     calls.add(1);
//!     Ok(text)
//! };
//! assert_eq!(echo("early").unwrap_err().kind(), ErrorKind::Unavailable);
//!
//! let prove = || async { Ok::<_, Error>(()) };
//! lifecycle.start(Duration::from_secs(30), &Backoff::default(), prove).await?;
//! assert_eq!(echo("hello")?, "hello");
//!
//! let deadline = Deadline::after(Duration::from_secs(10));
//! lifecycle.shutdown(deadline, || async { Ok::<_, Error>(()) }).await?;
//! tasks.shutdown(deadline).await;
//! assert_eq!(echo("late").unwrap_err().kind(), ErrorKind::Closed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! Each line names the test that proves it.
//!
//! * No call is admitted after a shutdown has found none in flight
//!   (`no_call_is_admitted_after_draining_saw_none`), and closing waits for
//!   those in flight (`a_shutdown_waits_for_calls_in_flight_before_it_closes`).
//! * A start ends within its time-out, and a dropped one leaves the former state
//!   (`an_attempt_that_hangs_is_dropped_at_the_time_out`,
//!   `a_dropped_start_leaves_the_former_state`).
//! * No task outlives its owner (`dropping_the_last_owner_aborts_everything`,
//!   `a_thousand_starts_and_stops_leave_no_task`), and a panic restarts a loop
//!   with a bounded intensity
//!   (`a_supervised_task_is_restarted_until_its_intensity_is_passed`).
//! * A health answer comes within its bound and changes only after three
//!   observations in a row
//!   (`a_check_that_hangs_is_down_within_its_bound_for_everybody`,
//!   `three_in_a_row_change_the_answer_in_both_directions`).
//! * A reset of the metrics turns no exported total back
//!   (`a_reset_changes_values_and_never_totals`), and label sets are bounded
//!   (`a_million_label_sets_are_capped_and_flagged`).
//! * Retries never exceed their budget or their deadline
//!   (`an_outage_is_not_multiplied`, `it_never_sleeps_past_the_deadline`).
//! * One renewal that gets no answer costs no lease, whatever the margin
//!   (`one_request_that_stalls_loses_nothing_whatever_the_margin`), and a claim
//!   whose release is under way when the keeper stops or panics is sent again
//!   (`a_release_under_way_is_sent_again_by_the_close`,
//!   `a_release_under_way_survives_a_panic_of_the_keeper`).
//! * A lease that is bounded is over by then however often it is renewed
//!   (`a_bounded_lease_is_over_however_often_it_is_renewed`), and a keeper whose
//!   owner is dropped leaves no claim behind
//!   (`an_owner_that_is_dropped_without_a_shutdown_leaves_no_claim_behind`).
//! * A holder stops believing in a lease before its store lets go, while the
//!   rates of their clocks differ by less than margin / ttl
//!   (`no_holder_believes_in_a_lease_that_the_store_has_let_go`,
//!   `holders_with_skewed_clocks_never_overlap_an_erratic_store`).
//! * A jump of the wall clock by an hour, forward or back, moves no timer of a
//!   clock, no renewal of a lease and no wait of a retry
//!   (`a_jump_of_the_wall_clock_moves_no_timer`,
//!   `a_jump_of_the_wall_clock_moves_no_renewal_and_no_retry`).
//! * A secret shows in no debug text, address or error of deserialization
//!   (`debug_never_shows_the_text`,
//!   `no_password_shows_in_an_address_whatever_it_holds`,
//!   `only_text_is_read_and_the_error_does_not_repeat_the_value`).
//!
//! # Not provided
//!
//! Protection of a process that is stopped between the check of a lease and the
//! write it allowed: show the [`Fence`] to the resource. Stopping code that
//! never yields. A tracing subscriber, a metrics recorder or exporter. The
//! migration runner, which is in `trine-db-shard`.
//!
//! # Feature flags
//!
//! * `metrics-0_24`: `Snapshot::publish` hands the counters to the `metrics`
//!   facade, version 0.24. Off by default.

#![forbid(unsafe_code)]

mod clock;
mod context;
mod deadline;
mod durability;
mod error;
mod fence;
mod health;
mod lease;
mod lifecycle;
mod metrics;
mod migration;
mod operations;
mod outage;
mod process;
mod retry;
mod rfc3339;
mod secret;
mod service;
mod span;
mod task;
mod trace;

pub use clock::{Clock, ManualClock, Moment, Sleep, SystemClock};
pub use context::{CallContext, IdempotencyKey, InvalidTenant, Seed};
pub use deadline::Deadline;
pub use durability::Durability;
pub use error::{BoxError, BoxFault, ErrorKind, Fault, Report};
pub use fence::{Fence, FenceSink, InvalidFence};
pub use health::probe::{Hysteresis, Probe};
pub use health::watermark::Watermark;
pub use health::{Health, HealthStatus};
pub use lease::held::Lease;
pub use lease::keeper::{LeaseKeeper, LeaseStats};
pub use lease::state::{LeaseEnd, LeaseState, LeaseStep};
pub use lease::{Claim, InvalidTerms, LeaseTerms, Leases, Renewal};
pub use lifecycle::gate::{InFlight, Refused};
pub use lifecycle::start::StartError;
pub use lifecycle::{Lifecycle, Shutdown};
pub use metrics::Metrics;
pub use metrics::handle::{Counter, Gauge, Histogram};
pub use metrics::snapshot::{
    Family, HistogramReading, Labels, MetricKind, Reading, Sample, Snapshot,
};
pub use migration::{
    InvalidMigrations, MigrationProblem, MigrationScope, MigrationSet, MigrationStep,
};
pub use operations::Operations;
pub use outage::Outage;
pub use process::process_name;
pub use retry::{Backoff, Jitter, RetryBudget, RetryPolicy, retry};
pub use rfc3339::Rfc3339;
pub use secret::Secret;
pub use service::{Service, State};
pub use span::{InvalidUnit, Size, Span};
pub use task::handle::{TaskEnd, TaskHandle};
pub use task::stall::StallDetector;
pub use task::supervisor::{Intensity, TaskFailure};
pub use task::{TaskStats, Tasks};
pub use trace::{InvalidTraceParent, TraceParent};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/core.md")]
struct Guide;
