use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions as _, Executor as _, Row as _};
use sqlx::{SqlSafeStr as _, SqlStr};

use super::encode::NativeTypes;
use super::session::Session;
use super::translate::number;
use crate::error::At;
use crate::{DatabaseName, Error, MysqlConfig, Result, Unavailable};

/// What the query of a URL may set; the rest belongs to the configuration.
const URL_SETTINGS: [&str; 5] = ["socket", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key"];
const MIN_MYSQL: (u32, u32, u32) = (8, 0, 1);
const MIN_MARIADB: (u32, u32, u32) = (10, 6, 0);
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

/// The comments are read by one of the two products only.
macro_rules! facts {
    ($more:literal) => {
        concat!(
            "SELECT CONNECTION_ID(), VERSION(), \
             CONCAT_WS('/', /*!80000 @@server_uuid, */ @@hostname, @@port, UNIX_TIMESTAMP() - \
             (SELECT VARIABLE_VALUE FROM /*M! information_schema.GLOBAL_STATUS */ \
             /*!80000 performance_schema.global_status */ WHERE VARIABLE_NAME = 'UPTIME'), \
             SUBSTRING(UUID(), 20, 4)), \
             @@innodb_rollback_on_timeout, NOW(6), CAST(0 AS DECIMAL(65, 30))",
            $more
        )
    };
}

const AUTOCOMMIT: &str = "SET autocommit = 1";

/// Returns the text that undoes what a procedure may have done to a session:
/// with these settings, or with those of a host, which are its own.
///
/// Without an open transaction, and with autocommit, the text fails at the
/// release of its savepoint. Autocommit comes last: to turn it on would commit
/// what is open.
pub(super) fn restoring(settings: Option<&str>) -> SqlStr {
    let settings = settings.unwrap_or("SET completion_type = 0");
    let text = format!(
        "DO RELEASE_ALL_LOCKS(); {settings}; SAVEPOINT trine_call; RELEASE SAVEPOINT trine_call; \
         ROLLBACK; {AUTOCOMMIT}"
    );
    AssertSqlSafe(text).into_sql_str()
}

fn settings(query_timeout: Duration) -> String {
    let lock_wait = (query_timeout / 2).as_secs().clamp(1, 3600);
    let seconds = query_timeout.as_secs().max(1);
    let mariadb = Product::MariaDb.limit_setting(query_timeout);
    let mysql = Product::Mysql.limit_setting(query_timeout);
    format!(
        "SET NAMES utf8mb4; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET completion_type = 0, time_zone = '+00:00', innodb_lock_wait_timeout = {lock_wait}, \
         lock_wait_timeout = {seconds}, \
         sql_mode = 'PIPES_AS_CONCAT,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
         ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION' \
         /*M! , {mariadb} */ /*!80000 , {mysql} */"
    )
}

/// What [`Facts`] are read from.
const FACTS: &str = facts!("");

/// The same, with what a host's session has to be like.
#[cfg(feature = "sqlx-0_9")]
pub(super) const HOST_FACTS: &str =
    facts!(", @@autocommit, @@time_zone, @@system_time_zone, @@character_set_client, @@sql_mode");

/// What a connection answered about itself.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) id: u64,
    pub(super) server: Server,
    pub(super) types: NativeTypes,
}

impl Facts {
    pub(super) fn read(row: &MySqlRow) -> Option<Self> {
        let text = |column: usize| row.try_get_unchecked::<&str, _>(column).ok();
        let kind = |column: usize| Some(row.columns().get(column)?.type_info().clone());
        let (product, version) = Product::read(text(1)?)?;
        Some(Self {
            id: text(0)?.parse().ok()?,
            server: Server {
                product,
                version,
                identity: text(2)?.into(),
                rolls_back_on_lock_wait: text(3)? != "0",
            },
            types: NativeTypes { datetime: kind(4)?, decimal: kind(5)? },
        })
    }

    /// Returns what of a host's session would change the meaning of statements
    /// or values.
    #[cfg(feature = "sqlx-0_9")]
    pub(super) fn complaint(row: &MySqlRow) -> Option<String> {
        let text = |column: usize| row.try_get_unchecked::<&str, _>(column).unwrap_or_default();
        let [autocommit, zone, system, charset, modes] = [6, 7, 8, 9, 10].map(text);
        let zone = if zone == "SYSTEM" { system } else { zone };
        let mode = modes.split(',').find(|m| matches!(*m, "ANSI_QUOTES" | "NO_BACKSLASH_ESCAPES"));
        let (setting, found, expected) = if autocommit != "1" {
            ("autocommit", autocommit, "1")
        } else if !matches!(zone, "+00:00" | "UTC") {
            ("time_zone", zone, "+00:00")
        } else if charset != "utf8mb4" {
            ("character_set_client", charset, "utf8mb4")
        } else {
            ("sql_mode", mode?, "none that changes how strings are read")
        };
        Some(format!("the sessions of the pool have {setting} {found}: expected {expected}"))
    }
}

/// Which of the two servers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    Mysql,
    MariaDb,
}

type Version = (u32, u32, u32);

