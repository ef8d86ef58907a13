use std::fmt;
use std::num::NonZeroU32;

/// What a grant of a key leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shape {
    /// Nothing.
    Write,
    /// Other reads.
    Read,
    /// Other permits, as long as there are fewer than `of` with this one. Each
    /// acquire brings its own number; all of one key should agree.
    Permit {
        /// Most permits at a time.
        of: NonZeroU32,
    },
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write => f.write_str("write"),
            Self::Read => f.write_str("read"),
            Self::Permit { of } => write!(f, "permit of {of}"),
        }
    }
}
