//! One server.

mod commands;
mod dedicated;
mod drops;
mod facts;
mod faults;
mod login;
mod subscriptions;
