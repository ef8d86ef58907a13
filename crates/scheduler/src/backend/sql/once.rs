use std::sync::Arc;

use trine_core::Rfc3339;
use trine_db_shard::{Inbox, Once, Tx};

use super::claim::fence_prefix;
use super::failure::Failure;
use crate::{At, ClaimedTick, Error, Result};

/// Tells whether the effect of a tick is new to the database of `tx`, any one,
/// and remembers it if `tx` commits: under the consumer `job.<instance>/<job>`
/// and the nominal time, in the inbox of that database, for
/// [`Inbox::RETENTION`].
///
/// `service` is the name of the scheduler. Another attempt at the same tick
/// waits until it is known what became of `tx`. Make it the first statement of
/// the transaction.
///
/// # Errors
///
/// Fails with the errors of the database.
pub async fn once_in(service: &Arc<str>, tx: &mut Tx, attempt: &ClaimedTick) -> Result<Once> {
    let inbox = Inbox::new(format!("{}{}", fence_prefix(service), attempt.job));
    let id = format!("{:.6}", Rfc3339(attempt.nominal));
    inbox.once(tx, &id).await.map_err(|error| {
        let at = At::new("once_in", service);
        match error {
            trine_db_shard::Error::Invalid { detail, .. } => Error::Invalid { at, detail },
            error => Failure::from(error).at(at),
        }
    })
}
