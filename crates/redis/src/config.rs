mod address;

use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use trine_core::{Durability, Secret, Span};

use crate::facts::Stated;
use crate::namespace;

pub(crate) use address::{Address, Credentials, Target};

/// Everything a process needs to open one Redis connection, which all its
/// Redis-backed services share.
///
/// # Example
///
/// ```
/// use trine_core::Secret;
/// use trine_redis::RedisConfig;
///
/// let config = RedisConfig::single("shop:prod", Secret::new("redis://127.0.0.1:6379"));
/// config.validate()?;
/// # Ok::<(), trine_redis::ConfigError>(())
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Where the server or servers are.
    pub server: ServerConfig,
    /// What the keys of this application begin with, such as `"shop:prod"`.
    pub namespace: String,
    /// ACL user. Default: the one of the URL, else `"default"`.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password; here or in the URL, not in both. Default: none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// How TLS is spoken where the URL begins with `rediss://`.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Connections to each node that all commands share: 1 or 2. Default: 1.
    #[serde(default = "defaults::connections_per_node")]
    pub connections_per_node: NonZeroU32,
    /// Longest time to make one connection: network, TLS and login together.
    /// Default: 1s.
    #[serde(default = "defaults::connect_timeout")]
    pub connect_timeout: Span,
    /// Longest wait for the reply to a command; the deadline of the call
    /// shortens it. Default: 500ms.
    #[serde(default = "defaults::response_timeout")]
    pub response_timeout: Span,
    /// Longest time of one start, retries included. Default: 30s.
    #[serde(default = "defaults::start_timeout")]
    pub start_timeout: Span,
    /// Between attempts to connect to a node that is away.
    #[serde(default)]
    pub reconnect: ReconnectConfig,
    /// Connections for blocking commands, which nobody else uses meanwhile.
    #[serde(default)]
    pub dedicated: DedicatedConfig,
    /// Most messages of one subscription that wait for their reader. Default:
    /// 1024.
    #[serde(default = "defaults::subscription_buffer")]
    pub subscription_buffer: NonZeroU32,
    /// What a write survives, where the server does not let its user ask;
    /// `synced` counts on a single server only. Default: `async` with a window
    /// of 1d.
    #[serde(default)]
    pub durability: Option<Durability>,
    /// Longest time between two looks at who is master of what; trouble has a
    /// look taken at once. Default: 5s.
    #[serde(default = "defaults::topology_interval")]
    pub topology_interval: Span,
}

/// Where the server or servers are, selected by the `kind` field.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ServerConfig {
    /// One server: `redis://user:password@host:port`, `rediss://` for TLS,
    /// `unix:///path` for a socket.
    Single {
        /// Its URL. Databases other than 0 are refused.
        url: Secret,
    },
    /// A master that sentinels watch.
    Sentinel {
        /// The URLs of the sentinels, without credentials.
        urls: Vec<Secret>,
        /// The name of the master, as the sentinels call it.
        master: String,
        /// ACL user of the sentinels themselves. Default: `"default"`.
        #[serde(default)]
        sentinel_username: Option<String>,
        /// Its password. Default: none.
        #[serde(default)]
        sentinel_password: Option<Secret>,
    },
    /// A cluster.
    Cluster {
        /// The URLs of some of its nodes, without credentials; one of them has
        /// to answer.
        urls: Vec<Secret>,
    },
}

impl ServerConfig {
    /// Returns the name of the kind, such as `"cluster"`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Single { .. } => "single",
            Self::Sentinel { .. } => "sentinel",
            Self::Cluster { .. } => "cluster",
        }
    }

    fn urls(&self) -> Vec<(String, &Secret)> {
        match self {
            Self::Single { url } => vec![("server.url".to_owned(), url)],
            Self::Sentinel { urls, .. } | Self::Cluster { urls } => {
                let path = |index| format!("server.urls[{index}]");
                urls.iter().enumerate().map(|(index, url)| (path(index), url)).collect()
            }
        }
    }
}

