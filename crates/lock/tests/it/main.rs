//! What the crate promises, on every backend.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod config;
mod handles;
mod history;
mod locked;
mod memory;
mod readme;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod sql;
mod support;
