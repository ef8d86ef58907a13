use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Which databases a migration set belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MigrationScope {
    /// The global database only.
    Global,
    /// Every shard, and not the global database.
    Shards,
    /// The global database and every shard.
    Everywhere,
}

/// One version of a schema: a list of statements per engine.
///
/// # Example
///
/// ```
/// use trine_core::{MigrationScope, MigrationSet, MigrationStep};
///
/// let set = MigrationSet::new("orders", MigrationScope::Shards).step(
///     MigrationStep::new(1, "create orders")
///         .on("sqlite", ["CREATE TABLE orders (id INTEGER PRIMARY KEY) STRICT"])
///         .on("mysql", ["CREATE TABLE orders (id BIGINT PRIMARY KEY)"]),
/// );
/// assert!(set.validate().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct MigrationStep {
    version: u32,
    name: Cow<'static, str>,
    engines: BTreeMap<&'static str, Vec<Cow<'static, str>>>,
}

impl MigrationStep {
    /// Returns the empty step `version`, counted from 1, called `name`.
    #[must_use]
    pub fn new(version: u32, name: impl Into<Cow<'static, str>>) -> Self {
        Self { version, name: name.into(), engines: BTreeMap::new() }
    }

    /// Adds `statements` to what the step does on `engine`, in order.
    #[must_use]
    pub fn on<S: Into<Cow<'static, str>>>(
        mut self,
        engine: &'static str,
        statements: impl IntoIterator<Item = S>,
    ) -> Self {
        let list = self.engines.entry(engine).or_default();
        list.extend(statements.into_iter().map(Into::into));
        self
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the statements for `engine`; `None` if the step does not know it.
    #[must_use]
    pub fn statements(&self, engine: &str) -> Option<&[Cow<'static, str>]> {
        self.engines.get(engine).map(Vec::as_slice)
    }

    /// Returns a hash of version, name and statements for `engine`, to be
    /// stored beside an applied step and compared later. The same on every
    /// platform and in every release.
    #[must_use]
    pub fn fingerprint(&self, engine: &str) -> u64 {
        let mut hash = Fnv::new();
        hash.number(u64::from(self.version));
        hash.text(&self.name);
        hash.text(engine);
        for statement in self.statements(engine).unwrap_or_default() {
            hash.text(statement);
        }
        hash.0
    }
}

/// FNV-1a: stored in databases, so it must never change with a release.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// The length goes first, so that no two lists of texts run together.
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

/// The schema of one owner, version by version.
///
/// Plain data: the runner is in `trine-db-shard`. Hosts register sets of their
/// own the same way as the Trine crates do.
#[derive(Clone, Debug)]
pub struct MigrationSet {
    owner: Cow<'static, str>,
    scope: MigrationScope,
    steps: Vec<MigrationStep>,
}

impl MigrationSet {
    /// Returns the empty set of `owner`, such as `"trine-queue"`.
    #[must_use]
    pub fn new(owner: impl Into<Cow<'static, str>>, scope: MigrationScope) -> Self {
        Self { owner: owner.into(), scope, steps: Vec::new() }
    }

    /// Adds the next step.
    #[must_use]
    pub fn step(mut self, step: MigrationStep) -> Self {
        self.steps.push(step);
        self
    }

    /// Returns who owns the tables.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Returns which databases the set belongs to.
    #[must_use]
    pub fn scope(&self) -> MigrationScope {
        self.scope
    }

    /// Returns the steps in order.
    #[must_use]
    pub fn steps(&self) -> &[MigrationStep] {
        &self.steps
    }

    /// Returns every engine that at least one step knows, sorted.
    #[must_use]
    pub fn engines(&self) -> Vec<&'static str> {
        let all: BTreeSet<_> = self.steps.iter().flat_map(|step| step.engines.keys()).collect();
        all.into_iter().copied().collect()
    }

    /// Checks the rules: an owner of 1 to 64 characters `a-z`, `0-9`, `_`, `-`;
    /// at least one step; versions 1, 2, 3 …; names unique and not blank; for
    /// each engine that any step names, at least one statement in every step,
    /// none of them blank.
    ///
    /// # Errors
    ///
    /// Fails with every rule that is broken, not only the first.
    pub fn validate(&self) -> Result<(), InvalidMigrations> {
        let mut problems = Vec::new();
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        if self.owner.is_empty() || self.owner.len() > 64 || !self.owner.chars().all(is_word) {
            problems.push(MigrationProblem::Owner);
        }
        if self.steps.is_empty() {
            problems.push(MigrationProblem::NoSteps);
        }
        let engines = self.engines();
        let mut names = BTreeSet::new();
        for (step, expected) in self.steps.iter().zip(1..) {
            let version = step.version;
            if version != expected {
                problems.push(MigrationProblem::Version { expected, found: version });
            }
            if step.name.trim().is_empty() || !names.insert(step.name()) {
                problems.push(MigrationProblem::Name { version });
            }
            if step.engines.is_empty() {
                problems.push(MigrationProblem::NoStatements { version, engine: "any engine" });
            }
            for engine in &engines {
                let statements = step.statements(engine).unwrap_or_default();
                if statements.is_empty() || statements.iter().any(|text| text.trim().is_empty()) {
                    problems.push(MigrationProblem::NoStatements { version, engine });
                }
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(InvalidMigrations { owner: self.owner.clone().into_owned(), problems })
        }
    }
}

