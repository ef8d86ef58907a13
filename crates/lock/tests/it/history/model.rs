//! What one key must do, one operation after the other.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use trine_core::Moment;

use super::stores::Manners;

/// What is asked of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Acquire {
        ttl: Duration,
        is_steal: bool,
    },
    Renew {
        token: u64,
        ttl: Duration,
    },
    Release {
        token: u64,
    },
    /// Not of the store: of a guard, whether it is held.
    Look {
        token: u64,
    },
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Granted(u64),
    HeldBy(u64),
    /// Nobody has it, and it is kept for who is next.
    Reserved,
    Renewed,
    Gone,
    Released,
    NotHeld,
    HeldByOther,
    /// To a look: yes.
    Held,
}

/// When something was seen: its place among all that was seen, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) order: u64,
    pub(crate) at: Moment,
}

/// A call and its answer. One without an answer may take effect at any time
/// after the call, or never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// Whose it is.
    pub(crate) process: usize,
    pub(crate) asked: Asked,
    pub(crate) called: Stamp,
    pub(crate) answer: Option<(Said, Stamp)>,
}

impl Operation {
    /// The place of the answer; the end if there is none.
    pub(crate) fn returned(&self) -> u64 {
        self.answer.map_or(u64::MAX, |(_, stamp)| stamp.order)
    }
}

/// Later than everything.
const END: Moment = Moment::from_elapsed(Duration::MAX);

/// A moment that is not known exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Window {
    from: Moment,
    to: Moment,
}

impl Window {
    fn after(self, span: Duration) -> Self {
        Self { from: self.from + span, to: self.to + span }
    }

    /// The later of two moments.
    fn max(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.max(other.to) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Hold {
    /// `None` as long as nobody was told of it.
    token: Option<u64>,
    /// When it is over without a renewal.
    ends: Window,
}

/// A key as it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    hold: Option<Hold>,
    /// The highest token so far.
    last: u64,
    /// It is not earlier than this.
    now: Moment,
}

/// What is known of a whole history beside its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    manners: Manners,
    /// Tokens whose grant was answered.
    granted: HashSet<u64>,
    /// Renewals and releases of each token that were not answered.
    renewals: HashMap<u64, Vec<(Stamp, Duration)>>,
    releases: HashMap<u64, Vec<Stamp>>,
}

impl Facts {
    pub(crate) fn of(operations: &[Operation], manners: Manners) -> Self {
        let mut facts = Self { manners, ..Self::default() };
        for Operation { asked, called, answer, .. } in operations {
            match (asked, answer) {
                (_, Some((Said::Granted(token), _))) => {
                    facts.granted.insert(*token);
                }
                (Asked::Renew { token, ttl }, None) => {
                    facts.renewals.entry(*token).or_default().push((*called, *ttl));
                }
                (Asked::Release { token }, None) => {
                    facts.releases.entry(*token).or_default().push(*called);
                }
                _ => {}
            }
        }
        facts
    }

    fn slack(&self) -> Duration {
        self.manners.slack
    }
}

/// When an operation takes effect: after whatever was called before `order`.
#[derive(Clone, Copy)]
struct When<'a> {
    window: Window,
    order: u64,
    facts: &'a Facts,
}

