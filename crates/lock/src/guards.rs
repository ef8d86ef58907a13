use futures_util::future::{join_all, select_all};
use trine_core::LeaseEnd;

use crate::{Guard, ReleaseOutcome, Result};

/// Several keys that are held together, in their order.
#[derive(Debug)]
#[must_use = "guards are given back when they are dropped"]
pub struct Guards {
    guards: Vec<Guard>,
}

impl Guards {
    pub(crate) fn new(guards: Vec<Guard>) -> Self {
        Self { guards }
    }

    /// Returns each of them, in the order of their keys.
    pub fn as_slice(&self) -> &[Guard] {
        &self.guards
    }

    /// Returns each of them, to be released one by one.
    #[must_use]
    pub fn into_vec(self) -> Vec<Guard> {
        self.guards
    }

    /// Tells whether all are held at this moment, by the clock.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.guards.iter().all(Guard::is_held)
    }

    /// Resolves when one of them is over, and says why.
    pub fn lost(&self) -> impl Future<Output = LeaseEnd> + Send + use<> {
        let each: Vec<_> = self.guards.iter().map(|guard| Box::pin(guard.lost())).collect();
        async move { select_all(each).await.0 }
    }

    /// Gives all of them back and says what the store had of each.
    ///
    /// # Errors
    ///
    /// Fails with the first error of the store, after all were tried; what
    /// failed is given back in the background.
    pub async fn release(self) -> Result<Vec<ReleaseOutcome>> {
        join_all(self.guards.into_iter().map(Guard::release)).await.into_iter().collect()
    }
}
