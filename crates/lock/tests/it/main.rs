//! What the crate promises, on every backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod config;
mod handles;
mod memory;
mod readme;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod support;
