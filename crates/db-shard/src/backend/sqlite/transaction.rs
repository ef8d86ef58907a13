use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;
use trine_core::Deadline;

use super::failure::Failure;
use super::link::Item;
use super::place::GRACE;
use super::session::{Command, DROPPED, Session, Step};
use super::shared::Shared;
use super::text::Plan;
use super::{item, unsupported_call};
use crate::backend::{BackendTransaction, Call, Isolation, Reply, SavepointStep, Statement};
use crate::{Error, Result, ResultSet, StatementText};

/// A transaction that has the writer alone.
#[derive(Debug)]
pub(super) struct SqliteTransaction {
    shared: Arc<Shared>,
    session: Session,
    /// A call is under way, or was dropped.
    is_broken: bool,
}

impl SqliteTransaction {
    pub(super) fn new(shared: Arc<Shared>, session: Session) -> Self {
        Self { shared, session, is_broken: false }
    }

    /// Sends a step and waits for its answer; a little longer than the step
    /// may take, because the answer is what counts.
    async fn ask(&mut self, call: &Call, step: Step) -> Result<Reply, Failure> {
        if std::mem::replace(&mut self.is_broken, true) {
            return Err(Failure::Ended(DROPPED));
        }
        let (answer, answered) = oneshot::channel();
        let command = Command { step, deadline: call.deadline, answer };
        if self.session.commands.send(command).await.is_err() {
            return Err(self.session.end());
        }
        let latest = Deadline::at(call.deadline.instant() + GRACE + GRACE);
        let result = match latest.limit(answered).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => return Err(self.session.end()),
            None => return Err(Failure::Unknown(None)),
        };
        self.is_broken = false;
        result
    }

    fn error(&self, call: &Call, failure: Failure) -> Error {
        failure.into_error(self.shared.at(call), call)
    }
}

#[async_trait]
impl BackendTransaction for SqliteTransaction {
    fn isolation(&self) -> Isolation {
        Isolation::Serializable
    }

    async fn run(&mut self, call: Call, statement: Statement) -> Result<Reply> {
        let item = item(&self.shared, &call, statement)?;
        let step = Step::Run { item, max_rows: call.max_rows };
        self.ask(&call, step).await.map_err(|failure| self.error(&call, failure))
    }

    async fn call(&mut self, call: Call, _statement: Statement) -> Result<Vec<ResultSet>> {
        Err(unsupported_call(&self.shared, &call))
    }

    async fn savepoint(&mut self, call: Call, step: SavepointStep, number: u32) -> Result<()> {
        let step = Step::Run { item: savepoint_text(step, number), max_rows: 0 };
        self.ask(&call, step).await.map_err(|failure| self.error(&call, failure))?;
        Ok(())
    }

    async fn commit(mut self: Box<Self>, call: Call) -> Result<()> {
        let result = self.ask(&call, Step::Commit).await;
        result.map_err(|failure| self.error(&call, failure))?;
        Ok(())
    }

    async fn rollback(mut self: Box<Self>, call: Call) -> Result<()> {
        let result = self.ask(&call, Step::RollBack).await;
        result.map_err(|failure| self.error(&call, failure))?;
        Ok(())
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Returns the statement that does `step` with the savepoint `number`.
pub(super) fn savepoint_text(step: SavepointStep, number: u32) -> Item {
    let text = match step {
        SavepointStep::Set => format!("SAVEPOINT trine_{number}"),
        SavepointStep::Release => format!("RELEASE trine_{number}"),
        SavepointStep::RollBack => {
            format!("ROLLBACK TO trine_{number}; RELEASE trine_{number}")
        }
    };
    let plan = Plan::of(&StatementText::dynamic(text.into()));
    Item { plan: Arc::new(plan), arguments: Default::default() }
}
