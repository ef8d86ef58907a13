use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trine_core::{BoxError, Clock};
use trine_db_shard::{
    Batch, Database, Engine, Error as DbError, Param, ServerFacts, Sql, Timestamp, list, rows,
};
use uuid::Uuid;

use super::attempts::Attempts;
use crate::backend::record::{Micros, Now, Record};
use crate::{Key, Page, Result};

/// In how many parts the tokens of a service are counted: so many that grants
/// of different keys rarely meet, and so few that no key leaves a row.
const PARTS: u64 = 256;

/// The form of the records that are written here.
const FORM: u8 = 1;

const LOOK: Sql = Sql::per_engine()
    .sqlite(
        "SELECT t.last, l.stamp, l.record, NULL AS read_at FROM trine_lock_token t \
         LEFT JOIN trine_lock l ON l.service = t.service AND l.lock_key = ? \
         WHERE t.service = ? AND t.part = ?",
    )
    .mysql(
        "SELECT t.last, l.stamp, l.record, UTC_TIMESTAMP(6) AS read_at FROM trine_lock_token t \
         LEFT JOIN trine_lock l ON l.service = t.service AND l.lock_key = ? \
         WHERE t.service = ? AND t.part = ?",
    );

const LOOK_MANY: Sql = Sql::per_engine()
    .sqlite(
        "SELECT lock_key, stamp, record, NULL AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key IN (?)",
    )
    .mysql(
        "SELECT lock_key, stamp, record, UTC_TIMESTAMP(6) AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key IN (?)",
    );

const PAGE_FROM: Sql = Sql::per_engine()
    .sqlite(
        "SELECT lock_key, stamp, record, NULL AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key >= ? ORDER BY lock_key LIMIT ?",
    )
    .mysql(
        "SELECT lock_key, stamp, record, UTC_TIMESTAMP(6) AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key >= ? ORDER BY lock_key LIMIT ?",
    );

const PAGE_AFTER: Sql = Sql::per_engine()
    .sqlite(
        "SELECT lock_key, stamp, record, NULL AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key > ? ORDER BY lock_key LIMIT ?",
    )
    .mysql(
        "SELECT lock_key, stamp, record, UTC_TIMESTAMP(6) AS read_at FROM trine_lock \
         WHERE service = ? AND lock_key > ? ORDER BY lock_key LIMIT ?",
    );

/// The second time is used by SQLite only, which has no clock of its own here.
const EXPIRED: Sql = Sql::per_engine()
    .sqlite(
        "SELECT lock_key FROM trine_lock WHERE service = ? AND expires_at < ? \
         ORDER BY expires_at LIMIT ?",
    )
    .mysql(
        "SELECT lock_key FROM trine_lock WHERE service = ? \
         AND expires_at < COALESCE(?, UTC_TIMESTAMP(6)) ORDER BY expires_at LIMIT ?",
    );

/// Raises the last token, unless it is that high already.
const RAISE: Sql = Sql::portable(
    "UPDATE trine_lock_token SET last = ?, stamp = ? WHERE service = ? AND part = ? AND last < ?",
);

/// Both do nothing if the token was not raised by this very transaction.
const GRANT_FIRST: Sql = Sql::portable(
    "INSERT INTO trine_lock (service, lock_key, stamp, record, expires_at) \
     SELECT service, ?, ?, ?, ? FROM trine_lock_token \
     WHERE service = ? AND part = ? AND last = ? AND stamp = ?",
);
const GRANT: Sql = Sql::portable(
    "UPDATE trine_lock SET stamp = ?, record = ?, expires_at = ? \
     WHERE service = ? AND lock_key = ? AND stamp = ? AND EXISTS (\
     SELECT 1 FROM trine_lock_token WHERE service = ? AND part = ? AND last = ? AND stamp = ?)",
);

const SAVE: Sql = Sql::portable(
    "UPDATE trine_lock SET stamp = ?, record = ?, expires_at = ? \
     WHERE service = ? AND lock_key = ? AND stamp = ?",
);
const REMOVE: Sql =
    Sql::portable("DELETE FROM trine_lock WHERE service = ? AND lock_key = ? AND stamp = ?");

