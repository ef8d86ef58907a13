mod account;
mod admin;
mod database;
mod docker;
mod local;
mod shared;

use std::net::SocketAddr;

use crate::engine;
use crate::error::Result;
use crate::mariadb::admin::{Admin, Endpoint};
use crate::mariadb::docker::DockerServer;
use crate::mariadb::local::LocalServer;
use crate::server::start_on_a_free_port;

pub use database::TestDatabase;
pub use shared::SharedMariaDb;

/// The database that [`MariaDb::url`] names.
const DATABASE: &str = "trine";

/// A MariaDB server of one test, to be killed, paused and restarted at will.
///
/// Runs on a loopback port and a socket, with its data in a folder of its own
/// that goes when this is dropped or the process ends. Settings are those of
/// the distribution (a commit is on disk before it is acknowledged), except for
/// a buffer pool of 64 MiB, a redo log of 16 MiB, 500 connections and no
/// performance schema.
///
/// Tests that only need a database share a server: [`MariaDb::shared`].
///
/// # Example
///
/// ```no_run
/// use trine_testkit::{MariaDb, Result};
///
/// #[trine_testkit::test]
/// async fn comes_back_after_a_crash() -> Result<()> {
///     let server = MariaDb::start().await?;
///     let url = server.url(); // mysql://trine:…@127.0.0.1:…/trine
///     server.process().kill().await?;
///     server.restart().await?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct MariaDb {
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

/// How to start a [`MariaDb`].
#[derive(Clone, Debug, Default)]
pub struct MariaDbBuilder {
    options: Vec<(String, String)>,
}

impl MariaDbBuilder {
    /// Sets an option of the server, such as `("max_connections", "50")`.
    ///
    /// The kit's own settings can be replaced, except for those that say where
    /// the server lives and who may log in.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// Starts the server: a binary on this machine, else a container.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoServer`](crate::Error::NoServer) if there is neither, with
    /// [`Error::Invalid`](crate::Error::Invalid) for an option that is the kit's, and with
    /// [`Error::Start`](crate::Error::Start), which shows the log, if it does not become ready.
    pub async fn start(self) -> Result<MariaDb> {
        local::check_options(&self.options)?;
        engine::run(MariaDb::start_with(self.options)).await
    }
}

impl MariaDb {
    /// Starts a server with the kit's settings.
    ///
    /// # Errors
    ///
    /// As [`MariaDbBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns how to start a server with other settings.
    #[must_use]
    pub fn builder() -> MariaDbBuilder {
        MariaDbBuilder::default()
    }

    /// Returns the server that all tests of this process share: the one that
    /// `TRINE_TEST_MARIADB_URL` names, else one started for the process.
    ///
    /// Nobody can kill, pause or reconfigure it; what a test does there it does
    /// in a [`TestDatabase`].
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoServer`](crate::Error::NoServer), which says how to get one, and otherwise
    /// as [`MariaDbBuilder::start`]; the next call tries again.
    pub async fn shared() -> Result<&'static SharedMariaDb> {
        SharedMariaDb::get().await
    }

    async fn start_with(options: Vec<(String, String)>) -> Result<Self> {
        let (host, endpoint, admin) = start_on_a_free_port(|| Host::start(&options)).await?;
        let version = admin.version().await?;
        Ok(Self { host, endpoint, admin, version })
    }

    /// Returns the URL of an ordinary account over TCP. It may do everything
    /// but write to a read-only server; a database is there, empty.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url(DATABASE)
    }

    /// Returns the same URL over the server's socket; `None` in a container.
    #[must_use]
    pub fn socket_url(&self) -> Option<String> {
        self.endpoint.socket_url(DATABASE)
    }

    /// Returns the same URL by way of another address, such as a
    /// [`Proxy`](crate::Proxy)'s.
    #[must_use]
    pub fn url_via(&self, addr: SocketAddr) -> String {
        self.endpoint.via(addr).url(DATABASE)
    }

    /// Returns the URL of the account that may do everything: fit for
    /// `TRINE_TEST_MARIADB_URL` of another process.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.admin.url()
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

    /// Returns what the server says of its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the end of the server's log; empty in a container.
    #[must_use]
    pub fn log(&self) -> String {
        match &self.host {
            Host::Local(server) => server.log(),
            Host::Docker(_) => String::new(),
        }
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

    /// Starts the server again on the same port and data, and waits until it
    /// answers. If it runs, it is first told to shut down in an orderly way;
    /// for a crash, [`kill`](Self::kill) before.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Start`](crate::Error::Start) if it does not become ready.
    pub async fn restart(&self) -> Result<()> {
        match &self.host {
            Host::Local(server) => {
                server.process().shut_down().await?;
                server.launch().await?;
                server.process().ready(|| self.admin.ping()).await
            }
            Host::Docker(server) => server.restart(&self.admin).await,
        }
    }

    /// Kills the server and starts it again on the same port with the same
    /// accounts and no data.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    pub async fn restart_empty(&self) -> Result<()> {
        match &self.host {
            Host::Local(server) => {
                server.process().kill().await?;
                server.lay_out().await?;
                server.launch().await?;
                server.process().ready(|| self.admin.ping()).await
            }
            Host::Docker(server) => server.restart_empty(&self.admin).await,
        }
    }

    /// Makes the server refuse writes of ordinary accounts, as a demoted
    /// primary does, or accept them again.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn set_read_only(&self, read_only: bool) -> Result<()> {
        self.admin.set_read_only(read_only).await
    }

    /// Ends every client connection, waits until the server has none of them left,
    /// and returns how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn kill_connections(&self) -> Result<usize> {
        self.admin.kill_connections(None).await
    }

    /// Returns how many client connections the server has, the kit's own not
    /// counted.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn threads_connected(&self) -> Result<usize> {
        self.admin.threads(None).await
    }

    /// Creates a database with an account of its own on this server.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn database(&self) -> Result<TestDatabase> {
        TestDatabase::create(&self.admin).await
    }
}

impl Host {
    async fn start(options: &[(String, String)]) -> Result<(Self, Endpoint, Admin)> {
        let Some(program) = local::find_server().await? else {
            let (server, endpoint, admin) = DockerServer::start(options).await?;
            return Ok((Self::Docker(server), endpoint, admin));
        };
        let server = LocalServer::new(program, options.to_vec())?;
        let endpoint = server.endpoint();
        let admin = server.admin();
        server.lay_out().await?;
        server.launch().await?;
        server.process().ready(|| admin.ping()).await?;
        Ok((Self::Local(server), endpoint, admin))
    }
}
