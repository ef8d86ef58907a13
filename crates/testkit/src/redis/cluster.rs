mod shared;
mod slot_move;
mod view;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::engine;
use crate::error::{Error, Result};
use crate::port::free_port;
use crate::proxy::{Protocol, Proxy};
use crate::redis::cluster::view::{SLOTS, View};
use crate::redis::conf::{self, Conf};
use crate::redis::local::{self, LocalServer, Role};
use crate::redis::wait::until;
use crate::redis::{Redis, RedisBuilder};
use crate::server::start_on_a_free_port;

pub use shared::SharedRedisCluster;
pub use slot_move::SlotMove;

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
/// How often is looked, 20 ms or more apart, until a replica is asked again to
/// take over.
const LOOKS_PER_TRY: u32 = 300;
/// How a cluster of somebody else is named.
const NAMED: &str = "TRINE_TEST_REDIS_CLUSTER=host:port,host:port  (without a password; only for \
                     tests that share a cluster)";

/// A Redis cluster of one test: three masters and a replica of each.
///
/// Each node is a [`Redis`] to kill, pause and restart; a dead one is noticed
/// after a second and replaced by its replica in two to three. Nodes announce
/// `127.0.0.1`. They are processes of this machine, never containers.
///
/// Tests that disturb no node share a cluster: [`RedisCluster::shared`].
///
/// # Example
///
/// ```no_run
/// use trine_testkit::{RedisCluster, Result};
///
/// #[trine_testkit::test]
/// async fn follows_a_fail_over() -> Result<()> {
///     let cluster = RedisCluster::start().await?;
///     let addresses = cluster.addresses(); // 127.0.0.1:…, six of them
///     let slot = cluster.slot_of("user:1").await?;
///     cluster.master_of(slot).await?.kill().await?;
///     cluster.wait_until_ok().await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// What the nodes call each other, in their order.
    ids: Vec<String>,
    proxies: Vec<Proxy>,
    password: Option<String>,
}

/// How to start a [`RedisCluster`].
#[derive(Clone, Debug, Default)]
pub struct RedisClusterBuilder {
    node: RedisBuilder,
    is_proxied: bool,
}

impl RedisClusterBuilder {
    /// Sets persistence, password, accounts, options and TLS of every node; the
    /// nodes share their certificates, and speak TLS to each other too.
    #[must_use]
    pub fn node(mut self, node: RedisBuilder) -> Self {
        self.node = node;
        self
    }

    /// Puts a [`Proxy`] before each node, whose address the node announces: see
    /// [`RedisCluster::proxy_of`]. Replicas reach their masters that way too; what
    /// nodes tell each other of their health does not pass there.
    #[must_use]
    pub fn behind_proxies(mut self) -> Self {
        self.is_proxied = true;
        self
    }

    /// Starts the nodes from the binary on this machine and waits until all
    /// agree.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoServer`] if there is no such binary, with
    /// [`Error::Invalid`] for an option that is the kit's, and with
    /// [`Error::Start`], which shows the log, if a node does not become ready.
    pub async fn start(self) -> Result<RedisCluster> {
        conf::check(&self.node)?;
        engine::run(
            async move { start_on_a_free_port(|| RedisCluster::start_with(self.clone())).await },
        )
        .await
    }
}

