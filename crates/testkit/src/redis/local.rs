use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::account::Account;
use crate::error::{Error, Result};
use crate::port::free_port;
use crate::process::{Child, find_program};
use crate::redis::admin::{Admin, Place};
use crate::redis::conf::{ADMIN, Conf, quoted_path};
use crate::scratch::Scratch;
use crate::server::ServerProcess;
use crate::user::User;

/// A server started from a binary on this machine.
#[derive(Debug)]
pub(super) struct LocalServer {
    /// A link in our own folder whose name makes the program a server.
    program: PathBuf,
    conf: Conf,
    user: Option<User>,
    port: u16,
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
    pub(super) fn new(program: &Path, conf: Conf) -> Result<Self> {
        let scratch = Arc::new(Scratch::new("redis")?);
        let link = scratch.path().join("redis-server");
        symlink(program, &link).map_err(Error::io(format!("link {}", program.display())))?;
        Ok(Self {
            program: link,
            conf,
            user: User::for_servers()?,
            port: free_port()?,
            admin: Account::new(ADMIN),
            process: ServerProcess::new("Redis"),
            scratch,
        })
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
        let place = [
            "bind 127.0.0.1".to_owned(),
            format!("port {}", self.port),
            format!("unixsocket {}", quoted_path(&self.socket())),
            "unixsocketperm 700".to_owned(),
            format!("dir {}", quoted_path(&self.data())),
            "enable-debug-command local".to_owned(),
        ];
        self.conf.file(&place, &self.admin)
    }

    /// Starts the process on the data that is there and waits until it answers.
    pub(super) async fn launch(&self) -> Result<()> {
        // One that was killed leaves its own behind, to which nobody answers.
        let _ = fs::remove_file(self.socket());
        let child = Child::builder(&self.program)
            .arg(self.file().display().to_string())
            .folder(self.data())
            .log_to(self.log_path())
            .user(self.user)
            .keep(&self.scratch)
            .spawn()?;
        self.process.put(child);
        let admin = self.admin();
        self.process.ready(|| admin.ping()).await
    }

    /// Ends the server in an orderly way and starts it again.
    pub(super) async fn restart(&self) -> Result<()> {
        self.process.shut_down().await?;
        self.launch().await
    }

    /// Kills the server and starts it without data.
    pub(super) async fn restart_empty(&self) -> Result<()> {
        self.process.kill().await?;
        self.lay_out()?;
        self.launch().await
    }
}
