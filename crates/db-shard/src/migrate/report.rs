use std::fmt;

use trine_core::Report;

use crate::{DatabaseName, Error, Result};

/// What migrations did, or would do, to each database.
///
/// A report is an answer even where databases failed: look at
/// [`is_complete`](Self::is_complete), or turn it into the first error with
/// [`into_result`](Self::into_result). Its text has one paragraph for each
/// database, fit for a terminal.
#[derive(Debug)]
#[must_use = "databases may have failed: see `is_complete` or `into_result`"]
#[non_exhaustive]
pub struct MigrationReport {
    /// The global database first, then the shards by their numbers.
    pub databases: Vec<DatabaseReport>,
}

/// What migrations did, or would do, to one database.
#[derive(Debug)]
#[non_exhaustive]
pub struct DatabaseReport {
    /// Which database.
    pub database: DatabaseName,
    /// What this run applied, in order; also before a failure.
    pub applied: Vec<AppliedStep>,
    /// What is left, in order, as far as it is known.
    pub pending: Vec<PendingStep>,
    /// Where the database and the code disagree about what was applied.
    pub drift: Vec<Drift>,
    /// Whether the database was looked at to the end.
    pub outcome: MigrationOutcome,
}

/// Whether a database was looked at to the end.
#[derive(Debug)]
#[non_exhaustive]
pub enum MigrationOutcome {
    /// It was.
    Done,
    /// It failed; the next run goes on where this one stopped.
    Failed(Error),
    /// It was not touched, because the global database or the first shard
    /// failed.
    Stopped,
    /// It was not touched: the status of the shard is `offline`.
    Offline,
}

/// A step that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppliedStep {
    /// Whose tables.
    pub owner: Box<str>,
    /// Its version.
    pub version: u32,
    /// Its name.
    pub name: Box<str>,
}

/// A step that is left to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingStep {
    /// Whose tables.
    pub owner: Box<str>,
    /// Its version.
    pub version: u32,
    /// Its name.
    pub name: Box<str>,
    /// How far it has come.
    pub state: StepState,
}

/// How far a pending step has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepState {
    /// Nothing was done.
    New,
    /// It was interrupted, or is under way: those before `statement`, counted
    /// from 0, are done, and that one may be.
    Interrupted {
        /// The statement to go on with.
        statement: u32,
    },
    /// The database refused `statement`, counted from 0; those before are
    /// done, on an engine that cannot roll them back.
    Failed {
        /// The statement to go on with.
        statement: u32,
        /// What the database said.
        error: Box<str>,
    },
}

/// A disagreement between a database and the code. Neither stops anything:
/// older and newer releases may run side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drift {
    /// The step was applied with another text than the code has now.
    Changed {
        /// Whose tables.
        owner: Box<str>,
        /// Its version.
        version: u32,
        /// Its name in the code.
        name: Box<str>,
    },
    /// The code does not know the step: a newer release applied it.
    Newer {
        /// Whose tables.
        owner: Box<str>,
        /// Its version.
        version: u32,
        /// Its name in the database.
        name: Box<str>,
    },
}

impl MigrationReport {
    /// Tells whether nothing failed and nothing is left. A shard that is
    /// `offline` does not count: it is looked at when it comes back.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.databases.iter().all(|database| match database.outcome {
            MigrationOutcome::Done => database.pending.is_empty(),
            MigrationOutcome::Offline => true,
            MigrationOutcome::Failed(_) | MigrationOutcome::Stopped => false,
        })
    }

    /// Returns what was found for `database`.
    #[must_use]
    pub fn get(&self, database: &DatabaseName) -> Option<&DatabaseReport> {
        self.databases.iter().find(|report| report.database == *database)
    }

    /// Returns the report if no database failed.
    ///
    /// # Errors
    ///
    /// Fails with the error of the first database that did.
    pub fn into_result(mut self) -> Result<Self> {
        let is_failure =
            |report: &DatabaseReport| matches!(report.outcome, MigrationOutcome::Failed(_));
        let Some(index) = self.databases.iter().position(is_failure) else {
            return Ok(self);
        };
        match self.databases.swap_remove(index).outcome {
            MigrationOutcome::Failed(error) => Err(error),
            _ => Ok(self),
        }
    }
}

impl DatabaseReport {
    pub(super) fn new(database: DatabaseName, outcome: MigrationOutcome) -> Self {
        Self { database, applied: Vec::new(), pending: Vec::new(), drift: Vec::new(), outcome }
    }

