use std::fs;

use serde_json::{Value, json};

use crate::failure::{Context, Failure, Result};
use crate::run::Run;
use crate::servers::{Servers, Tested};
use crate::test::Report;
use crate::workspace::Workspace;

const PAGE: &str = "docs/tested.md";
const BEGIN: &str = "<!-- rows: begin -->";
const END: &str = "<!-- rows: end -->";

/// What one passed run proved, kept until it is written into the page.
#[derive(Debug)]
pub(crate) struct Record {
    rows: Vec<Row>,
}

/// A line of the page's table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    engine: String,
    version: String,
    system: String,
    date: String,
    /// What ran, up to the first comma or colon, with what settings and how
    /// it went.
    checks: String,
}

/// Writes the rows of the last recorded run into docs/tested.md: a row of the
/// same engine, version, system and kind of run is replaced.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let kept = workspace.records().join("record.json");
    let text = fs::read_to_string(&kept).map_err(|_| {
        Failure::new("there is no record of a complete, passed run; run: cargo xtask test --record")
    })?;
    let record = serde_json::from_str(&text).ok().as_ref().and_then(Record::parse);
    let record = record.ok_or_else(|| Failure::new(format!("{} is damaged", kept.display())))?;
    let path = workspace.root().join(PAGE);
    let page = fs::read_to_string(&path).context(PAGE)?;
    let page = merge(&page, &record.rows)
        .ok_or_else(|| Failure::new(format!("{PAGE} has lost its lines {BEGIN} and {END}")))?;
    fs::write(&path, page).context(PAGE)?;
    for Row { engine, version, checks, .. } in &record.rows {
        println!("{PAGE}: {engine} {version}, {checks}");
    }
    Ok(())
}

impl Record {
    /// Makes one row for each engine that had a passed test and no failed one.
    pub(crate) fn of(
        workspace: &Workspace,
        report: &Report,
        servers: &Servers,
        kind: &str,
    ) -> Result<Self> {
        let (date, system) = (today()?, system());
        let mut rows = Vec::new();
        for Tested { name, version, family, .. } in engines(workspace, servers) {
            let (passed, failed) = report.of_engine(family);
            if passed == 0 || failed > 0 {
                continue;
            }
            rows.push(Row {
                engine: name.to_owned(),
                version,
                system: system.clone(),
                date: date.clone(),
                checks: checks(kind, passed, &report.packages_of(family)),
            });
        }
        Ok(Self { rows })
    }

    /// Makes the rows of a long form: those of its engines, or one without an
    /// engine, since some loops have none.
    pub(crate) fn of_soak(
        workspace: &Workspace,
        report: &Report,
        servers: &Servers,
        kind: &str,
    ) -> Result<Self> {
        let mut record = Self::of(workspace, report, servers, kind)?;
        if record.rows.is_empty() {
            record.rows.push(Row::without_engine(report, kind, today()?, system()));
        }
        Ok(record)
    }

    /// Reports whether any engine passed.
    pub(crate) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Keeps the record beside the build for `cargo xtask tested`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written, and if no engine passed: such a run
    /// leaves the last record alone.
    pub(crate) fn keep(&self, workspace: &Workspace) -> Result<()> {
        if self.rows.is_empty() {
            return Err(Failure::new("no test of an engine passed: there is nothing to record"));
        }
        let folder = workspace.records();
        fs::create_dir_all(&folder).context(folder.display())?;
        let rows: Vec<_> = self.rows.iter().map(Row::to_json).collect();
        let path = folder.join("record.json");
        fs::write(&path, json!(rows).to_string()).context(path.display())
    }

    fn parse(value: &Value) -> Option<Self> {
        let rows = value.as_array()?.iter().map(Row::from_json).collect::<Option<_>>()?;
        Some(Self { rows })
    }
}

impl Row {
    fn without_engine(report: &Report, kind: &str, date: String, system: String) -> Self {
        let packages = report.packages();
        let passed = packages.iter().map(|(_, passed)| passed).sum();
        let [engine, version] = ["none", "-"].map(str::to_owned);
        Self { engine, version, system, date, checks: checks(kind, passed, &packages) }
    }

    fn to_json(&self) -> Value {
        json!([self.engine, self.version, self.system, self.date, self.checks])
    }

    fn from_json(value: &Value) -> Option<Self> {
        let cells: Option<Vec<_>> =
            value.as_array()?.iter().map(|cell| cell.as_str().map(str::to_owned)).collect();
        Self::from_cells(cells?)
    }

    fn from_cells(cells: Vec<String>) -> Option<Self> {
        let [engine, version, system, date, checks] = <[String; 5]>::try_from(cells).ok()?;
        Some(Self { engine, version, system, date, checks })
    }

