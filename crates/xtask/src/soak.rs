use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::failure::{Failure, Result};
use crate::run::Run;
use crate::servers::{Kind, ServerOptions, Servers};
use crate::test::execute::{Binaries, Binary, execute};
use crate::tested::{self, Record};
use crate::workspace::Workspace;

/// Which long form to run, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The name after `soak_`.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// Lists the long forms.
    #[arg(long)]
    list: bool,
    /// How long the loop runs: TRINE_SOAK_MINUTES of the test.
    #[arg(long, default_value = "10")]
    minutes: NonZeroU32,
    /// Where the random choices start: TRINE_SOAK_SEED of the test. A new one
    /// each time if left out, printed at the start.
    #[arg(long)]
    seed: Option<u64>,
    /// How many rounds at least: TRINE_SOAK_COUNT of the test.
    #[arg(long)]
    count: Option<NonZeroU64>,
    /// Builds with optimisation.
    #[arg(long)]
    release: bool,
    /// Writes a passed run into docs/tested.md.
    #[arg(long)]
    record: bool,
    #[command(flatten)]
    servers: ServerOptions,
}

impl Options {
    /// Returns what ran, for the record.
    fn kind(&self, name: &str, seed: u64) -> String {
        let count = self.count.map(|count| format!(", at least {count} rounds"));
        format!("soak {name}, {} minutes{}, seed {seed}", self.minutes, count.unwrap_or_default())
    }
}

/// Runs the long form, or lists them all.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut args = vec!["--workspace".to_owned(), "--test".to_owned(), "it".to_owned()];
    args.extend(options.release.then(|| "--release".to_owned()));
    let binaries = Binaries::build(workspace, &args)?;
    let forms = Forms::find(&binaries)?;
    let Some(name) = options.name.as_deref().filter(|_| !options.list) else {
        forms.print();
        return Ok(());
    };
    let paths = forms.paths(name)?;
    let servers = Servers::provide(&options.servers, &Kind::ALL)?;
    let seed = options.seed.unwrap_or_else(new_seed);
    println!("soak {name}: {} minutes, seed {seed}", options.minutes);
    let mut variables = vec![
        ("TRINE_SOAK_MINUTES", options.minutes.to_string()),
        ("TRINE_SOAK_SEED", seed.to_string()),
    ];
    variables.extend(options.count.map(|count| ("TRINE_SOAK_COUNT", count.to_string())));
    args.extend(
        ["--", "--ignored", "--nocapture", "--test-threads=1", "--exact"].map(str::to_owned),
    );
    args.extend(paths);
    let (report, outcome) = execute(workspace, &args, &servers, &variables, &binaries)?;
    print!("{}", report.table());
    println!("soak {name}: seed {seed}");
    outcome?;
    if report.passed() == 0 {
        return Err(Failure::new(format!("soak {name} ran no test")));
    }
    if options.record {
        Record::of_soak(workspace, &report, &servers, &options.kind(name, seed))?
            .keep(workspace)?;
        tested::run(workspace)?;
    }
    Ok(())
}

/// Takes a seed from the clock; the run prints it, so that it can be repeated.
fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs().rotate_left(20)
}

/// The long forms: their names, and the packages and paths of their tests.
#[derive(Debug, Default)]
struct Forms(BTreeMap<String, Vec<(String, String)>>);

impl Forms {
    fn find(binaries: &Binaries) -> Result<Self> {
        let mut forms = Self::default();
        for Binary { package, executable, .. } in binaries.iter() {
            forms.add(package, &Run::new(executable).args(["--ignored", "--list"]).text()?);
        }
        Ok(forms)
    }

    /// Reads lines like `sqlite::soak_kills: test`.
    fn add(&mut self, package: &str, listing: &str) {
        for path in listing.lines().filter_map(|line| line.strip_suffix(": test")) {
            if let Some(name) = path.rsplit("::").next().and_then(|last| last.strip_prefix("soak_"))
            {
                self.0
                    .entry(name.to_owned())
                    .or_default()
                    .push((package.to_owned(), path.to_owned()));
            }
        }
    }

    fn paths(&self, name: &str) -> Result<Vec<String>> {
        let found = self.0.get(&name.replace('-', "_")).ok_or_else(|| {
            let names: Vec<_> = self.0.keys().map(String::as_str).collect();
            Failure::new(format!("no long form `{name}`; there are: {}", names.join(", ")))
        })?;
        let mut paths: Vec<_> = found.iter().map(|(_, path)| path.clone()).collect();
        paths.dedup();
        Ok(paths)
    }

    fn print(&self) {
        for (name, tests) in &self.0 {
            let places: Vec<_> =
                tests.iter().map(|(package, path)| format!("{package} {path}")).collect();
            println!("{name:<24} {}", places.join(", "));
        }
        println!(
            "{} in all; run one with: cargo xtask soak <name> --minutes N --seed S",
            self.0.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_forms_are_found_by_their_name_on_every_engine() {
        let mut forms = Forms::default();
        forms.add("trine-db-shard", "sqlite::soak_kills: test\nmariadb::soak_kills: test\nslow: test\n\n2 tests, 0 benchmarks\n");
        forms.add("trine-starter", "soak_accounts: test\n");
        assert_eq!(forms.paths("kills").unwrap(), ["sqlite::soak_kills", "mariadb::soak_kills"]);
        forms.add("trine-starter", "soak_starter_kill: test\n");
        assert_eq!(forms.paths("accounts").unwrap(), ["soak_accounts"]);
        assert_eq!(forms.paths("starter-kill").unwrap(), ["soak_starter_kill"]);
    }

    #[test]
    fn a_record_says_how_much_ran() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let kind = |line: &[&str]| {
            let line = ["soak", "kills", "--minutes", "30"].iter().chain(line);
            <Line as clap::Parser>::parse_from(line).options.kind("kills", 7)
        };
        assert_eq!(kind(&[]), "soak kills, 30 minutes, seed 7");
        assert_eq!(
            kind(&["--count", "500"]),
            "soak kills, 30 minutes, at least 500 rounds, seed 7"
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let mut forms = Forms::default();
        forms.add("trine-db-shard", "soak_kills: test\n");
        let failure = forms.paths("slow").unwrap_err();
        assert!(failure.to_string().contains("there are: kills"), "{failure}");
    }
}
