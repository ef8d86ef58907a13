use std::fs::{self, DirBuilder};
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::engine;
use crate::error::{Error, Result};
use crate::process::find_program;
use crate::rng::entropy;
use crate::scratch::{Scratch, at_exit};
use crate::server::READY_BOUND;

/// Longest wait for a command to the engine.
const SIGNAL: Duration = Duration::from_secs(30);
/// Longest wait for a first start, which may fetch the image.
const PULL: Duration = Duration::from_secs(600);

/// Where a container finds what nobody else is to read.
pub(crate) const SECRET: &str = "/trine-secret";

/// A file on its way into a container, where whoever the server runs as may read
/// it; here its folder is closed to others.
struct SecretFile {
    path: PathBuf,
    _scratch: Scratch,
}

impl SecretFile {
    fn new(text: &str) -> Result<Self> {
        let scratch = Scratch::new("docker")?;
        let folder = scratch.path().join("closed");
        let path = folder.join("secret");
        let write = || {
            DirBuilder::new().mode(0o700).create(&folder)?;
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        };
        write().map_err(Error::io(format!("write {}", path.display())))?;
        Ok(Self { path, _scratch: scratch })
    }
}

/// A container of this process's own, removed when dropped.
#[derive(Debug)]
pub(crate) struct Container {
    name: String,
}

impl Container {
    /// Returns a name for a container that does not exist yet.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoServer`], which says `instructions`, unless a Docker
    /// engine answers.
    pub(crate) async fn new(instructions: &str) -> Result<Self> {
        if find_program(&["docker"]).is_none() || docker(SIGNAL, ["info"]).await.is_err() {
            return Err(Error::NoServer(instructions.to_owned()));
        }
        let name = format!("trine-testkit-{:016x}", entropy());
        at_exit(&format!("container {name}"));
        Ok(Self { name })
    }

    /// Starts it with what follows `docker create --name …`, and with `secret` in
    /// the file [`SECRET`]: neither the list of processes nor `docker inspect`
    /// shows it.
    pub(crate) async fn run<A: Into<String>>(
        &self,
        secret: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<()> {
        let head = ["create", "--name", &self.name].map(str::to_owned);
        docker(PULL, head.into_iter().chain(args.into_iter().map(Into::into))).await?;
        let file = SecretFile::new(secret)?;
        let place = format!("{}:{SECRET}", self.name);
        docker(SIGNAL, ["cp", &file.path.display().to_string(), &place]).await?;
        drop(file);
        docker(SIGNAL, ["start", &self.name]).await
    }

    pub(crate) async fn kill(&self) -> Result<()> {
        docker(SIGNAL, ["kill", &self.name]).await
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        docker(SIGNAL, ["pause", &self.name]).await
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        docker(SIGNAL, ["unpause", &self.name]).await
    }

    pub(crate) async fn restart(&self) -> Result<()> {
        docker(SIGNAL, ["restart", &self.name]).await
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        docker(SIGNAL, ["rm", "--force", "--volumes", &self.name]).await
    }

    /// Waits until `ping` succeeds.
    pub(crate) async fn ready<F>(&self, ping: impl Fn() -> F + Send) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send,
    {
        let answered = async {
            while ping().await.is_err() {
                engine::real_sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        within(READY_BOUND, &format!("wait for the container {}", self.name), answered).await
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
