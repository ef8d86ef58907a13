use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::job::Work;
use crate::{Definition, Job, JobId};

/// The jobs that this process can run.
#[derive(Default)]
pub(crate) struct Handlers {
    of: RwLock<HashSet<Handler>>,
}

/// What to run, and how: one of each name. A key of its own beside it would take
/// a third more.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) definition: Arc<Definition>,
    pub(crate) work: Work,
}

impl From<&Job> for Handler {
    fn from(job: &Job) -> Self {
        Self { definition: Arc::clone(&job.definition), work: job.work.clone() }
    }
}

impl Borrow<JobId> for Handler {
    fn borrow(&self) -> &JobId {
        &self.definition.id
    }
}

impl Hash for Handler {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.id.hash(state);
    }
}

impl PartialEq for Handler {
    fn eq(&self, other: &Self) -> bool {
        self.definition.id == other.definition.id
    }
}

impl Eq for Handler {}

impl Handlers {
    pub(crate) fn get(&self, job: &JobId) -> Option<Handler> {
        self.read().get(job).cloned()
    }

    pub(crate) fn has(&self, job: &JobId) -> bool {
        self.read().contains(job)
    }

    pub(crate) fn count(&self) -> usize {
        self.read().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Returns the revision of the handler, if there is one.
    pub(crate) fn revision(&self, job: &JobId) -> Option<u64> {
        self.read().get(job).map(|handler| handler.definition.revision)
    }

    pub(crate) fn definitions(&self) -> Vec<Arc<Definition>> {
        self.read().iter().map(|handler| Arc::clone(&handler.definition)).collect()
    }

    /// Puts the handlers in, and returns those that were there before.
    pub(crate) fn put<'j>(&self, jobs: impl IntoIterator<Item = &'j Job>) -> Vec<Before> {
        let mut of = self.write();
        let before = |job: &Job| Before { id: job.id().clone(), handler: of.replace(job.into()) };
        jobs.into_iter().map(before).collect()
    }

    /// Takes back what was put.
    pub(crate) fn restore(&self, before: Vec<Before>) {
        let mut of = self.write();
        for Before { id, handler } in before {
            match handler {
                Some(handler) => of.replace(handler),
                None => of.take(&id),
            };
        }
    }

    pub(crate) fn remove(&self, job: &JobId) {
        self.write().remove(job);
    }

    /// Lets go of all handlers, which may hold the service themselves.
    #[expect(clippy::mutable_key_type, reason = "found by its name, which nothing changes")]
    pub(crate) fn clear(&self) {
        let handlers = std::mem::take(&mut *self.write());
        drop(handlers);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashSet<Handler>> {
        self.of.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashSet<Handler>> {
        self.of.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a handler replaced.
pub(crate) struct Before {
    id: JobId,
    handler: Option<Handler>,
}
