use std::time::SystemTime;

use super::SchedulerService;
use super::registration::to_id;
use crate::{
    Error, InvalidJobId, JobFacts, JobId, JobPage, JobState, Result, TickPage, TriggerOutcome,
};

impl SchedulerService {
    /// Most jobs or ticks of one page.
    pub const MAX_PAGE: u32 = 1_000;
    /// Most times that are looked ahead.
    pub const MAX_UPCOMING: usize = 1_000;
    /// Longest note of a pause in bytes.
    pub const MAX_NOTE: usize = 500;

    /// Plans no runs of the job any more and begins none, until it is
    /// [resumed](Self::resume); one that goes on may end. A second note replaces
    /// the first.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if there is no such job, with `Invalid` for a note
    /// that is too long, and with the errors of the store.
    pub async fn pause<I>(&self, job: I, note: &str) -> Result<()>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        const OPERATION: &str = "pause";
        let job = to_id(job)?;
        let _in_flight = self.enter(OPERATION)?;
        let (length, max) = (note.len(), Self::MAX_NOTE);
        if length > max {
            let detail = format!("note of {length} bytes: expected {max} at most").into();
            return Err(Error::Invalid { at: self.shared.at(OPERATION), detail });
        }
        self.shared.engine_of(&job).backend.pause(self.call(OPERATION), &job, note).await
    }

    /// Goes on with a job that was paused, by its own failures too: times that
    /// passed meanwhile are passed over. `false` if it was not.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if there is no such job, and with the errors of the
    /// store.
    pub async fn resume<I>(&self, job: I) -> Result<bool>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        const OPERATION: &str = "resume";
        let job = to_id(job)?;
        let _in_flight = self.enter(OPERATION)?;
        let engine = self.shared.engine_of(&job);
        let was_paused = engine.backend.resume(self.call(OPERATION), &job).await?;
        engine.ring();
        Ok(was_paused)
    }

    /// Has the job run now, beside its schedule, which goes on as it was; by
    /// whichever process takes it first.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if there is no such job, and with the errors of the
    /// store.
    pub async fn trigger<I>(&self, job: I) -> Result<TriggerOutcome>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        const OPERATION: &str = "trigger";
        let job = to_id(job)?;
        let _in_flight = self.enter(OPERATION)?;
        let engine = self.shared.engine_of(&job);
        let outcome = engine.backend.trigger(self.call(OPERATION), &job).await?;
        engine.claims.bell.ring();
        Ok(outcome)
    }

    /// Returns the job, as it is now: its definition, whose
    /// [`describe`](crate::Schedule::describe) is for people, its state and its
    /// last run.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn job<I>(&self, job: I) -> Result<Option<JobFacts>>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        const OPERATION: &str = "job";
        let job = to_id(job)?;
        let _in_flight = self.enter(OPERATION)?;
        self.shared.engine_of(&job).backend.job(self.call(OPERATION), &job).await
    }

    /// Returns one page of the jobs whose names begin with `prefix`, which may
    /// be empty, from after `after` on, at most `count` of them and
    /// [`MAX_PAGE`](Self::MAX_PAGE), in the order of their names: those that
    /// processes share, and those that this process has for itself.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn jobs(&self, prefix: &str, after: Option<&JobId>, count: u32) -> Result<JobPage> {
        const OPERATION: &str = "jobs";
        let _in_flight = self.enter(OPERATION)?;
        let count = count.clamp(1, Self::MAX_PAGE);
        let call = self.call(OPERATION);
        let shared = self.shared.once.backend.jobs(call, prefix, after, count).await?;
        if self.shared.every.handlers.is_empty() {
            return Ok(shared);
        }
        let own = self.shared.every.backend.jobs(call, prefix, after, count).await?;
        let is_more = shared.next.is_some() || own.next.is_some();
        let mut jobs: Vec<_> = shared.jobs.into_iter().chain(own.jobs).collect();
        jobs.sort_by(|a, b| a.definition.id.cmp(&b.definition.id));
        let most = usize::try_from(count).unwrap_or(usize::MAX);
        let is_cut = jobs.len() > most;
        jobs.truncate(most);
        let last = jobs.last().map(|job| job.definition.id.clone());
        let next = last.filter(|_| is_more || is_cut);
        Ok(JobPage::new(jobs, next))
    }

    /// Returns one page of the history of a job, the latest nominal time first,
    /// from before `before` on, at most `count` ticks and
    /// [`MAX_PAGE`](Self::MAX_PAGE), with their attempts.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn ticks<I>(&self, job: I, before: Option<SystemTime>, count: u32) -> Result<TickPage>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        const OPERATION: &str = "ticks";
        let job = to_id(job)?;
        let _in_flight = self.enter(OPERATION)?;
        let count = count.clamp(1, Self::MAX_PAGE);
        let backend = &self.shared.engine_of(&job).backend;
        backend.ticks(self.call(OPERATION), &job, before, count).await
    }

    /// Returns the next `count` nominal times of the job at most, and no more
    /// than [`MAX_UPCOMING`](Self::MAX_UPCOMING): none while it is paused, and
    /// only the next one of a schedule with a delay.
    ///
    /// # Errors
    ///
    /// Fails with `NotFound` if there is no such job, and with the errors of the
    /// store.
    pub async fn upcoming<I>(&self, job: I, count: usize) -> Result<Vec<SystemTime>>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        const OPERATION: &str = "upcoming";
        let job = to_id(job)?;
        let _in_flight = self.enter(OPERATION)?;
        let backend = &self.shared.engine_of(&job).backend;
        let Some(facts) = backend.job(self.call(OPERATION), &job).await? else {
            return Err(Error::NotFound { at: self.shared.at(OPERATION), job });
        };
        let (JobState::Active, Some(next)) = (&facts.state, facts.progress.next) else {
            return Ok(Vec::new());
        };
        let schedule = &facts.definition.terms.schedule;
        let later = (!schedule.is_delay()).then(|| schedule.upcoming(next)).into_iter().flatten();
        let count = count.min(Self::MAX_UPCOMING);
        Ok(std::iter::once(next).chain(later).take(count).collect())
    }
}
