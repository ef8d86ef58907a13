use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::Cells;
use super::shard::Sharded;
use super::snapshot::HistogramReading;

/// A number that only grows. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Counter {
    cells: Arc<Sharded<AtomicU64>>,
}

impl Counter {
    pub(super) fn new() -> Self {
        Self { cells: Arc::new(Sharded::new(AtomicU64::default)) }
    }

    /// Adds `count`; neither locks nor waits.
    pub fn add(&self, count: u64) {
        self.cells.local().fetch_add(count, Ordering::Relaxed);
    }

    /// Returns what was counted since the counter was made.
    #[must_use]
    pub fn total(&self) -> u64 {
        let cells = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed));
        cells.fold(0, u64::wrapping_add)
    }
}

/// A number that goes up and down. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    cell: Arc<AtomicI64>,
}

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: i64) {
        self.cell.store(value, Ordering::Relaxed);
    }

    /// Adds `change`, which may be negative.
    pub fn add(&self, change: i64) {
        self.cell.fetch_add(change, Ordering::Relaxed);
    }

    /// Returns the number.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.cell.load(Ordering::Relaxed)
    }
}

/// A distribution of durations in buckets that double from 10 µs to 84 s.
/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct Histogram {
    cells: Arc<Sharded<Cells>>,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { cells: Arc::new(Sharded::new(Cells::default)) }
    }

    /// Counts one duration; neither locks nor waits.
    pub fn record(&self, duration: Duration) {
        self.cells.local().record(duration);
    }

    pub(super) fn total(&self) -> HistogramReading {
        let mut total = HistogramReading::default();
        for cells in self.cells.iter() {
            cells.add_to(&mut total);
        }
        total
    }
}
