use std::path::PathBuf;
use std::time::SystemTime;

use trine_core::{BoxError, Rfc3339};

use crate::CronField;

/// Why a schedule cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSchedule {
    /// The cron expression is wrong.
    #[error(transparent)]
    Cron(#[from] InvalidCron),
    /// The time zone database has no such zone.
    #[error("zone `{name}`: expected a name of the time zone database, such as `Europe/Berlin`")]
    Zone {
        /// The name.
        name: Box<str>,
    },
    /// There is no time zone database in the folder.
    #[error("no time zone database in {}", folder.display())]
    ZoneFolder {
        /// The folder.
        folder: PathBuf,
        /// What reading it said.
        #[source]
        cause: BoxError,
    },
    /// A field has a value that it cannot have.
    #[error("{field} `{found}`: expected {expected}")]
    Field {
        /// The field, such as `day of month`.
        field: &'static str,
        /// What it has.
        found: Box<str>,
        /// What it may have.
        expected: &'static str,
    },
    /// Exclusions leave no time at all.
    #[error("exclusions: {what} are excluded, so nothing is ever due")]
    AllExcluded {
        /// What has nothing left, such as `all weekdays`.
        what: &'static str,
    },
}

impl InvalidSchedule {
    pub(crate) fn field(
        field: &'static str,
        found: impl Into<Box<str>>,
        expected: &'static str,
    ) -> Self {
        Self::Field { field, found: found.into(), expected }
    }
}

impl From<std::convert::Infallible> for InvalidSchedule {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// What is wrong with a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCron {
    /// It is longer than an expression may be.
    #[error("cron expression of {length} bytes: expected {max} at most", max = InvalidCron::MAX)]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// It has neither five fields nor six.
    #[error(
        "cron `{expression}`: {found} fields, expected 5 (minute, hour, day of month, month, day \
         of week) or 6 (seconds first)"
    )]
    Fields {
        /// The expression.
        expression: Box<str>,
        /// How many it has.
        found: usize,
    },
    /// A part of a field is wrong.
    #[error("cron `{expression}`: {field} `{found}`: {problem}")]
    Field {
        /// The expression.
        expression: Box<str>,
        /// The field.
        field: CronField,
        /// The part that is wrong.
        found: Box<str>,
        /// What is wrong with it, and what was expected.
        problem: Box<str>,
    },
    /// No day of any year is meant.
    #[error("cron `{expression}`: day of month, month and day of week never meet")]
    Never {
        /// The expression.
        expression: Box<str>,
    },
}

impl InvalidCron {
    /// Longest expression in bytes.
    pub const MAX: usize = 512;
}

/// Why a job that is registered now would never run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NeverDue {
    /// Its one time is over.
    #[error("schedule `{schedule}`: its time is over, it is {}", Rfc3339(*now))]
    Past {
        /// The schedule.
        schedule: Box<str>,
        /// The time it was asked at.
        now: SystemTime,
    },
    /// What it would have left is excluded.
    #[error("schedule `{schedule}`: every time from {} on is excluded", Rfc3339(*now))]
    Excluded {
        /// The schedule.
        schedule: Box<str>,
        /// The time it was asked at.
        now: SystemTime,
    },
    /// Its zone skips its local times, or the calendar ends before them.
    #[error("schedule `{schedule}`: no such time from {} on", Rfc3339(*now))]
    NoTime {
        /// The schedule.
        schedule: Box<str>,
        /// The time it was asked at.
        now: SystemTime,
    },
}
