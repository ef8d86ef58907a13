mod decode;
mod encode;
mod script;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use smallvec::SmallVec;
use trine_core::{CallContext, Deadline};
use trine_redis::{Command, Namespace, RedisPool, ScanCursor, Value};

use self::encode::{Part, Sent};
use super::store::Inline;
use super::{CacheBackend, Call, Capabilities, Cursor, NO_CURSOR, Page, StoreFacts, StoreStats};
use crate::{
    At, Batch, ConfigError, Error, Key, Op, Outcome, RedisStoreConfig, Reply, Result, Unavailable,
};

/// Entries on Redis: one server, a master that sentinels watch, or a cluster.
///
/// An operation is one command where Redis has one that does all of it, else a
/// script. An atomic batch is one script. Independent operations are one
/// pipeline for each node, and neighbouring look-ups of one slot one command.
#[derive(Debug)]
pub struct RedisBackend {
    name: Arc<str>,
    pool: RedisPool,
    namespace: Namespace,
    fence_retention: Duration,
    /// What the server last said; a server that may evict takes no fence.
    evicts: AtomicBool,
    is_closed: AtomicBool,
}

impl RedisBackend {
    /// Returns the store of the cache called `name` on `pool`. Does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for every broken rule of the configuration, and if
    /// the name cannot be a part of a key.
    pub fn open(name: &Arc<str>, pool: &RedisPool, config: &RedisStoreConfig) -> Result<Self> {
        let mut problems = Vec::new();
        config.check(&mut problems);
        ConfigError::unless_empty(problems)?;
        let namespace = pool.namespace(name).map_err(|refused| {
            Error::invalid(At::new("open", name), format!("name `{name}`: {refused}"))
        })?;
        Ok(Self {
            name: Arc::clone(name),
            pool: pool.clone(),
            namespace,
            fence_retention: config.fence_retention.get(),
            evicts: AtomicBool::new(true),
            is_closed: AtomicBool::new(false),
        })
    }

    fn at(&self, call: Call) -> At {
        At::new(call.operation, &self.name)
    }

    fn enter(&self, call: Call) -> Result<()> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed { at: self.at(call) });
        }
        Ok(())
    }

    fn full_key(&self, key: &Key) -> String {
        // A `Key` keeps the rules of a namespace.
        [self.namespace.prefix(), key.as_str()].concat()
    }

    /// Runs a command within the caller's deadline.
    async fn send(&self, call: Call, command: &Command) -> trine_redis::Result<Value> {
        // Not by way of `within`, which would hold the call's future twice.
        match narrowed(call) {
            None => self.pool.run(command).await,
            Some(context) => Box::pin(context.scope(self.pool.run(command))).await,
        }
    }

    async fn one(&self, call: Call, op: &Op) -> Result<Reply> {
        let Sent { command, form } = self.encode(op);
        let value = match self.send(call, &command).await {
            Ok(value) => value,
            Err(error) => return self.failed(call, op, error),
        };
        Ok(self.decode(call, op, form, value))
    }

    /// Tells what the server refused in this operation from what became of the
    /// whole call.
    fn failed(&self, call: Call, op: &Op, error: trine_redis::Error) -> Result<Reply> {
        match error.server() {
            Some(said) if decode::is_about_the_value(said) => {
                Ok(Reply::Failed(decode::refused(self.at(call), op, said)))
            }
            _ => Err(self.translate(call, error)),
        }
    }

    async fn pipeline(&self, call: Call, ops: &[Op]) -> SmallVec<[Reply; 1]> {
        let (parts, commands): (Vec<_>, Vec<_>) = self.plan(ops).into_iter().unzip();
        let values = if let [only] = &*commands {
            vec![self.send(call, only).await]
        } else {
            within(call, self.pool.run_all(commands)).await
        };
        let mut replies = SmallVec::with_capacity(ops.len());
        for (Part { range, form }, value) in parts.into_iter().zip(values) {
            let ops = ops.get(range).unwrap_or_default();
            self.gather(call, ops, form, value, &mut replies);
        }
        replies
    }

    async fn atomic(&self, call: Call, batch: &Batch) -> Result<Outcome> {
        if batch.guard().is_some() && self.evicts.load(Ordering::Relaxed) {
            return Err(Error::Unsupported {
                at: self.at(call),
                what: "a fenced write",
                backend: "a Redis that may evict".into(),
            });
        }
        let command = self.encode_atomic(batch);
        let sent = self.send(call, &command).await;
        let value = sent.map_err(|error| self.translate(call, error))?;
        self.decode_atomic(call, batch, value)
    }

    fn translate(&self, call: Call, error: trine_redis::Error) -> Error {
        decode::translate(self.at(call), error)
    }
}

