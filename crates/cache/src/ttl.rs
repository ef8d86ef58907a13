use std::time::Duration;

/// How long an entry lives, in whole milliseconds: a part of one counts as one,
/// so that nothing ends earlier than it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ttl {
    /// The configuration's `default_ttl`, where the operation creates the key,
    /// puts a whole value or is about the lifetime itself; else what the key
    /// has.
    #[default]
    Default,
    /// Ends this long after the operation, whatever the key had.
    After(Duration),
    /// Ends this long after the operation if it creates the key; else what the
    /// key has.
    IfNew(Duration),
    /// What the key has; one that the operation creates never ends.
    Keep,
    /// Never ends, whatever the key had.
    Never,
}

impl Ttl {
    /// Longest lifetime: a hundred years.
    pub const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

    /// Shortest lifetime.
    pub const MIN: Duration = Duration::from_millis(1);

    /// Returns the lifetime of `secs` seconds from the operation on.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self::After(Duration::from_secs(secs))
    }

    /// Returns the milliseconds that stores count.
    pub(crate) fn millis(span: Duration) -> u64 {
        u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// Says what is wrong with it.
    pub(crate) fn problem(self) -> Option<String> {
        match self {
            Self::After(span) | Self::IfNew(span) if !(Self::MIN..=Self::MAX).contains(&span) => {
                Some(format!("ttl {span:?}: expected 1ms to 100 years"))
            }
            _ => None,
        }
    }
}

/// What is left of a key's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifetime {
    /// There is no such key.
    Absent,
    /// It never ends.
    Endless,
    /// It ends after this long.
    Left(Duration),
}
