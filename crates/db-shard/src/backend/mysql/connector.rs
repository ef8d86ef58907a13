mod facts;
mod refusal;
mod server;
mod settings;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, SqlStr};

use self::facts::FACTS;
use self::refusal::Reason;
use self::settings::{AUTOCOMMIT, settings};
use super::session::Session;
use crate::error::At;
use crate::{DatabaseName, Error, MysqlConfig, Result};

pub(super) use self::facts::Facts;
#[cfg(feature = "sqlx-0_9")]
pub(super) use self::facts::HOST_FACTS;
pub(super) use self::refusal::Refusal;
pub(super) use self::server::{Product, Server};
pub(super) use self::settings::restoring;

/// What the query of a URL may set; the rest belongs to the configuration.
const URL_SETTINGS: [&str; 5] = ["socket", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key"];
/// The driver's own cache never evicts: see [`Session::is_full`].
const UNBOUNDED: usize = u32::MAX as usize;

/// Makes connections, each set up and asked for its facts in one round trip
/// after the login.
pub(super) struct Connector {
    options: MySqlConnectOptions,
    /// Sets up the session, then asks for what [`Session`] must know.
    greeting: Arc<str>,
    /// Sets it up again, after a procedure.
    restoring: SqlStr,
    statement_cache: u32,
    statement_limit: Duration,
    pub(super) connect_timeout: Duration,
    max_lifetime: Duration,
    order: AtomicU64,
    connects: AtomicU64,
}

impl Connector {
    /// Reads the configuration; does no I/O.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a URL that leads nowhere; the message never
    /// repeats it.
    pub(super) fn new(
        name: &DatabaseName,
        config: &MysqlConfig,
        query_timeout: Duration,
    ) -> Result<Self> {
        let options = options(config)
            .map_err(|detail| Error::invalid(At::new("open", name), format!("url: {detail}")))?;
        let capacity = if config.pool.statement_cache == 0 { 0 } else { UNBOUNDED };
        Ok(Self {
            // The session is set up by our own text, in the round trip that
            // asks for its facts; statements are logged by the layer above.
            options: options
                .statement_cache_capacity(capacity)
                .pipes_as_concat(false)
                .no_engine_substitution(false)
                .timezone(None)
                .set_names(false)
                .disable_statement_logging(),
            greeting: format!("{AUTOCOMMIT}; {}; {FACTS}", settings(query_timeout)).into(),
            restoring: restoring(Some(&settings(query_timeout))),
            statement_cache: config.pool.statement_cache,
            statement_limit: query_timeout,
            connect_timeout: config.pool.connect_timeout.get(),
            max_lifetime: config.pool.max_lifetime.get(),
            order: AtomicU64::new(0),
            connects: AtomicU64::new(0),
        })
    }

    /// Returns how many connections were made.
    pub(super) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// Makes a connection within the connect time-out.
    pub(super) async fn connect(&self) -> Result<Session, Refusal> {
        let started = self.order.fetch_add(1, Ordering::Relaxed);
        let Ok(session) = tokio::time::timeout(self.connect_timeout, self.log_in()).await else {
            return Err(Refusal::new(Reason::TimedOut(self.connect_timeout), None));
        };
        let mut session = session?;
        session.lifetime = self.max_lifetime.mul_f64(lifetime_factor());
        session.made = (started, self.order.fetch_add(1, Ordering::Relaxed));
        self.connects.fetch_add(1, Ordering::Relaxed);
        Ok(session)
    }

    async fn log_in(&self) -> Result<Session, Refusal> {
        let mut driver = self.options.connect().await.map_err(Refusal::from)?;
        let greeting = sqlx::raw_sql(AssertSqlSafe(Arc::clone(&self.greeting)));
        let row = driver.fetch_all(greeting).await.map_err(Refusal::from)?.pop();
        let facts = row.as_ref().and_then(Facts::read).ok_or_else(Refusal::unknown_server)?;
        facts.server.check()?;
        let cache = usize::try_from(self.statement_cache).unwrap_or(UNBOUNDED);
        let (limit, restoring) = (self.statement_limit, self.restoring.clone());
        Ok(Session::new(driver, facts.id, facts.server, facts.types, cache, limit, restoring))
    }
}

/// Leaves the options out: the driver's own `Debug` shows the password.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("connects", &self.connects).finish_non_exhaustive()
    }
}

pub(super) fn options(config: &MysqlConfig) -> Result<MySqlConnectOptions, &'static str> {
    const EXPECTED: &str = "expected mysql://user:password@host:port/database";
    let url = config.url.expose();
    let (scheme, _) = url.split_once("://").ok_or(EXPECTED)?;
    if !matches!(scheme, "mysql" | "mariadb") {
        return Err(EXPECTED);
    }
    let settings = url.split_once('?').map_or("", |(_, settings)| settings);
    let names = settings.split('&').filter(|part| !part.is_empty());
    if names
        .map(|part| part.split('=').next())
        .any(|name| !name.is_some_and(|name| URL_SETTINGS.contains(&name)))
    {
        return Err("expected no other settings than socket, ssl-mode, ssl-ca, ssl-cert and \
                    ssl-key");
    }
    let options: MySqlConnectOptions = url.parse().map_err(|_| EXPECTED)?;
    if options.get_database().is_none() {
        return Err(EXPECTED);
    }
    Ok(options)
}

/// Returns a factor of 0.9 to 1.1, so that connections made together are not
/// replaced together.
fn lifetime_factor() -> f64 {
    let random = RandomState::new().hash_one(0_u8) % 2001;
    0.9 + f64::from(u32::try_from(random).unwrap_or_default()) / 10_000.0
}

#[cfg(test)]
mod tests {
    use trine_core::Secret;

    use super::*;

    fn connector(url: &str) -> Result<Connector> {
        let config = MysqlConfig::new(Secret::new(url));
        Connector::new(&DatabaseName::Global, &config, Duration::from_secs(30))
    }

    #[test]
    fn a_connector_never_shows_its_password() {
        let connector = connector("mysql://me:hunter2@host/db?ssl-mode=REQUIRED").unwrap();
        assert!(!format!("{connector:?}").contains("hunter2"));
    }

    #[test]
    fn a_url_that_says_more_than_is_read_is_refused() {
        for good in ["mysql://me@host/db", "mariadb://me:p@host:1/db?socket=/run/s.sock&"] {
            assert!(connector(good).is_ok(), "{good}");
        }
        for bad in [
            "mysql://me@host",
            "mysql://me@host/",
            "mysql://me@host/db?timezone=local",
            "mysql://me@host/db?ssl_mode=REQUIRED",
            "http://me@host/db",
            "me@host/db",
        ] {
            assert!(connector(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lifetimes_differ_by_a_tenth_at_most() {
        for _ in 0..100 {
            assert!((0.9..=1.1).contains(&lifetime_factor()));
        }
    }
}
