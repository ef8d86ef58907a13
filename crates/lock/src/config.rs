use schemars::JsonSchema;
use serde::Deserialize;
use trine_core::Span;

use crate::LockOptions;

/// Everything a process needs to open its locks.
///
/// # Example
///
/// ```
/// use trine_lock::LockConfig;
///
/// let config = LockConfig::memory();
/// config.validate()?;
/// # Ok::<(), trine_lock::ConfigError>(())
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LockConfig {
    /// Where it is kept who holds what.
    pub backend: BackendConfig,
    /// How long the store keeps a key without a renewal if the call does not
    /// say; 100ms to `max_ttl`. Default: 60s.
    #[serde(default = "defaults::ttl")]
    pub ttl: Span,
    /// Longest wait for a key if the call does not say; 0s asks once.
    /// Default: 30s.
    #[serde(default = "defaults::wait")]
    pub wait: Span,
    /// Longest ttl that a call may ask for, at most 1d. Default: 10m.
    #[serde(default = "defaults::max_ttl")]
    pub max_ttl: Span,
    /// Who is next when a key becomes free. Default: `in_turn`.
    #[serde(default)]
    pub order: WaitOrder,
    /// How long a free key is kept for the next one in line, who was told of
    /// it, before it goes to the one after. Default: 1s.
    #[serde(default = "defaults::claim_timeout")]
    pub claim_timeout: Span,
    /// Longest time of one start, retries included. Default: 30s.
    #[serde(default = "defaults::start_timeout")]
    pub start_timeout: Span,
}

/// The store behind the locks, selected by the `kind` field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BackendConfig {
    /// In this process; nothing survives its end.
    Memory {},
    /// A Redis that processes share. Needs feature `redis`.
    Redis(RedisStoreConfig),
    /// In a database that processes share, or the SQLite of this process.
    /// Needs feature `mysql` or `sqlite`.
    Sql(SqlConfig),
}

/// A Redis that processes share. All processes of one instance should say the
/// same.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisStoreConfig {
    /// The name of its connection, a table of `[redis]`. Default: `"main"`.
    pub connection: String,
    /// What happens when the server is replaced or has lost its data, and so
    /// what was granted. Default: `overlap`.
    pub mode: AfterLoss,
    /// How far the clocks of two servers may differ, so that tokens grow also
    /// when one replaces the other: nothing is granted for so long; 0s to 1h.
    /// Default: 1s.
    pub clock_margin: Span,
    /// Whether locks may be kept on a server that evicts, and so may give a key
    /// to two. Default: false.
    pub allow_eviction: bool,
    /// Between two looks at one of the 256 parts of the locks for what is over
    /// and nobody asks for; 10ms to 1h. Default: 1s.
    pub sweep_interval: Span,
}

/// What is granted when grants may have been lost with a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterLoss {
    /// A key may have a second holder until the first one notices at its next
    /// renewal: only the fence refuses the first. Available again after
    /// `clock_margin`.
    #[default]
    Overlap,
    /// Nothing for `max_ttl`, by when every holder has let go.
    Exclusive,
}

impl Default for RedisStoreConfig {
    fn default() -> Self {
        Self {
            connection: "main".to_owned(),
            mode: AfterLoss::default(),
            clock_margin: defaults::clock_margin(),
            allow_eviction: false,
            sweep_interval: defaults::sweep_interval(),
        }
    }
}

impl RedisStoreConfig {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        let hour = Span::secs(3_600);
        if self.clock_margin > hour {
            let margin = self.clock_margin;
            problems.push(format!("backend.clock_margin: {margin} is not between 0s and 1h"));
        }
        let interval = self.sweep_interval;
        if interval < Span::millis(10) || interval > hour {
            problems.push(format!("backend.sweep_interval: {interval} is not between 10ms and 1h"));
        }
    }
}

/// Locks in a database.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SqlConfig {
    /// The database service whose global database has the tables.
    /// Default: `"default"`.
    pub database: String,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self { database: "default".to_owned() }
    }
}

/// Who is next when a key becomes free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitOrder {
    /// Processes in turn, and within a process who came first: one command per
    /// hand-off beside the release, however many wait.
    #[default]
    InTurn,
    /// Who came first, whatever the process: one command more per wait.
    FirstCome,
}

