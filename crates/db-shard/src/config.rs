mod connection;

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use trine_core::{Durability, Secret, Span};

use crate::ShardId;

pub use connection::{Cancel, ConnectionConfig, MysqlConfig, MysqlPoolConfig, SqliteConfig};

/// Everything a process needs to open its databases.
///
/// # Example
///
/// ```
/// use trine_db_shard::DbConfig;
///
/// let config = DbConfig::sqlite("data", 4).with_max_rows(1_000);
/// config.validate()?;
/// # Ok::<(), trine_db_shard::ConfigError>(())
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DbConfig {
    /// Name of the connection of the global database, which holds the shard
    /// map. Default: `"global"`.
    #[serde(default = "defaults::global")]
    pub global: String,
    /// The databases this process can reach, by the names that `global` and
    /// the shard map use.
    #[serde(default)]
    pub connections: BTreeMap<String, ConnectionConfig>,
    /// Shards to register when the shard map does not know them yet. A shard
    /// that the map knows keeps what the map says.
    #[serde(default)]
    pub shards: Vec<ShardConfig>,
    /// What to do about pending migrations at start. Default: `auto` if every
    /// connection is SQLite, else `check`.
    #[serde(default)]
    pub migrate: Option<MigrateMode>,
    /// Longest wait for migrations that another process applies, and longest
    /// time of one statement of a migration. Default: 60s.
    #[serde(default = "defaults::migrate_timeout")]
    pub migrate_timeout: Span,
    /// Longest time of one start, retries included. Default: 30s.
    #[serde(default = "defaults::start_timeout")]
    pub start_timeout: Span,
    /// Longest time of one statement, from sending it to its last row; the
    /// deadline of the call shortens it. Default: 30s.
    #[serde(default = "defaults::query_timeout")]
    pub query_timeout: Span,
    /// Statements that take longer are logged with their text, never with
    /// their values. Default: 1s.
    #[serde(default = "defaults::slow_query")]
    pub slow_query: Span,
    /// Most rows that one call gathers; more is an error, and a stream has no
    /// such bound. Default: 100000.
    #[serde(default = "defaults::max_rows")]
    pub max_rows: NonZeroU64,
    /// Most calls of one tenant under way on one database, those that wait
    /// for a connection included. Default: half the pool, at least 1.
    #[serde(default)]
    pub tenant_in_flight: Option<NonZeroU32>,
    /// How long the outcome of a ticket can be asked for. Default: 1d.
    #[serde(default = "defaults::ticket_retention")]
    pub ticket_retention: Span,
    /// How long recorded failures of procedures are kept. Default: 30d.
    #[serde(default = "defaults::error_log_retention")]
    pub error_log_retention: Span,
    /// The shard map.
    #[serde(default)]
    pub map: MapConfig,
    /// Queries over many shards.
    #[serde(default)]
    pub fan_out: FanOutConfig,
    /// Executors of after-commit handlers, by name; `default` always exists.
    #[serde(default)]
    pub executors: BTreeMap<String, ExecutorConfig>,
}

/// A shard as configuration declares it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ShardConfig {
    /// Its number; numbers need not be contiguous, and 0 is valid.
    pub id: ShardId,
    /// The connection that leads to it.
    pub connection: String,
    /// Its share of new keys, relative to the other shards. Default: 1.
    #[serde(default = "defaults::weight")]
    pub weight: u32,
}

impl ShardConfig {
    /// Returns a shard of weight 1.
    #[must_use]
    pub fn new(id: ShardId, connection: impl Into<String>) -> Self {
        Self { id, connection: connection.into(), weight: 1 }
    }
}

/// What to do about pending migrations at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MigrateMode {
    /// Apply them.
    Auto,
    /// Refuse to start and list them with the command that applies them.
    Check,
    /// Do not look.
    Off,
}

/// How this process keeps its copy of the shard map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct MapConfig {
    /// Time between two looks at the shard table. Default: 1s.
    pub refresh: Span,
    /// How long a looked-up key may be used without asking again; a move waits
    /// this long before it copies. Default: 5s.
    pub lease: Span,
    /// Most keys remembered in this process. Default: 100000.
    pub cached_keys: NonZeroU32,
}

impl Default for MapConfig {
    fn default() -> Self {
        Self {
            refresh: Span::secs(1),
            lease: Span::secs(5),
            cached_keys: defaults::non_zero(100_000),
        }
    }
}

/// How queries over many shards run.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct FanOutConfig {
    /// Most shards asked at the same time by one call. Default: 32.
    pub concurrency: NonZeroU32,
    /// Longest time of the whole call. Default: 30s.
    pub timeout: Span,
}

impl Default for FanOutConfig {
    fn default() -> Self {
        Self { concurrency: defaults::non_zero(32), timeout: Span::secs(30) }
    }
}

