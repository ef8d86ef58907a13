use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use trine_core::{Durability, Secret, Span};

use crate::Engine;

/// One physical database, selected by the `kind` field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ConnectionConfig {
    /// A file of this process. Needs feature `sqlite`.
    Sqlite(SqliteConfig),
    /// A MySQL ≥ 8.0.1 or MariaDB ≥ 10.6 database. Needs feature `mysql`.
    Mysql(MysqlConfig),
}

impl ConnectionConfig {
    /// Returns the engine it leads to.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Mysql(_) => Engine::Mysql,
        }
    }

    /// Returns the most statements it runs at once.
    #[must_use]
    pub(crate) fn pool_size(&self) -> u32 {
        match self {
            Self::Sqlite(config) => config.readers.get(),
            Self::Mysql(config) => config.pool.max.get(),
        }
    }

    pub(super) fn check(&self, path: &str, problems: &mut Vec<String>) {
        let mut positive = |field: &str, span: Span| {
            if span.get().is_zero() {
                problems.push(format!("{path}.{field}: must be longer than 0"));
            }
        };
        match self {
            Self::Sqlite(config) => {
                positive("acquire_timeout", config.acquire_timeout);
                positive("hold_limit", config.hold_limit);
                if let Durability::Async { window } = config.durability {
                    positive("durability.async.window", window);
                }
                if config.path.as_os_str().is_empty() {
                    problems.push(format!("{path}.path: must not be empty"));
                }
                if config.durability == Durability::Memory {
                    let expected = "expected `synced` or `async`: the database is a file";
                    problems.push(format!("{path}.durability: {expected}"));
                }
            }
            Self::Mysql(config) => {
                positive("cancel_grace", config.cancel_grace);
                positive("pool.acquire_timeout", config.pool.acquire_timeout);
                positive("pool.connect_timeout", config.pool.connect_timeout);
                positive("pool.idle_check", config.pool.idle_check);
                positive("pool.max_lifetime", config.pool.max_lifetime);
            }
        }
        if let Err((field, problem)) = crate::pool::check(self) {
            problems.push(format!("{path}.{field}: {problem}"));
        }
    }
}

/// A SQLite database in write-ahead mode: one writer and some readers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The database file. Created when missing; only one process may have it
    /// open.
    pub path: PathBuf,
    /// What survives a power failure. Default: `"synced"`.
    #[serde(default)]
    pub durability: Durability,
    /// Read-only connections. Default: 4.
    #[serde(default = "defaults::readers")]
    pub readers: NonZeroU32,
    /// Longest wait for a reader, or for a turn to write. Default: 5s.
    #[serde(default = "defaults::acquire_timeout")]
    pub acquire_timeout: Span,
    /// Longest time an interactive transaction may keep the writer; then it is
    /// rolled back. Default: 5s.
    #[serde(default = "defaults::hold_limit")]
    pub hold_limit: Span,
    /// Most jobs of different callers in one commit. 1 commits each alone.
    /// Default: 256.
    #[serde(default = "defaults::group")]
    pub group: NonZeroU32,
    /// Most jobs waiting for the writer. Default: 4096.
    #[serde(default = "defaults::queue")]
    pub queue: NonZeroU32,
}

impl SqliteConfig {
    /// Returns the default settings for the file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::Synced,
            readers: defaults::readers(),
            acquire_timeout: defaults::acquire_timeout(),
            hold_limit: defaults::hold_limit(),
            group: defaults::group(),
            queue: defaults::queue(),
        }
    }
}

/// A MySQL or MariaDB database.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MysqlConfig {
    /// `mysql://user:password@host:port/database`, with `?socket=/path` for a
    /// Unix socket and `?ssl-mode=VERIFY_IDENTITY&ssl-ca=/path` for TLS.
    pub url: Secret,
    /// The connections.
    #[serde(default)]
    pub pool: MysqlPoolConfig,
    /// What happens on the server to a statement whose caller went away.
    /// Default: `kill`.
    #[serde(default)]
    pub cancel: Cancel,
    /// Longest wait until the server has ended such a statement; then its
    /// place in the pool is given back all the same. Default: 5s.
    #[serde(default = "defaults::cancel_grace")]
    pub cancel_grace: Span,
}

impl MysqlConfig {
    /// Returns the default settings for the database at `url`.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            pool: MysqlPoolConfig::default(),
            cancel: Cancel::default(),
            cancel_grace: defaults::cancel_grace(),
        }
    }
}

/// The connections to one MySQL or MariaDB database.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct MysqlPoolConfig {
    /// Most connections; one more is kept for cancelling. Default: 10.
    pub max: NonZeroU32,
    /// Longest wait for a free connection. Default: 5s.
    pub acquire_timeout: Span,
    /// Longest time to make one connection. Default: 5s.
    pub connect_timeout: Span,
    /// A connection that was idle for longer is checked before use.
    /// Default: 30s.
    pub idle_check: Span,
    /// A connection is replaced at this age, give or take a tenth.
    /// Default: 30m.
    pub max_lifetime: Span,
    /// Prepared statements kept per connection. Default: 100.
    pub statement_cache: u32,
}

impl Default for MysqlPoolConfig {
    fn default() -> Self {
        Self {
            max: defaults::pool_max(),
            acquire_timeout: defaults::acquire_timeout(),
            connect_timeout: Span::secs(5),
            idle_check: Span::secs(30),
            max_lifetime: Span::secs(30 * 60),
            statement_cache: 100,
        }
    }
}

/// What happens on the server to a statement whose caller went away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cancel {
    /// The statement is killed and its connection closed.
    #[default]
    Kill,
    /// The connection is closed; the server may work on until it notices. For
    /// proxies, behind which a connection id may be a stranger's.
    Close,
}

mod defaults {
    use std::num::NonZeroU32;

    use trine_core::Span;

    pub(super) fn readers() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(3)
    }

    pub(super) fn pool_max() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(9)
    }

    pub(super) fn acquire_timeout() -> Span {
        Span::secs(5)
    }

    pub(super) fn hold_limit() -> Span {
        Span::secs(5)
    }

    pub(super) fn group() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(255)
    }

    pub(super) fn queue() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(4095)
    }

    pub(super) fn cancel_grace() -> Span {
        Span::secs(5)
    }
}
