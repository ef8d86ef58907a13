use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::docker::{self, Image};
use super::greeting;
use super::machine::{self, Place};
use super::packages::Package;
use super::url::Address;
use super::{Engine, Server, ServerOptions};
use crate::failure::{Context, Failure, Result};

/// Names the variable that points the tests at a MariaDB server.
pub(super) const URL: &str = "TRINE_TEST_MARIADB_URL";

/// Names the variable that points the tests at a MySQL server.
pub(super) const MYSQL_URL: &str = "TRINE_TEST_MYSQL_URL";

/// Where MariaDB comes from if it is not there.
pub(super) const PACKAGE: Package = Package {
    server: "MariaDB",
    name: "mariadb-server-core",
    otherwise: "install MariaDB 10.6 or newer, or set TRINE_TEST_MARIADB_URL=mysql://root@host:port",
};

/// The MariaDB that Debian 12 has too.
const MARIADB: Image = Image {
    image: "mariadb:10.11",
    port: 3306,
    variable: Some("MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"),
    options: &OPTIONS,
    named: URL,
};

/// The long-term release of MySQL.
const MYSQL: Image = Image {
    image: "mysql:8.4",
    port: 3306,
    variable: Some("MYSQL_ALLOW_EMPTY_PASSWORD=1"),
    options: &OPTIONS,
    named: MYSQL_URL,
};

/// What a server in a container is told.
const OPTIONS: [&str; 2] = ["--performance-schema=OFF", "--max-connections=500"];

/// Whom the tests log in as, with a password of this one server.
const ADMIN: &str = "trine_admin";

/// Names in a server's folder.
const SOCKET: &str = "s.sock";
const INIT: &str = "accounts.sql";
const FILES: &str = "files";

/// Returns the server that `options` asks for: from the variable, else from the
/// machine, else from Docker; `None` if only a package is left. MySQL comes from
/// the variable or from Docker only.
pub(super) fn find(options: &ServerOptions) -> Result<Option<Server>> {
    let variable = if options.mysql { MYSQL_URL } else { URL };
    if let Some(url) = super::variable(variable) {
        return named(variable, url).map(Some);
    }
    if options.mysql {
        return contained(&MYSQL).map(Some);
    }
    if let Some(program) = program() {
        return start(&program, "mariadbd of this machine").map(Some);
    }
    if docker::engine_answers() {
        println!("no mariadbd on this machine; starting {} in Docker", MARIADB.image);
        return contained(&MARIADB).map(Some);
    }
    Ok(None)
}

/// Starts the server of the package that was installed.
pub(super) fn start_installed() -> Result<Server> {
    let program = program().ok_or_else(|| PACKAGE.without("mariadbd in PATH or /usr/sbin"))?;
    start(&program, "mariadbd of the package installed now")
}

fn program() -> Option<PathBuf> {
    machine::find("mariadbd", &machine::SYSTEM)
}

fn named(variable: &'static str, url: String) -> Result<Server> {
    let address = Address::parse(&url, &["mysql", "mariadb"], 3306).ok_or_else(|| {
        Failure::new(format!("{variable} is not of the form mysql://user:password@host:port"))
    })?;
    let (engine, version) = greeting::over_tcp(&address)
        .context(format_args!("{variable}: no server answers at {address}"))?;
    Ok(server(engine, version, url, "named by the environment"))
}

fn contained(image: &Image) -> Result<Server> {
    let (address, (engine, version), keeper) = docker::start(image, greeting::over_tcp)?;
    let server = server(engine, version, format!("mysql://root@{address}"), "in Docker");
    Ok(Server { _keeper: Some(keeper), ..server })
}

/// A MySQL server is also handed out as the suite's MariaDB: the tests are the
/// same, and the record goes by what the server says it is.
fn server(engine: Engine, version: String, url: String, origin: &'static str) -> Server {
    let mut variables = vec![(URL, url.clone())];
    if engine == Engine::MySql {
        variables.push((MYSQL_URL, url));
    }
    Server { engine, version, variables, origin, _keeper: None }
}

/// Starts `program` on loopback, on a free port and an empty folder.
fn start(program: &Path, origin: &'static str) -> Result<Server> {
    let account = Account::choose()?;
    let password = password()?;
    let prepare = |place: &Place<'_>| {
        install(program, &place.folder.join("data"), &account)?;
        account.give(&place.folder.join(INIT), &admit(&password))?;
        account.run(Path::new("mkdir")).args([place.folder.join(FILES)]).text()?;
        Ok(account.run(program).args(options(place.folder, place.port)))
    };
    // The socket file is this server's own, and it appears after the port is
    // bound: a stranger on the same port cannot answer here.
    let ask = |place: &Place<'_>| greeting::over_socket(&place.folder.join(SOCKET));
    let (address, (engine, version), keeper) = machine::start("mariadbd", &account, prepare, ask)?;
    greeting::over_tcp(&address).context(format_args!("mariadbd does not answer at {address}"))?;
    let url = format!("mysql://{ADMIN}:{password}@{address}");
    Ok(Server { _keeper: Some(keeper), ..server(engine, version, url, origin) })
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
