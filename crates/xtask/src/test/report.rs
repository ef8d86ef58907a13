use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::execute::Binaries;

/// What the tests printed, counted.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sections: Vec<Section>,
    /// Passed and failed tests by engine family and package. A test belongs to
    /// an engine if a module of its path is named after it, such as `sqlite` or
    /// `sqlite_engine`; unit tests do not count, since they talk to no engine.
    engines: BTreeMap<(&'static str, String), (u32, u32)>,
    running: Option<Instant>,
    /// The test whose verdict has not been read yet.
    named: Option<String>,
}

#[derive(Debug)]
struct Section {
    package: String,
    kind: &'static str,
    passed: u32,
    failed: u32,
    ignored: u32,
    took: Duration,
}

impl Report {
    /// Reads one line of the output of `cargo test`.
    pub(crate) fn read(&mut self, line: &str, binaries: &Binaries) {
        let text = line.trim_start();
        if let Some(package) = text.strip_prefix("Doc-tests ") {
            self.open(package.replace('_', "-"), "doctests");
        } else if let Some(path) = running(text) {
            let (package, kind) = match binaries.get(path) {
                Some(binary) if binary.integration => (binary.package.clone(), "integration"),
                Some(binary) => (binary.package.clone(), "unit"),
                None => (path.to_owned(), "unit"),
            };
            self.open(package, kind);
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            self.count(rest);
        } else if let Some((name, verdict)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            self.named = Some(name.to_owned());
            self.attribute(verdict);
        } else {
            self.attribute(line);
        }
    }

    /// Ends the last section.
    pub(crate) fn close(&mut self) {
        if let (Some(start), Some(section)) = (self.running.take(), self.sections.last_mut()) {
            section.took = start.elapsed();
        }
    }

    fn open(&mut self, package: String, kind: &'static str) {
        self.close();
        self.sections.push(Section {
            package,
            kind,
            passed: 0,
            failed: 0,
            ignored: 0,
            took: Duration::ZERO,
        });
        self.running = Some(Instant::now());
    }

    /// Reads `ok. 12 passed; 0 failed; 3 ignored; …`.
    fn count(&mut self, rest: &str) {
        let Some(section) = self.sections.last_mut() else {
            return;
        };
        let counts = rest.split_once(". ").map_or(rest, |(_, counts)| counts);
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u32>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => section.passed += number,
                Some("failed") => section.failed += number,
                Some("ignored") => section.ignored += number,
                _ => {}
            }
        }
    }

    /// Counts the last named test if `verdict` is one. What a test prints
    /// without being captured may stand between its name and its verdict.
    fn attribute(&mut self, verdict: &str) {
        let (ok, failed) = match verdict {
            "ok" => (1, 0),
            "FAILED" => (0, 1),
            _ => return,
        };
        let Some(name) = self.named.take() else {
            return;
        };
        let Some(section) = self.sections.last().filter(|section| section.kind == "integration")
        else {
            return;
        };
        if let Some(family) = name.split("::").find_map(family) {
            let counts = self.engines.entry((family, section.package.clone())).or_default();
            counts.0 += ok;
            counts.1 += failed;
        }
    }

    /// Returns how many tests of an engine family passed and failed.
    pub(crate) fn of_engine(&self, family: &str) -> (u32, u32) {
        let found = self.engines.iter().filter(|((name, _), _)| *name == family);
        found.fold((0, 0), |(passed, failed), (_, more)| (passed + more.0, failed + more.1))
    }

    /// Returns the passed tests of an engine family by package.
    pub(crate) fn packages_of(&self, family: &str) -> Vec<(&str, u32)> {
        let found =
            self.engines.iter().filter(|((name, _), (passed, _))| *name == family && *passed > 0);
        found.map(|((_, package), (passed, _))| (package.as_str(), *passed)).collect()
    }

    /// Returns the passed integration tests by package, whatever their engine.
    pub(crate) fn packages(&self) -> Vec<(&str, u32)> {
        let sections = self.sections.iter().filter(|section| section.kind == "integration");
        let passed = sections.map(|section| (section.package.as_str(), section.passed));
        passed.filter(|(_, passed)| *passed > 0).collect()
    }

    /// Returns how many tests passed.
    pub(crate) fn passed(&self) -> u32 {
        self.sections.iter().map(|section| section.passed).sum()
    }

    /// Returns how many tests are only run when asked for.
    pub(crate) fn ignored(&self) -> u32 {
        self.sections.iter().map(|section| section.ignored).sum()
    }

    /// Returns a table with a line for each binary that has tests.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "\n{:<18}{:<13}{:>7}{:>8}{:>9}{:>9}\n",
            "package", "tests", "passed", "failed", "ignored", "minutes"
        );
        for Section { package, kind, passed, failed, ignored, took } in &self.sections {
            if passed + failed + ignored > 0 {
                let minutes = took.as_secs_f64() / 60.0;
                let _ = writeln!(
                    table,
                    "{package:<18}{kind:<13}{passed:>7}{failed:>8}{ignored:>9}{minutes:>9.1}"
                );
            }
        }
        table
    }
}

