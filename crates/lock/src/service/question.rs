use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{Claim, Moment};

use super::engine::Engine;
use super::place::Place;
use super::{LockService, Shared};
use crate::guard::held::Grip;
use crate::lines::LineId;
use crate::options::Terms;
use crate::request::Request;
use crate::{
    Answer, Call, Error, Holder, HolderState, Key, Mode, Result, Shape, WaitOrder, Waiter, Want,
};

/// One question to the store, as often as it is asked.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) operation: &'static str,
    call: Call,
    pub(super) want: Want,
    pub(super) owner: Option<Arc<str>>,
    pub(super) engine: Engine,
}

/// What the store has said.
pub(super) enum Asked {
    Granted(Grip),
    Held(Holder),
    Barred(Duration),
}

impl LockService {
    pub(super) fn ask(
        &self,
        operation: &'static str,
        key: Key,
        shape: Shape,
        terms: &Terms,
    ) -> Result<Ask> {
        let shared = &self.shared;
        let lane = match shared.config.order {
            WaitOrder::InTurn => 0,
            WaitOrder::FirstCome => shared.lines.lane(),
        };
        let want = Want {
            key,
            shape,
            terms: terms.lease,
            at_least: terms.at_least,
            waiter: Waiter::new(&shared.process, lane),
            label: terms.label.clone(),
            mode: Mode::Try,
            nonce: shared.nonces.hash_one(shared.lines.lane()),
        };
        let engine = self.engine(operation)?.clone();
        Ok(Ask { operation, call: self.call(operation), want, owner: terms.owner.clone(), engine })
    }

    /// Sends one question; what is granted to nobody is given back.
    pub(super) fn request(
        &self,
        mut ask: Ask,
        mode: Mode,
        place: Option<Place>,
    ) -> Request<(Option<Place>, Result<Asked>)> {
        let shared = Arc::clone(&self.shared);
        ask.want.mode = mode;
        let (tasks, runtime) = (shared.tasks.clone(), ask.engine.runtime.clone());
        Request::new(&tasks, &runtime, async move {
            let sent = shared.clock.now();
            let answer = shared.backend.acquire(ask.call, &ask.want).await;
            let now = shared.clock.now();
            if let Some(place) = &place {
                shared.note(&place.id, &ask, &answer, now);
            }
            let asked = answer.map(|answer| match answer {
                Answer::Granted(fence) => {
                    let claim = Claim::new(fence, ask.want.terms);
                    let lease = ask.engine.keeper.hold(claim, sent);
                    let (key, owner) = (&ask.want.key, ask.owner.as_ref());
                    let held = Grip::new(&shared, key, ask.want.shape, owner, lease);
                    if let Some(owner) = owner {
                        shared.lines.wake_owner(key, owner);
                    }
                    Asked::Granted(held)
                }
                Answer::Held { holder, .. } => Asked::Held(holder),
                Answer::Barred { retry_in } => Asked::Barred(retry_in),
            });
            (place, asked)
        })
    }
}

impl Shared {
    /// Returns what the owner holds of the key already.
    pub(super) fn again(&self, ask: &Ask) -> Result<Option<Grip>> {
        let Some(owner) = &ask.owner else { return Ok(None) };
        let Some(held) = self.registry.find(&ask.want.key, owner) else { return Ok(None) };
        match (held.shape(), ask.want.shape) {
            (Shape::Write, Shape::Write | Shape::Read)
            | (Shape::Read, Shape::Read)
            | (Shape::Permit { .. }, Shape::Permit { .. }) => Ok(Some(held)),
            (present, wanted) => {
                let detail = format!(
                    "owner `{owner}` holds key `{}` for {present}, expected to release it before {wanted}",
                    held.key()
                );
                Err(Error::invalid(self.at(ask.operation), detail))
            }
        }
    }

    /// Keeps what one in line has learned for those behind it.
    fn note(&self, id: &LineId, ask: &Ask, answer: &Result<Answer>, now: Moment) {
        let want = &ask.want;
        match answer {
            Ok(Answer::Granted(fence)) => {
                let next = match want.mode {
                    Mode::Wait { next } => next,
                    Mode::Try | Mode::Steal => None,
                };
                let state = HolderState::Holding { token: fence.token() };
                let (process, since) = (Arc::clone(&self.process), self.clock.wall());
                let holder = Holder::new(process, want.shape, since, want.terms.ttl(), state);
                self.lines.granted(id, next, now, holder.with_label(want.label.clone()));
            }
            Ok(Answer::Held { holder, retry_in }) => {
                self.lines.refused(id, want.shape, now, holder, *retry_in);
            }
            Ok(Answer::Barred { .. }) => {}
            Err(_) => self.lines.failed(id, want.shape),
        }
    }
}
