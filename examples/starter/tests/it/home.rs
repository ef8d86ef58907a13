//! Where a starter lives: its folder, configuration, databases and Redis.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;
use trine_core::Secret;
use trine_db_shard::{Database, DatabaseName, DbConfig, MysqlBackend, MysqlConfig, Tx};
use trine_testkit::{Child, ChildBuilder, MariaDb, Redis, RedisPersistence, TestDatabase};

use crate::client::Client;

/// Longest wait for something that takes milliseconds on an idle machine.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// The global one and the two shards of the profile `prod`.
const DATABASES: usize = 3;

pub(crate) const ADMIN_TOKEN: &str = "test-administrator-token";

/// Any key will do, as long as all processes of a home have the same.
const SESSION_KEY: &str = "the session key of tests, 32 bytes";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The embedded profile: sessions in memory.
    Sqlite,
    /// The profile `prod`: sessions on Redis.
    MariaDb,
    /// Embedded databases, and sessions on Redis.
    SqliteAndRedis,
}

/// A folder with a configuration, and databases that are up to date.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
    settings: String,
    engine: Engine,
    databases: Vec<TestDatabase>,
    /// The URL and the namespace of what others may ask too.
    redis: Option<(String, String)>,
}

impl Home {
    pub(crate) async fn new(engine: Engine) -> Self {
        let home = match engine {
            Engine::Sqlite => return Self::sqlite(),
            Engine::SqliteAndRedis => {
                let server = Redis::shared().await.unwrap();
                return Self::sqlite_and_redis(&server.url(), &server.namespace());
            }
            Engine::MariaDb => Self::with_empty_databases().await,
        };
        home.migrate().await;
        home
    }

    /// Returns a home on a server that all tests share, not migrated.
    pub(crate) async fn with_empty_databases() -> Self {
        let server = MariaDb::shared().await.unwrap();
        let mut databases = Vec::new();
        for _ in 0..DATABASES {
            databases.push(server.database().await.unwrap());
        }
        Self::mariadb(databases).await
    }

    /// Returns a home on a server of its own, which may be killed.
    pub(crate) async fn with_own_server() -> (Self, MariaDb) {
        let server = MariaDb::start().await.unwrap();
        let mut databases = Vec::new();
        for _ in 0..DATABASES {
            databases.push(server.database().await.unwrap());
        }
        let home = Self::mariadb(databases).await;
        home.migrate().await;
        (home, server)
    }

    pub(crate) fn sqlite() -> Self {
        Self::with(Engine::Sqlite, "", Vec::new())
    }

    /// Returns a home whose sessions are on a Redis of its own, which may be
    /// killed and forgets nothing.
    pub(crate) async fn with_own_redis() -> (Self, Redis) {
        let server = Redis::builder().persistence(RedisPersistence::Always).start().await.unwrap();
        (Self::sqlite_and_redis(&server.url(), &server.namespace()), server)
    }

    fn sqlite_and_redis(url: &str, namespace: &str) -> Self {
        let cache = "[cache]\nbackend = { kind = \"redis\" }\n";
        let settings = format!("{}{cache}", sessions_on(url, namespace));
        let home = Self::with(Engine::SqliteAndRedis, &settings, Vec::new());
        home.and_redis(url, namespace)
    }

    /// The first database is the global one, the others are shards.
    async fn mariadb(databases: Vec<TestDatabase>) -> Self {
        let names = ["global", "shard_0", "shard_1"];
        let section = |(name, database): (&str, &TestDatabase)| {
            format!("[database.{name}]\nurl = \"{}\"\n", database.url())
        };
        let mut settings: String = names.into_iter().zip(&databases).map(section).collect();
        let server = Redis::shared().await.unwrap();
        let (url, namespace) = (server.url(), server.namespace());
        settings += &sessions_on(&url, &namespace);
        Self::with(Engine::MariaDb, &settings, databases).and_redis(&url, &namespace)
    }

    fn with(engine: Engine, databases: &str, held: Vec<TestDatabase>) -> Self {
        let settings = format!(
            "[starter]\nadmin_token = \"{ADMIN_TOKEN}\"\n[starter.registration]\n\
             per_address = 1000000\n[container]\ndrain_delay = \"0s\"\n\
             {databases}"
        );
        let folder = TempDir::new().unwrap();
        Self { folder, settings, engine, databases: held, redis: None }
    }

