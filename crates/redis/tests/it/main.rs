//! What the crate promises, on real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod readme;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod support;