impl When<'_> {
    fn within(self, from: Moment, to: Moment) -> Option<Self> {
        let window = Window { from: self.window.from.max(from), to: self.window.to.min(to) };
        (window.from <= window.to).then_some(Self { window, ..self })
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self { hold: None, last: 0, now: Moment::from_elapsed(Duration::ZERO) }
    }

    /// Returns what the key may be after `operation`, if it can have answered
    /// so.
    pub(crate) fn after(self, operation: &Operation, facts: &Facts) -> Option<Self> {
        let (said, stamp) = operation.answer?;
        let (from, to) = (operation.called.at - facts.slack(), stamp.at + facts.slack());
        let window = Window { from: self.now.max(from), to };
        if window.from > window.to {
            return None;
        }
        let when = When { window, order: stamp.order, facts };
        match operation.asked {
            Asked::Acquire { ttl, is_steal } => self.acquire(when, ttl, is_steal, said),
            Asked::Renew { token, ttl } => self.renew(when, token, ttl, said),
            Asked::Release { token } => self.release(when, token, said),
            Asked::Look { token } => {
                let (hold, when) = self.held(when)?;
                (hold.token == Some(token)).then_some(Self { now: when.window.from, ..self })
            }
        }
    }

    /// Returns what the key may be after a grant that nobody was told of, of a
    /// call that was made at `called`. How late it was is not known: it counts
    /// as early as can be where it is to be over, and as late where it is seen. A
    /// store that insists gives it back, nobody knows when.
    pub(crate) fn after_unheard(
        self,
        operation: &Operation,
        before: &Operation,
        facts: &Facts,
    ) -> Option<Self> {
        let Asked::Acquire { ttl, is_steal } = operation.asked else { return None };
        let (_, stamp) = before.answer?;
        let called = operation.called.at - facts.slack();
        let window = Window { from: self.now.max(called), to: stamp.at + facts.slack() };
        if window.from > window.to {
            return None;
        }
        let when = When { window, order: stamp.order, facts };
        let when = if is_steal { when } else { self.free(when)? };
        let least = if facts.manners.insists { Duration::ZERO } else { ttl };
        let ends = Window { from: called + least, to: END };
        let hold = Some(Hold { token: None, ends });
        Some(Self { hold, now: when.window.from, ..self })
    }

    /// The hold and when it is seen, if there may be one. Renewals without an
    /// answer may have prolonged it, each once by its ttl while it was held; of
    /// a store that insists, who knows how often.
    fn held<'a>(self, when: When<'a>) -> Option<(Hold, When<'a>)> {
        let hold = self.hold?;
        let renewals = hold.token.and_then(|token| when.facts.renewals.get(&token));
        let mut ends = hold.ends.to;
        for (called, ttl) in renewals.into_iter().flatten() {
            if called.order < when.order && called.at - when.facts.slack() < ends {
                ends = if when.facts.manners.insists { END } else { ends + *ttl };
            }
        }
        if when.window.from >= ends {
            return None;
        }
        Some((hold, when.within(when.window.from, ends)?))
    }

    /// When it is seen that nobody has the key, if that may be. A release
    /// without an answer may have freed it.
    fn free<'a>(self, when: When<'a>) -> Option<When<'a>> {
        let Some(hold) = self.hold else { return Some(when) };
        let releases = hold.token.and_then(|token| when.facts.releases.get(&token));
        let released = releases.and_then(|releases| {
            let called = releases.iter().filter(|stamp| stamp.order < when.order);
            called.map(|stamp| stamp.at - when.facts.slack()).min()
        });
        when.within(released.map_or(hold.ends.from, |at| at.min(hold.ends.from)), END)
    }

    fn freed(self, when: When<'_>) -> Self {
        Self { hold: None, now: when.window.from, ..self }
    }

    fn acquire(self, when: When<'_>, ttl: Duration, is_steal: bool, said: Said) -> Option<Self> {
        match said {
            Said::Granted(token) => {
                let when = if is_steal { when } else { self.free(when)? };
                let hold = Some(Hold { token: Some(token), ends: when.window.after(ttl) });
                let state = Self { hold, last: token, now: when.window.from };
                (token > self.last).then_some(state)
            }
            Said::Reserved => self.free(when).map(|when| self.freed(when)),
            Said::HeldBy(token) => {
                let (hold, when) = self.held(when)?;
                let is_told = match hold.token {
                    Some(known) => known == token,
                    // Nobody has heard of that grant before.
                    None => token > self.last && !when.facts.granted.contains(&token),
                };
                let hold = Some(Hold { token: Some(token), ..hold });
                let state = Self { hold, last: self.last.max(token), now: when.window.from };
                is_told.then_some(state)
            }
            _ => None,
        }
    }

    fn renew(self, when: When<'_>, token: u64, ttl: Duration, said: Said) -> Option<Self> {
        match said {
            Said::Renewed => {
                let (hold, when) = self.held(when)?;
                let ends = hold.ends.max(when.window.after(ttl));
                let hold = Some(Hold { ends, ..hold }).filter(|hold| hold.token == Some(token))?;
                Some(Self { hold: Some(hold), now: when.window.from, ..self })
            }
            Said::Gone => self.with_other(when, token).or_else(|| {
                let when = self.free(when)?;
                Some(self.freed(when))
            }),
            _ => None,
        }
    }

    fn release(self, when: When<'_>, token: u64, said: Said) -> Option<Self> {
        match said {
            Said::Released => {
                let (hold, when) = self.held(when)?;
                (hold.token == Some(token)).then_some(self.freed(when))
            }
            Said::NotHeld => self.free(when).map(|when| self.freed(when)),
            Said::HeldByOther => self.with_other(when, token),
            _ => None,
        }
    }

    /// Another has it.
    fn with_other(self, when: When<'_>, token: u64) -> Option<Self> {
        let (hold, when) = self.held(when)?;
        (hold.token != Some(token)).then_some(Self { now: when.window.from, ..self })
    }
}
