use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::account::Account;
use crate::engine;
use crate::error::{Error, Result};
use crate::mariadb::DATABASE;
use crate::mariadb::account::set_up;
use crate::mariadb::admin::{Admin, Endpoint};
use crate::port::free_port;
use crate::process::{Child, find_program, mortal};
use crate::scratch::Scratch;
use crate::server::ServerProcess;
use crate::user::User;

/// Written by the server on its way up; small, so that a copy is quick.
const REDO_LOG: &str = "--innodb-log-file-size=16M";
/// Options that say where the server lives and who may log in.
const RESERVED: [&str; 14] = [
    "basedir",
    "bind-address",
    "bootstrap",
    "datadir",
    "defaults-file",
    "init-file",
    "pid-file",
    "plugin-dir",
    "port",
    "secure-file-priv",
    "skip-grant-tables",
    "socket",
    "tmpdir",
    "user",
];

/// A server started from a binary on this machine.
#[derive(Debug)]
pub(super) struct LocalServer {
    program: PathBuf,
    options: Vec<(String, String)>,
    user: Option<User>,
    port: u16,
    admin: Account,
    account: Account,
    process: ServerProcess,
    scratch: Arc<Scratch>,
}

/// Returns the server binary of this machine, `None` if there is none or
/// nothing that would end it with this process.
pub(super) async fn find_server() -> Result<Option<PathBuf>> {
    if find_program(&["setpriv"]).is_none() {
        return Ok(None);
    }
    let Some(program) = find_program(&["mariadbd", "mysqld"]) else {
        return Ok(None);
    };
    engine::run_blocking(move || {
        let output = Command::new(&program)
            .args(["--no-defaults", "--version"])
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io(format!("run {}", program.display())))?;
        // `mysqld` may be MySQL's, which is set up in another way.
        let is_mariadb = String::from_utf8_lossy(&output.stdout).contains("MariaDB");
        Ok(is_mariadb.then_some(program))
    })
    .await
}

/// Refuses options that this crate needs for itself.
pub(super) fn check_options(options: &[(String, String)]) -> Result<()> {
    for (name, _) in options {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            return Err(Error::Invalid(format!(
                "option `{name}`: expected a name such as max_connections, without dashes before it"
            )));
        }
        if RESERVED.contains(&name.replace('_', "-").as_str()) {
            return Err(Error::Invalid(format!("option `{name}`: set by the kit itself")));
        }
    }
    Ok(())
}

impl LocalServer {
    pub(super) fn new(program: PathBuf, options: Vec<(String, String)>) -> Result<Self> {
        Ok(Self {
            program,
            options,
            user: User::for_servers()?,
            port: free_port()?,
            admin: Account::new("trine_admin"),
            account: Account::new("trine"),
            process: ServerProcess::new("MariaDB"),
            scratch: Arc::new(Scratch::new("mariadb")?),
        })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint_of(&self.account)
    }

    pub(super) fn admin(&self) -> Admin {
        Admin::new(self.endpoint_of(&self.admin))
    }

    fn endpoint_of(&self, account: &Account) -> Endpoint {
        let addr = ([127, 0, 0, 1], self.port).into();
        Endpoint::new(addr, Some(self.socket()), account.clone())
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

    fn temporary(&self) -> PathBuf {
        self.scratch.path().join("tmp")
    }

    fn socket(&self) -> PathBuf {
        self.data().join("s.sock")
    }

    fn init_file(&self) -> PathBuf {
        self.data().join("trine-accounts.sql")
    }

    /// Replaces the data folder by a fresh one.
    pub(super) async fn lay_out(&self) -> Result<()> {
        let template = template(&self.program, self.user).await?;
        let (data, temporary) = (self.data(), self.temporary());
        let (init_file, user) = (self.init_file(), self.user);
        let accounts = set_up(&self.admin, &self.account, DATABASE).join(";\n") + ";\n";
        engine::run_blocking(move || {
            for folder in [&data, &temporary] {
                if folder.exists() {
                    fs::remove_dir_all(folder).map_err(Error::io("remove the old data"))?;
                }
            }
            copy(&template.path().join("data"), &data, user)?;
            create_folder(&temporary, user)?;
            let secret = fs::Permissions::from_mode(0o600);
            fs::write(&init_file, accounts)
                .and_then(|()| fs::set_permissions(&init_file, secret))
                .map_err(Error::io(format!("write {}", init_file.display())))?;
            user.map_or(Ok(()), |user| user.own(&init_file))
        })
        .await
    }

    /// Starts the process on the data that is there.
    pub(super) async fn launch(&self) -> Result<()> {
        let data = self.data();
        let path = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let child = Child::builder(&self.program)
            .arg("--no-defaults")
            .arg(path("datadir", &data))
            // A server removes what others keep in a common one.
            .arg(path("tmpdir", &self.temporary()))
            // Without it every account with FILE reads and writes what the
            // server may.
            .arg(path("secure-file-priv", &self.temporary()))
            .arg(path("socket", &self.socket()))
            .arg(path("pid-file", &data.join("server.pid")))
            .arg(path("init-file", &self.init_file()))
            .arg(format!("--port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", REDO_LOG])
            .args(["--innodb-buffer-pool-size=64M", "--performance-schema=OFF"])
            .args(["--innodb-buffer-pool-dump-at-shutdown=OFF", "--max-connections=500"])
            .args(self.options.iter().map(|(name, value)| format!("--{name}={value}")))
            .folder(&data)
            .log_to(self.log_path())
            .user(self.user)
            .keep(&self.scratch)
            .spawn()?;
        self.process.put(child);
        Ok(())
    }
}

/// Returns the data folder that every server of this process starts from.
async fn template(program: &Path, user: Option<User>) -> Result<&'static Scratch> {
    static TEMPLATE: OnceCell<Scratch> = OnceCell::const_new();
    let program = program.to_owned();
    TEMPLATE.get_or_try_init(|| engine::run_blocking(move || make_template(&program, user))).await
}

