use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Lets each name do something so many times within a window, and again one by
/// one as the window passes.
///
/// Memory is fixed: each name falls into one of 16,384 slots by a hash whose
/// key is random, so that nobody can choose a slot to share.
#[derive(Debug)]
pub(crate) struct Allowance {
    base: Instant,
    hasher: RandomState,
    /// Per slot, in microseconds since `base`, the moment at which all of its
    /// uses are forgiven.
    forgiven_at: Box<[AtomicU64]>,
    /// How long it takes to forgive one use, in microseconds.
    each: u64,
    /// How many uses are let through before that matters.
    allowed: u64,
}

impl Allowance {
    const SLOTS: u64 = 16_384;

    /// Returns an allowance of which nothing is used.
    pub(crate) fn new(allowed: NonZeroU32, window: Duration) -> Self {
        let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        let allowed = u64::from(allowed.get());
        Self {
            base: Instant::now(),
            hasher: RandomState::new(),
            forgiven_at: (0..Self::SLOTS).map(|_| AtomicU64::new(0)).collect(),
            each: (window / allowed).max(1),
            allowed,
        }
    }

    /// Lets the name pass without counting it.
    ///
    /// # Errors
    ///
    /// Fails with how long to wait.
    pub(crate) fn check(&self, name: impl Hash) -> Result<(), Duration> {
        self.wait(self.slot(name).load(Ordering::Relaxed), self.now())
    }

    /// Counts one use of the name if it is let through.
    ///
    /// # Errors
    ///
    /// Fails with how long to wait, and counts nothing then.
    pub(crate) fn count(&self, name: impl Hash) -> Result<(), Duration> {
        let (slot, now) = (self.slot(name), self.now());
        let add = |at: u64| self.wait(at, now).is_ok().then(|| self.after_one_more(at, now));
        let counted = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        counted.map(|_before| ()).map_err(|at| self.wait(at, now).err().unwrap_or_default())
    }

    /// Counts one use of the name that has happened, whether it was let through
    /// or not.
    pub(crate) fn add(&self, name: impl Hash) {
        let now = self.now();
        let add = |at: u64| Some(self.after_one_more(at, now));
        // Fails never: the closure always answers.
        let _ = self.slot(name).fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn after_one_more(&self, at: u64, now: u64) -> u64 {
        at.max(now).saturating_add(self.each)
    }

    /// Tells how long to wait until one more use is let through.
    fn wait(&self, at: u64, now: u64) -> Result<(), Duration> {
        let before = self.each.saturating_mul(self.allowed - 1);
        match at.saturating_sub(now).saturating_sub(before) {
            0 => Ok(()),
            wait => Err(Duration::from_micros(wait)),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn slot(&self, name: impl Hash) -> &AtomicU64 {
        static NEVER: AtomicU64 = AtomicU64::new(0);
        let index = usize::try_from(self.hasher.hash_one(name) % Self::SLOTS).unwrap_or(0);
        self.forgiven_at.get(index).unwrap_or(&NEVER)
    }
}

/// Returns what an address is counted under: itself, or the /64 of IPv6 that a
/// whole household has.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(allowed: u32) -> Allowance {
        Allowance::new(allowed.try_into().unwrap(), Duration::from_secs(60))
    }

    #[tokio::test(start_paused = true)]
    async fn uses_are_forgiven_one_by_one() {
        let allowance = allowance(3);
        assert!((0..3).all(|_| allowance.count("a").is_ok()));
        assert_eq!(allowance.count("a").unwrap_err(), Duration::from_secs(20));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(allowance.count("a").is_ok());
        assert!(allowance.check("a").is_err());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!((0..3).all(|_| allowance.count("a").is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_happened_counts_beyond_what_is_allowed() {
        let allowance = allowance(2);
        (0..3).for_each(|_| allowance.add("a"));
        assert_eq!(allowance.check("a"), Err(Duration::from_secs(60)));
        assert!(allowance.check("b").is_ok());
    }

    #[test]
    fn a_household_is_one_network() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }
}