/// A bounded executor of after-commit handlers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ExecutorConfig {
    /// Most handlers running at once. Default: 8.
    pub running: NonZeroU32,
    /// Most handlers waiting for their turn. Default: 100.
    pub waiting: u32,
    /// What happens to a handler that finds no place. Default: `caller_runs`.
    pub when_full: WhenFull,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self { running: defaults::non_zero(8), waiting: 100, when_full: WhenFull::CallerRuns }
    }
}

/// What happens to an after-commit handler that finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhenFull {
    /// The task that commits runs it, after the commit.
    CallerRuns,
    /// The transaction is refused before it commits.
    Reject,
}

/// Every rule a configuration broke, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid database configuration: {}", .problems.join("; "))]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// Returns the problems, each with the path of its setting.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(crate) fn one(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

impl DbConfig {
    /// Returns the embedded configuration: `global.db` and `shard-N.db`, one
    /// for each of `shards` shards from 0 up, below `folder`.
    pub fn sqlite(folder: impl AsRef<Path>, shards: u32) -> Self {
        let folder = folder.as_ref();
        let mut config = Self::empty();
        let mut add = |name: String| {
            let file = folder.join(format!("{name}.db"));
            config.connections.insert(name, ConnectionConfig::Sqlite(SqliteConfig::new(file)));
        };
        add("global".to_owned());
        for id in 0..shards {
            add(format!("shard-{id}"));
        }
        let shard = |id| ShardConfig::new(ShardId::new(id), format!("shard-{id}"));
        config.shards = (0..shards).map(shard).collect();
        config
    }

    /// Returns the configuration of MySQL or MariaDB databases: the global one
    /// and one for each shard, from 0 up.
    pub fn mysql(global: Secret, shards: impl IntoIterator<Item = Secret>) -> Self {
        let mut config = Self::empty();
        let mysql = |url| ConnectionConfig::Mysql(MysqlConfig::new(url));
        config.connections.insert("global".to_owned(), mysql(global));
        for (id, url) in (0..).zip(shards) {
            let name = format!("shard-{id}");
            config.shards.push(ShardConfig::new(ShardId::new(id), name.clone()));
            config.connections.insert(name, mysql(url));
        }
        config
    }

    fn empty() -> Self {
        Self {
            global: defaults::global(),
            connections: BTreeMap::new(),
            shards: Vec::new(),
            migrate: None,
            migrate_timeout: defaults::migrate_timeout(),
            start_timeout: defaults::start_timeout(),
            query_timeout: defaults::query_timeout(),
            slow_query: defaults::slow_query(),
            max_rows: defaults::max_rows(),
            tenant_in_flight: None,
            ticket_retention: defaults::ticket_retention(),
            error_log_retention: defaults::error_log_retention(),
            map: MapConfig::default(),
            fan_out: FanOutConfig::default(),
            executors: BTreeMap::new(),
        }
    }

    /// Sets what happens to pending migrations at start.
    #[must_use]
    pub fn with_migrate(mut self, mode: MigrateMode) -> Self {
        self.migrate = Some(mode);
        self
    }

    /// Sets the most rows that one call gathers; 0 counts as 1.
    #[must_use]
    pub fn with_max_rows(mut self, max: u64) -> Self {
        self.max_rows = NonZeroU64::new(max).unwrap_or(NonZeroU64::MIN);
        self
    }

    /// Sets the longest time of one statement.
    #[must_use]
    pub fn with_query_timeout(mut self, timeout: impl Into<Span>) -> Self {
        self.query_timeout = timeout.into();
        self
    }

