mod single;

use std::sync::Arc;

use trine_core::Tasks;

use crate::ServerError;
use crate::config::Target;
use crate::dial::Refusal;
use crate::link::Trouble;
use crate::node::{Node, NodeMaker};

use single::Single;

/// Who has which keys.
#[derive(Debug)]
pub(crate) enum Topology {
    Single(Single),
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
    pub(crate) fn new(targets: &[Target], maker: &NodeMaker) -> Self {
        Self::Single(Single::new(targets, maker))
    }

    /// Proves that somebody answers who is what the configuration says.
    pub(crate) async fn prove(&self, tasks: &Tasks) -> Result<(), Arc<Refusal>> {
        match self {
            Self::Single(single) => single.prove(tasks).await,
        }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        false
    }

    /// Returns the node that has the keys of `slot`, or any for none.
    pub(crate) fn node(&self, _slot: Option<u16>) -> Result<Arc<Node>, Trouble> {
        match self {
            Self::Single(single) => Ok(single.node()),
        }
    }

    /// Returns every node that takes writes.
    pub(crate) fn masters(&self) -> Vec<Arc<Node>> {
        match self {
            Self::Single(single) => vec![single.node()],
        }
    }

    /// Says where a command goes that `from` has refused.
    pub(crate) async fn redirect(&self, _error: &ServerError, _from: &Node) -> Redirect {
        match self {
            Self::Single(_) => Redirect::No,
        }
    }
}
