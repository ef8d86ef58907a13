mod attempts;
mod orphans;
mod statements;
mod stored;
mod sweep;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use trine_core::{Claim, Clock, Deadline, Fence, Renewal, Tasks};
use trine_db_shard::{Database, Engine};

use self::attempts::Attempts;
use self::orphans::Orphans;
use self::tables::{Failure, Tables};
use super::record::{Asked, GrantName, Now, Record};
use super::{
    Answer, Call, Capabilities, Events, LockBackend, StoreFacts, StoreStats, Waiter, Want,
};
use crate::{At, Error, Key, Page, ReleaseOutcome, Result};

/// Locks in a database that processes share, or in the SQLite of this process.
///
/// It has a row for each key that is held, kept or waited for, whose record is
/// read, judged here, and written back by a statement that names what was read,
/// and does nothing if somebody was faster. Only a grant is a transaction, of two
/// statements: it raises the last token of its part of the keys too. So nobody
/// waits for a process that stops but, for some seconds, who wants a grant in the
/// same 256th of the keys; a question that changes nothing is one read; and on
/// SQLite writes share their commits. Time is the database's; on SQLite it is the
/// wall clock of the [`Clock`] port.
///
/// Nobody is told of anything: who waits asks again and again.
#[derive(Debug)]
pub struct SqlBackend {
    tables: Tables,
    orphans: Orphans,
    tasks: Tasks,
    /// Set once the tables were found.
    sweeps: OnceLock<()>,
    is_closed: AtomicBool,
}

/// Most keys that one transaction changes, and most that one page has.
const BATCH: usize = 100;

impl SqlBackend {
    /// Returns the store of the locks called `name` in `database`, which is
    /// started and shut down by whoever opened it. Does no I/O.
    #[must_use]
    pub fn open(
        name: &Arc<str>,
        claim_timeout: Duration,
        clock: Arc<dyn Clock>,
        database: Database,
    ) -> Self {
        let tables = Tables::new(name, claim_timeout, clock, database);
        Self {
            orphans: Orphans::default(),
            tasks: Tasks::new(&**name),
            tables,
            sweeps: OnceLock::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    fn at(&self, call: Call) -> At {
        At::new(call.operation, &self.tables.name)
    }

    fn attempts(&self, call: Call) -> Result<Attempts> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::Closed { at: self.at(call) });
        }
        Ok(Attempts::new(self.at(call), call.deadline))
    }

    /// Asks once; `None` if somebody else has changed the record meanwhile.
    /// `highest` is the highest token that this call has tried, one of which
    /// may yet be granted: none of them is granted after a higher one.
    async fn ask(&self, want: &Want, highest: &mut u64) -> Result<Option<Answer>, Failure> {
        let key = &want.key;
        let Some(seen) = self.tables.look(key).await? else {
            self.tables.prime().await?;
            return Ok(None);
        };
        let (now, mut record) = (seen.now, seen.record.clone());
        let mut told = |_: &Waiter| true;
        record.settle(now, &mut told);
        let token = Fence::next_token(seen.last.max(*highest), now.wall.get());
        let asked = record.ask(now, want, token);
        record.settle(now, &mut told);
        match asked {
            Asked::Granted { name, .. } => {
                let is_written = if name.token() == token {
                    *highest = token;
                    self.tables.grant(key, &seen, &record, token).await?
                } else {
                    self.tables.save(key, &seen, &record).await?
                };
                let fence = name.fence(&self.tables.name, key).map_err(Failure::Internal)?;
                Ok(is_written.then_some(Answer::Granted(fence)))
            }
            Asked::Held(held) => {
                let is_known = record == seen.record;
                let is_written = is_known || self.tables.save(key, &seen, &record).await?;
                Ok(is_written.then_some(held))
            }
        }
    }

    /// Does `work` for each claim on the record of its key, which is empty if
    /// there is none; the last argument tells whether it may have been done
    /// before.
    async fn each<T: Copy + Send>(
        &self,
        call: Call,
        claims: &[Claim],
        none: T,
        work: impl Fn(&mut Record, Now, GrantName, &Claim, bool) -> T + Send + Sync,
    ) -> Result<Vec<T>> {
        let mut answers = vec![none; claims.len()];
        let mut by_key: BTreeMap<&str, Vec<(usize, GrantName)>> = BTreeMap::new();
        for (place, claim) in claims.iter().enumerate() {
            if let Some((key, name)) = GrantName::of(&self.tables.name, claim.fence()) {
                by_key.entry(key).or_default().push((place, name));
            }
        }
        // In their order, so that two batches never wait for each other.
        let keys: Vec<&str> = by_key.keys().copied().collect();
        for keys in keys.chunks(BATCH) {
            let mut attempts = self.attempts(call)?;
            let change = self.tables.change(&mut attempts, keys, |key, record, now, again| {
                for (place, name) in by_key.get(key).into_iter().flatten() {
                    if let (Some(claim), Some(answer)) =
                        (claims.get(*place), answers.get_mut(*place))
                    {
                        *answer = work(record, now, *name, claim, again);
                    }
                }
            });
            change.await?;
        }
        Ok(answers)
    }
}

