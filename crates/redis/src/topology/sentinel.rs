mod witness;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;
use trine_core::Tasks;

use super::Redirect;
use super::answers::gather;
use super::watch::{Watched, watch};
use crate::config::{Address, Credentials, Target};
use crate::dial::{Dialed, Dialer, Purpose, Reason, Refusal};
use crate::facts::Role;
use crate::link::Trouble;
use crate::node::{Node, NodeMaker};

use witness::{Witness, Word};

/// A master that sentinels watch.
pub(crate) struct Sentinel {
    shared: Arc<Shared>,
    is_watched: AtomicBool,
}

struct Shared {
    sentinels: Vec<Witness>,
    /// Sentinels have users of their own.
    dialer: Dialer,
    maker: NodeMaker,
    name: Box<str>,
    interval: Duration,
    master: ArcSwapOption<Node>,
    /// The newest that was said of the master.
    known: Mutex<Option<Word>>,
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
            sentinels: targets.iter().map(|target| Witness::new(&target.address)).collect(),
            dialer,
            maker: maker.clone(),
            name: name.into(),
            interval,
            master: ArcSwapOption::empty(),
            known: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        Self { shared: Arc::new(shared), is_watched: AtomicBool::new(false) }
    }

    /// Asks for the master, connects to it, and has it asked for from then on.
    pub(super) async fn prove(&self, tasks: &Tasks) -> Result<(), Arc<Refusal>> {
        let address = self.shared.find().await?;
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

    /// Has the sentinels asked as somebody else, if they allow it.
    pub(crate) async fn set_credentials(&self, new: Credentials) -> Result<(), Arc<Refusal>> {
        let shared = &self.shared;
        let trying = shared
            .sentinels
            .iter()
            .map(|it| shared.dialer.dial_as(&it.address, Purpose::Commands, Some(&new)));
        let mut last = None;
        let mut is_taken = false;
        for tried in join_all(trying).await {
            match tried {
                Ok(_dialed) => is_taken = true,
                Err(refusal) if refusal.is_denial() => return Err(refusal),
                Err(refusal) => last = Some(refusal),
            }
        }
        if let (false, Some(refusal)) = (is_taken, last) {
            return Err(refusal);
        }
        shared.dialer.set_credentials(new);
        for sentinel in &shared.sentinels {
            sentinel.forget();
        }
        Ok(())
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
    /// Returns the master by the newest word of the sentinels that answer.
    ///
    /// One that was cut off may still call a former master by its name: what is
    /// older than what is known counts only if most of all sentinels say it.
    /// Then they were set up anew.
    async fn find(&self) -> Result<Address, Arc<Refusal>> {
        let asking = self.sentinels.iter();
        let asking = asking.map(|witness| witness.ask(&self.dialer, &self.name).boxed());
        let refused = |problem: String| {
            let reason = Reason::NoMaster(problem.into());
            Arc::new(Refusal::new(&"the sentinels".into(), reason))
        };
        let words = gather(asking).await;
        let words =
            words.map_err(|last| last.unwrap_or_else(|| refused("there is none".into())))?;
        let newest = Word::newest(&words).ok_or_else(|| refused("there is none".into()))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = known.as_ref().map_or(0, |known| known.epoch);
        if newest.epoch < floor {
            let (epoch, count) = (newest.epoch, newest.count(&words));
            if count * 2 <= self.sentinels.len() {
                let problem = format!("those that answer are at epoch {epoch}, and it was {floor}");
                return Err(refused(problem));
            }
            tracing::warn!(epoch, known = floor, "the redis sentinels were set up anew");
        }
        *known = Some(newest.clone());
        Ok(newest.master.clone())
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
    async fn refresh(&self) -> Result<bool, Arc<Refusal>> {
        let address = self.find().await?;
        if self.master.load().as_ref().is_some_and(|node| node.address == address) {
            return Ok(false);
        }
        let verified = self.verify(&address).await?;
        self.install(&address);
        drop(verified);
        Ok(true)
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
