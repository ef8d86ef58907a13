use std::collections::HashMap;

use serde::Deserialize;
use trine_db_shard::{Sql, Timestamp, Tx, list};

use super::Failure;
use super::job_row::names;
use crate::{JobId, TickState};

use super::tick_row::code;

macro_rules! open {
    ($lock:literal) => {
        concat!(
            "SELECT job, nominal, state, is_parked FROM trine_tick \
             WHERE service = ? AND job IN (?) AND ended_at IS NULL ORDER BY job, nominal",
            $lock
        )
    };
}

/// Locked, so that a transaction of the host's sees what is committed and not
/// its snapshot.
const OPEN: Sql = Sql::per_engine().sqlite(open!("")).mysql(open!(" FOR UPDATE"));

const PARK: Sql = Sql::portable(
    "UPDATE trine_tick SET is_parked = ? WHERE service = ? AND job = ? AND nominal IN (?)",
);

#[derive(Debug, Deserialize)]
struct OpenTick {
    job: JobId,
    nominal: Timestamp,
    state: u8,
    is_parked: u8,
}

/// How many ticks of a job have a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Most at once; none of a job that is paused.
    most: u32,
    is_paused: bool,
}

impl Places {
    pub(super) fn new(most: u32, is_paused: bool) -> Self {
        Self { most, is_paused }
    }
}

/// Gives the places of the jobs, which are locked, to those of their open ticks
/// that have them by right: runs that go on, then those that wait, in the order
/// of their nominal times, also for a retry. A job that is paused gives none,
/// to runs whose lease ends neither.
pub(super) async fn settle(
    tx: &mut Tx,
    service: &str,
    places: &HashMap<JobId, Places>,
) -> Result<(), Failure> {
    if places.is_empty() {
        return Ok(());
    }
    let ticks: Vec<OpenTick> = tx.query(OPEN, (service, names(places.keys()))).await?;
    for ticks in ticks.chunk_by(|one, next| one.job == next.job) {
        let Some(job) = ticks.first().map(|tick| &tick.job) else { continue };
        let Some(places) = places.get(job) else { continue };
        for (is_parked, nominals) in moves(ticks, *places) {
            if !nominals.is_empty() {
                let params = (is_parked, service, job.as_str(), list(nominals));
                tx.execute(PARK, params).await?;
            }
        }
    }
    Ok(())
}

/// Returns which of the ticks are to be given a place, and which are to be
/// parked.
fn moves(ticks: &[OpenTick], places: Places) -> [(u8, Vec<Timestamp>); 2] {
    let runs = |tick: &OpenTick| tick.state == code(TickState::Running);
    let running = ticks.iter().filter(|tick| runs(tick)).count();
    let mut free = usize::try_from(places.most).unwrap_or(usize::MAX).saturating_sub(running);
    let (mut placed, mut parked) = (Vec::new(), Vec::new());
    for tick in ticks {
        let has_place = match (places.is_paused, runs(tick)) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => {
                let has_place = free > 0;
                free = free.saturating_sub(1);
                has_place
            }
        };
        match (has_place, tick.is_parked) {
            (true, 1) => placed.push(tick.nominal),
            (false, 0) => parked.push(tick.nominal),
            _ => {}
        }
    }
    [(0, placed), (1, parked)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(nominal: i64, state: TickState, is_parked: u8) -> OpenTick {
        let job = JobId::new("a").unwrap();
        OpenTick { job, nominal: Timestamp::from_micros(nominal), state: code(state), is_parked }
    }

    fn moved(ticks: &[OpenTick], most: u32, is_paused: bool) -> [Vec<i64>; 2] {
        let micros = |(_, nominals): (u8, Vec<Timestamp>)| {
            nominals.into_iter().map(Timestamp::as_micros).collect()
        };
        moves(ticks, Places::new(most, is_paused)).map(micros)
    }

    #[test]
    fn runs_keep_their_places_and_the_first_that_wait_get_the_rest() {
        let ticks = [
            tick(1, TickState::Waiting, 1),
            tick(2, TickState::Running, 0),
            tick(3, TickState::Waiting, 0),
        ];
        assert_eq!(moved(&ticks, 1, false), [vec![], vec![3]]);
        assert_eq!(moved(&ticks, 2, false), [vec![1], vec![3]]);
        assert_eq!(moved(&ticks, 3, false), [vec![1], vec![]]);
    }

    #[test]
    fn a_paused_job_has_no_places() {
        let ticks = [tick(1, TickState::Running, 0), tick(2, TickState::Waiting, 0)];
        assert_eq!(moved(&ticks, 2, true), [vec![], vec![1, 2]]);
    }
}