impl RedisCluster {
    /// Starts a cluster with the kit's settings.
    ///
    /// # Errors
    ///
    /// As [`RedisClusterBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns how to start a cluster with other settings.
    #[must_use]
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder::default()
    }

    /// Returns the cluster that all tests of this process share: the one whose
    /// nodes `TRINE_TEST_REDIS_CLUSTER` names, else one started for the process.
    ///
    /// # Errors
    ///
    /// As [`RedisClusterBuilder::start`]; the next call tries again.
    pub async fn shared() -> Result<&'static SharedRedisCluster> {
        SharedRedisCluster::get().await
    }

    async fn start_with(builder: RedisClusterBuilder) -> Result<Self> {
        let program =
            local::find_server().ok_or_else(|| local::missing("a cluster", Some(NAMED)))?;
        let (mut servers, mut proxies) = (Vec::new(), Vec::new());
        let mut tls = None;
        for _ in 0..NODES {
            let mut server = LocalServer::new(&program, Role::Data, Conf::of(&builder.node))?;
            if builder.node.tls {
                server = server.with_tls_of(&mut tls)?;
                server.tell(["tls-cluster yes".to_owned()]);
            }
            let bus = free_port()?;
            server.tell([
                "cluster-enabled yes".to_owned(),
                "cluster-config-file nodes.conf".to_owned(),
                "cluster-node-timeout 1000".to_owned(),
                // However long a replica was cut off, it is all that is left.
                "cluster-replica-validity-factor 0".to_owned(),
                "cluster-allow-replica-migration no".to_owned(),
                format!("cluster-port {bus}"),
            ]);
            if builder.is_proxied {
                let proxy = Proxy::to(([127, 0, 0, 1], server.port()).into()).await?;
                let proxy = proxy.speaking(Protocol::Redis);
                let announced = if builder.node.tls { "tls-port" } else { "port" };
                server.tell([
                    format!("cluster-announce-{announced} {}", proxy.addr().port()),
                    format!("cluster-announce-bus-port {bus}"),
                ]);
                proxies.push(proxy);
            }
            server.lay_out()?;
            server.spawn(&[])?;
            servers.push((server, bus));
        }
        let password = builder.node.password;
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for (server, bus) in servers {
            server.ready().await?;
            nodes.push(Redis::local(server, password.as_deref()).await?);
            buses.push(bus.to_string());
        }
        let mut ids = Vec::new();
        for node in &nodes {
            ids.push(node.admin(&["CLUSTER", "MYID"]).await?.text().unwrap_or_default());
        }
        let cluster = Self { nodes, ids, proxies, password };
        cluster.introduce(&buses).await?;
        cluster.wait_until_ok().await?;
        Ok(cluster)
    }

    /// Makes one cluster of nodes that do not know each other.
    async fn introduce(&self, buses: &[String]) -> Result<()> {
        let (masters, replicas) = self.nodes.split_at(MASTERS);
        for (index, master) in (0..).zip(masters) {
            let share = SLOTS.div_ceil(3);
            let first = index * share;
            let last = (first + share - 1).min(SLOTS - 1);
            let (first, last) = (first.to_string(), last.to_string());
            master.admin(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            // Of two masters with one epoch, one would have to take another.
            let epoch = (index + 1).to_string();
            node.admin(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
            // Everyone meets everyone: the news needs no time to spread.
            for (other, bus) in self.nodes.iter().zip(buses).take(index) {
                let port = other.port().to_string();
                node.admin(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await?;
            }
        }
        until("wait for the nodes to meet", || async {
            let views = self.views().await?;
            Ok(views.iter().all(|(_, view)| view.known() == NODES).then_some(()))
        })
        .await?;
        for (replica, master) in replicas.iter().zip(&self.ids) {
            replica.admin(&["CLUSTER", "REPLICATE", master]).await?;
        }
        Ok(())
    }

    /// Returns the nodes. Which of them are masters changes with time. One that
    /// is restarted empty belongs to the cluster no more.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Returns where clients reach the nodes, as `host:port`: their proxies, if
    /// there are any.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let own = self.nodes.iter().map(Redis::addr);
        let proxied = self.proxies.iter().map(Proxy::addr);
        let addresses = proxied.chain(own).take(NODES);
        addresses.map(|addr| addr.to_string()).collect()
    }

    /// Returns the proxy before `node`; `None` without
    /// [`behind_proxies`](RedisClusterBuilder::behind_proxies).
    #[must_use]
    pub fn proxy_of(&self, node: &Redis) -> Option<&Proxy> {
        self.proxies.get(self.index_of(node)?)
    }

    /// Returns the password of the account `default`, if there is one.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Returns what the nodes say of their version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.nodes.first().map_or("", Redis::version)
    }

    /// Returns the slot of `key`, of which what stands in braces counts.
    ///
    /// # Errors
    ///
    /// Fails if no node answers.
    pub async fn slot_of(&self, key: &str) -> Result<u16> {
        let slot = self.awake()?.admin(&["CLUSTER", "KEYSLOT", key]).await?;
        let slot = slot.integer().and_then(|slot| u16::try_from(slot).ok());
        slot.ok_or_else(|| Error::Invalid(format!("key `{key}`: the node names no slot")))
    }

    /// Returns the node that owns `slot`, by the newest word of those that run
    /// and are not paused.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] if nobody owns it.
    pub async fn master_of(&self, slot: u16) -> Result<&Redis> {
        let views = self.views().await?;
        let newest = views.iter().filter_map(|(_, view)| view.owner(slot)).max();
        let (_, id) = newest.ok_or_else(|| Error::Invalid(format!("nobody owns slot {slot}")))?;
        let node = self.ids.iter().zip(&self.nodes).find(|(found, _)| *found == id);
        let (_, node) = node.ok_or_else(|| Error::Invalid(format!("node {id}: not of the kit")))?;
        Ok(node)
    }

    /// Returns a replica of the node that owns `slot`.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] if it has none that runs and is not paused.
    pub async fn replica_of(&self, slot: u16) -> Result<&Redis> {
        let master = self.id_of(self.master_of(slot).await?)?;
        for (node, view) in self.views().await? {
            let id = self.id_of(node)?;
            if view.replicas_of(master).any(|replica| replica == id) {
                return Ok(node);
            }
        }
        Err(Error::Invalid(format!("the owner of slot {slot} has no replica")))
    }

    /// Has the owner of `slot` change places with its replica, in an orderly
    /// way, and waits until everybody knows. Returns the new owner.
    ///
    /// # Errors
    ///
    /// Fails if there is no replica or the nodes do not agree within 45 s.
    pub async fn failover(&self, slot: u16) -> Result<&Redis> {
        let replica = self.replica_of(slot).await?;
        let looks = AtomicU32::new(0);
        let replaced = || self.replace(slot, replica, looks.fetch_add(1, Ordering::Relaxed));
        until("have the owner replaced", replaced).await?;
        self.wait_until_owned(slot, replica).await?;
        self.wait_until_ok().await?;
        Ok(replica)
    }

    /// Has `replica` replace the owner of `slot` unless it has. A replica gives
    /// up what takes 5 s, and begins anew whenever it is asked.
    async fn replace(&self, slot: u16, replica: &Redis, look: u32) -> Result<Option<()>> {
        if self.master_of(slot).await?.port() == replica.port() {
            return Ok(Some(()));
        }
        if look.is_multiple_of(LOOKS_PER_TRY) {
            replica.admin(&["CLUSTER", "FAILOVER"]).await?;
        }
        Ok(None)
    }

    /// Begins to move `slot` to the master `to`, so that it is half moved.
    ///
    /// # Errors
    ///
    /// Fails if `to` is no other master of this cluster.
    pub async fn begin_move<'a>(&'a self, slot: u16, to: &'a Redis) -> Result<SlotMove<'a>> {
        SlotMove::begin(self, slot, to).await
    }

    /// Moves `slot` with all its keys to the master `to`.
    ///
    /// # Errors
    ///
    /// As [`begin_move`](Self::begin_move) and [`SlotMove::finish`].
    pub async fn move_slot(&self, slot: u16, to: &Redis) -> Result<()> {
        self.begin_move(slot, to).await?.finish().await
    }

    /// Waits until all nodes that run and are not paused agree on who owns what,
    /// every slot is owned by one of them, and all replicas among them are linked
    /// to their masters.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TimedOut`] after 45 s.
    pub async fn wait_until_ok(&self) -> Result<()> {
        let is_ok = || async { Ok(self.is_ok().await?.then_some(())) };
        until("wait for the nodes to agree", is_ok).await
    }

    /// Waits until every node that runs and is not paused sees `slot` at `owner`.
    async fn wait_until_owned(&self, slot: u16, owner: &Redis) -> Result<()> {
        let id = self.id_of(owner)?;
        let sees = |view: &View| view.owner(slot).is_some_and(|(_, found)| found == id);
        until("wait for the nodes to see the new owner", || async {
            Ok(self.views().await?.iter().all(|(_, view)| sees(view)).then_some(()))
        })
        .await
    }

    async fn is_ok(&self) -> Result<bool> {
        let views = self.views().await?;
        let Some((_, first)) = views.first() else {
            return Ok(false);
        };
        if !first.is_complete() || views.iter().any(|(_, view)| view != first) {
            return Ok(false);
        }
        let mut ids = Vec::new();
        for (node, _) in &views {
            let id = self.id_of(node)?;
            let state = node.admin(&["CLUSTER", "INFO"]).await?.text().unwrap_or_default();
            let link = node.info("master_link_status").await?;
            if !state.contains("cluster_state:ok")
                || first.is_replica(id) && link.as_deref() != Some("up")
            {
                return Ok(false);
            }
            ids.push(id);
        }
        Ok(first.owners().all(|owner| ids.contains(&owner)))
    }

    /// Returns how the nodes that run and are not paused see the cluster.
    async fn views(&self) -> Result<Vec<(&Redis, View)>> {
        let mut views = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_awake()) {
            let text = node.admin(&["CLUSTER", "NODES"]).await?.text().unwrap_or_default();
            views.push((node, View::parse(&text)));
        }
        Ok(views)
    }

    fn awake(&self) -> Result<&Redis> {
        let awake = self.nodes.iter().find(|node| node.is_awake());
        awake.ok_or_else(|| Error::NotRunning { operation: "ask", program: "the cluster".into() })
    }

    fn index_of(&self, node: &Redis) -> Option<usize> {
        self.nodes.iter().position(|found| found.port() == node.port())
    }

    fn id_of(&self, node: &Redis) -> Result<&str> {
        let id = self.index_of(node).and_then(|index| self.ids.get(index));
        let stranger = || Error::Invalid(format!("{}: no node of this cluster", node.addr()));
        id.map(String::as_str).ok_or_else(stranger)
    }
}