/// Every rule that a migration set broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("migrations of `{owner}`: {}", join(.problems))]
pub struct InvalidMigrations {
    owner: String,
    problems: Vec<MigrationProblem>,
}

impl InvalidMigrations {
    /// Returns the broken rules in the order of the steps.
    #[must_use]
    pub fn problems(&self) -> &[MigrationProblem] {
        &self.problems
    }
}

fn join(problems: &[MigrationProblem]) -> String {
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// One rule that a migration set broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationProblem {
    /// The owner has other characters than `a-z`, `0-9`, `_`, `-`, or a wrong length.
    #[error("the owner must have 1 to 64 characters a-z, 0-9, `_` or `-`")]
    Owner,
    /// There is nothing to do.
    #[error("the set has no steps")]
    NoSteps,
    /// Versions do not run 1, 2, 3 …
    #[error("expected version {expected}, found {found}")]
    Version {
        /// The version that belongs here.
        expected: u32,
        /// The version that is here.
        found: u32,
    },
    /// The name is blank, or an earlier step has it.
    #[error("version {version}: its name is blank or taken")]
    Name {
        /// The step.
        version: u32,
    },
    /// A statement is missing or blank on an engine that the set supports.
    #[error("version {version}: a statement for {engine} is missing or blank")]
    NoStatements {
        /// The step.
        version: u32,
        /// The engine.
        engine: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(version: u32, name: &'static str) -> MigrationStep {
        MigrationStep::new(version, name).on("sqlite", ["SELECT 1"]).on("mysql", ["SELECT 1"])
    }

    fn set() -> MigrationSet {
        MigrationSet::new("a-b_1", MigrationScope::Everywhere)
    }

    #[test]
    fn a_sound_set_passes() {
        let set = set().step(step(1, "one")).step(step(2, "two"));
        assert_eq!(set.validate(), Ok(()));
        assert_eq!(set.engines(), ["mysql", "sqlite"]);
    }

    #[test]
    fn every_broken_rule_is_reported_at_once() {
        let broken = MigrationSet::new("Bad Owner", MigrationScope::Global)
            .step(step(2, "same"))
            .step(MigrationStep::new(2, "same").on("sqlite", [" "]))
            .step(MigrationStep::new(3, " "));
        let problems = broken.validate().unwrap_err().problems;
        assert_eq!(
            problems,
            [
                MigrationProblem::Owner,
                MigrationProblem::Version { expected: 1, found: 2 },
                MigrationProblem::Name { version: 2 },
                MigrationProblem::NoStatements { version: 2, engine: "mysql" },
                MigrationProblem::NoStatements { version: 2, engine: "sqlite" },
                MigrationProblem::Name { version: 3 },
                MigrationProblem::NoStatements { version: 3, engine: "any engine" },
                MigrationProblem::NoStatements { version: 3, engine: "mysql" },
                MigrationProblem::NoStatements { version: 3, engine: "sqlite" },
            ]
        );
    }

    #[test]
    fn an_empty_set_a_long_owner_and_a_gap_are_refused() {
        assert_eq!(set().validate().unwrap_err().problems, [MigrationProblem::NoSteps]);
        let long = MigrationSet::new("a".repeat(65), MigrationScope::Global).step(step(1, "one"));
        assert_eq!(long.validate().unwrap_err().problems, [MigrationProblem::Owner]);
        let gap = set().step(step(1, "one")).step(step(3, "three"));
        let expected = MigrationProblem::Version { expected: 2, found: 3 };
        assert_eq!(gap.validate().unwrap_err().problems, [expected]);
    }

    #[test]
    fn a_fingerprint_is_stable_and_sees_every_change() {
        let one = step(1, "one");
        assert_eq!(one.fingerprint("sqlite"), 0x5c4e_8fe7_2896_fce4);
        let others = [
            step(2, "one"),
            step(1, "two"),
            MigrationStep::new(1, "one").on("sqlite", ["SELECT 2"]),
            MigrationStep::new(1, "one").on("sqlite", ["SELECT ", "1"]),
        ];
        for other in &others {
            assert_ne!(one.fingerprint("sqlite"), other.fingerprint("sqlite"), "{other:?}");
        }
        assert_ne!(one.fingerprint("sqlite"), one.fingerprint("mysql"));
        let split = |a, b| MigrationStep::new(1, "x").on("sqlite", [a, b]).fingerprint("sqlite");
        assert_ne!(split("ab", "c"), split("a", "bc"));
    }
}
