use std::time::Duration;

use axum::body::{Body, HttpBody};
use futures_util::StreamExt;
use trine_core::{CallContext, Deadline, Tasks};
use uuid::Uuid;

use super::places::{Place, Places};
use crate::documents::{MAX_BYTES, count_words};
use crate::error::{Error, Result};

/// Receives texts, a bounded number at a time: each may be 8 MiB of memory.
#[derive(Clone, Debug)]
pub(super) struct Uploads {
    places: Places,
    longest: Duration,
    tasks: Tasks,
}

/// A text that was received.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) text: String,
    pub(super) words: u64,
    /// To be kept as long as the text is.
    pub(super) place: Place,
}

impl Uploads {
    /// Returns a receiver that gives a client at most `longest`, the wait for
    /// a place included.
    pub(super) fn new(places: Places, longest: Duration, tasks: Tasks) -> Self {
        Self { places, longest, tasks }
    }

    /// Returns the text that `body` brings, and how many words it has.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TooLarge`], [`Error::NotText`], [`Error::CutOff`],
    /// [`Error::NoPlace`] and [`Error::UploadTimedOut`].
    pub(super) async fn receive(&self, account: Uuid, body: Body) -> Result<Upload> {
        let deadline = Deadline::after(self.longest).or_earlier(CallContext::current().deadline());
        let place = self.places.take(account, deadline).await?;
        let received = deadline.limit(collect(body)).await.ok_or(Error::UploadTimedOut)?;
        let bytes = received?;
        // The place goes with the text: a caller that is dropped meanwhile
        // does not let the next one in early.
        let check = move || {
            let text = String::from_utf8(bytes).ok()?;
            Some(Upload { words: count_words(&text), text, place })
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

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const ANN: Uuid = Uuid::from_u128(1);

    fn uploads() -> Uploads {
        Uploads::new(Places::new(1, 1), Duration::from_secs(9), Tasks::new("test"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_taken_until_the_text_is_stored() {
        let uploads = uploads();
        let first = uploads.receive(ANN, Body::from("one two")).await.unwrap();
        assert_eq!((first.text.as_str(), first.words), ("one two", 2));
        let refused = uploads.receive(ANN, Body::from("three")).await;
        assert!(matches!(refused, Err(Error::NoPlace)), "{refused:?}");
        drop(first.place);
        assert_eq!(uploads.receive(ANN, Body::from("three")).await.unwrap().words, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_gives_its_place_back() {
        let uploads = uploads();
        let body = || Body::from_stream(stream::pending::<std::io::Result<Vec<u8>>>());
        let late = uploads.receive(ANN, body()).await;
        assert!(matches!(late, Err(Error::UploadTimedOut)), "{late:?}");
        assert!(uploads.receive(ANN, Body::from("x")).await.is_ok());
    }
}
