use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::time::timeout;

use crate::account::Account;
use crate::engine;
use crate::error::{Error, Result};

/// Longest wait for the answer to anything the kit asks a server.
const BOUND: Duration = Duration::from_secs(10);
/// Pause before a killed connection is looked for again.
const KILL_AGAIN: Duration = Duration::from_millis(1);
/// The error number of a connection id that no connection has.
const NO_SUCH_THREAD: u16 = 1094;

/// Where a server is and as whom to talk to it.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Host and port as in a URL.
    authority: String,
    socket: Option<PathBuf>,
    /// What follows the question mark of the URL: TLS settings and the like.
    query: Option<String>,
    account: Account,
}

impl Endpoint {
    pub(super) fn new(addr: SocketAddr, socket: Option<PathBuf>, account: Account) -> Self {
        Self { authority: addr.to_string(), socket, query: None, account }
    }

    /// Returns the same server as somebody else sees it.
    pub(super) fn with_account(&self, account: Account) -> Self {
        Self { account, ..self.clone() }
    }

    /// Returns the same server behind another address.
    pub(super) fn via(&self, addr: SocketAddr) -> Self {
        Self { authority: addr.to_string(), ..self.clone() }
    }

    /// Returns the address behind the host and port.
    pub(super) async fn addr(&self) -> Result<SocketAddr> {
        let authority = self.authority.clone();
        // 3306 is what a URL without a port means.
        let has_port =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority } else { format!("{authority}:3306") };
        engine::run(async move {
            let mut found = tokio::net::lookup_host(&authority)
                .await
                .map_err(Error::io(format!("look up {authority}")))?;
            found.next().ok_or_else(|| Error::Invalid(format!("{authority} has no address")))
        })
        .await
    }

    pub(super) fn url(&self, database: &str) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let (name, password) = (self.account.name(), self.account.password());
        format!("mysql://{name}:{password}@{}/{database}{query}", self.authority)
    }

    pub(super) fn socket_url(&self, database: &str) -> Option<String> {
        let socket = self.socket.as_ref()?.to_str()?;
        let (name, password) = (self.account.name(), self.account.password());
        Some(format!("mysql://{name}:{password}@localhost/{database}?socket={socket}"))
    }
}

/// What the kit asks servers to do, over a connection per request: nothing is
/// kept that a kill or a restart could break.
#[derive(Clone)]
pub(super) struct Admin {
    url: String,
    endpoint: Endpoint,
}

