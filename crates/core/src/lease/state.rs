use std::time::Duration;

use super::{LeaseTerms, Renewal};
use crate::Moment;

/// Why a lease is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// No renewal was confirmed in time.
    Expired,
    /// The store said that the grant is gone.
    Gone,
    /// The holder gave it back.
    Released,
    /// The keeper was shut down.
    Closed,
}

/// The rules of holding a claim, without I/O and without a clock: every input
/// carries its moment, on a clock that counts suspend.
///
/// The lease is good until t0 + ttl − margin, where t0 is the moment at which
/// the last *confirmed* acquire or renewal was *sent*: the store cannot have
/// counted from earlier. Once over, no answer brings it back.
#[derive(Clone, Copy, Debug)]
pub struct LeaseState {
    terms: LeaseTerms,
    /// t0.
    sent: Moment,
    next: Moment,
    pending: Option<Pending>,
    /// When it is over in any case.
    last: Option<Moment>,
    end: Option<LeaseEnd>,
}

/// A renewal without an answer.
#[derive(Clone, Copy, Debug)]
struct Pending {
    sent: Moment,
    terms: LeaseTerms,
}

/// What is to be done for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Nothing before this moment.
    Wait(Moment),
    /// A renewal is due.
    Renew,
    /// It is over.
    Ended(LeaseEnd),
}

impl LeaseState {
    /// Returns the state after an acquire that was sent at `sent` and granted.
    #[must_use]
    pub fn granted(terms: LeaseTerms, sent: Moment) -> Self {
        let last = terms.last().map(|last| sent + last);
        Self { terms, sent, next: sent + terms.renewal(), pending: None, last, end: None }
    }

    /// Returns the moment at which the lease is lost without another renewal.
    #[must_use]
    pub fn valid_until(&self) -> Moment {
        let until = self.sent + (self.terms.ttl() - self.terms.margin());
        self.last.map_or(until, |last| last.min(until))
    }

    /// Tells whether the holder may still act at `now`.
    #[must_use]
    pub fn is_held(&self, now: Moment) -> bool {
        self.end.is_none() && now < self.valid_until()
    }

    /// Returns when the last confirmed acquire or renewal was sent.
    #[must_use]
    pub fn confirmed(&self) -> Moment {
        self.sent
    }

    /// Lets time pass until `now` and returns what is to be done.
    pub fn step(&mut self, now: Moment) -> LeaseStep {
        let _ = self.end(now);
        self.peek(now)
    }

    /// Returns what is to be done at `now`, without noting that time has passed.
    #[must_use]
    pub fn peek(&self, now: Moment) -> LeaseStep {
        if !self.is_held(now) {
            return LeaseStep::Ended(self.end.unwrap_or(LeaseEnd::Expired));
        }
        match self.pending {
            None if now >= self.next => LeaseStep::Renew,
            None => LeaseStep::Wait(self.next.min(self.valid_until())),
            Some(_) => LeaseStep::Wait(self.valid_until()),
        }
    }

    /// Tells whether a renewal is due soon enough to go with others now.
    #[must_use]
    pub fn may_renew(&self, now: Moment) -> bool {
        self.is_held(now) && self.pending.is_none() && now + self.terms.early() >= self.next
    }

    /// Returns until when the answer to a renewal that is sent at `now` is worth
    /// waiting for: a third of the ttl, at most half of what is left, so that
    /// there is time for another try.
    #[must_use]
    pub fn patience(&self, now: Moment) -> Moment {
        now + self.terms.renewal().min(self.half_of_the_rest(now))
    }

    /// Notes that a renewal is being sent at `now`.
    pub fn renewal_sent(&mut self, now: Moment) {
        self.extension_sent(now, self.terms);
    }

    /// Notes that a renewal is being sent at `now` that asks for other terms:
    /// they hold from its confirmation on. How long the lease lasts at most
    /// does not change.
    pub fn extension_sent(&mut self, now: Moment, terms: LeaseTerms) {
        self.pending = Some(Pending { sent: now, terms });
    }

    /// Makes the next renewal due at once.
    pub fn renew_now(&mut self) {
        self.next = self.sent;
    }

    /// Notes at `now` what became of the renewal that was sent last. Without
    /// one, nothing happens.
    pub fn renewal_answered(&mut self, now: Moment, answer: Renewal) {
        let Some(Pending { sent, terms }) = self.pending.take() else {
            return;
        };
        if self.end(now).is_some() {
            return;
        }
        match answer {
            Renewal::Renewed => {
                (self.sent, self.terms) = (sent, terms);
                self.next = sent + terms.renewal();
            }
            Renewal::Gone => self.end = Some(LeaseEnd::Gone),
            Renewal::Unreachable => {
                self.next = now + self.terms.retry().min(self.half_of_the_rest(now));
            }
        }
    }

    /// Ends the lease, unless it is over already.
    pub fn finish(&mut self, end: LeaseEnd) {
        self.end.get_or_insert(end);
    }

    fn half_of_the_rest(&self, now: Moment) -> Duration {
        self.valid_until().saturating_since(now) / 2
    }

