use std::fmt::Write;
use std::time::Duration;

use trine_core::Fence;

use crate::{Mode, Shape, Want};

/// The longest ttl of a plain grant in microseconds: it has twelve digits.
const MOST_PLAIN: u64 = 999_999_999_999;

/// Returns a question as scripts read it, and as it is kept with a plain grant.
///
/// It begins with `P` if it may become one: nobody else may have the key beside
/// it, and there is nothing to note but until when it is held.
pub(super) fn text(want: &Want, settings: &str, hears: bool) -> String {
    let (mode, next) = match want.mode {
        Mode::Try => ('t', None),
        Mode::Wait { next } => ('w', next),
        Mode::Steal => ('s', None),
    };
    let (ttl, at_most) = (micros(want.terms.ttl()), want.terms.at_most());
    let is_plain = want.shape == Shape::Write
        && want.mode != Mode::Steal
        && next.is_none()
        && want.at_least.is_none()
        && at_most.is_none()
        && ttl <= MOST_PLAIN;
    let (wants, of) = shape(Some(want.shape));
    let (next, next_of) = shape(next);
    let least = micros(want.at_least.unwrap_or_default());
    let most = micros(at_most.unwrap_or_default());
    let (process, label) = (&*want.waiter.process, want.label.as_deref().unwrap_or_default());
    let mut text = String::with_capacity(128 + process.len() + label.len());
    // A `String` takes everything.
    let _ = write!(
        text,
        "{kind}{ttl:012} {settings} {mode}{wants}{next} {of} {next_of} {least} {most} {lane} {hears} \
         {nonce} {length} {process}{label}",
        kind = if is_plain { 'P' } else { 'Q' },
        lane = want.waiter.lane,
        hears = u8::from(hears),
        nonce = want.nonce,
        length = process.len(),
    );
    text
}

/// Returns a shape as scripts know it.
pub(super) fn shape(shape: Option<Shape>) -> (&'static str, u32) {
    match shape {
        None => ("n", 0),
        Some(Shape::Write) => ("w", 0),
        Some(Shape::Read) => ("r", 0),
        Some(Shape::Permit { of }) => ("p", of.get()),
    }
}

/// Returns whole microseconds, of which a fence has no more either.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(Fence::MAX_TOKEN).min(Fence::MAX_TOKEN)
}
