use std::sync::Arc;

use futures_util::future::join_all;
use trine_core::CallContext;

use super::RedisPool;
use crate::command::Shape;
use crate::link::Trouble;
use crate::node::Node;
use crate::slot::SlotSet;
use crate::{Access, Command, Error, Result, Value};

/// Where a scan goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor {
    /// The walk that is under way.
    walk: Option<Walk>,
    /// The slots of which all keys were seen; a server without slots has all of
    /// them.
    done: SlotSet,
}

/// The way through the keys of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Walk {
    node: Arc<str>,
    /// A position means something to the process that told it, and to no other.
    run_id: Arc<str>,
    position: Box<str>,
    /// What the node has had from the beginning of the walk on.
    slots: SlotSet,
}

impl ScanCursor {
    /// Returns the cursor that [`to_text`](Self::to_text) was made of; `None`
    /// for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (done, walk) = text.split_once('@')?;
        let done = SlotSet::parse(done)?;
        if walk.is_empty() {
            // Neither before the first walk nor after the last is there a cursor.
            let is_between = !done.is_empty() && !done.is_all();
            return is_between.then_some(Self { walk: None, done });
        }
        let mut parts = walk.splitn(4, '@');
        let (position, run_id) = (parts.next()?, parts.next()?);
        let (slots, node) = (SlotSet::parse(parts.next()?)?, parts.next()?);
        let is_position = !position.is_empty() && position.bytes().all(|c| c.is_ascii_digit());
        if !is_position || node.is_empty() {
            return None;
        }
        let walk =
            Walk { node: node.into(), run_id: run_id.into(), position: position.into(), slots };
        Some(Self { walk: Some(walk), done })
    }

    /// Returns it as a text that can be kept or sent: some 100 bytes, and in a
    /// cluster those that name the slots of its nodes as ranges.
    #[must_use]
    pub fn to_text(&self) -> String {
        let done = &self.done;
        match &self.walk {
            None => format!("{done}@"),
            Some(Walk { node, run_id, position, slots }) => {
                format!("{done}@{position}@{run_id}@{slots}@{node}")
            }
        }
    }

    fn start() -> Self {
        Self { walk: None, done: SlotSet::none() }
    }

    /// Returns the node that is to be asked, and the slots that are walked
    /// there: where the walk is if that node still has any of them, else
    /// whoever has the first slot that is not done. `None` if nobody has it.
    fn place(&self, shares: &[(Arc<Node>, SlotSet)]) -> Option<(Arc<Node>, SlotSet)> {
        if let Some(walk) = &self.walk {
            let slots = walk.slots.and(&share_of(&walk.node, shares));
            let node = shares.iter().find(|(node, _)| node.name == walk.node);
            if let Some((node, _)) = node.filter(|_| !slots.is_empty()) {
                return Some((Arc::clone(node), slots));
            }
        }
        let left = shares.iter().map(|(node, slots)| (node, slots.without(&self.done)));
        let left = left.filter_map(|(node, slots)| Some((slots.first()?, node, slots)));
        let (_, node, slots) = left.min_by_key(|(first, ..)| *first)?;
        Some((Arc::clone(node), slots))
    }

    /// Returns the position that `node` is to be asked for, 0 where a walk
    /// begins.
    fn position(&self, node: &Node, run_id: &str) -> &str {
        let walk = self.walk.as_ref();
        let walk = walk.filter(|walk| walk.node == node.name && &*walk.run_id == run_id);
        walk.map_or("0", |walk| &*walk.position)
    }
}

fn share_of(name: &str, shares: &[(Arc<Node>, SlotSet)]) -> SlotSet {
    let share = shares.iter().find(|(node, _)| &*node.name == name);
    share.map_or_else(SlotSet::none, |(_, slots)| slots.clone())
}

/// Some of the keys that a scan finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanPage {
    /// The keys; a page may have none although others follow.
    pub keys: Vec<Vec<u8>>,
    /// Where it goes on; `None` at the end.
    pub next: Option<ScanCursor>,
}

impl RedisPool {
    /// Returns some of the keys that begin with `prefix`, on all masters one
    /// after the other, about `count` looked at for each call.
    ///
    /// Begins without a cursor and ends when a page has none. A key that is
    /// there all the time is found, also where a server is restarted or another
    /// takes over: its keys are walked again from the first, and some are found
    /// twice. A key that comes or goes meanwhile, or is just being moved to
    /// another node, may be missed.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); with `Unavailable` also where nobody has some of the
    /// slots. The same cursor may be used again.
    pub async fn scan(
        &self,
        prefix: &str,
        cursor: Option<&ScanCursor>,
        count: u32,
    ) -> Result<ScanPage> {
        const OPERATION: &str = "scan";
        let timer = self.shared.counters.begin(OPERATION);
        let result = self.scan_page(OPERATION, prefix, cursor, count).await;
        timer.end(&result);
        result
    }

