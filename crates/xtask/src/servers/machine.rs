use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::account::Account;
use super::keeper::Keeper;
use super::url::Address;
use crate::failure::{Context, Failure, Result};
use crate::run::Run;

/// Longest wait for a server to listen.
const START: Duration = Duration::from_secs(60);

/// Another process may take a free port between the look and the use.
const TRIES: u32 = 5;

/// Where distributions put servers and users' paths often do not look.
pub(super) const SYSTEM: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Returns the file `name` in PATH or in one of the folders `more`.
pub(super) fn find(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(more.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Where a server is to live.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    pub(super) port: u16,
}

impl Place<'_> {
    /// Returns where a server writes that does not complain on its standard
    /// error.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

/// Starts a server on loopback, on a free port and in a folder of its own:
/// `prepare` fills the folder and says what to run, `ask` what answers there.
pub(super) fn start<T>(
    name: &str,
    account: &Account,
    prepare: impl Fn(&Place<'_>) -> Result<Run>,
    ask: impl Fn(&Place<'_>) -> io::Result<T>,
) -> Result<(Address, T, Keeper)> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match attempt(name, account, &prepare, &ask)? {
            Attempt::Ready(port, answer, keeper) => {
                return Ok((Address { host: "127.0.0.1".to_owned(), port }, answer, keeper));
            }
            Attempt::PortTaken(log) => last = log,
        }
    }
    Err(Failure::new(format!(
        "{name} found its port taken {TRIES} times in turn; the last log:\n{last}"
    )))
}

enum Attempt<T> {
    Ready(u16, T, Keeper),
    PortTaken(String),
}

fn attempt<T>(
    name: &str,
    account: &Account,
    prepare: impl Fn(&Place<'_>) -> Result<Run>,
    ask: impl Fn(&Place<'_>) -> io::Result<T>,
) -> Result<Attempt<T>> {
    let folder = account.folder()?;
    let path = folder.path().to_owned();
    let place = Place { folder: &path, port: free_port()? };
    let server = match prepare(&place) {
        Ok(server) => server,
        Err(failure) => {
            folder.discard();
            return Err(failure);
        }
    };
    let keeper = Keeper::serve(&folder, server)?;
    let end = Instant::now() + START;
    loop {
        if let Ok(answer) = ask(&place) {
            return Ok(Attempt::Ready(place.port, answer, keeper));
        }
        let ended = keeper.has_ended();
        if ended || Instant::now() >= end {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            let log = [path.join("log"), place.log()].map(read).concat();
            if ended && log.contains("already in use") {
                return Ok(Attempt::PortTaken(log));
            }
            let what = if ended { "ended at once" } else { "did not listen in time" };
            return Err(Failure::new(format!("{name} {what}; its log:\n{log}")));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("bind a loopback port")?;
    Ok(listener.local_addr().context("read a loopback port")?.port())
}
