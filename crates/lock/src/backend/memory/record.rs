use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trine_core::{Claim, Fence, Moment};

use super::super::{Answer, Mode, StoreStats, Waiter, Want};
use super::left;
use crate::{HeldKey, Holder, HolderState, Key, ReleaseOutcome, Shape};

/// When something happens, and for how long what is next is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) moment: Moment,
    pub(super) wall: SystemTime,
    pub(super) claim_timeout: Duration,
}

/// Who has one key and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Record {
    grants: Vec<Grant>,
    line: VecDeque<Registered>,
    /// Until when the key is kept for the first in line, who was told.
    kept_until: Option<Moment>,
}

#[derive(Debug)]
struct Grant {
    fence: Fence,
    shape: Shape,
    slot: Option<u32>,
    process: Arc<str>,
    label: Option<Arc<str>>,
    since: SystemTime,
    expires: Moment,
    at_least: Option<Moment>,
    at_most: Option<Moment>,
    /// Let go before `at_least`.
    is_kept: bool,
}

#[derive(Debug)]
struct Registered {
    waiter: Waiter,
    shape: Shape,
    since: SystemTime,
}

impl Record {
    pub(super) fn is_over(&self) -> bool {
        self.grants.is_empty() && self.line.is_empty()
    }

    /// Lets go of what is over, and keeps a free key for who is next; `tell`
    /// says whether there is anybody to be told.
    pub(super) fn settle(&mut self, now: Now, tell: &mut dyn FnMut(&Waiter) -> bool) {
        self.grants.retain_mut(|grant| grant.is_there(now.moment));
        while let Some(first) = self.line.front() {
            if !fits(&self.grants, first.shape) {
                self.kept_until = None;
                return;
            }
            match self.kept_until {
                Some(until) if now.moment < until => return,
                None if tell(&first.waiter) => {
                    self.kept_until = Some(now.moment + now.claim_timeout);
                    return;
                }
                // It did not come in time, or is not there any more.
                Some(_) | None => {
                    self.line.pop_front();
                    self.kept_until = None;
                }
            }
        }
        self.kept_until = None;
    }

    /// Reads may pass reads; else who is ahead goes first.
    pub(super) fn is_free_for(&self, want: &Want) -> bool {
        let ahead = self.place(want).unwrap_or(self.line.len());
        let mut ahead = self.line.iter().take(ahead);
        let is_read = |shape| shape == Shape::Read;
        want.mode == Mode::Steal
            || fits(&self.grants, want.shape)
                && ahead.all(|other| is_read(other.shape) && is_read(want.shape))
    }

    /// Where a waiter is in line; who only tries is nowhere.
    fn place(&self, want: &Want) -> Option<usize> {
        let waits = matches!(want.mode, Mode::Wait { .. });
        self.line.iter().position(|other| waits && other.waiter == want.waiter)
    }

    /// The lowest number that no permit has.
    pub(super) fn slot(&self, shape: Shape) -> Option<u32> {
        let taken = |slot| self.grants.iter().any(|grant| grant.slot == Some(slot));
        matches!(shape, Shape::Permit { .. }).then(|| (0..u32::MAX).find(|slot| !taken(*slot)))?
    }

    pub(super) fn grant(&mut self, now: Now, want: &Want, slot: Option<u32>, fence: &Fence) {
        if let Some(place) = self.place(want) {
            self.line.remove(place);
            if place == 0 {
                self.kept_until = None;
            }
        }
        let at_most = want.terms.at_most().map(|at_most| now.moment + at_most);
        let expires = now.moment + want.terms.ttl();
        self.grants.push(Grant {
            fence: fence.clone(),
            shape: want.shape,
            slot,
            process: Arc::clone(&want.waiter.process),
            label: want.label.clone(),
            since: now.wall,
            expires: at_most.map_or(expires, |at_most| at_most.min(expires)),
            at_least: want.at_least.map(|at_least| now.moment + at_least),
            at_most,
            is_kept: false,
        });
        if let Mode::Wait { next: Some(shape) } = want.mode {
            self.register(now, &want.waiter, shape);
        }
    }

    fn register(&mut self, now: Now, waiter: &Waiter, shape: Shape) {
        match self.line.iter_mut().find(|other| other.waiter == *waiter) {
            Some(known) => known.shape = shape,
            None => {
                let waiter = waiter.clone();
                self.line.push_back(Registered { waiter, shape, since: now.wall });
            }
        }
    }

