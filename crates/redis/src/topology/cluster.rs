mod slots;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_ok};
use redis::Cmd;
use trine_core::Tasks;

use super::Redirect;
use super::watch::{Watched, watch};
use crate::config::{Address, Target};
use crate::dial::{Dialed, Purpose, Reason, Refusal, alongside};
use crate::facts::Mode;
use crate::link::Trouble;
use crate::node::{Node, NodeMaker};
use crate::slot::SlotSet;
use crate::{ServerError, Value};

use slots::{SlotMap, SlotRange};

/// Most nodes that are asked at once for the slots.
const ASKED_AT_ONCE: usize = 3;

/// Masters that have the slots among them.
pub(crate) struct Cluster {
    shared: Arc<Shared>,
    is_watched: AtomicBool,
}

struct Shared {
    seeds: Vec<Address>,
    maker: NodeMaker,
    interval: Duration,
    map: ArcSwap<SlotMap>,
    /// Held while the map is made anew, never across an await.
    changing: Mutex<()>,
    turn: AtomicUsize,
}

/// Which node has which slots, and the connection that said so if it was made
/// for that.
type Answer = (Vec<SlotRange>, Option<Dialed>);

impl Cluster {
    pub(super) fn new(targets: &[Target], maker: &NodeMaker, interval: Duration) -> Self {
        let shared = Shared {
            seeds: targets.iter().map(|target| target.address.clone()).collect(),
            maker: maker.clone(),
            interval,
            map: ArcSwap::default(),
            changing: Mutex::new(()),
            turn: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), is_watched: AtomicBool::new(false) }
    }

    /// Reads the slots from any seed, and has them read again from then on.
    pub(super) async fn prove(&self, tasks: &Tasks) -> Result<(), Arc<Refusal>> {
        let shared = &self.shared;
        let (ranges, dialed) = shared.ask_by_dialing(shared.seeds.clone()).await?;
        shared.install(&ranges);
        if let Some(dialed) = dialed {
            let map = shared.map.load_full();
            if let Some(node) = map.masters().find(|node| *node.name == *dialed.facts.address) {
                node.start(tasks, Some(dialed));
            }
        }
        for node in shared.map.load_full().masters() {
            node.start(tasks, None);
        }
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            watch(tasks, shared);
        }
        Ok(())
    }

    /// Returns the master of `slot`, or any that works for none.
    pub(super) fn node(&self, slot: Option<u16>) -> Result<Arc<Node>, Trouble> {
        let map = self.shared.map.load();
        let found = match slot {
            Some(slot) => map.owner(slot),
            None => map.masters().find(|node| node.live().is_some()).or(map.masters().next()),
        };
        found.map(Arc::clone).ok_or(Trouble::NoMaster)
    }

    /// Returns how many slots have no master.
    pub(super) fn orphans(&self) -> usize {
        self.shared.map.load().orphans()
    }

    pub(super) fn masters(&self) -> Vec<Arc<Node>> {
        self.shared.map.load().masters().map(Arc::clone).collect()
    }

    pub(super) fn shares(&self) -> Vec<(Arc<Node>, SlotSet)> {
        self.shared.map.load().shares()
    }

    pub(super) fn redirect(&self, error: &ServerError, from: &Node) -> Redirect {
        let shared = &self.shared;
        let target = || {
            let (slot, address) = error.text().split_once(' ')?;
            Some((slot.parse().ok()?, from.address.announced(address.trim())?))
        };
        match (error.code(), target()) {
            ("MOVED", Some((slot, address))) => {
                let node = shared.moved(slot, &address);
                shared.maker.trouble.notify_one();
                Redirect::To { node, asking: false }
            }
            ("ASK", Some((_, address))) => {
                Redirect::To { node: shared.known(&address), asking: true }
            }
            ("TRYAGAIN", _) => Redirect::Later,
            ("READONLY", _) => {
                shared.maker.trouble.notify_one();
                Redirect::Later
            }
            _ => {
                shared.maker.trouble.notify_one();
                Redirect::No
            }
        }
    }
}

