mod facts;

pub(crate) use facts::Load;

use bytes::Bytes;

use crate::{Key, Ttl};

/// One operation on one key. Collections without members do not exist: the
/// operation that removes the last member removes the key.
///
/// Each variant names the [`Reply`](crate::Reply) that answers it. One that
/// finds a value of another type under its key fails as a
/// [`Reply::Failed`](crate::Reply::Failed) and changes nothing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Reads bytes: `Value`.
    Get {
        /// Under this key.
        key: Key,
    },
    /// Reads bytes, as `Get` does, but a collection reads as absent, so that
    /// neighbours are one command of the store: `Value`.
    Lookup {
        /// Under this key.
        key: Key,
    },
    /// Puts bytes in the place of whatever is there: `Applied`, false if
    /// `mode` forbade it.
    Put {
        /// Under this key.
        key: Key,
        /// The new bytes.
        value: Bytes,
        /// The new lifetime.
        ttl: Ttl,
        /// What must be the case.
        mode: PutMode,
    },
    /// Puts bytes and returns those that were there: `Value`.
    Swap {
        /// Under this key.
        key: Key,
        /// The new bytes.
        value: Bytes,
        /// The new lifetime.
        ttl: Ttl,
    },
    /// Removes bytes and returns them: `Value`.
    Take {
        /// Under this key.
        key: Key,
    },
    /// Reads bytes and changes their lifetime: `Value`.
    Touch {
        /// Under this key.
        key: Key,
        /// The new lifetime.
        ttl: Ttl,
    },
    /// Adds to a decimal number, 0 if absent: `Int`.
    Add {
        /// Under this key.
        key: Key,
        /// What to add; may be negative.
        by: i64,
        /// The lifetime.
        ttl: Ttl,
    },
    /// Removes whatever is there: `Applied`, false if nothing was.
    Remove {
        /// This key.
        key: Key,
    },
    /// Tells whether anything is there: `Applied`.
    Exists {
        /// Under this key.
        key: Key,
    },
    /// Changes a lifetime: `Applied`, false if nothing is there.
    Expire {
        /// Of this key.
        key: Key,
        /// The new lifetime.
        ttl: Ttl,
    },
    /// Reads a lifetime: `Lifetime`.
    Lifetime {
        /// Of this key.
        key: Key,
    },
    /// Reads the clock of the server that has the key: `Time`.
    Time {
        /// The key.
        key: Key,
    },

    /// Reads fields: `Values`, in their order.
    HashGet {
        /// Of this hash.
        key: Key,
        /// The names.
        fields: Vec<Bytes>,
    },
    /// Reads every field: `Pairs`, in no particular order.
    HashAll {
        /// Of this hash.
        key: Key,
    },
    /// Reads some of the fields: `Fields`. Every field that is there from the
    /// first page to the last is yielded at least once.
    HashScan {
        /// Of this hash.
        key: Key,
        /// Where the last page ended; empty for the first, and refused if it
        /// is of no page.
        cursor: Bytes,
        /// About how many; 0 is 1.
        count: u32,
    },
    /// Writes fields: `Count` of those that are new.
    HashPut {
        /// Of this hash.
        key: Key,
        /// Names and values.
        fields: Vec<(Bytes, Bytes)>,
        /// The lifetime of the hash.
        ttl: Ttl,
    },
    /// Writes a field if it is absent: `Applied`.
    HashPutNew {
        /// Of this hash.
        key: Key,
        /// The name.
        field: Bytes,
        /// The value.
        value: Bytes,
        /// The lifetime of the hash.
        ttl: Ttl,
    },
    /// Adds to the decimal number in a field, 0 if absent: `Int`.
    HashAdd {
        /// Of this hash.
        key: Key,
        /// The name.
        field: Bytes,
        /// What to add; may be negative.
        by: i64,
        /// The lifetime of the hash.
        ttl: Ttl,
    },
    /// Removes fields: `Count` of those that were there.
    HashRemove {
        /// Of this hash.
        key: Key,
        /// The names.
        fields: Vec<Bytes>,
    },
    /// Counts fields: `Count`.
    HashLen {
        /// Of this hash.
        key: Key,
    },

    /// Adds members: `Count` of those that are new.
    SetAdd {
        /// To this set.
        key: Key,
        /// The members.
        members: Vec<Bytes>,
        /// The lifetime of the set.
        ttl: Ttl,
    },
    /// Removes members: `Count` of those that were there.
    SetRemove {
        /// From this set.
        key: Key,
        /// The members.
        members: Vec<Bytes>,
    },
    /// Tells which members are there: `Flags`, in their order.
    SetHas {
        /// In this set.
        key: Key,
        /// The members.
        members: Vec<Bytes>,
    },
    /// Reads every member: `Members`, in no particular order.
    SetAll {
        /// Of this set.
        key: Key,
    },
    /// Counts members: `Count`.
    SetLen {
        /// Of this set.
        key: Key,
    },
    /// Reads different members at random: `Members`.
    SetRandom {
        /// Of this set.
        key: Key,
        /// How many at most.
        count: u32,
    },
    /// Removes members at random and returns them: `Members`.
    SetPop {
        /// From this set.
        key: Key,
        /// How many at most.
        count: u32,
    },

    /// Adds values at an end, one after the other: `Count` of all.
    ListPush {
        /// To this list.
        key: Key,
        /// Which end.
        end: End,
        /// The values.
        values: Vec<Bytes>,
        /// The lifetime of the list.
        ttl: Ttl,
    },
    /// Removes values from an end and returns them: `Members`.
    ListPop {
        /// From this list.
        key: Key,
        /// Which end.
        end: End,
        /// How many at most.
        count: u32,
    },
    /// Reads the values from `start` to `stop`, both included; negative
    /// positions count from the end: `Members`.
    ListRange {
        /// Of this list.
        key: Key,
        /// The first position.
        start: i64,
        /// The last position.
        stop: i64,
    },
    /// Keeps only what `ListRange` would return: `Applied`, always true.
    ListTrim {
        /// Of this list.
        key: Key,
        /// The first position.
        start: i64,
        /// The last position.
        stop: i64,
    },
    /// Reads one value: `Value`.
    ListIndex {
        /// Of this list.
        key: Key,
        /// Its position; negative ones count from the end.
        index: i64,
    },
    /// Removes equal values: `Count` of those removed.
    ListRemove {
        /// From this list.
        key: Key,
        /// The value.
        value: Bytes,
        /// How many at most from the left, or from the right if negative; 0
        /// for all.
        count: i64,
    },
    /// Counts values: `Count`.
    ListLen {
        /// Of this list.
        key: Key,
    },

    /// Gives members their scores: `Count` of the new ones.
    SortedPut {
        /// In this sorted set.
        key: Key,
        /// Scores and members.
        entries: Vec<Scored>,
        /// What must be the case for each.
        mode: SortedMode,
        /// The lifetime of the sorted set.
        ttl: Ttl,
    },
    /// Adds to a score, 0 if absent: `Score`.
    SortedAdd {
        /// In this sorted set.
        key: Key,
        /// The member.
        member: Bytes,
        /// What to add; may be negative.
        by: f64,
        /// The lifetime of the sorted set.
        ttl: Ttl,
    },
    /// Removes members: `Count` of those that were there.
    SortedRemove {
        /// From this sorted set.
        key: Key,
        /// The members.
        members: Vec<Bytes>,
    },
    /// Removes the members at the places from `start` to `stop`, counted from
    /// the lowest score, both included: `Count`.
    SortedRemovePlaces {
        /// From this sorted set.
        key: Key,
        /// The first place; negative ones count from the end.
        start: i64,
        /// The last place.
        stop: i64,
    },
    /// Removes the members with scores from `min` to `max`, both included:
    /// `Count`.
    SortedRemoveScores {
        /// From this sorted set.
        key: Key,
        /// The lowest score.
        min: f64,
        /// The highest score.
        max: f64,
    },
    /// Reads scores: `Scores`, in the order of the members.
    SortedScores {
        /// In this sorted set.
        key: Key,
        /// The members.
        members: Vec<Bytes>,
    },
    /// Reads a member's place and score at one moment: `Ranked`.
    SortedRank {
        /// In this sorted set.
        key: Key,
        /// The member.
        member: Bytes,
        /// From which side to count.
        order: Order,
    },
    /// Reads the members at the places from `start` to `stop`, both included:
    /// `Scored`. Equal scores are in the order of their members' bytes.
    SortedByPlace {
        /// Of this sorted set.
        key: Key,
        /// The first place, from 0; negative ones count from the end.
        start: i64,
        /// The last place.
        stop: i64,
        /// From which side.
        order: Order,
    },
    /// Reads the members with scores from `min` to `max`, both included:
    /// `Scored`.
    SortedByScore {
        /// Of this sorted set.
        key: Key,
        /// The lowest score.
        min: f64,
        /// The highest score.
        max: f64,
        /// From which side.
        order: Order,
        /// How many to leave out at the beginning.
        skip: u32,
        /// How many at most.
        count: u32,
    },
    /// Counts the members with scores between these, both included: `Count`.
    SortedCount {
        /// In this sorted set.
        key: Key,
        /// The lowest score.
        min: f64,
        /// The highest score.
        max: f64,
    },
    /// Counts members: `Count`.
    SortedLen {
        /// Of this sorted set.
        key: Key,
    },
    /// Removes members from a side and returns them: `Scored`.
    SortedPop {
        /// From this sorted set.
        key: Key,
        /// From which side.
        order: Order,
        /// How many at most.
        count: u32,
    },
}

/// What must be the case for a put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutMode {
    /// Nothing.
    #[default]
    Always,
    /// The key is absent.
    IfAbsent,
    /// The key is present, with a value of any type.
    IfPresent,
}

/// What must be the case for a member of a sorted set to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SortedMode {
    /// Nothing.
    #[default]
    Always,
    /// The member is absent.
    IfAbsent,
    /// The member is present.
    IfPresent,
    /// The member is absent, or has a lower score.
    IfHigher,
    /// The member is absent, or has a higher score.
    IfLower,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The beginning.
    Left,
    /// The end.
    Right,
}

/// A side of a sorted set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// From the lowest score up.
    #[default]
    Ascending,
    /// From the highest score down.
    Descending,
}

/// A member of a sorted set with its score.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scored {
    /// The score.
    pub score: f64,
    /// The member.
    pub member: Bytes,
}

impl Scored {
    /// Returns `member` with `score`.
    #[must_use]
    pub fn new(score: f64, member: impl Into<Bytes>) -> Self {
        Self { score, member: member.into() }
    }
}