    fn end(&mut self, now: Moment) -> Option<LeaseEnd> {
        if now >= self.valid_until() {
            self.finish(LeaseEnd::Expired);
        }
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_elapsed(Duration::from_millis(millis))
    }

    /// ttl 300, margin 30: renewals every 100, lost at 270.
    fn granted() -> LeaseState {
        let millis = Duration::from_millis;
        LeaseState::granted(LeaseTerms::new(millis(300), millis(30)).unwrap(), at(0))
    }

    #[test]
    fn it_is_renewed_at_a_third_and_lost_at_ttl_minus_margin() {
        let mut lease = granted();
        assert_eq!(lease.step(at(99)), LeaseStep::Wait(at(100)));
        assert_eq!(lease.step(at(100)), LeaseStep::Renew);
        assert!(lease.is_held(at(269)) && !lease.is_held(at(270)));
        assert_eq!(lease.step(at(270)), LeaseStep::Ended(LeaseEnd::Expired));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent() {
        let mut lease = granted();
        lease.renewal_sent(at(100));
        assert_eq!(lease.step(at(150)), LeaseStep::Wait(at(270)));
        lease.renewal_answered(at(190), Renewal::Renewed);
        assert_eq!(lease.valid_until(), at(370));
        assert_eq!(lease.step(at(190)), LeaseStep::Wait(at(200)));
    }

    #[test]
    fn an_answer_that_comes_too_late_brings_nothing_back() {
        let mut lease = granted();
        lease.renewal_sent(at(200));
        lease.renewal_answered(at(270), Renewal::Renewed);
        assert!(!lease.is_held(at(270)));
        assert_eq!(lease.step(at(271)), LeaseStep::Ended(LeaseEnd::Expired));
    }

    #[test]
    fn gone_ends_at_once_and_unreachable_does_not() {
        let mut lease = granted();
        lease.renewal_sent(at(100));
        lease.renewal_answered(at(110), Renewal::Unreachable);
        assert!(lease.is_held(at(110)));
        assert_eq!(lease.step(at(110)), LeaseStep::Wait(at(140)));
        lease.renewal_sent(at(140));
        lease.renewal_answered(at(150), Renewal::Gone);
        assert!(!lease.is_held(at(150)));
        assert_eq!(lease.step(at(150)), LeaseStep::Ended(LeaseEnd::Gone));
    }

    /// The margin is half the ttl, so that the first renewal finds a third of the
    /// lease's time left.
    #[test]
    fn a_request_that_stalls_leaves_time_for_another() {
        let millis = Duration::from_millis;
        let terms = LeaseTerms::new(millis(300), millis(150)).unwrap();
        let mut lease = LeaseState::granted(terms, at(0));
        lease.renewal_sent(at(100));
        assert_eq!(lease.patience(at(100)), at(125));
        lease.renewal_answered(at(125), Renewal::Unreachable);
        assert_eq!(lease.step(at(125)), LeaseStep::Wait(Moment::from_elapsed(millis(275) / 2)));
        assert_eq!(granted().patience(at(100)), at(185));
    }

    #[test]
    fn an_extension_holds_from_its_confirmation_on() {
        let millis = Duration::from_millis;
        let mut lease = granted();
        lease.renew_now();
        assert_eq!(lease.step(at(10)), LeaseStep::Renew);
        lease.extension_sent(at(10), LeaseTerms::new(millis(900), millis(90)).unwrap());
        assert_eq!(lease.valid_until(), at(270));
        lease.renewal_answered(at(20), Renewal::Renewed);
        assert_eq!(lease.valid_until(), at(820));
        assert_eq!(lease.step(at(20)), LeaseStep::Wait(at(310)));
        lease.extension_sent(at(310), LeaseTerms::new(millis(9_000), millis(0)).unwrap());
        lease.renewal_answered(at(320), Renewal::Unreachable);
        assert_eq!(lease.valid_until(), at(820));
    }

    /// Of 1,000 the tenth that the margin is of the ttl is not used.
    #[test]
    fn a_bounded_lease_is_over_however_often_it_is_renewed() {
        let millis = Duration::from_millis;
        let terms = LeaseTerms::new(millis(300), millis(30)).unwrap().with_at_most(millis(1_000));
        let mut lease = LeaseState::granted(terms, at(0));
        for now in (100..=800).step_by(100) {
            lease.renewal_sent(at(now));
            lease.renewal_answered(at(now), Renewal::Renewed);
            assert_eq!(lease.valid_until(), at((now + 270).min(900)));
        }
        assert!(lease.is_held(at(899)));
        assert_eq!(lease.step(at(900)), LeaseStep::Ended(LeaseEnd::Expired));
    }

    #[test]
    fn the_first_end_stays() {
        let mut lease = granted();
        lease.finish(LeaseEnd::Released);
        lease.finish(LeaseEnd::Gone);
        assert_eq!(lease.step(at(999)), LeaseStep::Ended(LeaseEnd::Released));
    }

    #[test]
    fn a_renewal_may_go_a_little_early_with_others() {
        let lease = granted();
        assert!(!lease.may_renew(at(74)));
        assert!(lease.may_renew(at(75)));
        assert!(!lease.may_renew(at(270)));
    }
}