    /// Returns why the database failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match &self.outcome {
            MigrationOutcome::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for MigrationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, database) in self.databases.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            database.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for DatabaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (applied, pending) = (self.applied.len(), self.pending.len());
        write!(f, "{}: ", self.database)?;
        match &self.outcome {
            MigrationOutcome::Done if applied + pending == 0 => f.write_str("up to date"),
            MigrationOutcome::Done => write!(f, "{applied} applied, {pending} pending"),
            MigrationOutcome::Failed(error) => {
                write!(f, "failed after {applied} applied: {}", Report(error))
            }
            MigrationOutcome::Stopped => f.write_str("not tried, a database before it failed"),
            MigrationOutcome::Offline => f.write_str("not tried, the shard is offline"),
        }?;
        for step in &self.applied {
            write!(f, "\n  applied {step}")?;
        }
        for step in &self.pending {
            write!(f, "\n  pending {step}")?;
        }
        for drift in &self.drift {
            write!(f, "\n  drift: {drift}")?;
        }
        Ok(())
    }
}

impl fmt::Display for AppliedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.owner, self.version, self.name)
    }
}

impl fmt::Display for PendingStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.owner, self.version, self.name)?;
        match &self.state {
            StepState::New => Ok(()),
            StepState::Interrupted { statement } => {
                write!(f, " (interrupted at statement {})", statement + 1)
            }
            StepState::Failed { statement, error } => {
                write!(f, " (failed at statement {}: {error})", statement + 1)
            }
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { owner, version, name } => {
                write!(f, "{owner} {version} {name} was applied with another text than the code's")
            }
            Self::Newer { owner, version, name } => {
                write!(f, "{owner} {version} {name} is unknown to this release")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::At;
    use crate::{ShardId, Unavailable};

    fn step(state: StepState) -> PendingStep {
        PendingStep { owner: "orders".into(), version: 2, name: "index".into(), state }
    }

    fn shard(id: u32, outcome: MigrationOutcome) -> DatabaseReport {
        DatabaseReport::new(DatabaseName::Shard(ShardId::new(id)), outcome)
    }

    fn failure() -> Error {
        Error::unavailable(At::new("migrate", &DatabaseName::Global), Unavailable::Unreachable)
    }

    #[test]
    fn the_text_says_what_happened_where() {
        let mut first = shard(0, MigrationOutcome::Done);
        first.applied.push(AppliedStep { owner: "orders".into(), version: 1, name: "new".into() });
        let failed = StepState::Failed { statement: 0, error: "no such table".into() };
        first.pending.push(step(failed));
        first.drift.push(Drift::Newer { owner: "orders".into(), version: 3, name: "x".into() });
        let report = MigrationReport {
            databases: vec![
                DatabaseReport::new(DatabaseName::Global, MigrationOutcome::Done),
                first,
                shard(1, MigrationOutcome::Failed(failure())),
                shard(2, MigrationOutcome::Stopped),
                shard(3, MigrationOutcome::Offline),
            ],
        };
        let expected = "global: up to date\n\
            shard 0: 1 applied, 1 pending\n  \
              applied orders 1 new\n  \
              pending orders 2 index (failed at statement 1: no such table)\n  \
              drift: orders 3 x is unknown to this release\n\
            shard 1: failed after 0 applied: db migrate global: the database is unreachable\n\
            shard 2: not tried, a database before it failed\n\
            shard 3: not tried, the shard is offline";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn complete_means_that_nothing_failed_and_nothing_is_left() {
        let report = |database| MigrationReport { databases: vec![database] };
        assert!(report(shard(0, MigrationOutcome::Done)).is_complete());
        assert!(report(shard(0, MigrationOutcome::Offline)).is_complete());
        assert!(!report(shard(0, MigrationOutcome::Stopped)).is_complete());
        assert!(!report(shard(0, MigrationOutcome::Failed(failure()))).is_complete());
        let mut left = shard(0, MigrationOutcome::Done);
        left.pending.push(step(StepState::New));
        assert!(!report(left).is_complete());
    }

    #[test]
    fn a_failed_database_is_an_error_for_who_wants_one() {
        let databases =
            vec![shard(0, MigrationOutcome::Done), shard(1, MigrationOutcome::Failed(failure()))];
        assert!(MigrationReport { databases }.into_result().is_err());
        let databases = vec![shard(0, MigrationOutcome::Stopped)];
        assert!(MigrationReport { databases }.into_result().is_ok());
    }
}
