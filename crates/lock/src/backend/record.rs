mod grant;
mod time;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trine_core::Claim;

use super::{Answer, Mode, StoreStats, Waiter, Want};
use crate::{HeldKey, Holder, HolderState, Key, ReleaseOutcome, Shape};

use self::grant::{Form, Grant};

pub(super) use grant::GrantName;
pub(super) use time::Micros;

/// When something happens, and for how long what is next is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// On the clock by which the store counts.
    pub(super) time: Micros,
    /// On the clock that people read.
    pub(super) wall: Micros,
    pub(super) claim_timeout: Duration,
}

/// Who has one key and who waits for it. Stores that keep it as a text share
/// the short names of its fields with other releases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    grants: Vec<Grant>,
    #[serde(rename = "q", default, skip_serializing_if = "VecDeque::is_empty")]
    line: VecDeque<Registered>,
    /// Until when the key is kept for the first in line, who was told.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    kept_until: Option<Micros>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Registered {
    #[serde(rename = "p")]
    process: Arc<str>,
    #[serde(rename = "i", default, skip_serializing_if = "is_zero")]
    lane: u64,
    #[serde(rename = "s", with = "Form")]
    shape: Shape,
    #[serde(rename = "b")]
    since: Micros,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(lane: &u64) -> bool {
    *lane == 0
}

/// What a record answers to a [`Want`].
#[derive(Debug)]
pub(super) enum Asked {
    /// It is granted, and the grants of these processes were ended for it.
    Granted { name: GrantName, ended: Vec<(Arc<str>, GrantName)> },
    /// It is somebody's.
    Held(Answer),
}

impl Record {
    pub(super) fn is_over(&self) -> bool {
        self.grants.is_empty() && self.line.is_empty()
    }

    /// When nothing of it is of use any more unless somebody comes, or at the
    /// latest when the next in line is to be looked for.
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    pub(super) fn ends(&self, now: Now) -> Micros {
        let grants = self.grants.iter().map(Grant::ends);
        grants.chain(self.kept_until).max().unwrap_or(now.time)
    }

