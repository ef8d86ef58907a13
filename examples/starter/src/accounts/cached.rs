use std::time::Duration;

use trine_cache::{CacheService, PutMode, Ttl};
use trine_core::{CallContext, Deadline, Report};
use uuid::Uuid;

use super::Account;
use crate::error::Result;

/// Rows of accounts, kept for a short while to spare the database. The database
/// knows better: whatever fails here is a row to read.
#[derive(Clone, Debug)]
pub(crate) struct AccountCache {
    cache: CacheService,
    /// How long a row is kept.
    ttl: Duration,
    /// How long nobody keeps a row that is being changed.
    change: Duration,
}

/// What is under a key: nothing while the row is being changed, so that nobody
/// who has read it before keeps it.
type Entry<A> = Option<A>;

impl AccountCache {
    /// Returns the rows kept in `cache` for `ttl`, where no request takes longer
    /// than `request`, and no statement that was given up ends more than
    /// `settling` later.
    pub(crate) fn new(
        cache: CacheService,
        ttl: Duration,
        request: Duration,
        settling: Duration,
    ) -> Self {
        // A change may land at the end of its request and of that, and whoever
        // read the row just before has a whole request to keep it.
        Self { cache, ttl, change: request * 2 + settling }
    }

    /// Returns the account if its row is kept.
    pub(super) async fn find(&self, id: Uuid) -> Option<Account> {
        match self.cache.get::<Entry<Account>>(key(id)).await {
            Ok(entry) => entry.flatten(),
            Err(error) => {
                tracing::debug!(error = %Report(&error), "a cached account was not read");
                None
            }
        }
    }

    /// Keeps a row that was read, unless there is one, it is being changed, or
    /// the request has had its time: it may have changed meanwhile.
    pub(super) async fn keep(&self, account: &Account) {
        if CallContext::current().deadline().is_some_and(Deadline::has_passed) {
            return;
        }
        let (entry, ttl): (Entry<&Account>, _) = (Some(account), Ttl::After(self.ttl));
        let kept = self.cache.put_if(key(account.id), &entry, ttl, PutMode::IfAbsent).await;
        if let Err(error) = kept {
            tracing::debug!(error = %Report(&error), "an account was not cached");
        }
    }

    /// Has everybody read the row, until a change that begins now is over and
    /// nobody has the row from before.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the cache; others may then still see what is
    /// kept, so the row must not be changed.
    pub(super) async fn forget(&self, id: Uuid) -> Result<()> {
        let entry: Entry<&Account> = None;
        self.cache.put(key(id), &entry, Ttl::After(self.change)).await?;
        Ok(())
    }

    /// Does the same once the change is over: should the cache have lost what
    /// was said before it, somebody may have kept the old row.
    pub(super) async fn forget_again(&self, id: Uuid) {
        if let Err(error) = self.forget(id).await {
            tracing::warn!(error = %Report(&error), "a changed account may be cached as it was");
        }
    }
}

fn key(id: Uuid) -> String {
    format!("account:{id}")
}
