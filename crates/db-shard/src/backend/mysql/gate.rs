use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use trine_core::Backoff;

use super::connector::{Connector, Refusal};
use super::session::Session;

/// Most connections of one pool that are being made at the same time.
const MAX_CONNECTING: usize = 4;
/// The waits between two attempts at a server that is away.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Lets few callers connect at the same time, and none to a server that has
/// just refused: while it is away one caller tries now and then, and the others
/// get the last refusal at once.
#[derive(Debug)]
pub(super) struct Gate {
    places: Semaphore,
    backoff: Backoff,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    refusal: Refusal,
    failures: u32,
    next_attempt: Instant,
    is_probed: bool,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            places: Semaphore::new(MAX_CONNECTING),
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
            outage: Mutex::new(None),
        }
    }

    /// Makes a connection, or says why there is none.
    ///
    /// Cancel-safe: a dropped attempt counts as none.
    pub(super) async fn connect(&self, connector: &Connector) -> Result<Session, Refusal> {
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let mut attempt = self.enter()?;
        let outcome = connector.connect().await;
        attempt.ended(outcome.as_ref().err());
        outcome
    }

    /// Returns why the server is away, if it is.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.outage().as_ref().map(|outage| outage.refusal.clone())
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Result<Attempt<'_>, Refusal> {
        let mut outage = self.outage();
        let is_probe = match &mut *outage {
            None => false,
            Some(outage) if outage.is_probed || Instant::now() < outage.next_attempt => {
                return Err(outage.refusal.clone());
            }
            Some(outage) => {
                outage.is_probed = true;
                true
            }
        };
        Ok(Attempt { gate: self, is_probe })
    }
}

/// One attempt to connect; while the server is away there is one at a time.
struct Attempt<'a> {
    gate: &'a Gate,
    is_probe: bool,
}

impl Attempt<'_> {
    fn ended(&mut self, refusal: Option<&Refusal>) {
        self.is_probe = false;
        let mut outage = self.gate.outage();
        let Some(refusal) = refusal.cloned() else {
            *outage = None;
            return;
        };
        let failures = outage.as_ref().map_or(0, |outage| outage.failures);
        // Full jitter may be next to nothing: half of the wait is certain.
        let delay = BACKOFF.0 / 2 + self.gate.backoff.delay(failures);
        *outage = Some(Outage {
            refusal,
            failures: failures.saturating_add(1),
            next_attempt: Instant::now() + delay,
            is_probed: false,
        });
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe
            && let Some(outage) = &mut *self.gate.outage()
        {
            outage.is_probed = false;
        }
    }
}
