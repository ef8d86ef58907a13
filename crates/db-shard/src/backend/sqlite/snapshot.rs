use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;

use super::failure::Failure;
use super::reader::Lease;
use super::session::DROPPED;
use super::shared::Shared;
use super::transaction::savepoint_text;
use super::{item, unsupported_call};
use crate::backend::{BackendTransaction, Call, Isolation, Reply, SavepointStep, Statement};
use crate::{Result, ResultSet};

/// A transaction that only reads, on a reader of its own: all its statements
/// see what the first one saw.
///
/// Nothing ends it from outside. While it lives, the log of writes cannot be
/// shortened past what it sees: keep it short.
#[derive(Debug)]
pub(super) struct Snapshot {
    shared: Arc<Shared>,
    lease: Lease,
    /// A call is under way, or was dropped.
    is_broken: bool,
    is_over: bool,
}

impl Snapshot {
    pub(super) async fn begin(shared: &Arc<Shared>, call: &Call) -> Result<Self> {
        let lease = shared.reader(call).await?;
        // Made before it begins, so that a reader on which it may have begun is
        // never given back when this future is dropped.
        let mut snapshot =
            Self { shared: Arc::clone(shared), lease, is_broken: false, is_over: false };
        let begun = snapshot.lease.control(call, "BEGIN").await;
        begun.map_err(|failure| failure.into_error(shared.at(call), call))?;
        Ok(snapshot)
    }

    async fn end(mut self: Box<Self>, call: Call, text: &'static str) -> Result<()> {
        self.enter(&call)?;
        let result = self.lease.control(&call, text).await;
        self.is_over = result.is_ok();
        result.map_err(|failure| failure.into_error(self.shared.at(&call), &call))
    }

    fn enter(&mut self, call: &Call) -> Result<()> {
        if std::mem::replace(&mut self.is_broken, true) {
            return Err(Failure::Ended(DROPPED).into_error(self.shared.at(call), call));
        }
        Ok(())
    }

    async fn execute(&mut self, call: Call, statement: Statement) -> Result<Reply> {
        let item = item(&self.shared, &call, statement)?;
        self.enter(&call)?;
        let result = self.lease.run(&call, &item).await;
        // A statement that was not waited for to its end leaves it broken.
        self.is_broken =
            matches!(result, Err(Failure::Late | Failure::TooManyRows | Failure::Cell(_)));
        result.map_err(|failure| failure.into_error(self.shared.at(&call), &call))
    }
}

#[async_trait]
impl BackendTransaction for Snapshot {
    fn isolation(&self) -> Isolation {
        Isolation::Serializable
    }

    async fn run(&mut self, call: Call, statement: Statement) -> Result<Reply> {
        self.execute(call, statement).await
    }

    async fn call(&mut self, call: Call, _statement: Statement) -> Result<Vec<ResultSet>> {
        Err(unsupported_call(&self.shared, &call))
    }

    async fn savepoint(&mut self, call: Call, step: SavepointStep, number: u32) -> Result<()> {
        let statement = savepoint_text(step, number);
        self.enter(&call)?;
        let result = self.lease.run(&call, &statement).await;
        self.is_broken = result.is_err();
        result.map_err(|failure| failure.into_error(self.shared.at(&call), &call))?;
        Ok(())
    }

    async fn commit(self: Box<Self>, call: Call) -> Result<()> {
        self.end(call, "COMMIT").await
    }

    async fn rollback(self: Box<Self>, call: Call) -> Result<()> {
        self.end(call, "ROLLBACK").await
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !self.is_over {
            self.lease.spend();
        }
    }
}
