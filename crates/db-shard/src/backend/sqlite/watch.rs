use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::place::Turn;

/// How long the statement of a caller who left goes on while others share the
/// transaction: ending it would roll all of them back.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a connection's thread and the task that uses it tell each other while
/// a statement runs.
#[derive(Debug, Default)]
pub(super) struct Watch {
    must_stop: AtomicBool,
    was_rolled_back: AtomicBool,
    job: Mutex<Option<Job>>,
    inserts: Mutex<Vec<Inserts>>,
}

#[derive(Debug)]
struct Job {
    turn: Arc<Turn>,
    is_alone: bool,
    left: Option<Instant>,
}

/// The rows that a statement and its triggers inserted into one table.
#[derive(Debug)]
struct Inserts {
    table: Box<str>,
    first: i64,
    last: i64,
}

impl Watch {
    /// Has the statement that runs end with `SQLITE_INTERRUPT`, and every
    /// later one until [`resume`](Self::resume).
    pub(super) fn stop(&self) {
        self.must_stop.store(true, Ordering::Release);
    }

    pub(super) fn resume(&self) {
        self.must_stop.store(false, Ordering::Release);
    }

    /// Notes whose statement runs from now on.
    pub(super) fn watch_job(&self, turn: &Arc<Turn>, is_alone: bool) {
        *lock(&self.job) = Some(Job { turn: Arc::clone(turn), is_alone, left: None });
    }

    /// Notes that what runs from now on is nobody's statement.
    pub(super) fn watch_nobody(&self) {
        *lock(&self.job) = None;
    }

    /// Asked by the thread now and then; `false` interrupts the statement.
    pub(super) fn may_go_on(&self) -> bool {
        if self.must_stop.load(Ordering::Acquire) {
            return false;
        }
        let mut job = lock(&self.job);
        let Some(job) = job.as_mut().filter(|job| job.turn.has_left()) else {
            return true;
        };
        let left = *job.left.get_or_insert_with(Instant::now);
        !job.is_alone && left.elapsed() < PATIENCE
    }

    /// Forgets what the statement before has reported.
    pub(super) fn begin_statement(&self) {
        self.was_rolled_back.store(false, Ordering::Release);
        lock(&self.inserts).clear();
    }

    /// Told by the thread when SQLite rolls a whole transaction back.
    pub(super) fn rolled_back(&self) {
        self.was_rolled_back.store(true, Ordering::Release);
    }

    /// Tells whether the transaction was rolled back by the statement.
    pub(super) fn was_rolled_back(&self) -> bool {
        self.was_rolled_back.load(Ordering::Acquire)
    }

    /// Told by the thread for each row inserted into a table with rowids.
    pub(super) fn inserted(&self, table: &str, rowid: i64) {
        let mut inserts = lock(&self.inserts);
        match inserts.iter_mut().find(|inserts| *inserts.table == *table) {
            Some(inserts) => inserts.last = rowid,
            None => inserts.push(Inserts { table: table.into(), first: rowid, last: rowid }),
        }
    }

    /// Returns the rowid of the first row that the statement inserted, where
    /// `last` is the connection's last rowid: it belongs to the statement's
    /// own table, never to a trigger's, but may be that of an older statement
    /// if this one only updated.
    pub(super) fn first_insert(&self, last: i64) -> Option<u64> {
        let inserts = lock(&self.inserts);
        let own = inserts.iter().find(|inserts| inserts.last == last)?;
        u64::try_from(own.first).ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_gives_no_id_away() {
        let watch = Watch::default();
        watch.inserted("t", 7);
        assert_eq!(watch.first_insert(7), Some(7));
        watch.begin_statement();
        assert_eq!(watch.first_insert(7), None);
    }

    #[test]
    fn the_first_row_of_the_statement_counts_not_a_triggers() {
        let watch = Watch::default();
        for (table, rowid) in [("log", 90), ("t", 5), ("log", 91), ("t", 6)] {
            watch.inserted(table, rowid);
        }
        assert_eq!(watch.first_insert(6), Some(5));
    }

    #[test]
    fn a_caller_that_left_ends_its_statement_at_once_only_if_it_is_alone() {
        let watch = Watch::default();
        let turn = Arc::new(Turn::default());
        assert!(turn.take());
        watch.watch_job(&turn, true);
        assert!(watch.may_go_on());
        turn.leave();
        assert!(!watch.may_go_on());
        watch.watch_job(&turn, false);
        assert!(watch.may_go_on());
        watch.watch_nobody();
        assert!(watch.may_go_on());
        watch.stop();
        assert!(!watch.may_go_on());
        watch.resume();
        assert!(watch.may_go_on());
    }
}
