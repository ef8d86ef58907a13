use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Engine, Trouble};
use crate::{Call, PlanAnswer};

/// Most jobs that one step plans.
const JOBS: u32 = 1_000;

/// After the lease of another planner is over: the store must see it too.
const AFTER: Duration = Duration::from_millis(5);

impl Engine {
    /// Plans what is due, or waits to be the planner.
    pub(super) async fn plan(self: Arc<Self>) {
        let (config, closing) = (&self.parts.config, &self.parts.closing);
        let (lease, poll) = (config.planner_lease.get(), config.poll.get());
        let mut trouble = Trouble::new("planner");
        while !closing.is_cancelled() {
            let call = Call::new("plan");
            let answer = self.backend.plan(call, &self.process, lease, JOBS).await;
            let received = self.clock.now();
            let (sleep, due) = match answer {
                Ok(PlanAnswer::Planned { now, ticks, next_due }) => {
                    trouble.over(&self);
                    self.is_planner.store(true, Ordering::Relaxed);
                    self.planner.watermark.advance();
                    self.parts.meters.planned.add(ticks);
                    if ticks > 0 {
                        self.claims.bell.ring();
                    }
                    if next_due.is_some_and(|due| due <= now) {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    let due = next_due.map(|due| self.moment(now, received, due));
                    (poll.min(lease / 3), due)
                }
                Ok(PlanAnswer::Other { retry_in, .. }) => {
                    trouble.over(&self);
                    self.is_planner.store(false, Ordering::Relaxed);
                    self.planner.watermark.advance();
                    (poll.min(retry_in + AFTER), None)
                }
                Err(error) => {
                    let wait = trouble.failed(&self, &error);
                    (wait, None)
                }
            };
            let until = received + sleep;
            let until = due.map_or(until, |due| due.min(until));
            tokio::select! {
                () = closing.cancelled() => {}
                () = self.planner.bell.sleep(until, due) => {}
            }
        }
        self.is_planner.store(false, Ordering::Relaxed);
        // Another waits for the end of the lease if this is not heard.
        if let Err(error) = self.backend.resign(Call::new("resign"), &self.process).await {
            tracing::debug!(service = &*self.name, kind = %error.kind(), "planner not resigned");
        }
        self.planner.ended.cancel();
    }
}
