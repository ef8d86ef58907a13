use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::select_ok;
use redis::Cmd;
use tokio::sync::watch;
use tokio::time::timeout;
use trine_core::Tasks;

use super::Redirect;
use super::watch::{Watched, watch};
use crate::Value;
use crate::config::{Address, Target};
use crate::dial::{Dialed, Dialer, Purpose, Reason, Refusal, alongside};
use crate::facts::{Mode, Role};
use crate::link::Trouble;
use crate::node::{Node, NodeMaker};

/// A master that sentinels watch.
pub(crate) struct Sentinel {
    shared: Arc<Shared>,
    is_watched: AtomicBool,
}

struct Shared {
    sentinels: Vec<Address>,
    /// Sentinels have users of their own.
    dialer: Dialer,
    maker: NodeMaker,
    name: Box<str>,
    interval: Duration,
    master: ArcSwapOption<Node>,
    /// Told when another server has become master.
    changed: watch::Sender<()>,
}

impl Sentinel {
    pub(super) fn new(
        targets: &[Target],
        name: &str,
        dialer: Dialer,
        maker: &NodeMaker,
        interval: Duration,
    ) -> Self {
        let shared = Shared {
            sentinels: targets.iter().map(|target| target.address.clone()).collect(),
            dialer,
            maker: maker.clone(),
            name: name.into(),
            interval,
            master: ArcSwapOption::empty(),
            changed: watch::Sender::new(()),
        };
        Self { shared: Arc::new(shared), is_watched: AtomicBool::new(false) }
    }

    /// Asks for the master, connects to it, and has it asked for from then on.
    pub(super) async fn prove(&self, tasks: &Tasks) -> Result<(), Arc<Refusal>> {
        let address = self.shared.ask_all().await?;
        let dialed = self.shared.verify(&address).await?;
        let node = self.shared.install(&address);
        node.start(tasks, Some(dialed));
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            watch(tasks, &self.shared);
        }
        Ok(())
    }

    pub(super) fn node(&self) -> Result<Arc<Node>, Trouble> {
        self.shared.master.load_full().ok_or(Trouble::NoMaster)
    }

    /// A demoted server refuses writes: they go to its successor, if one
    /// becomes known in time.
    pub(super) async fn redirect(&self, code: &str, from: &Node) -> Redirect {
        if code != "READONLY" {
            return Redirect::No;
        }
        let mut changes = self.shared.changed.subscribe();
        self.shared.maker.trouble.notify_one();
        let successor = async {
            loop {
                match self.shared.master.load_full() {
                    Some(node) if node.address != from.address => return Some(node),
                    _ => changes.changed().await.ok()?,
                }
            }
        };
        match timeout(self.shared.maker.dialer.connect_timeout(), successor).await {
            Ok(Some(node)) => Redirect::To { node, asking: false },
            _ => Redirect::No,
        }
    }
}

impl Shared {
    /// Returns what the sentinel that answers first says.
    async fn ask_all(&self) -> Result<Address, Arc<Refusal>> {
        let asking = self.sentinels.iter().map(|address| self.ask(address).boxed());
        select_ok(asking).await.map(|(address, _others)| address)
    }

    async fn ask(&self, sentinel: &Address) -> Result<Address, Arc<Refusal>> {
        let mut dialed = self.dialer.dial(sentinel, Purpose::Commands).await?;
        let name = Arc::clone(&dialed.facts.address);
        let refused = |reason| Arc::new(Refusal::new(&name, reason));
        if dialed.facts.mode != Mode::Sentinel {
            let found = dialed.facts.mode;
            let problem = format!("it is {found}, and server.kind is \"sentinel\"");
            return Err(refused(Reason::Invalid(problem.into())));
        }
        let mut question = Cmd::new();
        question.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&*self.name);
        let asking = dialed.connection.send_packed_command(&question);
        let reply = alongside(&mut dialed.driver, asking).await;
        let reply = reply.and_then(Result::ok).ok_or_else(|| refused(Reason::Closed))?;
        match Value::new(reply) {
            Value::Error(error) => Err(refused(Reason::Server(error))),
            Value::Array(parts) => {
                let text = |place: usize| parts.get(place).and_then(Value::as_text);
                let port = text(1).and_then(|port| port.parse().ok());
                let port = port.ok_or_else(|| refused(Reason::Protocol))?;
                Ok(sentinel.with(text(0).unwrap_or_default(), port))
            }
            _ => {
                let problem = format!("it knows no master `{}`", self.name);
                Err(refused(Reason::NoMaster(problem.into())))
            }
        }
    }

    /// Connects to what is said to be the master, and sees that it is.
    async fn verify(&self, address: &Address) -> Result<Dialed, Arc<Refusal>> {
        let dialed = self.maker.dialer.dial(address, Purpose::Commands).await?;
        if dialed.facts.role == Role::Master {
            return Ok(dialed);
        }
        let problem = "the sentinels call it master, and it is not".into();
        Err(Arc::new(Refusal::new(&dialed.facts.address, Reason::NoMaster(problem))))
    }

    fn install(&self, address: &Address) -> Arc<Node> {
        let node = self.maker.make(address);
        let former = self.master.swap(Some(Arc::clone(&node)));
        if let Some(former) = former {
            tracing::info!(from = %former.address, to = %address, "redis has another master");
            former.close();
        }
        self.changed.send_replace(());
        node
    }
}

#[async_trait]
impl Watched for Shared {
    async fn refresh(&self) -> Result<(), Arc<Refusal>> {
        let address = self.ask_all().await?;
        if self.master.load().as_ref().is_some_and(|node| node.address == address) {
            return Ok(());
        }
        let verified = self.verify(&address).await?;
        self.install(&address);
        drop(verified);
        Ok(())
    }

    fn maker(&self) -> &NodeMaker {
        &self.maker
    }

    fn interval(&self) -> Duration {
        self.interval
    }
}

impl fmt::Debug for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinel")
            .field("name", &self.shared.name)
            .field("master", &self.shared.master.load())
            .finish_non_exhaustive()
    }
}
