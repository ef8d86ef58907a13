//! LK-09: owners that are stopped between any two steps.

use std::fmt;

use trine_core::Fence;
use trine_lock::{Guard, ReleaseOutcome};
use trine_testkit::{Ledger, Rng};

use super::owners::Owners;
use super::sinks::{Check, Sink, Taken, Write};

/// What is switched off in a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    /// New owners show their token to nobody before they write.
    Raise,
    /// Resources are not shown whose write it is.
    Check,
}

/// What happened in some schedules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) schedules: u64,
    pub(crate) grants: u64,
    /// Grants of a key whose holder was stopped.
    pub(crate) lapses: u64,
    pub(crate) accepted: u64,
    /// Accepted from an old owner that woke between the grant of a new one and
    /// its raise: allowed, and seen by the new one.
    pub(crate) between: u64,
    pub(crate) refused: u64,
    /// Accepted from an old owner after a new one had raised.
    pub(crate) stale: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, grants, lapses, accepted, between, refused, stale } = self;
        write!(
            f,
            "{schedules} schedules: {grants} grants, {lapses} of them of a stopped owner's key; \
             writes: {accepted} accepted, {between} of them before the raise of a new owner, \
             {refused} refused; stale writes accepted: {stale}"
        )
    }
}

/// What an owner does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    Raise(usize),
    Read(usize),
    Write { left: u64 },
    Release,
}

struct Owner {
    step: Step,
    guard: Option<Guard>,
    fence: Option<Fence>,
}

/// One resource as it must be.
#[derive(Default)]
struct Known {
    /// The highest token whose owner has passed its raise.
    passed: u64,
    /// The highest token that it was shown.
    shown: u64,
    entries: Vec<String>,
    ledger: Option<Ledger>,
}

/// One key, its owners and what they write to.
struct Schedule<'a> {
    seed: u64,
    rng: Rng,
    key: String,
    owners: &'a Owners,
    sinks: &'a [&'a dyn Sink],
    without: Without,
    all: Vec<Owner>,
    known: Vec<Known>,
    /// The highest token that was granted.
    last: u64,
    writes: u64,
    tally: Tally,
}

/// Runs the schedule of `seed`.
pub(crate) async fn run(
    seed: u64,
    owners: &Owners,
    sinks: &[&dyn Sink],
    without: Without,
    tally: &mut Tally,
) {
    let owner = || Owner { step: Step::Acquire, guard: None, fence: None };
    let known = || Known { ledger: Some(Ledger::in_memory()), ..Known::default() };
    let mut schedule = Schedule {
        seed,
        rng: Rng::for_part(seed, "lock_fence"),
        key: format!("order:{seed:x}-{}", tally.schedules),
        owners,
        sinks,
        without,
        all: (0..owners.len()).map(|_| owner()).collect(),
        known: sinks.iter().map(|_| known()).collect(),
        last: 0,
        writes: 0,
        tally: *tally,
    };
    for _ in 0..40 {
        schedule.step().await;
    }
    schedule.audit().await;
    schedule.tally.schedules += 1;
    *tally = schedule.tally;
}

