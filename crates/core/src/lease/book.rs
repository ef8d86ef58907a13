use std::collections::HashMap;
use std::sync::Arc;

use super::held::Signal;
use super::state::{LeaseEnd, LeaseState, LeaseStep};
use super::{Claim, Renewal};
use crate::Moment;

/// Most claims in one request.
pub(super) const BATCH: usize = 500;

/// Every lease of a keeper, and what it has to send when.
#[derive(Default)]
pub(super) struct Book {
    closed: bool,
    next: u64,
    held: HashMap<u64, Held>,
    releasing: Vec<Release>,
    lost: u64,
    /// When the keeper's task looks again by itself; `None` means never.
    wake: Option<Moment>,
}

struct Held {
    claim: Claim,
    state: LeaseState,
    signal: Arc<Signal>,
}

/// A claim that is to be given back.
pub(super) struct Release {
    pub(super) claim: Claim,
    pub(super) due: Moment,
    /// When the store has surely let go by itself.
    pub(super) moot: Moment,
}

/// What to send now, and when to look again.
pub(super) struct Plan {
    pub(super) batches: Vec<Request>,
    pub(super) wake: Option<Moment>,
}

pub(super) enum Request {
    Renew(Vec<(u64, Claim)>),
    Release(Vec<Release>),
}

impl Book {
    pub(super) fn hold(&mut self, claim: Claim, state: LeaseState, signal: &Arc<Signal>) -> u64 {
        let id = self.next;
        self.next += 1;
        if self.closed {
            signal.finish(LeaseEnd::Closed);
        } else {
            self.held.insert(id, Held { claim, state, signal: Arc::clone(signal) });
        }
        id
    }

    pub(super) fn forget(&mut self, id: u64) {
        let end = self.held.remove(&id).and_then(|held| held.signal.end());
        self.lost += u64::from(matches!(end, Some(LeaseEnd::Expired | LeaseEnd::Gone)));
    }

    /// Does nothing once closed: the close has sent this one with all others.
    pub(super) fn release(&mut self, release: Release) {
        if !self.closed {
            self.releasing.push(release);
        }
    }

    /// Tells whether the task would sleep past `moment`.
    pub(super) fn wakes_after(&self, moment: Moment) -> bool {
        self.wake.is_none_or(|wake| moment < wake)
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn releasing(&self) -> usize {
        self.releasing.len()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn oldest_renewal(&self) -> Option<Moment> {
        self.held.values().map(|held| held.state.confirmed()).min()
    }

    pub(super) fn forget_requests(&mut self, now: Moment) {
        for held in self.held.values_mut() {
            held.state.renewal_answered(now, Renewal::Unreachable);
        }
    }

    /// Notes an answer; `true` if it prolonged the lease.
    pub(super) fn answered(&mut self, id: u64, now: Moment, answer: Renewal) -> bool {
        // Released or lost meanwhile: the answer concerns nobody.
        let Some(held) = self.held.get_mut(&id) else {
            return false;
        };
        held.state.renewal_answered(now, answer);
        let prolonged = answer == Renewal::Renewed && held.state.is_held(now);
        if prolonged {
            held.signal.prolong(held.state.valid_until());
        }
        prolonged
    }

    /// Ends what is over, and takes at most `slots` batches of what is due.
    pub(super) fn plan(&mut self, now: Moment, slots: usize) -> Plan {
        let is_due = self.end_what_is_over(now);
        let renewals = if is_due { self.take_renewals(now, slots * BATCH) } else { Vec::new() };
        let mut batches: Vec<_> =
            renewals.chunks(BATCH).map(|batch| Request::Renew(batch.to_vec())).collect();
        while batches.len() < slots {
            let batch = self.take_releases(now);
            if batch.is_empty() {
                break;
            }
            batches.push(Request::Release(batch));
        }
        self.wake = self.next_event(now);
        Plan { batches, wake: self.wake }
    }

    /// Tells whether a renewal is due.
    fn end_what_is_over(&mut self, now: Moment) -> bool {
        let (mut is_due, mut lost) = (false, 0);
        self.held.retain(|_, held| {
            // A holder that looked at the clock may have been first.
            if let Some(end) = held.signal.end() {
                held.state.finish(end);
            }
            let step = held.state.step(now);
            if let LeaseStep::Ended(end) = step {
                held.signal.finish(end);
                lost += 1;
                return false;
            }
            is_due |= step == LeaseStep::Renew;
            true
        });
        self.lost += lost;
        is_due
    }

    fn take_renewals(&mut self, now: Moment, most: usize) -> Vec<(u64, Claim)> {
        let due = self.held.iter_mut().filter(|(_, held)| held.state.may_renew(now));
        due.take(most)
            .map(|(id, held)| {
                held.state.renewal_sent(now);
                (*id, held.claim.clone())
            })
            .collect()
    }

    fn take_releases(&mut self, now: Moment) -> Vec<Release> {
        self.releasing.retain(|release| now < release.moot);
        let mut room = BATCH;
        let taken = self.releasing.extract_if(.., |release| {
            let take = room > 0 && release.due <= now;
            room -= usize::from(take);
            take
        });
        taken.collect()
    }

    /// What is due and found no room goes when a request ends, not by time.
    fn next_event(&self, now: Moment) -> Option<Moment> {
        let held = self.held.values().map(|held| match held.state.peek(now) {
            LeaseStep::Wait(moment) => moment,
            LeaseStep::Renew | LeaseStep::Ended(_) => held.state.valid_until(),
        });
        let releasing = self.releasing.iter().map(|r| if r.due > now { r.due } else { r.moot });
        held.chain(releasing).min()
    }

    /// Ends every lease and returns all claims to give back.
    pub(super) fn close(&mut self) -> Vec<Claim> {
        self.closed = true;
        let mut claims: Vec<_> = self.releasing.drain(..).map(|release| release.claim).collect();
        for (_, held) in self.held.drain() {
            held.signal.finish(LeaseEnd::Closed);
            claims.push(held.claim);
        }
        claims
    }
}
