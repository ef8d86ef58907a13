use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::account::Account;
use crate::engine;
use crate::error::{Error, Result};
use crate::mariadb::admin::{Admin, Endpoint};
use crate::rng::entropy;

/// Older leftovers belong to nobody: tests take minutes.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// A database of one test, with an account of its own.
///
/// Named `trine_test_` and 16 hex digits; nothing else is ever dropped. It goes
/// when this is dropped, in the background, or with [`close`](Self::close);
/// what a killed process leaves on a server that outlives it goes when a later
/// process makes its first database there an hour or more later.
#[derive(Debug)]
pub struct TestDatabase {
    name: Name,
    admin: Admin,
    endpoint: Endpoint,
    is_closed: bool,
}

impl TestDatabase {
    pub(super) async fn create(admin: &Admin) -> Result<Self> {
        let name = Name::new();
        let account = Account::new(name.to_string());
        let statements = vec![
            format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4"),
            format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{}'", account.password()),
            // An underscore would stand for any character here.
            format!("GRANT ALL ON `{}`.* TO '{name}'@'%'", name.to_string().replace('_', "\\_")),
        ];
        let database = Self {
            name,
            endpoint: admin.endpoint().with_account(account),
            admin: admin.clone(),
            is_closed: false,
        };
        admin.execute("create a test database", statements).await?;
        Ok(database)
    }

    /// Returns its name, which is its account's too.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_string()
    }

    /// Returns its URL over TCP, password included.
    #[must_use]
    pub fn url(&self) -> String {
        self.endpoint.url(&self.name())
    }

    /// Returns its URL over the server's socket; `None` where there is none.
    #[must_use]
    pub fn socket_url(&self) -> Option<String> {
        self.endpoint.socket_url(&self.name())
    }

    /// Returns its URL by way of another address, such as a
    /// [`Proxy`](crate::Proxy)'s.
    #[must_use]
    pub fn url_via(&self, addr: SocketAddr) -> String {
        self.endpoint.via(addr).url(&self.name())
    }

    /// Returns the address of its server.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] if the server's name has no address.
    pub async fn addr(&self) -> Result<SocketAddr> {
        self.endpoint.addr().await
    }

    /// Returns how many connections its account has to the server.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn threads_connected(&self) -> Result<usize> {
        self.admin.threads(Some(&self.name())).await
    }

    /// Ends the connections of its account, waits until they are gone, and returns
    /// how many there were.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer.
    pub async fn kill_connections(&self) -> Result<usize> {
        self.admin.kill_connections(Some(&self.name())).await
    }

    /// Drops the database and its account now.
    ///
    /// # Errors
    ///
    /// Fails if the server does not answer; nothing is tried again.
    pub async fn close(mut self) -> Result<()> {
        self.is_closed = true;
        drop_database(&self.admin, self.name).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if !self.is_closed {
            let (admin, name) = (self.admin.clone(), self.name);
            engine::clean_up(async move {
                // A server that is gone has nothing to drop.
                let _ = drop_database(&admin, name).await;
            });
        }
    }
}

/// Drops the database called `name` with its account, if it is one of ours.
pub(super) async fn drop_named(admin: &Admin, name: &str) -> Result<()> {
    drop_database(admin, name.parse()?).await
}

async fn drop_database(admin: &Admin, name: Name) -> Result<()> {
    // The account first, so that nobody comes back; then its connections, whose
    // open transactions would block the rest.
    let account = vec![format!("DROP USER IF EXISTS '{name}'@'%'")];
    admin.execute("drop a test account", account).await?;
    admin.kill_connections(Some(&name.to_string())).await?;
    let database = vec![format!("DROP DATABASE IF EXISTS `{name}`")];
    admin.execute("drop a test database", database).await
}

/// Drops what killed processes have left, once per process.
pub(super) fn sweep_leftovers(admin: &Admin) {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        let admin = admin.clone();
        engine::clean_up(async move {
            let Ok(names) = admin.test_databases().await else {
                return;
            };
            let now = now();
            for name in names.iter().filter_map(|name| name.parse::<Name>().ok()) {
                if name.is_leftover(now) {
                    let _ = drop_database(&admin, name).await;
                }
            }
        });
    });
}

/// A name that says that this crate made the thing, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    /// Seconds since the Unix epoch.
    made_at: u32,
    number: u32,
}

impl Name {
    const PREFIX: &str = "trine_test_";

    fn new() -> Self {
        let made_at = u32::try_from(now().as_secs()).unwrap_or(u32::MAX);
        Self { made_at, number: u32::try_from(entropy() >> 32).unwrap_or_default() }
    }

    fn is_leftover(self, now: Duration) -> bool {
        let made_at = Duration::from_secs(self.made_at.into());
        now.checked_sub(made_at).is_some_and(|age| age > LEFTOVER_AGE)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08x}{:08x}", Self::PREFIX, self.made_at, self.number)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let foreign = || Error::ForeignDatabase { name: text.to_owned() };
        let digits = text.strip_prefix(Self::PREFIX).ok_or_else(foreign)?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 16 || !digits.bytes().all(is_hex) {
            return Err(foreign());
        }
        let half = |range| digits.get(range).and_then(|half| u32::from_str_radix(half, 16).ok());
        let made_at = half(0..8).ok_or_else(foreign)?;
        let number = half(8..16).ok_or_else(foreign)?;
        Ok(Self { made_at, number })
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_what_they_print() {
        let name = Name::new();
        assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        assert!(name.to_string().len() <= 32, "longer than an account name of MySQL");
    }

    #[test]
    fn names_of_others_are_refused() {
        let foreign = [
            "",
            "mysql",
            "production",
            "trine",
            "trine_test_",
            "trine_test_00000000",
            "trine_test_0123456789abcdeF",
            "trine_test_0123456789abcdef0",
            "trine_test_0123456789abcde`",
            "trine_test_+123456789abcdef",
            "xtrine_test_0123456789abcdef",
            "Trine_test_0123456789abcdef",
        ];
        for name in foreign {
            let error = name.parse::<Name>().unwrap_err();
            assert!(matches!(error, Error::ForeignDatabase { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn only_databases_older_than_an_hour_are_leftovers() {
        let name = |made_at| Name { made_at, number: 0 };
        let now = Duration::from_secs(1_000_000);
        assert!(name(996_000).is_leftover(now));
        assert!(!name(997_000).is_leftover(now));
        assert!(!name(1_000_100).is_leftover(now), "made by a clock that is ahead");
    }
}
