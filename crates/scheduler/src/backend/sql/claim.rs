use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use trine_core::{Claim, Fence, Renewal};
use trine_db_shard::{Sql, Timestamp, Tx, list};

use super::finish::{count_open, learn, save_changed};
use super::job_row::{JobRow, Lock, lock_jobs, names};
use super::slots::settle;
use super::tick_row::{HELD as HELD_ROWS, LOCK_HELD, TickRow, code, lock_ticks, place, save_ticks};
use super::{Call, Failure, Store, time};
use crate::backend::fence_key;
use crate::{AttemptEnd, ClaimAnswer, ClaimedTick, Definition, JobId, Result, TickState, planning};

/// Open ticks with a place that the process has handlers for, those due first.
macro_rules! ready {
    ($columns:literal, $until:literal, $join:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM trine_tick t \
             ",
            $join,
            " trine_job_handler h ON h.service = t.service AND h.job = t.job AND h.process = ? \
             WHERE t.service = ? AND t.place = 0 AND t.ended_at IS NULL \
             AND t.ready_at ",
            $until,
            " AND t.revision <= h.revision \
             ORDER BY t.ready_at, t.nominal LIMIT ?"
        )
    };
}

/// Ticks first, in the order of their index: those of others are passed over.
const READY: Sql = Sql::per_engine()
    .sqlite(ready!("t.job, t.nominal", "<= ?", "CROSS JOIN"))
    .mysql(ready!("t.job, t.nominal", "<= ?", "STRAIGHT_JOIN"));

const NEXT_READY: Sql = Sql::per_engine()
    .sqlite(ready!("t.ready_at", "IS NOT NULL", "CROSS JOIN"))
    .mysql(ready!("t.ready_at", "IS NOT NULL", "STRAIGHT_JOIN"));

const COUNT_HELD: Sql = Sql::portable(
    "SELECT job, COUNT(*) FROM trine_tick WHERE service = ? AND job IN (?) \
     AND ended_at IS NULL AND state = ? AND ready_at > ? GROUP BY job",
);

/// Ticks of one claim at most, whatever was asked for.
const MOST: u32 = 1_000;

/// Rounds of one claim that find only what is over, or what others take.
const ROUNDS: u32 = 4;

/// When to look again at what others have locked.
const HELD: Duration = Duration::from_millis(50);

impl Store {
    pub(super) async fn claim(
        &self,
        call: Call,
        process: &Arc<str>,
        ttl: Duration,
        count: u32,
    ) -> Result<ClaimAnswer> {
        self.end_orphans(call).await?;
        let mut now = Timestamp::default();
        for _ in 0..ROUNDS {
            // Nothing is locked to find out that there is nothing.
            let next = self.bounded(call, async {
                let next = self.database.query_optional(NEXT_READY, self.next(process)).await?;
                Ok((self.present().await?, next))
            });
            let next_ready: Option<Timestamp>;
            (now, next_ready) = next.await?;
            if count == 0 || next_ready.is_none_or(|next| next > now) {
                return Ok(ClaimAnswer::new(time(now), Vec::new(), next_ready.map(time)));
            }
            let answer = self
                .step_with(call, self.is_mysql(), |mut tx| async move {
                    self.claim_in(&mut tx, process, ttl, count.min(MOST)).await
                })
                .await?;
            if !answer.ticks.is_empty() {
                return Ok(answer);
            }
        }
        Ok(ClaimAnswer::new(time(now), Vec::new(), Some(time(now.plus(HELD)))))
    }

