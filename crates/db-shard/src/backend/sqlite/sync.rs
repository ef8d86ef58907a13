use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use trine_core::{Durability, Tasks};

use super::lock::beside;

/// Tells the task that syncs the log that something was written. Does nothing
/// where every commit is synced anyway. The task ends when this is dropped.
#[derive(Debug)]
pub(super) struct WalSync {
    written: Option<mpsc::Sender<()>>,
    path: Arc<OnceLock<PathBuf>>,
}

impl WalSync {
    pub(super) fn start(durability: Durability, tasks: &Tasks) -> Self {
        let path = Arc::new(OnceLock::new());
        let Durability::Async { window } = durability else {
            return Self { written: None, path };
        };
        let (written, inbox) = mpsc::channel(1);
        let opened = Arc::clone(&path);
        let sync_log = move || {
            let path = opened.get().cloned();
            async move {
                let synced =
                    tokio::task::spawn_blocking(move || path.map_or(Ok(()), |path| sync(&path)));
                synced.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
            }
        };
        drop(tasks.spawn("sync", keep_synced(inbox, window.get() / 2, sync_log)));
        Self { written: Some(written), path }
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
}

/// Calls `sync` `delay` after the first note since the last time: half the
/// window, the other half is for the sync itself.
async fn keep_synced<F>(
    mut written: mpsc::Receiver<()>,
    delay: Duration,
    mut sync: impl FnMut() -> F,
) where
    F: Future<Output = io::Result<()>>,
{
    let mut failures = 0_u64;
    while written.recv().await.is_some() {
        let is_over = wait(&mut written, delay).await;
        match sync().await {
            Ok(()) if failures > 0 => {
                tracing::warn!(failures, "the write-ahead log is synced again");
                failures = 0;
            }
            Ok(()) => {}
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(%error, "the write-ahead log could not be synced");
                }
            }
        }
        if is_over {
            return;
        }
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
fn sync(path: &Path) -> io::Result<()> {
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

    use tokio::time::{Instant, sleep};

    use super::*;

    /// Runs `work` beside the task and returns how often it synced.
    async fn synced(work: impl AsyncFnOnce(WalSync, &AtomicUsize)) -> usize {
        let count = AtomicUsize::new(0);
        let (written, inbox) = mpsc::channel(1);
        let task = keep_synced(inbox, Duration::from_millis(500), async || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let wal = WalSync { written: Some(written), path: Arc::default() };
        tokio::join!(task, work(wal, &count));
        count.into_inner()
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
        sync(&folder.path().join("a.db")).unwrap();
        std::fs::write(folder.path().join("a.db-wal"), "x").unwrap();
        sync(&folder.path().join("a.db")).unwrap();
    }
}
