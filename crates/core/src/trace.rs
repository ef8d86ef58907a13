use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A place in a distributed trace, as the `traceparent` header of W3C Trace
/// Context carries it.
///
/// # Example
///
/// ```
/// use trine_core::TraceParent;
///
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// let child = parent.child();
/// assert_eq!(child.trace_id(), parent.trace_id());
/// assert_ne!(child.span_id(), parent.span_id());
/// # Ok::<(), trine_core::InvalidTraceParent>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

const SAMPLED: u8 = 1;

impl TraceParent {
    /// Returns the first span of a new trace.
    #[must_use]
    pub fn root(sampled: bool) -> Self {
        let flags = if sampled { SAMPLED } else { 0 };
        Self { trace_id: Uuid::new_v4().as_u128(), span_id: random_span_id(), flags }
    }

    /// Returns a new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: random_span_id(), ..self }
    }

    /// Returns the trace; never 0.
    #[must_use]
    pub fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// Returns the span; never 0.
    #[must_use]
    pub fn span_id(self) -> u64 {
        self.span_id
    }

    /// Tells whether the caller records this trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

fn random_span_id() -> u64 {
    // Six bits of a random UUID are constant; bytes 0-5, 9 and 10 have none of them.
    let [a, b, c, d, e, f, _, _, _, g, h, ..] = *Uuid::new_v4().as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.splitn(5, '-');
        let mut part = |digits| lower_hex(parts.next(), digits);
        let version = part(2)?;
        let trace_id = part(32)?;
        let span_id = u64::try_from(part(16)?).map_err(|_| InvalidTraceParent)?;
        let flags = u8::try_from(part(2)?).map_err(|_| InvalidTraceParent)?;
        // A later version may append fields; this one may not.
        let extended = parts.next().is_some();
        if version == 0xff || (version == 0 && extended) || trace_id == 0 || span_id == 0 {
            return Err(InvalidTraceParent);
        }
        // Version 00 defines the sampled flag only; others must not be passed on.
        Ok(Self { trace_id, span_id, flags: flags & SAMPLED })
    }
}

fn lower_hex(part: Option<&str>, digits: usize) -> Result<u128, InvalidTraceParent> {
    let part = part.filter(|part| part.len() == digits).ok_or(InvalidTraceParent)?;
    if !part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(InvalidTraceParent);
    }
    u128::from_str_radix(part, 16).map_err(|_| InvalidTraceParent)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceParent({self})")
    }
}

/// A text that is no `traceparent` of W3C Trace Context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("traceparent: expected version-trace-span-flags in lower-case hexadecimal")]
pub struct InvalidTraceParent;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_it_prints() {
        let parsed: TraceParent = VALID.parse().unwrap();
        assert_eq!(parsed.to_string(), VALID);
        assert!(parsed.is_sampled());
        let root = TraceParent::root(false);
        assert_eq!(root.to_string().parse(), Ok(root));
        assert!(!root.child().is_sampled());
    }

    #[test]
    fn a_later_version_may_be_longer_and_is_sent_on_as_version_00() {
        let later = format!("cc{}-what", &VALID[2..]);
        assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), VALID);
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = text.parse::<TraceParent>();
        }
    }
}
