use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteQueryResult, SqliteRow};
use sqlx::{Connection, Either, Executor};

use super::encode;
use super::failure::Failure;
use super::text::{Plan, RELEASE, SAVEPOINT, UNDO};
use super::translate::Phase;
use super::watch::Watch;
use crate::{Columns, Done, Reply, Row, StatementText};

/// One connection, and the watch that its thread looks at.
pub(super) struct Link {
    connection: SqliteConnection,
    watch: Arc<Watch>,
}

/// One statement, ready to be bound and run, more than once if need be.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) plan: Arc<Plan>,
    pub(super) arguments: SqliteArguments,
}

/// How a text of several statements went.
pub(super) struct Run {
    /// How many of its statements were finished.
    pub(super) finished: usize,
    /// What the statement in question answered, if it was finished.
    pub(super) reply: Reply,
    pub(super) failure: Option<Failure>,
}

/// What the driver yields: the end of a statement, or a row.
type Step = Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>;

impl Link {
    pub(super) fn new(connection: SqliteConnection, watch: Arc<Watch>) -> Self {
        Self { connection, watch }
    }

    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Waits until the thread has nothing to do.
    pub(super) async fn idle(&mut self) -> Result<(), sqlx::Error> {
        self.connection.ping().await
    }

    /// Runs a text of ours, without values.
    pub(super) async fn control(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        let mut steps = self.send(&StatementText::constant(text), SqliteArguments::default());
        let mut is_finished = false;
        while let Some(step) = steps.next().await {
            is_finished |= step?.is_left();
        }
        // As at the end of `run`.
        if is_finished { Ok(()) } else { Err(sqlx::Error::WorkerCrashed) }
    }

    /// Runs `text`, a form of the item's own, whose statement number
    /// `position` is the one to be answered.
    pub(super) async fn run(
        &mut self,
        item: &Item,
        text: &StatementText,
        position: usize,
        max_rows: u64,
    ) -> Run {
        let watch = Arc::clone(&self.watch);
        watch.begin_statement();
        let (mut finished, mut failure) = (0, None);
        let (mut rows, mut changed) = (Rows::default(), Done::default());
        let mut steps = self.send(text, item.arguments.clone());
        while let Some(step) = steps.next().await {
            match step {
                Ok(Either::Left(result)) => {
                    if finished == position && item.plan.changes_rows {
                        changed = done(&result, &watch);
                    }
                    finished += 1;
                }
                Ok(Either::Right(_)) if rows.count() >= max_rows => {
                    failure = Some(Failure::TooManyRows);
                    break;
                }
                Ok(Either::Right(row)) => {
                    failure = rows.push(&row).err();
                    if failure.is_some() {
                        break;
                    }
                }
                Err(error) => failure = Some(Failure::driver(error, Phase::Write)),
            }
        }
        drop(steps);
        if finished <= position && failure.is_none() {
            // A thread that dies closes the channel, which looks like an end;
            // what is sent to it meanwhile may never be answered.
            failure = Some(Failure::driver(sqlx::Error::WorkerCrashed, Phase::Write));
        }
        Run { finished, reply: Reply::new(rows.rows, changed), failure }
    }

    /// Returns why a text ended before its last statement without an error:
    /// the thread died, or a comment of the caller's swallowed the rest.
    pub(super) async fn open_end(&mut self) -> Failure {
        match self.idle().await {
            Ok(()) => Failure::OpenEnd,
            Err(error) => Failure::driver(error, Phase::Write),
        }
    }

    /// Runs the item as it is.
    pub(super) async fn run_plain(&mut self, item: &Item, max_rows: u64) -> Result<Reply, Failure> {
        let run = self.run(item, &item.plan.plain, 0, max_rows).await;
        match run.failure {
            Some(failure) => Err(failure),
            None => Ok(run.reply),
        }
    }

