mod answers;
mod cluster;
mod sentinel;
mod single;
mod watch;

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};
use trine_core::{Backoff, Tasks};

use crate::config::{Credentials, Target};
use crate::dial::{Dialer, Refusal};
use crate::link::Trouble;
use crate::node::{Node, NodeMaker};
use crate::slot::SlotSet;
use crate::{RedisConfig, ServerConfig};

pub(crate) use cluster::is_down;

use cluster::Cluster;
use sentinel::Sentinel;
use single::Single;

/// Who has which keys.
#[derive(Debug)]
pub(crate) struct Topology {
    maker: NodeMaker,
    kind: Kind,
    /// Held while credentials are changed.
    rotation: Mutex<()>,
}

#[derive(Debug)]
enum Kind {
    Single(Single),
    Sentinel(Sentinel),
    Cluster(Cluster),
}

/// What is done about a command that a server refused to carry out.
#[derive(Clone, Debug)]
pub(crate) enum Redirect {
    /// The refusal is the answer.
    No,
    /// It goes to another node.
    To { node: Arc<Node>, asking: bool },
    /// It is routed anew.
    Anew,
    /// It is routed anew, after a short wait.
    Later,
}

/// Connections that callers have for themselves, of all nodes together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DedicatedStats {
    pub(crate) in_use: usize,
    pub(crate) idle: usize,
    pub(crate) waiting: usize,
}

impl Topology {
    pub(crate) fn new(config: &RedisConfig, targets: &[Target], maker: &NodeMaker) -> Self {
        let interval = config.topology_interval.get();
        let kind = match &config.server {
            ServerConfig::Single { .. } => Kind::Single(Single::new(targets, maker)),
            ServerConfig::Cluster { .. } => Kind::Cluster(Cluster::new(targets, maker, interval)),
            ServerConfig::Sentinel { master, sentinel_username, sentinel_password, .. } => {
                let credentials = sentinel_password.clone().map(|password| Credentials {
                    username: sentinel_username.as_deref().map(Into::into),
                    password,
                });
                let dialer = maker.dialer.with_credentials(credentials);
                Kind::Sentinel(Sentinel::new(targets, master, dialer, maker, interval))
            }
        };
        Self { maker: maker.clone(), kind, rotation: Mutex::default() }
    }

    /// Returns what new connections are made by.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.maker.dialer
    }

    /// Waits until nobody else changes credentials.
    pub(crate) async fn rotation(&self) -> MutexGuard<'_, ()> {
        self.rotation.lock().await
    }

    /// Returns the sentinels, if there are any.
    pub(crate) fn sentinel(&self) -> Option<&Sentinel> {
        match &self.kind {
            Kind::Sentinel(sentinel) => Some(sentinel),
            Kind::Single(_) | Kind::Cluster(_) => None,
        }
    }

    /// Returns the waits between attempts.
    pub(crate) fn backoff(&self) -> &Backoff {
        &self.maker.backoff
    }

    /// Returns how many of the masters have a connection that works.
    pub(crate) fn connected(&self) -> usize {
        self.masters().iter().filter(|node| node.live().is_some()).count()
    }

    /// Returns how many connections callers have for themselves.
    pub(crate) fn dedicated(&self) -> DedicatedStats {
        let mut stats = DedicatedStats::default();
        for node in self.masters() {
            let status = node.dedicated.status();
            stats.in_use += status.size.saturating_sub(status.available);
            stats.idle += status.available;
            stats.waiting += status.waiting;
        }
        stats
    }

    /// Proves that somebody answers who is what the configuration says.
    pub(crate) async fn prove(&self, tasks: &Tasks) -> Result<(), Arc<Refusal>> {
        match &self.kind {
            Kind::Single(single) => single.prove(tasks).await,
            Kind::Sentinel(sentinel) => sentinel.prove(tasks).await,
            Kind::Cluster(cluster) => cluster.prove(tasks).await,
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// Returns the node that has the keys of `slot`, or any for none.
    pub(crate) fn node(&self, slot: Option<u16>) -> Result<Arc<Node>, Trouble> {
        match &self.kind {
            Kind::Single(single) => Ok(single.node()),
            Kind::Sentinel(sentinel) => sentinel.node(),
            Kind::Cluster(cluster) => cluster.node(slot),
        }
    }

    /// Returns how many slots have no master.
    pub(crate) fn orphans(&self) -> usize {
        match &self.kind {
            Kind::Cluster(cluster) => cluster.orphans(),
            Kind::Single(_) | Kind::Sentinel(_) => 0,
        }
    }

    /// Returns every node that takes writes.
    pub(crate) fn masters(&self) -> Vec<Arc<Node>> {
        match &self.kind {
            Kind::Single(single) => vec![single.node()],
            Kind::Sentinel(sentinel) => sentinel.node().into_iter().collect(),
            Kind::Cluster(cluster) => cluster.masters(),
        }
    }

    /// Returns every node that calls may lead to.
    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        match &self.kind {
            Kind::Single(_) | Kind::Sentinel(_) => self.masters(),
            Kind::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// Returns every node that takes writes, with the slots that it has.
    pub(crate) fn shares(&self) -> Vec<(Arc<Node>, SlotSet)> {
        match &self.kind {
            Kind::Cluster(cluster) => cluster.shares(),
            Kind::Single(_) | Kind::Sentinel(_) => {
                self.masters().into_iter().map(|node| (node, SlotSet::all())).collect()
            }
        }
    }

    /// Says where a command goes that `from` has refused.
    pub(crate) async fn redirect(&self, trouble: &Trouble, from: &Node) -> Redirect {
        let error = match trouble {
            Trouble::Server(error) => error,
            Trouble::Retired => return Redirect::Anew,
            _ => return Redirect::No,
        };
        match &self.kind {
            Kind::Single(_) => Redirect::No,
            Kind::Sentinel(sentinel) => sentinel.redirect(error.code(), from).await,
            Kind::Cluster(cluster) => cluster.redirect(error, from),
        }
    }
}
