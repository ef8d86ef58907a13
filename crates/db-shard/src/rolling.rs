use std::collections::BTreeSet;
use std::ops::Range;

use crate::calendar::Date;
use crate::{Batch, Database, Error, Result, Sql, SqlText, Timestamp};

const MICROS_OF_DAY: i64 = 86_400_000_000;

/// The first of January of the year 1, a Monday, and the last day of 9999.
const FIRST_DAY: i64 = -719_162;
const LAST_DAY: i64 = 2_932_896;

/// What a table's name stands for in its text.
const TABLE: &str = "{table}";

const LIST: Sql = Sql::per_engine()
    .sqlite("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ?")
    .mysql(
        "SELECT table_name FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' AND table_name LIKE ?",
    );

/// How much time one table of a [`RollingTable`] covers, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Period {
    /// A day; names end with `_YYYYMMDD`.
    Daily,
    /// A week from Monday on, as ISO 8601 has it; names end with `_YYYYMMDD`
    /// of that Monday.
    Weekly,
    /// A month; names end with `_YYYYMM`.
    Monthly,
}

impl Period {
    /// Returns the number of the period that `day` is in.
    fn of_day(self, day: i64) -> i64 {
        match self {
            Self::Daily => day,
            // The first of January 1970 was a Thursday.
            Self::Weekly => (day + 3).div_euclid(7),
            Self::Monthly => {
                let date = Date::from_days(day);
                date.year * 12 + date.month - 1
            }
        }
    }

    /// Returns the first day of a period.
    fn first_day(self, period: i64) -> Date {
        match self {
            Self::Daily => Date::from_days(period),
            Self::Weekly => Date::from_days(period * 7 - 3),
            Self::Monthly => {
                Date { year: period.div_euclid(12), month: period.rem_euclid(12) + 1, day: 1 }
            }
        }
    }

    fn suffix(self, period: i64) -> String {
        let Date { year, month, day } = self.first_day(period);
        match self {
            Self::Daily | Self::Weekly => format!("{year:04}{month:02}{day:02}"),
            Self::Monthly => format!("{year:04}{month:02}"),
        }
    }

    /// Returns the period whose suffix this is.
    fn parse(self, suffix: &str) -> Option<i64> {
        let number = |range: Range<usize>| suffix.get(range)?.parse::<i64>().ok();
        let (year, month) = (number(0..4)?, number(4..6)?);
        let day = if self == Self::Monthly { 1 } else { number(6..8)? };
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let period = self.of_day(Date { year, month, day }.to_days());
        // What is no date, no Monday or longer comes out as another text.
        (self.suffix(period) == suffix).then_some(period)
    }
}

/// A table for each period of time: made ahead, and dropped as a whole once its
/// time is over, which costs less than deleting its rows.
///
/// Use each prefix for one rolling table only: whatever table has the prefix,
/// an underscore and a date of the period is taken for one of its tables.
///
/// # Example
///
/// ```
/// use trine_db_shard::{Database, Period, Result, RollingTable, Sql};
///
/// let logins = RollingTable::new(
///     "login",
///     Period::Monthly,
///     Sql::per_engine()
///         .sqlite("CREATE TABLE {table} (account_id INTEGER, at INTEGER)")
///         .mysql("CREATE TABLE {table} (account_id BIGINT, at DATETIME(6), KEY (at))"),
/// )?
/// .with_also(Sql::per_engine().sqlite("CREATE INDEX {table}_at ON {table} (at)"))
/// .with_ahead(2)
/// .with_retention(12);
/// assert_eq!(logins.table_for(std::time::UNIX_EPOCH), "login_197001");
///
/// async fn daily(db: &Database, logins: &RollingTable) -> Result<()> {
///     let now = std::time::SystemTime::now();
///     logins.ensure(db, now).await?;
///     logins.drop_expired(db, now).await?;
///     Ok(())
/// }
/// # Ok::<(), trine_db_shard::InvalidRollingTable>(())
/// ```
#[derive(Clone, Debug)]
pub struct RollingTable {
    prefix: Box<str>,
    period: Period,
    create: Sql,
    also: Vec<Sql>,
    ahead: u32,
    retention: Option<u32>,
}

/// A prefix that no rolling table can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "prefix `{prefix}`: expected 1 to {} of a-z, 0-9 and `_`, no digit first",
    RollingTable::MAX_PREFIX
)]
pub struct InvalidRollingTable {
    prefix: Box<str>,
}

impl RollingTable {
    /// Longest prefix in bytes: the whole name has at most 64.
    pub const MAX_PREFIX: usize = 55;

    /// Returns the tables that are called `prefix`, an underscore and a date.
    /// `create` makes one of them, which it calls `{table}`.
    ///
    /// Tables are made one period ahead and never dropped, unless told
    /// otherwise.
    ///
    /// # Errors
    ///
    /// Fails unless the prefix is an identifier in lower case, which every
    /// engine and file system leaves as it is.
    pub fn new(
        prefix: impl Into<Box<str>>,
        period: Period,
        create: Sql,
    ) -> Result<Self, InvalidRollingTable> {
        let prefix = prefix.into();
        let is_part = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        let begins_well = prefix.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !begins_well || prefix.len() > Self::MAX_PREFIX || !prefix.bytes().all(is_part) {
            return Err(InvalidRollingTable { prefix });
        }
        Ok(Self { prefix, period, create, also: Vec::new(), ahead: 1, retention: None })
    }

