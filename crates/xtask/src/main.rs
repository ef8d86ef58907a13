//! The commands that test, check and measure this workspace: `cargo xtask help`.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool answers on its standard streams"
)]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a synchronous process of its own: it reads the variables that name servers, sleeps \
              between polls and has no clock to pause"
)]

mod arrows;
mod bench;
mod deny;
mod docs;
mod failure;
mod features;
mod lint;
mod outside;
mod run;
mod servers;
mod soak;
mod test;
mod tested;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Result;
use crate::workspace::Workspace;

/// Tests, checks and measures the Trine workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Provides the servers, runs every test and says what ran against which
    /// engine and version.
    Test(test::Options),
    /// Runs the long form of a test: `#[ignore]`d tests named `soak_<name>`.
    Soak(soak::Options),
    /// Writes the rows of the last complete run into docs/tested.md.
    Tested,
    /// Checks formatting, spelling, the dependency arrows, stray local paths and
    /// clippy.
    Lint,
    /// Checks that crates depend on each other only along the allowed edges.
    Arrows,
    /// Checks each crate with no feature, each feature alone, and all of them.
    Features,
    /// Builds the documentation without warnings and checks the links between
    /// the Markdown files.
    Docs,
    /// Checks licences, bans and sources of the dependencies.
    Deny,
    /// Runs the benches of crates/bench.
    Bench(bench::Options),
    /// Builds and runs the crates below outside/, which use the published ones
    /// as somebody else would.
    Outside(servers::ServerOptions),
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn execute(command: Command) -> Result<()> {
    let workspace = Workspace::load()?;
    match command {
        Command::Test(options) => test::run(&workspace, &options),
        Command::Soak(options) => soak::run(&workspace, &options),
        Command::Tested => tested::run(&workspace),
        Command::Lint => lint::run(&workspace),
        Command::Arrows => arrows::run(&workspace),
        Command::Features => features::run(&workspace),
        Command::Docs => docs::run(&workspace),
        Command::Deny => deny::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Outside(options) => outside::run(&workspace, &options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_options_of_test_is_for_cargo() {
        let words = "cargo test --no-install -p trine-core -- --nocapture a_name";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let shown = format!("{:?}", cli.command);
        assert!(
            shown.contains(r#"["-p", "trine-core", "--", "--nocapture", "a_name"]"#),
            "{shown}"
        );
        assert!(shown.contains("no_install: true"), "{shown}");
    }
}
