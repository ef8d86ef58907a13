//! What the SQLite engine promises below the common suite.

mod crash;
mod group;
mod observed;
mod read;
mod shutdown;
mod transaction;
mod value;
mod wait;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::sleep;
use trine_core::{Durability, Span};
use trine_db_shard::{
    Access, Call, DatabaseName, DbBackend, Done, Reply, Result, SqliteBackend, SqliteConfig,
    Statement, StatementText, Value,
};

/// Longest a test waits for what should take milliseconds.
const BOUND: Duration = Duration::from_secs(10);

/// A query that would go on for hours.
const ENDLESS: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
     SELECT count(*) FROM c";

/// A write that would.
const ENDLESS_WRITE: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
     INSERT INTO item (id, name) SELECT 999, count(*) FROM c";

struct Db {
    backend: SqliteBackend,
    folder: TempDir,
}

fn config(folder: &Path) -> SqliteConfig {
    SqliteConfig::new(folder.join("test.db"))
}

fn open(config: &SqliteConfig) -> SqliteBackend {
    SqliteBackend::open(&DatabaseName::Named("test".into()), config).unwrap()
}

fn call() -> Call {
    within(BOUND)
}

fn within(timeout: Duration) -> Call {
    Call::new("test", timeout, 1_000)
}

fn write(text: &'static str, values: Vec<Value>) -> Statement {
    Statement::constant(text, values, Access::Write)
}

fn read(text: &'static str) -> Statement {
    Statement::constant(text, Vec::new(), Access::Read)
}

fn dynamic(text: String, access: Access) -> Statement {
    let mut statement = Statement::constant("", Vec::new(), access);
    statement.text = StatementText::dynamic(text.into());
    statement
}

fn insert(id: i64) -> Statement {
    write("INSERT INTO item (id, name) VALUES (?, ?)", vec![id.into(), "x".into()])
}

impl Db {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A database with a table `item`, and one `part` whose foreign key to it
    /// is checked at commit.
    async fn with(change: impl FnOnce(&mut SqliteConfig)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let db = Self { backend: open(&config), folder };
        db.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").await.unwrap();
        db.execute(
            "CREATE TABLE part (id INTEGER PRIMARY KEY,
             item INTEGER REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .await
        .unwrap();
        db
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn run(&self, statement: Statement) -> Result<Reply> {
        self.backend.run(call(), statement).await
    }

    async fn execute(&self, text: &'static str) -> Result<Done> {
        Ok(self.run(write(text, Vec::new())).await?.done)
    }

    async fn ids(&self) -> Vec<i64> {
        let all = Call::new("test", BOUND, u64::MAX);
        let statement = read("SELECT id FROM item ORDER BY id");
        let reply = self.backend.run(all, statement).await.unwrap();
        reply.rows.iter().map(|row| row.decode().unwrap()).collect()
    }

    async fn until_waiting(&self, queued: usize) {
        for _ in 0..BOUND.as_millis() {
            if self.backend.stats().waiting >= queued {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("{:?}", self.backend.stats());
    }

    /// Runs the statements as one group and returns what each was answered.
    async fn grouped(&self, statements: Vec<Statement>) -> Vec<Result<Reply>> {
        let queued = statements.len();
        let tx = self.backend.begin(call(), Default::default()).await.unwrap();
        let calls = statements.into_iter().map(|statement| self.run(statement));
        let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), async {
            self.until_waiting(queued).await;
            tx.rollback(call()).await.unwrap();
        });
        answers
    }
}
