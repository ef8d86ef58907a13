mod aggregate;
mod gathered;
mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use trine_core::{CallContext, Deadline};

use crate::backend::Access;
use crate::error::At;
use crate::routing::CALLER;
use crate::{
    Database, DatabaseName, DbService, Done, Error, FromRow, IntoParams, Param, Result, ShardId,
    SqlText,
};

pub use aggregate::Total;
pub use gathered::{FanOut, FanOutValue};

/// How long after its deadline a write is waited for, which then says what
/// became of it.
const WRITE_GRACE: Duration = Duration::from_secs(5);

/// What happens to the answers of the other shards when one fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Partial {
    /// The call fails with the first shard's error, which names it.
    #[default]
    Fail,
    /// The call answers with what came, beside the error of every shard that
    /// failed.
    Mark,
}

/// One statement for many shards. Made by [`DbService::fan_out`].
///
/// Asks every shard of the map, also those that cannot answer now: a shard that
/// is offline, under maintenance, away or unusable for this process counts as
/// failed, and [`partial`](Self::partial) says what that means. While a key is
/// [moved](DbService::move_key), and until its old rows are removed, they may
/// be found on two shards.
///
/// Dropping a future here ends the statements that are under way, as dropping
/// those of a [`Database`] does.
#[derive(Clone)]
#[must_use = "nothing is asked before a statement is given"]
pub struct FanOutCall {
    service: DbService,
    shards: Option<BTreeSet<ShardId>>,
    concurrency: usize,
    timeout: Duration,
    deadline: Option<Deadline>,
    partial: Partial,
}

impl DbService {
    /// Returns a call that asks many shards, by default all of them,
    /// `fan_out.concurrency` at a time within `fan_out.timeout`.
    ///
    /// # Example
    ///
    /// ```
    /// # use trine_db_shard::{DbService, Partial, Result};
    /// # async fn example(db: &DbService) -> Result<()> {
    /// let open: u64 = db
    ///     .fan_out()
    ///     .count("SELECT COUNT(*) FROM note WHERE done = ?", (false,))
    ///     .await?
    ///     .value;
    /// let found = db
    ///     .fan_out()
    ///     .partial(Partial::Mark)
    ///     .query::<String>("SELECT text FROM note WHERE done = ?", (false,))
    ///     .await?;
    /// for (shard, error) in &found.failed {
    ///     println!("of {open} notes those of shard {shard} are missing: {error}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn fan_out(&self) -> FanOutCall {
        let config = &self.shared.config.fan_out;
        FanOutCall {
            service: self.clone(),
            shards: None,
            concurrency: places(config.concurrency),
            timeout: config.timeout.get(),
            deadline: None,
            partial: Partial::default(),
        }
    }
}

fn places(concurrency: NonZeroU32) -> usize {
    usize::try_from(concurrency.get()).unwrap_or(usize::MAX)
}

