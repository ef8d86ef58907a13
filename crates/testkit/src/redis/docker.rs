use crate::account::Account;
use crate::docker::{Container, SECRET};
use crate::error::Result;
use crate::port::free_port;
use crate::redis::admin::{Admin, Place};
use crate::redis::conf::{ADMIN, Conf};

const IMAGE: &str = "redis:7.0";
/// Puts the configuration, passwords among it, where only the server reads it.
fn start() -> String {
    format!(
        "umask 077 && cat {SECRET} >redis.conf \
         && exec docker-entrypoint.sh redis-server redis.conf"
    )
}

/// How to get a server, for whoever reads why a test failed.
pub(super) const INSTRUCTIONS: &str = "no Redis for this test: there is no `redis-server` (with \
`setpriv`, of util-linux) on this machine, and no Docker engine answers. One of these helps:
  cargo xtask test      (installs the distribution's package and runs everything)
  apt-get install --no-install-recommends redis-tools  (the server is in it, as redis-check-rdb)
  TRINE_TEST_REDIS_URL=redis://user:password@host:port/  (only for tests that share a server)";

/// A server in a container, for machines that have none of their own.
#[derive(Debug)]
pub(super) struct DockerServer {
    container: Container,
    port: u16,
    conf: Conf,
    admin: Account,
}

impl DockerServer {
    pub(super) async fn start(conf: Conf) -> Result<Self> {
        let container = Container::new(INSTRUCTIONS).await?;
        let server = Self { container, port: free_port()?, conf, admin: Account::new(ADMIN) };
        server.run().await?;
        Ok(server)
    }

    pub(super) fn admin(&self) -> Admin {
        Admin::new(Place::Tcp(format!("127.0.0.1:{}", self.port)), Some(self.admin.clone()))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn container(&self) -> &Container {
        &self.container
    }

    pub(super) async fn restart(&self) -> Result<()> {
        self.container.restart().await?;
        self.ready().await
    }

    pub(super) async fn restart_empty(&self) -> Result<()> {
        self.container.remove().await?;
        self.run().await
    }

    async fn run(&self) -> Result<()> {
        let place = ["protected-mode no", "enable-debug-command yes"].map(str::to_owned);
        let publish = format!("127.0.0.1:{}:6379", self.port);
        let args = ["--publish", &publish, IMAGE, "sh", "-c", &start()];
        self.container.run(&self.conf.file(&place, &self.admin), args).await?;
        self.ready().await
    }

    async fn ready(&self) -> Result<()> {
        let admin = self.admin();
        self.container.ready(|| admin.ping()).await
    }
}