    /// Runs the items within a savepoint: a failed one undoes all of them.
    ///
    /// The outer error says that the transaction is not sound any more.
    pub(super) async fn run_in_savepoint(
        &mut self,
        items: &[Item],
        max_rows: u64,
    ) -> Result<Result<Vec<Reply>, Failure>, Failure> {
        let result = match items {
            [item] if !item.plan.returns_rows => {
                let run = self.run(item, &item.plan.in_group, 1, max_rows).await;
                match run.failure {
                    None if run.finished == 3 => return Ok(Ok(vec![run.reply])),
                    None => Err(self.open_end().await),
                    Some(failure) => Err(failure),
                }
            }
            _ => {
                self.step(SAVEPOINT).await?;
                let mut replies = Vec::with_capacity(items.len());
                let mut result = Ok(());
                for item in items {
                    match self.run_plain(item, max_rows).await {
                        Ok(reply) => replies.push(reply),
                        Err(failure) => {
                            result = Err(failure);
                            break;
                        }
                    }
                }
                result.map(|()| replies)
            }
        };
        if self.watch.was_rolled_back() {
            return Err(result.err().unwrap_or(Failure::Ended(ROLLED_BACK)));
        }
        match result {
            Ok(replies) => {
                self.step(RELEASE).await?;
                Ok(Ok(replies))
            }
            Err(failure) if failure.breaks_connection() => Err(failure),
            Err(failure) => {
                self.step(UNDO).await?;
                Ok(Err(failure))
            }
        }
    }

    async fn step(&mut self, text: &'static str) -> Result<(), Failure> {
        self.control(text).await.map_err(|error| Failure::driver(error, Phase::Write))
    }

    /// Sends a text; the thread runs ahead of the reader by a small buffer.
    pub(super) fn send(
        &mut self,
        text: &StatementText,
        arguments: SqliteArguments,
    ) -> BoxStream<'_, Step> {
        let query = sqlx::query_with(text.to_driver(), arguments).persistent(text.is_reused());
        (&mut self.connection).fetch_many(query)
    }

    /// Closes the connection and waits until its thread has ended.
    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("watch", &self.watch).finish_non_exhaustive()
    }
}

/// What a transaction is told that SQLite ended on its own.
pub(super) const ROLLED_BACK: &str = "SQLite rolled the transaction back";

/// The changed rows, and the id that the statement itself gave: only a row
/// that it really inserted has one.
fn done(result: &SqliteQueryResult, watch: &Watch) -> Done {
    let affected = result.rows_affected();
    let last_insert_id =
        if affected == 0 { None } else { watch.first_insert(result.last_insert_rowid()) };
    Done { affected, last_insert_id }
}

/// The rows of one result, as they are gathered.
#[derive(Debug, Default)]
pub(super) struct Rows {
    columns: Option<Columns>,
    rows: Vec<Row>,
}

impl Rows {
    fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    fn push(&mut self, row: &SqliteRow) -> Result<(), Failure> {
        let row = self.decode(row)?;
        self.rows.push(row);
        Ok(())
    }

    /// Reads a row without keeping it.
    pub(super) fn decode(&mut self, row: &SqliteRow) -> Result<Row, Failure> {
        let columns = self.columns.get_or_insert_with(|| encode::columns(row));
        encode::decode(row, columns).map_err(Failure::Cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::sqlite::connect::{Role, connect};

    /// The driver's thread panics on a parameter of this name.
    const DEADLY: StatementText = StatementText::constant("SELECT $0");

    async fn link(folder: &tempfile::TempDir) -> Link {
        let role = Role::Writer(trine_core::Durability::Synced);
        connect(&folder.path().join("a.db"), role).await.unwrap()
    }

    #[tokio::test]
    async fn a_text_of_ours_that_kills_the_thread_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let error = link(&folder).await.control("SELECT $0").await.unwrap_err();
        assert!(matches!(error, sqlx::Error::WorkerCrashed), "{error}");
    }

    #[tokio::test]
    async fn a_statement_that_kills_the_thread_is_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let mut link = link(&folder).await;
        let item = Item { plan: Arc::new(Plan::of(&DEADLY)), arguments: Default::default() };
        let failure = link.run_plain(&item, 1).await.unwrap_err();
        assert!(failure.is_crash() && failure.breaks_connection(), "{failure:?}");
    }
}
