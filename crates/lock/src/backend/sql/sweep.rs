use std::time::Duration;

use trine_core::{Intensity, Jitter, Outage, Report, Tasks};

use super::BATCH;
use super::attempts::Attempts;
use super::tables::Tables;
use crate::{At, Result};

/// Longest time between two sweeps of one service; each takes a part of it at
/// random, so that services do not sweep together.
const INTERVAL: Duration = Duration::from_secs(60);

/// Sweeps now and then, so that no key of a process that died leaves its row.
pub(super) fn spawn(tasks: &Tasks, tables: Tables) {
    let token = tasks.token();
    tasks.supervise("lock sweep", Intensity::default(), move || {
        let (tables, token) = (tables.clone(), token.clone());
        async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = run(&tables) => {}
            }
        }
    });
}

async fn run(tables: &Tables) {
    let (jitter, mut outage) = (Jitter::random(), Outage::new());
    let mut wait = INTERVAL.mul_f64(jitter.next());
    loop {
        tables.clock.sleep_until(tables.clock.now() + wait).await;
        wait = INTERVAL.mul_f64(0.5 + jitter.next() / 2.0);
        match sweep(tables).await {
            Ok(swept) => {
                if let Some(failures) = outage.over() {
                    tracing::warn!(service = %tables.name, failures, "lock sweep works again");
                }
                // Those who wait for a key are passed one after the other.
                if swept > 0 {
                    wait = tables.claim_timeout.max(Duration::from_secs(1));
                }
            }
            Err(error) => {
                if let Some(failures) = outage.failed() {
                    let error = Report(&error);
                    tracing::warn!(service = %tables.name, failures, %error, "lock sweep failed");
                }
            }
        }
    }
}

/// Settles some of the records whose time is over.
async fn sweep(tables: &Tables) -> Result<usize> {
    let attempts = || Attempts::new(At::new("sweep", &tables.name), None);
    let looking = attempts();
    let keys = looking.bound(tables.expired(BATCH)).await;
    let keys = keys.map_err(|failure| looking.error(failure))?;
    // Each alone: one that cannot be read must not keep the others.
    let mut failed = None;
    for key in &keys {
        let swept = tables.change(&mut attempts(), &[key], |_, _, _, _| ()).await;
        failed = swept.err().or(failed);
    }
    failed.map_or(Ok(keys.len()), Err)
}