    /// Registers who waits, and says who has the key.
    pub(super) fn refuse(&mut self, now: Now, want: &Want) -> Answer {
        if matches!(want.mode, Mode::Wait { .. }) {
            self.register(now, &want.waiter, want.shape);
        }
        let next = self.line.front().zip(self.kept_until);
        let next = next.filter(|_| fits(&self.grants, want.shape));
        let until = match (next, want.shape) {
            (Some((_, until)), _) => Some(until),
            (None, Shape::Permit { .. }) => self.grants.iter().map(|grant| grant.expires).min(),
            (None, _) => self.grants.iter().map(|grant| grant.expires).max(),
        };
        let holder = match (next, self.grants.first()) {
            (None, Some(grant)) => grant.holder(now),
            _ => self.next_holder(now, want),
        };
        let retry_in = left(now.moment, until.unwrap_or(now.moment + now.claim_timeout));
        Answer::Held { holder, retry_in }
    }

    /// Who is next, or if the line is empty, who asks.
    fn next_holder(&self, now: Now, want: &Want) -> Holder {
        let first = self.line.front();
        let (process, shape, since) = match first {
            Some(first) => (&first.waiter.process, first.shape, first.since),
            None => (&want.waiter.process, want.shape, now.wall),
        };
        let expires_in = self.kept_until.map(|until| left(now.moment, until)).unwrap_or_default();
        Holder::new(Arc::clone(process), shape, since, expires_in, HolderState::Next)
    }

    pub(super) fn renew(&mut self, now: Moment, claim: &Claim) -> bool {
        let live = self.grants.iter_mut().filter(|grant| !grant.is_kept);
        let Some(grant) = live.into_iter().find(|grant| grant.fence == *claim.fence()) else {
            return false;
        };
        let until = now + claim.terms().ttl();
        let until = grant.at_most.map_or(until, |at_most| at_most.min(until));
        grant.expires = grant.expires.max(until);
        true
    }

    pub(super) fn release(&mut self, now: Moment, fence: &Fence) -> ReleaseOutcome {
        let Some(place) = self.grants.iter().position(|grant| grant.fence == *fence) else {
            let is_free = self.grants.is_empty();
            return if is_free { ReleaseOutcome::NotHeld } else { ReleaseOutcome::HeldByOther };
        };
        if !self.grants.get_mut(place).is_some_and(|grant| grant.keep(now)) {
            self.grants.remove(place);
        }
        ReleaseOutcome::Released
    }

    pub(super) fn withdraw(&mut self, waiter: &Waiter) {
        if self.line.front().is_some_and(|first| first.waiter == *waiter) {
            self.kept_until = None;
        }
        self.line.retain(|other| other.waiter != *waiter);
    }

    /// Ends every grant, and returns whose they were.
    pub(super) fn end_all(&mut self) -> Vec<(Arc<str>, Fence)> {
        self.grants.drain(..).map(|grant| (grant.process, grant.fence)).collect()
    }

    /// As it is now, without settling: nobody is told by a look.
    pub(super) fn held_key(&self, now: Now, key: &Key) -> Option<HeldKey> {
        let there = self.grants.iter().filter(|grant| grant.ends() > now.moment);
        let holders: Vec<_> = there.map(|grant| grant.holder(now)).collect();
        if holders.is_empty() && self.line.is_empty() {
            return None;
        }
        Some(HeldKey::new(key.clone(), holders, self.line.len() as u64))
    }

    pub(super) fn count(&self, stats: &mut StoreStats) {
        stats.grants += self.grants.len() as u64;
        stats.waiters += self.line.len() as u64;
    }
}

impl Grant {
    /// When it is over without a renewal.
    fn ends(&self) -> Moment {
        self.at_least.map_or(self.expires, |at_least| at_least.max(self.expires))
    }

    /// Whether it is there, kept if its holder is gone.
    fn is_there(&mut self, now: Moment) -> bool {
        now < self.expires || self.keep(now)
    }

    /// Keeps it for what is left of its least time; `false` if nothing is.
    fn keep(&mut self, now: Moment) -> bool {
        let Some(at_least) = self.at_least.filter(|at_least| now < *at_least) else {
            return false;
        };
        (self.is_kept, self.expires) = (true, at_least);
        true
    }

    fn holder(&self, now: Now) -> Holder {
        let token = self.fence.token();
        let state =
            if self.is_kept { HolderState::Kept { token } } else { HolderState::Holding { token } };
        let expires_in = left(now.moment, self.expires);
        let process = Arc::clone(&self.process);
        Holder::new(process, self.shape, self.since, expires_in, state)
            .with_label(self.label.clone())
    }
}

/// Whether one more of this shape leaves the others what is theirs.
fn fits(grants: &[Grant], shape: Shape) -> bool {
    let all_are = |is: fn(Shape) -> bool| grants.iter().all(|grant| is(grant.shape));
    match shape {
        Shape::Write => grants.is_empty(),
        Shape::Read => all_are(|shape| shape == Shape::Read),
        Shape::Permit { of } => {
            let most = usize::try_from(of.get()).unwrap_or(usize::MAX);
            grants.len() < most && all_are(|shape| matches!(shape, Shape::Permit { .. }))
        }
    }
}