    /// Adds a statement that runs with the creation of a table, such as one for
    /// an index; left out on engines that it has no text for.
    ///
    /// Only engines that can roll back a change of the schema take one: on
    /// MySQL, write keys into the `CREATE TABLE`.
    #[must_use]
    pub fn with_also(mut self, statement: Sql) -> Self {
        self.also.push(statement);
        self
    }

    /// Sets for how many periods after the present one tables are made.
    #[must_use]
    pub fn with_ahead(mut self, periods: u32) -> Self {
        self.ahead = periods;
        self
    }

    /// Sets how many periods before the present one are kept.
    #[must_use]
    pub fn with_retention(mut self, periods: u32) -> Self {
        self.retention = Some(periods);
        self
    }

    /// Returns the name of the table for `time`. Times outside of the years 1
    /// to 9999 count as the first or the last day.
    #[must_use]
    pub fn table_for(&self, time: impl Into<Timestamp>) -> String {
        self.name(self.period_of(time.into()))
    }

    /// Returns the names of the tables for all times from `from` up to `to`,
    /// `to` itself excluded, in order. Not all of them need to be there.
    pub fn tables_between(
        &self,
        from: impl Into<Timestamp>,
        to: impl Into<Timestamp>,
    ) -> impl Iterator<Item = String> {
        let (from, to) = (from.into(), to.into());
        let last = self.period_of(Timestamp::from_micros(to.as_micros().saturating_sub(1)));
        let periods = if from < to { self.period_of(from)..last + 1 } else { 0..0 };
        periods.map(|period| self.name(period))
    }

