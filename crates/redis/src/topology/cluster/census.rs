use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::Pipeline;

use super::view::View;
use super::{ASKED_AT_ONCE, Shared};
use crate::config::Address;
use crate::dial::{Dialed, Purpose, Reason, Refusal, alongside};
use crate::facts::Mode;
use crate::node::Node;
use crate::topology::answers::gather;

/// Asks nodes who has which slots.
impl Shared {
    /// Returns what the newest of some masters says that are connected; an older
    /// word than what is known is a refusal.
    pub(super) async fn ask_some(&self) -> Result<View, Arc<Refusal>> {
        let map = self.map.load_full();
        // Other ones each time, so that none that is behind has a say for long.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut live: Vec<_> = map.masters().iter().filter(|node| node.live().is_some()).collect();
        let count = live.len().max(1);
        live.rotate_left(turn.checked_rem(count).unwrap_or_default());
        let asking = live.into_iter().take(ASKED_AT_ONCE);
        let answers = gather(asking.map(|node| self.ask_live(Arc::clone(node)))).await;
        let answers = answers.map_err(|last| last.unwrap_or_else(unconnected))?;
        let newest = answers.into_iter().max_by_key(View::rank).ok_or_else(unconnected)?;
        let floor = self.known().epoch();
        if newest.epoch() < floor { Err(behind(newest.epoch(), floor)) } else { Ok(newest) }
    }

    fn ask_live(&self, node: Arc<Node>) -> BoxFuture<'_, Result<View, Arc<Refusal>>> {
        async move {
            let refused = |reason| refusal(&node.name, reason);
            let live = node.live().ok_or_else(|| refused(Reason::Closed))?;
            let mut connection = live.connection.clone();
            let question = question();
            let doubt = live.doubt();
            let replies = connection.send_packed_commands(&question, 0, question.len()).await;
            let replies = replies.map_err(|error| refused(Reason::Broken(error)))?;
            doubt.clear();
            View::read(replies, &node.address).map_err(refused)
        }
        .boxed()
    }

    /// Returns what the newest of those says who answer first, and its
    /// connection.
    pub(super) async fn ask_by_dialing(
        &self,
        mut addresses: Vec<Address>,
    ) -> Result<(View, Dialed), Arc<Refusal>> {
        let mut last = None;
        let mut seen = HashSet::new();
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
    pub(super) async fn ask_everybody(&self) -> Result<View, Arc<Refusal>> {
        let map = self.map.load_full();
        let nodes = map.nodes().map(|node| node.address.clone());
        let mut addresses: Vec<_> = self.seeds.iter().cloned().chain(nodes).collect();
        let (first, _dialed) = self.ask_by_dialing(addresses.clone()).await?;
        let known = self.known();
        if first.epoch() >= known.epoch() {
            return Ok(first);
        }
        addresses.extend(first.masters().into_iter().cloned());
        let mut seen = HashSet::new();
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
        Err(behind(epoch, floor))
    }
}

/// Who has what, and how far the one who says so is.
fn question() -> Pipeline {
    let mut question = Pipeline::new();
    question.cmd("CLUSTER").arg("SLOTS");
    question.cmd("CLUSTER").arg("INFO");
    question
}

fn behind(epoch: u64, known: u64) -> Arc<Refusal> {
    let problem = format!("those that answer are at epoch {epoch}, and it was {known}");
    refusal("the cluster", Reason::NoMaster(problem.into()))
}

fn unconnected() -> Arc<Refusal> {
    refusal("the cluster", Reason::Closed)
}

fn nobody() -> Arc<Refusal> {
    refusal("the cluster", Reason::NoMaster("no node".into()))
}

fn refusal(address: &str, reason: Reason) -> Arc<Refusal> {
    Arc::new(Refusal::new(&address.into(), reason))
}
