use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trine_core::{Backoff, Deadline, Tasks};

use crate::config::Address;
use crate::dedicated::{self, Pool};
use crate::dial::{Dialed, Dialer, Refusal};
use crate::link::{Link, Live, Outcome, Trouble};
use crate::service::Counters;
use crate::{Command, DedicatedConfig, RedisConfig, Value};

/// What every node of one configuration is made with.
#[derive(Clone)]
pub(crate) struct NodeMaker {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) counters: Counters,
    /// Told when any connection breaks or cannot be made.
    pub(crate) trouble: Arc<Notify>,
    pub(crate) backoff: Backoff,
    links: usize,
    dedicated: DedicatedConfig,
    stop: CancellationToken,
}

impl NodeMaker {
    pub(crate) fn new(
        config: &RedisConfig,
        dialer: Dialer,
        counters: &Counters,
        stop: CancellationToken,
    ) -> Self {
        Self {
            dialer: Arc::new(dialer),
            counters: counters.clone(),
            trouble: Arc::new(Notify::new()),
            backoff: Backoff::new(config.reconnect.first.get(), config.reconnect.cap.get()),
            links: usize::try_from(config.connections_per_node.get()).unwrap_or(1),
            dedicated: config.dedicated.clone(),
            stop,
        }
    }

    /// Returns one for tests that connect to nobody.
    #[cfg(test)]
    pub(crate) fn of(config: &RedisConfig, counters: &Counters) -> Self {
        let dialer = Dialer::new(&"test".into(), config, None, false);
        Self::new(config, dialer, counters, CancellationToken::new())
    }

    /// Returns a node without any connection yet.
    pub(crate) fn make(&self, address: &Address) -> Arc<Node> {
        let stop = self.stop.child_token();
        let link = || {
            Link::new(
                address,
                &self.dialer,
                &self.backoff,
                &self.trouble,
                stop.clone(),
                &self.counters,
            )
        };
        Arc::new(Node {
            address: address.clone(),
            name: address.to_string().into(),
            is_named: AtomicBool::new(true),
            links: (0..self.links).map(|_| link()).collect(),
            next: AtomicUsize::new(0),
            dedicated: dedicated::pool(address, &self.dialer, &self.dedicated),
            trouble: Arc::clone(&self.trouble),
            stop: stop.clone(),
        })
    }
}

/// One server and the connections that all its commands share.
pub(crate) struct Node {
    pub(crate) address: Address,
    /// The address as text.
    pub(crate) name: Arc<str>,
    links: Box<[Link]>,
    next: AtomicUsize,
    /// Whether the last look at the topology found it.
    is_named: AtomicBool,
    /// Connections that callers have for themselves.
    pub(crate) dedicated: Pool,
    trouble: Arc<Notify>,
    stop: CancellationToken,
}

impl Node {
    /// Has the connections kept up, the first one being there already if it
    /// was made to look at the server.
    pub(crate) fn start(&self, tasks: &Tasks, mut first: Option<Dialed>) {
        for link in &self.links {
            link.start(tasks, first.take());
        }
    }

    /// Returns a connection that works at this moment.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.links.iter().find_map(Link::live)
    }

    /// Returns why it is known to be away, if it is.
    pub(crate) fn refusal(&self) -> Option<Arc<Refusal>> {
        if self.live().is_some() {
            return None;
        }
        self.links.iter().find_map(Link::refusal)
    }

    pub(crate) async fn connected(
        &self,
        tasks: &Tasks,
        until: Option<Deadline>,
    ) -> Result<Arc<Live>, Trouble> {
        self.link()?.connected(tasks, until).await
    }

    pub(crate) async fn run(
        &self,
        tasks: &Tasks,
        command: &Command,
        asking: bool,
        until: Option<Deadline>,
    ) -> Outcome {
        self.link()?.run(tasks, command, asking, until).await
    }

    /// Sends the command that is made for the server with the `run_id` that it
    /// is told, and returns that with the reply.
    pub(crate) async fn run_for(
        &self,
        tasks: &Tasks,
        until: Option<Deadline>,
        command: impl FnOnce(&str) -> Command,
    ) -> Result<(Value, Arc<str>), Trouble> {
        self.link()?.run_for(tasks, until, command).await
    }

    pub(crate) async fn run_all(
        &self,
        tasks: &Tasks,
        commands: &[&Command],
        asking: bool,
        until: Option<Deadline>,
    ) -> Vec<Outcome> {
        match self.link() {
            Ok(link) => link.run_all(tasks, commands, asking, until).await,
            Err(trouble) => commands.iter().map(|_| Err(trouble.clone())).collect(),
        }
    }

    /// Commands take the connections in turn; one that is away is passed over
    /// while another works.
    fn link(&self) -> Result<&Link, Trouble> {
        if let [only] = &*self.links {
            return Ok(only);
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let from = turn.checked_rem(self.links.len()).unwrap_or_default();
        let (before, after) = self.links.split_at(from);
        let mut in_turn = after.iter().chain(before);
        let first = after.first().ok_or(Trouble::Closed)?;
        Ok(in_turn.find(|link| link.live().is_some()).unwrap_or(first))
    }

    pub(crate) async fn log_in_again(&self, auth: &redis::Cmd) {
        join_all(self.links.iter().map(|link| link.log_in_again(auth))).await;
        // Those on loan end when they come back.
        self.dedicated.retain(|_, _| false);
    }

    /// Has the topology looked at.
    pub(crate) fn give_notice(&self) {
        self.trouble.notify_one();
    }

    /// Notes whether the topology names it, and returns whether it did before.
    pub(crate) fn set_named(&self, is_named: bool) -> bool {
        self.is_named.swap(is_named, Ordering::AcqRel)
    }

    /// Waits until it has left the topology.
    pub(crate) async fn left(&self) {
        self.stop.cancelled().await;
    }

    /// Takes no new calls.
    pub(crate) fn close(&self) {
        self.stop.cancel();
        self.dedicated.close();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeMaker").field("dialer", &self.dialer).finish_non_exhaustive()
    }
}
