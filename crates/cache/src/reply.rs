use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{Error, Lifetime, Scored};

/// What one [operation](crate::Op) answered.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply {
    /// Whether it found what it needed and did what it says.
    Applied(bool),
    /// How many.
    Count(u64),
    /// A number.
    Int(i64),
    /// Bytes, if there are any.
    Value(Option<Bytes>),
    /// Bytes for each of the names asked for.
    Values(Vec<Option<Bytes>>),
    /// Several values.
    Members(Vec<Bytes>),
    /// Names with values.
    Pairs(Vec<(Bytes, Bytes)>),
    /// A page of a hash.
    Fields(FieldPage),
    /// Yes or no for each of the names asked for.
    Flags(Vec<bool>),
    /// A score.
    Score(f64),
    /// A score for each of the names asked for.
    Scores(Vec<Option<f64>>),
    /// A place, if the member is there.
    Ranked(Option<Ranked>),
    /// Members with their scores, in order.
    Scored(Vec<Scored>),
    /// What is left of a life.
    Lifetime(Lifetime),
    /// The time since the Unix epoch.
    Time(Duration),
    /// The operation failed and changed nothing; those beside it may have
    /// succeeded.
    Failed(Error),
}

/// Some of the fields of a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldPage {
    /// Names with values.
    pub fields: Vec<(Bytes, Bytes)>,
    /// What the next page begins with; `None` after the last.
    pub next: Option<Bytes>,
}

impl FieldPage {
    /// Returns a page that `next` follows.
    #[must_use]
    pub fn new(fields: Vec<(Bytes, Bytes)>, next: Option<Bytes>) -> Self {
        Self { fields, next }
    }
}

/// The place of a member in a ranking, with the score it had at that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ranked {
    /// Its place, from 0.
    pub place: u64,
    /// Its score.
    pub score: f64,
}

impl Ranked {
    /// Returns the place of a member with `score`.
    #[must_use]
    pub fn new(place: u64, score: f64) -> Self {
        Self { place, score }
    }
}

/// Takes the expected kind of answer out of a [`Reply`]; its error is the
/// failure of the operation, or the reply itself if a backend answered with
/// another kind.
macro_rules! into {
    ($(#[$doc:meta] $name:ident, $variant:ident, $type:ty;)+) => {
        impl Reply {
            $(
                #[$doc]
                ///
                /// # Errors
                ///
                /// Fails with the failure of the operation, and with `Internal`
                /// if this is the answer of another kind of operation.
                pub fn $name(self) -> Result<$type, Error> {
                    match self {
                        Self::$variant(value) => Ok(value),
                        other => Err(other.unexpected(stringify!($variant))),
                    }
                }
            )+
        }
    };
}

into! {
    /// Returns whether the operation did what it says.
    into_applied, Applied, bool;
    /// Returns how many there are.
    into_count, Count, u64;
    /// Returns the number.
    into_int, Int, i64;
    /// Returns the bytes, if there are any.
    into_value, Value, Option<Bytes>;
    /// Returns bytes for each of the names asked for.
    into_values, Values, Vec<Option<Bytes>>;
    /// Returns the values.
    into_members, Members, Vec<Bytes>;
    /// Returns names with values.
    into_pairs, Pairs, Vec<(Bytes, Bytes)>;
    /// Returns the page.
    into_fields, Fields, FieldPage;
    /// Returns yes or no for each of the names asked for.
    into_flags, Flags, Vec<bool>;
    /// Returns the score.
    into_score, Score, f64;
    /// Returns a score for each of the names asked for.
    into_scores, Scores, Vec<Option<f64>>;
    /// Returns the place, if the member is there.
    into_ranked, Ranked, Option<Ranked>;
    /// Returns members with their scores.
    into_scored, Scored, Vec<Scored>;
    /// Returns what is left of a life.
    into_lifetime, Lifetime, Lifetime;
}

impl Reply {
    /// Returns the server's time.
    ///
    /// # Errors
    ///
    /// Fails with the failure of the operation, and with `Internal` if this is
    /// the answer of another kind of operation.
    pub fn into_time(self) -> Result<SystemTime, Error> {
        match self {
            Self::Time(since_epoch) => Ok(SystemTime::UNIX_EPOCH + since_epoch),
            other => Err(other.unexpected("Time")),
        }
    }

    fn unexpected(self, expected: &'static str) -> Error {
        match self {
            Self::Failed(error) => error,
            found => Error::unexpected_reply(expected, &found),
        }
    }
}
