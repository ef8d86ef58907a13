mod admin;
mod builder;
mod cluster;
mod conf;
mod docker;
mod endpoint;
mod local;
mod reply;
mod sentinel;
mod shared;
mod tls;
mod wait;

use std::net::SocketAddr;

use crate::error::Result;
use crate::redis::admin::Admin;
use crate::redis::conf::Conf;
use crate::redis::docker::DockerServer;
use crate::redis::endpoint::Endpoint;
use crate::redis::local::{LocalServer, Role};
use crate::rng::entropy;
use crate::server::start_on_a_free_port;

pub use builder::RedisBuilder;
pub use cluster::{RedisCluster, RedisClusterBuilder, SharedRedisCluster, SlotMove};
pub use conf::RedisPersistence;
pub use reply::RedisReply;
pub use sentinel::{RedisSentinel, RedisSentinelBuilder, SharedRedisSentinel};
pub use shared::SharedRedis;
pub use tls::RedisTls;

/// A Redis server of one test, to be killed, paused, reconfigured and restarted
/// at will.
///
/// Runs on a loopback port, with its data in a folder of its own that goes when
/// this is dropped or the process ends. It keeps nothing on disk, evicts
/// nothing, lets everybody in without a password and allows `DEBUG` unless told
/// otherwise.
///
/// Tests that only need keys of their own share a server: [`Redis::shared`].
///
/// # Example
///
/// ```no_run
/// use trine_testkit::{Redis, RedisPersistence, Result};
///
/// #[trine_testkit::test]
/// async fn comes_back_after_a_crash() -> Result<()> {
///     let server = Redis::builder().persistence(RedisPersistence::Always).start().await?;
///     let url = server.url(); // redis://127.0.0.1:…/
///     server.kill().await?;
///     server.restart().await?;
///     server.admin(&["CONFIG", "SET", "maxmemory", "1mb"]).await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Redis {
    host: Host,
    endpoint: Endpoint,
    admin: Admin,
    version: String,
}

#[derive(Debug)]
enum Host {
    Local(LocalServer),
    Docker(DockerServer),
}

