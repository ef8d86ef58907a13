use std::fmt;

use bytes::Bytes;

use crate::service::to_key;
use crate::{CacheService, InvalidKey, Key, Op, Order, Ranked, Result, Scored, SortedMode, Ttl};

/// Members with scores under one key, the highest score first. Made by
/// [`CacheService::ranking`]; cheap to clone.
///
/// Equal scores are in the order of their members' bytes, from the highest
/// down. For the other direction, or members that are no texts, use the
/// `Sorted…` operations with [`CacheService::run`].
///
/// # Example
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trine_cache::Result<()> {
/// use trine_cache::{CacheConfig, CacheService};
///
/// let cache = CacheService::connect(&CacheConfig::memory()).await?;
/// let scores = cache.ranking("scores:week")?;
/// scores.put([("ada", 310.0), ("bob", 120.0)]).await?;
/// let ada = scores.rank("ada").await?.ok_or("ada is missing").unwrap();
/// assert_eq!((ada.place, ada.score), (0, 310.0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CacheRanking {
    cache: CacheService,
    key: Key,
    ttl: Ttl,
}

/// A member of a ranking with its score.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Placed {
    /// The member.
    pub member: String,
    /// Its score.
    pub score: f64,
}

impl CacheService {
    /// Returns the ranking under `key`, which need not exist. Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if this is no key.
    pub fn ranking(&self, key: impl TryInto<Key, Error: Into<InvalidKey>>) -> Result<CacheRanking> {
        Ok(CacheRanking { cache: self.clone(), key: to_key(key)?, ttl: Ttl::Default })
    }
}

impl CacheRanking {
    /// Sets the lifetime that writes give to the ranking. Default:
    /// [`Ttl::Default`].
    #[must_use]
    pub fn with_ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Gives members their scores in one step and returns how many are new.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if a score is not a number, no member was given or
    /// the key holds something else, and with the errors of the store.
    pub async fn put(
        &self,
        members: impl IntoIterator<Item = (impl Into<Bytes>, f64)>,
    ) -> Result<u64> {
        self.put_if(members, SortedMode::Always).await
    }

