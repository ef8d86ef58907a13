use std::collections::HashSet;
use std::sync::Arc;

use trine_core::{State, TaskHandle};

use super::{SchedulerService, Shared};
use crate::engine::handlers::Handlers;
use crate::{Definition, Error, InvalidJobId, Job, JobId, Registered, Result, Scope, planning};

impl SchedulerService {
    /// Registers a job, as [`register_all`](Self::register_all) does.
    ///
    /// # Errors
    ///
    /// As [`register_all`](Self::register_all).
    ///
    /// # Example
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> trine_scheduler::Result<()> {
    /// # use trine_scheduler::{SchedulerConfig, SchedulerService};
    /// use trine_scheduler::{Job, RegisterOutcome, Registered};
    ///
    /// # let scheduler = SchedulerService::connect(&SchedulerConfig::memory()).await?;
    /// let job = Job::new("cleanup", "every 5m").run(|_| async { Ok::<(), String>(()) })?;
    /// let outcome = scheduler.register(job).await?;
    /// assert_eq!(outcome, RegisterOutcome::Stored(Registered::New));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn register(&self, job: Job) -> Result<RegisterOutcome> {
        let registered = self.register_all(vec![job]).await?;
        // One job has one answer.
        Ok(registered.into_iter().next().unwrap_or(RegisterOutcome::AtStart))
    }

    /// Registers all of the jobs or none, and answers one [`RegisterOutcome`]
    /// each. Before the first start they are kept, and registered with it.
    ///
    /// A job that this process has already is replaced by a higher revision: a
    /// run that goes on ends with the handler it began with. A job of a lower
    /// revision than the stored one is not changed; this process then runs ticks
    /// that were made by its own revision or a lower one.
    ///
    /// Dropping the future does not take it back.
    ///
    /// # Errors
    ///
    /// Fails with `Conflict` for a definition that differs from the stored one
    /// of the same revision, and for a job that this process has in the same or
    /// a higher revision, or twice in the list; with `Invalid` for one that
    /// would never run, and with the errors of the store.
    pub async fn register_all(&self, jobs: Vec<Job>) -> Result<Vec<RegisterOutcome>> {
        const OPERATION: &str = "register";
        let shared = &self.shared;
        self.refuse_closed(OPERATION)?;
        let is_registered = Arc::clone(&shared.registered).lock_owned().await;
        if !*is_registered {
            self.admit(&jobs, OPERATION)?;
            return Ok(vec![RegisterOutcome::AtStart; jobs.len()]);
        }
        self.refuse_closed(OPERATION)?;
        let in_flight = shared.parts.lifecycle.enter();
        let work = Arc::clone(shared);
        let stored = self.spawn("register", async move {
            let _guards = (is_registered, in_flight);
            work.store(&jobs, OPERATION).await
        })?;
        let aborted = |_| Error::Closed { at: shared.at(OPERATION) };
        let registered = stored.await.map_err(aborted)??;
        Ok(registered.into_iter().map(RegisterOutcome::Stored).collect())
    }

    /// Removes the job: ticks that wait are never run, a run that goes on ends
    /// as it would have. `false` if there was none.
    ///
    /// Other processes keep their handlers. A process that begins, or that the
    /// store has not heard of for a lease, registers its jobs again.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn remove<I>(&self, job: I) -> Result<bool>
    where
        I: TryInto<JobId, Error: Into<InvalidJobId>>,
    {
        const OPERATION: &str = "remove";
        let job = to_id(job)?;
        self.refuse_closed(OPERATION)?;
        let shared = &self.shared;
        let is_registered = shared.registered.lock().await;
        let engine = shared.engine_of(&job);
        if !*is_registered {
            let was_there = engine.handlers.has(&job);
            engine.handlers.remove(&job);
            return Ok(was_there);
        }
        let _in_flight = self.enter(OPERATION)?;
        let call = self.call(OPERATION);
        let removed = engine.backend.remove(call, &job).await?;
        let jobs = [job];
        engine.backend.withdraw(call, &engine.process, Some(&jobs)).await?;
        for job in &jobs {
            engine.handlers.remove(job);
        }
        Ok(removed)
    }

    /// Keeps jobs for the first start.
    pub(super) fn admit(&self, jobs: &[Job], operation: &'static str) -> Result<()> {
        self.shared.check(jobs, operation)?;
        for job in jobs {
            self.shared.engine(job.scope()).handlers.put([job]);
        }
        Ok(())
    }

