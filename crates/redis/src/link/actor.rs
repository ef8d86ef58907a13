use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use trine_core::{Outage, Report};

use super::{Live, Shared, State};
use crate::attempts::Attempts;
use crate::dial::{Dialed, Purpose, Reason, Refusal};

/// A connection that was just felt is not suspected again for so long: callers
/// that give up early may be many.
const REST: Duration = Duration::from_millis(100);

/// Keeps a link up until it is closed.
pub(super) async fn run(shared: Arc<Shared>, first: Option<Dialed>) {
    let _closed = Closed(&shared);
    keep_up(&shared, first).await;
}

/// Whatever ends the task, nobody waits for it any more.
struct Closed<'a>(&'a Shared);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.live.store(None);
        self.0.state.send_replace(State::Closed);
    }
}

async fn keep_up(shared: &Shared, mut first: Option<Dialed>) {
    let stop = &shared.stop;
    let mut attempts = Attempts::new(&shared.backoff);
    let mut outage = Outage::new();
    loop {
        let dialed = match first.take() {
            Some(dialed) => Ok(dialed),
            None => {
                shared.state.send_replace(State::Connecting);
                let dialing = shared.dialer.dial(&shared.address, Purpose::Commands);
                let Some(dialed) = stop.run_until_cancelled(dialing).await else { return };
                dialed
            }
        };
        let refusal = match dialed {
            Ok(dialed) => {
                shared.counters.connects.add(1);
                if let Some(failures) = outage.over() {
                    tracing::warn!(address = %shared.address, failures, "redis is back");
                }
                let began = Instant::now();
                serve(shared, dialed).await;
                if stop.is_cancelled() {
                    return;
                }
                if attempts.have_succeeded(began) {
                    shared.trouble.notify_one();
                    continue;
                }
                let address = shared.address.to_string().into();
                Arc::new(Refusal::new(&address, Reason::ShortLived))
            }
            Err(refusal) => refusal,
        };
        if let Some(failures) = outage.failed() {
            let error = Report(&*refusal).to_string();
            tracing::warn!(address = %shared.address, failures, error, "redis is away");
        }
        shared.state.send_replace(State::Waiting(refusal));
        shared.trouble.notify_one();
        if stop.run_until_cancelled(attempts.wait()).await.is_none() {
            return;
        }
    }
}

/// Moves the bytes of a connection until it ends, or until it answers neither
/// a command nor a PING in time.
async fn serve(shared: &Shared, dialed: Dialed) {
    let Dialed { connection, mut driver, facts, pulse } = dialed;
    let mut own = connection.clone();
    let connected = Live::new(connection, facts, &shared.suspected);
    shared.live.store(Some(Arc::new(connected)));
    shared.state.send_replace(State::Connected);
    let live = Withdrawn(shared);
    loop {
        tokio::select! {
            biased;
            () = &mut driver => return,
            () = shared.suspected.notified() => {}
            () = shared.stop.cancelled() => break,
        }
        let feeling = pulse.is_felt(&mut driver, &mut own);
        match shared.stop.run_until_cancelled(feeling).await {
            Some(true) => {}
            Some(false) => return,
            None => break,
        }
        tokio::select! {
            biased;
            () = &mut driver => return,
            () = sleep(REST) => {}
            () = shared.stop.cancelled() => break,
        }
    }
    drop((live, own));
    // The driver ends when the last call under way has its reply.
    let _cut = timeout(shared.dialer.response_timeout(), driver).await;
}

/// New calls do not use a connection that has ended.
struct Withdrawn<'a>(&'a Shared);

impl Drop for Withdrawn<'_> {
    fn drop(&mut self) {
        self.0.live.store(None);
        self.0.state.send_replace(State::Connecting);
    }
}
