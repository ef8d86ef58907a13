mod batch;
mod facts;
mod route;
mod scan;
mod servers;

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use trine_core::{CallContext, InFlight, Lifecycle, Tasks};

use crate::command::Shape;
use crate::error::At;
use crate::link::{Outcome, Trouble};
use crate::service::Counters;
use crate::topology::Topology;
use crate::{Access, Command, Error, InvalidKey, Namespace, RedisConfig, Result, Script, Value};

pub use facts::PoolFacts;
pub use scan::{ScanCursor, ScanPage};

/// The connections to one Redis, whether it is one server, a master that
/// sentinels watch, or a cluster. Cloning shares them.
///
/// Commands of all callers share one or two connections per node: there is
/// nothing to check out, and a call that is dropped leaves no other one worse
/// off.
#[derive(Clone)]
pub struct RedisPool {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<RedisConfig>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) tasks: Tasks,
    pub(crate) counters: Counters,
    pub(crate) topology: Arc<Topology>,
}

impl RedisPool {
    /// Runs one command and returns its reply.
    ///
    /// The deadline of the current [`CallContext`] bounds it, and
    /// `response_timeout` where that is shorter. A command that the server
    /// refused because its keys are elsewhere is sent there; nothing else is
    /// ever sent again. A script that the server does not know is sent as a
    /// whole.
    ///
    /// Dropping the future leaves it open whether the command was carried out;
    /// its reply reaches nobody.
    ///
    /// # Errors
    ///
    /// Fails with `OutcomeUnknown` if the reply to a write was lost or late,
    /// with `Timeout` or `Unavailable` if that happened to a read or nothing
    /// was sent, and with what the [table](crate#errors) says for refusals.
    pub async fn run(&self, command: &Command) -> Result<Value> {
        const OPERATION: &str = "run";
        let timer = self.shared.counters.begin(OPERATION);
        let result = self.run_one(OPERATION, command).await;
        timer.end(&result);
        result
    }

    async fn run_one(&self, operation: &'static str, command: &Command) -> Result<Value> {
        let _call = self.enter(operation)?;
        command.check(Shape::Plain).map_err(|why| Error::invalid(self.at(operation), why))?;
        let until = CallContext::current().deadline();
        let outcome = self.shared.route(command, until).await;
        outcome.map_err(|trouble| trouble.into_error(self.at(operation), command.access()))
    }

    /// Runs many commands and returns the outcome of each, in their order.
    ///
    /// They are sent in pipelines of at most 1,000 commands or 1 MiB, to
    /// several nodes side by side. They are no transaction: others' commands
    /// may come between them, and what fails fails alone. Commands with a key
    /// in common are carried out in their order, except while the slot of that
    /// key moves to another node.
    ///
    /// Dropping the future leaves it open which commands were carried out.
    pub async fn run_all(&self, commands: Vec<Command>) -> Vec<Result<Value>> {
        const OPERATION: &str = "run_all";
        let timer = self.shared.counters.begin(OPERATION);
        let outcomes = match self.shared.lifecycle.enter() {
            Ok(_call) => {
                let until = CallContext::current().deadline();
                self.shared.route_all(&commands, until).await
            }
            Err(refused) => commands.iter().map(|_| Err(Trouble::of_life(refused))).collect(),
        };
        let failed = |(outcome, command): (Outcome, &Command)| {
            outcome.map_err(|trouble| trouble.into_error(self.at(OPERATION), command.access()))
        };
        let results: Vec<_> = outcomes.into_iter().zip(&commands).map(failed).collect();
        timer.end_all(&results);
        results
    }

    /// Runs a script: [`run`](Self::run) with the command of its keys and
    /// arguments.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), with `Internal` for a script that fails in
    /// itself; [`Error::server`] tells the code of an `error_reply`.
    pub async fn script<K: AsRef<[u8]>, A: crate::CommandArg>(
        &self,
        script: &Script,
        keys: impl IntoIterator<Item = K>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Value> {
        let command = args.into_iter().fold(script.command(keys), Command::arg);
        self.run(&command).await
    }

    /// Returns the namespace of `instance`, such as `"cache.default"`, in the
    /// application that the configuration names.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a name that [`Namespace::new`] refuses.
    pub fn namespace(&self, instance: &str) -> Result<Namespace, InvalidKey> {
        Namespace::new(&self.shared.config.namespace, instance)
    }

    /// Returns the slot of `key` in a cluster, which keys of one command share;
    /// `None` where there are no slots.
    #[must_use]
    pub fn slot(&self, key: &[u8]) -> Option<u16> {
        self.shared.topology.is_cluster().then(|| crate::slot::slot(key))
    }

    /// Returns the name of the connection, such as `"redis.main"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn at(&self, operation: &'static str) -> At {
        At::new(operation, &self.shared.name)
    }

    /// Bounds what is not sent as a command by the deadline of the call.
    pub(crate) async fn bounded<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        let began = Instant::now();
        let Some(until) = CallContext::current().deadline() else { return Ok(work.await) };
        until.limit(work).await.ok_or_else(|| Error::Timeout {
            at: self.at(operation),
            after: began.elapsed(),
            limit: "deadline of the call",
        })
    }

    pub(crate) fn enter(&self, operation: &'static str) -> Result<InFlight> {
        let refused =
            |refused| Trouble::of_life(refused).into_error(self.at(operation), Access::Read);
        self.shared.lifecycle.enter().map_err(refused)
    }
}

impl fmt::Debug for RedisPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPool")
            .field("name", &self.shared.name)
            .field("topology", &self.shared.topology)
            .finish_non_exhaustive()
    }
}