impl Product {
    /// Reads what `VERSION()` answers, such as `10.11.6-MariaDB-log`.
    fn read(text: &str) -> Option<(Self, Version)> {
        let product = if text.contains("MariaDB") { Self::MariaDb } else { Self::Mysql };
        // Some proxies put a version before MariaDB's own.
        let text = text.strip_prefix("5.5.5-").unwrap_or(text);
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some((product, (next()?, next()?, next().unwrap_or(0))))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mysql => "MySQL",
            Self::MariaDb => "MariaDB",
        }
    }

    fn limit_setting(self, limit: Duration) -> String {
        match self {
            Self::Mysql => format!("max_execution_time = {}", limit.as_millis().max(1)),
            Self::MariaDb => format!("max_statement_time = {:.3}", limit.as_secs_f64().max(0.001)),
        }
    }

    /// Returns the text that lets each statement of the session run for `limit`.
    /// MySQL bounds only what reads.
    pub(super) fn statement_limit(self, limit: Duration) -> SqlStr {
        AssertSqlSafe(format!("SET SESSION {}", self.limit_setting(limit))).into_sql_str()
    }
}

/// The server process at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) product: Product,
    version: Version,
    /// Differs between servers, and between two runs of one: who it is, the
    /// second it was started in, and the clock sequence of its UUIDs, which is
    /// drawn at each start.
    pub(super) identity: Box<str>,
    /// A lock wait that times out ends the transaction, not the statement.
    pub(super) rolls_back_on_lock_wait: bool,
}

impl Server {
    /// Returns product and version, such as `MariaDB 10.11.6`.
    pub(super) fn version(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{} {major}.{minor}.{patch}", self.product.name())
    }

    pub(super) fn check(&self) -> Result<(), Refusal> {
        let minimum = match self.product {
            Product::Mysql => MIN_MYSQL,
            Product::MariaDb => MIN_MARIADB,
        };
        if self.version < minimum {
            return Err(Refusal::new(Reason::Unsupported(self.version().into()), None));
        }
        Ok(())
    }
}

/// Why no connection could be made. Callers that come soon after get the same
/// one without another attempt.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    reason: Reason,
    cause: Option<Arc<sqlx::Error>>,
}

#[derive(Clone, Debug)]
enum Reason {
    Unreachable,
    TimedOut(Duration),
    /// The server answered that it takes no more.
    Busy,
    Denied,
    /// The two do not understand each other.
    Misunderstood,
    /// The configuration names what is not there.
    Misnamed,
    Unsupported(Arc<str>),
}

impl Refusal {
    fn new(reason: Reason, cause: Option<Arc<sqlx::Error>>) -> Self {
        Self { reason, cause }
    }

    pub(super) fn unknown_server() -> Self {
        Self::new(Reason::Unsupported("a server that does not tell its version".into()), None)
    }

    /// Returns the error for a call that needed the connection.
    pub(super) fn into_error(self, at: At) -> Error {
        let reason = match &self.reason {
            Reason::Unreachable | Reason::TimedOut(_) | Reason::Misunderstood => {
                Unavailable::Unreachable
            }
            Reason::Busy => Unavailable::Refused,
            Reason::Denied => return Error::Denied { at, cause: Box::new(self) },
            Reason::Misnamed | Reason::Unsupported(_) => {
                let detail = self.to_string().into();
                let cause = self.cause.map(|cause| Box::new(cause) as _);
                return Error::Invalid { at, detail, cause };
            }
        };
        Error::Unavailable { at, reason, cause: Some(Box::new(self)) }
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        let reason = match number(&error) {
            Some(1044 | 1045 | 1698 | 1251 | 1862 | 1820 | 3118 | 4151) => Reason::Denied,
            Some(1049) => Reason::Misnamed,
            Some(_) => Reason::Busy,
            None if matches!(error, sqlx::Error::Io(_)) => Reason::Unreachable,
            None => Reason::Misunderstood,
        };
        Self::new(reason, Some(Arc::new(error)))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Unreachable => f.write_str("no connection could be made"),
            Reason::TimedOut(after) => {
                write!(f, "no connection could be made in {after:?} (pool.connect_timeout)")
            }
            Reason::Busy => f.write_str("the server refused the connection"),
            Reason::Denied => f.write_str("the server refused the account"),
            Reason::Misunderstood => f.write_str(
                "the login failed; an account with caching_sha2_password needs TLS or the socket",
            ),
            Reason::Misnamed => f.write_str("the server has no database of this name"),
            Reason::Unsupported(found) => {
                write!(f, "expected MySQL 8.0.1 or MariaDB 10.6 or newer, found {found}")
            }
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
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
    fn old_servers_are_refused_and_named() {
        let check = |text: &str| {
            let (product, version) = Product::read(text).unwrap();
            let identity = "".into();
            let server = Server { product, version, identity, rolls_back_on_lock_wait: false };
            server.check().map_err(|refusal| refusal.to_string())
        };
        for good in
            ["8.0.1", "8.4.3-log", "10.6.0-MariaDB", "5.5.5-10.11.6-MariaDB-1:10.11.6+maria"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, named) in [
            ("5.7.44-log", "MySQL 5.7.44"),
            ("8.0.0", "MySQL 8.0.0"),
            ("10.5.29-MariaDB", "MariaDB 10.5.29"),
        ] {
            assert!(check(bad).unwrap_err().ends_with(named), "{bad}");
        }
        assert!(Product::read("unknown").is_none());
    }

    #[test]
    fn lifetimes_differ_by_a_tenth_at_most() {
        for _ in 0..100 {
            assert!((0.9..=1.1).contains(&lifetime_factor()));
        }
    }
}