const COUNT: Sql = Sql::portable("SELECT COUNT(*) FROM trine_lock_token WHERE service = ?");
const ANY: Sql =
    Sql::portable("SELECT COUNT(*) FROM trine_lock WHERE service = ? AND lock_key = ?");
const PRIME: Sql = Sql::per_engine()
    .sqlite(
        "INSERT INTO trine_lock_token (service, part, last, stamp) VALUES ? \
         ON CONFLICT DO NOTHING",
    )
    .mysql("INSERT IGNORE INTO trine_lock_token (service, part, last, stamp) VALUES ?");

const IS_THERE: Sql = Sql::per_engine()
    .sqlite("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?")
    .mysql(
        "SELECT COUNT(*) FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = ?",
    );

/// Why an attempt did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    Database(DbError),
    /// A table is not there.
    NoTable(&'static str),
    Internal(BoxError),
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

/// The rows of one service.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) name: Arc<str>,
    pub(super) claim_timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) database: Database,
}

/// A record as it was read.
#[derive(Debug)]
pub(super) struct Seen {
    /// What a write changes; `None` if there is no row.
    stamp: Option<i64>,
    pub(super) record: Record,
    pub(super) now: Now,
    /// The last token of the key's part.
    pub(super) last: u64,
}

#[derive(Deserialize)]
struct Looked {
    last: u64,
    stamp: Option<i64>,
    record: Option<String>,
    read_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Row {
    lock_key: String,
    stamp: i64,
    record: String,
    read_at: Option<Timestamp>,
}

/// A statement and its values.
type Write = (Sql, Vec<Param>);

impl Tables {
    pub(super) fn new(
        name: &Arc<str>,
        claim_timeout: Duration,
        clock: Arc<dyn Clock>,
        database: Database,
    ) -> Self {
        Self { name: Arc::clone(name), claim_timeout, clock, database }
    }

    /// Makes sure that the tables are there, and a row for each part.
    pub(super) async fn prove(&self) -> Result<ServerFacts, Failure> {
        let facts = self.database.ping().await?;
        let name = &*self.name;
        let counted = async {
            self.database.query_one::<u64>(ANY, (name, "")).await?;
            self.database.query_one::<u64>(COUNT, (name,)).await
        };
        match counted.await {
            Ok(PARTS) => {}
            Ok(_) => self.prime().await?,
            Err(error) => return Err(self.missing(error).await),
        }
        Ok(facts)
    }

    /// Returns what is missing, if that is why a statement failed.
    async fn missing(&self, error: DbError) -> Failure {
        for table in ["trine_lock", "trine_lock_token"] {
            if let Ok(0) = self.database.query_one::<u64>(IS_THERE, (table,)).await {
                return Failure::NoTable(table);
            }
        }
        error.into()
    }

    /// Makes the rows of the parts that have none.
    pub(super) async fn prime(&self) -> Result<(), Failure> {
        let parts = (0..PARTS).map(|part| [(&*self.name).into(), part.into(), 0.into(), 0.into()]);
        self.database.execute(PRIME, [rows(parts)]).await?;
        Ok(())
    }

    /// Reads the record of a key; `None` without a row of its part.
    pub(super) async fn look(&self, key: &Key) -> Result<Option<Seen>, Failure> {
        let values = (key.as_str(), &*self.name, part(key.as_str()));
        let looked: Option<Looked> = self.database.query_optional(LOOK, values).await?;
        let Some(Looked { last, stamp, record, read_at }) = looked else { return Ok(None) };
        let record = record.map(|text| decode(&text)).transpose()?.unwrap_or_default();
        Ok(Some(Seen { stamp, record, now: self.now(read_at), last }))
    }

    /// When something was read, by the clock of the store.
    fn now(&self, read_at: Option<Timestamp>) -> Now {
        let read_at = read_at.and_then(|time| u64::try_from(time.as_micros()).ok());
        let time = read_at.map_or_else(|| self.clock.wall().into(), Micros::new);
        Now { time, wall: time, claim_timeout: self.claim_timeout }
    }

