mod slots;
mod view;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Pipeline;
use trine_core::Tasks;

use super::Redirect;
use super::answers::gather;
use super::watch::{Watched, watch};
use crate::ServerError;
use crate::config::{Address, Target};
use crate::dial::{Dialed, Purpose, Reason, Refusal, alongside};
use crate::facts::Mode;
use crate::link::Trouble;
use crate::node::{Node, NodeMaker};

use slots::SlotMap;
use view::View;

pub(crate) use view::is_down;

/// Most nodes that are asked at once for the slots.
const ASKED_AT_ONCE: usize = 3;

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
    fn ask_live(&self, node: Arc<Node>) -> BoxFuture<'_, Result<View, Arc<Refusal>>> {
        async move {
            let refused = |reason| refusal(&node.name, reason);
            let live = node.live().ok_or_else(|| refused(Reason::Closed))?;
            let mut connection = live.connection.clone();
            let question = question();
            let replies = connection.send_packed_commands(&question, 0, question.len()).await;
            let replies = replies.map_err(|error| refused(Reason::Broken(error)))?;
            View::read(replies, &node.address).map_err(refused)
        }
        .boxed()
    }

    /// Returns what the newest of those says who answer first, and its
    /// connection.
    async fn ask_by_dialing(
        &self,
        mut addresses: Vec<Address>,
    ) -> Result<(View, Dialed), Arc<Refusal>> {
        let mut last = None;
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        for group in addresses.chunks(ASKED_AT_ONCE) {
            match gather(group.iter().map(|address| self.ask(address).boxed())).await {
                Ok(answers) => {
                    let newest = answers.into_iter().max_by_key(|(view, _)| view.rank());
                    return newest.ok_or_else(nobody);
                }
                Err(refusal) => last = refusal,
            }
        }
        Err(last.unwrap_or_else(nobody))
    }

    async fn ask(&self, address: &Address) -> Result<(View, Dialed), Arc<Refusal>> {
        let mut dialed = self.maker.dialer.dial(address, Purpose::Commands).await?;
        let refused = |reason| refusal(&address.to_string(), reason);
        if dialed.facts.mode != Mode::Cluster {
            let found = dialed.facts.mode;
            let problem = format!("it is {found}, and server.kind is \"cluster\"");
            return Err(refused(Reason::Invalid(problem.into())));
        }
        let question = question();
        let asking = dialed.connection.send_packed_commands(&question, 0, question.len());
        let replies = alongside(&mut dialed.driver, asking).await;
        let replies = replies.and_then(Result::ok).ok_or_else(|| refused(Reason::Closed))?;
        let view = View::read(replies, address).map_err(refused)?;
        Ok((view, dialed))
    }

    /// Asks on connections of their own all that are known. One whose word is
    /// older than what is known counts only if most of the masters that it
    /// names say the same: then the cluster was made anew.
    async fn ask_everybody(&self) -> Result<View, Arc<Refusal>> {
        let map = self.map.load_full();
        let nodes = map.nodes().map(|node| node.address.clone());
        let mut addresses: Vec<_> = self.seeds.iter().cloned().chain(nodes).collect();
        let (first, _dialed) = self.ask_by_dialing(addresses.clone()).await?;
        let known = self.known();
        if first.epoch() >= known.epoch() {
            return Ok(first);
        }
        addresses.extend(first.masters().into_iter().cloned());
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        let asking = addresses.iter().map(|address| {
            async move { Ok::<_, Arc<Refusal>>((address, self.ask(address).await?.0)) }.boxed()
        });
        let answers = gather(asking).await.map_err(|last| last.unwrap_or_else(nobody))?;
        let newest = answers.iter().map(|(_, view)| view).max_by_key(|view| view.rank());
        let newest = newest.ok_or_else(nobody)?;
        let (epoch, floor) = (newest.epoch(), known.epoch());
        if epoch >= floor {
            return Ok(newest.clone());
        }
        if newest.replaces(&known, &answers) {
            tracing::warn!(epoch, known = floor, "the redis cluster was made anew");
            return Ok(newest.clone());
        }
        let problem = format!("those that answer are at epoch {epoch}, and it was {floor}");
        Err(refusal("the cluster", Reason::NoMaster(problem.into())))
    }

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
    /// none of them is up to date.
    async fn refresh(&self) -> Result<bool, Arc<Refusal>> {
        let map = self.map.load_full();
        // Other ones each time, so that none that is behind has a say for long.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut live: Vec<_> = map.masters().iter().filter(|node| node.live().is_some()).collect();
        let count = live.len().max(1);
        live.rotate_left(turn.checked_rem(count).unwrap_or_default());
        let asking = live.into_iter().take(ASKED_AT_ONCE);
        let answers = gather(asking.map(|node| self.ask_live(Arc::clone(node)))).await;
        let newest = answers.unwrap_or_default().into_iter().max_by_key(View::rank);
        let view = match newest.filter(|view| view.epoch() >= self.known().epoch()) {
            Some(view) => view,
            None => self.ask_everybody().await?,
        };
        Ok(self.install(view))
    }

    fn maker(&self) -> &NodeMaker {
        &self.maker
    }

    fn interval(&self) -> Duration {
        self.interval
    }
}

/// Who has what, and how far the one who says so is.
fn question() -> Pipeline {
    let mut question = Pipeline::new();
    question.cmd("CLUSTER").arg("SLOTS");
    question.cmd("CLUSTER").arg("INFO");
    question
}

fn nobody() -> Arc<Refusal> {
    refusal("the cluster", Reason::NoMaster("no node".into()))
}

fn refusal(address: &str, reason: Reason) -> Arc<Refusal> {
    Arc::new(Refusal::new(&address.into(), reason))
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
