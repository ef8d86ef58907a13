use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use trine_core::{Fence, Lease, LeaseEnd, Renewal};

use crate::options::terms;
use crate::service::Shared;
use crate::{Call, Error, Key, ReleaseOutcome, Result, Shape, Unavailable};

/// One grant of this process; the guards of one owner share it.
#[derive(Debug)]
pub(crate) struct Held {
    shared: Arc<Shared>,
    key: Key,
    shape: Shape,
    lease: Lease,
    _entry: Entry,
}

/// A share of a grant: each guard has one, and the last to be given back frees.
///
/// Counted apart from the grant itself, at which others look for a moment: a
/// loss that is told, a leader that asks its clock.
#[derive(Clone, Debug)]
pub(crate) struct Grip {
    held: Arc<Held>,
    share: Arc<()>,
}

impl Deref for Grip {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl Grip {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        key: &Key,
        shape: Shape,
        owner: Option<&Arc<str>>,
        lease: Lease,
    ) -> Self {
        let token = lease.fence().token();
        let owner = owner.map(|owner| (key.clone(), Arc::clone(owner)));
        let registry = Arc::clone(&shared.registry);
        let entry = Entry { registry, token, owner: owner.clone() };
        let (shared, key) = (Arc::clone(shared), key.clone());
        let held = Arc::new(Held { shared, key, shape, lease, _entry: entry });
        let grip = Self { held, share: Arc::default() };
        grip.shared.registry.insert(token, owner, &grip);
        grip
    }

    pub(crate) fn downgrade(&self) -> Weak<Held> {
        Arc::downgrade(&self.held)
    }

    /// Gives it back if this is the last share. Dropped or failed, the keeper of
    /// the leases goes on.
    pub(crate) async fn release(self) -> Result<ReleaseOutcome> {
        const OPERATION: &str = "release";
        let Self { held, share } = self;
        if Arc::into_inner(share).is_none() {
            return Ok(ReleaseOutcome::StillHeld);
        }
        let Held { shared, lease, .. } = &*held;
        // Before the store can give it to another.
        lease.end(LeaseEnd::Released);
        let claims = std::slice::from_ref(lease.claim());
        let outcomes = shared.backend.release(Call::new(OPERATION), claims).await?;
        lease.given_back();
        shared.lines.released(&held.key);
        outcomes.first().copied().ok_or_else(|| Error::Internal {
            at: shared.at(OPERATION),
            cause: "the store answered nothing".into(),
        })
    }
}

impl Held {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn lost(&self, operation: &'static str) -> Error {
        Error::Lost { at: self.shared.at(operation), key: self.key.clone() }
    }

    pub(crate) async fn extend(&self, ttl: Duration) -> Result<()> {
        const OPERATION: &str = "extend";
        let at = || self.shared.at(OPERATION);
        let terms = terms(ttl, self.shared.config.max_ttl.get())
            .map_err(|problem| Error::invalid(at(), problem))?;
        if !self.lease.is_held() {
            return Err(self.lost(OPERATION));
        }
        match self.lease.extend(terms).await {
            Renewal::Renewed => Ok(()),
            Renewal::Gone => Err(self.lost(OPERATION)),
            Renewal::Unreachable => Err(Error::unavailable(at(), Unavailable::Unreachable, None)),
        }
    }
}

/// A share that keeps nothing.
#[derive(Clone, Debug)]
struct WeakGrip {
    held: Weak<Held>,
    share: Weak<()>,
}

/// What this process holds.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    grants: Mutex<Grants>,
}

#[derive(Debug, Default)]
struct Grants {
    by_token: HashMap<u64, Weak<Held>>,
    by_owner: HashMap<(Key, Arc<str>), WeakGrip>,
}

impl Registry {
    fn insert(&self, token: u64, owner: Option<(Key, Arc<str>)>, grip: &Grip) {
        let mut grants = self.lock();
        grants.by_token.insert(token, grip.downgrade());
        if let Some(owner) = owner {
            let (held, share) = (grip.downgrade(), Arc::downgrade(&grip.share));
            grants.by_owner.insert(owner, WeakGrip { held, share });
        }
    }

    /// Returns what an owner holds of a key.
    pub(crate) fn find(&self, key: &Key, owner: &Arc<str>) -> Option<Grip> {
        let WeakGrip { held, share } =
            self.lock().by_owner.get(&(key.clone(), Arc::clone(owner)))?.clone();
        let held = held.upgrade().filter(|held| held.lease.is_held())?;
        Some(Grip { held, share: share.upgrade()? })
    }

    /// Ends a grant that the store gave away.
    pub(crate) fn lost(&self, fence: &Fence) {
        let found = self.lock().by_token.get(&fence.token()).and_then(Weak::upgrade);
        if let Some(held) = found.filter(|held| held.lease.fence() == fence) {
            held.lease.end(LeaseEnd::Gone);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a grant out of the registry when its last guard is gone.
#[derive(Debug)]
struct Entry {
    registry: Arc<Registry>,
    token: u64,
    owner: Option<(Key, Arc<str>)>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut grants = self.registry.lock();
        grants.by_token.remove(&self.token);
        if let Some(owner) = self.owner.take()
            && let Slot::Occupied(slot) = grants.by_owner.entry(owner)
            // The same owner may hold it again by now.
            && slot.get().held.strong_count() == 0
        {
            slot.remove();
        }
    }
}
