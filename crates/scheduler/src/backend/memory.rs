mod job;
mod jobs;
mod micros;
mod processes;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use trine_core::{Claim, Clock, Deadline, Durability, Renewal};

use self::job::Job;
use self::micros::{Micros, micros};
use self::processes::Refused;
use self::state::State;
use super::{
    Call, Capabilities, ClaimAnswer, Finish, FinishOutcome, Overview, PlanAnswer, Registered,
    SchedulerBackend, StoreFacts, TriggerOutcome,
};
use crate::{At, AttemptEnd, Definition, Error, JobFacts, JobId, JobPage, Result, TickPage};

/// Jobs and ticks in this process: the reference for every other store.
///
/// Schedules go by the wall clock of its [`Clock`], leases and waits by the other
/// one: when the wall clock is set, they end neither early nor late.
#[derive(Debug)]
pub struct MemoryBackend {
    store: Arc<Store>,
    /// This view of it.
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Store {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl MemoryBackend {
    /// Returns an empty store for the scheduler called `name`. Does no I/O.
    #[must_use]
    pub fn open(name: &Arc<str>, clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(State::new(clock.now(), clock.wall()));
        let store = Store { name: Arc::clone(name), clock, state };
        Self { store: Arc::new(store), is_closed: AtomicBool::new(false) }
    }

    /// Returns another backend over the same store, as another process has one
    /// over a shared store: for tests of what processes do to each other.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { store: Arc::clone(&self.store), is_closed: AtomicBool::new(false) }
    }

    /// Returns what is stored, and the time.
    fn lock(&self, call: Call) -> Result<(MutexGuard<'_, State>, Micros)> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed { at: self.at(call) });
        }
        let mut state = self.store.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state.now(self.store.clock.now(), self.store.clock.wall());
        Ok((state, now))
    }

    /// Returns a job too.
    fn lock_job(&self, call: Call, job: &JobId) -> Result<(MutexGuard<'_, State>, Micros, u32)> {
        let (state, now) = self.lock(call)?;
        match state.known(job.as_str()) {
            Some(slot) => Ok((state, now, slot)),
            None => Err(Error::NotFound { at: self.at(call), job: job.clone() }),
        }
    }

    fn at(&self, call: Call) -> At {
        At::new(call.operation, &self.store.name)
    }
}

/// The length of a page.
fn page(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).max(1)
}

