//! A runnable server over the Trine services: accounts, sessions and documents.
//!
//! Accounts live in the global database, documents in the shard of their owner,
//! sessions in the cache. `README.md` beside this file says how to run it.

#![forbid(unsafe_code)]

mod accounts;
mod allowance;
mod api;
mod cli;
mod commands;
mod config;
mod documents;
mod error;
mod failure;
mod import;
mod jobs;
mod login_limit;
mod passwords;
mod random;
mod registration_limit;
mod schema;
mod session_key;
mod sessions;
mod sources;
mod statistics;
mod terminal;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::failure::Failure;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn start(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::System { what: "start the runtime", cause: cause.into() })?;
    runtime.block_on(commands::run(cli))
}
