use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use trine_core::{BoxError, Clock};
use trine_db_shard::{
    Batch, Database, Engine, Error as DbError, Param, ServerFacts, Sql, Timestamp, list, rows,
};
use uuid::Uuid;

use super::attempts::Attempts;
use super::statements;
use super::stored::{decode, encode};
use crate::backend::record::{Micros, Now, Record};
use crate::{Key, Page, Result};

/// In how many parts the tokens of a service are counted: so many that grants
/// of different keys rarely meet, and so few that no key leaves a row.
const PARTS: u64 = 256;

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
            self.database.query_one::<u64>(statements::ANY, (name, "")).await?;
            self.database.query_one::<u64>(statements::COUNT, (name,)).await
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
            if let Ok(0) = self.database.query_one::<u64>(statements::IS_THERE, (table,)).await {
                return Failure::NoTable(table);
            }
        }
        error.into()
    }

    /// Makes the rows of the parts that have none.
    pub(super) async fn prime(&self) -> Result<(), Failure> {
        let parts = (0..PARTS).map(|part| [(&*self.name).into(), part.into(), 0.into(), 0.into()]);
        self.database.execute(statements::PRIME, [rows(parts)]).await?;
        Ok(())
    }

    /// Reads the record of a key; `None` without a row of its part.
    pub(super) async fn look(&self, key: &Key) -> Result<Option<Seen>, Failure> {
        let values = (key.as_str(), &*self.name, part(key.as_str()));
        let looked: Option<Looked> = self.database.query_optional(statements::LOOK, values).await?;
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
        let (stored, ends) = (encode(record)?, time(record.ends(seen.now)));
        let raise = (token, stamp, name, part, token);
        let batch = Batch::new().with(statements::RAISE, raise);
        let batch = match seen.stamp {
            None => batch.with(
                statements::GRANT_FIRST,
                (key, stamp, stored, ends, name, part, token, stamp),
            ),
            Some(old) => batch.with(statements::SAVE, (stamp, stored, ends, name, key, old)),
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
            return Ok(Some((statements::REMOVE, vec![name.into(), key.into(), old.into()])));
        }
        let (stored, ends) = (encode(record)?, time(record.ends(now)));
        let values =
            vec![stamp().into(), stored.into(), ends.into(), name.into(), key.into(), old.into()];
        Ok(Some((statements::SAVE, values)))
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
                self.database.query(statements::LOOK_MANY, (&*self.name, keys)).await?
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
                self.database
                    .query(statements::PAGE_AFTER, (&*self.name, after.as_str(), most as u64))
                    .await?
            }
            None => {
                self.database
                    .query(statements::PAGE_FROM, (&*self.name, prefix, most as u64))
                    .await?
            }
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
        Ok(self.database.query(statements::EXPIRED, (&*self.name, now, count as u64)).await?)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Or two processes count the tokens of a key in two rows.
    #[test]
    fn the_part_of_a_key_stays() {
        assert_eq!([part("a"), part("order:42"), part("ключ")], [140, 177, 129]);
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests_on_sqlite {
    use trine_core::{Fence, SystemClock};
    use trine_db_shard::{DatabaseName, DbConfig, SqliteBackend, SqliteConfig};

    use super::*;
    use crate::backend::record::Asked;
    use crate::options::terms;
    use crate::{Mode, Shape, Waiter, Want};

    /// As when the first attempt of a call whose answer was lost arrives after
    /// the key was held and given back: the row is as it was.
    #[tokio::test]
    async fn a_grant_that_comes_late_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteConfig::new(folder.path().join("locks.db"));
        let engine = SqliteBackend::open(&DatabaseName::Named("locks".into()), &file).unwrap();
        let database = Database::with_backend("locks", engine, &DbConfig::sqlite(folder.path(), 0));
        database.migrate_with(&crate::migrations()).await.unwrap();
        let second = Duration::from_secs(1);
        let tables = Tables::new(&"lock".into(), second, Arc::new(SystemClock), database);
        tables.prove().await.unwrap();
        let key = Key::new("k").unwrap();
        let want = Want {
            key: key.clone(),
            shape: Shape::Write,
            terms: terms(second * 60, second * 60).unwrap(),
            at_least: None,
            waiter: Waiter::new(&"host:1:a".into(), 0),
            label: None,
            mode: Mode::Try,
            nonce: 1,
        };
        let granted = |seen: &Seen| {
            let token = Fence::next_token(seen.last, seen.now.wall.get());
            let mut record = seen.record.clone();
            assert!(matches!(record.ask(seen.now, &want, token), Asked::Granted { .. }));
            (record, token)
        };
        let late = tables.look(&key).await.unwrap().unwrap();
        let (late_record, late_token) = granted(&late);

        let seen = tables.look(&key).await.unwrap().unwrap();
        let (record, token) = granted(&seen);
        let token = token.max(late_token + 1);
        assert!(tables.grant(&key, &seen, &record, token).await.unwrap());
        assert!(!tables.grant(&key, &late, &late_record, late_token).await.unwrap_or(false));
        let held = tables.look(&key).await.unwrap().unwrap();
        assert!(tables.save(&key, &held, &Record::default()).await.unwrap());

        assert!(!tables.grant(&key, &late, &late_record, late_token).await.unwrap());
        assert_eq!(tables.look(&key).await.unwrap().unwrap().record, Record::default());
    }
}
