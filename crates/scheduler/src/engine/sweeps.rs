use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Engine, Trouble};
use crate::Call;

/// Between two sweeps.
const PERIOD: Duration = Duration::from_secs(60);

/// About how many ticks go at a time, and how often in a row.
const ROWS: u32 = 1_000;
const STEPS: u32 = 100;

impl Engine {
    /// Has the store forget what is old, as long as this process plans.
    pub(super) async fn sweep(self: Arc<Self>) {
        let config = &self.parts.config;
        let (age, runs) = (config.history_age.get(), config.history_runs);
        let mut trouble = Trouble::new("sweeps");
        loop {
            self.clock.sleep_until(self.clock.now() + PERIOD).await;
            for _ in 0..STEPS {
                if !self.is_planner.load(Ordering::Relaxed) {
                    break;
                }
                match self.backend.sweep(Call::new("sweep"), age, runs, ROWS).await {
                    Ok(gone) => {
                        trouble.over(&self);
                        if gone < u64::from(ROWS) {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    Err(error) => {
                        let _next_period = trouble.failed(&self, &error);
                        break;
                    }
                }
            }
        }
    }
}