    fn and_redis(self, url: &str, namespace: &str) -> Self {
        Self { redis: Some((url.to_owned(), namespace.to_owned())), ..self }
    }

    /// Returns the URL and the namespace of its Redis.
    pub(crate) fn redis(&self) -> (String, String) {
        self.redis.clone().unwrap()
    }

    /// Keeps others from changing the rows that `select` locks in one of the
    /// databases, of which the first is the global one.
    pub(crate) async fn hold(&self, database: usize, select: &'static str) -> Tx {
        let name = DatabaseName::Named("held".into());
        let config = MysqlConfig::new(Secret::new(self.databases[database].url()));
        let engine = MysqlBackend::open(&name, &config, BOUND).unwrap();
        let database = Database::with_backend("held", engine, &DbConfig::sqlite(".", 0));
        let mut tx = database.begin().await.unwrap();
        tx.execute(select, ()).await.unwrap();
        tx
    }

    /// Tells whether a session outlives the process that made it.
    pub(crate) fn keeps_sessions(&self) -> bool {
        self.engine != Engine::Sqlite
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Adds a setting.
    pub(crate) fn with_setting(mut self, section: &str, setting: &str) -> Self {
        let header = format!("[{section}]\n");
        if !self.settings.contains(&header) {
            self.settings += &header;
        }
        self.settings = self.settings.replace(&header, &format!("{header}{setting}\n"));
        self
    }

    pub(crate) fn with_registrations(mut self, per_address: u32) -> Self {
        self.settings = self.settings.replace("1000000", &per_address.to_string());
        self
    }

    pub(crate) fn with_drain_delay(mut self, delay: &str) -> Self {
        self.settings = self.settings.replace("\"0s\"", &format!("\"{delay}\""));
        self
    }

    pub(crate) async fn migrate(&self) {
        let ended = self.command().arg("migrate").spawn().unwrap();
        let status = ended.wait(BOUND).await.unwrap();
        assert!(status.success(), "{}", ended.log());
    }

    /// Returns the program with the options that every run here has.
    pub(crate) fn command(&self) -> ChildBuilder {
        let config = self.path().join("settings.toml");
        fs::write(&config, &self.settings).unwrap();
        let program = Child::builder(env!("CARGO_BIN_EXE_trine-starter"));
        let program = program.arg("--config").arg(config.to_str().unwrap());
        match self.engine {
            Engine::Sqlite | Engine::SqliteAndRedis => {
                program.arg("--data").arg(self.data().to_str().unwrap())
            }
            Engine::MariaDb => program.args(["--profile", "prod"]),
        }
    }

    /// Runs the program to its end and returns what it printed.
    pub(crate) async fn run<const N: usize>(&self, args: [&str; N]) -> (ExitStatus, String) {
        let child = self.command().args(args).spawn().unwrap();
        let status =
            child.wait(BOUND).await.unwrap_or_else(|error| panic!("{error}: {}", child.log()));
        (status, child.log())
    }

    /// Starts the server on a free port and waits until it is ready.
    pub(crate) async fn serve(&self) -> Starter {
        let starter = self.listen("127.0.0.1:0").await;
        starter.client().until_ready(BOUND).await;
        starter
    }

    /// Starts the server and waits until it listens.
    pub(crate) async fn listen(&self, address: &str) -> Starter {
        Starter::of(self.command().args(["--listen", address]).spawn().unwrap()).await
    }
}

/// Returns the settings of sessions that any process may ask for.
fn sessions_on(url: &str, namespace: &str) -> String {
    format!(
        "[redis.main]\nnamespace = \"{namespace}\"\n\
         [redis.main.server]\nkind = \"single\"\nurl = \"{url}\"\n\
         [sessions]\nkey = \"{SESSION_KEY}\"\n"
    )
}

/// A running starter.
#[derive(Debug)]
pub(crate) struct Starter {
    pub(crate) process: Child,
    url: String,
}

impl Starter {
    pub(crate) async fn of(process: Child) -> Self {
        let line = process.wait_for_log("listening on ", BOUND).await.unwrap();
        let url = line.strip_prefix("listening on ").unwrap().trim().to_owned();
        Self { process, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// Returns a client that is logged in to a new account.
    pub(crate) async fn account(&self, email: &str) -> Client {
        let client = self.client();
        client.register(email).await;
        client.log_in(email).await
    }
}
