use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use trine_core::{Backoff, ErrorKind, Fault, Tasks};
use trine_db_shard::ShardId;
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
    /// Stores the files in transactions of several each, and tells what it
    /// stored and what it left out. Files that were stored before are replaced.
    ///
    /// If the future is dropped, whole transactions are stored or not.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the shard, if repeating does not help.
    pub(crate) async fn run(
        &self,
        documents: &Documents,
        tasks: &Tasks,
        progress: &Progress,
    ) -> Result<Summary> {
        let started_at = Instant::now();
        let mut summary = Summary::default();
        let files = self.files(tasks, progress);
        let gather = |mut files| async move { Some((Batch::gather(&mut files).await?, files)) };
        let store = |batch: Batch| async move {
            store(documents, self.account, batch.documents.into()).await?;
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
async fn store(documents: &Documents, account: Uuid, batch: Arc<[NewDocument]>) -> Result<()> {
    let backoff = Backoff::default();
    let mut failures = 0;
    loop {
        let Err(error) = documents.put(account, Arc::clone(&batch)).await else {
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
