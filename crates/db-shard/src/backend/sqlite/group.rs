use std::sync::atomic::Ordering;

use super::failure::Failure;
use super::link::{Item, Link};
use super::place::Place;
use super::text::{BEGIN, COMMIT};
use super::translate::{Phase, leaves_commit_open};
use super::writer::{Request, Writer};
use crate::backend::Reply;

/// A statement, or a closed list, of one caller.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) place: Place<Vec<Reply>>,
    /// At least one.
    pub(super) items: Vec<Item>,
    pub(super) max_rows: u64,
}

/// What became of a job; nobody learns it before the commit.
type Outcome = Result<Vec<Reply>, Failure>;

impl Writer {
    /// Commits `first` together with what waits behind it.
    pub(super) async fn commit(&mut self, first: Job) {
        let mut jobs = self.gather(first);
        jobs.retain(|job| !job.place.turn.has_left());
        match jobs.len() {
            0 => {}
            1 => self.each_alone(jobs).await,
            _ => self.together(jobs).await,
        }
    }

    /// Takes what waits now, up to the bound and to the next request that
    /// needs the writer for itself.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let most = usize::try_from(self.shared.config.group.get()).unwrap_or(usize::MAX);
        let mut jobs = Vec::with_capacity(most.min(self.inbox.len() + 1));
        let is_alone = first.is_schema();
        jobs.push(first);
        while !is_alone && jobs.len() < most {
            match self.inbox.try_recv() {
                Ok(Request::Job(job)) if !job.is_schema() => jobs.push(job),
                Ok(other) => {
                    self.kept = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        jobs
    }

    /// Begins a transaction, on a new connection if the old one turns out to be
    /// broken.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        let mut begun = begin(self.link().await?).await;
        if matches!(&begun, Err(failure) if failure.is_crash()) {
            self.drop_link();
            begun = begin(self.link().await?).await;
        }
        begun.inspect_err(|failure| self.check(failure))
    }

    /// Runs the jobs as one transaction, each within a savepoint. If that
    /// fails as a whole, runs each alone: only then is it certain whose fault
    /// it was.
    async fn together(&mut self, jobs: Vec<Job>) {
        if let Err(failure) = self.begin().await {
            for job in jobs {
                self.answer(job, Err(failure.clone()));
            }
            return;
        }
        match self.transact(&jobs).await {
            Ok(outcomes) => {
                self.committed();
                for (job, outcome) in jobs.into_iter().zip(outcomes) {
                    self.answer(job, outcome);
                }
            }
            // Whether it happened shows only later: no one may do it again.
            Err(failure @ Failure::Unknown(_)) => {
                self.drop_link();
                for job in jobs {
                    self.answer(job, Err(failure.clone()));
                }
            }
            Err(failure) => {
                self.check(&failure);
                self.undo().await;
                self.each_alone(jobs).await;
            }
        }
    }

    async fn transact(&mut self, jobs: &[Job]) -> Result<Vec<Outcome>, Failure> {
        let link = self.link().await?;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            // Taken one by one: who still waits behind a long one and leaves
            // knows for certain that nothing of it was run.
            if !job.place.turn.take() {
                outcomes.push(Err(Failure::Late));
                continue;
            }
            link.watch().watch_job(&job.place.turn, false);
            let outcome = link.run_in_savepoint(&job.items, job.max_rows).await;
            link.watch().watch_nobody();
            outcomes.push(outcome?);
        }
        match control(link, COMMIT, Phase::Commit).await {
            Ok(()) => Ok(outcomes),
            Err(Failure::Driver(error, _)) if leaves_commit_open(&error) => {
                Err(Failure::Unknown(Some(error)))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn each_alone(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            let outcome =
                if job.place.turn.take() { self.alone(&job).await } else { Err(Failure::Late) };
            if outcome.is_ok() {
                self.committed();
            }
            self.answer(job, outcome);
        }
    }

    async fn alone(&mut self, job: &Job) -> Outcome {
        let mut attempt = self.attempt(job).await?;
        if !attempt.has_begun && matches!(&attempt.outcome, Err(failure) if failure.is_crash()) {
            // The connection was broken before: nothing of the job was run.
            attempt = self.attempt(job).await?;
        }
        attempt.outcome
    }

    async fn attempt(&mut self, job: &Job) -> Result<Attempt, Failure> {
        let link = self.link().await?;
        link.watch().watch_job(&job.place.turn, true);
        let attempt = Attempt::make(link, &job.items, job.max_rows).await;
        link.watch().watch_nobody();
        if let Err(failure) = &attempt.outcome {
            self.check(failure);
            if attempt.has_begun {
                self.undo().await;
            }
        }
        Ok(attempt)
    }

    fn answer(&self, job: Job, outcome: Outcome) {
        if job.place.turn.has_left() {
            self.shared.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        // Whoever left has no use for it.
        let _ = job.place.answer(outcome);
    }
}

/// A job that was run in a transaction of its own.
struct Attempt {
    outcome: Outcome,
    /// Whether a transaction was begun, which a failure may have left open.
    has_begun: bool,
}

impl Attempt {
    async fn make(link: &mut Link, items: &[Item], max_rows: u64) -> Self {
        match items {
            [item] if item.plan.is_schema => {
                let reply = link.run_plain(item, max_rows).await;
                let outcome = reply.map(|reply| vec![reply]).map_err(Failure::at_commit);
                Self { outcome, has_begun: false }
            }
            [item] if !item.plan.returns_rows => {
                let run = link.run(item, &item.plan.alone, 1, max_rows).await;
                let outcome = match run.failure {
                    None if run.finished == 3 => Ok(vec![run.reply]),
                    None => Err(link.open_end().await),
                    Some(failure) if run.finished == 2 => Err(failure.at_commit()),
                    Some(failure) => Err(failure),
                };
                Self { outcome, has_begun: run.finished > 0 }
            }
            _ => {
                if let Err(failure) = begin(link).await {
                    return Self { outcome: Err(failure), has_begun: false };
                }
                let outcome = Self::list(link, items, max_rows).await;
                Self { outcome, has_begun: true }
            }
        }
    }

    async fn list(link: &mut Link, items: &[Item], max_rows: u64) -> Outcome {
        let mut replies = Vec::with_capacity(items.len());
        for item in items {
            replies.push(link.run_plain(item, max_rows).await?);
        }
        control(link, COMMIT, Phase::Commit).await?;
        Ok(replies)
    }
}

/// Begins a transaction that writes.
async fn begin(link: &mut Link) -> Result<(), Failure> {
    link.watch().begin_statement();
    control(link, BEGIN, Phase::Write).await
}

pub(super) async fn control(
    link: &mut Link,
    text: &'static str,
    phase: Phase,
) -> Result<(), Failure> {
    link.control(text).await.map_err(|error| Failure::driver(error, phase))
}

impl Job {
    fn is_schema(&self) -> bool {
        self.items.iter().any(|item| item.plan.is_schema)
    }
}
