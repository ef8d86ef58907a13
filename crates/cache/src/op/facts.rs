use bytes::Bytes;

use super::{Op, PutMode};
use crate::{Batch, Key, Ttl};

/// The size of a score on its way.
const SCORE: usize = size_of::<f64>();

/// What an operation carries beside its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// How many values.
    pub(crate) count: usize,
    /// Their size in bytes.
    pub(crate) bytes: usize,
    /// The size of the largest.
    pub(crate) largest: usize,
}

impl Load {
    pub(crate) fn of(sizes: impl IntoIterator<Item = usize>) -> Self {
        sizes.into_iter().fold(Self::default(), |load, size| Self {
            count: load.count + 1,
            bytes: load.bytes + size,
            largest: load.largest.max(size),
        })
    }
}

impl Op {
    /// Returns an operation that reads the bytes under `key`.
    #[must_use]
    pub fn get(key: impl Into<Key>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Returns an operation that puts bytes under `key`, whatever is there,
    /// with the default lifetime.
    #[must_use]
    pub fn put(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        let (ttl, mode) = (Ttl::Default, PutMode::Always);
        Self::Put { key: key.into(), value: value.into(), ttl, mode }
    }

    /// Returns an operation that removes what is under `key`.
    #[must_use]
    pub fn remove(key: impl Into<Key>) -> Self {
        Self::Remove { key: key.into() }
    }

    /// Returns its key.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Get { key }
            | Self::Lookup { key }
            | Self::Put { key, .. }
            | Self::Swap { key, .. }
            | Self::Take { key }
            | Self::Touch { key, .. }
            | Self::Add { key, .. }
            | Self::Remove { key }
            | Self::Exists { key }
            | Self::Expire { key, .. }
            | Self::Lifetime { key }
            | Self::Time { key }
            | Self::HashGet { key, .. }
            | Self::HashAll { key }
            | Self::HashScan { key, .. }
            | Self::HashPut { key, .. }
            | Self::HashPutNew { key, .. }
            | Self::HashAdd { key, .. }
            | Self::HashRemove { key, .. }
            | Self::HashLen { key }
            | Self::SetAdd { key, .. }
            | Self::SetRemove { key, .. }
            | Self::SetHas { key, .. }
            | Self::SetAll { key }
            | Self::SetLen { key }
            | Self::SetRandom { key, .. }
            | Self::SetPop { key, .. }
            | Self::ListPush { key, .. }
            | Self::ListPop { key, .. }
            | Self::ListRange { key, .. }
            | Self::ListTrim { key, .. }
            | Self::ListIndex { key, .. }
            | Self::ListRemove { key, .. }
            | Self::ListLen { key }
            | Self::SortedPut { key, .. }
            | Self::SortedAdd { key, .. }
            | Self::SortedRemove { key, .. }
            | Self::SortedRemovePlaces { key, .. }
            | Self::SortedRemoveScores { key, .. }
            | Self::SortedScores { key, .. }
            | Self::SortedRank { key, .. }
            | Self::SortedByPlace { key, .. }
            | Self::SortedByScore { key, .. }
            | Self::SortedCount { key, .. }
            | Self::SortedLen { key }
            | Self::SortedPop { key, .. } => key,
        }
    }

    /// Tells whether it may change something.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(
            self,
            Self::Get { .. }
                | Self::Lookup { .. }
                | Self::Exists { .. }
                | Self::Lifetime { .. }
                | Self::Time { .. }
                | Self::HashGet { .. }
                | Self::HashAll { .. }
                | Self::HashScan { .. }
                | Self::HashLen { .. }
                | Self::SetHas { .. }
                | Self::SetAll { .. }
                | Self::SetLen { .. }
                | Self::SetRandom { .. }
                | Self::ListRange { .. }
                | Self::ListIndex { .. }
                | Self::ListLen { .. }
                | Self::SortedScores { .. }
                | Self::SortedRank { .. }
                | Self::SortedByPlace { .. }
                | Self::SortedByScore { .. }
                | Self::SortedCount { .. }
                | Self::SortedLen { .. }
        )
    }

    /// Returns the lifetime it gives, if it is of those that give one.
    #[must_use]
    pub fn ttl(&self) -> Option<Ttl> {
        match self {
            Self::Put { ttl, .. }
            | Self::Swap { ttl, .. }
            | Self::Touch { ttl, .. }
            | Self::Add { ttl, .. }
            | Self::Expire { ttl, .. }
            | Self::HashPut { ttl, .. }
            | Self::HashPutNew { ttl, .. }
            | Self::HashAdd { ttl, .. }
            | Self::SetAdd { ttl, .. }
            | Self::ListPush { ttl, .. }
            | Self::SortedPut { ttl, .. }
            | Self::SortedAdd { ttl, .. } => Some(*ttl),
            _ => None,
        }
    }

    pub(crate) fn ttl_mut(&mut self) -> Option<&mut Ttl> {
        match self {
            Self::Put { ttl, .. }
            | Self::Swap { ttl, .. }
            | Self::Touch { ttl, .. }
            | Self::Add { ttl, .. }
            | Self::Expire { ttl, .. }
            | Self::HashPut { ttl, .. }
            | Self::HashPutNew { ttl, .. }
            | Self::HashAdd { ttl, .. }
            | Self::SetAdd { ttl, .. }
            | Self::ListPush { ttl, .. }
            | Self::SortedPut { ttl, .. }
            | Self::SortedAdd { ttl, .. } => Some(ttl),
            _ => None,
        }
    }

    /// Tells whether it puts a whole value or is about the lifetime itself, so
    /// that the default lifetime applies whatever was there.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(
            self,
            Self::Put { .. } | Self::Swap { .. } | Self::Touch { .. } | Self::Expire { .. }
        )
    }

    /// Returns what it carries beside its key.
    pub(crate) fn load(&self) -> Load {
        match self {
            Self::Put { value, .. } | Self::Swap { value, .. } | Self::ListRemove { value, .. } => {
                Load::of([value.len()])
            }
            Self::HashGet { fields, .. } | Self::HashRemove { fields, .. } => {
                Load::of(fields.iter().map(Bytes::len))
            }
            Self::HashPut { fields, .. } => {
                Load::of(fields.iter().flat_map(|(name, value)| [name.len(), value.len()]))
            }
            Self::HashPutNew { field, value, .. } => Load::of([field.len(), value.len()]),
            Self::SetAdd { members, .. }
            | Self::SetRemove { members, .. }
            | Self::SetHas { members, .. }
            | Self::SortedRemove { members, .. }
            | Self::SortedScores { members, .. } => Load::of(members.iter().map(Bytes::len)),
            Self::ListPush { values, .. } => Load::of(values.iter().map(Bytes::len)),
            Self::SortedPut { entries, .. } => {
                Load::of(entries.iter().flat_map(|entry| [entry.member.len(), SCORE]))
            }
            Self::HashAdd { field: name, .. }
            | Self::SortedAdd { member: name, .. }
            | Self::SortedRank { member: name, .. } => Load::of([name.len()]),
            _ => Load::default(),
        }
    }

    /// Says what is wrong with it, whatever is stored.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(problem) = self.ttl().and_then(Ttl::problem) {
            return Some(problem);
        }
        let (count, max) = (self.load().count, Batch::MAX_VALUES);
        if count > max {
            return Some(format!("{count} values in one operation: expected at most {max}"));
        }
        let empty = |what: &str| Some(format!("no {what} given"));
        match self {
            Self::HashGet { fields, .. } | Self::HashRemove { fields, .. } if fields.is_empty() => {
                empty("field")
            }
            Self::HashPut { fields, .. } if fields.is_empty() => empty("field"),
            Self::SetAdd { members, .. }
            | Self::SetRemove { members, .. }
            | Self::SetHas { members, .. }
            | Self::SortedRemove { members, .. }
            | Self::SortedScores { members, .. }
                if members.is_empty() =>
            {
                empty("member")
            }
            Self::ListPush { values, .. } if values.is_empty() => empty("value"),
            Self::SortedPut { entries, .. } if entries.is_empty() => empty("member"),
            Self::SortedPut { entries, .. } if entries.iter().any(|each| each.score.is_nan()) => {
                Some("a score is not a number".to_owned())
            }
            Self::SortedAdd { by, .. } if by.is_nan() => {
                Some("what to add to the score is not a number".to_owned())
            }
            Self::SortedRemoveScores { min, max, .. }
            | Self::SortedByScore { min, max, .. }
            | Self::SortedCount { min, max, .. }
                if min.is_nan() || max.is_nan() =>
            {
                Some("a bound of the scores is not a number".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the stable name, such as `"hash_get"`, which is also its label
    /// in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Get { .. } => "get",
            Self::Lookup { .. } => "lookup",
            Self::Put { .. } => "put",
            Self::Swap { .. } => "swap",
            Self::Take { .. } => "take",
            Self::Touch { .. } => "touch",
            Self::Add { .. } => "add",
            Self::Remove { .. } => "remove",
            Self::Exists { .. } => "exists",
            Self::Expire { .. } => "expire",
            Self::Lifetime { .. } => "lifetime",
            Self::Time { .. } => "time",
            Self::HashGet { .. } => "hash_get",
            Self::HashAll { .. } => "hash_all",
            Self::HashScan { .. } => "hash_scan",
            Self::HashPut { .. } => "hash_put",
            Self::HashPutNew { .. } => "hash_put_new",
            Self::HashAdd { .. } => "hash_add",
            Self::HashRemove { .. } => "hash_remove",
            Self::HashLen { .. } => "hash_len",
            Self::SetAdd { .. } => "set_add",
            Self::SetRemove { .. } => "set_remove",
            Self::SetHas { .. } => "set_has",
            Self::SetAll { .. } => "set_all",
            Self::SetLen { .. } => "set_len",
            Self::SetRandom { .. } => "set_random",
            Self::SetPop { .. } => "set_pop",
            Self::ListPush { .. } => "list_push",
            Self::ListPop { .. } => "list_pop",
            Self::ListRange { .. } => "list_range",
            Self::ListTrim { .. } => "list_trim",
            Self::ListIndex { .. } => "list_index",
            Self::ListRemove { .. } => "list_remove",
            Self::ListLen { .. } => "list_len",
            Self::SortedPut { .. } => "sorted_put",
            Self::SortedAdd { .. } => "sorted_add",
            Self::SortedRemove { .. } => "sorted_remove",
            Self::SortedRemovePlaces { .. } => "sorted_remove_places",
            Self::SortedRemoveScores { .. } => "sorted_remove_scores",
            Self::SortedScores { .. } => "sorted_scores",
            Self::SortedRank { .. } => "sorted_rank",
            Self::SortedByPlace { .. } => "sorted_by_place",
            Self::SortedByScore { .. } => "sorted_by_score",
            Self::SortedCount { .. } => "sorted_count",
            Self::SortedLen { .. } => "sorted_len",
            Self::SortedPop { .. } => "sorted_pop",
        }
    }

    /// Returns the type of what it works on, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.name().split_once('_') {
            Some(("hash", _)) => "a hash",
            Some(("set", _)) => "a set",
            Some(("list", _)) => "a list",
            Some(("sorted", _)) => "a sorted set",
            _ => "bytes",
        }
    }
}
