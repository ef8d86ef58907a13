use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What bounds a stripe.
#[derive(Debug)]
pub(super) enum Bound {
    /// Its own part of the bytes; entries that are used least make room.
    Own { most: u64 },
    /// What is left of the bytes of all; a write without room is refused.
    Shared(Share),
}

/// A bound has no room.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) used: u64,
    pub(super) max: u64,
}

impl Bound {
    /// Makes sure that the stripe may have `bytes`, for an entry that will have
    /// `needed` of them.
    pub(super) fn reserve(&mut self, bytes: u64, needed: u64) -> Result<(), Full> {
        match self {
            Self::Own { most } if needed > *most => Err(Full { used: needed, max: *most }),
            Self::Own { .. } => Ok(()),
            Self::Shared(share) => {
                if share.reserve(bytes) {
                    return Ok(());
                }
                Err(Full { used: share.budget.used(), max: share.budget.max() })
            }
        }
    }
}

/// The bytes that all stripes of a store that refuses share.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    max: u64,
}

impl Budget {
    pub(super) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), max })
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }
}

/// What one stripe has of the budget.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) budget: Arc<Budget>,
    held: u64,
}

impl Share {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), held: 0 }
    }

    /// Takes what is missing to `bytes`, and tells whether so many were left.
    /// What was freed and not settled yet is taken by nobody else.
    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        let Some(missing) = bytes.checked_sub(self.held).filter(|missing| *missing > 0) else {
            return true;
        };
        let take = |used: u64| used.checked_add(missing).filter(|used| *used <= self.budget.max);
        let used = &self.budget.used;
        let is_taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if is_taken {
            self.held = bytes;
        }
        is_taken
    }

    /// Gives back what was taken beyond `used`.
    pub(super) fn settle(&mut self, used: u64) {
        if used < self.held {
            self.budget.used.fetch_sub(self.held - used, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_add(used - self.held, Ordering::Relaxed);
        }
        self.held = used;
    }
}
