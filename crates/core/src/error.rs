use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// An error whose type does not matter any more, kept for its chain.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// A [`Fault`] behind a pointer: what object-safe traits such as
/// [`Service`](crate::Service) return.
pub type BoxFault = Box<dyn Fault>;

/// What went wrong, for code: the same fourteen answers from every crate.
///
/// Text is for people and may change; kinds are stable and serve as the
/// `outcome` label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request can never succeed as it stands.
    Invalid,
    /// What the request names does not exist.
    NotFound,
    /// The request contradicts the present state, or lost a race.
    Conflict,
    /// The caller may not do this.
    Denied,
    /// The answer did not arrive in time, and no effect can have happened.
    Timeout,
    /// The backend is away, overloaded or refuses work for now.
    Unavailable,
    /// A limit of this process is used up: connections, places in a queue.
    Exhausted,
    /// The handle was shut down.
    Closed,
    /// A newer fencing token has been shown for the key.
    Fenced,
    /// This backend cannot do that, and never will.
    Unsupported,
    /// The work was stopped before it finished, on request.
    Interrupted,
    /// A write was sent and nobody knows whether it happened.
    OutcomeUnknown,
    /// Stored or received bytes are not what the caller expects.
    Codec,
    /// A defect in this library or its backend.
    Internal,
}

impl ErrorKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::Denied,
        Self::Timeout,
        Self::Unavailable,
        Self::Exhausted,
        Self::Closed,
        Self::Fenced,
        Self::Unsupported,
        Self::Interrupted,
        Self::OutcomeUnknown,
        Self::Codec,
        Self::Internal,
    ];

    /// Returns the stable name, such as `"outcome_unknown"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Exhausted => "exhausted",
            Self::Closed => "closed",
            Self::Fenced => "fenced",
            Self::Unsupported => "unsupported",
            Self::Interrupted => "interrupted",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Codec => "codec",
            Self::Internal => "internal",
        }
    }

    /// Tells whether the same call may succeed later without anybody's help.
    ///
    /// [`OutcomeUnknown`](Self::OutcomeUnknown) is not among them: repeating
    /// such a write is safe under an idempotency key only.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable | Self::Exhausted)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What every error of a Trine crate can tell about itself.
///
/// Hosts branch on the [`kind`](Self::kind), `trine-axum` turns any fault into
/// a problem response, and retries ask [`is_retryable`](Self::is_retryable).
pub trait Fault: StdError + Send + Sync + 'static {
    /// Returns the kind to branch on.
    fn kind(&self) -> ErrorKind;

    /// Tells whether the same call may succeed later. A crate overrides this
    /// for single cases, such as a deadlock, which is a retryable conflict.
    fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// Returns how long the backend asked callers to wait, if it did.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// Returns what a stranger may read about the failure: no addresses, no
    /// statements, no payloads. `None` leaves only the kind.
    fn public_detail(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// Returns the input field or key at fault, if there is one.
    fn field(&self) -> Option<&str> {
        None
    }
}

impl<F: Fault> From<F> for BoxFault {
    fn from(fault: F) -> Self {
        Box::new(fault)
    }
}

/// Prints an error with its chain of causes, `outer: middle: root`.
///
/// Messages of Trine errors never repeat their source, so the chain says
/// everything once.
///
/// # Example
///
/// ```
/// use trine_core::Report;
///
/// let error = "x".parse::<u16>().unwrap_err();
/// assert_eq!(Report(&error).to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, Copy)]
pub struct Report<'a>(pub &'a (dyn StdError + 'static));

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = self.0.to_string();
        f.write_str(&printed)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Drivers often print their source themselves; say it once.
            if !printed.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            printed = text;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("db ping")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Middle;

    #[test]
    fn a_report_prints_the_chain_once() {
        assert_eq!(Report(&Outer(Middle)).to_string(), "db ping: refused");
    }

    #[test]
    fn names_of_kinds_are_unique_and_stable() {
        let mut names: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn an_unknown_outcome_is_not_retryable() {
        let retryable: Vec<_> =
            ErrorKind::ALL.into_iter().filter(|kind| kind.is_retryable()).collect();
        assert_eq!(retryable, [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Exhausted]);
    }
}