    /// Lets go of what is over, and keeps a free key for who is next; `tell`
    /// says whether there is anybody to be told.
    pub(super) fn settle(&mut self, now: Now, tell: &mut dyn FnMut(&Waiter) -> bool) {
        self.grants.retain_mut(|grant| grant.is_there(now.time));
        while let Some(first) = self.line.front() {
            if !fits(&self.grants, first.shape) {
                self.kept_until = None;
                return;
            }
            match self.kept_until {
                Some(until) if now.time < until => return,
                None if tell(&first.waiter()) => {
                    self.kept_until = Some(now.time + now.claim_timeout);
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

    /// Grants the key under `token`, or says who has it. A request that was
    /// granted before has the same grant again.
    pub(super) fn ask(&mut self, now: Now, want: &Want, token: u64) -> Asked {
        if let Some(name) = self.again(now, want) {
            return Asked::Granted { name, ended: Vec::new() };
        }
        let ended = if want.mode == Mode::Steal { self.end_all() } else { Vec::new() };
        if !self.is_free_for(want) {
            return Asked::Held(self.refuse(now, want));
        }
        let name = GrantName { slot: self.slot(want.shape), token };
        self.grant(now, want, name);
        Asked::Granted { name, ended }
    }

    /// Finds what this very request was granted when its answer was lost, and
    /// counts its times from now on, as its holder does.
    fn again(&mut self, now: Now, want: &Want) -> Option<GrantName> {
        let mut live = self.grants.iter_mut().filter(|grant| !grant.is_kept);
        let grant =
            live.find(|grant| grant.nonce == want.nonce && grant.process == want.waiter.process)?;
        grant.begin(now.time, want);
        Some(grant.name())
    }

    /// Reads may pass reads; else who is ahead goes first.
    fn is_free_for(&self, want: &Want) -> bool {
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
        self.line.iter().position(|other| waits && other.is(&want.waiter))
    }

    /// The lowest number that no permit has.
    fn slot(&self, shape: Shape) -> Option<u32> {
        let taken = |slot| self.grants.iter().any(|grant| grant.slot == Some(slot));
        matches!(shape, Shape::Permit { .. }).then(|| (0..u32::MAX).find(|slot| !taken(*slot)))?
    }

    fn grant(&mut self, now: Now, want: &Want, name: GrantName) {
        if let Some(place) = self.place(want) {
            self.line.remove(place);
            if place == 0 {
                self.kept_until = None;
            }
        }
        let mut grant = Grant {
            token: name.token,
            slot: name.slot,
            shape: want.shape,
            process: Arc::clone(&want.waiter.process),
            label: want.label.clone(),
            since: now.wall,
            expires: now.time,
            at_least: want.at_least.map(|at_least| now.time + at_least),
            at_most: None,
            is_kept: false,
            nonce: want.nonce,
        };
        grant.begin(now.time, want);
        self.grants.push(grant);
        if let Mode::Wait { next: Some(shape) } = want.mode {
            self.register(now, &want.waiter, shape);
        }
    }

    fn register(&mut self, now: Now, waiter: &Waiter, shape: Shape) {
        match self.line.iter_mut().find(|other| other.is(waiter)) {
            Some(known) => known.shape = shape,
            None => {
                let (process, lane) = (Arc::clone(&waiter.process), waiter.lane);
                self.line.push_back(Registered { process, lane, shape, since: now.wall });
            }
        }
    }

    /// Registers who waits, and says who has the key.
    fn refuse(&mut self, now: Now, want: &Want) -> Answer {
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
        let retry_in = until.unwrap_or(now.time + now.claim_timeout).since(now.time);
        Answer::Held { holder, retry_in }
    }

    /// Who is next, or if the line is empty, who asks.
    fn next_holder(&self, now: Now, want: &Want) -> Holder {
        let first = self.line.front();
        let (process, shape, since) = match first {
            Some(first) => (&first.process, first.shape, first.since),
            None => (&want.waiter.process, want.shape, now.wall),
        };
        let expires_in = self.kept_until.map(|until| until.since(now.time)).unwrap_or_default();
        let process = Arc::clone(process);
        Holder::new(process, shape, since.into(), expires_in, HolderState::Next)
    }

    pub(super) fn renew(&mut self, now: Micros, name: GrantName, claim: &Claim) -> bool {
        let live = self.grants.iter_mut().filter(|grant| !grant.is_kept);
        let Some(grant) = live.into_iter().find(|grant| grant.name() == name) else {
            return false;
        };
        let until = grant.bounded(now + claim.terms().ttl());
        grant.expires = grant.expires.max(until);
        true
    }

    pub(super) fn release(&mut self, now: Micros, name: GrantName) -> ReleaseOutcome {
        let Some(place) = self.grants.iter().position(|grant| grant.name() == name) else {
            let is_free = self.grants.is_empty();
            return if is_free { ReleaseOutcome::NotHeld } else { ReleaseOutcome::HeldByOther };
        };
        self.end(now, place);
        ReleaseOutcome::Released
    }

    /// Gives back what this request was granted, if its answer went to nobody.
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    pub(super) fn forget(&mut self, now: Micros, want: &Want) -> bool {
        let mut grants = self.grants.iter();
        let place = grants
            .position(|grant| grant.nonce == want.nonce && grant.process == want.waiter.process);
        if let Some(place) = place {
            self.end(now, place);
        }
        place.is_some()
    }

    fn end(&mut self, now: Micros, place: usize) {
        if !self.grants.get_mut(place).is_some_and(|grant| grant.keep(now)) {
            self.grants.remove(place);
        }
    }

    pub(super) fn withdraw(&mut self, waiter: &Waiter) {
        if self.line.front().is_some_and(|first| first.is(waiter)) {
            self.kept_until = None;
        }
        self.line.retain(|other| !other.is(waiter));
    }

    /// Ends every grant, and returns whose they were.
    fn end_all(&mut self) -> Vec<(Arc<str>, GrantName)> {
        let grants = self.grants.drain(..);
        grants.map(|grant| (Arc::clone(&grant.process), grant.name())).collect()
    }

    /// As it is now, without settling: nobody is told by a look.
    pub(super) fn held_key(&self, now: Now, key: &Key) -> Option<HeldKey> {
        let there = self.grants.iter().filter(|grant| grant.ends() > now.time);
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

impl Registered {
    fn is(&self, waiter: &Waiter) -> bool {
        self.lane == waiter.lane && self.process == waiter.process
    }

    fn waiter(&self) -> Waiter {
        Waiter { process: Arc::clone(&self.process), lane: self.lane }
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
