use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::{Key, Shape};

/// Who has a key, as the store says it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The process: host, process id and a random part.
    pub process: Arc<str>,
    /// What it said about itself.
    pub label: Option<Arc<str>>,
    /// What it leaves to others.
    pub shape: Shape,
    /// Since when, by the store's wall clock.
    pub since: SystemTime,
    /// How long the store keeps it without a renewal.
    pub expires_in: Duration,
    /// In what way.
    pub state: HolderState,
}

/// In what way a key is somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HolderState {
    /// It holds the key.
    Holding {
        /// The token of its grant.
        token: u64,
    },
    /// It let go before its `at_least` was over: the key is kept until then.
    Kept {
        /// The token of its grant.
        token: u64,
    },
    /// It is next, and was told that the key is free.
    Next,
}

impl Holder {
    /// Returns a holder, for backends of one's own.
    #[must_use]
    pub fn new(
        process: Arc<str>,
        shape: Shape,
        since: SystemTime,
        expires_in: Duration,
        state: HolderState,
    ) -> Self {
        Self { process, label: None, shape, since, expires_in, state }
    }

    /// Sets what it said about itself.
    #[must_use]
    pub fn with_label(mut self, label: Option<Arc<str>>) -> Self {
        self.label = label;
        self
    }

    /// Returns it as it is after `elapsed`.
    pub(crate) fn after(&self, elapsed: Duration) -> Self {
        Self { expires_in: self.expires_in.saturating_sub(elapsed), ..self.clone() }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.process)?;
        if let Some(label) = &self.label {
            write!(f, " ({label})")?;
        }
        write!(f, ", {}", self.shape)
    }
}

/// A key that is somebody's or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldKey {
    /// The key.
    pub key: Key,
    /// Who has it; nobody for a moment while it is handed on.
    pub holders: Vec<Holder>,
    /// Who is registered as waiting: processes, or with `order = first_come`
    /// single calls.
    pub waiters: u64,
}

impl HeldKey {
    /// Returns such a key, for backends of one's own.
    #[must_use]
    pub fn new(key: Key, holders: Vec<Holder>, waiters: u64) -> Self {
        Self { key, holders, waiters }
    }
}

/// Some of the keys that are somebody's, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The keys.
    pub keys: Vec<HeldKey>,
    /// The key after which the next page begins; `None` after the last.
    pub next: Option<Key>,
}

impl Page {
    /// Returns a page that the keys after `next` follow.
    #[must_use]
    pub fn new(keys: Vec<HeldKey>, next: Option<Key>) -> Self {
        Self { keys, next }
    }
}
