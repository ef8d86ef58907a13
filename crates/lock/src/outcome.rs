use crate::{Guard, Holder};

/// What one attempt to take a key answers.
#[derive(Debug)]
#[must_use = "a guard is given back when it is dropped"]
pub enum TryAcquireOutcome<G = Guard> {
    /// It is the caller's.
    Acquired(G),
    /// It is somebody's.
    Held(Holder),
}

impl<G> TryAcquireOutcome<G> {
    /// Returns the guard, if the key is the caller's.
    #[must_use]
    pub fn into_guard(self) -> Option<G> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Held(_) => None,
        }
    }
}

/// What waiting for a key answers.
#[derive(Debug)]
#[must_use = "a guard is given back when it is dropped"]
pub enum AcquireOutcome<G = Guard> {
    /// It is the caller's.
    Acquired(G),
    /// It was somebody's for all of the wait; this is who had it last.
    TimedOut(Holder),
}

impl<G> AcquireOutcome<G> {
    /// Returns the guard, if the key is the caller's.
    #[must_use]
    pub fn into_guard(self) -> Option<G> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::TimedOut(_) => None,
        }
    }

    pub(crate) fn map<T>(self, with: impl FnOnce(G) -> T) -> AcquireOutcome<T> {
        match self {
            Self::Acquired(guard) => AcquireOutcome::Acquired(with(guard)),
            Self::TimedOut(holder) => AcquireOutcome::TimedOut(holder),
        }
    }
}

/// What giving back answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseOutcome {
    /// The store had it, and has not any more.
    Released,
    /// Another guard of the same owner still holds it.
    StillHeld,
    /// The store did not have it: it had expired, or was released before.
    NotHeld,
    /// The store has it as somebody else's.
    HeldByOther,
}