    fn from_line(line: &str) -> Option<Self> {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Self::from_cells(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
    }

    fn to_line(&self) -> String {
        let Self { engine, version, system, date, checks } = self;
        format!("| {engine} | {version} | {system} | {date} | {checks} |")
    }

    fn replaces(&self, other: &Self) -> bool {
        let kind = |row: &Self| row.checks.split([':', ',']).next().map(str::to_owned);
        (&self.engine, &self.version, &self.system)
            == (&other.engine, &other.version, &other.system)
            && kind(self) == kind(other)
    }
}

/// Returns the page with `rows` in its table, sorted.
fn merge(page: &str, rows: &[Row]) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (table, tail) = rest.split_once(END)?;
    // The first two lines are the headings and their rule.
    let old = table.trim().lines().skip(2).filter_map(Row::from_line);
    let kept = old.filter(|old| !rows.iter().any(|new| new.replaces(old)));
    let mut lines: Vec<_> = kept.chain(rows.iter().cloned()).map(|row| row.to_line()).collect();
    lines.sort();
    let head = head.trim_end();
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let headings = "| engine | version | system | date | checks |\n|---|---|---|---|---|\n";
    Some(format!("{head}\n\n{BEGIN}\n{headings}{body}{END}{tail}"))
}

/// Returns what tests of a run are counted for.
pub(crate) fn engines(workspace: &Workspace, servers: &Servers) -> Vec<Tested> {
    let sqlite = Tested {
        name: "SQLite",
        version: sqlite_version(workspace).unwrap_or_else(|| "of unknown version".to_owned()),
        origin: "bundled",
        family: "sqlite",
    };
    [sqlite].into_iter().chain(servers.tested()).collect()
}

/// Returns the version of the SQLite that the lock file compiles in.
fn sqlite_version(workspace: &Workspace) -> Option<String> {
    let header = workspace.source_of("libsqlite3-sys")?.join("sqlite3/sqlite3.h");
    let text = fs::read_to_string(header).ok()?;
    let line = text.lines().find(|line| line.starts_with("#define SQLITE_VERSION "))?;
    Some(line.split('"').nth(1)?.to_owned())
}

fn checks(kind: &str, passed: u32, packages: &[(&str, u32)]) -> String {
    let packages: Vec<_> =
        packages.iter().map(|(package, passed)| format!("{package} {passed}")).collect();
    format!("{kind}: {passed} passed ({})", packages.join(", "))
}

fn today() -> Result<String> {
    Ok(Run::new("date").args(["-u", "+%F"]).text()?.trim().to_owned())
}

/// Returns the distribution and the compiler, such as
/// `Debian GNU/Linux 12 (bookworm), rustc 1.95.0`.
fn system() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.map_or(std::env::consts::OS, |name| name.trim_matches('"'));
    let rustc = Run::new("rustc").args(["--version"]).text().unwrap_or_default();
    let rustc: Vec<_> = rustc.split_whitespace().take(2).collect();
    format!("{name}, {}", rustc.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::execute::sample;

    fn row(engine: &str, date: &str, checks: &str) -> Row {
        let cells = [engine, "1.0", "Debian 12", date, checks].map(str::to_owned);
        Row::from_cells(cells.to_vec()).unwrap()
    }

    const PAGE: &str = "# Tested\n\n<!-- rows: begin -->\n| engine | version | system | date | checks |\n|---|---|---|---|---|\n<!-- rows: end -->\n\nThe end.\n";

    #[test]
    fn a_newer_run_replaces_its_own_row_and_no_other() {
        let page = merge(
            PAGE,
            &[
                row("SQLite", "2026-01-01", "suite: 1 passed"),
                row("SQLite", "2026-01-01", "soak kills: ok"),
            ],
        )
        .unwrap();
        let page = merge(
            &page,
            &[
                row("SQLite", "2026-02-02", "suite: 2 passed"),
                row("MariaDB", "2026-02-02", "suite: 3 passed"),
            ],
        )
        .unwrap();
        let rows: Vec<_> = page.lines().filter_map(Row::from_line).skip(2).collect();
        assert_eq!(
            rows,
            [
                row("MariaDB", "2026-02-02", "suite: 3 passed"),
                row("SQLite", "2026-01-01", "soak kills: ok"),
                row("SQLite", "2026-02-02", "suite: 2 passed"),
            ]
        );
        assert!(page.starts_with("# Tested\n") && page.ends_with("The end.\n"), "{page}");
    }

    #[test]
    fn a_loop_without_an_engine_has_a_row_and_keeps_it_apart() {
        let mut report = Report::default();
        let output = "     Running tests/it/main.rs (target/debug/deps/it-0a1b)\n\
            test cycles::soak_cycles ... ok\n\
            test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        output.lines().for_each(|line| report.read(line, &sample()));
        let kind = "soak cycles, 10 minutes, at least 500 rounds, seed 7";
        let row =
            |day: &str| Row::without_engine(&report, kind, day.to_owned(), "Debian".to_owned());
        let line = "| none | - | Debian | 2026-01-01 | soak cycles, 10 minutes, \
                    at least 500 rounds, seed 7: 1 passed (trine-core 1) |";
        assert_eq!(row("2026-01-01").to_line(), line);
        let page = merge(PAGE, &[row("2026-01-01")]).unwrap();
        let page = merge(&page, &[row("2026-02-02")]).unwrap();
        assert!(!page.contains("2026-01-01") && page.contains("2026-02-02"), "{page}");
    }

    #[test]
    fn a_page_without_its_marks_is_not_touched() {
        assert_eq!(merge("# Tested\n", &[row("SQLite", "2026-01-01", "suite: 1 passed")]), None);
    }

    #[test]
    fn a_record_survives_the_way_through_its_file() {
        let kept = row("SQLite", "2026-01-01", "suite: 1 passed");
        assert_eq!(Row::from_json(&kept.to_json()).unwrap(), kept);
    }
}