impl Redis {
    /// Starts a server with the kit's settings.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns how to start a server with other settings.
    #[must_use]
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// Returns the server that all tests of this process share: the one that
    /// `TRINE_TEST_REDIS_URL` names, else one started for the process.
    ///
    /// Nobody can kill, pause or reconfigure it, and nothing is ever flushed;
    /// each test keeps to keys below a [`namespace`](SharedRedis::namespace).
    /// What it leaves on a server that was named stays there.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoServer`](crate::Error::NoServer), which says how to
    /// get one, and otherwise as [`RedisBuilder::start`]; the next call tries
    /// again.
    pub async fn shared() -> Result<&'static SharedRedis> {
        SharedRedis::get().await
    }

    async fn start_with(builder: RedisBuilder) -> Result<Self> {
        let host = start_on_a_free_port(|| Host::start(&builder)).await?;
        Self::of(host, builder.password.as_deref()).await
    }

    /// Returns the server that runs on `host`.
    async fn of(host: Host, password: Option<&str>) -> Result<Self> {
        let (admin, port) = match &host {
            Host::Local(server) => (server.admin(), server.port()),
            Host::Docker(server) => (server.admin(), server.port()),
        };
        let version = admin.version().await?;
        let mut redis =
            Self { host, endpoint: Endpoint::new("redis", port, password), admin, version };
        if redis.tls().is_some() {
            redis.endpoint.scheme = "rediss";
        }
        Ok(redis)
    }

    /// Returns a server that was started as one of several.
    async fn local(server: LocalServer, password: Option<&str>) -> Result<Self> {
        Self::of(Host::Local(server), password).await
    }

    /// Starts a server of several again with more arguments.
    async fn restart_with(&self, args: &[String]) -> Result<()> {
        match &self.host {
            Host::Local(server) => server.restart(args).await,
            Host::Docker(server) => server.restart().await,
        }
    }

    /// Tells whether the server runs and is not paused.
    fn is_awake(&self) -> bool {
        match &self.host {
            Host::Local(server) => server.process().is_awake(),
            Host::Docker(_) => true,
        }
    }

    /// Returns the URL of the account `default`.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Returns the URL of another account.
    #[must_use]
    pub fn url_of(&self, name: &str, password: &str) -> String {
        self.endpoint.with_account(name, password).url()
    }

    /// Returns the URL of the account `default` by way of another address, such
    /// as a [`Proxy`](crate::Proxy)'s.
    #[must_use]
    pub fn url_via(&self, addr: SocketAddr) -> String {
        self.endpoint.via(addr).url()
    }

    /// Returns the address the server listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port()))
    }

    /// Returns the port the server listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        match &self.host {
            Host::Local(server) => server.port(),
            Host::Docker(server) => server.port(),
        }
    }

    /// Returns the process id; `None` after a kill and in a container.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.host {
            Host::Local(server) => server.process().pid(),
            Host::Docker(_) => None,
        }
    }

    /// Returns the certificates of a server that speaks TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&RedisTls> {
        match &self.host {
            Host::Local(server) => server.tls(),
            Host::Docker(_) => None,
        }
    }

    /// Returns what the server says of its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the server's log; empty in a container.
    #[must_use]
    pub fn log(&self) -> String {
        match &self.host {
            Host::Local(server) => server.log(),
            Host::Docker(_) => String::new(),
        }
    }

    /// Returns what the keys of one test may start with: `trine_test_` and 16
    /// hex digits, different on each call.
    #[must_use]
    pub fn namespace(&self) -> String {
        namespace()
    }

    /// Kills the server with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    ///
    /// Fails if the process cannot be killed; a second kill succeeds.
    pub async fn kill(&self) -> Result<()> {
        match &self.host {
            Host::Local(server) => server.process().kill().await,
            Host::Docker(server) => server.container().kill().await,
        }
    }

    /// Stops the server with SIGSTOP: connections stay open, nothing answers.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotRunning`](crate::Error::NotRunning) after a kill.
    pub async fn pause(&self) -> Result<()> {
        match &self.host {
            Host::Local(server) => server.process().pause().await,
            Host::Docker(server) => server.container().pause().await,
        }
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NotRunning`](crate::Error::NotRunning) after a kill.
    pub async fn resume(&self) -> Result<()> {
        match &self.host {
            Host::Local(server) => server.process().resume(),
            Host::Docker(server) => server.container().resume().await,
        }
    }

    /// Starts the server again on the same port and with what its
    /// [persistence](RedisPersistence) has kept, and waits until it answers. If
    /// it runs, it is first told to shut down in an orderly way; for a crash,
    /// [`kill`](Self::kill) before. What `CONFIG SET` and `ACL SETUSER` changed
    /// is forgotten.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Start`](crate::Error::Start) if it does not become
    /// ready.
    pub async fn restart(&self) -> Result<()> {
        self.restart_with(&[]).await
    }

    /// Kills the server and starts it again on the same port with the same
    /// settings and no data.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    pub async fn restart_empty(&self) -> Result<()> {
        match &self.host {
            Host::Local(server) => server.restart_empty().await,
            Host::Docker(server) => server.restart_empty().await,
        }
    }

    /// Sets the server's wall clock so many seconds ahead of the machine's,
    /// behind it if negative. What measures time in other ways, such as its
    /// event loop, goes on.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`](crate::Error::Invalid) for a server without
    /// a clock of [its own](RedisBuilder::own_clock).
    pub fn set_clock(&self, ahead: i64) -> Result<()> {
        let clock = match &self.host {
            Host::Local(server) => server.clock(),
            Host::Docker(_) => None,
        };
        let clock =
            clock.ok_or_else(|| crate::Error::Invalid("this server has no own clock".into()))?;
        clock.set(ahead.saturating_mul(1_000_000))
    }

    /// Runs any command, such as `["CONFIG", "SET", "maxmemory", "1mb"]`, as an
    /// account that may do everything and from the kit's own client. An answer
    /// is waited for 10 s.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Refused`](crate::Error::Refused) if the server
    /// refuses it, and otherwise if it does not answer.
    pub async fn admin(&self, words: &[&str]) -> Result<RedisReply> {
        self.admin.call(words.iter().copied()).await
    }

    /// Returns a field of `INFO`, such as `"connected_clients"`; `None` if there
    /// is none of that name now.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn info(&self, field: &str) -> Result<Option<String>> {
        self.admin.info(field).await
    }

    /// Returns how many client connections the server has, the kit's own not
    /// counted.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn connections(&self) -> Result<usize> {
        self.admin.count_connections().await
    }

    /// Ends every client connection and returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn kill_connections(&self) -> Result<usize> {
        self.admin.kill_connections().await
    }
}

impl Host {
    async fn start(builder: &RedisBuilder) -> Result<Self> {
        let conf = Conf::of(builder);
        let Some(program) = local::find_server() else {
            if builder.tls {
                return Err(local::missing("a server with TLS", None));
            }
            if builder.own_clock {
                return Err(local::missing("a server with a clock of its own", None));
            }
            return DockerServer::start(conf).await.map(Self::Docker);
        };
        let mut server = LocalServer::new(&program, Role::Data, conf)?;
        if builder.tls {
            server = server.with_tls()?;
        }
        if builder.own_clock {
            server = server.with_clock()?;
        }
        server.lay_out()?;
        server.launch().await?;
        Ok(Self::Local(server))
    }
}

fn namespace() -> String {
    format!("trine_test_{:016x}", entropy())
}
