mod invalid;
mod work;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use trine_core::BoxError;

pub use self::invalid::InvalidJob;
pub(crate) use self::work::{Ended, Work};
use crate::{
    Definition, InvalidJobId, InvalidSchedule, JobContext, JobId, Misfire, Overlap, Retries,
    Schedule, Terms, planning,
};

/// A job with its handler. Cheap to clone.
///
/// # Example
///
/// ```
/// use std::num::NonZeroU32;
/// use std::time::Duration;
/// use trine_scheduler::{Job, Retries};
///
/// let attempts = NonZeroU32::new(3).ok_or("three")?;
/// let report = Job::new("report", "daily 06:00; zone Europe/Berlin")
///     .with_revision(2)
///     .with_timeout(Duration::from_secs(600))
///     .with_retries(Retries::new(attempts, Duration::from_secs(10), Duration::from_secs(60)))
///     .run(|ctx| async move {
///         println!("the report of {:?}, attempt {}", ctx.nominal(), ctx.attempt());
///         Ok::<(), std::io::Error>(())
///     })?;
/// assert_eq!(report.id().as_str(), "report");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Job {
    pub(crate) definition: Arc<Definition>,
    pub(crate) scope: Scope,
    pub(crate) work: Work,
}

/// Where a job runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// In one of the processes that share the store.
    #[default]
    Once,
    /// In every process that registers it, each on its own: nothing of it is
    /// stored or survives the process.
    EveryProcess,
}

impl Job {
    /// Most attempts of a tick that may fail, and most that may be taken over:
    /// each is listed.
    pub const MAX_ATTEMPTS: u32 = 100;
    /// Most runs of a job at once.
    pub const MAX_AT_ONCE: u32 = 1_000;
    /// Shortest grace: a planner that takes over is not later.
    pub const MIN_GRACE: Duration = Duration::from_secs(1);

    /// Returns the job called `id`, due by `schedule`, which may be a text, with
    /// the defaults of [`Terms`] and revision 1. What is wrong with it is told
    /// when it gets its handler.
    #[expect(clippy::new_ret_no_self, reason = "a job is one when it has its handler")]
    pub fn new<I, S>(id: I, schedule: S) -> JobBuilder
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
        S: TryInto<Schedule, Error: Into<InvalidSchedule>>,
    {
        let terms = match (id.try_into(), schedule.try_into()) {
            (Err(refused), _) => Err(InvalidJob::Id(refused.into())),
            (Ok(job), Err(cause)) => Err(InvalidJob::Schedule { job, cause: cause.into() }),
            (Ok(job), Ok(schedule)) => Ok((job, Terms::new(schedule))),
        };
        JobBuilder { terms, revision: 1, scope: Scope::default() }
    }

    /// Returns the name.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.definition.id
    }

    /// Returns what all processes must agree on.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// Returns where it runs.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("definition", &self.definition)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// A job that has no handler yet.
#[derive(Debug)]
#[must_use = "a job is made by giving it a handler"]
pub struct JobBuilder {
    terms: Result<(JobId, Terms), InvalidJob>,
    revision: u64,
    scope: Scope,
}

impl JobBuilder {
    /// Sets which version of the definition this is: raise it with every change,
    /// so that old and new processes do not fight. Default: 1.
    pub fn with_revision(mut self, revision: u64) -> Self {
        self.revision = revision;
        self
    }

    /// Sets what becomes of times that were missed. Default: one run.
    pub fn with_misfire(self, misfire: Misfire) -> Self {
        self.with(|terms| terms.misfire = misfire)
    }

    /// Sets how late a time may be planned before it counts as missed. Default:
    /// 1 min.
    pub fn with_grace(self, grace: Duration) -> Self {
        self.with(|terms| terms.grace = grace)
    }

    /// Sets what becomes of a tick beside a run. Default: it is skipped.
    pub fn with_overlap(self, overlap: Overlap) -> Self {
        self.with(|terms| terms.overlap = overlap)
    }

