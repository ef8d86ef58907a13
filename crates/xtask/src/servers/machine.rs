use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::keeper::{Folder, Keeper};
use super::url::Address;
use super::{Server, greeting};
use crate::failure::{Context, Failure, Result};
use crate::run::Run;

/// Longest wait for a server to listen.
const START: Duration = Duration::from_secs(60);

/// Whom the tests log in as, with a password of this one server.
const ADMIN: &str = "trine_admin";

/// Names in a server's folder.
const SOCKET: &str = "s.sock";
const INIT: &str = "accounts.sql";
const FILES: &str = "files";

/// Another process may take a free port between the look and the use.
const TRIES: u32 = 5;

/// Returns the mariadbd of this machine: one in PATH or in /usr/sbin, where
/// distributions put it and users' paths often do not look.
pub(super) fn program() -> Option<PathBuf> {
    find("mariadbd", &["/usr/sbin", "/usr/local/sbin"])
}

fn find(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(more.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Starts `program` on loopback, on a free port and an empty folder.
pub(super) fn start(program: &Path, origin: &'static str) -> Result<Server> {
    let account = Account::choose()?;
    let mut last = String::new();
    for _ in 0..TRIES {
        match attempt(program, &account, origin)? {
            Attempt::Ready(server) => return Ok(server),
            Attempt::PortTaken(log) => last = log,
        }
    }
    Err(Failure::new(format!(
        "mariadbd found its port taken {TRIES} times in turn; the last log:\n{last}"
    )))
}

enum Attempt {
    Ready(Server),
    PortTaken(String),
}

fn attempt(program: &Path, account: &Account, origin: &'static str) -> Result<Attempt> {
    let folder = account.folder()?;
    let data = folder.path().join("data");
    if let Err(failure) = install(program, &data, account) {
        folder.discard();
        return Err(failure);
    }
    let port = free_port()?;
    let socket = folder.path().join(SOCKET);
    let password = password()?;
    account.give(&folder.path().join(INIT), &admit(&password))?;
    account.run(Path::new("mkdir")).args([folder.path().join(FILES)]).text()?;
    let server = account.run(program).args(options(folder.path(), port));
    let log = folder.path().join("log");
    let keeper = Keeper::serve(&folder, server)?;
    let end = Instant::now() + START;
    loop {
        // The socket file is this server's own, and it appears after the port
        // is bound: a stranger on the same port cannot answer here.
        if let Ok((engine, version)) = greeting::over_socket(&socket) {
            let address = Address { host: "127.0.0.1".to_owned(), port };
            greeting::over_tcp(&address)
                .context(format_args!("mariadbd does not answer at {address}"))?;
            let url = format!("mysql://{ADMIN}:{password}@{address}");
            return Ok(Attempt::Ready(Server {
                engine,
                version,
                url,
                origin,
                _keeper: Some(keeper),
            }));
        }
        let ended = keeper.has_ended();
        if ended || Instant::now() >= end {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            if ended && log.contains("already in use") {
                return Ok(Attempt::PortTaken(log));
            }
            let what = if ended { "ended at once" } else { "did not listen in time" };
            return Err(Failure::new(format!("{} {what}; its log:\n{log}", program.display())));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the options of the server that lives in `folder`.
fn options(folder: &Path, port: u16) -> Vec<String> {
    let below = |name: &str| folder.join(name).display().to_string();
    vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", below("data")),
        format!("--tmpdir={}", folder.display()),
        format!("--socket={}", below(SOCKET)),
        format!("--pid-file={}", below("pid")),
        format!("--init-file={}", below(INIT)),
        // Without it whoever logs in reads and writes what the server may.
        format!("--secure-file-priv={}", below(FILES)),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={port}"),
        "--skip-name-resolve".to_owned(),
        "--max-connections=500".to_owned(),
        "--performance-schema=OFF".to_owned(),
        "--innodb-buffer-pool-size=128M".to_owned(),
        // As the distribution's own configuration has it.
        "--character-set-server=utf8mb4".to_owned(),
    ]
}

/// Returns what the server runs before it listens: who may log in. The accounts
/// that it was installed with have no password and go; every account of the
/// machine reaches the port.
fn admit(password: &str) -> String {
    [
        &format!("CREATE USER IF NOT EXISTS '{ADMIN}'@'%' IDENTIFIED BY '{password}'"),
        &format!("GRANT ALL ON *.* TO '{ADMIN}'@'%' WITH GRANT OPTION"),
        "DELETE FROM mysql.global_priv WHERE User IN ('', 'root')",
        "FLUSH PRIVILEGES",
    ]
    .map(|statement| format!("{statement};\n"))
    .concat()
}

/// Returns 128 random bits as text.
fn password() -> Result<String> {
    let mut bits = [0; 16];
    let mut source = File::open("/dev/urandom").context("/dev/urandom")?;
    source.read_exact(&mut bits).context("/dev/urandom")?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes the system tables.
///
/// The distribution's script for this needs a program of the client's package,
/// so its SQL goes to the server directly.
fn install(program: &Path, data: &Path, account: &Account) -> Result<()> {
    let mut sql = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n".to_owned();
    let share = share(program, account)?;
    for part in ["system_tables.sql", "system_tables_data.sql"] {
        let files = ["mariadb", "mysql"].map(|maker| share.join(format!("{maker}_{part}")));
        let file = files
            .iter()
            .find(|file| file.is_file())
            .ok_or_else(|| Failure::new(format!("no {part} in {}", share.display())))?;
        sql += &std::fs::read_to_string(file).context(file.display())?;
        sql.push('\n');
    }
    account.run(Path::new("mkdir")).args([data]).text()?;
    let server = account.run(program).args(["--no-defaults", "--bootstrap"]).args([
        format!("--datadir={}", data.display()),
        format!("--tmpdir={}", data.display()),
        "--log-warnings=0".to_owned(),
        "--enforce-storage-engine=".to_owned(),
    ]);
    server.feed(&sql)
}

/// Asks the server for the folder that its SQL files are in.
fn share(program: &Path, account: &Account) -> Result<PathBuf> {
    let help = account.run(program).args(["--no-defaults", "--verbose", "--help"]).text()?;
    let charsets = help.lines().find_map(|line| line.strip_prefix("character-sets-dir "));
    let share = charsets.and_then(|folder| Path::new(folder.trim()).parent());
    share.map(Path::to_owned).ok_or_else(|| {
        Failure::new(format!("{} does not say where its files are", program.display()))
    })
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("bind a loopback port")?;
    Ok(listener.local_addr().context("read a loopback port")?.port())
}

/// Whom a server runs as: mariadbd refuses root.
enum Account {
    Myself,
    Other { user: u32, group: u32 },
}

impl Account {
    fn choose() -> Result<Self> {
        if number(&["-u"])? != 0 {
            return Ok(Self::Myself);
        }
        let name = if Run::new("id").args(["mysql"]).succeeds() { "mysql" } else { "nobody" };
        Ok(Self::Other { user: number(&["-u", name])?, group: number(&["-g", name])? })
    }

    /// Returns `program` under this account, killed by the kernel when the
    /// process that starts it dies.
    fn run(&self, program: &Path) -> Run {
        // Two steps, since a change of user forgets the signal.
        let bound = ["setpriv", "--pdeathsig", "KILL"];
        match self {
            Self::Other { user, group } => Run::new("setpriv")
                .args([
                    "--reuid",
                    &user.to_string(),
                    "--regid",
                    &group.to_string(),
                    "--clear-groups",
                ])
                .args(bound)
                .args([program]),
            Self::Myself if find("setpriv", &[]).is_some() => {
                let [setpriv, option, signal] = bound;
                Run::new(setpriv).args([option, signal]).args([program])
            }
            Self::Myself => Run::new(program),
        }
    }

    /// Writes a file that only the account may read.
    fn give(&self, path: &Path, text: &str) -> Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .context(path.display())?;
        file.write_all(text.as_bytes()).context(path.display())?;
        match self {
            Self::Myself => Ok(()),
            Self::Other { user, group } => {
                fchown(&file, Some(*user), Some(*group)).context(path.display())
            }
        }
    }

    /// Makes a folder that the account owns, in a place it can reach.
    fn folder(&self) -> Result<Folder> {
        let Self::Other { user, group } = self else {
            return Folder::create(&std::env::temp_dir());
        };
        let mut last = None;
        for parent in [std::env::temp_dir(), PathBuf::from("/var/tmp")] {
            let folder = Folder::create(&parent)?;
            chown(folder.path(), Some(*user), Some(*group))
                .context("give the server its folder")?;
            if self.run(Path::new("test")).args(["-x"]).args([folder.path()]).succeeds() {
                return Ok(folder);
            }
            last = Some(parent);
            folder.discard();
        }
        let place = last.unwrap_or_default();
        Err(Failure::new(format!(
            "an unprivileged server cannot reach {}; set TMPDIR to a folder it can",
            place.display()
        )))
    }
}

fn number(args: &[&str]) -> Result<u32> {
    Run::new("id").args(args).text()?.trim().parse().context("id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_to_let_in_only_who_has_its_password() {
        let options = options(Path::new("/srv/one"), 3_310);
        for expected in [
            "--init-file=/srv/one/accounts.sql",
            "--secure-file-priv=/srv/one/files",
            "--bind-address=127.0.0.1",
        ] {
            assert!(options.iter().any(|option| option == expected), "{expected}: {options:?}");
        }
        let (one, other) = (password().unwrap(), password().unwrap());
        assert!(one.len() == 32 && one != other);
        assert!(!options.iter().any(|option| option.contains(&one)), "others see arguments");
        let admitted = admit(&one);
        let told: Vec<_> = admitted.lines().collect();
        assert!(told.iter().all(|statement| statement.ends_with(';')));
        assert_eq!(told.iter().filter(|statement| statement.contains(&one)).count(), 1);
        assert!(told[2].starts_with("DELETE") && told[2].contains("'root'"), "{told:?}");
    }
}
