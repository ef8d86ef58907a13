use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::held::Signal;
use super::state::{LeaseEnd, LeaseState, LeaseStep};
use super::{Claim, LeaseTerms, Renewal};
use crate::Moment;

/// Most claims in one request.
pub(super) const BATCH: usize = 500;

/// Every lease of a keeper, and what it has to send when.
#[derive(Default)]
pub(super) struct Book {
    closed: bool,
    next: u64,
    held: HashMap<u64, Held>,
    /// What is not known to be given back, in the order of coming.
    releasing: BTreeMap<u64, Release>,
    late: Late,
    lost: u64,
    /// When the keeper's task looks again by itself; `None` means never.
    wake: Option<Moment>,
}

struct Held {
    claim: Claim,
    state: LeaseState,
    signal: Arc<Signal>,
    /// What the next renewal asks for beside more time.
    wanted: Option<Extension>,
    /// What the one under way asks for.
    asked: Option<Extension>,
}

/// Other terms for a lease, and who waits to hear of them.
struct Extension {
    terms: LeaseTerms,
    answers: Vec<oneshot::Sender<Renewal>>,
}

impl Held {
    /// Notes that a renewal is being sent, and returns what it shows.
    fn send(&mut self, now: Moment) -> Claim {
        self.asked = self.wanted.take();
        let terms = self.asked.as_ref().map_or(self.claim.terms(), |asked| asked.terms);
        self.state.extension_sent(now, terms);
        Claim::new(self.claim.fence().clone(), terms)
    }

    /// Notes an answer; `true` if it prolonged the lease.
    fn answered(&mut self, now: Moment, answer: Renewal) -> bool {
        self.state.renewal_answered(now, answer);
        let is_prolonged = answer == Renewal::Renewed && self.state.is_held(now);
        if is_prolonged {
            self.signal.prolong(self.state.valid_until());
        }
        if let Some(Extension { terms, answers }) = self.asked.take() {
            if answer == Renewal::Renewed {
                self.claim = Claim::new(self.claim.fence().clone(), terms);
            }
            let is_late = answer == Renewal::Renewed && !is_prolonged;
            let answer = if is_late { Renewal::Gone } else { answer };
            for waiting in answers {
                // Whoever does not wait any more does not mind.
                let _ = waiting.send(answer);
            }
        }
        if self.wanted.is_some() {
            self.state.renew_now();
        }
        is_prolonged
    }
}

/// A claim that is to be given back, until the store has answered that it was.
struct Release {
    claim: Claim,
    due: Moment,
    /// When the store has surely let go by itself.
    moot: Moment,
    is_under_way: bool,
}

/// Claims that came after the close.
#[derive(Default)]
struct Late {
    claims: Vec<Claim>,
    /// Whether somebody sends them.
    is_sending: bool,
}

/// What to send now, and when to look again.
pub(super) struct Plan {
    pub(super) batches: Vec<Request>,
    pub(super) wake: Option<Moment>,
}

/// One request; its answer is waited for until the moment.
pub(super) enum Request {
    Renew(Vec<(u64, Claim)>, Moment),
    Release(Vec<(u64, Claim)>, Moment),
}

/// What becomes of a claim that is to be given back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveBack {
    /// The keeper's task, or who sends late claims, takes care of it.
    Noted,
    /// The keeper was closed: somebody must begin to send what is late.
    BeginLate,
}

impl Book {
    /// Returns `None` once closed.
    pub(super) fn hold(
        &mut self,
        claim: Claim,
        state: LeaseState,
        signal: &Arc<Signal>,
    ) -> Option<u64> {
        if self.closed {
            return None;
        }
        let id = self.next_id();
        let signal = Arc::clone(signal);
        self.held.insert(id, Held { claim, state, signal, wanted: None, asked: None });
        Some(id)
    }

    /// Has the lease renewed at once for other terms; the receiver hears nothing
    /// if it is over.
    pub(super) fn extend(&mut self, id: u64, terms: LeaseTerms) -> oneshot::Receiver<Renewal> {
        let (sender, receiver) = oneshot::channel();
        if let Some(held) = self.held.get_mut(&id) {
            let answers = held.wanted.take().map(|wanted| wanted.answers);
            let answers = answers.into_iter().flatten().chain([sender]).collect();
            held.wanted = Some(Extension { terms, answers });
            held.state.renew_now();
        }
        receiver
    }