    fn refuse_closed(&self, operation: &'static str) -> Result<()> {
        match self.shared.parts.lifecycle.state() {
            State::Draining | State::Closed => Err(Error::Closed { at: self.shared.at(operation) }),
            _ => Ok(()),
        }
    }

    /// Runs `work` in the background, until the service is shut down.
    fn spawn<F>(&self, name: &'static str, work: F) -> Result<TaskHandle<F::Output>>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let runtime = self.shared.runtime.get();
        let runtime = runtime.ok_or_else(|| self.shared.not_started(name))?;
        let _runtime = runtime.enter();
        Ok(self.shared.tasks.spawn(name, work))
    }
}

impl Shared {
    /// Returns the engine that the job belongs to.
    pub(super) fn engine_of(&self, job: &JobId) -> &Arc<crate::engine::Engine> {
        if self.every.handlers.has(job) { &self.every } else { &self.once }
    }

    /// Refuses what this process has already.
    fn check(&self, jobs: &[Job], operation: &'static str) -> Result<()> {
        let conflict = |job: &Job, detail: String| {
            let (at, job) = (self.at(operation), job.id().clone());
            Err(Error::Conflict { at, job, detail: detail.into() })
        };
        let mut seen = HashSet::new();
        for job in jobs {
            if !seen.insert(job.id()) {
                return conflict(job, "it is registered twice in one call".to_owned());
            }
            let other = match job.scope() {
                Scope::Once => Scope::EveryProcess,
                Scope::EveryProcess => Scope::Once,
            };
            if self.engine(other).handlers.has(job.id()) {
                return conflict(job, "this process has it in another scope".to_owned());
            }
            let revision = job.definition().revision;
            match self.engine(job.scope()).handlers.revision(job.id()) {
                Some(present) if present >= revision => {
                    return conflict(
                        job,
                        format!(
                            "this process has a handler of revision {present}, expected a higher \
                             one than that, found {revision}"
                        ),
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Registers jobs at the store, and what runs them before that: a tick may
    /// come at once.
    async fn store(&self, jobs: &[Job], operation: &'static str) -> Result<Vec<Registered>> {
        self.check(jobs, operation)?;
        let of = |scope| jobs.iter().filter(move |job| job.scope() == scope);
        // In the memory of this process that is all that can be wrong.
        for job in of(Scope::EveryProcess) {
            let first = planning::first(&job.definition().terms, self.every.clock.wall());
            first.map_err(|cause| Error::NeverDue {
                at: self.at(operation),
                job: job.id().clone(),
                cause,
            })?;
        }
        let mut once = self.store_in(Scope::Once, of(Scope::Once), operation).await?.into_iter();
        let every = self.store_in(Scope::EveryProcess, of(Scope::EveryProcess), operation).await?;
        let mut every = every.into_iter();
        let answers = jobs.iter().filter_map(|job| match job.scope() {
            Scope::Once => once.next(),
            Scope::EveryProcess => every.next(),
        });
        Ok(answers.collect())
    }

    async fn store_in<'j>(
        &self,
        scope: Scope,
        jobs: impl Iterator<Item = &'j Job> + Clone,
        operation: &'static str,
    ) -> Result<Vec<Registered>> {
        let definitions: Vec<Arc<Definition>> =
            jobs.clone().map(|job| Arc::clone(job.definition())).collect();
        if definitions.is_empty() {
            return Ok(Vec::new());
        }
        let engine = self.engine(scope);
        let mut put = Put { handlers: &engine.handlers, before: engine.handlers.put(jobs) };
        let call = crate::Call::new(operation);
        let registered = engine.backend.register(call, &engine.process, &definitions).await?;
        put.before.clear();
        drop(put);
        engine.start(&self.tasks, &self.runs);
        engine.ring();
        Ok(registered)
    }
}

/// What became of a job that was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterOutcome {
    /// It is kept until the service starts, and stored then.
    AtStart,
    /// The store has it, or a higher revision.
    Stored(Registered),
}

/// Takes handlers back that the store did not take.
struct Put<'h> {
    handlers: &'h Handlers,
    before: Vec<crate::engine::handlers::Before>,
}

impl Drop for Put<'_> {
    fn drop(&mut self) {
        self.handlers.restore(std::mem::take(&mut self.before));
    }
}

/// What a caller has for a job; the error says why it is none.
pub(super) fn to_id<I>(job: I) -> Result<JobId>
where
    I: TryInto<JobId, Error: Into<InvalidJobId>>,
{
    job.try_into().map_err(|refused| Error::JobId(refused.into()))
}