impl FanOutCall {
    /// Asks these shards only; one that is named twice is asked once.
    pub fn on<I>(mut self, shards: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<ShardId>,
    {
        self.shards = Some(shards.into_iter().map(Into::into).collect());
        self
    }

    /// Sets how many shards are asked at the same time; 0 counts as 1.
    /// Default: `fan_out.concurrency`.
    pub fn concurrency(mut self, shards: u32) -> Self {
        self.concurrency = places(NonZeroU32::new(shards).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Sets the longest time of the whole call. The deadline of the caller's
    /// context shortens it. Default: `fan_out.timeout`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets when the whole call ends, if that is earlier than its time-out.
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets what happens when a shard fails. Default: [`Partial::Fail`].
    pub fn partial(mut self, partial: Partial) -> Self {
        self.partial = partial;
        self
    }

    /// Runs a query on every shard and returns the rows, in the order of the
    /// shards' numbers.
    ///
    /// All together they are bounded by `max_rows`.
    ///
    /// # Errors
    ///
    /// As [`Database::query`], for the first shard that fails under
    /// [`Partial::Fail`]; and with `Invalid` for more rows than `max_rows`.
    pub async fn query<T: FromRow + Send>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<FanOut<T>> {
        const OPERATION: &str = "fan_out.query";
        let (sql, params) = &(sql.into(), params.into_params());
        let ask = |database: Database| async move {
            database.query::<T>(sql.clone(), params.clone()).await
        };
        let gathered = self.gather(OPERATION, Access::Read, self.partial, ask).await?;
        self.flatten(OPERATION, gathered)
    }

    /// Runs an ordered query on every shard and returns the first `limit` rows
    /// of all of them together, merged by `key`.
    ///
    /// Every shard must return its rows in ascending order of the key; use
    /// [`std::cmp::Reverse`] for a descending one. Give the statement the same
    /// `LIMIT`: of a shard with more rows only `limit` are taken, and the rest
    /// of its answer is cut off. Rows with equal keys come in the order of the
    /// shards' numbers.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and `Invalid` if the rows of a shard are not
    /// in the order of the key.
    ///
    /// # Example
    ///
    /// ```
    /// # use std::cmp::Reverse;
    /// # use trine_db_shard::{DbService, Result};
    /// # async fn example(db: &DbService) -> Result<()> {
    /// let newest = db
    ///     .fan_out()
    ///     .ordered::<(i64, String), _>(
    ///         "SELECT made_at, text FROM note ORDER BY made_at DESC LIMIT ?",
    ///         (20,),
    ///         |note| Reverse(note.0),
    ///         20,
    ///     )
    ///     .await?;
    /// # let _ = newest;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ordered<T, K>(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
        key: impl Fn(&T) -> K + Sync,
        limit: usize,
    ) -> Result<FanOut<T>>
    where
        T: FromRow + Send + 'static,
        K: Ord + Send,
    {
        const OPERATION: &str = "fan_out.ordered";
        let (sql, params) = &(sql.into(), params.into_params());
        let key = &key;
        let ask = |database: Database| async move {
            let rows = merge::head::<T>(&database, sql.clone(), params.clone(), limit).await?;
            merge::keyed(&database, rows, key)
        };
        let gathered = self.gather(OPERATION, Access::Read, self.partial, ask).await?;
        let rows = merge::merge(gathered.by_shard, limit);
        Ok(FanOut { rows, failed: gathered.failed })
    }

    /// Runs a statement on every shard and tells what became of each.
    ///
    /// Each shard commits on its own, so there is an answer for each whatever
    /// [`partial`](Self::partial) says: look at
    /// [`failed`](FanOut::failed), or take it apart with
    /// [`into_complete`](FanOut::into_complete). `Timeout` there means that
    /// nothing was sent; where that is not certain it says `OutcomeUnknown`.
    ///
    /// # Errors
    ///
    /// Fails only if nothing was sent: the service is not started, or a shard
    /// in [`on`](Self::on) is unknown.
    pub async fn execute(
        &self,
        sql: impl Into<SqlText>,
        params: impl IntoParams,
    ) -> Result<FanOut<Done>> {
        let (sql, params) = &(sql.into(), params.into_params());
        let ask =
            |database: Database| async move { database.execute(sql.clone(), params.clone()).await };
        let gathered = self.gather("fan_out.execute", Access::Write, Partial::Mark, ask).await?;
        let rows = gathered.by_shard.into_iter().collect();
        Ok(FanOut { rows, failed: gathered.failed })
    }

    fn flatten<T>(&self, operation: &'static str, gathered: Gathered<Vec<T>>) -> Result<FanOut<T>> {
        let max = self.service.shared.config.max_rows.get();
        let count: usize = gathered.by_shard.values().map(Vec::len).sum();
        if u64::try_from(count).unwrap_or(u64::MAX) > max {
            let detail = format!("more than {max} rows from all shards (db.max_rows)");
            return Err(Error::invalid(self.service.global().at(operation), detail));
        }
        let mut rows = Vec::with_capacity(count);
        for (shard, found) in gathered.by_shard {
            rows.extend(found.into_iter().map(|row| (shard, row)));
        }
        Ok(FanOut { rows, failed: gathered.failed })
    }

    /// Asks every shard, so many at a time, until the deadline.
    async fn gather<T, Fut>(
        &self,
        operation: &'static str,
        access: Access,
        partial: Partial,
        ask: impl Fn(Database) -> Fut,
    ) -> Result<Gathered<T>>
    where
        Fut: Future<Output = Result<T>>,
    {
        let _in_flight = self.service.global().enter(operation)?;
        let context = CallContext::current();
        let own = Deadline::after(self.timeout).or_earlier(self.deadline);
        let deadline = own.or_earlier(context.deadline());
        let limit = match context.deadline() {
            Some(caller) if caller < own => CALLER,
            _ => "db.fan_out.timeout",
        };
        let began = tokio::time::Instant::now();
        let context = context.with_deadline(deadline);
        let mut waiting = self.shards(operation)?;
        let mut gathered = Gathered { by_shard: BTreeMap::new(), failed: Vec::new() };
        let (service, ask, context) = (&self.service, &ask, &context);
        let ids = waiting.clone();
        let mut answers = stream::iter(ids)
            .map(|id| async move {
                let answer = async { ask(service.shard(id)?).await };
                (id, context.clone().scope(answer).await)
            })
            .buffer_unordered(self.concurrency);
        // Each write says by itself, soon after the deadline, whether it was
        // sent; to drop it would leave that open.
        let patience = match access {
            Access::Read => deadline,
            Access::Write => Deadline::at(deadline.instant() + WRITE_GRACE),
        };
        while let Some(Some((id, answer))) = patience.limit(answers.next()).await {
            waiting.remove(&id);
            match (answer.map_err(|error| named(error, limit)), partial) {
                (Ok(answer), _) => {
                    gathered.by_shard.insert(id, answer);
                }
                (Err(error), Partial::Fail) => return Err(error),
                (Err(error), Partial::Mark) => gathered.failed.push((id, error)),
            }
        }
        for id in waiting {
            let (at, after) = (At::new(operation, &DatabaseName::Shard(id)), began.elapsed());
            let timeout = Error::Timeout { at: at.clone(), after, limit };
            let error = match access {
                Access::Read => timeout,
                Access::Write => {
                    Error::OutcomeUnknown { at, ticket: None, cause: Some(timeout.into()) }
                }
            };
            match partial {
                Partial::Fail => return Err(error),
                Partial::Mark => gathered.failed.push((id, error)),
            }
        }
        gathered.failed.sort_by_key(|(id, _)| *id);
        Ok(gathered)
    }

    /// Returns the shards to ask, those that will refuse among them.
    fn shards(&self, operation: &'static str) -> Result<BTreeSet<ShardId>> {
        let map = self.service.shared.map.load();
        let Some(ids) = &self.shards else { return Ok(map.ids()) };
        match ids.iter().find(|id| !map.knows(**id)) {
            Some(unknown) => {
                let at = self.service.global().at(operation);
                Err(Error::not_found(at, format!("shard {unknown}")))
            }
            None => Ok(ids.clone()),
        }
    }
}

/// Says what set the deadline that the statements were given.
fn named(error: Error, limit: &'static str) -> Error {
    match error {
        Error::Timeout { at, after, limit: CALLER } => Error::Timeout { at, after, limit },
        other => other,
    }
}

/// One answer for each shard that gave one.
struct Gathered<T> {
    by_shard: BTreeMap<ShardId, T>,
    failed: Vec<(ShardId, Error)>,
}

impl fmt::Debug for FanOutCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOutCall")
            .field("shards", &self.shards)
            .field("concurrency", &self.concurrency)
            .field("timeout", &self.timeout)
            .field("deadline", &self.deadline)
            .field("partial", &self.partial)
            .finish_non_exhaustive()
    }
}

/// A statement that every shard gets a copy of.
type Asked = (SqlText, Vec<Param>);
