//! What only shows from outside: handles and futures cross threads, and the
//! parts make a service together.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod handles;
mod service;
