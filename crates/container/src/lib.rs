//! Placeholder: the contents page is written with the last module.

mod builder;
mod component;
mod config;
mod container;
#[cfg(feature = "db-shard")]
mod db;
mod error;
mod graph;
mod loader;
mod node;
mod settings;
mod signals;
#[cfg(feature = "telemetry")]
mod telemetry;

pub use builder::{Adopted, Builder, Configured};
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
pub use settings::{Section, Settings};
pub use signals::signals;
#[cfg(feature = "telemetry")]
pub use telemetry::{LogFormat, TelemetryConfig, TelemetryError, install_log};