#[async_trait]
impl SchedulerBackend for MemoryBackend {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::local()
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        drop(self.lock(call)?);
        Ok(StoreFacts::new("memory", Durability::Memory))
    }

    async fn register(
        &self,
        call: Call,
        process: &Arc<str>,
        definitions: &[Arc<Definition>],
    ) -> Result<Vec<Registered>> {
        let (mut state, now) = self.lock(call)?;
        let registered = state.register(process, definitions, now);
        registered.map_err(|(definition, refused)| {
            let (at, job) = (self.at(call), definition.id.clone());
            match refused {
                Refused::Conflict(detail) => Error::Conflict { at, job, detail: detail.into() },
                Refused::NeverDue(cause) => Error::NeverDue { at, job, cause },
            }
        })
    }

    async fn withdraw(&self, call: Call, process: &Arc<str>, jobs: Option<&[JobId]>) -> Result<()> {
        let (mut state, _) = self.lock(call)?;
        state.withdraw(process, jobs);
        Ok(())
    }

    async fn beat(&self, call: Call, process: &Arc<str>, ttl: Duration) -> Result<u64> {
        let (mut state, now) = self.lock(call)?;
        Ok(state.beat(process, ttl, now))
    }

    async fn remove(&self, call: Call, job: &JobId) -> Result<bool> {
        let (mut state, now) = self.lock(call)?;
        let Some(slot) = state.known(job.as_str()) else { return Ok(false) };
        state.remove(slot, now);
        Ok(true)
    }

    async fn pause(&self, call: Call, job: &JobId, note: &str) -> Result<()> {
        let (mut state, now, slot) = self.lock_job(call, job)?;
        state.pause(slot, note, now);
        Ok(())
    }

    async fn resume(&self, call: Call, job: &JobId) -> Result<bool> {
        let (mut state, now, slot) = self.lock_job(call, job)?;
        Ok(state.resume(slot, now))
    }

    async fn trigger(&self, call: Call, job: &JobId) -> Result<TriggerOutcome> {
        let (mut state, now, slot) = self.lock_job(call, job)?;
        let outcome = state.trigger(slot, now);
        let cause = "a job without room has no tick that is open";
        outcome.ok_or_else(|| Error::Internal { at: self.at(call), cause: cause.into() })
    }

    async fn plan(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        jobs: u32,
    ) -> Result<PlanAnswer> {
        let (mut state, now) = self.lock(call)?;
        Ok(state.plan(process, ttl, jobs, now))
    }

    async fn resign(&self, call: Call, process: &Arc<str>) -> Result<()> {
        let (mut state, _) = self.lock(call)?;
        state.resign(process);
        Ok(())
    }

    async fn claim(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        count: u32,
    ) -> Result<ClaimAnswer> {
        let (mut state, now) = self.lock(call)?;
        let answer = state.claim(&self.store.name, process, ttl, count, now);
        answer.map_err(|cause| Error::Internal { at: self.at(call), cause })
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        let (mut state, now) = self.lock(call)?;
        let renewals = claims.iter().map(|claim| {
            let (name, ttl) = (&self.store.name, claim.terms().ttl());
            let renewed = state.renew(name, claim.fence(), ttl, now);
            if renewed { Renewal::Renewed } else { Renewal::Gone }
        });
        Ok(renewals.collect())
    }

    async fn finish(&self, call: Call, attempts: &[Finish]) -> Result<Vec<FinishOutcome>> {
        let (mut state, now) = self.lock(call)?;
        if attempts.iter().any(|attempt| attempt.end == AttemptEnd::Lost) {
            let detail = "end: expected one that a process can tell, not that it was lost";
            return Err(Error::Invalid { at: self.at(call), detail: detail.into() });
        }
        Ok(attempts.iter().map(|attempt| state.finish(attempt, now)).collect())
    }

    async fn job(&self, call: Call, job: &JobId) -> Result<Option<JobFacts>> {
        let (state, _) = self.lock(call)?;
        let slot = state.known(job.as_str());
        Ok(slot.and_then(|slot| state.jobs.get(slot)).map(Job::facts))
    }

    async fn jobs(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&JobId>,
        count: u32,
    ) -> Result<JobPage> {
        let (state, _) = self.lock(call)?;
        let mut found = state.jobs.from(prefix, after);
        let jobs: Vec<_> = found.by_ref().take(page(count)).map(Job::facts).collect();
        let next = jobs.last().map(|job| job.definition.id.clone());
        let next = next.filter(|_| found.next().is_some());
        Ok(JobPage::new(jobs, next))
    }

    async fn ticks(
        &self,
        call: Call,
        job: &JobId,
        before: Option<SystemTime>,
        count: u32,
    ) -> Result<TickPage> {
        let (state, _) = self.lock(call)?;
        let slot = state.jobs.slot(job.as_str());
        let Some(found) = slot.and_then(|slot| state.jobs.get(slot)) else {
            return Ok(TickPage::default());
        };
        let before = before.map_or(Micros::MAX, micros);
        let mut ticks = found.work().ticks.range(..before).rev();
        let first = ticks.by_ref().take(page(count));
        let first: Vec<_> = first.map(|(nominal, tick)| tick.tick(job, *nominal)).collect();
        let next = first.last().map(|tick| tick.nominal);
        let next = next.filter(|_| ticks.next().is_some());
        Ok(TickPage::new(first, next))
    }

    async fn overview(&self, call: Call) -> Result<Overview> {
        let (state, now) = self.lock(call)?;
        Ok(state.overview(now))
    }

    async fn sweep(&self, call: Call, age: Duration, runs: u32, rows: u32) -> Result<u64> {
        let (mut state, now) = self.lock(call)?;
        Ok(state.sweep(age, runs, rows, now))
    }

    async fn close(&self, _deadline: Deadline) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}