    /// Sets how long an attempt may take. Default: 1 h.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.with(|terms| terms.timeout = Some(timeout))
    }

    /// Lets an attempt take for ever.
    pub fn without_timeout(self) -> Self {
        self.with(|terms| terms.timeout = None)
    }

    /// Sets how often a run that failed is tried. Default: once.
    pub fn with_retries(self, retries: Retries) -> Self {
        self.with(|terms| terms.retries = retries)
    }

    /// Sets how often a run is taken over from a process that is gone before it
    /// counts as failed. Default: 5.
    pub fn with_takeovers(self, takeovers: u32) -> Self {
        self.with(|terms| terms.takeovers = takeovers)
    }

    /// Pauses the job after so many failed runs in a row. Default: never.
    pub fn with_pause_after(self, failures: NonZeroU32) -> Self {
        self.with(|terms| terms.pause_after = Some(failures))
    }

    /// Runs it in every process that registers it, each on its own.
    pub fn every_process(mut self) -> Self {
        self.scope = Scope::EveryProcess;
        self
    }

    fn with(mut self, set: impl FnOnce(&mut Terms)) -> Self {
        if let Ok((_, terms)) = &mut self.terms {
            set(terms);
        }
        self
    }

    /// Gives it the handler, which is run for each attempt. It must not hold up
    /// its thread: [`blocking`](Self::blocking) is for that.
    ///
    /// The text of an error, with its sources, is kept in the history.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidJob`], which names the field, for what can never work.
    pub fn run<H, F, E>(self, handler: H) -> Result<Job, InvalidJob>
    where
        H: Fn(JobContext) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.build(Work::concurrent(handler))
    }

    /// Gives it a handler that blocks, which is run on a thread for such work.
    ///
    /// It cannot be stopped: it should look at
    /// [`is_cancelled`](JobContext::is_cancelled) now and then. One that goes on
    /// after its time-out keeps its place, and nobody takes it over, until it
    /// ends or its process does.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn blocking<H, E>(self, handler: H) -> Result<Job, InvalidJob>
    where
        H: Fn(JobContext) -> Result<(), E> + Send + Sync + 'static,
        E: Into<BoxError>,
    {
        self.build(Work::blocking(handler))
    }

    fn build(self, work: Work) -> Result<Job, InvalidJob> {
        let (job, terms) = self.terms?;
        if let Some((field, found, expected)) = problem(&terms) {
            return Err(InvalidJob::Field { job, field, found: found.into(), expected });
        }
        let definition = Arc::new(Definition::new(job, self.revision, terms));
        Ok(Job { definition, scope: self.scope, work })
    }
}

/// Returns the first field that can never work, what it has, and what it may.
fn problem(terms: &Terms) -> Option<(&'static str, String, &'static str)> {
    let longest = Schedule::MAX_INTERVAL;
    let most = u32::try_from(planning::MAX_STEP).unwrap_or(u32::MAX);
    let (retries, attempts) = (terms.retries, terms.retries.attempts().get());
    let (first, last) = (retries.first(), retries.longest());
    match terms {
        Terms { timeout: Some(timeout), .. } if timeout.is_zero() || *timeout > longest => {
            Some(("timeout", format!("{timeout:?}"), "more than 0, up to 3650 days"))
        }
        Terms { grace, .. } if *grace < Job::MIN_GRACE || *grace > longest => {
            Some(("grace", format!("{grace:?}"), "1 s to 3650 days"))
        }
        _ if attempts > Job::MAX_ATTEMPTS => {
            Some(("retries", format!("of {attempts} attempts"), "100 attempts at most"))
        }
        _ if last < first || last > longest => {
            let found = format!("from {first:?} up to {last:?}");
            Some(("retries", found, "a longest wait from the first one up to 3650 days"))
        }
        Terms { takeovers, .. } if *takeovers > Job::MAX_ATTEMPTS => {
            Some(("takeovers", takeovers.to_string(), "100 at most"))
        }
        Terms { misfire: Misfire::All { within, .. }, .. }
            if within.is_zero() || *within > longest =>
        {
            Some(("misfire within", format!("{within:?}"), "more than 0, up to 3650 days"))
        }
        Terms { misfire: Misfire::All { at_most, .. }, .. } if at_most.get() > most => {
            Some(("misfire at_most", at_most.to_string(), "100 runs at most"))
        }
        Terms { overlap: Overlap::Allow { at_most }, .. } if at_most.get() > Job::MAX_AT_ONCE => {
            Some(("overlap at_most", at_most.to_string(), "1000 runs at most"))
        }
        _ => None,
    }
}
