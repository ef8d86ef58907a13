#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs
)]

#[cfg(feature = "cache")]
mod cache;
mod cycles;
#[cfg(feature = "sqlite")]
mod db;
mod fake;
#[cfg(all(feature = "cache", feature = "sqlite"))]
mod fencing;
mod health;
mod instances;
mod layers;
#[cfg(all(feature = "lock", feature = "redis", feature = "sqlite"))]
mod lock;
mod problems;
#[cfg(feature = "redis")]
mod redis;
mod rolling;
mod run;
#[cfg(all(feature = "scheduler", feature = "sqlite"))]
mod scheduler;
mod secrets;
mod start;
mod wiring;
