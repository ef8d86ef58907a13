use std::sync::Arc;
use std::time::Duration;

use trine_core::{Claim, LeaseTerms, Moment, State, Tasks};

use super::run::{Run, RunState};
use super::runs::Slots;
use super::{Engine, Trouble};
use crate::{AttemptEnd, Call, ClaimAnswer, ClaimedTick, Error, Finish};

/// Most ticks that one call asks for.
const TICKS: u32 = 256;

/// After a look that found nothing, although something was said to be ready.
const PAUSE: Duration = Duration::from_millis(10);

/// Until the places that another look has reserved are known.
const RESERVED: Duration = Duration::from_millis(5);

impl Engine {
    /// Takes ticks as long as there are places, and begins their runs.
    pub(super) async fn claim(self: Arc<Self>, runs: Tasks) {
        let parts = &self.parts;
        let (config, closing) = (&parts.config, &parts.closing);
        let mut states = parts.lifecycle.watch();
        tokio::select! {
            () = closing.cancelled() => {}
            // Before, a run could not be told from one after a shutdown.
            _ = states.wait_for(|state| *state == State::Running) => {}
        }
        let mut trouble = Trouble::new("claims");
        while !closing.is_cancelled() {
            let Some(slots) = parts.runs.reserve(TICKS) else {
                self.claims.watermark.idle();
                let wait = if parts.runs.is_full() { config.poll.get() } else { RESERVED };
                self.rest(self.clock.now() + wait, None).await;
                continue;
            };
            let (sent, count) = (self.clock.now(), slots.count());
            let call = Call::new("claim");
            let answer = self.backend.claim(call, &self.process, self.ttl(), count).await;
            let received = self.clock.now();
            let (until, due) = match answer {
                Ok(answer) => {
                    trouble.over(&self);
                    self.claims.watermark.advance();
                    let (now, ready) = (answer.now, answer.next_ready);
                    let given = answer.ticks.len();
                    self.begin(answer, slots, sent, &runs);
                    let is_more = ready.is_some_and(|ready| ready <= now);
                    if is_more && given > 0 {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    let due = ready.map(|ready| self.moment(now, received, ready));
                    let due = if is_more { Some(received + PAUSE) } else { due };
                    let until = received + config.poll.get();
                    (due.map_or(until, |due| due.min(until)), due)
                }
                Err(error) => (received + trouble.failed(&self, &error), None),
            };
            self.rest(until, due).await;
        }
        // From now on the others are asked alone.
        let withdrawn = self.backend.withdraw(Call::new("withdraw"), &self.process, None).await;
        if let Err(error) = withdrawn {
            tracing::debug!(service = &*self.name, kind = %error.kind(), "handlers not withdrawn");
        }
        self.claims.ended.cancel();
    }

    async fn rest(&self, until: Moment, due: Option<Moment>) {
        tokio::select! {
            () = self.parts.closing.cancelled() => {}
            () = self.claims.bell.sleep(until, due) => {}
        }
    }

    /// Begins a run for each tick.
    fn begin(self: &Arc<Self>, answer: ClaimAnswer, mut slots: Slots, sent: Moment, runs: &Tasks) {
        let now = answer.now;
        for tick in answer.ticks {
            self.parts.meters.claimed(&tick, now);
            let handler = self.handlers.get(&tick.job);
            let in_flight = self.parts.lifecycle.enter();
            let (Some(handler), Ok(in_flight)) = (handler, in_flight) else {
                self.refuse(tick, runs);
                continue;
            };
            let (Some(keeper), Ok(terms), Some(slot)) =
                (self.keeper.get(), self.terms(), slots.take())
            else {
                self.refuse(tick, runs);
                continue;
            };
            let lease = keeper.hold(Claim::new(tick.fence.clone(), terms), sent);
            let state = Arc::new(RunState::new(self, tick, lease, &handler));
            let place = self.parts.runs.begin(&state, slot);
            let run = Run { engine: Arc::clone(self), handler, state, place, in_flight };
            runs.spawn("run", run.run());
        }
    }

    /// A margin of a tenth, as locks have it.
    fn terms(&self) -> Result<LeaseTerms, Error> {
        let terms = LeaseTerms::new(self.ttl(), self.ttl() / 10);
        terms.map_err(|error| Error::Internal { at: self.at("claim"), cause: error.into() })
    }

    /// Gives back a tick that this process cannot run: its handler is being
    /// removed, or the service is being shut down.
    fn refuse(self: &Arc<Self>, tick: ClaimedTick, runs: &Tasks) {
        let engine = Arc::clone(self);
        runs.spawn("refusal", async move {
            let jobs = [tick.job.clone()];
            let call = Call::new("withdraw");
            if !engine.handlers.has(&tick.job) {
                // Else it would be given to this process again, and again.
                let withdrawn = engine.backend.withdraw(call, &engine.process, Some(&jobs)).await;
                if withdrawn.is_err() {
                    return;
                }
            }
            let finish = Finish::new(&tick, AttemptEnd::HandedOver, None);
            engine.finishes.send(finish, &engine.parts.cut).await;
        });
    }
}
