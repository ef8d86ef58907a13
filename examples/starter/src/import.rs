use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use trine_core::{Backoff, ErrorKind, Fault, Fence, FenceSink, Tasks};
use trine_db_shard::ShardId;
use trine_lock::LockService;
use uuid::Uuid;

use crate::documents::{Documents, NewDocument};
use crate::error::{Error, Result};

use batch::Batch;
use walk::{Found, Reason, Skipped};

pub(crate) use demo::DemoAccount;
pub(crate) use progress::Progress;
pub(crate) use summary::Summary;

mod batch;
mod demo;
mod progress;
mod summary;
mod walk;

/// Files that are read at the same time.
const READERS: usize = 4;

/// Transactions that are under way at the same time.
const WRITERS: usize = 3;

/// How often one transaction is tried.
const ATTEMPTS: u32 = 6;

/// Entries that the walk may be ahead of the reading.
const AHEAD: usize = 256;

/// Stores every text file below a folder as a document.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) folder: PathBuf,
    /// The data folder, which is left out.
    pub(crate) data: Option<PathBuf>,
    pub(crate) account: Uuid,
    pub(crate) shard: ShardId,
}

impl Import {
    /// Stores the files while it holds the lock of the account's imports, which
    /// the shard knows the holder of, and tells what it stored and what it left
    /// out. Files that were stored before are replaced.
    ///
    /// If the future is dropped, whole transactions are stored or not.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::ImportHeld`] while another import of the account is
    /// under way, with [`Error::ImportLost`] when another may have begun, with
    /// the errors of the shard, if repeating does not help, and with those of
    /// the locks.
    pub(crate) async fn run(
        &self,
        documents: &Documents,
        locks: &LockService,
        tasks: &Tasks,
        progress: &Progress,
    ) -> Result<Summary> {
        let shard = documents.shard(self.shard)?;
        let sinks: [&dyn FenceSink; 1] = [&shard];
        let lock = locks.with_lock(format!("import:{}", self.account)).fencing(&sinks);
        let imported =
            lock.run(async |guard| self.store(documents, guard.fence(), tasks, progress).await);
        imported.await.map_err(|error| self.explain(error))
    }

    /// Says what came between.
    fn explain(&self, error: Error) -> Error {
        let account = self.account;
        match error {
            Error::Lock(trine_lock::Error::TimedOut { holder, .. }) => {
                Error::ImportHeld { account, holder: holder.to_string() }
            }
            Error::Lock(lost @ trine_lock::Error::Lost { .. }) => {
                Error::ImportLost { account, cause: lost.into() }
            }
            Error::Db(fenced) if fenced.kind() == ErrorKind::Fenced => {
                Error::ImportLost { account, cause: fenced.into() }
            }
            other => other,
        }
    }

    /// Stores the files in transactions of several each, as long as no newer
    /// fence than this was shown to the shard.
    async fn store(
        &self,
        documents: &Documents,
        fence: &Fence,
        tasks: &Tasks,
        progress: &Progress,
    ) -> Result<Summary> {
        let started_at = Instant::now();
        let mut summary = Summary::default();
        let files = self.files(tasks, progress);
        let gather = |mut files| async move { Some((Batch::gather(&mut files).await?, files)) };
        let store = |batch: Batch| async move {
            store(documents, self.account, batch.documents.into(), fence).await?;
            Ok::<_, Error>((batch.totals, batch.skipped))
        };
        let batches = stream::unfold(files.boxed(), gather).map(store);
        let mut stored = std::pin::pin!(batches.buffer_unordered(WRITERS));
        while let Some(batch) = stored.next().await {
            let (totals, skipped) = batch?;
            progress.advance(totals.files.saturating_add(skipped.len().try_into().unwrap_or(0)));
            summary.add_stored(self.shard, totals);
            skipped.into_iter().for_each(|skipped| summary.add_skipped(skipped));
        }
        summary.took = started_at.elapsed();
        Ok(summary)
    }

