mod shared;

use crate::engine;
use crate::error::{Error, Result};
use crate::redis::conf::{self, Conf, quoted};
use crate::redis::local::{self, LocalServer, Role};
use crate::redis::wait::until;
use crate::redis::{Redis, RedisBuilder};
use crate::server::start_on_a_free_port;

pub use shared::SharedRedisSentinel;

const NODES: usize = 3;
const SENTINELS: usize = 3;
/// What the sentinels call the master.
const MASTER: &str = "trine";
/// Has sentinels tell each other and ask their servers often. By themselves they
/// find each other after two seconds and lead a former master back after ten.
const HASTE: [&str; 6] = ["SENTINEL", "DEBUG", "INFO-PERIOD", "300", "PUBLISH-PERIOD", "100"];
/// How sentinels of somebody else are named.
const NAMED: &str = "TRINE_TEST_REDIS_SENTINELS=host:port,host:port  (without a password; only for \
                     tests that share them)";

/// A master, two replicas and three sentinels of one test.
///
/// Each of the six is a [`Redis`] to kill, pause and restart; a master that is
/// dead is noticed after half a second and replaced in one to two. All announce
/// `127.0.0.1`. They are processes of this machine, never containers. Sentinels
/// look after each other and their servers more often than usual, until they are
/// restarted.
///
/// Tests that disturb none of them share them: [`RedisSentinel::shared`].
///
/// # Example
///
/// ```no_run
/// use trine_testkit::{RedisSentinel, Result};
///
/// #[trine_testkit::test]
/// async fn follows_a_fail_over() -> Result<()> {
///     let redis = RedisSentinel::start().await?;
///     let sentinels = redis.addresses(); // 127.0.0.1:…, three of them
///     let old = redis.kill_master().await?;
///     let new = redis.wait_for_failover(old).await?;
///     redis.restart_as_replica(old).await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct RedisSentinel {
    nodes: Vec<Redis>,
    sentinels: Vec<Redis>,
}

/// How to start a [`RedisSentinel`].
#[derive(Clone, Debug, Default)]
pub struct RedisSentinelBuilder {
    node: RedisBuilder,
}

impl RedisSentinelBuilder {
    /// Sets persistence, password, accounts, options and TLS of the servers that
    /// keep data. The sentinels themselves let everybody in; they speak TLS, with
    /// the same certificates, if the servers do.
    #[must_use]
    pub fn node(mut self, node: RedisBuilder) -> Self {
        self.node = node;
        self
    }

    /// Starts the servers and their sentinels from the binary on this machine,
    /// and waits until all know each other and the replicas follow.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoServer`] if there is no such binary, with
    /// [`Error::Invalid`] for an option that is the kit's, and with
    /// [`Error::Start`], which shows the log, if one does not become ready.
    pub async fn start(self) -> Result<RedisSentinel> {
        conf::check(&self.node)?;
        engine::run(async move {
            start_on_a_free_port(|| RedisSentinel::start_with(self.node.clone())).await
        })
        .await
    }
}

impl RedisSentinel {
    /// Starts servers and sentinels with the kit's settings.
    ///
    /// # Errors
    ///
    /// As [`RedisSentinelBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns how to start them with other settings.
    #[must_use]
    pub fn builder() -> RedisSentinelBuilder {
        RedisSentinelBuilder::default()
    }

