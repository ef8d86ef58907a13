mod docker;
mod greeting;
mod keeper;
mod machine;
mod packages;
mod url;

use clap::Args;

use self::keeper::Keeper;
use self::url::Address;
use crate::failure::{Context, Failure, Result};

/// Names the variable that points the tests at a MariaDB server.
pub(crate) const MARIADB_URL: &str = "TRINE_TEST_MARIADB_URL";

/// Names the variable that points the tests at a MySQL server.
pub(crate) const MYSQL_URL: &str = "TRINE_TEST_MYSQL_URL";

/// Where servers may come from.
#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// Never installs a package; a server that cannot be had is an error.
    #[arg(long)]
    no_install: bool,
    /// Runs against MySQL 8.4 in Docker (or the server that
    /// TRINE_TEST_MYSQL_URL names) instead of MariaDB.
    #[arg(long)]
    mysql: bool,
}

/// A database server for the length of one run. Dropping it ends a server that
/// this tool started and removes its folder.
#[derive(Debug)]
pub(crate) struct Server {
    engine: Engine,
    version: String,
    url: String,
    origin: &'static str,
    _keeper: Option<Keeper>,
}

/// What speaks the MySQL protocol, by its own greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// MariaDB of any version.
    MariaDb,
    /// MySQL of any version.
    MySql,
}

impl Engine {
    /// Returns the engine's name as its makers write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }
}

impl Server {
    /// Provides the server that `options` asks for: from the variable, else
    /// from the machine, else from Docker, else from the distribution's
    /// packages. MySQL comes from the variable or from Docker only.
    ///
    /// # Errors
    ///
    /// Fails with what to do if no server can be had.
    pub(crate) fn provide(options: &ServerOptions) -> Result<Self> {
        let server = Self::find(options)?;
        println!("server: {} {}, {}", server.engine.name(), server.version, server.origin);
        Ok(server)
    }

    fn find(options: &ServerOptions) -> Result<Self> {
        let variable = if options.mysql { MYSQL_URL } else { MARIADB_URL };
        if let Some(url) = std::env::var(variable).ok().filter(|url| !url.is_empty()) {
            return Self::named(variable, url);
        }
        if options.mysql {
            return docker::start(&docker::MYSQL);
        }
        if let Some(program) = machine::program() {
            return machine::start(&program, "mariadbd of this machine");
        }
        if docker::engine_answers() {
            println!("no mariadbd on this machine; starting {} in Docker", docker::MARIADB.image);
            return docker::start(&docker::MARIADB);
        }
        packages::install(options.no_install)?;
        let program = machine::program().ok_or_else(|| {
            Failure::new(format!(
                "{} is installed, and still there is no mariadbd in PATH or /usr/sbin",
                packages::NAME
            ))
        })?;
        machine::start(&program, "mariadbd of the package installed now")
    }

    fn named(variable: &'static str, url: String) -> Result<Self> {
        let address = Address::parse(&url).ok_or_else(|| {
            Failure::new(format!("{variable} is not of the form mysql://user:password@host:port"))
        })?;
        let (engine, version) = greeting::over_tcp(&address)
            .context(format_args!("{variable}: no server answers at {address}"))?;
        Ok(Self { engine, version, url, origin: "named by the environment", _keeper: None })
    }

    /// Returns the engine.
    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// Returns the version, such as `10.11.19`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Returns where the server came from, for the closing table.
    pub(crate) fn origin(&self) -> &'static str {
        self.origin
    }

    /// Returns the variables that point a test process at the server. A MySQL
    /// server is also handed out as the suite's MariaDB: the tests are the
    /// same, and the record goes by what the server says it is.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &str)> {
        match self.engine {
            Engine::MariaDb => vec![(MARIADB_URL, &self.url)],
            Engine::MySql => vec![(MARIADB_URL, &self.url), (MYSQL_URL, &self.url)],
        }
    }
}