/// How TLS is spoken.
///
/// The files are read again when they have changed: connections that are made
/// from then on have what is in them, those that exist go on. While they are not
/// in order, what they were before stays in use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Certificate authorities in PEM. Default: those of Mozilla.
    pub ca_file: Option<PathBuf>,
    /// Certificate of this client in PEM. Default: none.
    pub cert_file: Option<PathBuf>,
    /// Its key in PEM. Default: none.
    pub key_file: Option<PathBuf>,
    /// The name that the certificates of all servers must have. Default: the
    /// host of the URL; of those that a cluster or sentinels name, the host that
    /// they announce.
    pub server_name: Option<String>,
}

impl TlsConfig {
    fn is_set(&self) -> bool {
        let files = [&self.ca_file, &self.cert_file, &self.key_file];
        files.iter().any(|file| file.is_some()) || self.server_name.is_some()
    }
}

/// Between attempts to connect to a node that is away; they go on for ever.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ReconnectConfig {
    /// Longest wait after the first failure; it doubles with each. Default:
    /// 50ms.
    pub first: Span,
    /// Longest wait after any failure. Default: 2s.
    pub cap: Span,
}

impl Default for ReconnectConfig {
    fn default() -> Self {
        Self { first: Span::millis(50), cap: Span::secs(2) }
    }
}

/// Connections that one caller has for itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct DedicatedConfig {
    /// Most of them to each node. Default: 16.
    pub max: NonZeroU32,
    /// Longest wait for a free one. Default: 500ms.
    pub acquire_timeout: Span,
    /// One that was idle for longer is asked before its next use. Default: 30s.
    pub idle: Span,
}

impl Default for DedicatedConfig {
    fn default() -> Self {
        Self {
            max: defaults::non_zero(16),
            acquire_timeout: Span::millis(500),
            idle: Span::secs(30),
        }
    }
}

