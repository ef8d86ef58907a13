use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::text::Plans;
use crate::backend::{Call, PoolStats};
use crate::error::At;
use crate::{DatabaseName, SqliteConfig};

/// What the backend, its writer and its readers have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: DatabaseName,
    pub(super) config: SqliteConfig,
    pub(super) plans: Plans,
    /// The resolved path, once the writer has the database open.
    pub(super) path: OnceLock<PathBuf>,
    /// One permit for each reader that may be in use.
    pub(super) permits: Arc<Semaphore>,
    /// Readers that nobody uses; the last one was used last.
    pub(super) idle: Mutex<Vec<Spare>>,
    /// Cancelled when no new work is taken.
    pub(super) closing: CancellationToken,
    /// Cancelled when what is under way has to end.
    pub(super) cut: CancellationToken,
    pub(super) counts: Counts,
}

/// A reader that nobody uses.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) link: Link,
    /// Its last statement was told to stop and may not have ended yet.
    pub(super) is_stopping: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) has_writer: AtomicBool,
    pub(super) is_writing: AtomicBool,
    pub(super) readers: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    pub(super) connects: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) abandoned: AtomicU64,
}

impl Shared {
    pub(super) fn new(name: &DatabaseName, config: &SqliteConfig) -> Self {
        let permits = usize::try_from(config.readers.get()).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            name: name.clone(),
            config: config.clone(),
            plans: Plans::new(),
            path: OnceLock::new(),
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn at(&self, call: &Call) -> At {
        At::new(call.operation, &self.name)
    }

    /// Returns the most readers there may be.
    pub(super) fn max_readers(&self) -> usize {
        usize::try_from(self.config.readers.get()).unwrap_or(usize::MAX)
    }

    pub(super) fn stats(&self, queued: usize) -> PoolStats {
        let counts = &self.counts;
        let has_writer = usize::from(counts.has_writer.load(Ordering::Relaxed));
        let is_writing = usize::from(counts.is_writing.load(Ordering::Relaxed));
        let readers = counts.readers.load(Ordering::Relaxed);
        let idle = self.idle.lock().map_or(0, |idle| idle.len());
        PoolStats {
            max: self.max_readers().saturating_add(1),
            size: readers + has_writer,
            idle: idle + has_writer.saturating_sub(is_writing),
            waiting: counts.waiting.load(Ordering::Relaxed) + queued,
            connects: counts.connects.load(Ordering::Relaxed),
            cancelled: counts.cancelled.load(Ordering::Relaxed),
            abandoned: counts.abandoned.load(Ordering::Relaxed),
        }
    }
}