/// Reads the path in `Running tests/it/main.rs (target/debug/deps/it-0a1b)`.
fn running(text: &str) -> Option<&str> {
    let (_, rest) = text.strip_prefix("Running ")?.rsplit_once('(')?;
    rest.strip_suffix(')')
}

/// Returns the engine family that a module is named after.
fn family(module: &str) -> Option<&'static str> {
    match module {
        "sqlite" | "sqlite_engine" => Some("sqlite"),
        "mariadb" | "mysql" | "mariadb_engine" | "mysql_engine" => Some("server"),
        "redis" | "redis_engine" => Some("redis"),
        "redis_sentinel" => Some("redis_sentinel"),
        "redis_cluster" => Some("redis_cluster"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::execute::sample;

    const OUTPUT: &str = "\
     Running unittests src/lib.rs (target/debug/deps/trine_core-77)
test sqlite::parses ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
     Running tests/it/main.rs (target/debug/deps/it-0a1b)
test mariadb::absent_key_reads_as_none ... ok
test mysql::suite::reads_back ... FAILED
test sqlite::reads_back ... ok
test sqlite::soak_kills ... ignored, long form: cargo xtask soak kills
test pool::closes ... ok
test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
   Doc-tests trine_core
test crates/core/src/lib.rs - (line 9) ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn report() -> Report {
        let mut report = Report::default();
        let binaries = sample();
        OUTPUT.lines().for_each(|line| report.read(line, &binaries));
        report.close();
        report
    }

    #[test]
    fn tests_count_for_the_engine_whose_module_they_are_in() {
        let report = report();
        assert_eq!(report.of_engine("server"), (1, 1));
        assert_eq!(report.of_engine("sqlite"), (1, 0));
        assert_eq!(report.packages_of("sqlite"), [("trine-core", 1)]);
    }

    #[test]
    fn modules_about_an_engine_count_for_it_too() {
        let mut report = Report::default();
        let output = "     Running tests/it/main.rs (target/debug/deps/it-0a1b)\n\
            test mysql_engine::drops::soak_cancel ... ok\n\
            test mariadb_engine::reads ... ok\ntest sqlite_engine::crash::soak ... ok\n\
            test rolling::soak_rolling ... ok\ntest move_key::fails ... FAILED\n";
        output.lines().for_each(|line| report.read(line, &sample()));
        assert_eq!(report.of_engine("server"), (2, 0));
        assert_eq!(report.of_engine("sqlite"), (1, 0));
    }

    #[test]
    fn each_topology_of_redis_has_tests_of_its_own() {
        let mut report = Report::default();
        let output = "     Running tests/it/main.rs (target/debug/deps/it-0a1b)\n\
            test redis::reads_back ... ok\ntest redis_engine::suite::reads_back ... ok\n\
            test redis_sentinel::reads_back ... FAILED\ntest redis_cluster::reads_back ... ok\n";
        output.lines().for_each(|line| report.read(line, &sample()));
        assert_eq!(report.of_engine("redis"), (2, 0));
        assert_eq!(report.of_engine("redis_sentinel"), (0, 1));
        assert_eq!(report.of_engine("redis_cluster"), (1, 0));
    }

    #[test]
    fn a_verdict_counts_for_its_test_when_output_stands_between_them() {
        let mut report = Report::default();
        let output = "     Running tests/it/main.rs (target/debug/deps/it-0a1b)\n\
            ok\ntest sqlite::soak_kills ... seed 7\nledger: 10 of 10\nok\nok\n";
        output.lines().for_each(|line| report.read(line, &sample()));
        assert_eq!(report.of_engine("sqlite"), (1, 0));
    }

    #[test]
    fn totals_come_from_the_closing_lines() {
        let report = report();
        assert_eq!((report.passed(), report.ignored()), (5, 1));
        let table = report.table();
        let line = table.lines().find(|line| line.contains("integration")).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["trine-core", "integration", "3", "1", "1", "0.0"]);
        assert!(table.contains("doctests"), "{table}");
    }
}
