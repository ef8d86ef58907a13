use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use trine_db_shard::{DbService, Sql, Timestamp};

use crate::error::Result;

/// Counts what there is, once a day.
#[derive(Clone, Debug)]
pub(crate) struct Statistics {
    db: DbService,
}

/// What there was when it was last counted on a day.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct DayFacts {
    /// The day's beginning, in UTC.
    pub(crate) day: Timestamp,
    pub(crate) accounts: u64,
    pub(crate) documents: u64,
    /// Of all documents together.
    pub(crate) bytes: u64,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// MySQL's sum of integers is a decimal number.
const STORED: Sql = Sql::per_engine()
    .sqlite("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM document")
    .mysql("SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS UNSIGNED) FROM document");

const UPSERT: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO statistics (day, accounts, documents, bytes) VALUES (?, ?, ?, ?) \
         ON CONFLICT (day) DO UPDATE SET accounts = excluded.accounts, \
         documents = excluded.documents, bytes = excluded.bytes",
    )
    .mysql(
        "INSERT INTO statistics (day, accounts, documents, bytes) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE accounts = VALUES(accounts), \
         documents = VALUES(documents), bytes = VALUES(bytes)",
    );

impl Statistics {
    /// Most days that are told of.
    pub(crate) const MAX_DAYS: u32 = 400;

    /// Removes at most so many days that are longer ago than the
    /// [days](Self::MAX_DAYS) that are told of, by the clock of the global
    /// database, where they are.
    pub(crate) const EXPIRED: Sql = Sql::per_engine()
        .sqlite(
            "DELETE FROM statistics WHERE day IN (SELECT day FROM statistics \
             WHERE day < (unixepoch() - 400 * 86400) * 1000000 ORDER BY day LIMIT ?)",
        )
        .mysql(
            "DELETE FROM statistics WHERE day < UTC_TIMESTAMP(6) - INTERVAL 400 DAY \
             ORDER BY day LIMIT ?",
        );

    pub(crate) fn new(db: DbService) -> Self {
        Self { db }
    }

    /// Counts what there is now, for the day of `moment`: again on the same day,
    /// or by an attempt whose tick was given on, it replaces the numbers.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the databases: what a shard did not tell is in
    /// no sum.
    pub(crate) async fn count(&self, moment: SystemTime) -> Result<()> {
        let global = self.db.global();
        let accounts: u64 = global.query_one("SELECT COUNT(*) FROM account", ()).await?;
        let stored = self.db.fan_out().query::<(u64, u64)>(STORED, ()).await?.into_complete()?;
        let (documents, bytes) = stored.into_iter().fold((0_u64, 0_u64), |sum, shard| {
            (sum.0.saturating_add(shard.0), sum.1.saturating_add(shard.1))
        });
        global.execute(UPSERT, (day_of(moment), accounts, documents, bytes)).await?;
        Ok(())
    }

    /// Returns the latest days, the last one first.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the global database.
    pub(crate) async fn days(&self) -> Result<Vec<DayFacts>> {
        let days = self.db.global().query(
            "SELECT day, accounts, documents, bytes FROM statistics ORDER BY day DESC LIMIT ?",
            (Self::MAX_DAYS,),
        );
        Ok(days.await?)
    }
}

/// Returns when the day of `moment` begins, in UTC.
fn day_of(moment: SystemTime) -> Timestamp {
    let seconds = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = Duration::from_secs(seconds - seconds % DAY.as_secs());
    (UNIX_EPOCH + since).into()
}

#[cfg(test)]
mod tests {
    use trine_core::Rfc3339;
    use trine_db_shard::DbConfig;

    use super::*;
    use crate::schema;

    #[test]
    fn a_day_begins_at_midnight() {
        let shown = |seconds| {
            let day = day_of(UNIX_EPOCH + Duration::from_secs(seconds));
            Rfc3339(day.into()).to_string()
        };
        assert_eq!(shown(1_709_251_199), "2024-02-29T00:00:00.000Z");
        assert_eq!(shown(1_709_251_200), "2024-03-01T00:00:00.000Z");
    }

    #[tokio::test]
    async fn a_day_is_counted_once_and_goes_when_it_is_long_ago() {
        let folder = tempfile::tempdir().unwrap();
        let config = DbConfig::sqlite(folder.path(), 2);
        let migrated = trine_db_shard::migrate(&config, &schema::migrations()).await.unwrap();
        assert!(migrated.is_complete());
        let db = DbService::connect(&config).await.unwrap();
        let statistics = Statistics::new(db.clone());
        let now = SystemTime::now();
        let long_ago = now - DAY * 402;
        for moment in [now, long_ago, now] {
            statistics.count(moment).await.unwrap();
        }
        let shard = db.shard(1_u32).unwrap();
        let insert = "INSERT INTO document (account_id, id, name, bytes, words, updated_at) \
                      VALUES (x'01', x'02', 'a', 7, 1, 0)";
        shard.execute(insert, ()).await.unwrap();
        statistics.count(now).await.unwrap();
        let days = statistics.days().await.unwrap();
        let of = |moment, documents, bytes| DayFacts {
            day: day_of(moment),
            accounts: 0,
            documents,
            bytes,
        };
        assert_eq!(days, [of(now, 1, 7), of(long_ago, 0, 0)]);
        let removed = db.global().execute(Statistics::EXPIRED, (10,)).await.unwrap();
        assert_eq!(removed.affected, 1);
        assert_eq!(statistics.days().await.unwrap(), [of(now, 1, 7)]);
    }
}
