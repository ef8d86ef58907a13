use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use trine_core::{Size, Span};

use crate::Ttl;

/// Everything a process needs to open a cache.
///
/// # Example
///
/// ```
/// use trine_cache::CacheConfig;
///
/// let config = CacheConfig::memory();
/// config.validate()?;
/// # Ok::<(), trine_cache::ConfigError>(())
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheConfig {
    /// Where entries are kept.
    pub backend: BackendConfig,
    /// How long an entry lives if the call does not say; absent, such entries
    /// never end. Default: none.
    #[serde(default)]
    pub default_ttl: Option<Span>,
    /// By how much of itself a default lifetime is shortened at random, 0 to
    /// 0.5, so that entries made together do not end together. Lifetimes that a
    /// call gives are never changed. Default: 0.1.
    #[serde(default = "defaults::ttl_jitter")]
    pub ttl_jitter: f64,
    /// Largest value in bytes, encoded. Default: 1MiB.
    #[serde(default = "defaults::max_value")]
    pub max_value: Size,
    /// Longest time of one start, retries included. Default: 30s.
    #[serde(default = "defaults::start_timeout")]
    pub start_timeout: Span,
}

/// The store behind a cache, selected by the `kind` field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BackendConfig {
    /// A bounded map of this process; nothing survives its end.
    Memory(MemoryConfig),
    /// A Redis that processes share. Needs feature `redis`.
    Redis(RedisStoreConfig),
}

/// A Redis that processes share.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisStoreConfig {
    /// The name of its connection, a table of `[redis]`. Default: `"main"`.
    pub connection: String,
    /// How long a fence is remembered after its last write, and after the end
    /// of what it wrote; at least 1s. Default: 7d.
    pub fence_retention: Span,
}

impl Default for RedisStoreConfig {
    fn default() -> Self {
        Self { connection: "main".to_owned(), fence_retention: defaults::fence_retention() }
    }
}

/// A bounded map of this process.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// Most bytes of all entries, keys and bookkeeping included; at least
    /// 64KiB. Default: 64MiB.
    pub max_bytes: Size,
    /// What happens to a write when they are used up. Default: `evict`.
    pub when_full: WhenFull,
    /// How long a fence is remembered after its last write, and after the end
    /// of what it wrote; at least 1s. Default: 7d.
    pub fence_retention: Span,
}

/// What a full store does with a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Drops entries that were used least, by number and age of uses.
    #[default]
    Evict,
    /// Refuses the write with `Exhausted`, as sessions and fences need.
    Refuse,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            max_bytes: Size::bytes(64 * 1024 * 1024),
            when_full: WhenFull::Evict,
            fence_retention: defaults::fence_retention(),
        }
    }
}

/// Every rule a configuration broke, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid cache configuration: {}", .problems.join("; "))]
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

impl CacheConfig {
    /// Returns the configuration of a cache in this process with the defaults.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(BackendConfig::Memory(MemoryConfig::default()))
    }

    /// Returns the configuration of a cache on the Redis connection called
    /// `connection` with the defaults.
    #[must_use]
    pub fn redis(connection: impl Into<String>) -> Self {
        let store = RedisStoreConfig { connection: connection.into(), ..Default::default() };
        Self::new(BackendConfig::Redis(store))
    }

    /// Returns the configuration of a cache over `backend` with the defaults.
    #[must_use]
    pub fn new(backend: BackendConfig) -> Self {
        Self {
            backend,
            default_ttl: None,
            ttl_jitter: defaults::ttl_jitter(),
            max_value: defaults::max_value(),
            start_timeout: defaults::start_timeout(),
        }
    }

    /// Sets how long an entry lives if the call does not say.
    #[must_use]
    pub fn with_default_ttl(mut self, ttl: Span) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Checks the rules that span fields.
    ///
    /// # Errors
    ///
    /// Fails with every broken rule, each with the path of its setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if let Some(ttl) = self.default_ttl
            && Ttl::After(ttl.get()).problem().is_some()
        {
            problems.push(format!("default_ttl: {ttl} is not between 1ms and 100 years"));
        }
        if !(0.0..=0.5).contains(&self.ttl_jitter) {
            problems.push(format!("ttl_jitter: {} is not between 0 and 0.5", self.ttl_jitter));
        }
        if self.max_value.get() == 0 {
            problems.push("max_value: must be more than 0".to_owned());
        }
        if self.start_timeout.get().is_zero() {
            problems.push("start_timeout: must be longer than 0".to_owned());
        }
        match &self.backend {
            BackendConfig::Memory(memory) => memory.check(self.max_value, &mut problems),
            BackendConfig::Redis(store) if cfg!(feature = "redis") => store.check(&mut problems),
            BackendConfig::Redis(_) => {
                let problem = "backend.kind: \"redis\" needs feature redis of trine-cache";
                problems.push(problem.to_owned());
            }
        }
        ConfigError::unless_empty(problems)
    }
}

impl RedisStoreConfig {
    pub(crate) fn check(&self, problems: &mut Vec<String>) {
        check_retention(self.fence_retention, problems);
    }
}

/// An end in less than the time of a pause would let an old owner write again,
/// and a server refuses one of 0 after the rest of the batch has run.
fn check_retention(retention: Span, problems: &mut Vec<String>) {
    if !(Duration::from_secs(1)..=Ttl::MAX).contains(&retention.get()) {
        let problem = format!("{retention} is not between 1s and 100 years");
        problems.push(format!("backend.fence_retention: {problem}"));
    }
}

impl MemoryConfig {
    /// Least memory that is of any use.
    const LEAST: Size = Size::bytes(64 * 1024);

    fn check(&self, max_value: Size, problems: &mut Vec<String>) {
        check_retention(self.fence_retention, problems);
        if self.max_bytes < Self::LEAST {
            let (found, least) = (self.max_bytes, Self::LEAST);
            problems.push(format!("backend.max_bytes: {found} is less than {least}"));
        }
        if self.max_bytes < max_value {
            let found = self.max_bytes;
            problems
                .push(format!("backend.max_bytes: {found} is less than max_value ({max_value})"));
        }
    }
}

mod defaults {
    use trine_core::{Size, Span};

    pub(super) fn ttl_jitter() -> f64 {
        0.1
    }

    pub(super) fn max_value() -> Size {
        Size::bytes(1024 * 1024)
    }

    pub(super) fn fence_retention() -> Span {
        Span::secs(7 * 24 * 60 * 60)
    }

    pub(super) fn start_timeout() -> Span {
        Span::secs(30)
    }
}
