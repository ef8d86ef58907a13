use crate::{InvalidJobId, InvalidSchedule, JobId};

/// Why a job cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJob {
    /// Its name is none.
    #[error(transparent)]
    Id(#[from] InvalidJobId),
    /// Its schedule cannot be made.
    #[error("job `{job}`: schedule")]
    Schedule {
        /// The job.
        job: JobId,
        /// Why.
        #[source]
        cause: InvalidSchedule,
    },
    /// A field has a value that it cannot have.
    #[error("job `{job}`: {field} {found}: expected {expected}")]
    Field {
        /// The job.
        job: JobId,
        /// The field, such as `timeout`.
        field: &'static str,
        /// What it has.
        found: Box<str>,
        /// What it may have.
        expected: &'static str,
    },
}
