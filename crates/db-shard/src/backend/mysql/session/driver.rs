use std::ops::{Deref, DerefMut};
#[cfg(feature = "sqlx-0_9")]
use std::sync::Arc;
#[cfg(feature = "sqlx-0_9")]
use std::sync::atomic::AtomicU64;

use sqlx::mysql::MySqlConnection;

/// The driver's connection, and who closes it.
pub(super) enum Driver {
    Own(MySqlConnection),
    /// Borrowed, with the count of those that were closed instead of given
    /// back.
    #[cfg(feature = "sqlx-0_9")]
    Host(sqlx::pool::PoolConnection<sqlx::MySql>, Arc<AtomicU64>),
}

impl Deref for Driver {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        match self {
            Self::Own(connection) => connection,
            #[cfg(feature = "sqlx-0_9")]
            Self::Host(connection, _) => connection,
        }
    }
}

impl DerefMut for Driver {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        match self {
            Self::Own(connection) => connection,
            #[cfg(feature = "sqlx-0_9")]
            Self::Host(connection, _) => connection,
        }
    }
}
