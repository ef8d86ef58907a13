use bytes::Bytes;
use quick_cache::Weighter;

use super::hash::Hash;
use super::list::List;
use super::moment::Turn;
use super::set::Set;
use super::sorted::Sorted;
use crate::{Error, Key, Result};

/// What is under a key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) data: Data,
    /// When it ends.
    pub(super) ends: u64,
}

/// A value; the collections are behind a pointer so that a slot stays small.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Text(Bytes),
    Collection(Box<Collection>),
}

#[derive(Clone, Debug)]
pub(super) enum Collection {
    Hash(Hash),
    Set(Set),
    List(List),
    Sorted(Sorted),
}

/// Bytes that an entry takes besides its key's text and its value: a slot and
/// the unused ones beside it, its place in the table, the counters of key and
/// value, and its place among the ends. Measured by `tests/heap.rs`.
pub(super) const ENTRY: u64 = 200;

/// Most bytes that a value takes in a collection besides its own.
pub(super) const ELEMENT: u64 = 160;

/// Returns how much the bytes of a value in a collection take on the heap, its
/// handle aside: they are counted from their first reading on.
pub(super) fn held(value: &Bytes) -> u64 {
    value.len() as u64 + 32
}

/// Returns a copy that keeps nothing alive but itself: what a caller hands in
/// may be a small part of a large buffer.
pub(super) fn own(value: &Bytes) -> Bytes {
    Bytes::copy_from_slice(value)
}

impl Data {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => TEXT,
            Self::Collection(collection) => match &**collection {
                Collection::Hash(_) => Hash::KIND,
                Collection::Set(_) => Set::KIND,
                Collection::List(_) => List::KIND,
                Collection::Sorted(_) => Sorted::KIND,
            },
        }
    }

    fn weight(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Collection(collection) => match &**collection {
                Collection::Hash(hash) => hash.weight(),
                Collection::Set(set) => set.weight(),
                Collection::List(list) => list.weight(),
                Collection::Sorted(sorted) => sorted.weight(),
            },
        }
    }

    /// Returns the bytes, or fails if it is a collection.
    pub(super) fn text(&self, turn: &Turn<'_>, key: &Key) -> Result<&Bytes> {
        self.as_text().ok_or_else(|| self.wrong_type(turn, key, TEXT))
    }

    pub(super) fn as_text(&self) -> Option<&Bytes> {
        match self {
            Self::Text(text) => Some(text),
            Self::Collection(_) => None,
        }
    }

    pub(super) fn wrong_type(&self, turn: &Turn<'_>, key: &Key, expected: &'static str) -> Error {
        Error::WrongType { at: turn.at(), key: key.clone(), expected, found: self.kind() }
    }
}

const TEXT: &str = "bytes";

/// One type of collection. The empty one stands for an absent key: whatever is
/// asked of it has the answer of a key that is not there.
pub(super) trait Kind: Default {
    /// Its name for messages.
    const KIND: &'static str;

    fn of(data: &Data) -> Option<&Self>;
    fn of_mut(data: &mut Data) -> Option<&mut Self>;
    fn into_data(self) -> Data;
    fn is_empty(&self) -> bool;
    /// Returns the bytes that its members take.
    fn weight(&self) -> u64;
}

/// Implements [`Kind`] for a collection with `len` and `weight`.
macro_rules! kind {
    ($type:ident, $name:literal) => {
        impl $crate::backend::memory::entry::Kind for $type {
            const KIND: &'static str = $name;

            fn of(data: &$crate::backend::memory::entry::Data) -> Option<&Self> {
                use $crate::backend::memory::entry::{Collection, Data};
                match data {
                    Data::Collection(collection) => match &**collection {
                        Collection::$type(it) => Some(it),
                        _ => None,
                    },
                    Data::Text(_) => None,
                }
            }

            fn of_mut(data: &mut $crate::backend::memory::entry::Data) -> Option<&mut Self> {
                use $crate::backend::memory::entry::{Collection, Data};
                match data {
                    Data::Collection(collection) => match &mut **collection {
                        Collection::$type(it) => Some(it),
                        _ => None,
                    },
                    Data::Text(_) => None,
                }
            }

            fn into_data(self) -> $crate::backend::memory::entry::Data {
                use $crate::backend::memory::entry::{Collection, Data};
                Data::Collection(Box::new(Collection::$type(self)))
            }

            fn is_empty(&self) -> bool {
                self.len() == 0
            }

            fn weight(&self) -> u64 {
                std::mem::size_of::<$crate::backend::memory::entry::Collection>() as u64
                    + self.bytes
            }
        }
    };
}
pub(super) use kind;

/// Returns the bytes of an entry, its key and bookkeeping included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight;

impl Weighter<Key, Entry> for Weight {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        ENTRY + key.as_str().len() as u64 + entry.data.weight()
    }
}
