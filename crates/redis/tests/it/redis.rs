//! One server.

mod commands;
mod drops;
mod faults;
mod login;
