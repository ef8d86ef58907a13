//! What the crate promises, on every engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "what a soak has counted")]

mod error_log;
mod fan_out;
mod faults;
mod inbox;
mod interop;
mod mariadb;
mod migrations;
mod move_key;
mod mysql_engine;
mod readme;
mod rolling;
mod routing;
mod shard_map;
mod sqlite;
mod sqlite_engine;
mod transactions;
