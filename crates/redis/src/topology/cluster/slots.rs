use std::sync::Arc;

use crate::Value;
use crate::config::Address;
use crate::node::Node;
use crate::slot::{SLOTS, SlotSet};

/// Nobody has it.
const NOBODY: u16 = u16::MAX;

/// Slots in a row and their master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotRange {
    first: u16,
    last: u16,
    master: Address,
}

impl SlotRange {
    pub(super) fn first(&self) -> u16 {
        self.first
    }

    pub(super) fn len(&self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)) + 1
    }

    pub(super) fn master(&self) -> &Address {
        &self.master
    }
}

/// Reads what `CLUSTER SLOTS` answered; an unknown host is the one that was
/// asked. `None` if it is something else.
pub(super) fn read(reply: &Value, asked: &Address) -> Option<Vec<SlotRange>> {
    let range = |range: &Value| {
        let [first, last, master, ..] = range.as_array()? else { return None };
        let [host, port, ..] = master.as_array()? else { return None };
        let slot = |value: &Value| value.to_int().and_then(|slot| u16::try_from(slot).ok());
        Some(SlotRange {
            first: slot(first)?,
            last: slot(last)?,
            master: asked.with(host.as_text().unwrap_or_default(), slot(port)?),
        })
    };
    reply.as_array()?.iter().map(range).collect()
}

/// The masters of all slots, and nodes that had some lately.
#[derive(Default)]
pub(super) struct SlotMap {
    /// For each slot, the place of its master among the nodes.
    owners: Vec<u16>,
    nodes: Vec<Arc<Node>>,
    /// Those of the nodes that have slots.
    masters: Vec<Arc<Node>>,
}

impl SlotMap {
    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        let place = self.owners.get(usize::from(slot))?;
        self.nodes.get(usize::from(*place))
    }

    pub(super) fn at(&self, address: &Address) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.address == *address)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter()
    }

    /// Returns how many slots nobody has.
    pub(super) fn orphans(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == NOBODY).count()
    }

    /// Returns the nodes that have slots.
    pub(super) fn masters(&self) -> &[Arc<Node>] {
        &self.masters
    }

    /// Returns the master whose `turn` it is, or the next one that works.
    pub(super) fn any(&self, turn: usize) -> Option<&Arc<Node>> {
        let from = turn.checked_rem(self.masters.len())?;
        let (before, after) = self.masters.split_at(from);
        let mut in_turn = after.iter().chain(before);
        in_turn.find(|node| node.live().is_some()).or(after.first())
    }

    fn new(owners: Vec<u16>, nodes: Vec<Arc<Node>>) -> Self {
        let mut has_some = vec![false; nodes.len()];
        for place in &owners {
            if let Some(has_some) = has_some.get_mut(usize::from(*place)) {
                *has_some = true;
            }
        }
        let masters = nodes.iter().zip(has_some).filter(|(_, has_some)| *has_some);
        let masters = masters.map(|(node, _)| Arc::clone(node)).collect();
        Self { owners, nodes, masters }
    }

    /// Returns the nodes that have slots, each with those.
    pub(super) fn shares(&self) -> Vec<(Arc<Node>, SlotSet)> {
        let mut shares: Vec<_> = self.nodes.iter().map(|_| SlotSet::none()).collect();
        for (slot, place) in (0..SLOTS).zip(&self.owners) {
            if let Some(share) = shares.get_mut(usize::from(*place)) {
                share.insert(slot);
            }
        }
        let shares = self.nodes.iter().map(Arc::clone).zip(shares);
        shares.filter(|(_, share)| !share.is_empty()).collect()
    }

    /// Returns the map after a node has told the slots. A node that is named no
    /// more is kept once, because its successor may not be known to everybody
    /// yet, and then closed.
    pub(super) fn next(&self, ranges: &[SlotRange], make: impl Fn(&Address) -> Arc<Node>) -> Self {
        let (mut owners, mut nodes) = (vec![NOBODY; usize::from(SLOTS)], Vec::new());
        for range in ranges {
            let place = place(&mut nodes, &range.master, || {
                self.at(&range.master).map_or_else(|| make(&range.master), Arc::clone)
            });
            let slots = usize::from(range.first)..=usize::from(range.last);
            if let Some(owners) = owners.get_mut(slots) {
                owners.fill(place);
            }
        }
        for node in &nodes {
            node.set_named(true);
        }
        for node in &self.nodes {
            if nodes.iter().any(|named| named.address == node.address) {
                continue;
            }
            if node.set_named(false) {
                nodes.push(Arc::clone(node));
            } else {
                node.close();
            }
        }
        Self::new(owners, nodes)
    }

    /// Returns the map with a node more, which has no slots.
    pub(super) fn with_node(&self, node: Arc<Node>) -> Self {
        let mut nodes = self.nodes.clone();
        nodes.push(node);
        Self::new(self.owners.clone(), nodes)
    }

    /// Returns the map with one slot at the node of `address`, which it has.
    pub(super) fn with_owner(&self, slot: u16, address: &Address) -> Self {
        let mut owners = self.owners.clone();
        let place = self.nodes.iter().position(|node| node.address == *address);
        let place = place.and_then(|place| u16::try_from(place).ok());
        if let (Some(owner), Some(place)) = (owners.get_mut(usize::from(slot)), place) {
            *owner = place;
        }
        Self::new(owners, self.nodes.clone())
    }
}

/// Returns the place of the node at `address`, which is added if it is new.
fn place(nodes: &mut Vec<Arc<Node>>, address: &Address, node: impl FnOnce() -> Arc<Node>) -> u16 {
    let known = nodes.iter().position(|node| node.address == *address);
    let place = known.unwrap_or_else(|| {
        nodes.push(node());
        nodes.len() - 1
    });
    u16::try_from(place).unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Bytes(text.into())
    }

    #[test]
    fn slots_are_read_and_an_unknown_host_is_the_one_that_was_asked() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range =
            |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let reply = Value::Array(vec![
            range(0, 99, node(text("10.0.0.1"), 1)),
            range(100, 199, node(text(""), 2)),
            range(200, 200, node(Value::Nil, 3)),
            range(201, 16_383, node(text("?"), 4)),
        ]);
        let ranges = read(&reply, &Address::tcp("asked", 9)).unwrap();
        let shown: Vec<_> = ranges
            .iter()
            .map(|range| format!("{}-{} {}", range.first, range.last, range.master))
            .collect();
        let expected =
            ["0-99 10.0.0.1:1", "100-199 asked:2", "200-200 asked:3", "201-16383 asked:4"];
        assert_eq!(shown, expected);
        assert_eq!(read(&Value::Nil, &Address::tcp("asked", 9)), None);
    }
}
