mod account;
mod docker;
mod greeting;
mod keeper;
mod machine;
mod mariadb;
mod packages;
mod redis;
mod url;

use clap::Args;

use self::keeper::Keeper;
use self::packages::Package;
use crate::failure::Result;

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

/// A kind of server that tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// MariaDB or MySQL.
    Database,
    /// Redis, a single one.
    Redis,
}

impl Kind {
    /// Every kind there is.
    pub(crate) const ALL: [Self; 2] = [Self::Database, Self::Redis];

    /// Returns a server; `None` if only a package of the distribution is left.
    fn find(self, options: &ServerOptions) -> Result<Option<Server>> {
        match self {
            Self::Database => mariadb::find(options),
            Self::Redis => redis::find(options),
        }
    }

    fn package(self) -> &'static Package {
        match self {
            Self::Database => &mariadb::PACKAGE,
            Self::Redis => &redis::PACKAGE,
        }
    }

    /// Starts the server of its package, which is there now.
    fn start_installed(self) -> Result<Server> {
        match self {
            Self::Database => mariadb::start_installed(),
            Self::Redis => redis::start_installed(),
        }
    }
}

/// What answers, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    MariaDb,
    MySql,
    Redis,
}

impl Engine {
    /// Returns the engine's name as its makers write it.
    fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
            Self::Redis => "Redis",
        }
    }
}

/// A server for the length of one run. Dropping it ends a server that this tool
/// started and removes its folder.
#[derive(Debug)]
struct Server {
    engine: Engine,
    /// Such as `10.11.19`.
    version: String,
    /// What points a test process at it.
    variables: Vec<(&'static str, String)>,
    origin: &'static str,
    _keeper: Option<Keeper>,
}

/// An engine, in one of its topologies, that tests of a run are counted for.
#[derive(Clone, Debug)]
pub(crate) struct Tested {
    /// The engine's name as its makers write it.
    pub(crate) name: &'static str,
    /// Such as `10.11.19`.
    pub(crate) version: String,
    /// Where it came from, for the closing table.
    pub(crate) origin: &'static str,
    /// What its tests are counted under.
    pub(crate) family: &'static str,
}

/// The servers of one run.
#[derive(Debug)]
pub(crate) struct Servers(Vec<Server>);

impl Servers {
    /// Provides a server of each kind: from its variable, else from the machine,
    /// else from Docker or the distribution's packages, which are installed
    /// together.
    ///
    /// # Errors
    ///
    /// Fails with what to do if one cannot be had.
    pub(crate) fn provide(options: &ServerOptions, kinds: &[Kind]) -> Result<Self> {
        let (mut servers, mut missing) = (Vec::new(), Vec::new());
        for kind in kinds {
            match kind.find(options)? {
                Some(server) => servers.push(server),
                None => missing.push(*kind),
            }
        }
        if !missing.is_empty() {
            let packages: Vec<_> = missing.iter().map(|kind| kind.package()).collect();
            packages::install(&packages, options.no_install)?;
        }
        for kind in missing {
            servers.push(kind.start_installed()?);
        }
        for Server { engine, version, origin, .. } in &servers {
            println!("server: {} {version}, {origin}", engine.name());
        }
        Ok(Self(servers))
    }

    /// Returns the variables that point a test process at the servers.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = self.0.iter().flat_map(|server| &server.variables);
        all.map(|(name, value)| (*name, value.as_str()))
    }

    /// Returns what tests of a run are counted for.
    pub(crate) fn tested(&self) -> Vec<Tested> {
        let of_server = |server: &Server| match server.engine {
            Engine::Redis => redis::tested(server),
            engine => vec![Tested {
                name: engine.name(),
                version: server.version.clone(),
                origin: server.origin,
                family: "server",
            }],
        };
        self.0.iter().flat_map(of_server).collect()
    }

    /// Reports whether the suite's database is a MySQL.
    pub(crate) fn has_mysql(&self) -> bool {
        self.0.iter().any(|server| server.engine == Engine::MySql)
    }
}

/// Returns the value of a variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