    /// Writes a record with a grant of this token; `false` if somebody was
    /// faster.
    pub(super) async fn grant(
        &self,
        key: &Key,
        seen: &Seen,
        record: &Record,
        token: u64,
    ) -> Result<bool, Failure> {
        let (name, key, stamp) = (&*self.name, key.as_str(), stamp());
        let part = part(key);
        let (text, ends) = (encode(record)?, time(record.ends(seen.now)));
        let raise = (token, stamp, name, part, token);
        let batch = Batch::new().with(RAISE, raise);
        let batch = match seen.stamp {
            None => batch.with(GRANT_FIRST, (key, stamp, text, ends, name, part, token, stamp)),
            Some(old) => {
                let own = (stamp, text, ends, name, key, old, name, part, token, stamp);
                batch.with(GRANT, own)
            }
        };
        let done = self.database.execute_all(batch).await?;
        Ok(done.get(1).is_some_and(|grant| grant.affected > 0))
    }

    /// Writes a record, or removes one that is over; `false` if somebody was
    /// faster.
    pub(super) async fn save(
        &self,
        key: &Key,
        seen: &Seen,
        record: &Record,
    ) -> Result<bool, Failure> {
        match self.write(key.as_str(), seen.stamp, record, seen.now)? {
            Some((sql, values)) => Ok(self.database.execute(sql, values).await?.affected > 0),
            None => Ok(true),
        }
    }

    /// Returns what writes a record in the place of the one with this stamp.
    fn write(
        &self,
        key: &str,
        old: Option<i64>,
        record: &Record,
        now: Now,
    ) -> Result<Option<Write>, Failure> {
        // A row is made by a grant only.
        let Some(old) = old else { return Ok(None) };
        let name = &*self.name;
        if record.is_over() {
            return Ok(Some((REMOVE, vec![name.into(), key.into(), old.into()])));
        }
        let (text, ends) = (encode(record)?, time(record.ends(now)));
        let values =
            vec![stamp().into(), text.into(), ends.into(), name.into(), key.into(), old.into()];
        Ok(Some((SAVE, values)))
    }

    /// Does `work` on the records of `keys`, together and each until nobody was
    /// faster. A key without a row has an empty record. The last argument of
    /// `work` tells whether it may have been done before.
    pub(super) async fn change(
        &self,
        attempts: &mut Attempts,
        keys: &[&str],
        mut work: impl FnMut(&str, &mut Record, Now, bool) + Send,
    ) -> Result<()> {
        let mut left = keys.to_vec();
        loop {
            let is_unknown = attempts.is_unknown();
            let mut work = |key: &str, record: &mut Record, now| work(key, record, now, is_unknown);
            let tried = attempts.bound(self.try_change(&mut left, &mut work)).await;
            match tried {
                Ok(()) if left.is_empty() => return Ok(()),
                Ok(()) => attempts.lost_race().await?,
                Err(failure) => attempts.failed(failure).await?,
            }
        }
    }

    /// Tries it once, and leaves the keys for which somebody was faster.
    async fn try_change(
        &self,
        left: &mut Vec<&str>,
        work: &mut (dyn FnMut(&str, &mut Record, Now) + Send),
    ) -> Result<(), Failure> {
        let rows: Vec<Row> = match left.as_slice() {
            [] => return Ok(()),
            keys => {
                let keys = list(keys.iter().copied());
                self.database.query(LOOK_MANY, (&*self.name, keys)).await?
            }
        };
        let mut rows: HashMap<_, _> =
            rows.into_iter().map(|row| (row.lock_key.clone(), row)).collect();
        let (mut changed, mut writes) = (Vec::new(), Vec::new());
        for key in left.iter().copied() {
            let Some(row) = rows.remove(key) else {
                work(key, &mut Record::default(), self.now(None));
                continue;
            };
            let (now, seen) = (self.now(row.read_at), decode(&row.record)?);
            let mut record = seen.clone();
            record.settle(now, &mut |_| true);
            work(key, &mut record, now);
            record.settle(now, &mut |_| true);
            if record != seen {
                changed.push(key);
                writes.extend(self.write(key, Some(row.stamp), &record, now)?);
            }
        }
        // If these fail, all that are left are looked at again.
        let written = self.run(writes).await?;
        let lost = changed.into_iter().zip(written).filter(|(_, is_written)| !is_written);
        *left = lost.map(|(key, _)| key).collect();
        Ok(())
    }

