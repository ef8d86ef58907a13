use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::LoginConfig;
use crate::error::{Error, Result};

/// Counts failed logins per account and per address, and refuses further ones
/// of whoever has too many.
///
/// Successful logins count for nothing. Memory is fixed: each name falls into
/// one of 16,384 slots by a hash whose key is random, so that nobody can
/// choose a slot to share. As long as the hashing of passwords bounds the
/// failures per second, only few of the slots are ever full.
#[derive(Debug)]
pub(crate) struct LoginLimit {
    base: Instant,
    hasher: RandomState,
    accounts: Slots,
    addresses: Slots,
}

/// Who tries to log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) account: &'a str,
    pub(crate) address: Option<IpAddr>,
}

#[derive(Debug)]
struct Slots {
    /// Per slot, in microseconds since `base`, the moment at which all of its
    /// failures are forgiven.
    forgiven_at: Box<[AtomicU64]>,
    /// How long it takes to forgive one failure, in microseconds.
    each: u64,
    /// How many failures are let through before that matters.
    allowed: u64,
}

impl LoginLimit {
    /// Returns a counter without failures.
    pub(crate) fn new(config: &LoginConfig) -> Self {
        let window = config.window.get();
        Self {
            base: Instant::now(),
            hasher: RandomState::new(),
            accounts: Slots::new(config.failures_per_account.get(), window),
            addresses: Slots::new(config.failures_per_address.get(), window),
        }
    }

    /// Lets the caller try, or says how long to wait.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TooManyFailures`].
    pub(crate) fn check(&self, caller: Caller<'_>) -> Result<()> {
        let now = self.now();
        let (account, address) = self.slots(caller);
        let wait = account.wait(now).max(address.map_or(0, |slot| slot.wait(now)));
        if wait == 0 {
            return Ok(());
        }
        Err(Error::TooManyFailures { wait: Duration::from_micros(wait) })
    }

    /// Counts a failure.
    pub(crate) fn record_failure(&self, caller: Caller<'_>) {
        let now = self.now();
        let (account, address) = self.slots(caller);
        account.add(now);
        if let Some(address) = address {
            address.add(now);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn slots(&self, caller: Caller<'_>) -> (Slot<'_>, Option<Slot<'_>>) {
        let account = self.accounts.slot(self.hash(caller.account));
        let address = caller.address.map(|address| match address.to_canonical() {
            IpAddr::V4(v4) => self.addresses.slot(self.hash(v4)),
            // A household has a whole /64.
            IpAddr::V6(v6) => self.addresses.slot(self.hash(v6.to_bits() >> 64)),
        });
        (account, address)
    }

    fn hash(&self, name: impl Hash) -> u64 {
        self.hasher.hash_one(name)
    }
}

impl Slots {
    const COUNT: u64 = 16_384;

    fn new(allowed: u32, window: Duration) -> Self {
        let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        Self {
            forgiven_at: (0..Self::COUNT).map(|_| AtomicU64::new(0)).collect(),
            each: (window / u64::from(allowed)).max(1),
            allowed: allowed.into(),
        }
    }

    fn slot(&self, hash: u64) -> Slot<'_> {
        static NEVER: AtomicU64 = AtomicU64::new(0);
        let index = usize::try_from(hash % Self::COUNT).unwrap_or(0);
        Slot { slots: self, forgiven_at: self.forgiven_at.get(index).unwrap_or(&NEVER) }
    }
}

struct Slot<'a> {
    slots: &'a Slots,
    forgiven_at: &'a AtomicU64,
}

impl Slot<'_> {
    /// Returns the microseconds until one more try is let through.
    fn wait(&self, now: u64) -> u64 {
        let Slots { each, allowed, .. } = self.slots;
        let owed = self.forgiven_at.load(Ordering::Relaxed).saturating_sub(now);
        owed.saturating_sub(each.saturating_mul(*allowed - 1))
    }

    fn add(&self, now: u64) {
        let add = |at: u64| Some(at.max(now).saturating_add(self.slots.each));
        // Fails never: the closure always answers.
        let _ = self.forgiven_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> LoginLimit {
        LoginLimit::new(&LoginConfig {
            failures_per_account: 3.try_into().unwrap(),
            failures_per_address: 5.try_into().unwrap(),
            window: Duration::from_secs(60).into(),
        })
    }

    fn caller<'a>(account: &'a str, address: &str) -> Caller<'a> {
        Caller { account, address: Some(address.parse().unwrap()) }
    }

    fn fail(limit: &LoginLimit, caller: Caller<'_>) -> bool {
        let is_let_in = limit.check(caller).is_ok();
        if is_let_in {
            limit.record_failure(caller);
        }
        is_let_in
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_is_refused_after_its_failures_and_let_in_again_one_by_one() {
        let limit = limit();
        for round in 0..3 {
            assert!(fail(&limit, caller("a@b.c", "10.0.0.1")), "{round}");
        }
        let error = limit.check(caller("a@b.c", "10.0.0.2")).unwrap_err();
        assert!(matches!(error, Error::TooManyFailures { wait } if wait.as_secs() == 20));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(fail(&limit, caller("a@b.c", "10.0.0.2")));
        assert!(!fail(&limit, caller("a@b.c", "10.0.0.2")));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!((0..3).all(|_| fail(&limit, caller("a@b.c", "10.0.0.3"))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_whatever_the_account_and_others_are_not() {
        let limit = limit();
        let names: Vec<_> = (0..6).map(|n| format!("{n}@b.c")).collect();
        let let_in = |name: &String| fail(&limit, caller(name, "::ffff:10.0.0.1"));
        assert_eq!(names.iter().map(let_in).filter(|is_let_in| *is_let_in).count(), 5);
        assert!(limit.check(caller("x@b.c", "10.0.0.1")).is_err(), "the same address");
        assert!(limit.check(caller("x@b.c", "10.0.0.2")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_household_shares_its_failures() {
        let limit = limit();
        for n in 0..5 {
            assert!(fail(&limit, caller(&format!("{n}@b.c"), &format!("2001:db8::{n}"))));
        }
        assert!(limit.check(caller("x@b.c", "2001:db8::ffff")).is_err());
        assert!(limit.check(caller("x@b.c", "2001:db8:0:1::1")).is_ok());
    }
}
