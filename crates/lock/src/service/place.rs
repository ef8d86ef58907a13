use std::sync::Arc;

use tokio::sync::Notify;
use trine_core::Moment;

use super::Shared;
use super::engine::Engine;
use super::question::Ask;
use crate::lines::{LineId, Turn};
use crate::request::Request;
use crate::{Call, Waiter};

/// A place in a line of this process, left when it is dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    engine: Engine,
    pub(super) id: LineId,
    ticket: u64,
    wake: Arc<Notify>,
}

impl Place {
    pub(super) fn enter(shared: &Arc<Shared>, ask: &Ask, id: &LineId) -> Self {
        let (ticket, wake) = shared.lines.enter(id, ask.want.shape, ask.owner.clone());
        let (shared, engine) = (Arc::clone(shared), ask.engine.clone());
        Self { shared, engine, id: id.clone(), ticket, wake }
    }

    pub(super) fn turn(&self) -> Turn {
        self.shared.lines.turn(&self.id, self.ticket, self.shared.clock.now())
    }

    pub(super) async fn wait(&self, until: Option<Moment>) {
        let time = async {
            match until {
                Some(until) => self.shared.clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.wake.notified() => {}
            () = time => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((ticket, wake)) = self.shared.lines.leave(&self.id, self.ticket) else { return };
        let (shared, engine) = (Arc::clone(&self.shared), self.engine.clone());
        let place = Self { shared, engine, id: self.id.clone(), ticket, wake };
        Request::new(&self.shared.tasks, &self.engine.runtime, async move {
            let (key, lane) = &place.id;
            let waiter = Waiter::new(&place.shared.process, *lane);
            // A store that does not hear it skips this waiter when it is next.
            let _ = place.shared.backend.withdraw(Call::new("withdraw"), key, &waiter).await;
        })
        .detach();
    }
}
