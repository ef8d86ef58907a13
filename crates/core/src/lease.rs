use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::{BoxFault, Fence};

mod book;
pub(crate) mod held;
pub(crate) mod keeper;
#[cfg(test)]
mod keeper_tests;
#[cfg(test)]
mod model;
pub(crate) mod state;

/// How long a claim is good for without a renewal, and how much of that its
/// holder does not use.
///
/// The holder lets go `margin` before the store can, so that two clocks may
/// differ in rate by up to margin / ttl. Renewals are sent every third of the
/// ttl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    ttl: Duration,
    margin: Duration,
    at_most: Option<Duration>,
}

impl LeaseTerms {
    /// Shortest ttl: a renewal is a round trip and timers tick at 1 ms.
    pub const MIN_TTL: Duration = Duration::from_millis(30);

    /// Returns these terms.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidTerms`] if the ttl is below
    /// [`MIN_TTL`](Self::MIN_TTL) or the margin above half the ttl.
    pub fn new(ttl: Duration, margin: Duration) -> Result<Self, InvalidTerms> {
        if ttl < Self::MIN_TTL || margin > ttl / 2 {
            return Err(InvalidTerms { ttl, margin });
        }
        Ok(Self { ttl, margin, at_most: None })
    }

    /// Sets how long the claim lasts in all, however often it is renewed: the
    /// store ends it so long after the grant, and the holder lets go earlier by
    /// the same part of it as the margin is of the ttl.
    #[must_use]
    pub fn with_at_most(mut self, at_most: Duration) -> Self {
        self.at_most = Some(at_most);
        self
    }

    /// Returns how long the store keeps the claim after it processed a renewal.
    #[must_use]
    pub fn ttl(self) -> Duration {
        self.ttl
    }

    /// Returns how much earlier the holder lets go.
    #[must_use]
    pub fn margin(self) -> Duration {
        self.margin
    }

    /// Returns how long the claim lasts in all, if that is bounded.
    #[must_use]
    pub fn at_most(self) -> Option<Duration> {
        self.at_most
    }

    /// How long after the acquire was sent its holder lets go in any case.
    fn last(self) -> Option<Duration> {
        let at_most = self.at_most?.as_nanos();
        let slack = at_most.saturating_mul(self.margin.as_nanos()).div_ceil(self.ttl.as_nanos());
        let last = u64::try_from(at_most.saturating_sub(slack)).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(last))
    }

    /// Time between two renewals, and the longest wait for an answer.
    fn renewal(self) -> Duration {
        self.ttl / 3
    }

    /// Longest time until the next try after one that reached nobody.
    fn retry(self) -> Duration {
        self.ttl / 10
    }

    /// How much earlier a renewal may go with the batch of another.
    fn early(self) -> Duration {
        self.ttl / 12
    }
}

/// Terms that leave no room for renewals.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "lease ttl {ttl:?}, margin {margin:?}: expected a ttl of 30 ms or more and a margin of at most half of it"
)]
pub struct InvalidTerms {
    ttl: Duration,
    margin: Duration,
}

/// What a holder shows to the store: which grant of which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    fence: Fence,
    terms: LeaseTerms,
}

impl Claim {
    /// Returns the claim of the grant `fence`.
    #[must_use]
    pub fn new(fence: Fence, terms: LeaseTerms) -> Self {
        Self { fence, terms }
    }

    /// Returns key and token of the grant.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Returns the terms.
    #[must_use]
    pub fn terms(&self) -> LeaseTerms {
        self.terms
    }
}

/// What became of one renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The store holds the claim for another ttl from when it processed this.
    Renewed,
    /// The store does not hold this grant any more: expired, released or given
    /// to another.
    Gone,
    /// Nobody knows.
    Unreachable,
}

/// A store of claims that can be renewed and given back in batches.
#[async_trait]
pub trait Leases: fmt::Debug + Send + Sync + 'static {
    /// Renews each claim by its ttl, counted by the store's own clock, and
    /// answers one [`Renewal`] per claim in their order; claims without an
    /// answer count as [`Unreachable`](Renewal::Unreachable).
    ///
    /// Must compare key and token, must never bring back a grant that has
    /// expired or was released, must never move the end of one to an earlier
    /// moment (an old renewal may arrive after one with a longer ttl), and
    /// never beyond what [`LeaseTerms::at_most`] was when it was granted. The
    /// future may be dropped at any time.
    ///
    /// # Errors
    ///
    /// Fails if nothing is known of any claim.
    async fn renew(&self, batch: &[Claim]) -> Result<Vec<Renewal>, BoxFault>;

    /// Gives the claims back, as far as the store still holds these grants.
    ///
    /// Idempotent. The future may be dropped at any time.
    ///
    /// # Errors
    ///
    /// Fails if some may not be given back; they are sent again.
    async fn release(&self, batch: &[Claim]) -> Result<(), BoxFault>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_leave_room_for_renewals() {
        let terms = |ttl, margin| {
            LeaseTerms::new(Duration::from_millis(ttl), Duration::from_millis(margin))
        };
        assert!(terms(30, 15).is_ok() && terms(1_000, 0).is_ok());
        assert!(terms(29, 0).is_err() && terms(100, 51).is_err());
    }
}
