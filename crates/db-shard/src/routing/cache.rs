use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use quick_cache::sync::Cache;

use super::Route;
use crate::{Error, ShardKey};

/// What several callers get of one read.
type Answer = Result<Option<Route>, Arc<Error>>;

pub(super) type Reading = BoxFuture<'static, Answer>;

/// The keys whose shard this process knows, and the reads under way.
pub(crate) struct KeyCache {
    known: Cache<ShardKey, Route>,
    reads: Arc<Reads>,
}

type Reads = Mutex<HashMap<ShardKey, WeakShared<Reading>>>;

impl KeyCache {
    pub(crate) fn new(capacity: NonZeroU32) -> Self {
        let capacity = usize::try_from(capacity.get()).unwrap_or(usize::MAX);
        Self { known: Cache::new(capacity), reads: Arc::default() }
    }

    pub(super) fn get(&self, key: &ShardKey) -> Option<Route> {
        self.known.get(key)
    }

    /// Keeps what the map said, unless the key is being moved: then every call
    /// asks, so that none acts on the old shard after the switch.
    pub(crate) fn remember(&self, key: &ShardKey, route: Route) {
        if route.is_moving() {
            self.forget(key);
        } else {
            self.known.insert(key.clone(), route);
        }
    }

    pub(crate) fn forget(&self, key: &ShardKey) {
        self.known.remove(key);
    }

    /// Returns the read of `key` that is under way, or begins one. It goes on
    /// as long as anybody waits for it.
    pub(super) fn read(&self, key: &ShardKey, begin: impl FnOnce() -> Reading) -> Shared<Reading> {
        let mut reads = lock(&self.reads);
        if let Some(reading) = reads.get(key).and_then(WeakShared::upgrade) {
            return reading;
        }
        let listed = Listed { reads: Arc::clone(&self.reads), key: key.clone() };
        let reading = begin();
        let reading = async move {
            let _listed = listed;
            reading.await
        };
        let reading = reading.boxed().shared();
        // Nobody else has it yet, so there is something to point at.
        if let Some(weak) = reading.downgrade() {
            reads.insert(key.clone(), weak);
        }
        reading
    }
}

/// Takes a read off the list when it is over or nobody waits any more. At
/// worst it takes off its successor, which then is not shared.
struct Listed {
    reads: Arc<Reads>,
    key: ShardKey,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.reads).remove(&self.key);
    }
}

fn lock(reads: &Reads) -> std::sync::MutexGuard<'_, HashMap<ShardKey, WeakShared<Reading>>> {
    reads.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns an error of the same kind for one of those who waited.
pub(super) fn shared_error(error: Arc<Error>) -> Error {
    let error = match Arc::try_unwrap(error) {
        Ok(error) => return error,
        Err(error) => error,
    };
    match &*error {
        Error::Timeout { at, after, limit } => {
            Error::Timeout { at: at.clone(), after: *after, limit }
        }
        Error::Closed { at } => Error::Closed { at: at.clone() },
        Error::Exhausted { at, what, waited, in_use, max, waiting, setting } => Error::Exhausted {
            at: at.clone(),
            what,
            waited: *waited,
            in_use: *in_use,
            max: *max,
            waiting: *waiting,
            setting,
        },
        Error::Unavailable { at, reason, .. } => {
            let (at, reason) = (at.clone(), reason.clone());
            Error::Unavailable { at, reason, cause: Some(Box::new(error)) }
        }
        Error::Denied { at, .. } => Error::Denied { at: at.clone(), cause: Box::new(error) },
        other => match other.at().cloned() {
            Some(at) => Error::Internal { at, cause: Box::new(error) },
            // Errors of configuration come from no read.
            None => Error::Config(crate::ConfigError::one(error.to_string())),
        },
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache")
            .field("keys", &self.known.len())
            .field("reads", &lock(&self.reads).len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;
    use trine_core::{ErrorKind, Moment};

    use super::*;
    use crate::error::At;
    use crate::routing::KeyRow;
    use crate::{DatabaseName, ShardId};

    fn cache() -> KeyCache {
        KeyCache::new(NonZeroU32::new(100).unwrap())
    }

    fn route() -> Route {
        let row = KeyRow { shard_id: ShardId::new(3), moving_to: None, epoch: 1 };
        Route { row, read_at: Moment::from_elapsed(Duration::ZERO) }
    }

    /// A read that counts itself and takes a moment.
    fn read(count: &Arc<AtomicUsize>, answer: Answer) -> Reading {
        let count = Arc::clone(count);
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer
        }
        .boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_misses_share_one_read() {
        let (cache, count) = (cache(), Arc::default());
        let key = ShardKey::from(1_u64);
        let wait = || cache.read(&key, || read(&count, Ok(Some(route()))));
        let answers = join_all((0..50).map(|_| wait())).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().is_some()));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        wait().await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert!(lock(&cache.reads).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_goes_away_stops_no_other() {
        let (cache, count) = (cache(), Arc::default());
        let key = ShardKey::from(1_u64);
        let mut first = cache.read(&key, || read(&count, Ok(None)));
        assert!(futures_util::poll!(&mut first).is_pending());
        let second = cache.read(&key, || read(&count, Ok(None)));
        drop(first);
        assert!(second.await.unwrap().is_none());
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_nobody_waits_for_leaves_nothing() {
        let (cache, count) = (cache(), Arc::default());
        let mut only = cache.read(&ShardKey::from(1_u64), || read(&count, Ok(None)));
        assert!(futures_util::poll!(&mut only).is_pending());
        drop(only);
        assert!(lock(&cache.reads).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn every_waiter_gets_the_kind_of_a_failure() {
        let (cache, count) = (cache(), Arc::default());
        let at = At::new("for_key", &DatabaseName::Global);
        let error = Arc::new(Error::unavailable(at, crate::Unavailable::Unreachable));
        let wait = || {
            let error = Arc::clone(&error);
            cache.read(&ShardKey::from(1_u64), || read(&count, Err(error)))
        };
        for answer in join_all([wait(), wait(), wait()]).await {
            let error = shared_error(answer.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_no_moving_key() {
        let cache = cache();
        for key in 0..10_000_u64 {
            cache.remember(&ShardKey::from(key), route());
        }
        assert!(cache.known.len() <= 128, "{}", cache.known.len());
        let key = ShardKey::from(1_u64);
        cache.remember(&key, route());
        let mut moving = route();
        moving.row.moving_to = Some(ShardId::new(1));
        cache.remember(&key, moving);
        assert!(cache.get(&key).is_none());
    }
}
