use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use trine::Settings;
use trine_core::{Secret, Span};

/// Settings of the starter itself, section `[starter]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StarterConfig {
    /// Where the server listens. Default: 127.0.0.1:8080.
    pub(crate) listen: SocketAddr,
    /// What an administrator shows as `authorization: Bearer …`, at least 16
    /// bytes; monitors show it for `/health` and `/metrics`. Without it, nobody
    /// is an administrator.
    pub(crate) admin_token: Option<Secret>,
    /// How long the row of an account is cached. Default: 30s.
    pub(crate) account_ttl: Span,
    /// Longest time of one request, as far as the starter, its databases and
    /// its cache decide. Default: 30s.
    pub(crate) request_timeout: Span,
    /// Most passwords hashed at the same time, 19 MiB each. Default: the number
    /// of cores.
    pub(crate) hashes_at_once: Option<NonZeroU32>,
    /// Failed logins.
    pub(crate) login: LoginConfig,
    /// New accounts.
    pub(crate) registration: RegistrationConfig,
}

/// How many failed logins are let through.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LoginConfig {
    /// Most failures of one account within `window`. Default: 10.
    pub(crate) failures_per_account: NonZeroU32,
    /// Most failures from one address, or one /64 of IPv6, within `window`.
    /// Default: 100.
    pub(crate) failures_per_address: NonZeroU32,
    /// The time in which so many failures are forgiven. Default: 1m.
    pub(crate) window: Span,
}

/// How many new accounts are let through.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RegistrationConfig {
    /// Most registrations from one address, or one /64 of IPv6, within
    /// `window`, also of addresses that have an account. Default: 1000.
    pub(crate) per_address: NonZeroU32,
    /// The time in which so many registrations are forgotten. Default: 1h.
    pub(crate) window: Span,
}

impl Default for StarterConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_token: None,
            account_ttl: Span::secs(30),
            request_timeout: Span::secs(30),
            hashes_at_once: None,
            login: LoginConfig::default(),
            registration: RegistrationConfig::default(),
        }
    }
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            failures_per_account: NonZeroU32::MIN.saturating_add(9),
            failures_per_address: NonZeroU32::MIN.saturating_add(99),
            window: Span::secs(60),
        }
    }
}

impl Default for RegistrationConfig {
    fn default() -> Self {
        Self { per_address: NonZeroU32::MIN.saturating_add(999), window: Span::secs(60 * 60) }
    }
}

impl StarterConfig {
    /// Returns the most passwords hashed at the same time.
    pub(crate) fn hashes(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let configured = self.hashes_at_once.and_then(|hashes| hashes.get().try_into().ok());
        configured.unwrap_or_else(cores)
    }
}

impl Settings for StarterConfig {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.admin_token.as_ref().is_some_and(|token| token.expose().len() < 16) {
            problems.push("admin_token: must have at least 16 bytes".to_owned());
        }
        let positive = [
            ("account_ttl", self.account_ttl),
            ("request_timeout", self.request_timeout),
            ("login.window", self.login.window),
            ("registration.window", self.registration.window),
        ];
        let broken = positive.into_iter().filter(|(_, span)| span.get().is_zero());
        problems.extend(broken.map(|(path, _)| format!("{path}: must be longer than 0")));
        problems
    }
}