    fn next<'p>(&'p self, process: &'p Arc<str>) -> (&'p str, &'p str, u32) {
        (process, self.service(), 1)
    }

    async fn claim_in(
        &self,
        tx: &mut Tx,
        process: &Arc<str>,
        ttl: Duration,
        count: u32,
    ) -> Result<ClaimAnswer, Failure> {
        let service = self.service();
        let now = self.now(tx).await?;
        let found: Vec<(JobId, Timestamp)> =
            tx.query(READY, (&**process, service, now, count)).await?;
        let names = found.iter().map(|(job, _)| job);
        let jobs = lock_jobs(tx, service, names, Lock::Free).await?;
        let mut jobs: HashMap<JobId, JobRow> =
            jobs.into_iter().map(|job| (job.job.clone(), job)).collect();
        let known = found.into_iter().filter(|(job, _)| jobs.contains_key(job));
        let known: Vec<_> = known.collect();
        let rows = lock_ticks(tx, service, &known, false).await?;
        let now = self.now(tx).await?;

        let before = jobs.clone();
        let mut batch = Claiming { service, process, ttl, now, claimed: Vec::new() };
        let mut saved = Vec::with_capacity(rows.len());
        let mut freed = HashMap::new();
        let begun = rows.iter().filter(|row| row.attempts > 0).map(|row| &row.job);
        let mut held = count_held(tx, service, begun, now).await?;
        for mut row in in_order(rows, &known) {
            let Some(job) = jobs.get_mut(&row.job) else { continue };
            let is_ready = row.ready_at.is_some_and(|ready| ready <= now);
            if !is_ready || row.place != place::GIVEN {
                continue;
            }
            let definition = job.definition()?;
            let terms = &definition.terms;
            if let Some(held) = held.get_mut(&row.job) {
                if *held >= terms.overlap.concurrency() {
                    // Fewer may run now than did: it waits for the others.
                    freed.insert(row.job.clone(), job.places(terms));
                    continue;
                }
                *held += 1;
            }
            batch.take(&definition, job, &mut row)?;
            saved.push(row);
        }
        let ticks = batch.claimed;
        save_ticks(tx, service, &saved).await?;
        // What a job learns of its end goes by what it has left.
        let ended = saved.iter().filter(|row| row.ended_at.is_some());
        for row in ended {
            let Some(job) = jobs.get_mut(&row.job) else { continue };
            let open = count_open(tx, service, &row.job).await?;
            let terms = job.terms()?;
            learn(&terms, job, row, open, now)?;
            freed.insert(row.job.clone(), job.places(&terms));
        }
        save_changed(tx, service, &before, jobs).await?;
        settle(tx, service, &freed, now).await?;
        let next: Option<Timestamp> = tx.query_optional(NEXT_READY, self.next(process)).await?;
        Ok(ClaimAnswer::new(time(now), ticks, next.map(time)))
    }

    pub(super) async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        self.check_open(call)?;
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let mut held = Vec::with_capacity(claims.len());
        for claim in claims {
            held.push(self.place_of(claim.fence()).map(|place| Asked { place, claim }));
        }
        let held = &held;
        self.step(call, |mut tx| async move { self.renew_in(&mut tx, held).await }).await
    }

    async fn renew_in(
        &self,
        tx: &mut Tx,
        claims: &[Option<Asked<'_>>],
    ) -> Result<Vec<Renewal>, Failure> {
        let service = self.service();
        let mut jobs: Vec<_> = claims.iter().flatten().map(|asked| &asked.place.0).collect();
        jobs.sort_unstable();
        jobs.dedup();
        let tokens = || list(claims.iter().flatten().map(Asked::token));
        let params = (service, names(jobs.iter().copied()), tokens());
        let mut rows = keyed(tx.query(LOCK_HELD, params).await?);
        let now = self.now(tx).await?;
        let (mut renewals, mut saved) = (Vec::with_capacity(claims.len()), Vec::new());
        let mut unknown = false;
        for claim in claims {
            renewals.push(match claim {
                Some(asked) => match rows.remove(&asked.key()) {
                    Some(mut row) if asked.is_for(&row) && is_held(&row, now)? => {
                        let until = now.plus(asked.claim.terms().ttl());
                        row.ready_at = row.ready_at.max(Some(until));
                        saved.push(row);
                        Renewal::Renewed
                    }
                    Some(_) => Renewal::Gone,
                    None => {
                        unknown = true;
                        Renewal::Unreachable
                    }
                },
                None => Renewal::Gone,
            });
        }
        if unknown {
            // Those that are there are locked: by the transaction that
            // completes them, perhaps.
            let params = (service, names(jobs), tokens());
            let there = keyed(tx.query(HELD_ROWS, params).await?);
            for (claim, renewal) in claims.iter().zip(&mut renewals) {
                let Some(asked) = claim else { continue };
                let is_there = there.get(&asked.key()).is_some_and(|row| asked.is_for(row));
                if *renewal == Renewal::Unreachable && !is_there {
                    *renewal = Renewal::Gone;
                }
            }
        }
        save_ticks(tx, service, &saved).await?;
        Ok(renewals)
    }

    /// Returns the job of a fence that this store made, and the nominal time if
    /// its key says that too.
    fn place_of(&self, fence: &Fence) -> Option<(JobId, Option<Timestamp>)> {
        let rest = fence.key().strip_prefix(&fence_prefix(self.service()))?;
        let (job, nominal) = match rest.split_once('#') {
            Some((job, nominal)) => (job, Some(Timestamp::from_micros(nominal.parse().ok()?))),
            None => (rest, None),
        };
        Some((JobId::new(job).ok()?, nominal))
    }
}

