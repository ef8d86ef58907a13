mod census;
mod slots;
mod view;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use trine_core::Tasks;

use super::Redirect;
use super::watch::{Watched, watch};
use crate::ServerError;
use crate::config::{Address, Target};
use crate::dial::Refusal;
use crate::link::Trouble;
use crate::node::{Node, NodeMaker};
use crate::slot::SlotSet;

use slots::SlotMap;
use view::View;

pub(crate) use view::is_down;

/// Most nodes that are asked at once for the slots.
const ASKED_AT_ONCE: usize = 3;
/// After so many looks in a row in which those that are connected were of no
/// use, everybody is asked.
const PATIENCE: u32 = 5;

/// Masters that have the slots among them.
pub(crate) struct Cluster {
    shared: Arc<Shared>,
    /// Which master has the next command without a key.
    turn: AtomicUsize,
    is_watched: AtomicBool,
}

struct Shared {
    seeds: Vec<Address>,
    maker: NodeMaker,
    interval: Duration,
    map: ArcSwap<SlotMap>,
    /// What the map was made from. Held while it is made anew, never across an
    /// await.
    known: Mutex<View>,
    turn: AtomicUsize,
    /// Looks in a row of which nothing came.
    fruitless: AtomicU32,
}

impl Cluster {
    pub(super) fn new(targets: &[Target], maker: &NodeMaker, interval: Duration) -> Self {
        let shared = Shared {
            seeds: targets.iter().map(|target| target.address.clone()).collect(),
            maker: maker.clone(),
            interval,
            map: ArcSwap::default(),
            known: Mutex::default(),
            turn: AtomicUsize::new(0),
            fruitless: AtomicU32::new(0),
        };
        Self {
            shared: Arc::new(shared),
            turn: AtomicUsize::new(0),
            is_watched: AtomicBool::new(false),
        }
    }

    /// Reads the slots from any seed, and has them read again from then on.
    pub(super) async fn prove(&self, tasks: &Tasks) -> Result<(), Arc<Refusal>> {
        let shared = &self.shared;
        let (view, dialed) = shared.ask_by_dialing(shared.seeds.clone()).await?;
        shared.install(view);
        let map = shared.map.load_full();
        if let Some(node) = map.masters().iter().find(|node| *node.name == *dialed.facts.address) {
            node.start(tasks, Some(dialed));
        }
        for node in shared.map.load_full().masters() {
            node.start(tasks, None);
        }
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            watch(tasks, shared);
        }
        Ok(())
    }

    /// Returns the master of `slot`; for none those that work in turn.
    pub(super) fn node(&self, slot: Option<u16>) -> Result<Arc<Node>, Trouble> {
        let map = self.shared.map.load();
        let found = match slot {
            Some(slot) => map.owner(slot),
            None => map.any(self.turn.fetch_add(1, Ordering::Relaxed)),
        };
        found.map(Arc::clone).ok_or_else(|| {
            self.shared.maker.trouble.notify_one();
            Trouble::NoMaster
        })
    }

    /// Returns how many slots have no master.
    pub(super) fn orphans(&self) -> usize {
        self.shared.map.load().orphans()
    }

    pub(super) fn masters(&self) -> Vec<Arc<Node>> {
        self.shared.map.load().masters().to_vec()
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.shared.map.load().nodes().map(Arc::clone).collect()
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
                Redirect::To { node: shared.node_at(&address), asking: true }
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
    /// Returns what the map was made from: what a node with a lower epoch says is
    /// over.
    fn known(&self) -> View {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the map anew, and tells whether it was made from something else.
    fn install(&self, view: View) -> bool {
        let mut is_news = false;
        self.change(|map, known| {
            let next = map.next(view.ranges(), |address| self.maker.make(address));
            is_news = *known != view;
            *known = view;
            Some(next)
        });
        is_news
    }

    /// Notes where one slot is.
    fn moved(&self, slot: u16, address: &Address) -> Arc<Node> {
        let node = self.node_at(address);
        self.change(|map, _known| {
            let is_new = map.owner(slot).is_none_or(|owner| owner.address != *address);
            is_new.then(|| map.with_owner(slot, address))
        });
        node
    }

    /// Returns the node at `address`, which is new if nobody has named it yet.
    fn node_at(&self, address: &Address) -> Arc<Node> {
        if let Some(node) = self.map.load().at(address) {
            // While it is in use, a look that does not find it leaves it alone.
            node.set_named(true);
            return Arc::clone(node);
        }
        let mut found = None;
        self.change(|map, _known| {
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

    fn change(&self, next: impl FnOnce(&SlotMap, &mut View) -> Option<SlotMap>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = next(&self.map.load(), &mut known) {
            self.map.store(Arc::new(next));
        }
    }
}

#[async_trait]
impl Watched for Shared {
    /// Reads the slots from the newest of some masters, and from everybody if
    /// there is none, or none of them is of any use for long.
    async fn refresh(&self) -> Result<bool, Arc<Refusal>> {
        let view = match self.ask_some().await {
            Ok(view) => view,
            Err(refusal) => {
                let fruitless = self.fruitless.fetch_add(1, Ordering::Relaxed);
                // What a fail-over or a move of slots brings spreads in no time.
                if refusal.is_word() && fruitless < PATIENCE {
                    return Err(refusal);
                }
                self.ask_everybody().await?
            }
        };
        self.fruitless.store(0, Ordering::Relaxed);
        Ok(self.install(view))
    }

    fn maker(&self) -> &NodeMaker {
        &self.maker
    }

    fn interval(&self) -> Duration {
        self.interval
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("masters", &self.masters()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use trine_core::{Metrics, Secret};

    use super::*;
    use crate::RedisConfig;
    use crate::service::Counters;

    #[tokio::test]
    async fn a_node_that_is_asked_stays_though_no_look_finds_it() {
        let config = RedisConfig::cluster("test", [Secret::new("redis://10.0.0.1:1")]);
        let targets = config.targets().unwrap();
        let maker = NodeMaker::of(&config, &Counters::new(&Metrics::new("redis")));
        let cluster = Cluster::new(&targets, &maker, Duration::from_secs(1));
        let shared = &cluster.shared;
        let look = || shared.install(View::of(1, &[(0, 16_383, 1)]));
        assert!(look(), "the first is news");
        let target = Address::tcp("10.0.0.1", 2);
        let asked = shared.node_at(&target);
        for _ in 0..5 {
            assert!(!look());
            assert!(Arc::ptr_eq(&asked, &shared.node_at(&target)));
        }
        // One that nobody asks goes.
        look();
        look();
        assert!(!Arc::ptr_eq(&asked, &shared.node_at(&target)));
    }
}