impl Schedule<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap()
    }

    /// One owner goes on by one step; all others are stopped.
    async fn step(&mut self) {
        let place = self.below(self.all.len());
        let Owner { step, fence, .. } = &self.all[place];
        let (step, fence) = (*step, fence.clone());
        let next = match (step, fence) {
            (Step::Acquire, _) => self.acquire(place).await,
            (Step::Raise(sink), Some(fence)) => self.raise(sink, &fence).await,
            (Step::Read(sink), Some(_)) => self.read(sink).await,
            (Step::Write { left }, Some(fence)) => self.write(place, left, &fence).await,
            (Step::Release, _) => self.release(place).await,
            (step, None) => panic!("seed {}: {step:?} without a grant", self.seed),
        };
        self.all[place].step = next;
    }

    async fn acquire(&mut self, place: usize) -> Step {
        let has_lapsed = self.all.iter().any(|owner| owner.fence.is_some()) && self.rng.one_in(3);
        let owners = self.owners;
        let Some(guard) = owners.acquire(place, &self.key, has_lapsed).await else {
            return Step::Acquire;
        };
        let fence = guard.fence().clone();
        assert!(fence.token() > self.last, "seed {}: token {fence:?} fell", self.seed);
        self.last = fence.token();
        self.tally.grants += 1;
        self.tally.lapses += u64::from(has_lapsed);
        let owner = &mut self.all[place];
        (owner.guard, owner.fence) = (Some(guard), Some(fence));
        Step::Raise(0)
    }

    async fn raise(&mut self, sink: usize, fence: &Fence) -> Step {
        if self.without == Without::Nothing {
            let taken = self.sinks[sink].raise(&self.key, fence).await;
            self.check_answer(sink, fence, taken, "raise");
            if taken == Taken::Fenced {
                return Step::Release;
            }
        } else if self.without == Without::Check {
            self.sinks[sink].raise(&self.key, fence).await;
        }
        let known = &mut self.known[sink];
        known.passed = known.passed.max(fence.token());
        if sink + 1 < self.sinks.len() { Step::Raise(sink + 1) } else { Step::Read(0) }
    }

    /// Whatever was accepted is seen.
    async fn read(&mut self, sink: usize) -> Step {
        let found = self.sinks[sink].read(&self.key).await;
        assert_eq!(found, self.known[sink].entries, "seed {}: a read of {sink}", self.seed);
        if sink + 1 < self.sinks.len() {
            return Step::Read(sink + 1);
        }
        Step::Write { left: 1 + self.rng.below(3) }
    }

    async fn write(&mut self, place: usize, left: u64, fence: &Fence) -> Step {
        let sink = self.below(self.sinks.len());
        let name = format!("{place}/{}", self.writes);
        self.writes += 1;
        let what = if self.rng.one_in(3) { Write::Same } else { Write::Entry(name) };
        if let (Write::Entry(name), Some(ledger)) = (&what, &self.known[sink].ledger) {
            ledger.attempt(name).unwrap();
        }
        let check = if self.without == Without::Check { Check::Off } else { Check::On };
        let taken = self.sinks[sink].write(&self.key, fence, &what, check).await;
        if self.without == Without::Nothing {
            self.check_answer(sink, fence, taken, "write");
        }
        let is_old = fence.token() < self.last;
        let known = &mut self.known[sink];
        match taken {
            Taken::Yes => {
                self.tally.accepted += 1;
                if fence.token() < known.passed {
                    self.tally.stale += 1;
                } else if is_old {
                    self.tally.between += 1;
                }
                if let (Write::Entry(name), Some(ledger)) = (&what, &known.ledger) {
                    ledger.acknowledge(name).unwrap();
                    known.entries.push(name.clone());
                }
            }
            Taken::Fenced => {
                self.tally.refused += 1;
                if let (Write::Entry(name), Some(ledger)) = (&what, &known.ledger) {
                    ledger.refuse(name).unwrap();
                }
            }
        }
        if left > 1 { Step::Write { left: left - 1 } } else { Step::Release }
    }

    /// Nothing but a higher token is a reason to refuse.
    fn check_answer(&mut self, sink: usize, fence: &Fence, taken: Taken, what: &str) {
        let (known, seed) = (&mut self.known[sink], self.seed);
        let is_old = fence.token() < known.shown;
        if taken == Taken::Fenced {
            assert!(is_old, "seed {seed}: {sink} refused the {what} of its newest owner {fence:?}");
        } else if what == "raise" {
            assert!(!is_old, "seed {seed}: {sink} let {fence:?} raise after {}", known.shown);
        }
        known.shown = known.shown.max(fence.token());
    }

    async fn release(&mut self, place: usize) -> Step {
        let owner = &mut self.all[place];
        let (guard, fence) = (owner.guard.take(), owner.fence.take());
        let (Some(guard), Some(fence)) = (guard, fence) else { return Step::Acquire };
        let is_newest = fence.token() == self.last;
        match self.rng.below(2) {
            // Gives it back in the background.
            0 => drop(guard),
            _ => {
                let outcome = guard.release().await.unwrap();
                assert!(
                    is_newest || outcome != ReleaseOutcome::Released,
                    "seed {}: {fence:?} released the grant of another",
                    self.seed
                );
            }
        }
        Step::Acquire
    }

    /// Each resource has what it accepted and nothing else.
    async fn audit(&mut self) {
        for (sink, known) in self.sinks.iter().zip(&self.known) {
            let found = sink.read(&self.key).await;
            assert_eq!(found, known.entries, "seed {}: at the end", self.seed);
            if let Some(ledger) = &known.ledger {
                let audit = ledger.check(&found);
                assert!(audit.is_clean(), "seed {}: {audit:?}", self.seed);
            }
        }
    }
}