    async fn scan_page(
        &self,
        operation: &'static str,
        prefix: &str,
        cursor: Option<&ScanCursor>,
        count: u32,
    ) -> Result<ScanPage> {
        let _call = self.enter(operation)?;
        let until = CallContext::current().deadline();
        let topology = &self.shared.topology;
        let start = ScanCursor::start();
        let cursor = cursor.unwrap_or(&start);
        let failed = |trouble: Trouble| trouble.into_error(self.at(operation), Access::Read);
        let place = cursor.place(&topology.shares());
        let (node, slots) = place.ok_or_else(|| failed(Trouble::NoMaster))?;
        let scan = |run_id: &str| {
            let position = cursor.position(&node, run_id);
            let pattern = format!("{}*", escaped(prefix));
            let command = Command::read("SCAN").arg(position).arg("MATCH").arg(pattern);
            command.arg("COUNT").arg(count.max(1))
        };
        let reply = node.run_for(&self.shared.tasks, until, scan).await;
        let (reply, run_id) = reply.map_err(failed)?;
        let (position, keys) = page(reply).ok_or_else(|| Error::Codec {
            at: self.at(operation),
            expected: "a cursor and keys",
            found: "another reply",
        })?;
        let name = Arc::clone(&node.name);
        if &*position != "0" {
            let walk = Walk { node: name, run_id, position, slots };
            let next = ScanCursor { walk: Some(walk), done: cursor.done.clone() };
            return Ok(ScanPage { keys, next: Some(next) });
        }
        let slots = slots.and(&share_of(&name, &topology.shares()));
        let done = cursor.done.or(&slots);
        let next = (!done.is_all()).then_some(ScanCursor { walk: None, done });
        Ok(ScanPage { keys, next })
    }

    /// Runs one command on every master, side by side, and returns the outcome
    /// of each with its address.
    ///
    /// Meant for commands without keys, such as `DBSIZE`.
    ///
    /// # Errors
    ///
    /// Fails as a whole only if nothing may be sent: `Closed`, `Invalid`, or
    /// `Unavailable` where no master is known.
    pub async fn on_each_master(
        &self,
        command: &Command,
    ) -> Result<Vec<(Arc<str>, Result<Value>)>> {
        const OPERATION: &str = "on_each_master";
        let timer = self.shared.counters.begin(OPERATION);
        let _call = self.enter(OPERATION)?;
        command.check(Shape::Plain).map_err(|why| Error::invalid(self.at(OPERATION), why))?;
        let until = CallContext::current().deadline();
        let masters = self.shared.topology.masters();
        if masters.is_empty() {
            return Err(Trouble::NoMaster.into_error(self.at(OPERATION), Access::Read));
        }
        let running = masters.iter().map(|node| async move {
            let outcome = node.run(&self.shared.tasks, command, false, until).await;
            let failed =
                |trouble: Trouble| trouble.into_error(self.at(OPERATION), command.access());
            (Arc::clone(&node.name), outcome.map_err(failed))
        });
        let result = Ok(join_all(running).await);
        timer.end(&result);
        result
    }
}

fn page(reply: Value) -> Option<(Box<str>, Vec<Vec<u8>>)> {
    let mut parts = reply.into_array()?.into_iter();
    let position = parts.next()?.as_text()?.into();
    let keys = parts.next()?.into_array()?.into_iter().filter_map(Value::into_bytes).collect();
    Some((position, keys))
}

/// Takes from the characters of a pattern what they mean.
fn escaped(prefix: &str) -> String {
    let mut escaped = String::with_capacity(prefix.len());
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let done = SlotSet::parse("0-5460").unwrap();
        let walk = Walk {
            node: "/run/a@b.sock".into(),
            run_id: "abc".into(),
            position: "42".into(),
            slots: SlotSet::parse("5461-9000,9002").unwrap(),
        };
        for walk in [None, Some(walk)] {
            let cursor = ScanCursor { walk, done: done.clone() };
            assert_eq!(ScanCursor::parse(&cursor.to_text()), Some(cursor));
        }
        for text in [
            "",
            "0",
            "@",
            "0-16383@",
            "42@host:1",
            "0-1@x@id@5@host:1",
            "x@1@id@5@host:1",
            "0-1@1@id@5@",
        ] {
            assert_eq!(ScanCursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped("a:b{c}"), "a:b{c}");
        assert_eq!(escaped("a*[b]?\\^-"), "a\\*\\[b\\]\\?\\\\\\^\\-");
    }
}