/// Every rule a configuration broke, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid Redis configuration: {}", .problems.join("; "))]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// Returns the problems, each with the path of its setting.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl RedisConfig {
    /// Returns the configuration of one server.
    #[must_use]
    pub fn single(namespace: impl Into<String>, url: Secret) -> Self {
        Self::new(namespace, ServerConfig::Single { url })
    }

    /// Returns the configuration of a cluster, by some of its nodes.
    #[must_use]
    pub fn cluster(namespace: impl Into<String>, urls: impl IntoIterator<Item = Secret>) -> Self {
        Self::new(namespace, ServerConfig::Cluster { urls: urls.into_iter().collect() })
    }

    /// Returns the configuration of the master that the sentinels call
    /// `master`.
    #[must_use]
    pub fn sentinel(
        namespace: impl Into<String>,
        master: impl Into<String>,
        urls: impl IntoIterator<Item = Secret>,
    ) -> Self {
        let server = ServerConfig::Sentinel {
            urls: urls.into_iter().collect(),
            master: master.into(),
            sentinel_username: None,
            sentinel_password: None,
        };
        Self::new(namespace, server)
    }

    fn new(namespace: impl Into<String>, server: ServerConfig) -> Self {
        Self {
            server,
            namespace: namespace.into(),
            username: None,
            password: None,
            tls: TlsConfig::default(),
            connections_per_node: defaults::connections_per_node(),
            connect_timeout: defaults::connect_timeout(),
            response_timeout: defaults::response_timeout(),
            start_timeout: defaults::start_timeout(),
            reconnect: ReconnectConfig::default(),
            dedicated: DedicatedConfig::default(),
            subscription_buffer: defaults::subscription_buffer(),
            durability: None,
            topology_interval: defaults::topology_interval(),
        }
    }

    /// Sets the user and the password.
    #[must_use]
    pub fn with_credentials(mut self, username: impl Into<String>, password: Secret) -> Self {
        self.username = Some(username.into());
        self.password = Some(password);
        self
    }

    /// Sets the longest wait for a reply.
    #[must_use]
    pub fn with_response_timeout(mut self, timeout: impl Into<Span>) -> Self {
        self.response_timeout = timeout.into();
        self
    }

    /// Sets the longest time of one start.
    #[must_use]
    pub fn with_start_timeout(mut self, timeout: impl Into<Span>) -> Self {
        self.start_timeout = timeout.into();
        self
    }

    /// Sets the waits between attempts to connect.
    #[must_use]
    pub fn with_reconnect(mut self, first: impl Into<Span>, cap: impl Into<Span>) -> Self {
        self.reconnect = ReconnectConfig { first: first.into(), cap: cap.into() };
        self
    }

    /// Sets how TLS is spoken.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsConfig) -> Self {
        self.tls = tls;
        self
    }

    /// Checks the rules that span fields.
    ///
    /// # Errors
    ///
    /// Fails with every broken rule, each with the path of its setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.targets().map(|_targets| ())
    }

    /// Returns what is said of what writes survive.
    pub(crate) fn stated(&self) -> Stated {
        let fails_over = !matches!(self.server, ServerConfig::Single { .. });
        Stated { declared: self.durability, fails_over }
    }

    /// Reads the URLs, and checks everything else on the way.
    pub(crate) fn targets(&self) -> Result<Vec<Target>, ConfigError> {
        let mut problems = Vec::new();
        let mut targets = Vec::new();
        for (path, url) in self.server.urls() {
            match Target::read(url) {
                Ok(target) => {
                    self.check_target(&path, &target, &mut problems);
                    targets.push(target);
                }
                Err(why) => problems.push(format!("{path}: {why}")),
            }
        }
        self.check_server(&targets, &mut problems);
        self.check_tls(&targets, &mut problems);
        self.check_spans(&mut problems);
        if let Err(why) = namespace::check_app(&self.namespace) {
            problems.push(format!("namespace: {why}"));
        }
        if self.username.is_some() && self.password.is_none() {
            problems.push("username: needs a password".to_owned());
        }
        if self.connections_per_node.get() > 2 {
            problems.push("connections_per_node: must be 1 or 2".to_owned());
        }
        if problems.is_empty() { Ok(targets) } else { Err(ConfigError { problems }) }
    }

    fn check_target(&self, path: &str, target: &Target, problems: &mut Vec<String>) {
        let is_single = matches!(self.server, ServerConfig::Single { .. });
        if target.credentials.is_some() && !is_single {
            problems.push(format!("{path}: credentials belong to username and password"));
        } else if target.credentials.is_some() && self.password.is_some() {
            problems.push(format!("{path}: the password is here and in password"));
        }
        if matches!(target.address, Address::Unix(_)) && !is_single {
            problems.push(format!("{path}: a socket leads to a single server only"));
        }
    }

    fn check_server(&self, targets: &[Target], problems: &mut Vec<String>) {
        if self.server.urls().is_empty() {
            problems.push("server.urls: at least one is needed".to_owned());
        }
        if targets.iter().any(|target| target.tls) && targets.iter().any(|target| !target.tls) {
            problems.push("server.urls: either all or none begin with rediss://".to_owned());
        }
        if let ServerConfig::Sentinel { master, sentinel_username, sentinel_password, .. } =
            &self.server
        {
            if master.is_empty() {
                problems.push("server.master: it is empty".to_owned());
            }
            if sentinel_username.is_some() && sentinel_password.is_none() {
                problems.push("server.sentinel_username: needs sentinel_password".to_owned());
            }
        }
    }

    fn check_tls(&self, targets: &[Target], problems: &mut Vec<String>) {
        if self.tls.is_set() && targets.iter().any(|target| !target.tls) {
            problems.push("tls: needs a URL that begins with rediss://".to_owned());
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            problems.push("tls: cert_file and key_file go together".to_owned());
        }
    }

    fn check_spans(&self, problems: &mut Vec<String>) {
        let positive = [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("start_timeout", self.start_timeout),
            ("reconnect.first", self.reconnect.first),
            ("reconnect.cap", self.reconnect.cap),
            ("dedicated.acquire_timeout", self.dedicated.acquire_timeout),
            ("dedicated.idle", self.dedicated.idle),
            ("topology_interval", self.topology_interval),
        ];
        let zeros = positive.iter().filter(|(_, span)| span.get().is_zero());
        problems.extend(zeros.map(|(path, _)| format!("{path}: must be longer than 0")));
        let ReconnectConfig { first, cap } = &self.reconnect;
        if first > cap {
            problems.push(format!("reconnect.first: {first} is longer than cap ({cap})"));
        }
    }
}

