use std::sync::Arc;

use futures_util::future::join_all;
use trine_core::CallContext;

use super::RedisPool;
use crate::command::Shape;
use crate::link::Trouble;
use crate::node::Node;
use crate::{Access, Command, Error, Result, Value};

/// Where a scan goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCursor {
    node: Arc<str>,
    position: Box<str>,
}

impl ScanCursor {
    /// Returns the cursor that [`to_text`](Self::to_text) was made of; `None`
    /// for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (position, node) = text.split_once('@')?;
        let is_position = !position.is_empty() && position.bytes().all(|c| c.is_ascii_digit());
        is_position.then(|| Self { node: node.into(), position: position.into() })
    }

    /// Returns it as a text that can be kept or sent.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}@{}", self.position, self.node)
    }
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
    /// there all the time is found at least once; one that comes, goes or moves
    /// to another node meanwhile may be missed or found twice.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
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
        let mut masters = self.shared.topology.masters();
        masters.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        // A node that is there no more has been walked by its successors.
        let from = |node: &Arc<Node>| cursor.is_none_or(|cursor| node.name >= cursor.node);
        let mut left = masters.into_iter().filter(from);
        let failed = |trouble: Trouble| trouble.into_error(self.at(operation), Access::Read);
        let Some(node) = left.next() else {
            return match cursor {
                Some(_) => Ok(ScanPage::default()),
                None => Err(failed(Trouble::NoMaster)),
            };
        };
        let position = cursor.filter(|cursor| cursor.node == node.name);
        let position = position.map_or("0", |cursor| &*cursor.position);
        let pattern = format!("{}*", escaped(prefix));
        let command = Command::read("SCAN").arg(position).arg("MATCH").arg(pattern);
        let command = command.arg("COUNT").arg(count.max(1));
        let reply = node.run(&self.shared.tasks, &command, false, until).await.map_err(failed)?;
        let (position, keys) = page(reply).ok_or_else(|| Error::Codec {
            at: self.at(operation),
            expected: "a cursor and keys",
            found: "another reply",
        })?;
        let next = if &*position == "0" {
            left.next().map(|node| ScanCursor { node: Arc::clone(&node.name), position })
        } else {
            Some(ScanCursor { node: Arc::clone(&node.name), position })
        };
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
        let cursor = ScanCursor { node: "host:1".into(), position: "42".into() };
        assert_eq!(ScanCursor::parse(&cursor.to_text()), Some(cursor));
        for text in ["", "42", "@host:1", "x@host:1"] {
            assert_eq!(ScanCursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped("a:b{c}"), "a:b{c}");
        assert_eq!(escaped("a*[b]?\\^-"), "a\\*\\[b\\]\\?\\\\\\^\\-");
    }
}