#[async_trait]
impl LockBackend for SqlBackend {
    fn name(&self) -> &'static str {
        match self.tables.database.engine() {
            Engine::Sqlite => "sqlite",
            _ => "mysql",
        }
    }

    fn capabilities(&self) -> Capabilities {
        // A file of SQLite has one process.
        let is_shared = self.tables.database.engine() != Engine::Sqlite;
        Capabilities { is_shared, push: false, push_loss: false }
    }

    async fn prove(&self, call: Call) -> Result<StoreFacts> {
        let attempts = self.attempts(call)?;
        let facts = attempts.bound(self.tables.prove()).await;
        let facts = facts.map_err(|failure| attempts.error(failure))?;
        self.sweeps.get_or_init(|| sweep::spawn(&self.tasks, self.tables.clone()));
        Ok(StoreFacts::new(facts.version, facts.identity, facts.durability))
    }

    async fn acquire(&self, call: Call, want: &Want) -> Result<Answer> {
        let mut attempts = self.attempts(call)?;
        self.orphans.claimed(want);
        let mut highest = 0;
        loop {
            let asked = attempts.bound(self.ask(want, &mut highest)).await;
            let again = match asked {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => attempts.lost_race().await,
                Err(failure) => attempts.failed(failure).await,
            };
            if let Err(error) = again {
                if attempts.is_unknown() {
                    self.orphans.give_back(&self.tasks, &self.tables, want);
                }
                return Err(error);
            }
        }
    }

    async fn renew(&self, call: Call, claims: &[Claim]) -> Result<Vec<Renewal>> {
        let renew = |record: &mut Record, now: Now, name, claim: &Claim, _| {
            let is_renewed = record.renew(now.time, name, claim);
            if is_renewed { Renewal::Renewed } else { Renewal::Gone }
        };
        self.each(call, claims, Renewal::Gone, renew).await
    }

    async fn release(&self, call: Call, claims: &[Claim]) -> Result<Vec<ReleaseOutcome>> {
        let release = |record: &mut Record, now: Now, name, _: &Claim, again| {
            let outcome = record.release(now.time, name);
            // What was sent before and lost its answer is not there any more.
            if again { ReleaseOutcome::Released } else { outcome }
        };
        self.each(call, claims, ReleaseOutcome::NotHeld, release).await
    }

    async fn withdraw(&self, call: Call, key: &Key, waiter: &Waiter) -> Result<()> {
        let mut attempts = self.attempts(call)?;
        let withdraw = |_: &str, record: &mut Record, _, _| record.withdraw(waiter);
        self.tables.change(&mut attempts, &[key.as_str()], withdraw).await
    }

    async fn holders(
        &self,
        call: Call,
        prefix: &str,
        after: Option<&Key>,
        count: u32,
    ) -> Result<Page> {
        let attempts = self.attempts(call)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX).clamp(1, BATCH);
        let page = attempts.bound(self.tables.page(prefix, after, count)).await;
        page.map_err(|failure| attempts.error(failure))
    }

    fn events(&self, _process: &Arc<str>) -> Events {
        Events::channel().1
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    async fn close(&self, deadline: Deadline) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.tasks.shutdown(deadline).await;
    }
}
