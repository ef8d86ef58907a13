use std::sync::Arc;

use super::{Engine, Trouble};
use crate::Call;

impl Engine {
    /// Says again and again that this process is there. When it was not heard
    /// for so long that the store may have forgotten it, it enrols anew.
    pub(super) async fn beat(self: Arc<Self>) {
        let mut trouble = Trouble::new("beats");
        let mut heard = self.clock.now();
        let mut until = heard + self.ttl() / 3;
        loop {
            self.beats.bell.sleep(until, Some(until)).await;
            let sent = self.clock.now();
            let is_forgotten = sent.saturating_since(heard) >= self.ttl();
            let answer = if is_forgotten {
                self.enrol("beat").await
            } else {
                self.backend.beat(Call::new("beat"), &self.process, self.ttl()).await
            };
            until = match answer {
                Ok(()) => {
                    trouble.over(&self);
                    self.beats.watermark.advance();
                    heard = sent;
                    if is_forgotten {
                        self.ring();
                    }
                    sent + self.ttl() / 3
                }
                Err(error) => self.clock.now() + trouble.failed(&self, &error),
            };
            if self.parts.closing.is_cancelled() {
                return;
            }
        }
    }
}
