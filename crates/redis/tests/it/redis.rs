//! One server.

mod commands;
mod dedicated;
mod drops;
mod facts;
mod faults;
mod interop;
mod login;
mod subscriptions;
