use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use super::refusal::{Reason, Refusal};

const MIN_MYSQL: (u32, u32, u32) = (8, 0, 1);
const MIN_MARIADB: (u32, u32, u32) = (10, 6, 0);

/// Which of the two servers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    Mysql,
    MariaDb,
}

type Version = (u32, u32, u32);

impl Product {
    /// Reads what `VERSION()` answers, such as `10.11.6-MariaDB-log`.
    pub(super) fn read(text: &str) -> Option<(Self, Version)> {
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

    pub(super) fn limit_setting(self, limit: Duration) -> String {
        match self {
            Self::Mysql => format!("max_execution_time = {}", limit.as_millis().max(1)),
            Self::MariaDb => format!("max_statement_time = {:.3}", limit.as_secs_f64().max(0.001)),
        }
    }

    /// Returns the text that lets each statement of the session run for `limit`.
    /// MySQL bounds only what reads.
    pub(crate) fn statement_limit(self, limit: Duration) -> SqlStr {
        AssertSqlSafe(format!("SET SESSION {}", self.limit_setting(limit))).into_sql_str()
    }
}

/// The server process at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) product: Product,
    pub(super) version: Version,
    /// Differs between servers, and between two runs of one: who it is, the
    /// second it was started in, and the clock sequence of its UUIDs, which is
    /// drawn at each start.
    pub(crate) identity: Box<str>,
    /// A lock wait that times out ends the transaction, not the statement.
    pub(crate) rolls_back_on_lock_wait: bool,
}

impl Server {
    /// Returns product and version, such as `MariaDB 10.11.6`.
    pub(crate) fn version(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{} {major}.{minor}.{patch}", self.product.name())
    }

    pub(crate) fn check(&self) -> Result<(), Refusal> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
