use crate::account::Account;
use crate::docker::{Container, SECRET};
use crate::error::Result;
use crate::mariadb::DATABASE;
use crate::mariadb::account::set_up;
use crate::mariadb::admin::{Admin, Endpoint};
use crate::port::free_port;

const IMAGE: &str = "mariadb:10.11";

/// How to get a server, for whoever reads why a test failed.
const INSTRUCTIONS: &str = "no MariaDB for this test: there is no `mariadbd` (with `setpriv`, of \
util-linux) on this machine, and no Docker engine answers. One of these helps:
  cargo xtask test      (installs the distribution's package and runs everything)
  apt-get install --no-install-recommends mariadb-server-core
  TRINE_TEST_MARIADB_URL=mysql://user:password@host:port/  (an account that may create databases \
and users; only for tests that share a server)";

/// A server in a container, for machines that have none of their own.
#[derive(Debug)]
pub(super) struct DockerServer {
    container: Container,
    port: u16,
    options: Vec<(String, String)>,
    root: Account,
    admin: Account,
    account: Account,
}

impl DockerServer {
    pub(super) async fn start(options: &[(String, String)]) -> Result<(Self, Endpoint, Admin)> {
        let server = Self {
            container: Container::new(INSTRUCTIONS).await?,
            port: free_port()?,
            options: options.to_vec(),
            root: Account::new("root"),
            admin: Account::new("trine_admin"),
            account: Account::new("trine"),
        };
        server.run().await?;
        let endpoint = server.endpoint_of(&server.account);
        let admin = Admin::new(server.endpoint_of(&server.admin));
        Ok((server, endpoint, admin))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn container(&self) -> &Container {
        &self.container
    }

    pub(super) async fn restart(&self, admin: &Admin) -> Result<()> {
        self.container.restart().await?;
        self.container.ready(|| admin.ping()).await
    }

    pub(super) async fn restart_empty(&self, admin: &Admin) -> Result<()> {
        self.container.remove().await?;
        self.run().await?;
        self.container.ready(|| admin.ping()).await
    }

    async fn run(&self) -> Result<()> {
        let publish = format!("127.0.0.1:{}:3306", self.port);
        let password = format!("MARIADB_ROOT_PASSWORD_FILE={SECRET}");
        let mut args: Vec<String> =
            ["--publish", &publish, "--env", &password, IMAGE].map(str::to_owned).into();
        args.extend(self.options.iter().map(|(name, value)| format!("--{name}={value}")));
        self.container.run(self.root.password(), args).await?;
        let root = Admin::new(self.endpoint_of(&self.root));
        self.container.ready(|| root.ping()).await?;
        root.execute("set up accounts", set_up(&self.admin, &self.account, DATABASE)).await
    }

    fn endpoint_of(&self, account: &Account) -> Endpoint {
        Endpoint::new(([127, 0, 0, 1], self.port).into(), None, account.clone())
    }
}
