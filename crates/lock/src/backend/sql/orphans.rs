use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trine_core::Tasks;

use super::attempts::Attempts;
use super::tables::Tables;
use crate::{At, Want};

/// Between two attempts to give back what nobody knows of.
const PAUSE: Duration = Duration::from_millis(500);

/// Requests that ended without an answer and may have been granted.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    nonces: Arc<Mutex<HashSet<u64>>>,
}

impl Orphans {
    /// Notes that the request is asked again: what it was granted is its own.
    pub(super) fn claimed(&self, want: &Want) {
        lock(&self.nonces).remove(&want.nonce);
    }

    /// Gives back in the background what the request was granted, until the
    /// store would by itself.
    pub(super) fn give_back(&self, tasks: &Tasks, tables: &Tables, want: &Want) {
        lock(&self.nonces).insert(want.nonce);
        let (nonces, tables, want) = (Arc::clone(&self.nonces), tables.clone(), want.clone());
        let token = tasks.token();
        tasks.spawn("lock orphan", async move {
            let end = tables.clock.now() + want.terms.ttl();
            while lock(&nonces).contains(&want.nonce) && tables.clock.now() < end {
                let mut attempts = Attempts::new(At::new("release", &tables.name), None);
                let forget = |_: &str, record: &mut super::Record, now: super::Now, _| {
                    // One that was asked again meanwhile has written the record:
                    // this write is then refused, and the next look is here.
                    if lock(&nonces).contains(&want.nonce) && record.forget(now.time, &want) {
                        tracing::debug!(service = %tables.name, "a lost grant is given back");
                    }
                };
                // It may come late: the database is asked until the end.
                let _ = tables.change(&mut attempts, &[want.key.as_str()], forget).await;
                tokio::select! {
                    () = token.cancelled() => break,
                    () = tables.clock.sleep_until(tables.clock.now() + PAUSE) => {}
                }
            }
            lock(&nonces).remove(&want.nonce);
        });
    }
}

fn lock(nonces: &Mutex<HashSet<u64>>) -> MutexGuard<'_, HashSet<u64>> {
    nonces.lock().unwrap_or_else(PoisonError::into_inner)
}
