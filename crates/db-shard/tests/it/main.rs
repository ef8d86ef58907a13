//! What the crate promises, on every engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(feature = "mysql")]
mod mariadb;
#[cfg(feature = "mysql")]
mod mysql_engine;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_engine;
mod migrations;
mod error_log;
mod rolling;
#[cfg(all(feature = "mysql", feature = "sqlite"))]
mod fan_out;
#[cfg(all(feature = "mysql", feature = "sqlite"))]
mod move_key;
#[cfg(all(feature = "mysql", feature = "sqlite"))]
mod routing;
#[cfg(feature = "mysql")]
mod faults;