fn make_template(program: &Path, user: Option<User>) -> Result<Scratch> {
    let scratch = Scratch::new("mariadb-template")?;
    let tables = system_tables(program)?;
    let [data, temporary] = ["data", "tmp"].map(|name| scratch.path().join(name));
    create_folder(&data, user)?;
    create_folder(&temporary, user)?;
    // Bootstrapping is what `mariadb-install-db` does too; the script itself
    // needs programs of the client package.
    let mut server = mortal(program, user.as_ref())?
        .args(["--no-defaults", "--bootstrap", "--log-warnings=0", REDO_LOG])
        .args(["--enforce-storage-engine=", "--max-allowed-packet=8M"])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--tmpdir={}", temporary.display()))
        .current_dir(&data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(format!("start {}", program.display())))?;
    let mut statements = server.stdin.take();
    let written = std::thread::spawn(move || {
        statements.as_mut().map(|input| input.write_all(tables.as_bytes()))
    });
    let mut log = String::new();
    if let Some(errors) = server.stderr.as_mut() {
        // The status decides; the log is for people.
        let _ = errors.read_to_string(&mut log);
    }
    let status = server.wait().map_err(Error::io("wait for the bootstrap"))?;
    let all_read = matches!(written.join(), Ok(Some(Ok(()))));
    if !status.success() || !all_read {
        let program = format!("{} --bootstrap", program.display());
        return Err(Error::Start { program, reason: format!("ended with {status}"), log });
    }
    Ok(scratch)
}

/// Returns the statements that create the server's own tables, which are
/// installed beside the server.
fn system_tables(program: &Path) -> Result<String> {
    let program = fs::canonicalize(program).map_err(Error::io("find the server"))?;
    let prefix = program.ancestors().nth(2).unwrap_or(Path::new("/usr"));
    let folders = ["share/mysql", "share/mariadb", "share"].map(|folder| prefix.join(folder));
    // Called mysql_… up to MariaDB 10.11 and mariadb_… later.
    let read = |name: &str| {
        folders
            .iter()
            .flat_map(|folder| ["mariadb", "mysql"].map(|by| folder.join(format!("{by}_{name}"))))
            .find_map(|path| fs::read_to_string(path).ok())
            .ok_or_else(|| {
                Error::NoServer(format!(
                    "{} is installed without its {name}: install the distribution's \
                     mariadb-server-core",
                    program.display()
                ))
            })
    };
    let mut statements = String::from("CREATE DATABASE mysql;\nUSE mysql;\n");
    statements.push_str("SET @auth_root_socket=NULL;\n");
    for name in ["system_tables.sql", "performance_tables.sql", "system_tables_data.sql"] {
        statements.push_str(&read(name)?);
    }
    Ok(statements)
}

fn create_folder(path: &Path, user: Option<User>) -> Result<()> {
    fs::create_dir(path).map_err(Error::io(format!("create {}", path.display())))?;
    user.map_or(Ok(()), |user| user.own(path))
}

/// Copies a folder with all that is in it, for `user`.
fn copy(from: &Path, to: &Path, user: Option<User>) -> Result<()> {
    let failed = || Error::io(format!("copy {} to {}", from.display(), to.display()));
    fs::create_dir(to).map_err(failed())?;
    for entry in fs::read_dir(from).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(failed())?.is_dir() {
            copy(&entry.path(), &target, user)?;
        } else {
            fs::copy(entry.path(), &target).map_err(failed())?;
            user.map_or(Ok(()), |user| user.own(&target))?;
        }
    }
    user.map_or(Ok(()), |user| user.own(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str) -> Result<()> {
        check_options(&[(name.to_owned(), "1".to_owned())])
    }

    #[test]
    fn options_of_the_kit_and_malformed_ones_are_refused() {
        for name in ["port", "bind_address", "skip-grant-tables", "", "--port", "a b", "init_file"]
        {
            assert!(matches!(checked(name), Err(Error::Invalid(_))), "{name}");
        }
        assert!(checked("max_connections").is_ok());
        assert!(checked("innodb-flush-log-at-trx-commit").is_ok());
    }
}