    /// Has every lease renewed at once.
    pub(super) fn renew_all(&mut self) {
        for held in self.held.values_mut() {
            held.state.renew_now();
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn forget(&mut self, id: u64) {
        let end = self.held.remove(&id).and_then(|held| held.signal.end());
        self.lost += u64::from(matches!(end, Some(LeaseEnd::Expired | LeaseEnd::Gone)));
    }

    pub(super) fn give_back(&mut self, claim: Claim, due: Moment, moot: Moment) -> GiveBack {
        if !self.closed {
            let id = self.next_id();
            self.releasing.insert(id, Release { claim, due, moot, is_under_way: false });
            return GiveBack::Noted;
        }
        self.late.claims.push(claim);
        if std::mem::replace(&mut self.late.is_sending, true) {
            GiveBack::Noted
        } else {
            GiveBack::BeginLate
        }
    }

    /// Returns the next batch of claims that came after the close; if there is
    /// none, the next one to come has to begin again.
    pub(super) fn take_late(&mut self) -> Vec<Claim> {
        let most = self.late.claims.len().min(BATCH);
        self.late.is_sending = most > 0;
        self.late.claims.drain(..most).collect()
    }

    pub(super) fn given_back(&mut self, id: u64) {
        self.releasing.remove(&id);
    }

    /// Notes that the store may still hold the claim.
    pub(super) fn not_given_back(&mut self, id: u64, now: Moment) {
        if let Some(release) = self.releasing.get_mut(&id) {
            release.is_under_way = false;
            release.due = now + release.claim.terms().retry();
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
            held.answered(now, Renewal::Unreachable);
        }
        let under_way = self.releasing.iter().filter(|(_, release)| release.is_under_way);
        for id in under_way.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.not_given_back(id, now);
        }
    }

    /// Notes an answer; `true` if it prolonged the lease.
    pub(super) fn answered(&mut self, id: u64, now: Moment, answer: Renewal) -> bool {
        // Released or lost meanwhile: the answer concerns nobody.
        let Some(held) = self.held.get_mut(&id) else {
            return false;
        };
        held.answered(now, answer)
    }

    /// Ends what is over, and takes at most `slots` batches of what is due.
    pub(super) fn plan(&mut self, now: Moment, slots: usize) -> Plan {
        let is_due = self.end_what_is_over(now);
        let renewals = if is_due { self.take_renewals(now, slots * BATCH) } else { Vec::new() };
        let mut batches: Vec<_> =
            renewals.chunks(BATCH).map(|batch| self.renew_request(batch, now)).collect();
        while batches.len() < slots {
            let batch = self.take_releases(now);
            if batch.is_empty() {
                break;
            }
            let waits = batch.iter().map(|(_, claim)| claim.terms().renewal());
            let until = now + waits.min().unwrap_or_default();
            batches.push(Request::Release(batch, until));
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
        due.take(most).map(|(id, held)| (*id, held.send(now))).collect()
    }

    fn renew_request(&self, batch: &[(u64, Claim)], now: Moment) -> Request {
        let held = batch.iter().filter_map(|(id, _)| self.held.get(id));
        let until = held.map(|held| held.state.patience(now)).min();
        Request::Renew(batch.to_vec(), until.unwrap_or(now))
    }

    fn take_releases(&mut self, now: Moment) -> Vec<(u64, Claim)> {
        self.releasing.retain(|_, release| now < release.moot);
        let due = self.releasing.iter_mut().filter(|(_, r)| !r.is_under_way && r.due <= now);
        due.take(BATCH)
            .map(|(id, release)| {
                release.is_under_way = true;
                (*id, release.claim.clone())
            })
            .collect()
    }

    /// What is due and found no room goes when a request ends, not by time.
    fn next_event(&self, now: Moment) -> Option<Moment> {
        let held = self.held.values().map(|held| match held.state.peek(now) {
            LeaseStep::Wait(moment) => moment,
            LeaseStep::Renew | LeaseStep::Ended(_) => held.state.valid_until(),
        });
        let releasing = self.releasing.values();
        let releasing = releasing.map(|r| if r.due > now { r.due } else { r.moot });
        held.chain(releasing).min()
    }

    /// Notes that the keeper's task is gone, and returns what it had to give
    /// back. What is held lasts until its time, and is given back late.
    pub(super) fn abandon(&mut self) -> Vec<Claim> {
        self.closed = true;
        let releasing = std::mem::take(&mut self.releasing).into_values();
        releasing.map(|release| release.claim).collect()
    }

    /// Ends every lease and returns all claims that the store may still hold,
    /// those of requests without an answer among them.
    pub(super) fn close(&mut self) -> Vec<Claim> {
        self.closed = true;
        let releasing = std::mem::take(&mut self.releasing).into_values();
        let mut claims: Vec<_> = releasing.map(|release| release.claim).collect();
        for (_, held) in self.held.drain() {
            held.signal.finish(LeaseEnd::Closed);
            claims.push(held.claim);
        }
        claims
    }
}
