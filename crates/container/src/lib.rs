//! The services of one process: configuration, wiring, start and stop,
//! aggregated health and metrics.
//!
//! A [`Builder`] collects what the process consists of; a [`Loader`] reads the
//! configuration, which is checked as a whole; the [`Container`] that comes of
//! both starts the services in the order of their needs, watches them, and stops
//! them in reverse.
//!
//! # Example
//!
//! ```
//! use async_trait::async_trait;
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//! use trine::{Builder, Component, Deps, Loader, Settings};
//! use trine_core::{BoxFault, Deadline, Health, HealthStatus, Service, Snapshot, State};
//!
//! #[derive(Debug, Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct GreeterConfig {
//!     greeting: String,
//! }
//!
//! impl Settings for GreeterConfig {}
//!
//! #[derive(Debug)]
//! struct Greeter {
//!     name: String,
//!     greeting: String,
//! }
//!
//! # #[async_trait]
//! # impl Service for Greeter {
//! #     fn name(&self) -> &str { &self.name }
//! #     fn state(&self) -> State { State::Running }
//! #     async fn start(&self) -> Result<(), BoxFault> { Ok(()) }
//! #     async fn shutdown(&self, _: Deadline) -> Result<(), BoxFault> { Ok(()) }
//! #     async fn health(&self) -> Health { Health::up() }
//! #     fn metrics(&self) -> Snapshot { Snapshot::default() }
//! #     fn reset_metrics(&self) {}
//! # }
//! struct Greet;
//!
//! impl Component for Greet {
//!     const NAME: &'static str = "greeter";
//!     type Config = GreeterConfig;
//!     type Service = Greeter;
//!
//!     fn build(self, config: GreeterConfig, deps: &Deps<'_>) -> Result<Greeter, BoxFault> {
//!         Ok(Greeter { name: deps.name().to_owned(), greeting: config.greeting })
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let mut builder = Builder::new();
//! let greeter = builder.add(Greet);
//!
//! let loader = Loader::new()
//!     .with_defaults("[greeter]\ngreeting = 'hello'")
//!     .with_folder("config"); // default.toml is read if it is there
//! let container = builder.configure(&loader)?.build()?;
//!
//! container.start().await?;
//! assert_eq!(container.get(&greeter)?.greeting, "hello");
//! assert_eq!(container.ready().status, HealthStatus::Up);
//! container.shutdown(Deadline::after(std::time::Duration::from_secs(10))).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! Each line names the test that proves it.
//!
//! * A configuration is refused with everything that is wrong with it, each with
//!   its path and where it was set
//!   (`everything_wrong_is_listed_at_once_with_its_path_and_origin`). Only rules
//!   of a section that could not be read, and files beside one that is no TOML,
//!   have to wait (`failed_rules_are_listed_beside_unknown_keys`).
//! * No error shows a secret (`no_error_ever_shows_a_secret`,
//!   `a_rule_that_repeats_a_secret_is_masked`).
//! * What has started is stopped in reverse and once, also when a start fails
//!   (`a_failure_stops_what_had_started_in_reverse_and_once`,
//!   `concurrent_starts_and_stops_happen_once`).
//! * A required service that comes up late is waited for, an optional one holds
//!   nothing up and is tried for ever
//!   (`a_dependency_that_comes_up_late_is_waited_for`,
//!   `an_optional_service_that_is_away_holds_nothing_up_and_comes_later`).
//! * A process lives without an optional Redis and the caches on it, and has
//!   them when they come, whether they were away at the start or went later
//!   (`an_optional_redis_that_is_away_at_the_start_holds_nothing_up_and_comes_later`,
//!   `an_optional_redis_that_dies_leaves_the_process_ready_and_comes_back`).
//! * An optional service never makes the process unready, a required one that
//!   damps its answer with core's `Probe` after three checks in a row and no
//!   more (`a_storm_of_an_optional_service_never_makes_the_process_unready`,
//!   `a_required_service_takes_readiness_down_after_three_checks_and_back`).
//! * The process is unready before its server stops accepting, and the services
//!   stop after the last request
//!   (`readiness_goes_off_before_accepting_ends_and_services_stop_last`,
//!   `rolling_restarts_under_load_fail_no_request`).
//! * Every start, stop and check is bounded, and none that hangs or panics holds
//!   up another (`a_start_that_hangs_is_cut_off`,
//!   `failures_while_stopping_are_gathered_and_bounded`,
//!   `a_check_that_hangs_delays_no_other_and_is_bounded`,
//!   `a_service_that_panics_does_not_keep_the_others_running`).
//! * Background work that is given up, and a required service that fails, end
//!   the run with an error
//!   (`background_work_that_is_given_up_ends_the_run_with_its_error`,
//!   `a_required_service_that_fails_ends_the_run_with_its_reason`).
//! * A container that was stopped leaves no task and no file behind
//!   (`a_thousand_cycles_leave_no_task_and_no_file`).
//! * A jump of the wall clock by an hour, forward or back, moves no renewal of a
//!   lease, no check, no try and no drain
//!   (`a_jump_of_the_wall_clock_moves_nothing`), and an hour of suspend leaves a
//!   process live and ready (`an_hour_of_suspend_leaves_the_process_ready`).
//!
//! # Not provided
//!
//! Changes of the configuration while the process runs. Starting a container
//! again after it was stopped: build another. A global instance. HTTP, which is
//! in `trine-axum`. Stopping code that never yields: it is left behind, and named.
//!
//! # Feature flags
//!
//! * `db-shard`: the component `Db`, the sharded database; `sqlite` and `mysql`
//!   turn it on with an engine.
//! * `redis`: the component `Redis`, and caches and locks on Redis.
//! * `cache`: the component `Cache`.
//! * `lock`: the component `Lock`; on Redis with `redis`, in databases with
//!   `sqlite` and `mysql`.
//! * `scheduler`: the component `Scheduler`; in databases with `sqlite` and
//!   `mysql`.
//! * `telemetry`: `install_log`, a `tracing` subscriber for servers.

#![forbid(unsafe_code)]

mod builder;
#[cfg(feature = "cache")]
mod cache;
mod component;
mod config;
mod container;
#[cfg(feature = "db-shard")]
mod db;
mod error;
mod graph;
mod loader;
#[cfg(feature = "lock")]
mod lock;
mod node;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "scheduler")]
mod scheduler;
mod settings;
mod signals;
#[cfg(feature = "telemetry")]
mod telemetry;

pub use builder::{Adopted, Builder, Configured};
#[cfg(feature = "cache")]
pub use cache::Cache;
pub use component::{Component, Connections, Deps, Handle, Need};
pub use config::ContainerConfig;
pub use container::Container;
pub use container::status::{ServiceStatus, Status};
#[cfg(feature = "db-shard")]
pub use db::Db;
pub use error::{Error, Result, StopFailure, WiringProblem};
pub use loader::Loader;
pub use loader::environment::Environment;
pub use loader::problem::{ConfigError, Problem};
#[cfg(feature = "lock")]
pub use lock::Lock;
#[cfg(feature = "redis")]
pub use redis::Redis;
#[cfg(feature = "scheduler")]
pub use scheduler::Scheduler;
pub use settings::{Section, Settings};
pub use signals::signals;
#[cfg(feature = "telemetry")]
pub use telemetry::{LogFormat, TelemetryConfig, TelemetryError, install_log};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