/// What begins the key of each fence of a scheduler, and the name of each of
/// its inboxes.
pub(super) fn fence_prefix(service: &str) -> String {
    let instance = service.strip_prefix("scheduler.").unwrap_or(service);
    format!("job.{instance}/")
}

/// A renewal that is asked for.
#[derive(Clone, Debug)]
struct Asked<'c> {
    place: (JobId, Option<Timestamp>),
    claim: &'c Claim,
}

impl Asked<'_> {
    fn token(&self) -> u64 {
        self.claim.fence().token()
    }

    fn key(&self) -> (JobId, u64) {
        (self.place.0.clone(), self.token())
    }

    fn is_for(&self, row: &TickRow) -> bool {
        self.place.1.is_none_or(|nominal| nominal == row.nominal)
    }
}

/// A claim under way.
struct Claiming<'c> {
    service: &'c str,
    process: &'c Arc<str>,
    ttl: Duration,
    now: Timestamp,
    claimed: Vec<ClaimedTick>,
}

impl Claiming<'_> {
    /// Gives the tick to the process, or ends it if it was taken over too
    /// often.
    fn take(
        &mut self,
        definition: &Definition,
        job: &mut JobRow,
        row: &mut TickRow,
    ) -> Result<(), Failure> {
        let (terms, now) = (&definition.terms, self.now);
        let was_lost = row.state()? == TickState::Running;
        if was_lost {
            row.end_attempt(&AttemptEnd::Lost, now)?;
            let losses = usize::try_from(row.losses).unwrap_or(usize::MAX);
            let ends = std::iter::repeat_n(&AttemptEnd::Lost, losses);
            if !planning::is_taken_over(terms, ends) {
                row.finish(TickState::Failed, now);
                return Ok(());
            }
        }
        let token = job.next_token(now);
        row.begin(self.process, token, self.ttl, now)?;
        let fence = fence_key(self.service, definition, time(row.nominal));
        self.claimed.push(ClaimedTick {
            job: row.job.clone(),
            nominal: time(row.nominal),
            kind: row.kind(),
            revision: row.revision,
            due: time(row.due_at),
            attempt: row.attempts,
            failures: row.failures,
            was_lost,
            fence: Fence::new(fence, token)?,
        });
        Ok(())
    }
}

/// Returns how many ticks run under a lease that goes on, of each of the jobs.
async fn count_held(
    tx: &mut Tx,
    service: &str,
    jobs: impl Iterator<Item = &JobId>,
    now: Timestamp,
) -> Result<HashMap<JobId, u32>, Failure> {
    let jobs: BTreeSet<_> = jobs.collect();
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let running = code(TickState::Running);
    let params = (service, names(jobs.iter().copied()), running, now);
    let held: Vec<(JobId, u32)> = tx.query(COUNT_HELD, params).await?;
    let mut held: HashMap<_, _> = held.into_iter().collect();
    for job in jobs {
        held.entry(job.clone()).or_insert(0);
    }
    Ok(held)
}

/// Returns the rows in the order in which they were found.
fn in_order(rows: Vec<TickRow>, found: &[(JobId, Timestamp)]) -> impl Iterator<Item = TickRow> {
    let mut rows: HashMap<_, _> =
        rows.into_iter().map(|row| ((row.job.clone(), row.nominal), row)).collect();
    found.iter().filter_map(move |place| rows.remove(place))
}

fn keyed(rows: Vec<TickRow>) -> HashMap<(JobId, u64), TickRow> {
    rows.into_iter().map(|row| ((row.job.clone(), row.token), row)).collect()
}

/// Tells whether the lease of a run is not over.
fn is_held(row: &TickRow, now: Timestamp) -> Result<bool, Failure> {
    let is_running = row.state()? == TickState::Running;
    Ok(is_running && row.ready_at.is_some_and(|until| until > now))
}