/// Runs `work` with the caller's deadline in force.
async fn within<T>(call: Call, work: impl Future<Output = T>) -> T {
    match narrowed(call) {
        None => work.await,
        Some(context) => Box::pin(context.scope(work)).await,
    }
}

/// Returns the context with the call's deadline, if that is not in force. A
/// service passes on the one that is, so this is rare.
fn narrowed(call: Call) -> Option<CallContext> {
    let deadline = call.deadline?;
    let current = CallContext::current();
    (current.deadline() != Some(deadline)).then(|| current.with_deadline(deadline))
}

impl Inline for RedisBackend {
    async fn run_inline(&self, call: Call, batch: &Batch) -> Result<Outcome> {
        self.enter(call)?;
        let is_plain = batch.conditions().is_empty() && batch.guard().is_none();
        match batch.ops() {
            [] if is_plain => Ok(Outcome::Ran(SmallVec::new())),
            [op] if is_plain => Ok(Outcome::one(self.one(call, op).await?)),
            ops if !batch.is_atomic() => Ok(Outcome::Ran(Box::pin(self.pipeline(call, ops)).await)),
            _ => Box::pin(self.atomic(call, batch)).await,
        }
    }
}

#[async_trait]
impl CacheBackend for RedisBackend {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { is_shared: true }
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        self.enter(call)?;
        let facts = within(call, self.pool.facts()).await;
        let facts = facts.map_err(|error| self.translate(call, error))?;
        self.evicts.store(facts.evicts, Ordering::Relaxed);
        Ok(StoreFacts {
            version: facts.version,
            identity: facts.identity,
            durability: facts.durability,
            evicts: facts.evicts,
        })
    }

    async fn run(&self, call: Call, batch: Batch) -> Result<Outcome> {
        self.run_inline(call, &batch).await
    }

    async fn scan(&self, call: Call, prefix: &str, cursor: Cursor, count: u32) -> Result<Page> {
        self.enter(call)?;
        let prefix = format!("{}{prefix}", self.namespace.prefix());
        let from = match cursor.as_bytes() {
            [] => None,
            text => Some(
                std::str::from_utf8(text)
                    .ok()
                    .and_then(ScanCursor::parse)
                    .ok_or_else(|| Error::invalid(self.at(call), NO_CURSOR))?,
            ),
        };
        let page = within(call, self.pool.scan(&prefix, from.as_ref(), count)).await;
        let page = page.map_err(|error| self.translate(call, error))?;
        // What is no key of ours was put there by somebody else.
        let own = |key: &Vec<u8>| {
            let key = std::str::from_utf8(key).ok()?;
            Key::new(self.namespace.strip(key)?).ok()
        };
        let keys = page.keys.iter().filter_map(own).collect();
        Ok(Page::new(keys, page.next.map(|next| Cursor::new(next.to_text()))))
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    async fn close(&self, _deadline: Deadline) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

impl From<trine_redis::Unavailable> for Unavailable {
    fn from(reason: trine_redis::Unavailable) -> Self {
        use trine_redis::Unavailable as Redis;
        match reason {
            Redis::Refused | Redis::NoMaster | Redis::Redirected => Self::Refused,
            Redis::NotStarted => Self::NotStarted,
            _ => Self::Unreachable,
        }
    }
}
