use std::collections::HashMap;

use serde::Deserialize;
use trine_db_shard::{Sql, Timestamp, Tx, list};

use super::Failure;
use super::job_row::names;
use super::tick_row::{code, kind, place};
use crate::{JobId, TickKind, TickState};

macro_rules! open {
    ($lock:literal) => {
        concat!(
            "SELECT job, nominal, kind, state, place, ready_at, attempts FROM trine_tick \
             WHERE service = ? AND job IN (?) AND ended_at IS NULL ORDER BY job, nominal",
            $lock
        )
    };
}

/// Locked, so that a transaction of the host's sees what is committed and not
/// its snapshot.
pub(super) const OPEN: Sql = Sql::per_engine().sqlite(open!("")).mysql(open!(" FOR UPDATE"));

const MOVE: Sql = Sql::portable(
    "UPDATE trine_tick SET place = ? WHERE service = ? AND job = ? AND nominal IN (?)",
);

/// An open tick, as far as it matters who goes first.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct OpenTick {
    job: JobId,
    pub(super) nominal: Timestamp,
    kind: u8,
    state: u8,
    place: u8,
    pub(super) ready_at: Timestamp,
    attempts: u32,
}

impl OpenTick {
    pub(super) fn is_begun(&self) -> bool {
        self.attempts > 0
    }

    /// Whether it runs under a lease that goes on.
    fn is_held(&self, now: Timestamp) -> bool {
        self.state == code(TickState::Running) && self.ready_at > now
    }
}

/// How many ticks of a job have a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    most: u32,
    is_paused: bool,
}

impl Places {
    /// Returns `most` places; of a job that is paused they are for triggered
    /// ticks only.
    pub(super) fn new(most: u32, is_paused: bool) -> Self {
        Self { most, is_paused }
    }
}

/// Gives the places of the jobs, which are locked, to those of their open ticks
/// that have them by right at `now`: those that were tried, held ones first,
/// then the others in the order in which they can be claimed.
pub(super) async fn settle(
    tx: &mut Tx,
    service: &str,
    places: &HashMap<JobId, Places>,
    now: Timestamp,
) -> Result<(), Failure> {
    if places.is_empty() {
        return Ok(());
    }
    let ticks: Vec<OpenTick> = tx.query(OPEN, (service, names(places.keys()))).await?;
    for ticks in ticks.chunk_by(|one, next| one.job == next.job) {
        let Some(job) = ticks.first().map(|tick| &tick.job) else { continue };
        let Some(places) = places.get(job) else { continue };
        for (place, nominals) in moves(ticks, *places, now) {
            if !nominals.is_empty() {
                tx.execute(MOVE, (place, service, job.as_str(), list(nominals))).await?;
            }
        }
    }
    Ok(())
}

/// Returns which of the ticks are to get another place.
fn moves(ticks: &[OpenTick], places: Places, now: Timestamp) -> [(u8, Vec<Timestamp>); 2] {
    let mut order: Vec<_> = ticks.iter().collect();
    order.sort_by_key(|tick| (!tick.is_begun(), !tick.is_held(now), tick.ready_at, tick.nominal));
    let mut free = places.most;
    let (mut given, mut parked) = (Vec::new(), Vec::new());
    for tick in order {
        let is_out = !places.is_paused || kind(tick.kind) == TickKind::Triggered;
        let has_place = free > 0 && is_out;
        // One that was tried keeps its place from the others while its job is
        // paused, too.
        free = free.saturating_sub(u32::from(has_place || tick.is_begun()));
        match (has_place, tick.place) {
            (true, place::PARKED | place::ORPHAN) => given.push(tick.nominal),
            (false, place::GIVEN | place::ORPHAN) => parked.push(tick.nominal),
            _ => {}
        }
    }
    [(place::GIVEN, given), (place::PARKED, parked)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(100);

    fn tick(nominal: i64, state: TickState, place: u8, ready: i64, attempts: u32) -> OpenTick {
        OpenTick {
            job: JobId::new("a").unwrap(),
            nominal: Timestamp::from_micros(nominal),
            kind: 0,
            state: code(state),
            place,
            ready_at: Timestamp::from_micros(ready),
            attempts,
        }
    }

    fn moved(ticks: &[OpenTick], most: u32, is_paused: bool) -> [Vec<i64>; 2] {
        let micros = |(_, nominals): (u8, Vec<Timestamp>)| {
            nominals.into_iter().map(Timestamp::as_micros).collect()
        };
        moves(ticks, Places::new(most, is_paused), NOW).map(micros)
    }

    #[test]
    fn what_was_tried_keeps_its_place_and_the_first_to_be_ready_gets_the_rest() {
        let ticks = [
            tick(1, TickState::Waiting, 1, 90, 0),
            tick(2, TickState::Running, 0, 200, 1),
            tick(3, TickState::Waiting, 0, 80, 0),
            tick(4, TickState::Waiting, 1, 300, 2),
        ];
        assert_eq!(moved(&ticks, 1, false), [vec![], vec![3]]);
        assert_eq!(moved(&ticks, 2, false), [vec![4], vec![3]]);
        assert_eq!(moved(&ticks, 3, false), [vec![4], vec![]]);
        assert_eq!(moved(&ticks, 4, false), [vec![4, 1], vec![]]);
    }

    #[test]
    fn of_too_many_runs_those_that_are_lost_wait_for_the_held_ones() {
        let ticks = [tick(1, TickState::Running, 0, 50, 1), tick(2, TickState::Running, 0, 200, 1)];
        assert_eq!(moved(&ticks, 1, false), [vec![], vec![1]]);
    }

    #[test]
    fn a_paused_job_has_places_for_what_is_triggered_only() {
        let triggered = OpenTick { kind: 1, ..tick(3, TickState::Waiting, 1, 50, 0) };
        let ticks = [
            tick(1, TickState::Running, 0, 200, 1),
            tick(2, TickState::Waiting, 0, 50, 0),
            triggered,
        ];
        assert_eq!(moved(&ticks, 1, true), [vec![], vec![1, 2]]);
        assert_eq!(moved(&ticks, 2, true), [vec![3], vec![1, 2]]);
    }
}
