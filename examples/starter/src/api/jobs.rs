use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use trine_axum::{ProblemJson, ProblemPath};
use trine_core::Rfc3339;
use trine_scheduler::{
    Attempt, AttemptEnd, JobFacts, JobId, JobState, SchedulerService, Tick, TickState,
    TriggerOutcome,
};

use super::Api;
use crate::error::{Error, Result};
use crate::statistics::DayFacts;

#[derive(Serialize)]
pub(super) struct Listing {
    jobs: Vec<Shown>,
}

/// A job as administrators see it.
#[derive(Serialize)]
pub(super) struct Shown {
    job_id: String,
    /// The schedule in words.
    description: String,
    /// The schedule as the configuration has it.
    schedule: String,
    revision: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<Paused>,
    next: Option<String>,
    last: Option<Last>,
    /// Planned runs that failed in a row.
    failures: u32,
    /// Runs that wait or go on.
    open: u32,
}

#[derive(Serialize)]
struct Paused {
    note: String,
    since: String,
}

/// The latest run that is over.
#[derive(Serialize)]
struct Last {
    nominal: String,
    outcome: &'static str,
    attempts: usize,
    began: Option<String>,
    /// Of the last attempt.
    took_ms: Option<u64>,
    error: Option<String>,
}

impl From<JobFacts> for Shown {
    fn from(facts: JobFacts) -> Self {
        let JobFacts { definition, state, progress, failures, open, last, .. } = facts;
        let (state, paused) = match state {
            JobState::Paused { note, since } => {
                ("paused", Some(Paused { note: note.into(), since: shown(since) }))
            }
            JobState::Done => ("done", None),
            _ => ("active", None),
        };
        let next = progress.next.filter(|_| state == "active").map(shown);
        let schedule = &definition.terms.schedule;
        Self {
            job_id: definition.id.to_string(),
            description: schedule.describe(),
            schedule: schedule.to_string(),
            revision: definition.revision,
            state,
            paused,
            next,
            last: last.map(Into::into),
            failures,
            open,
        }
    }
}

impl From<Tick> for Last {
    fn from(tick: Tick) -> Self {
        let last = tick.attempts.last();
        let took = last.and_then(|attempt| attempt.took);
        Self {
            nominal: shown(tick.nominal),
            outcome: outcome(tick.state),
            attempts: tick.attempts.len(),
            began: last.map(|attempt| shown(attempt.began)),
            took_ms: took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            error: last.and_then(error),
        }
    }
}

fn outcome(state: TickState) -> &'static str {
    match state {
        TickState::Waiting => "waiting",
        TickState::Running => "running",
        TickState::Succeeded => "succeeded",
        TickState::Failed => "failed",
        TickState::Overlapped => "overlapped",
        TickState::Removed => "removed",
        _ => "unknown",
    }
}

fn error(attempt: &Attempt) -> Option<String> {
    Some(match attempt.end.as_ref()? {
        AttemptEnd::Failed { error } => error.to_string(),
        AttemptEnd::Panicked { message } => format!("panicked: {message}"),
        AttemptEnd::TimedOut => "timed out".to_owned(),
        AttemptEnd::Lost => "its process is gone".to_owned(),
        AttemptEnd::HandedOver => "its process was shut down".to_owned(),
        _ => return None,
    })
}

fn shown(moment: std::time::SystemTime) -> String {
    Rfc3339(moment).to_string()
}

/// `GET /api/admin/jobs`
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Listing>> {
    let page = api.scheduler.jobs("", None, SchedulerService::MAX_PAGE).await?;
    Ok(Json(Listing { jobs: page.jobs.into_iter().map(Into::into).collect() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPause {
    note: String,
}

/// `POST /api/admin/jobs/{id}/pause`
pub(super) async fn pause(
    State(api): State<Api>,
    ProblemPath(id): ProblemPath<String>,
    ProblemJson(new): ProblemJson<NewPause>,
) -> Result<Json<Shown>> {
    if new.note.len() > SchedulerService::MAX_NOTE {
        return Err(Error::invalid("note", "at most 500 bytes"));
    }
    let id = job_id(id)?;
    api.scheduler.pause(id.clone(), &new.note).await?;
    one(&api, id).await
}

/// `POST /api/admin/jobs/{id}/resume`
pub(super) async fn resume(
    State(api): State<Api>,
    ProblemPath(id): ProblemPath<String>,
) -> Result<Json<Shown>> {
    let id = job_id(id)?;
    if !api.scheduler.resume(id.clone()).await? {
        return Err(Error::JobNotPaused);
    }
    one(&api, id).await
}

#[derive(Serialize)]
pub(super) struct Triggered {
    job_id: String,
    nominal: String,
}

/// `POST /api/admin/jobs/{id}/trigger`
pub(super) async fn trigger(
    State(api): State<Api>,
    ProblemPath(id): ProblemPath<String>,
) -> Result<(StatusCode, Json<Triggered>)> {
    let id = job_id(id)?;
    match api.scheduler.trigger(id.clone()).await? {
        TriggerOutcome::Triggered { nominal } => {
            let triggered = Triggered { job_id: id.to_string(), nominal: shown(nominal) };
            Ok((StatusCode::ACCEPTED, Json(triggered)))
        }
        TriggerOutcome::Overlaps { nominal } => Err(Error::JobRuns { since: shown(nominal) }),
        _ => Err(Error::Internal { what: "triggering a job", cause: "unknown outcome".into() }),
    }
}

/// What is no name of a job names none.
fn job_id(id: String) -> Result<JobId> {
    JobId::new(id).map_err(|_| Error::NoJob)
}

async fn one(api: &Api, id: JobId) -> Result<Json<Shown>> {
    let facts = api.scheduler.job(id).await?.ok_or(Error::NoJob)?;
    Ok(Json(facts.into()))
}

#[derive(Serialize)]
pub(super) struct Days {
    days: Vec<Day>,
}

#[derive(Serialize)]
struct Day {
    day: String,
    accounts: u64,
    documents: u64,
    bytes: u64,
}

impl From<DayFacts> for Day {
    fn from(facts: DayFacts) -> Self {
        let DayFacts { day, accounts, documents, bytes } = facts;
        let mut day = shown(day.into());
        day.truncate("2024-02-29".len());
        Self { day, accounts, documents, bytes }
    }
}

/// `GET /api/admin/statistics`
pub(super) async fn statistics(State(api): State<Api>) -> Result<Json<Days>> {
    let days = api.statistics.days().await?;
    Ok(Json(Days { days: days.into_iter().map(Into::into).collect() }))
}