/// Every rule a configuration broke, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid lock configuration: {}", .problems.join("; "))]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    pub(crate) fn one(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }

    pub(crate) fn unless_empty(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    /// Returns each broken rule as `path: what is wrong`.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl LockConfig {
    /// Returns the configuration of locks in this process with the defaults.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(BackendConfig::Memory {})
    }

    /// Returns the configuration of locks on the Redis connection called
    /// `connection` with the defaults.
    #[must_use]
    pub fn redis(connection: impl Into<String>) -> Self {
        let store = RedisStoreConfig { connection: connection.into(), ..Default::default() };
        Self::new(BackendConfig::Redis(store))
    }

    /// Returns the configuration of locks in the database that the host calls
    /// `database`, with the defaults.
    #[must_use]
    pub fn sql(database: impl Into<String>) -> Self {
        Self::new(BackendConfig::Sql(SqlConfig { database: database.into() }))
    }

    /// Returns the configuration of locks over `backend` with the defaults.
    #[must_use]
    pub fn new(backend: BackendConfig) -> Self {
        Self {
            backend,
            ttl: defaults::ttl(),
            wait: defaults::wait(),
            max_ttl: defaults::max_ttl(),
            order: WaitOrder::default(),
            claim_timeout: defaults::claim_timeout(),
            start_timeout: defaults::start_timeout(),
        }
    }

    /// Sets how long the store keeps a key if the call does not say.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Span) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the longest wait for a key if the call does not say.
    #[must_use]
    pub fn with_wait(mut self, wait: Span) -> Self {
        self.wait = wait;
        self
    }

    /// Sets who is next when a key becomes free.
    #[must_use]
    pub fn with_order(mut self, order: WaitOrder) -> Self {
        self.order = order;
        self
    }

    /// Checks the rules that span fields.
    ///
    /// # Errors
    ///
    /// Fails with every broken rule, each with the path of its setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let (ttl, max, min) = (self.ttl, self.max_ttl, LockOptions::MIN_TTL);
        if max.get() < min || max > defaults::longest() {
            let longest = defaults::longest();
            problems.push(format!("max_ttl: {max} is not between {min:?} and {longest}"));
        }
        if ttl.get() < min || ttl > max {
            problems.push(format!("ttl: {ttl} is not between {min:?} and max_ttl ({max})"));
        }
        for (name, span) in
            [("claim_timeout", self.claim_timeout), ("start_timeout", self.start_timeout)]
        {
            if span.get().is_zero() {
                problems.push(format!("{name}: must be longer than 0"));
            }
        }
        match &self.backend {
            BackendConfig::Memory {} => {}
            BackendConfig::Redis(store) if cfg!(feature = "redis") => store.check(&mut problems),
            BackendConfig::Redis(_) => {
                let problem = "backend.kind: \"redis\" needs feature redis of trine-lock";
                problems.push(problem.to_owned());
            }
            BackendConfig::Sql(_) if cfg!(any(feature = "mysql", feature = "sqlite")) => {}
            BackendConfig::Sql(_) => {
                let problem = "backend.kind: \"sql\" needs feature mysql or sqlite of trine-lock";
                problems.push(problem.to_owned());
            }
        }
        ConfigError::unless_empty(problems)
    }
}

mod defaults {
    use trine_core::Span;

    pub(super) fn ttl() -> Span {
        Span::secs(60)
    }

    pub(super) fn wait() -> Span {
        Span::secs(30)
    }

    pub(super) fn max_ttl() -> Span {
        Span::secs(10 * 60)
    }

    /// A ttl is how long a key stays taken after a crash: a day is no lock.
    pub(super) fn longest() -> Span {
        Span::secs(24 * 60 * 60)
    }

    pub(super) fn clock_margin() -> Span {
        Span::secs(1)
    }

    pub(super) fn sweep_interval() -> Span {
        Span::secs(1)
    }

    pub(super) fn claim_timeout() -> Span {
        Span::secs(1)
    }

    pub(super) fn start_timeout() -> Span {
        Span::secs(30)
    }
}
