use std::fmt;

use crate::engine;
use crate::error::Result;
use crate::redis::{Redis, RedisPersistence, conf};

/// How to start a [`Redis`].
#[derive(Clone, Default)]
pub struct RedisBuilder {
    pub(super) persistence: RedisPersistence,
    pub(super) password: Option<String>,
    pub(super) users: Vec<(String, String)>,
    pub(super) options: Vec<(String, String)>,
    pub(super) tls: bool,
    pub(super) own_clock: bool,
}

impl RedisBuilder {
    /// Sets when data is on disk. Default: never.
    #[must_use]
    pub fn persistence(mut self, persistence: RedisPersistence) -> Self {
        self.persistence = persistence;
        self
    }

    /// Sets the most memory, such as `"8mb"`, and what gives way then, such as
    /// `"allkeys-lru"`. Default: no limit, `"noeviction"`.
    #[must_use]
    pub fn max_memory(self, most: impl Into<String>, policy: impl Into<String>) -> Self {
        self.option("maxmemory", most).option("maxmemory-policy", policy)
    }

    /// Sets the password of the account `default`, which is then in the URL.
    /// Default: none.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds an account with its rules, such as `("bob", "on >secret ~bob:* +@all")`.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, rules: impl Into<String>) -> Self {
        self.users.push((name.into(), rules.into()));
        self
    }

    /// Has the server speak TLS only, with a certificate of an authority made
    /// for it: [`Redis::tls`]. Not in a container.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Gives the server a wall clock of its own, which
    /// [`set_clock`](Redis::set_clock) sets. Needs a C compiler, `cc`; not in a
    /// container, and for a server of its own only.
    #[must_use]
    pub fn own_clock(mut self) -> Self {
        self.own_clock = true;
        self
    }

    /// Sets an option as in `redis.conf`, such as `("maxclients", "50")`.
    ///
    /// The kit's own settings can be replaced, except for those that have a
    /// method here or say where the server lives.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// Starts the server: a binary on this machine, else a container.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoServer`](crate::Error::NoServer) if there is
    /// neither, with [`Error::Invalid`](crate::Error::Invalid) for an option
    /// that is the kit's, and with [`Error::Start`](crate::Error::Start), which
    /// shows the log, if it does not become ready.
    pub async fn start(self) -> Result<Redis> {
        conf::check(&self)?;
        engine::run(Redis::start_with(self)).await
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rules and some of the options hold passwords.
        let names = |pairs: &[(String, String)]| -> Vec<_> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("RedisBuilder")
            .field("persistence", &self.persistence)
            .field("has_password", &self.password.is_some())
            .field("users", &names(&self.users))
            .field("options", &names(&self.options))
            .field("tls", &self.tls)
            .field("own_clock", &self.own_clock)
            .finish()
    }
}
