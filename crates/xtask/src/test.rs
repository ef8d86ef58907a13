pub(crate) mod execute;
mod report;

use std::fs;
use std::time::{Duration, Instant};

use clap::Args;

use self::execute::{Binaries, execute};
pub(crate) use self::report::Report;
use crate::failure::{Failure, Result};
use crate::servers::{Kind, ServerOptions, Servers, Tested};
use crate::tested::{self, Record};
use crate::workspace::{Member, Workspace};

/// What `cargo test` is always told here: one set of features, so that nothing
/// is built twice, and no fail-fast, so that the closing table is complete.
pub(crate) const CARGO_TEST: [&str; 4] = ["test", "--all-features", "--locked", "--no-fail-fast"];

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    servers: ServerOptions,
    /// Writes the engines and versions of a complete, passed run into
    /// docs/tested.md.
    #[arg(long)]
    record: bool,
    /// Handed to `cargo test`, such as `-p trine-core` or a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Provides the servers, builds, runs every test and doctest, and closes with
/// what ran against what.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.record && !options.args.is_empty() {
        return Err(Failure::new(
            "--record is for complete runs: leave out the arguments of cargo test",
        ));
    }
    let mut parts = Parts::default();
    let kinds = needed(workspace, &options.args);
    let servers = parts.time("servers", || Servers::provide(&options.servers, &kinds))?;
    let binaries =
        parts.time("build", || Binaries::build(workspace, &build_args(&options.args)))?;
    let args = scope(&options.args);
    let (report, outcome) =
        parts.time("tests", || execute(workspace, &args, &servers, &[], &binaries))?;
    print!("{}", report.table());
    print_engines(workspace, &report, &servers);
    parts.print();
    outcome?;
    let record = Record::of(workspace, &report, &servers, "suite")?;
    let complete = options.args.is_empty();
    if options.record || complete && record.has_rows() {
        record.keep(workspace)?;
    }
    if options.record {
        tested::run(workspace)?;
    }
    Ok(())
}

/// Adds `--workspace` unless the arguments choose packages themselves.
fn scope(args: &[String]) -> Vec<String> {
    let chooses = |arg: &String| {
        arg.starts_with("-p") || arg.starts_with("--package") || arg == "--manifest-path"
    };
    let own = args.iter().take_while(|arg| *arg != "--").any(chooses);
    let everything = (!own).then(|| "--workspace".to_owned());
    everything.into_iter().chain(args.iter().cloned()).collect()
}

/// Returns the scope without what only the test binaries understand.
fn build_args(args: &[String]) -> Vec<String> {
    let mut all = scope(args);
    if let Some(end) = all.iter().position(|arg| arg == "--") {
        all.truncate(end);
    }
    all
}

/// Returns the kinds of servers that the tests of the chosen packages need: all,
/// unless packages are chosen and none of them has a test of Redis.
fn needed(workspace: &Workspace, args: &[String]) -> Vec<Kind> {
    let chosen = packages(args);
    let members =
        workspace.members().iter().filter(|member| chosen.contains(&member.name.as_str()));
    let members: Vec<_> = members.collect();
    let has_redis = |member: &&Member| {
        let files = fs::read_dir(workspace.root().join(&member.folder).join("tests/it"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| file.file_name().to_string_lossy().starts_with("redis"))
    };
    let is_narrow = !chosen.is_empty() && members.len() == chosen.len();
    let is_needed =
        |kind: &Kind| *kind != Kind::Redis || !is_narrow || members.iter().any(has_redis);
    Kind::ALL.into_iter().filter(is_needed).collect()
}

/// Returns the names in `-p name`, `--package name` and their like.
fn packages(args: &[String]) -> Vec<&str> {
    let mut names = Vec::new();
    let mut args = args.iter().map(String::as_str).take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        match arg {
            "-p" | "--package" => names.extend(args.next()),
            _ => names.extend(arg.strip_prefix("--package=").or_else(|| arg.strip_prefix("-p"))),
        }
    }
    names
}

fn print_engines(workspace: &Workspace, report: &Report, servers: &Servers) {
    println!("\nengines");
    for Tested { name, version, origin, family } in tested::engines(workspace, servers) {
        let (passed, failed) = report.of_engine(family);
        if passed + failed == 0 {
            println!("  {name} {version} ({origin}): no test ran");
        } else {
            println!("  {name} {version} ({origin}): {passed} passed, {failed} failed");
        }
    }
    println!("not run");
    if !servers.has_mysql() {
        println!(
            "  MySQL 8.4: only the GitHub workflow has a server for it (or: cargo xtask test --mysql, with Docker)"
        );
    }
    let ignored = report.ignored();
    if ignored > 0 {
        println!("  {ignored} ignored tests, the long forms among them: cargo xtask soak --list");
    }
}

/// The minutes of each part of a run.
#[derive(Debug, Default)]
struct Parts(Vec<(&'static str, Duration)>);

impl Parts {
    fn time<T>(&mut self, part: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0.push((part, start.elapsed()));
        result
    }

    fn print(&self) {
        let all: Vec<_> = self
            .0
            .iter()
            .map(|(part, took)| format!("{part} {:.1}", took.as_secs_f64() / 60.0))
            .collect();
        println!("minutes\n  {}", all.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_run_covers_the_workspace_unless_packages_are_chosen() {
        assert_eq!(scope(&words("a_name")), words("--workspace a_name"));
        assert_eq!(scope(&words("-p trine-core")), words("-p trine-core"));
        assert_eq!(scope(&words("name -- -p")), words("--workspace name -- -p"));
    }

    #[test]
    fn the_build_is_not_told_what_is_for_the_test_binaries() {
        assert_eq!(build_args(&words("-p trine-core -- --nocapture")), words("-p trine-core"));
    }

    #[test]
    fn packages_are_read_as_cargo_reads_them() {
        let line = words("-p a --package b --package=c -pd name -- -p e");
        assert_eq!(packages(&line), ["a", "b", "c", "d"]);
    }
}