    /// Returns those that all tests of this process share: the sentinels that
    /// `TRINE_TEST_REDIS_SENTINELS` names, else some started for the process.
    ///
    /// # Errors
    ///
    /// As [`RedisSentinelBuilder::start`]; the next call tries again.
    pub async fn shared() -> Result<&'static SharedRedisSentinel> {
        SharedRedisSentinel::get().await
    }

    async fn start_with(builder: RedisBuilder) -> Result<Self> {
        let program = local::find_server()
            .ok_or_else(|| local::missing("a group with sentinels", Some(NAMED)))?;
        let password = builder.password.as_deref();
        let mut servers: Vec<LocalServer> = Vec::new();
        let mut tls = None;
        for _ in 0..NODES {
            let mut server = LocalServer::new(&program, Role::Data, Conf::of(&builder))?;
            if builder.tls {
                server = server.with_tls_of(&mut tls)?;
            }
            if let Some(master) = servers.first() {
                server.tell([format!("replicaof 127.0.0.1 {}", master.port())]);
            }
            server.lay_out()?;
            server.spawn(&[])?;
            servers.push(server);
        }
        let mut nodes = Vec::new();
        for server in servers {
            server.ready().await?;
            nodes.push(Redis::local(server, password).await?);
        }
        // Sentinels look for replicas every ten seconds: all are there before.
        let linked = || async { Ok(are_linked(nodes.iter().skip(1)).await?.then_some(())) };
        until("wait for the replicas to follow", linked).await?;
        let port = nodes.first().map_or(0, Redis::port);
        let mut servers = Vec::new();
        for _ in 0..SENTINELS {
            let mut server = LocalServer::new(&program, Role::Sentinel, Conf::default())?;
            if builder.tls {
                server = server.with_tls_of(&mut tls)?;
            }
            server.tell([
                format!("sentinel monitor {MASTER} 127.0.0.1 {port} 2"),
                format!("sentinel down-after-milliseconds {MASTER} 500"),
                format!("sentinel failover-timeout {MASTER} 3000"),
                format!("sentinel parallel-syncs {MASTER} 2"),
            ]);
            server.tell(
                password
                    .map(|password| format!("sentinel auth-pass {MASTER} {}", quoted(password))),
            );
            server.lay_out()?;
            server.spawn(&[])?;
            servers.push(server);
        }
        let mut sentinels = Vec::new();
        for server in servers {
            server.ready().await?;
            let sentinel = Redis::local(server, None).await?;
            sentinel.admin(&HASTE).await?;
            sentinels.push(sentinel);
        }
        let group = Self { nodes, sentinels };
        group.wait_until_ok().await?;
        Ok(group)
    }

    /// Returns the servers that keep data. Which of them is the master changes
    /// with time.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Returns the sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// Returns where clients reach the sentinels, as `host:port`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| sentinel.addr().to_string()).collect()
    }

    /// Returns what the sentinels call the master.
    #[must_use]
    pub fn master_name(&self) -> &str {
        MASTER
    }

    /// Returns what the servers say of their version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.nodes.first().map_or("", Redis::version)
    }

    /// Returns the master by the newest word of the sentinels that run and are
    /// not paused. It may be dead.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotRunning`] if there is no such sentinel.
    pub async fn master(&self) -> Result<&Redis> {
        let newest = self.words().await?.into_iter().max();
        let port = newest.map(|word| word.port);
        let node = self.nodes.iter().find(|node| Some(node.port()) == port);
        let program = "sentinels".to_owned();
        node.ok_or(Error::NotRunning { operation: "ask", program })
    }

    /// Returns those that keep data and are not the master.
    ///
    /// # Errors
    ///
    /// As [`master`](Self::master).
    pub async fn replicas(&self) -> Result<Vec<&Redis>> {
        let master = self.master().await?.port();
        Ok(self.nodes.iter().filter(|node| node.port() != master).collect())
    }

    /// Kills the master and returns it.
    ///
    /// # Errors
    ///
    /// As [`master`](Self::master) and [`Redis::kill`].
    pub async fn kill_master(&self) -> Result<&Redis> {
        let master = self.master().await?;
        master.kill().await?;
        Ok(master)
    }

    /// Pauses the master and returns it.
    ///
    /// # Errors
    ///
    /// As [`master`](Self::master) and [`Redis::pause`].
    pub async fn pause_master(&self) -> Result<&Redis> {
        let master = self.master().await?;
        master.pause().await?;
        Ok(master)
    }

    /// Has the sentinels put another server in the place of one that works, and
    /// waits until all is well again. Returns the new master.
    ///
    /// # Errors
    ///
    /// Fails if a sentinel refuses, and with [`Error::TimedOut`] after 45 s.
    pub async fn failover(&self) -> Result<&Redis> {
        let old = self.master().await?;
        let sentinel = self.sentinels.iter().find(|sentinel| sentinel.is_awake());
        if let Some(sentinel) = sentinel {
            until("have the master replaced", || self.replace(sentinel, old)).await?;
        }
        let new = self.wait_for_failover(old).await?;
        self.wait_until_ok().await?;
        Ok(new)
    }

    /// Has `sentinel` replace the master unless it names another already. It
    /// refuses while it is at it or has no news of the replicas, and gives up
    /// what takes too long.
    async fn replace(&self, sentinel: &Redis, old: &Redis) -> Result<Option<()>> {
        let master = sentinel.admin(&["SENTINEL", "MASTER", MASTER]).await?;
        if master.field("port") != Some(old.port().to_string()) {
            return Ok(Some(()));
        }
        let is_busy =
            |answer: &str| answer.starts_with("INPROG") || answer.starts_with("NOGOODSLAVE");
        match sentinel.admin(&["SENTINEL", "FAILOVER", MASTER]).await {
            Err(Error::Refused { answer, .. }) if is_busy(&answer) => Ok(None),
            asked => asked.map(|_taken_up| None),
        }
    }

    /// Waits until all sentinels that run and are not paused name one master
    /// other than `old`, it says so itself, and the others that run and are not
    /// paused, but for `old`, follow it. Returns it.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TimedOut`] after 45 s.
    pub async fn wait_for_failover(&self, old: &Redis) -> Result<&Redis> {
        until("wait for the fail-over", || async {
            let new = self.agreed().await?.filter(|new| new.port() != old.port());
            let Some(new) = new else { return Ok(None) };
            Ok(self.follow(new, Some(old)).await?.then_some(new))
        })
        .await
    }

    /// Waits until all sentinels that run and are not paused name one master and
    /// know of each other, and all servers that run and are not paused follow
    /// it.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TimedOut`] after 45 s.
    pub async fn wait_until_ok(&self) -> Result<()> {
        until("wait for the sentinels to agree", || async {
            let Some(master) = self.agreed().await? else { return Ok(None) };
            Ok(self.follow(master, None).await?.then_some(()))
        })
        .await
    }

    /// Starts a server that was killed as a replica of the present master, and
    /// waits until it follows. With [`Redis::restart`] it comes back as the
    /// master it was, until the sentinels notice.
    ///
    /// # Errors
    ///
    /// As [`master`](Self::master) and [`Redis::restart`].
    pub async fn restart_as_replica(&self, node: &Redis) -> Result<()> {
        let master = self.master().await?;
        let args = ["--replicaof", "127.0.0.1", &master.port().to_string()].map(str::to_owned);
        node.restart_with(&args).await?;
        let linked = || async { Ok(are_linked([node]).await?.then_some(())) };
        until("wait for the replica to follow", linked).await
    }

    /// Returns the master that all sentinels name that are awake and know of
    /// all others.
    async fn agreed(&self) -> Result<Option<&Redis>> {
        let words = self.words().await?;
        let Some(first) = words.first().filter(|first| words.iter().all(|word| word == *first))
        else {
            return Ok(None);
        };
        let is_known = first.replicas == NODES - 1 && first.others == SENTINELS - 1;
        Ok(self.nodes.iter().find(|node| is_known && node.port() == first.port))
    }

    /// Tells whether `master` is one and all that are awake, but for `spared`,
    /// follow it.
    async fn follow(&self, master: &Redis, spared: Option<&Redis>) -> Result<bool> {
        let is_spared = |node: &Redis| spared.is_some_and(|spared| spared.port() == node.port());
        let mut followers = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_awake() && !is_spared(node)) {
            let port = node.info("master_port").await?;
            if node.port() == master.port() {
                if port.is_some() {
                    return Ok(false);
                }
            } else if port != Some(master.port().to_string()) {
                return Ok(false);
            } else {
                followers.push(node);
            }
        }
        Ok(master.is_awake() && are_linked(followers).await?)
    }

    /// Returns what the sentinels that are awake say of the master.
    async fn words(&self) -> Result<Vec<Word>> {
        let mut words = Vec::new();
        for sentinel in self.sentinels.iter().filter(|sentinel| sentinel.is_awake()) {
            let master = sentinel.admin(&["SENTINEL", "MASTER", MASTER]).await?;
            let number = |name| master.field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
            words.push(Word {
                epoch: number("config-epoch"),
                port: u16::try_from(number("port")).unwrap_or(0),
                replicas: number("num-slaves"),
                others: number("num-other-sentinels"),
            });
        }
        Ok(words)
    }
}

/// What a sentinel says of the master; the newest is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    epoch: usize,
    port: u16,
    replicas: usize,
    others: usize,
}

/// Tells whether all of `replicas` have what their master has.
async fn are_linked<'a>(replicas: impl IntoIterator<Item = &'a Redis>) -> Result<bool> {
    for replica in replicas {
        if replica.info("master_link_status").await?.as_deref() != Some("up") {
            return Ok(false);
        }
    }
    Ok(true)
}
