use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use trine_core::{Durability, Span, Tasks};

use super::lock::beside;

/// Between two warnings about a log that still cannot be synced.
const WARN_AGAIN: Duration = Duration::from_secs(60);

/// Tells the task that syncs the log that something was written. Does nothing
/// where every commit is synced anyway. The task ends when this is dropped.
#[derive(Debug)]
pub(super) struct WalSync {
    durability: Durability,
    written: Option<mpsc::Sender<()>>,
    path: Arc<OnceLock<PathBuf>>,
    overdue: Overdue,
}

/// Since when something is written that could not be synced.
type Overdue = Arc<Mutex<Option<Instant>>>;

impl WalSync {
    pub(super) fn start(durability: Durability, tasks: &Tasks) -> Self {
        let mut sync =
            Self { durability, written: None, path: Arc::default(), overdue: Arc::default() };
        let Durability::Async { window } = durability else {
            return sync;
        };
        let (written, inbox) = mpsc::channel(1);
        let (opened, overdue) = (Arc::clone(&sync.path), Arc::clone(&sync.overdue));
        let sync_log = move || {
            let path = opened.get().cloned();
            async move {
                let synced =
                    tokio::task::spawn_blocking(move || path.map_or(Ok(()), |path| sync_at(&path)));
                synced.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
            }
        };
        drop(tasks.spawn("sync", keep_synced(inbox, window.get() / 2, overdue, sync_log)));
        sync.written = Some(written);
        sync
    }

    /// Notes which database is open.
    pub(super) fn opened(&self, path: &Path) {
        // The same path for as long as the writer lives.
        let _ = self.path.set(path.to_owned());
    }

    /// Notes that something was committed. Never waits: one note is enough.
    pub(super) fn written(&self) {
        if let Some(written) = &self.written {
            let _ = written.try_send(());
        }
    }

    /// Returns what survives now: while the log cannot be synced, the window is
    /// as long as that lasts.
    pub(super) fn durability(&self) -> Durability {
        let overdue = self.overdue.lock().ok().and_then(|overdue| *overdue);
        match (self.durability, overdue) {
            (Durability::Async { window }, Some(since)) => {
                Durability::Async { window: window.max(Span::from(since.elapsed())) }
            }
            (durability, _) => durability,
        }
    }
}

/// Calls `sync` `delay` after the first note since the last time: half the
/// window, the other half is for the sync itself. A sync that failed comes
/// again after `delay`, whether or not something is written meanwhile.
async fn keep_synced<F>(
    mut written: mpsc::Receiver<()>,
    delay: Duration,
    overdue: Overdue,
    mut sync: impl FnMut() -> F,
) where
    F: Future<Output = io::Result<()>>,
{
    let mut failing = Failing::default();
    let mut since = None;
    while since.is_some() || written.recv().await.is_some() {
        let began = *since.get_or_insert_with(Instant::now);
        let is_over = wait(&mut written, delay).await;
        match sync().await {
            Ok(()) => {
                failing.end();
                since = None;
            }
            Err(error) => failing.warn(&error),
        }
        if let Ok(mut overdue) = overdue.lock() {
            *overdue = since.map(|_| began);
        }
        if is_over {
            return;
        }
    }
}

/// Says the first failure, then how many there were once a minute, and the
/// recovery.
#[derive(Debug, Default)]
struct Failing {
    count: u64,
    warned: Option<Instant>,
}

impl Failing {
    fn warn(&mut self, error: &io::Error) {
        self.count += 1;
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_AGAIN) {
            self.warned = Some(Instant::now());
            let failures = self.count;
            tracing::warn!(%error, failures, "the write-ahead log could not be synced");
        }
    }

    fn end(&mut self) {
        if self.count > 0 {
            tracing::warn!(failures = self.count, "the write-ahead log is synced again");
        }
        *self = Self::default();
    }
}

/// Waits for `delay`, or until nobody writes any more, which it tells.
async fn wait(written: &mut mpsc::Receiver<()>, delay: Duration) -> bool {
    let ended = async { while written.recv().await.is_some() {} };
    timeout(delay, ended).await.is_ok()
}

/// Makes the log of the database at `path` durable, and its name.
///
/// Opens the log only: closing any handle of the database file itself would
/// drop the locks that SQLite holds on it in this process.
fn sync_at(path: &Path) -> io::Result<()> {
    match File::open(beside(path, "-wal")) {
        Ok(log) => log.sync_data()?,
        // The last connection has moved it into the database, durably.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;

    const WINDOW: Span = Span::secs(1);

    /// Runs `work` beside the task, whose first syncs fail, and returns how
    /// often it tried.
    async fn synced_after(failures: usize, work: impl AsyncFnOnce(WalSync, &AtomicUsize)) -> usize {
        let count = AtomicUsize::new(0);
        let (written, inbox) = mpsc::channel(1);
        let wal = WalSync {
            durability: Durability::Async { window: WINDOW },
            written: Some(written),
            path: Arc::default(),
            overdue: Arc::default(),
        };
        let task = keep_synced(inbox, WINDOW.get() / 2, Arc::clone(&wal.overdue), async || {
            match count.fetch_add(1, Ordering::Relaxed) {
                tried if tried < failures => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(()),
            }
        });
        tokio::join!(task, work(wal, &count));
        count.into_inner()
    }

    async fn synced(work: impl AsyncFnOnce(WalSync, &AtomicUsize)) -> usize {
        synced_after(0, work).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_sync_that_failed_is_tried_again_without_another_write() {
        let count = synced_after(4, async |wal, count| {
            wal.written();
            sleep(Duration::from_millis(1_800)).await;
            assert_eq!(count.load(Ordering::Relaxed), 3);
            let Durability::Async { window } = wal.durability() else { panic!() };
            assert!(window > WINDOW, "{window}");
            sleep(Duration::from_secs(60)).await;
            assert_eq!(wal.durability(), Durability::Async { window: WINDOW });
        })
        .await;
        assert_eq!(count, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_is_synced_within_the_window_and_silence_costs_nothing() {
        let count = synced(async |wal, count| {
            sleep(Duration::from_secs(60)).await;
            assert_eq!(count.load(Ordering::Relaxed), 0);
            for _ in 0..100 {
                wal.written();
            }
            sleep(Duration::from_millis(600)).await;
            assert_eq!(count.load(Ordering::Relaxed), 1);
            sleep(Duration::from_secs(60)).await;
        })
        .await;
        assert_eq!(count, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn steady_writes_are_synced_once_per_half_window() {
        let count = synced(async |wal, _| {
            let end = Instant::now() + Duration::from_secs(10);
            while Instant::now() < end {
                wal.written();
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert!((18..=21).contains(&count), "{count}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_commit_is_synced_at_the_end() {
        let started = Instant::now();
        assert_eq!(synced(async |wal, _| wal.written()).await, 1);
        assert!(started.elapsed() < Duration::from_millis(500));
    }

    #[test]
    fn a_log_that_is_gone_needs_no_sync() {
        let folder = tempfile::tempdir().unwrap();
        sync_at(&folder.path().join("a.db")).unwrap();
        std::fs::write(folder.path().join("a.db-wal"), "x").unwrap();
        sync_at(&folder.path().join("a.db")).unwrap();
    }
}
