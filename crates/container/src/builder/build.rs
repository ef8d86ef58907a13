use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use trine_core::SystemClock;

use super::treatment::Treatment;
use super::{Adopted, Builder, Slot};
use crate::container::Parts;
use crate::error::source;
use crate::graph::Graph;
use crate::node::{Node, Plan};
use crate::{Container, ContainerConfig, Deps, Error, Need, Result};

/// A service that is to be built, or was by the host.
enum Making {
    Slot(Slot),
    Adopted(Adopted),
}

impl Builder {
    pub(super) fn build(self, config: ContainerConfig) -> Result<Container> {
        let mut makings: Vec<_> =
            self.slots.into_iter().map(|slot| Some(Making::Slot(slot))).collect();
        makings.extend(self.adopted.into_iter().map(|adopted| Some(Making::Adopted(adopted))));
        let named: Vec<_> = makings.iter().flatten().map(Making::wants).collect();
        let graph = Graph::new(&named).map_err(|problems| Error::Wiring { problems })?;
        let mut typed = BTreeMap::new();
        let mut nodes: Vec<Option<Node>> = named.iter().map(|_| None).collect();
        for place in graph.order {
            let making = makings.get_mut(place).and_then(Option::take);
            let needs = graph.needs.get(place).cloned().unwrap_or_default();
            let (Some(making), Some((name, _))) = (making, named.get(place)) else {
                continue;
            };
            let wanted: Vec<_> =
                needs.iter().filter_map(|need| Some(Arc::clone(&named.get(*need)?.0))).collect();
            let node = making.node(name, needs, &wanted, &mut typed, &config)?;
            if let Some(slot) = nodes.get_mut(place) {
                *slot = Some(node);
            }
        }
        let nodes = Node::linked(nodes.into_iter().flatten().collect());
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock));
        Ok(Container::new(Parts { nodes, typed, sections: self.sections, config, clock }))
    }
}

impl Making {
    fn wants(&self) -> (Arc<str>, Vec<Need>) {
        match self {
            Self::Slot(slot) => (Arc::clone(slot.entry.name()), slot.entry.needs()),
            Self::Adopted(adopted) => (adopted.service.name().into(), adopted.needs.clone()),
        }
    }

    fn node(
        self,
        name: &Arc<str>,
        needs: Vec<usize>,
        wanted: &[Arc<str>],
        typed: &mut BTreeMap<Arc<str>, Arc<dyn Any + Send + Sync>>,
        config: &ContainerConfig,
    ) -> Result<Node> {
        let (start_timeout, shutdown_timeout) =
            (config.start_timeout.get(), config.shutdown_timeout.get());
        let slot = match self {
            Self::Slot(slot) => slot,
            Self::Adopted(adopted) => {
                let plan = Plan {
                    is_required: adopted.is_required,
                    start_timeout: adopted.start_timeout.unwrap_or(start_timeout),
                    shutdown_timeout: adopted.shutdown_timeout.unwrap_or(shutdown_timeout),
                    needs,
                };
                return Ok(Node::new(Arc::clone(name), adopted.service, plan));
            }
        };
        let Treatment { required, shutdown_timeout: own } = slot.treatment;
        let plan = Plan {
            is_required: required,
            start_timeout: slot.entry.start_timeout().unwrap_or(start_timeout),
            shutdown_timeout: own.map_or(shutdown_timeout, |own| own.get()),
            needs,
        };
        let deps = Deps { name: Arc::clone(name), needs: wanted, built: typed };
        let built = slot.entry.build(&deps).map_err(|cause| Error::Build {
            service: (**name).into(),
            kind: cause.kind(),
            cause: source(cause),
        })?;
        typed.insert(Arc::clone(name), built.typed);
        Ok(Node::new(Arc::clone(name), built.service, plan))
    }
}
