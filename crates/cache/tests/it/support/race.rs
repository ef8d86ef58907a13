//! Two owners of one claim who meet in every order.

use std::fmt;

use trine_cache::{CacheService, Key, Ttl};
use trine_core::{ErrorKind, Fence, FenceSink};
use trine_testkit::Rng;

/// What schedules of two owners came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Race {
    pub(crate) schedules: u64,
    /// Writes of the old owner that came in time.
    pub(crate) early: u64,
    /// Writes of the old owner that were refused.
    pub(crate) refused: u64,
    /// Writes of the old owner after the new one had read.
    pub(crate) stale: u64,
}

impl Race {
    pub(crate) fn add(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.early += other.early;
        self.refused += other.refused;
        self.stale += other.stale;
    }
}

impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, early, refused, stale } = self;
        write!(
            f,
            "{schedules} schedules of two owners: {early} old writes in time, {refused} refused, \
             {stale} stale accepted"
        )
    }
}

/// What the new owner does between its read and its look back.
#[derive(Clone, Copy)]
enum Deed {
    Nothing,
    Write,
    Remove,
    /// Writes a value that is over at once.
    Expire,
}

/// Runs `count` schedules, each on a key of its own: the old owner reads, is
/// held up for a random while, and writes; meanwhile the new one shows its
/// token, reads, and acts. With `guarded` false nobody shows anything.
pub(crate) async fn race(
    cache: &CacheService,
    name: &str,
    seed: u64,
    count: u64,
    guarded: bool,
) -> Race {
    let mut rng = Rng::seeded(seed);
    let mut race = Race::default();
    for turn in 0..count {
        let key = Key::new(format!("race:{name}:{turn}")).unwrap();
        let token = 1 + rng.below(1 << 50);
        let deed = [Deed::Nothing, Deed::Write, Deed::Remove, Deed::Expire][rng.below(4) as usize];
        let (slow, late) = (rng.below(6), rng.below(6));
        let old = Fence::new("lock.default/race", token).unwrap();
        let new = Fence::new("lock.default/race", token + 1 + rng.below(3)).unwrap();
        let owners = Owners { cache, key: &key, guarded };
        let (written, seen) =
            tokio::join!(owners.act_as_old(&old, slow), owners.act_as_new(&new, late, deed));
        race.schedules += 1;
        match (written, seen) {
            (true, Seen::Stale) => race.stale += 1,
            // What came in time was seen by the new owner.
            (true, Seen::Old) => race.early += 1,
            (true, Seen::Nothing) => race.stale += 1,
            (false, seen) => {
                assert!(matches!(seen, Seen::Nothing), "refused and written");
                race.refused += 1;
            }
        }
        let _either = cache.remove(&key).await.unwrap();
    }
    race
}

/// What the new owner saw of the old one's write.
enum Seen {
    Nothing,
    /// When it read.
    Old,
    /// Only after it had read.
    Stale,
}

struct Owners<'a> {
    cache: &'a CacheService,
    key: &'a Key,
    guarded: bool,
}

impl Owners<'_> {
    /// Returns whether the write was accepted.
    async fn act_as_old(&self, fence: &Fence, pause: u64) -> bool {
        if self.guarded {
            let raised = self.cache.guarding([self.key]).unwrap().raise(fence).await;
            if let Err(error) = raised {
                assert_eq!(error.kind(), ErrorKind::Fenced);
                return false;
            }
            if let Err(error) = self.cache.fenced(fence).get::<String>(self.key).await {
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
                return false;
            }
        } else {
            let _before: Option<String> = self.cache.get(self.key).await.unwrap();
        }
        self.hold_up(pause).await;
        if !self.guarded {
            self.cache.put(self.key, "old", Ttl::Never).await.unwrap();
            return true;
        }
        match self.cache.fenced(fence).put(self.key, "old", Ttl::Never).await {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
                false
            }
        }
    }

    async fn act_as_new(&self, fence: &Fence, pause: u64, deed: Deed) -> Seen {
        self.hold_up(pause).await;
        if self.guarded {
            self.cache.guarding([self.key]).unwrap().raise(fence).await.unwrap();
        }
        let read: Option<String> = self.cache.get(self.key).await.unwrap();
        match (deed, self.guarded) {
            (Deed::Nothing, _) => {}
            (Deed::Write, true) => {
                self.cache.fenced(fence).put(self.key, "new", Ttl::Never).await.unwrap();
            }
            (Deed::Write, false) => self.cache.put(self.key, "new", Ttl::Never).await.unwrap(),
            (Deed::Remove, true) => {
                let _either = self.cache.fenced(fence).remove(self.key).await.unwrap();
            }
            (Deed::Remove, false) => {
                let _either = self.cache.remove(self.key).await.unwrap();
            }
            (Deed::Expire, guarded) => {
                let ttl = Ttl::After(Ttl::MIN);
                if guarded {
                    self.cache.fenced(fence).put(self.key, "over", ttl).await.unwrap();
                } else {
                    self.cache.put(self.key, "over", ttl).await.unwrap();
                }
                while self.cache.get::<String>(self.key).await.unwrap().as_deref() == Some("over") {
                    tokio::task::yield_now().await;
                }
            }
        }
        // Longer than the old owner is held up.
        self.hold_up(8).await;
        let left: Option<String> = self.cache.get(self.key).await.unwrap();
        match (read.as_deref(), left.as_deref()) {
            (Some("old"), _) => Seen::Old,
            (_, Some("old")) => Seen::Stale,
            _ => Seen::Nothing,
        }
    }

    /// So many round trips to the store.
    async fn hold_up(&self, turns: u64) {
        for _ in 0..turns {
            tokio::task::yield_now().await;
            let _absent = self.cache.has("race:nobody").await.unwrap();
        }
    }
}
