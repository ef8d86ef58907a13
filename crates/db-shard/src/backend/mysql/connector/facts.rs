use sqlx::mysql::MySqlRow;
use sqlx::{Column as _, Row as _};

use super::server::{Product, Server};
use crate::backend::mysql::encode::NativeTypes;

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

/// What [`Facts`] are read from.
pub(super) const FACTS: &str = facts!("");

/// The same, with what a host's session has to be like.
#[cfg(feature = "sqlx-0_9")]
pub(crate) const HOST_FACTS: &str =
    facts!(", @@autocommit, @@time_zone, @@system_time_zone, @@character_set_client, @@sql_mode");

/// What a connection answered about itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: u64,
    pub(crate) server: Server,
    pub(crate) types: NativeTypes,
}

impl Facts {
    pub(crate) fn read(row: &MySqlRow) -> Option<Self> {
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
    pub(crate) fn complaint(row: &MySqlRow) -> Option<String> {
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