    /// Gives those members their scores for which `mode` allows it, in one
    /// step, and returns how many are new.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub async fn put_if(
        &self,
        members: impl IntoIterator<Item = (impl Into<Bytes>, f64)>,
        mode: SortedMode,
    ) -> Result<u64> {
        let scored = |(member, score)| Scored::new(score, member);
        let entries = members.into_iter().map(scored).collect();
        let op = Op::SortedPut { key: self.key.clone(), entries, mode, ttl: self.ttl };
        self.cache.one("ranking_put", op).await?.into_count()
    }

    /// Adds to a member's score, 0 if absent, and returns the sum. Never sent
    /// twice.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the sum is not a number or the key holds
    /// something else, and with the errors of the store.
    pub async fn add(&self, member: impl Into<Bytes>, by: f64) -> Result<f64> {
        let (key, member, ttl) = (self.key.clone(), member.into(), self.ttl);
        self.cache.one("ranking_add", Op::SortedAdd { key, member, by, ttl }).await?.into_score()
    }

    /// Returns the place of a member, from 0 for the highest score, with the
    /// score it had at that moment.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` if the key holds something else, and with the
    /// errors of the store.
    pub async fn rank(&self, member: impl Into<Bytes>) -> Result<Option<Ranked>> {
        let (key, member, order) = (self.key.clone(), member.into(), Order::Descending);
        self.cache.one("ranking_rank", Op::SortedRank { key, member, order }).await?.into_ranked()
    }

    /// Returns the scores of several members, in their order, at one moment.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank); `Invalid` also without any member.
    pub async fn scores(
        &self,
        members: impl IntoIterator<Item = impl Into<Bytes>>,
    ) -> Result<Vec<Option<f64>>> {
        let members = members.into_iter().map(Into::into).collect();
        let op = Op::SortedScores { key: self.key.clone(), members };
        self.cache.one("ranking_scores", op).await?.into_scores()
    }

    /// Returns the members at the places from `start` to `stop`, both included,
    /// the highest score first; negative places count from the end.
    ///
    /// # Errors
    ///
    /// Fails with `Codec` if a member is no UTF-8, with `Invalid` if the key
    /// holds something else, and with the errors of the store.
    pub async fn range(&self, start: i64, stop: i64) -> Result<Vec<Placed>> {
        const OPERATION: &str = "ranking_range";
        let (key, order) = (self.key.clone(), Order::Descending);
        self.placed(OPERATION, Op::SortedByPlace { key, start, stop, order }).await
    }

    /// Returns up to `count` members with scores from `min` to `max`, both
    /// included, the highest first, without the first `skip`.
    ///
    /// # Errors
    ///
    /// As [`range`](Self::range).
    pub async fn by_score(&self, min: f64, max: f64, skip: u32, count: u32) -> Result<Vec<Placed>> {
        const OPERATION: &str = "ranking_by_score";
        let (key, order) = (self.key.clone(), Order::Descending);
        self.placed(OPERATION, Op::SortedByScore { key, min, max, order, skip, count }).await
    }

    /// Counts the members with scores from `min` to `max`, both included.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank).
    pub async fn count(&self, min: f64, max: f64) -> Result<u64> {
        let op = Op::SortedCount { key: self.key.clone(), min, max };
        self.cache.one("ranking_count", op).await?.into_count()
    }

    /// Counts the members.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank).
    pub async fn len(&self) -> Result<u64> {
        self.cache.one("ranking_len", Op::SortedLen { key: self.key.clone() }).await?.into_count()
    }

    /// Removes up to `count` members with the highest scores and returns them.
    ///
    /// # Errors
    ///
    /// As [`range`](Self::range); with `Codec` they are removed all the same.
    pub async fn pop(&self, count: u32) -> Result<Vec<Placed>> {
        let (key, order) = (self.key.clone(), Order::Descending);
        self.placed("ranking_pop", Op::SortedPop { key, order, count }).await
    }

    /// Removes members and returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`scores`](Self::scores).
    pub async fn remove(&self, members: impl IntoIterator<Item = impl Into<Bytes>>) -> Result<u64> {
        let members = members.into_iter().map(Into::into).collect();
        let op = Op::SortedRemove { key: self.key.clone(), members };
        self.cache.one("ranking_remove", op).await?.into_count()
    }

    /// Removes the members with scores from `min` to `max`, both included, and
    /// returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank).
    pub async fn remove_scores(&self, min: f64, max: f64) -> Result<u64> {
        let op = Op::SortedRemoveScores { key: self.key.clone(), min, max };
        self.cache.one("ranking_remove_scores", op).await?.into_count()
    }

    /// Keeps the `count` highest scores and returns how many were removed.
    ///
    /// # Errors
    ///
    /// As [`rank`](Self::rank).
    pub async fn keep_best(&self, count: u32) -> Result<u64> {
        let stop = -1 - i64::from(count);
        let op = Op::SortedRemovePlaces { key: self.key.clone(), start: 0, stop };
        self.cache.one("ranking_keep_best", op).await?.into_count()
    }

    /// Removes the ranking.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the store.
    pub async fn clear(&self) -> Result<()> {
        self.cache.remove(&self.key).await?;
        Ok(())
    }

    async fn placed(&self, operation: &'static str, op: Op) -> Result<Vec<Placed>> {
        let found = self.cache.one(operation, op).await?.into_scored()?;
        let placed = |Scored { score, member }| {
            Ok(Placed { member: self.cache.text(operation, &self.key, member)?, score })
        };
        found.into_iter().map(placed).collect()
    }
}

impl fmt::Debug for CacheRanking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheRanking({})", self.key)
    }
}
