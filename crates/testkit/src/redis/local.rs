use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::account::Account;
use crate::clock::ClockShim;
use crate::error::{Error, Result};
use crate::port::free_port;
use crate::process::{Child, find_program};
use crate::redis::admin::{Admin, Place};
use crate::redis::conf::{ADMIN, Conf, quoted_path};
use crate::redis::tls::RedisTls;
use crate::scratch::Scratch;
use crate::server::ServerProcess;
use crate::user::User;

/// Says why there is no `what`, which only a binary on this machine can be.
pub(super) fn missing(what: &str, variable: Option<&str>) -> Error {
    let named = variable.map(|line| format!("\n  {line}")).unwrap_or_default();
    Error::NoServer(format!(
        "no Redis for this test: there is no `redis-server` (with `setpriv`, of util-linux) on \
         this machine, and {what} is not started in Docker. One of these helps:\n  \
         cargo xtask test      (installs the distribution's package and runs everything)\n  \
         apt-get install --no-install-recommends redis-tools  (the server is in it, as \
         redis-check-rdb){named}"
    ))
}

/// What a program is started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It keeps data.
    Data,
    /// It watches those that keep data.
    Sentinel,
}

/// A server started from a binary on this machine.
#[derive(Debug)]
pub(super) struct LocalServer {
    /// A link in our own folder whose name makes the program a server.
    program: PathBuf,
    role: Role,
    conf: Conf,
    user: Option<User>,
    port: u16,
    tls: Option<RedisTls>,
    clock: Option<ClockShim>,
    admin: Account,
    process: ServerProcess,
    scratch: Arc<Scratch>,
}

/// Returns the server binary of this machine, `None` if there is none or
/// nothing that would end it with this process.
pub(super) fn find_server() -> Option<PathBuf> {
    find_program(&["setpriv"])?;
    // Distributions that split the server from its tools install the same
    // program with both; its name decides what it is.
    find_program(&["redis-server"]).or_else(|| find_program(&["redis-check-rdb"]))
}

impl LocalServer {
    /// Prepares a server on a free port that has not been started.
    pub(super) fn new(program: &Path, role: Role, conf: Conf) -> Result<Self> {
        let scratch = Arc::new(Scratch::new("redis")?);
        let link = scratch.path().join("redis-server");
        symlink(program, &link).map_err(Error::io(format!("link {}", program.display())))?;
        Ok(Self {
            program: link,
            role,
            conf,
            user: User::for_servers()?,
            port: free_port()?,
            tls: None,
            clock: None,
            admin: Account::new(ADMIN),
            process: ServerProcess::new("Redis"),
            scratch,
        })
    }

    /// Has the server speak TLS only.
    pub(super) fn with_tls(mut self) -> Result<Self> {
        self.tls = Some(RedisTls::make(&self.scratch, self.user)?);
        Ok(self)
    }

    /// Gives the server a wall clock of its own.
    pub(super) fn with_clock(mut self) -> Result<Self> {
        self.clock = Some(ClockShim::make(self.scratch.path(), self.user, 0)?);
        Ok(self)
    }

    pub(super) fn clock(&self) -> Option<&ClockShim> {
        self.clock.as_ref()
    }

    /// Has the server speak TLS only, to the others of its group too, with the
    /// certificates that they share; the first of them makes them.
    pub(super) fn with_tls_of(mut self, shared: &mut Option<RedisTls>) -> Result<Self> {
        if shared.is_none() {
            *shared = Some(RedisTls::make(&self.scratch, self.user)?);
        }
        self.tls.clone_from(shared);
        self.tell(["tls-replication yes".to_owned()]);
        Ok(self)
    }

    pub(super) fn tls(&self) -> Option<&RedisTls> {
        self.tls.as_ref()
    }

    /// Tells the server more, from its next start without data on.
    pub(super) fn tell(&mut self, lines: impl IntoIterator<Item = String>) {
        self.conf.extend(lines);
    }

    pub(super) fn admin(&self) -> Admin {
        Admin::new(Place::Socket(self.socket()), Some(self.admin.clone()))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn process(&self) -> &ServerProcess {
        &self.process
    }

    pub(super) fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("server.log")
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.data().join("s.sock")
    }

    fn file(&self) -> PathBuf {
        self.data().join("redis.conf")
    }

    /// Replaces the data folder by an empty one.
    pub(super) fn lay_out(&self) -> Result<()> {
        let (data, file) = (self.data(), self.file());
        if data.exists() {
            fs::remove_dir_all(&data).map_err(Error::io("remove the old data"))?;
        }
        fs::create_dir(&data).map_err(Error::io(format!("create {}", data.display())))?;
        let write = || {
            let mut options = fs::File::options();
            // It holds passwords.
            let mut opened = options.write(true).create_new(true).mode(0o600).open(&file)?;
            opened.write_all(self.text().as_bytes())
        };
        write().map_err(Error::io(format!("write {}", file.display())))?;
        for path in [&data, &file] {
            self.user.map_or(Ok(()), |user| user.own(path))?;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut place = vec![
            "bind 127.0.0.1".to_owned(),
            format!("unixsocket {}", quoted_path(&self.socket())),
            "unixsocketperm 700".to_owned(),
            format!("dir {}", quoted_path(&self.data())),
            "enable-debug-command local".to_owned(),
        ];
        match &self.tls {
            None => place.push(format!("port {}", self.port)),
            Some(tls) => {
                place.extend(["port 0".to_owned(), format!("tls-port {}", self.port)]);
                place.extend(tls.lines());
            }
        }
        self.conf.file(&place, &self.admin)
    }

    /// Starts the process on the data that is there, with `args` beside the file
    /// that it is told to read.
    pub(super) fn spawn(&self, args: &[String]) -> Result<()> {
        // One that was killed leaves its own behind, to which nobody answers.
        let _ = fs::remove_file(self.socket());
        let role = match self.role {
            Role::Data => None,
            Role::Sentinel => Some("--sentinel"),
        };
        let variables = self.clock.iter().flat_map(ClockShim::variables);
        let child = Child::builder(&self.program);
        let child = variables.fold(child, |child, (name, value)| child.env(name, value));
        let child = child
            .arg(self.file().display().to_string())
            .args(role)
            .args(args)
            .folder(self.data())
            .log_to(self.log_path())
            .user(self.user)
            .keep(&self.scratch)
            .spawn()?;
        self.process.put(child);
        Ok(())
    }

    /// Waits until the server answers.
    pub(super) async fn ready(&self) -> Result<()> {
        let admin = self.admin();
        self.process.ready(|| admin.ping()).await
    }

    /// Starts the process on the data that is there and waits until it answers.
    pub(super) async fn launch(&self) -> Result<()> {
        self.spawn(&[])?;
        self.ready().await
    }

    /// Ends the server in an orderly way and starts it again, with `args` beside
    /// the file that it is told to read.
    pub(super) async fn restart(&self, args: &[String]) -> Result<()> {
        self.process.shut_down().await?;
        self.spawn(args)?;
        self.ready().await
    }

    /// Kills the server and starts it without data.
    pub(super) async fn restart_empty(&self) -> Result<()> {
        self.process.kill().await?;
        self.lay_out()?;
        self.launch().await
    }
}
