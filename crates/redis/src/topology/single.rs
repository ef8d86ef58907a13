use std::sync::Arc;

use trine_core::Tasks;

use crate::config::{Address, Target};
use crate::dial::{Purpose, Reason, Refusal};
use crate::facts::Mode;
use crate::node::{Node, NodeMaker};

/// One server that has everything.
#[derive(Debug)]
pub(crate) struct Single {
    node: Arc<Node>,
    maker: NodeMaker,
}

impl Single {
    pub(super) fn new(targets: &[Target], maker: &NodeMaker) -> Self {
        let address = targets.first().map(|target| target.address.clone());
        let address = address.unwrap_or_else(|| Address::tcp("", 0));
        Self { node: maker.make(&address), maker: maker.clone() }
    }

    pub(super) async fn prove(&self, tasks: &Tasks) -> Result<(), Arc<Refusal>> {
        let address = &self.node.address;
        let dialed = self.maker.dialer.dial(address, Purpose::Commands).await?;
        if dialed.facts.mode != Mode::Standalone {
            let found = dialed.facts.mode;
            let problem = format!("it is {found}, and server.kind is \"single\"");
            let address = Arc::clone(&dialed.facts.address);
            return Err(Arc::new(Refusal::new(&address, Reason::Invalid(problem.into()))));
        }
        self.node.start(tasks, Some(dialed));
        Ok(())
    }

    pub(super) fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node)
    }
}