    /// Returns what is below the folder, several files being read at a time.
    fn files(
        &self,
        tasks: &Tasks,
        progress: &Progress,
    ) -> impl Stream<Item = Result<NewDocument, Skipped>> + use<> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (folder, data, progress) = (self.folder.clone(), self.data.clone(), progress.clone());
        // Ends with the folder, or when nobody receives any more.
        tasks.spawn_blocking("import walk", move || {
            walk::walk(&folder, data.as_deref(), |found| {
                progress.expect_one();
                sender.blocking_send(found).is_ok()
            });
        });
        let (tasks, folder) = (tasks.clone(), Arc::<Path>::from(self.folder.as_path()));
        let receive = |mut receiver: mpsc::Receiver<Found>| async move {
            Some((receiver.recv().await?, receiver))
        };
        let read = move |found| {
            let (tasks, folder) = (tasks.clone(), Arc::clone(&folder));
            async move {
                let (path, name) = match found {
                    Found::File { path, name } => (path, name),
                    Found::Skipped(skipped) => return Err(skipped),
                };
                let shown = name.as_str().to_owned();
                let read = move || walk::read(&folder, &path, name);
                let reading = tasks.spawn_blocking("import read", read);
                let stopped = Reason::Unreadable(std::io::ErrorKind::Interrupted);
                reading.await.unwrap_or(Err(Skipped { name: shown, reason: stopped }))
            }
        };
        stream::unfold(receiver, receive).map(read).buffered(READERS)
    }
}

/// Stores one batch, again if need be: storing is idempotent, so an unknown
/// outcome may be repeated too.
async fn store(
    documents: &Documents,
    account: Uuid,
    batch: Arc<[NewDocument]>,
    fence: &Fence,
) -> Result<()> {
    let backoff = Backoff::default();
    let mut failures = 0;
    loop {
        let Err(error) = documents.put(account, Arc::clone(&batch), Some(fence)).await else {
            return Ok(());
        };
        let may_repeat = error.is_retryable() || error.kind() == ErrorKind::OutcomeUnknown;
        failures += 1;
        if !may_repeat || failures == ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(backoff.delay(failures - 1)).await;
    }
}

#[cfg(test)]
mod tests {
    use trine_db_shard::{DbConfig, DbService};

    use super::*;
    use crate::documents::DocumentName;
    use crate::schema;

    #[tokio::test]
    async fn an_import_that_was_overtaken_stores_nothing_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let config = DbConfig::sqlite(folder.path(), 1);
        let migrated = trine_db_shard::migrate(&config, &schema::migrations()).await.unwrap();
        assert!(migrated.is_complete());
        let db = DbService::connect(&config).await.unwrap();
        let account = Uuid::from_u128(1);
        let shard = db.assign(account).await.unwrap();
        let documents = Documents::new(db);
        let fence = |token| Fence::new("lock.default/import:1", token).unwrap();
        let batch = |text: &str| {
            let name = DocumentName::parse("a").unwrap();
            Arc::from([NewDocument { name, text: text.to_owned(), words: 1 }])
        };
        store(&documents, account, batch("first"), &fence(1)).await.unwrap();
        documents.shard(shard).unwrap().raise(&fence(2)).await.unwrap();
        let late = store(&documents, account, batch("late"), &fence(1)).await.unwrap_err();
        let id = DocumentName::parse("a").unwrap().document_id(account);
        assert_eq!(documents.text(account, id).await.unwrap(), "first");
        store(&documents, account, batch("second"), &fence(2)).await.unwrap();
        assert_eq!(documents.text(account, id).await.unwrap(), "second");
        let import = Import { folder: folder.path().to_owned(), data: None, account, shard };
        let told = import.explain(late).to_string();
        assert!(told.contains("has lost its lock and ended"), "{told}");
    }
}
