use std::sync::Arc;

use super::{Engine, Trouble};

impl Engine {
    /// Says again and again that this process is there.
    pub(super) async fn beat(self: Arc<Self>) {
        let mut trouble = Trouble::new("beats");
        let mut until = self.clock.now() + self.ttl() / 3;
        loop {
            self.beats.bell.sleep(until, Some(until)).await;
            if self.parts.closing.is_cancelled() {
                return;
            }
            let sent = self.clock.now();
            until = match self.enrol("beat").await {
                Ok(was_forgotten) => {
                    trouble.over(&self);
                    self.beats.watermark.advance();
                    if was_forgotten {
                        self.ring();
                    }
                    sent + self.ttl() / 3
                }
                Err(error) => self.clock.now() + trouble.failed(&self, &error),
            };
        }
    }
}
