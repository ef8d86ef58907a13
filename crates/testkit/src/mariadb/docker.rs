use std::future::Future;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::engine;
use crate::error::{Error, Result};
use crate::mariadb::account::{Account, set_up};
use crate::mariadb::admin::{Admin, Endpoint};
use crate::mariadb::{DATABASE, READY_BOUND};
use crate::port::free_port;
use crate::process::find_program;
use crate::rng::entropy;
use crate::scratch::at_exit;

const IMAGE: &str = "mariadb:10.11";
/// Longest wait for a command to the engine.
const SIGNAL: Duration = Duration::from_secs(30);
/// Longest wait for a first start, which may fetch the image.
const PULL: Duration = Duration::from_secs(600);

/// How to get a server, for whoever reads why a test failed.
const INSTRUCTIONS: &str = "no MariaDB for this test: there is no `mariadbd` (with `setpriv`, of \
util-linux) on this machine, and no Docker engine answers. One of these helps:
  cargo xtask test      (installs the distribution's package and runs everything)
  apt-get install --no-install-recommends mariadb-server-core
  TRINE_TEST_MARIADB_URL=mysql://user:password@host:port/  (an account that may create databases \
and users; only for tests that share a server)";

/// A server in a container, for machines that have none of their own.
#[derive(Debug)]
pub(super) struct Container {
    name: String,
    port: u16,
    options: Vec<(String, String)>,
    root: Account,
    admin: Account,
    account: Account,
}

impl Container {
    pub(super) async fn start(options: &[(String, String)]) -> Result<(Self, Endpoint, Admin)> {
        if find_program(&["docker"]).is_none() || docker(SIGNAL, ["info"]).await.is_err() {
            return Err(Error::NoServer(INSTRUCTIONS.into()));
        }
        let container = Self {
            name: format!("trine-testkit-{:016x}", entropy()),
            port: free_port()?,
            options: options.to_vec(),
            root: Account::new("root"),
            admin: Account::new("trine_admin"),
            account: Account::new("trine"),
        };
        at_exit(&format!("container {}", container.name));
        container.run().await?;
        let endpoint = container.endpoint_of(&container.account);
        let admin = Admin::new(container.endpoint_of(&container.admin));
        Ok((container, endpoint, admin))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) async fn kill(&self) -> Result<()> {
        docker(SIGNAL, ["kill", &self.name]).await
    }

    pub(super) async fn pause(&self) -> Result<()> {
        docker(SIGNAL, ["pause", &self.name]).await
    }

    pub(super) async fn resume(&self) -> Result<()> {
        docker(SIGNAL, ["unpause", &self.name]).await
    }

    pub(super) async fn restart(&self, admin: &Admin) -> Result<()> {
        docker(SIGNAL, ["restart", &self.name]).await?;
        ready(admin).await
    }

    pub(super) async fn restart_empty(&self, admin: &Admin) -> Result<()> {
        docker(SIGNAL, ["rm", "--force", "--volumes", &self.name]).await?;
        self.run().await?;
        ready(admin).await
    }

    async fn run(&self) -> Result<()> {
        let publish = format!("127.0.0.1:{}:3306", self.port);
        let password = format!("MARIADB_ROOT_PASSWORD={}", self.root.password());
        let mut args: Vec<String> = [
            "run",
            "--detach",
            "--name",
            &self.name,
            "--publish",
            &publish,
            "--env",
            &password,
            IMAGE,
        ]
        .map(str::to_owned)
        .into();
        args.extend(self.options.iter().map(|(name, value)| format!("--{name}={value}")));
        docker(PULL, args).await?;
        let root = Admin::new(self.endpoint_of(&self.root));
        ready(&root).await?;
        root.execute("set up accounts", set_up(&self.admin, &self.account, DATABASE)).await
    }

    fn endpoint_of(&self, account: &Account) -> Endpoint {
        Endpoint::new(([127, 0, 0, 1], self.port).into(), None, account.clone())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let name = self.name.clone();
        engine::clean_up(async move {
            // What stays goes when this process ends.
            let _ = docker(SIGNAL, ["rm", "--force", "--volumes", &name]).await;
        });
    }
}

async fn ready(admin: &Admin) -> Result<()> {
    let answered = async {
        while admin.ping().await.is_err() {
            engine::real_sleep(Duration::from_millis(50)).await;
        }
    };
    within(READY_BOUND, &format!("wait for the container of {IMAGE}"), async {
        answered.await;
        Ok(())
    })
    .await
}

async fn docker<A: Into<String>>(bound: Duration, args: impl IntoIterator<Item = A>) -> Result<()> {
    let args: Vec<String> = args.into_iter().map(Into::into).collect();
    let program = format!("docker {}", args.first().map_or("", String::as_str));
    let operation = format!("run {program}");
    let work = engine::run_blocking(move || {
        let output = Command::new("docker")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("run docker"))?;
        if output.status.success() {
            return Ok(());
        }
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Error::Start { program, reason: format!("ended with {}", output.status), log })
    });
    within(bound, &operation, work).await
}

async fn within<T>(
    bound: Duration,
    operation: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        answer = work => answer,
        () = engine::real_sleep(bound) => {
            Err(Error::TimedOut { operation: operation.to_owned(), after: bound })
        }
    }
}