impl Shared {
    fn ask_live(&self, node: Arc<Node>) -> BoxFuture<'_, Result<Vec<SlotRange>, ()>> {
        async move {
            let live = node.live().ok_or(())?;
            let mut connection = live.connection.clone();
            let doubt = live.doubt();
            let reply = connection.send_packed_command(&question()).await.map_err(|_lost| ())?;
            doubt.clear();
            slots::read(&Value::new(reply), &node.address).filter(|it| !it.is_empty()).ok_or(())
        }
        .boxed()
    }

    async fn ask_by_dialing(&self, mut addresses: Vec<Address>) -> Result<Answer, Arc<Refusal>> {
        let mut last = None;
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        for group in addresses.chunks(ASKED_AT_ONCE) {
            let asking: Vec<_> = group.iter().map(|address| self.ask(address).boxed()).collect();
            match select_ok(asking).await {
                Ok((answer, _others)) => return Ok(answer),
                Err(refusal) => last = Some(refusal),
            }
        }
        Err(last.unwrap_or_else(|| refusal("the cluster", Reason::NoMaster("no node".into()))))
    }

    async fn ask(&self, address: &Address) -> Result<Answer, Arc<Refusal>> {
        let mut dialed = self.maker.dialer.dial(address, Purpose::Commands).await?;
        let name = Arc::clone(&dialed.facts.address);
        if dialed.facts.mode != Mode::Cluster {
            let found = dialed.facts.mode;
            let problem = format!("it is {found}, and server.kind is \"cluster\"");
            return Err(refusal(&name, Reason::Invalid(problem.into())));
        }
        let question = question();
        let asking = dialed.connection.send_packed_command(&question);
        let reply = alongside(&mut dialed.driver, asking).await;
        let reply = reply.and_then(Result::ok).ok_or_else(|| refusal(&name, Reason::Closed))?;
        let reply = Value::new(reply);
        if let Value::Error(error) = reply {
            return Err(refusal(&name, Reason::Server(error)));
        }
        match slots::read(&reply, address) {
            Some(ranges) if !ranges.is_empty() => Ok((ranges, Some(dialed))),
            Some(_) => Err(refusal(&name, Reason::NoMaster("no slot has a master yet".into()))),
            None => Err(refusal(&name, Reason::Protocol)),
        }
    }

    fn install(&self, ranges: &[SlotRange]) {
        self.change(|map| Some(map.next(ranges, |address| self.maker.make(address))));
    }

    /// Notes where one slot is.
    fn moved(&self, slot: u16, address: &Address) -> Arc<Node> {
        let node = self.known(address);
        self.change(|map| {
            let is_new = map.owner(slot).is_none_or(|owner| owner.address != *address);
            is_new.then(|| map.with_owner(slot, address))
        });
        node
    }

    /// Returns the node at `address`, which is new if nobody has named it yet.
    fn known(&self, address: &Address) -> Arc<Node> {
        if let Some(node) = self.map.load().at(address) {
            return Arc::clone(node);
        }
        let mut found = None;
        self.change(|map| {
            // Another call may have been first.
            if let Some(node) = map.at(address) {
                found = Some(Arc::clone(node));
                return None;
            }
            let node = self.maker.make(address);
            found = Some(Arc::clone(&node));
            Some(map.with_node(node))
        });
        found.unwrap_or_else(|| self.maker.make(address))
    }

    fn change(&self, next: impl FnOnce(&SlotMap) -> Option<SlotMap>) {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = next(&self.map.load()) {
            self.map.store(Arc::new(next));
        }
    }
}

#[async_trait]
impl Watched for Shared {
    /// Reads the slots from whoever answers first.
    async fn refresh(&self) -> Result<(), Arc<Refusal>> {
        let map = self.map.load_full();
        // Another one each time, so that a node that is behind has no say for
        // long.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut live: Vec<_> = map.masters().filter(|node| node.live().is_some()).collect();
        let count = live.len().max(1);
        live.rotate_left(turn.checked_rem(count).unwrap_or_default());
        let asking = live.into_iter().take(ASKED_AT_ONCE);
        let asking: Vec<_> = asking.map(|node| self.ask_live(Arc::clone(node))).collect();
        let answered = if asking.is_empty() { None } else { select_ok(asking).await.ok() };
        let ranges = match answered {
            Some((ranges, _others)) => ranges,
            None => {
                let known = map.nodes().map(|node| node.address.clone());
                self.ask_by_dialing(self.seeds.iter().cloned().chain(known).collect()).await?.0
            }
        };
        self.install(&ranges);
        Ok(())
    }

    fn maker(&self) -> &NodeMaker {
        &self.maker
    }

    fn interval(&self) -> Duration {
        self.interval
    }
}

fn question() -> Cmd {
    Cmd::new().arg("CLUSTER").arg("SLOTS").take()
}

fn refusal(address: &str, reason: Reason) -> Arc<Refusal> {
    Arc::new(Refusal::new(&address.into(), reason))
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("masters", &self.masters()).finish_non_exhaustive()
    }
}
