use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use trine_core::{CallContext, Deadline, Tasks};

use crate::documents::{MAX_BYTES, count_words};
use crate::error::{Error, Result};

/// Receives texts, a bounded number at a time: each may take 8 MiB of memory.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    places: Arc<Semaphore>,
    tasks: Tasks,
}

/// Most uploads at the same time.
const PLACES: usize = 16;

/// Longest time of an upload, the wait for a place included, where the call
/// brings no earlier deadline.
const LONGEST: Duration = Duration::from_secs(60);

impl Uploads {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), tasks }
    }

    /// Returns the text that `body` brings, and how many words it has.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TooLarge`], [`Error::NotText`], [`Error::CutOff`] and
    /// [`Error::UploadTimedOut`].
    pub(super) async fn receive(&self, body: Body) -> Result<(String, u64)> {
        let deadline = Deadline::after(LONGEST).or_earlier(CallContext::current().deadline());
        let received = deadline.limit(async {
            // The semaphore is never closed.
            let _place = self.places.acquire().await;
            collect(body).await
        });
        let bytes = received.await.ok_or(Error::UploadTimedOut)??;
        let check = move || {
            let text = String::from_utf8(bytes).ok()?;
            let words = count_words(&text);
            Some((text, words))
        };
        let checked = self.tasks.spawn_blocking("count words", check).await;
        let checked = checked
            .map_err(|cause| Error::Internal { what: "counting words", cause: cause.into() })?;
        checked.ok_or(Error::NotText)
    }
}

async fn collect(body: Body) -> Result<Vec<u8>> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut received = Vec::with_capacity(announced.min(MAX_BYTES));
    let mut length = announced;
    let mut is_too_large = announced > MAX_BYTES;
    let mut chunks = body.into_data_stream();
    let mut read = 0_usize;
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else {
            return Err(Error::CutOff);
        };
        read = read.saturating_add(chunk.len());
        length = length.max(read);
        is_too_large = is_too_large || length > MAX_BYTES;
        if is_too_large {
            // A client that is still sending would not see the answer, so some
            // more is taken and thrown away.
            received = Vec::new();
            if read > 2 * MAX_BYTES {
                break;
            }
        } else {
            received.extend_from_slice(&chunk);
        }
    }
    if is_too_large { Err(Error::TooLarge) } else { Ok(received) }
}