mod defaults {
    use std::num::NonZeroU32;

    use trine_core::Span;

    pub(super) fn non_zero(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
    }

    pub(super) fn connections_per_node() -> NonZeroU32 {
        NonZeroU32::MIN
    }

    pub(super) fn connect_timeout() -> Span {
        Span::secs(1)
    }

    pub(super) fn response_timeout() -> Span {
        Span::millis(500)
    }

    pub(super) fn start_timeout() -> Span {
        Span::secs(30)
    }

    pub(super) fn subscription_buffer() -> NonZeroU32 {
        non_zero(1024)
    }

    pub(super) fn topology_interval() -> Span {
        Span::secs(5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &RedisConfig) -> String {
        config.validate().map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn read(text: &str) -> Result<RedisConfig, toml::de::Error> {
        toml::from_str(text)
    }

    const SINGLE: &str =
        "namespace = 'shop:prod'\nserver = { kind = 'single', url = 'redis://h' }\n";

    #[test]
    fn every_kind_is_read_and_filled_with_defaults() {
        let config = read(SINGLE).unwrap();
        assert_eq!(problems(&config), "");
        assert_eq!(config.response_timeout, Span::millis(500));
        for text in [
            "namespace = 'a'\nserver = { kind = 'cluster', urls = ['redis://a:1', 'redis://b'] }",
            "namespace = 'a'\nserver = { kind = 'sentinel', urls = ['redis://a:1'], master = 'm' }",
        ] {
            assert_eq!(problems(&read(text).unwrap()), "", "{text}");
        }
    }

    #[test]
    fn a_typo_is_refused_on_every_level() {
        for more in [
            "nam = 1",
            "tls = { ca = 'x' }",
            "reconnect = { frist = '1s' }",
            "dedicated = { mx = 1 }",
        ] {
            let error = read(&format!("{SINGLE}{more}")).unwrap_err().to_string();
            assert!(error.contains("unknown"), "{more}: {error}");
        }
        assert!(read(&format!("{SINGLE}durability = {{ async = {{ windw = '1s' }} }}")).is_err());
        for kind in ["'single', url = 'redis://h'", "'cluster', urls = []"] {
            let text = format!("namespace = 'a'\nserver = {{ kind = {kind}, mster = 'm' }}");
            assert!(read(&text).unwrap_err().to_string().contains("mster"), "{kind}");
        }
    }

    #[test]
    fn every_broken_rule_is_listed() {
        let mut config = RedisConfig::sentinel(
            "a b",
            "",
            ["redis://u:p@h", "rediss://h", "unix:///s", "redis://h/1"].map(Secret::new),
        );
        config.username = Some("u".to_owned());
        config.tls.cert_file = Some("c".into());
        config.connections_per_node = defaults::non_zero(3);
        config.response_timeout = Span::millis(0);
        config.reconnect = ReconnectConfig { first: Span::secs(2), cap: Span::secs(1) };
        let found = problems(&config);
        for expected in [
            "namespace:",
            "server.master:",
            "server.urls[0]: credentials belong",
            "server.urls[2]: a socket",
            "server.urls[3]: database",
            "either all or none",
            "username: needs a password",
            "cert_file and key_file",
            "tls: needs a URL",
            "connections_per_node:",
            "response_timeout:",
            "reconnect.first:",
        ] {
            assert!(found.contains(expected), "{expected} is not in {found}");
        }
    }

    #[test]
    fn debug_and_errors_hide_every_secret() {
        let url = Secret::new("redis://me:hunter2@h/1?x=hunter2");
        let mut config =
            RedisConfig::single("a", url).with_credentials("u", Secret::new("hunter3"));
        assert!(!problems(&config).is_empty());
        config.server = ServerConfig::Sentinel {
            urls: vec![Secret::new("redis://:hunter2@h")],
            master: "m".to_owned(),
            sentinel_username: None,
            sentinel_password: Some(Secret::new("hunter4")),
        };
        let shown = format!("{config:?} {}", problems(&config));
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