impl Admin {
    /// Returns the administrator of a server that this crate set up.
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { url: endpoint.url("mysql"), endpoint }
    }

    /// Returns the administrator of a server that somebody gave us.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] if `url` is not a MySQL URL. The text
    /// leaves the URL out, because it holds a password.
    pub(super) fn from_url(url: &str) -> Result<Self> {
        let invalid = || Error::Invalid("expected mysql://user:password@host:port/".into());
        let rest = url.strip_prefix("mysql://").ok_or_else(invalid)?;
        url.parse::<MySqlConnectOptions>().map_err(|_| invalid())?;
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query.to_owned())),
            None => (rest, None),
        };
        let authority = place.split('/').next().unwrap_or_default();
        let authority = authority.rsplit('@').next().filter(|text| !text.is_empty());
        let endpoint = Endpoint {
            authority: authority.ok_or_else(invalid)?.to_owned(),
            socket: None,
            query,
            // Replaced for every database that is made there.
            account: Account::new("trine"),
        };
        Ok(Self { url: url.to_owned(), endpoint })
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Answers whether the server takes connections and statements now.
    pub(super) async fn ping(&self) -> Result<()> {
        self.with("ping the server", |mut connection| async move {
            connection.ping().await?;
            Ok((connection, ()))
        })
        .await
    }

    pub(super) async fn version(&self) -> Result<String> {
        self.with("read the server's version", |mut connection| async move {
            let version = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut connection).await?;
            Ok((connection, version))
        })
        .await
    }

    /// Carries out `statements` in order and stops at the first that fails.
    pub(super) async fn execute(
        &self,
        operation: &'static str,
        statements: Vec<String>,
    ) -> Result<()> {
        self.with(operation, |mut connection| async move {
            for statement in statements {
                // Names and passwords in it are hex digits made by this crate.
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
            }
            Ok((connection, ()))
        })
        .await
    }

    pub(super) async fn set_read_only(&self, read_only: bool) -> Result<()> {
        let statement = format!("SET GLOBAL read_only = {}", u8::from(read_only));
        self.execute("set read_only", vec![statement]).await
    }

    /// Returns the databases whose names start with `trine_test_`.
    pub(super) async fn test_databases(&self) -> Result<Vec<String>> {
        self.with("list databases", |mut connection| async move {
            let names = sqlx::query_scalar(
                "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA \
                 WHERE SCHEMA_NAME LIKE 'trine\\_test\\_%'",
            )
            .fetch_all(&mut connection)
            .await?;
            Ok((connection, names))
        })
        .await
    }

    /// Returns how many connections `user` has, or everybody but this account.
    pub(super) async fn threads(&self, user: Option<&str>) -> Result<usize> {
        let user = user.map(str::to_owned);
        self.with("count connections", |mut connection| async move {
            let threads = threads(&mut connection, user.as_deref()).await?;
            Ok((connection, threads.len()))
        })
        .await
    }

    /// Ends the connections of `user`, or of everybody but this account, waits
    /// until they are gone, and returns how many there were.
    pub(super) async fn kill_connections(&self, user: Option<&str>) -> Result<usize> {
        let user = user.map(str::to_owned);
        self.with("kill connections", |mut connection| async move {
            let ids = threads(&mut connection, user.as_deref()).await?;
            for id in &ids {
                // A killed connection is there until its thread has seen it.
                while kill(&mut connection, *id).await? {
                    tokio::time::sleep(KILL_AGAIN).await;
                }
            }
            Ok((connection, ids.len()))
        })
        .await
    }

    async fn with<T, W, F>(&self, operation: &'static str, work: W) -> Result<T>
    where
        W: FnOnce(MySqlConnection) -> F + Send + 'static,
        F: Future<Output = sqlx::Result<(MySqlConnection, T)>> + Send,
        T: Send + 'static,
    {
        let url = self.url.clone();
        let attempt = async move {
            let options: MySqlConnectOptions = url.parse()?;
            let (connection, answer) = work(options.connect().await?).await?;
            // The answer is there, whatever becomes of the connection.
            let _ = connection.close().await;
            Ok(answer)
        };
        engine::run(async move {
            match timeout(BOUND, attempt).await {
                Ok(answer) => answer.map_err(|error: sqlx::Error| Error::Server {
                    operation,
                    source: error.into(),
                }),
                Err(_) => Err(Error::TimedOut { operation: operation.into(), after: BOUND }),
            }
        })
        .await
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admin({})", self.endpoint.authority)
    }
}

fn is_gone(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<MySqlDatabaseError>()
        .is_some_and(|error| error.number() == NO_SUCH_THREAD)
}

/// Kills connection `id`, and answers whether there was one.
async fn kill(connection: &mut MySqlConnection, id: i64) -> sqlx::Result<bool> {
    match sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if is_gone(&*error) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn threads(connection: &mut MySqlConnection, user: Option<&str>) -> sqlx::Result<Vec<i64>> {
    // Connections of the kit's own account may still be on their way out.
    sqlx::query_scalar(
        "SELECT ID FROM information_schema.PROCESSLIST \
         WHERE IF(? IS NULL, USER <> SUBSTRING_INDEX(USER(), '@', 1), USER = ?) \
         AND USER NOT IN ('system user', 'event_scheduler') AND ID <> CONNECTION_ID()",
    )
    .bind(user)
    .bind(user)
    .fetch_all(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account::new("somebody")
    }

    #[test]
    fn urls_of_others_keep_their_place_and_their_settings() {
        let admin =
            Admin::from_url("mysql://root:p%40ss@db.example:3307/mysql?ssl-mode=REQUIRED").unwrap();
        let account = account();
        let url = admin.endpoint().with_account(account.clone()).url("trine_test_x");
        let password = account.password();
        let expected =
            format!("mysql://somebody:{password}@db.example:3307/trine_test_x?ssl-mode=REQUIRED");
        assert_eq!(url, expected);
    }

    #[test]
    fn what_is_not_a_mysql_url_is_refused_without_being_repeated() {
        for url in ["", "root:secret@host", "postgres://root:secret@host/", "mysql://"] {
            let error = Admin::from_url(url).unwrap_err().to_string();
            assert_eq!(error, "expected mysql://user:password@host:port/");
        }
    }

    #[test]
    fn debug_output_hides_passwords() {
        let admin = Admin::from_url("mysql://root:secret@host:1/").unwrap();
        assert!(!format!("{admin:?} {:?}", admin.endpoint()).contains("secret"));
        let account = account();
        let endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), None, account.clone());
        assert!(!format!("{endpoint:?}").contains(account.password()));
    }
}