    /// Sets the durability of every SQLite database.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        for connection in self.connections.values_mut() {
            if let ConnectionConfig::Sqlite(sqlite) = connection {
                sqlite.durability = durability;
            }
        }
        self
    }

    /// Returns what is in force for migrations at start.
    #[must_use]
    pub fn migrate_mode(&self) -> MigrateMode {
        self.migrate.unwrap_or_else(|| {
            let is_embedded =
                |connection: &ConnectionConfig| matches!(connection, ConnectionConfig::Sqlite(_));
            if self.connections.values().all(is_embedded) {
                MigrateMode::Auto
            } else {
                MigrateMode::Check
            }
        })
    }

    /// Checks the rules that span fields.
    ///
    /// # Errors
    ///
    /// Fails with every broken rule, each with the path of its setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if !self.connections.contains_key(&self.global) {
            problems.push(self.unknown_connection("global", &self.global));
        }
        let mut ids = BTreeSet::new();
        let mut taken = BTreeMap::from([(self.global.as_str(), "global".to_owned())]);
        for (index, shard) in self.shards.iter().enumerate() {
            let path = format!("shards[{index}]");
            if !ids.insert(shard.id) {
                problems.push(format!("{path}.id: {} is declared twice", shard.id));
            }
            if !self.connections.contains_key(&shard.connection) {
                let path = format!("{path}.connection");
                problems.push(self.unknown_connection(&path, &shard.connection));
            }
            let part = format!("shard {}", shard.id);
            if let Some(other) = taken.insert(&shard.connection, part) {
                let name = &shard.connection;
                problems.push(format!("{path}.connection: `{name}` is already {other}"));
            }
        }
        for (name, connection) in &self.connections {
            connection.check(&format!("connections.{name}"), &mut problems);
        }
        let positive = [
            ("migrate_timeout", self.migrate_timeout),
            ("start_timeout", self.start_timeout),
            ("query_timeout", self.query_timeout),
            ("slow_query", self.slow_query),
            ("ticket_retention", self.ticket_retention),
            ("error_log_retention", self.error_log_retention),
            ("map.refresh", self.map.refresh),
            ("map.lease", self.map.lease),
            ("fan_out.timeout", self.fan_out.timeout),
        ];
        problems.extend(
            positive
                .iter()
                .filter(|(_, span)| span.get().is_zero())
                .map(|(path, _)| format!("{path}: must be longer than 0")),
        );
        if self.map.lease.get() < self.map.refresh.get().saturating_mul(2) {
            let (lease, refresh) = (self.map.lease, self.map.refresh);
            problems.push(format!("map.lease: {lease} is less than twice map.refresh ({refresh})"));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// Says why a shard cannot have the connection called `name`, if so.
    pub(crate) fn check_shard_connection(&self, name: &str) -> Result<(), String> {
        if name == self.global {
            return Err(format!("connection `{name}` is the global database's"));
        }
        if !self.connections.contains_key(name) {
            return Err(format!("no connection `{name}` is configured"));
        }
        Ok(())
    }

    fn unknown_connection(&self, path: &str, name: &str) -> String {
        let known = self.connections.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("{path}: no connection `{name}` (there are: {known})")
    }
}

mod defaults {
    use std::num::{NonZeroU32, NonZeroU64};

    use trine_core::Span;

    pub(super) fn global() -> String {
        "global".to_owned()
    }

    pub(super) fn weight() -> u32 {
        1
    }

    pub(super) fn migrate_timeout() -> Span {
        Span::secs(60)
    }

    pub(super) fn start_timeout() -> Span {
        Span::secs(30)
    }

    pub(super) fn query_timeout() -> Span {
        Span::secs(30)
    }

    pub(super) fn slow_query() -> Span {
        Span::secs(1)
    }

    pub(super) fn max_rows() -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add(99_999)
    }

    pub(super) fn ticket_retention() -> Span {
        Span::secs(24 * 60 * 60)
    }

    pub(super) fn error_log_retention() -> Span {
        Span::secs(30 * 24 * 60 * 60)
    }

    pub(super) const fn non_zero(value: u32) -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(value - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> Result<DbConfig, toml::de::Error> {
        toml::from_str(text)
    }

    const MINIMAL: &str = "[connections.global]\nkind = \"sqlite\"\npath = \"g.db\"\n";

    #[test]
    fn the_minimum_is_one_connection() {
        let config = from_toml(MINIMAL).unwrap();
        config.validate().unwrap();
        assert_eq!(config.migrate_mode(), MigrateMode::Auto);
        assert_eq!(config.max_rows.get(), 100_000);
    }

    #[test]
    fn a_typo_is_refused_at_every_level() {
        for text in [
            "globl = \"x\"".to_owned(),
            format!("{MINIMAL}reader = 4"),
            format!("{MINIMAL}[map]\nlese = \"1s\""),
            format!("{MINIMAL}[fan_out]\nconcurency = 1"),
            format!("{MINIMAL}[executors.mail]\nruning = 1"),
            format!("{MINIMAL}[[shards]]\nid = 1\nconnection = \"global\"\nwieght = 2"),
            "[connections.a]\nkind = \"mysql\"\nurl = \"mysql://h/d\"\n[connections.a.pool]\nmaxx = 1"
                .to_owned(),
            "[connections.a]\nkind = \"oracle\"".to_owned(),
        ] {
            assert!(from_toml(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_broken_rule_is_listed_with_its_path() {
        let text = "
            global = \"main\"
            query_timeout = \"0s\"
            [[shards]]
            id = 1
            connection = \"a\"
            [[shards]]
            id = 1
            connection = \"b\"
            [connections.a]
            kind = \"mysql\"
            url = \"http://host\"
        ";
        let error = from_toml(text).unwrap().validate().unwrap_err();
        let found = error.problems().join("\n");
        for path in [
            "global:",
            "shards[1].id:",
            "shards[1].connection:",
            "connections.a.url:",
            "query_timeout:",
        ] {
            assert!(found.contains(path), "{path} in {found}");
        }
    }

    #[test]
    fn two_shards_cannot_share_a_database() {
        let mut config = DbConfig::sqlite("data", 2);
        config.shards[1].connection = "shard-0".to_owned();
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("already shard 0"), "{error}");
    }

    #[test]
    fn debug_shows_no_password() {
        let url = Secret::new("mysql://app:hunter2@db:3306/main");
        let config = DbConfig::mysql(url.clone(), [url]);
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.migrate_mode(), MigrateMode::Check);
    }
}
