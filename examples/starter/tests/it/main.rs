//! What the starter promises, seen from outside: every test runs the real
//! program as a process of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod accounts;
mod admin;
mod client;
mod command_line;
mod crash;
mod documents;
mod engines;
mod home;
mod import;
mod jobs;
mod lifecycle;
mod load;
mod sessions;