    /// Makes the tables for the present period and those ahead, and returns
    /// what it made. Any number of processes may do so at the same time.
    ///
    /// # Errors
    ///
    /// Fails with `Invalid` for a text that is missing or does not create
    /// `{table}`, and with the errors of the database; tables that were made
    /// stay.
    pub async fn ensure(
        &self,
        database: &Database,
        now: impl Into<Timestamp>,
    ) -> Result<Vec<String>> {
        let first = self.period_of(now.into());
        let last = first.saturating_add(self.ahead.into()).min(self.period.of_day(LAST_DAY));
        let existing = self.existing(database).await?;
        let mut made = Vec::new();
        for period in (first..=last).filter(|period| !existing.contains(period)) {
            let name = self.name(period);
            match self.make(database, &name).await {
                Ok(()) => made.push(name),
                // Somebody else was faster.
                Err(_) if self.existing(database).await?.contains(&period) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Drops the tables whose period is older than those to keep, with all of
    /// their rows, and returns their names. Without a retention it does
    /// nothing.
    ///
    /// What is dropped depends on `now`: take it from a clock that is right.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database; what was dropped stays dropped.
    pub async fn drop_expired(
        &self,
        database: &Database,
        now: impl Into<Timestamp>,
    ) -> Result<Vec<String>> {
        let Some(retention) = self.retention else {
            return Ok(Vec::new());
        };
        let first = self.period_of(now.into()).saturating_sub(retention.into());
        let mut dropped = Vec::new();
        for period in self.existing(database).await?.range(..first) {
            let name = self.name(*period);
            // An identifier followed by digits: nothing to quote.
            database.execute(Sql::dynamic(format!("DROP TABLE IF EXISTS {name}")), ()).await?;
            dropped.push(name);
        }
        Ok(dropped)
    }

    async fn make(&self, database: &Database, name: &str) -> Result<()> {
        let refuse = |detail| Err(Error::invalid(database.at("rolling.ensure"), detail));
        let Some(create) = self.create.text(database.engine()) else {
            return refuse(format!("{name}: there is no text for {}", database.engine()));
        };
        if !create.trim_start().starts_with("CREATE TABLE") || !create.contains(TABLE) {
            return refuse(format!(
                "{name}: expected a text that begins with CREATE TABLE {TABLE}"
            ));
        }
        let also = self.also.iter().filter_map(|sql| sql.text(database.engine()));
        let mut texts: Vec<_> = also.collect();
        if !texts.is_empty() && !database.capabilities().transactional_schema {
            let expected = "what belongs to the table has to stand in its CREATE TABLE";
            return refuse(format!("{name}: {expected} on {}", database.engine()));
        }
        texts.insert(0, create);
        let texts = texts.iter().map(|text| Sql::dynamic(text.replace(TABLE, name)));
        let mut texts: Vec<SqlText> = texts.collect();
        if texts.len() > 1 {
            let batch = texts.into_iter().fold(Batch::new(), |batch, text| batch.with(text, ()));
            database.execute_all(batch).await?;
        } else if let Some(create) = texts.pop() {
            database.execute(create, ()).await?;
        }
        Ok(())
    }

    /// Returns the periods that have a table.
    async fn existing(&self, database: &Database) -> Result<BTreeSet<i64>> {
        // The underscores of the prefix stand for any character here: what
        // counts is the exact name, below.
        let names: Vec<String> = database.query(LIST, (format!("{}%", self.prefix),)).await?;
        Ok(names.iter().filter_map(|name| self.parse(name)).collect())
    }

    fn name(&self, period: i64) -> String {
        format!("{}_{}", self.prefix, self.period.suffix(period))
    }

    fn parse(&self, name: &str) -> Option<i64> {
        self.period.parse(name.strip_prefix(&*self.prefix)?.strip_prefix('_')?)
    }

    fn period_of(&self, time: Timestamp) -> i64 {
        let day = time.as_micros().div_euclid(MICROS_OF_DAY);
        self.period.of_day(day.clamp(FIRST_DAY, LAST_DAY))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    const CREATE: Sql = Sql::portable("CREATE TABLE {table} (a INT)");

    fn rolling(period: Period) -> RollingTable {
        RollingTable::new("log_x", period, CREATE).unwrap()
    }

    fn day(days: u64) -> Timestamp {
        (UNIX_EPOCH + Duration::from_secs(days * 86_400)).into()
    }

    #[test]
    fn names_carry_the_first_day_of_the_period() {
        // Saturday, the 21st of November 2026.
        let time = day(20_778).plus(Duration::from_secs(86_399));
        assert_eq!(rolling(Period::Daily).table_for(time), "log_x_20261121");
        assert_eq!(rolling(Period::Weekly).table_for(time), "log_x_20261116");
        assert_eq!(rolling(Period::Monthly).table_for(time), "log_x_202611");
        assert_eq!(rolling(Period::Weekly).table_for(day(0)), "log_x_19691229");
    }

    #[test]
    fn times_beyond_the_calendar_have_a_table_as_well() {
        for micros in [i64::MIN, i64::MAX] {
            for period in [Period::Daily, Period::Weekly, Period::Monthly] {
                let rolling = rolling(period);
                let name = rolling.table_for(Timestamp::from_micros(micros));
                assert!(rolling.parse(&name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn a_span_has_every_table_it_touches() {
        let monthly = rolling(Period::Monthly);
        let names: Vec<_> = monthly.tables_between(day(0), day(59)).collect();
        assert_eq!(names, ["log_x_197001", "log_x_197002"]);
        let names: Vec<_> = monthly.tables_between(day(0), day(60)).collect();
        assert_eq!(names.len(), 3);
        assert_eq!(monthly.tables_between(day(5), day(5)).count(), 0);
        assert_eq!(monthly.tables_between(day(5), day(4)).count(), 0);
    }

    #[test]
    fn only_exact_names_are_taken_for_ours() {
        let daily = rolling(Period::Daily);
        assert!(daily.parse("log_x_20261121").is_some());
        for name in [
            "log_x",
            "log_x_",
            "log_x_2026112",
            "log_x_202611210",
            "log_x_20261131",
            "log_x_20260229",
            "log_x_20261300",
            "log_x_2026112a",
            "log_x_+2261121",
            "log_x_20261121 ",
            "LOG_X_20261121",
            "logyx_20261121",
            "xlog_x_20261121",
            "log_x_y_20261121",
            "log_x_２０２６１１",
        ] {
            assert_eq!(daily.parse(name), None, "{name}");
        }
        let weekly = rolling(Period::Weekly);
        assert!(weekly.parse("log_x_20261116").is_some());
        assert_eq!(weekly.parse("log_x_20261121"), None, "a Saturday");
        assert_eq!(rolling(Period::Monthly).parse("log_x_202613"), None);
    }

    #[test]
    fn a_prefix_that_is_no_identifier_is_refused() {
        for prefix in ["", "1a", "a b", "a`", "A", "ä", "a;drop", &"a".repeat(56)] {
            let error = RollingTable::new(prefix, Period::Daily, CREATE).unwrap_err();
            assert!(error.to_string().contains("expected 1 to 55"), "{error}");
        }
        assert!(RollingTable::new("a".repeat(55), Period::Daily, CREATE).is_ok());
    }

    proptest! {
        #[test]
        fn every_name_is_read_as_its_period(days in 0_i64..3_600_000) {
            let time = Timestamp::from_micros((FIRST_DAY + days) * MICROS_OF_DAY);
            for period in [Period::Daily, Period::Weekly, Period::Monthly] {
                let rolling = rolling(period);
                let number = rolling.period_of(time);
                prop_assert_eq!(rolling.parse(&rolling.table_for(time)), Some(number));
            }
        }

        #[test]
        fn a_week_has_seven_days_and_begins_on_monday(days in -700_000_i64..2_900_000) {
            let week = Period::Weekly.of_day(days);
            let monday = Period::Weekly.first_day(week).to_days();
            prop_assert!((0..7).contains(&(days - monday)));
            // The fifth of January 1970 was a Monday.
            prop_assert_eq!((monday - 4).rem_euclid(7), 0);
        }
    }
}
