mod cluster;
mod sentinel;
mod single;
mod watch;

use std::sync::Arc;

use trine_core::Tasks;

use crate::{RedisConfig, ServerConfig, ServerError};
use crate::config::{Credentials, Target};
use crate::dial::Refusal;
use crate::link::Trouble;
use crate::node::{Node, NodeMaker};

use cluster::Cluster;
use sentinel::Sentinel;
use single::Single;

/// Who has which keys.
#[derive(Debug)]
pub(crate) enum Topology {
    Single(Single),
    Sentinel(Sentinel),
    Cluster(Cluster),
}

/// What is done about a command that a server refused to carry out.
#[derive(Debug)]
pub(crate) enum Redirect {
    /// The refusal is the answer.
    No,
    /// It goes to another node.
    To { node: Arc<Node>, asking: bool },
    /// It goes the same way again, after a short wait.
    Later,
}

impl Topology {
    pub(crate) fn new(config: &RedisConfig, targets: &[Target], maker: &NodeMaker) -> Self {
        let interval = config.topology_interval.get();
        match &config.server {
            ServerConfig::Single { .. } => Self::Single(Single::new(targets, maker)),
            ServerConfig::Cluster { .. } => {
                Self::Cluster(Cluster::new(targets, maker, interval))
            }
            ServerConfig::Sentinel { master, sentinel_username, sentinel_password, .. } => {
                let credentials = sentinel_password.clone().map(|password| Credentials {
                    username: sentinel_username.as_deref().map(Into::into),
                    password,
                });
                let dialer = maker.dialer.with_credentials(credentials);
                Self::Sentinel(Sentinel::new(targets, master, dialer, maker, interval))
            }
        }
    }

    /// Proves that somebody answers who is what the configuration says.
    pub(crate) async fn prove(&self, tasks: &Tasks) -> Result<(), Arc<Refusal>> {
        match self {
            Self::Single(single) => single.prove(tasks).await,
            Self::Sentinel(sentinel) => sentinel.prove(tasks).await,
            Self::Cluster(cluster) => cluster.prove(tasks).await,
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Returns the node that has the keys of `slot`, or any for none.
    pub(crate) fn node(&self, slot: Option<u16>) -> Result<Arc<Node>, Trouble> {
        match self {
            Self::Single(single) => Ok(single.node()),
            Self::Sentinel(sentinel) => sentinel.node(),
            Self::Cluster(cluster) => cluster.node(slot),
        }
    }

    /// Returns how many slots have no master.
    pub(crate) fn orphans(&self) -> usize {
        match self {
            Self::Cluster(cluster) => cluster.orphans(),
            Self::Single(_) | Self::Sentinel(_) => 0,
        }
    }

    /// Returns every node that takes writes.
    pub(crate) fn masters(&self) -> Vec<Arc<Node>> {
        match self {
            Self::Single(single) => vec![single.node()],
            Self::Sentinel(sentinel) => sentinel.node().into_iter().collect(),
            Self::Cluster(cluster) => cluster.masters(),
        }
    }

    /// Says where a command goes that `from` has refused.
    pub(crate) async fn redirect(&self, error: &ServerError, from: &Node) -> Redirect {
        match self {
            Self::Single(_) => Redirect::No,
            Self::Sentinel(sentinel) => sentinel.redirect(error.code(), from).await,
            Self::Cluster(cluster) => cluster.redirect(error, from),
        }
    }
}
