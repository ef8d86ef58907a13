use std::time::Duration;

use jiff::civil::{self, DateTime};
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::pattern::Pattern;
use crate::weekday::Weekdays;
use crate::zone::Rule;
use crate::{InvalidCron, TimeOfDay, cron};

/// What makes a job due, without zone, jitter and exclusions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Every {
        period: Duration,
        anchor: Timestamp,
    },
    Delay {
        delay: Duration,
    },
    Daily {
        at: TimeOfDay,
    },
    Weekly {
        days: Weekdays,
        at: TimeOfDay,
    },
    /// Day 0 is the last one.
    Monthly {
        day: u8,
        at: TimeOfDay,
    },
    Cron {
        text: Box<str>,
        pattern: Pattern,
        moves: Moves,
    },
    Once {
        at: Timestamp,
    },
    Now,
}

/// Which local times count, where they decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Fixed ones up to this have been, whatever the clocks show now.
    pub(crate) shown: Option<DateTime>,
    pub(crate) last: civil::Date,
}

/// What local times do when the clocks are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moves {
    /// Each happens once: a skipped one late, a repeated one at first.
    Fixed,
    /// Each happens as often as the clocks show it.
    Repeating,
}

impl When {
    pub(crate) fn cron(expression: &str) -> Result<Self, InvalidCron> {
        let expression = cron::Expression::parse(expression)?;
        let pattern = Pattern::from(&expression);
        let moves = if expression.is_repeating() { Moves::Repeating } else { Moves::Fixed };
        let text = expression.into_text();
        if !pattern.has_a_day() {
            return Err(InvalidCron::Never { expression: text });
        }
        Ok(Self::Cron { text, pattern, moves })
    }

    /// Returns the first moment strictly after `after`.
    pub(crate) fn next(&self, rule: &Rule, after: Timestamp, bounds: Bounds) -> Option<Timestamp> {
        match self {
            Self::Every { period, anchor } => next_on_grid(*anchor, *period, after),
            Self::Delay { delay } => {
                let end = after.checked_add(SignedDuration::try_from(*delay).ok()?).ok()?;
                whole_micros_from(end)
            }
            Self::Once { at } => (*at > after).then_some(*at),
            Self::Now => None,
            Self::Daily { at } => next_fixed(&Pattern::daily(*at), rule, after, bounds),
            Self::Weekly { days, at } => {
                next_fixed(&Pattern::weekly(*days, *at), rule, after, bounds)
            }
            Self::Monthly { day, at } => {
                next_fixed(&Pattern::monthly(*day, *at), rule, after, bounds)
            }
            Self::Cron { pattern, moves: Moves::Fixed, .. } => {
                next_fixed(pattern, rule, after, bounds)
            }
            Self::Cron { pattern, moves: Moves::Repeating, .. } => {
                next_repeating(pattern, rule, after, bounds)
            }
        }
    }
}

fn next_on_grid(anchor: Timestamp, period: Duration, after: Timestamp) -> Option<Timestamp> {
    if after < anchor {
        return Some(anchor);
    }
    let (anchor, period) = (anchor.as_nanosecond(), i128::try_from(period.as_nanos()).ok()?);
    let passed = (after.as_nanosecond() - anchor).checked_div(period)?;
    Timestamp::from_nanosecond(anchor + (passed + 1) * period).ok()
}

/// Local times in order have first moments in order, so that those up to what
/// the clocks show now have all been.
fn next_fixed(
    pattern: &Pattern,
    rule: &Rule,
    after: Timestamp,
    bounds: Bounds,
) -> Option<Timestamp> {
    let shown = rule.local(after);
    let mut shown = bounds.shown.map_or(shown, |before| before.max(shown));
    loop {
        let local = pattern.next_from(second_after(shown)?, bounds.last)?;
        let moment = rule.first_moment_of(local)?;
        // Not so where the clocks show an hour for the second time.
        if moment > after {
            return Some(moment);
        }
        shown = local;
    }
}

/// Looks from one setting of the clocks to the next: between two of them local
/// times pass as time does.
fn next_repeating(
    pattern: &Pattern,
    rule: &Rule,
    after: Timestamp,
    bounds: Bounds,
) -> Option<Timestamp> {
    let mut from = whole_second_after(after)?;
    loop {
        let local = pattern.next_from(rule.local(from), bounds.last)?;
        let moment = rule.unchanged_from(from, local)?;
        match rule.next_change(from) {
            Some(change) if change <= moment => from = change,
            _ => return Some(moment),
        }
    }
}

fn second_after(local: DateTime) -> Option<DateTime> {
    let whole = local.with().subsec_nanosecond(0).build().ok()?;
    whole.checked_add(1.second()).ok()
}

fn whole_second_after(moment: Timestamp) -> Option<Timestamp> {
    let second = moment.as_nanosecond().div_euclid(1_000_000_000);
    Timestamp::from_second(i64::try_from(second).ok()? + 1).ok()
}

/// Returns the first whole microsecond from `moment` on.
pub(crate) fn whole_micros_from(moment: Timestamp) -> Option<Timestamp> {
    let micros = (moment.as_nanosecond() + 999).div_euclid(1_000);
    Timestamp::from_microsecond(i64::try_from(micros).ok()?).ok()
}

/// Returns the last whole microsecond until `moment`.
pub(crate) fn whole_micros_until(moment: Timestamp) -> Timestamp {
    let micros = moment.as_nanosecond().div_euclid(1_000);
    let micros = i64::try_from(micros).map(Timestamp::from_microsecond);
    micros.ok().and_then(Result::ok).unwrap_or(moment)
}