    /// Runs writes as one transaction; says of each whether it found its row.
    async fn run(&self, mut writes: Vec<Write>) -> Result<Vec<bool>, Failure> {
        if writes.len() > 1 {
            let batch = Batch::new();
            let batch = writes.into_iter().fold(batch, |all, (sql, values)| all.with(sql, values));
            let done = self.database.execute_all(batch).await?;
            return Ok(done.into_iter().map(|done| done.affected > 0).collect());
        }
        let Some((sql, values)) = writes.pop() else { return Ok(Vec::new()) };
        Ok(vec![self.database.execute(sql, values).await?.affected > 0])
    }

    pub(super) async fn page(
        &self,
        prefix: &str,
        after: Option<&Key>,
        count: usize,
    ) -> Result<Page, Failure> {
        // One more tells whether there is another page.
        let most = count + 1;
        let rows: Vec<Row> = match after {
            Some(after) => {
                self.database.query(PAGE_AFTER, (&*self.name, after.as_str(), most as u64)).await?
            }
            None => self.database.query(PAGE_FROM, (&*self.name, prefix, most as u64)).await?,
        };
        let mut rows = rows.into_iter().take_while(|row| row.lock_key.starts_with(prefix));
        let (mut keys, mut last) = (Vec::new(), None);
        for row in rows.by_ref().take(count) {
            let key = Key::new(row.lock_key).map_err(|error| Failure::Internal(error.into()))?;
            keys.extend(decode(&row.record)?.held_key(self.now(row.read_at), &key));
            last = Some(key);
        }
        let next = last.filter(|_| rows.next().is_some());
        Ok(Page::new(keys, next))
    }

    /// Returns some of the keys whose time is over.
    pub(super) async fn expired(&self, count: usize) -> Result<Vec<String>, Failure> {
        let now = match self.database.engine() {
            Engine::Sqlite => Some(Timestamp::from(self.clock.wall())),
            _ => None,
        };
        Ok(self.database.query(EXPIRED, (&*self.name, now, count as u64)).await?)
    }
}

/// A record with the version of its form before it.
#[derive(Serialize, Deserialize)]
struct Stored<R> {
    #[serde(rename = "v")]
    form: u8,
    #[serde(flatten)]
    record: R,
}

#[derive(Deserialize)]
struct StoredForm {
    #[serde(rename = "v")]
    form: u8,
}

fn encode(record: &Record) -> Result<String, Failure> {
    let stored = Stored { form: FORM, record };
    serde_json::to_string(&stored).map_err(|error| Failure::Internal(error.into()))
}

fn decode(text: &str) -> Result<Record, Failure> {
    let internal = |error: serde_json::Error| Failure::Internal(error.into());
    let StoredForm { form } = serde_json::from_str(text).map_err(internal)?;
    if form != FORM {
        let cause = format!("a record of form {form} was found, expected {FORM}");
        return Err(Failure::Internal(cause.into()));
    }
    Ok(serde_json::from_str::<Stored<Record>>(text).map_err(internal)?.record)
}

/// Returns what no other write writes.
fn stamp() -> i64 {
    i64::try_from(Uuid::new_v4().as_u64_pair().1 >> 1).unwrap_or(i64::MAX)
}

fn time(time: Micros) -> Timestamp {
    Timestamp::from_micros(i64::try_from(time.get()).unwrap_or(i64::MAX))
}

/// Which part counts the tokens of a key: FNV-1a, the same in every process and
/// release.
fn part(key: &str) -> u64 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash % PARTS
}
