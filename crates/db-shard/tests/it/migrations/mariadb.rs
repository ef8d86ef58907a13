mod canary;
mod killed;

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::time::{Instant, sleep};
use trine_core::{ErrorKind, MigrationScope, MigrationSet, MigrationStep, Report, Secret, Span};
use trine_db_shard::{
    Conflict, DatabaseName, DbConfig, DbService, Error, MigrationReport, StepState, migrate,
    pending, print_migrations,
};
use trine_testkit::{Child, MariaDb, TestDatabase};

use super::{applied, orders};

/// Names the databases of a child process, the global one first.
const URLS: &str = "TRINE_MIGRATE_TEST_URLS";

/// A lease term of one second.
const TIMEOUT: Span = Span::secs(4);

struct Databases(Vec<TestDatabase>);

impl Databases {
    async fn new(shards: usize) -> Self {
        let server = MariaDb::shared().await.unwrap();
        let databases = join_all((0..=shards).map(|_| server.database())).await;
        Self(databases.into_iter().collect::<Result<_, _>>().unwrap())
    }

    fn urls(&self) -> Vec<String> {
        self.0.iter().map(TestDatabase::url).collect()
    }

    fn config(&self) -> DbConfig {
        config(&self.urls())
    }

    /// Runs statements behind the back of the service.
    async fn run(&self, index: usize, text: &str) {
        let mut connection = MySqlConnection::connect(&self.0[index].url()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn column(&self, index: usize, text: &str) -> Vec<String> {
        let mut connection = MySqlConnection::connect(&self.0[index].url()).await.unwrap();
        let rows = sqlx::query_scalar(AssertSqlSafe(text)).fetch_all(&mut connection).await;
        connection.close().await.unwrap();
        rows.unwrap()
    }

    async fn states(&self, index: usize, owner: &str) -> Vec<String> {
        let text = format!(
            "SELECT CONCAT_WS(' ', version, state, next_statement) FROM trine_migration \
             WHERE owner = '{owner}' ORDER BY version"
        );
        self.column(index, &text).await
    }

    async fn tables(&self, index: usize) -> Vec<String> {
        let text = "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
                    WHERE table_schema = DATABASE() ORDER BY 1";
        self.column(index, text).await
    }
}

fn config(urls: &[String]) -> DbConfig {
    let mut urls = urls.iter().map(Secret::new);
    let mut config = DbConfig::mysql(urls.next().unwrap(), urls);
    config.migrate_timeout = TIMEOUT;
    config
}

fn one_step(statements: impl IntoIterator<Item = String>) -> MigrationSet {
    let step = MigrationStep::new(1, "one").on("mysql", statements);
    MigrationSet::new("test", MigrationScope::Global).step(step)
}

fn texts<const N: usize>(texts: [&str; N]) -> [String; N] {
    texts.map(str::to_owned)
}

fn global(report: &MigrationReport) -> &Error {
    report.get(&DatabaseName::Global).unwrap().error().unwrap()
}

/// Tables and rows in turns: each statement either fails when it is run twice,
/// or leaves a second row.
fn long_step() -> MigrationSet {
    one_step(long_statements())
}

fn long_statements() -> impl Iterator<Item = String> {
    (0..20).flat_map(|number| {
        let row = format!("INSERT INTO t{number} (n) SELECT COUNT(*) FROM t{number}");
        [format!("CREATE TABLE t{number} (n INT NOT NULL)"), row]
    })
}

async fn check_long_step(databases: &Databases) {
    check_long_step_of(databases, 0, "test").await;
}

async fn check_long_step_of(databases: &Databases, index: usize, owner: &str) {
    assert_eq!(databases.states(index, owner).await, ["1 applied 40"]);
    for number in 0..20 {
        let text = format!("SELECT CAST(COUNT(*) AS CHAR) FROM t{number}");
        assert_eq!(databases.column(index, &text).await, ["1"], "rows of t{number}");
    }
}

/// Runs [`child`] in a process of its own.
fn spawn_child(urls: &[String]) -> Child {
    spawn("migrations::mariadb::child", urls)
}

/// Runs the test of this name in a process of its own.
fn spawn(test: &str, urls: &[String]) -> Child {
    Child::builder(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(URLS, urls.join(" "))
        .spawn()
        .unwrap()
}

/// The databases of this process, if it is the child of a test.
fn urls_of_a_child() -> Option<Vec<String>> {
    #[expect(clippy::disallowed_methods, reason = "how a test tells its child what to do")]
    let urls = std::env::var(URLS).ok()?;
    Some(urls.split(' ').map(str::to_owned).collect())
}

#[trine_testkit::test]
#[ignore = "what other tests run in a process of its own"]
async fn child() {
    let Some(urls) = urls_of_a_child() else { return };
    let report = migrate(&config(&urls), &[long_step(), slow_step()]).await.unwrap();
    println!("applied {}", applied(std::slice::from_ref(&report), "test"));
    assert!(report.is_complete(), "{report}");
}

/// The server needs a second for its second statement, whoever waits for it.
fn slow_step() -> MigrationSet {
    let step = MigrationStep::new(1, "slow").on(
        "mysql",
        [
            "CREATE TABLE before_slow (n INT NOT NULL)",
            "CREATE TABLE slow AS SELECT SLEEP(1) AS n",
            "INSERT INTO before_slow SELECT COUNT(*) FROM before_slow",
            "CREATE TABLE after_slow (n INT NOT NULL)",
        ],
    );
    MigrationSet::new("slow", MigrationScope::Global).step(step)
}

#[trine_testkit::test]
async fn eight_runs_at_once_apply_each_step_once() {
    let databases = Databases::new(2).await;
    let mut config = databases.config();
    config.migrate_timeout = Span::secs(40);
    let sets = [orders(), long_step()];
    for runs in [2, 8] {
        let reports = join_all((0..runs).map(|_| migrate(&config, &sets))).await;
        let reports: Vec<_> = reports.into_iter().collect::<Result<_, _>>().unwrap();
        for report in &reports {
            assert!(report.is_complete(), "{report}");
        }
        // The first round does everything, the second one finds it done.
        assert_eq!(applied(&reports, "orders"), if runs == 2 { 4 } else { 0 });
    }
    check_long_step(&databases).await;

    let databases = Databases::new(2).await;
    let mut config = databases.config();
    config.migrate_timeout = Span::secs(40);
    let reports = join_all((0..8).map(|_| migrate(&config, &sets))).await;
    let reports: Vec<_> = reports.into_iter().collect::<Result<_, _>>().unwrap();
    assert!(reports.iter().all(MigrationReport::is_complete));
    assert_eq!(applied(&reports, "orders"), 4);
    assert_eq!(applied(&reports, "trine-db-shard"), 3);
    check_long_step(&databases).await;
    for index in [1, 2] {
        assert_eq!(databases.column(index, "SELECT item FROM orders").await, ["first"]);
    }
}

#[trine_testkit::test]
async fn two_processes_at_once_apply_each_step_once() {
    let databases = Databases::new(0).await;
    let children = [spawn_child(&databases.urls()), spawn_child(&databases.urls())];
    let mut logs = String::new();
    for child in &children {
        let status = child.wait(Duration::from_secs(40)).await.unwrap();
        assert!(status.success(), "{}", child.log());
        logs.push_str(&child.log());
    }
    assert!(logs.contains("applied 1") && logs.contains("applied 0"), "{logs}");
    check_long_step(&databases).await;
}

#[trine_testkit::test]
async fn a_statement_that_ran_behind_a_killed_run_counts_as_done() {
    let databases = Databases::new(0).await;
    let child = spawn_child(&databases.urls());
    let begun = Instant::now();
    // The statement is under way: all of the tables before it are there.
    while !databases.tables(0).await.contains(&"before_slow".to_owned())
        || databases.states(0, "slow").await != ["1 applying 1"]
    {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", child.log());
    }
    sleep(Duration::from_millis(200)).await;
    child.kill().await.unwrap();
    // The server goes on without the client.
    while !databases.tables(0).await.contains(&"slow".to_owned()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the server gave up");
        sleep(Duration::from_millis(20)).await;
    }
    let look = pending(&databases.config(), &[slow_step()]).await.unwrap();
    let left = &look.databases[0].pending;
    assert!(
        left.iter().any(|step| step.state == StepState::Interrupted { statement: 1 }),
        "{look}"
    );

    let report = migrate(&databases.config(), &[slow_step()]).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(databases.states(0, "slow").await, ["1 applied 4"]);
    let rows = databases.column(0, "SELECT CAST(n AS CHAR) FROM before_slow").await;
    assert_eq!(rows, ["0"]);
    assert!(databases.tables(0).await.contains(&"after_slow".to_owned()));
}

#[trine_testkit::test]
async fn rows_are_committed_with_the_record_that_they_are() {
    let databases = Databases::new(0).await;
    assert!(migrate(&databases.config(), &[]).await.unwrap().is_complete());
    databases.run(0, "CREATE TABLE counted (n INT NOT NULL)").await;
    let set = [one_step(texts([
        "INSERT INTO counted SELECT SLEEP(0.5) FROM DUAL",
        "CREATE TABLE behind (n INT NOT NULL)",
    ]))];
    let mut other = MySqlConnection::connect(&databases.0[0].url()).await.unwrap();
    // Waits for the lease's row behind the insert, and gets it before the
    // record of the next statement.
    let hold = async {
        let text = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.processlist \
                    WHERE info LIKE 'INSERT INTO counted%'";
        while databases.column(0, text).await != ["1"] {}
        let lock = "START TRANSACTION; SELECT * FROM trine_migration_lease FOR UPDATE";
        sqlx::raw_sql(lock).execute(&mut other).await.unwrap();
    };
    let config = databases.config();
    tokio::select! {
        report = migrate(&config, &set) => panic!("not stopped: {report:?}"),
        () = hold => {}
    }
    assert_eq!(databases.states(0, "test").await, ["1 applying 1"]);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    let report = migrate(&config, &set).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(databases.column(0, "SELECT CAST(COUNT(*) AS CHAR) FROM counted").await, ["1"]);
}

#[trine_testkit::test]
async fn a_table_of_somebody_else_is_never_taken_for_done() {
    let databases = Databases::new(0).await;
    databases.run(0, "CREATE TABLE b (quite INT, other INT)").await;
    let set = one_step(texts([
        "CREATE TABLE a (n INT NOT NULL)",
        "INSERT INTO a VALUES (1)",
        "CREATE TABLE b (n INT NOT NULL)",
        "INSERT INTO b VALUES (2)",
    ]));
    for _ in 0..2 {
        let report = migrate(&databases.config(), std::slice::from_ref(&set)).await.unwrap();
        let error = global(&report);
        let text = Report(error).to_string();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(text.contains("test 1 one was refused (statement 3 of 4)"), "{text}");
        assert_eq!(databases.states(0, "test").await, ["1 failed 2"]);
    }
    let stored =
        databases.column(0, "SELECT error FROM trine_migration WHERE owner = 'test'").await;
    assert!(stored[0].contains("already exists"), "{stored:?}");

    databases.run(0, "DROP TABLE b").await;
    let report = migrate(&databases.config(), &[set]).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(databases.column(0, "SELECT CAST(n AS CHAR) FROM a").await, ["1"]);
    assert_eq!(databases.column(0, "SELECT CAST(n AS CHAR) FROM b").await, ["2"]);
}

#[trine_testkit::test]
async fn a_half_done_step_with_another_text_is_refused() {
    let databases = Databases::new(0).await;
    let set = |last: &str| one_step(texts(["CREATE TABLE a (n INT NOT NULL)", last]));
    let report =
        migrate(&databases.config(), &[set("CREATE TABLE b (c INT, c INT)")]).await.unwrap();
    assert_eq!(global(&report).kind(), ErrorKind::Invalid);
    let report = migrate(&databases.config(), &[set("CREATE TABLE b (c INT)")]).await.unwrap();
    let text = global(&report).to_string();
    assert!(text.contains("begun with another text, 1 of its statements are done"), "{text}");
    assert_eq!(global(&report).kind(), ErrorKind::Conflict);
    assert_eq!(databases.states(0, "test").await, ["1 failed 1"]);

    databases.run(0, "DROP TABLE a; DELETE FROM trine_migration WHERE owner = 'test'").await;
    let report = migrate(&databases.config(), &[set("CREATE TABLE b (c INT)")]).await.unwrap();
    assert!(report.is_complete(), "{report}");
}

#[trine_testkit::test]
async fn a_lease_is_waited_for_and_taken_over_once_it_has_expired() {
    let databases = Databases::new(0).await;
    assert!(migrate(&databases.config(), &[]).await.unwrap().is_complete());
    let hold = |span: &str| {
        format!(
            "UPDATE trine_migration_lease SET holder = 'gone:1', token = 'gone', \
             expires_at = UTC_TIMESTAMP(6) + INTERVAL {span}"
        )
    };
    databases.run(0, &hold("1 HOUR")).await;
    let mut config = databases.config();
    config.migrate_timeout = Span::millis(300);
    let report = migrate(&config, &[long_step()]).await.unwrap();
    let error = global(&report);
    assert!(
        matches!(error, Error::Conflict { conflict: Conflict::HeldBy { holder }, .. }
        if &**holder == "gone:1"),
        "{}",
        Report(error)
    );
    assert!(databases.states(0, "test").await.is_empty());

    databases.run(0, &hold("1500000 MICROSECOND")).await;
    let begun = Instant::now();
    let report = migrate(&databases.config(), &[long_step()]).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert!(begun.elapsed() > Duration::from_millis(1_400), "somebody had the lease");
    check_long_step(&databases).await;
}

#[trine_testkit::test]
async fn a_run_that_lost_its_lease_stops_before_its_next_statement() {
    let databases = Databases::new(0).await;
    let config = databases.config();
    let sets = [slow_step()];
    let run = async { migrate(&config, &sets).await.unwrap() };
    let thief = async {
        while !databases.tables(0).await.contains(&"before_slow".to_owned())
            || databases.states(0, "slow").await != ["1 applying 1"]
        {}
        databases
            .run(
                0,
                "UPDATE trine_migration_lease SET holder = 'thief:2', token = 'thief', \
                 expires_at = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR",
            )
            .await;
    };
    let (report, ()) = tokio::join!(run, thief);
    let error = global(&report);
    assert!(
        matches!(error, Error::Conflict { conflict: Conflict::HeldBy { holder }, .. }
        if &**holder == "thief:2"),
        "{}",
        Report(error)
    );
    assert_eq!(databases.states(0, "slow").await, ["1 applying 1"]);
    let count = databases.column(0, "SELECT CAST(COUNT(*) AS CHAR) FROM before_slow").await;
    assert_eq!(count, ["0"], "a statement ran without the lease");
    let token = databases.column(0, "SELECT token FROM trine_migration_lease").await;
    assert_eq!(token, ["thief"], "somebody else's lease was released");
}

#[trine_testkit::test]
async fn a_long_statement_keeps_its_lease() {
    let databases = Databases::new(0).await;
    // Two and a half terms.
    let step =
        MigrationStep::new(1, "long").on("mysql", ["CREATE TABLE l AS SELECT SLEEP(2.5) AS n"]);
    let set = [MigrationSet::new("long", MigrationScope::Global).step(step)];
    // Bounds ordinary statements, not those of a migration.
    let config = databases.config().with_query_timeout(Span::secs(1));
    let first = async { migrate(&config, &set).await.unwrap() };
    let second = async {
        while databases.tables(0).await.len() < 2
            || databases.states(0, "long").await != ["1 applying 0"]
        {}
        migrate(&config, &set).await.unwrap()
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_complete(), "{first}");
    assert!(second.is_complete(), "{second}");
    assert_eq!(applied(&[first], "long"), 1, "the lease was taken from a living run");
    assert_eq!(applied(&[second], "long"), 0);
}

#[trine_testkit::test]
async fn a_start_may_only_check_and_makes_no_table() {
    let databases = Databases::new(1).await;
    let config = databases.config();
    let error = DbService::connect(&config).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { conflict: Conflict::PendingMigrations { .. }, .. }));
    let text = error.to_string();
    assert!(text.contains("trine-db-shard 1 fences, inboxes, tickets, errors"), "{text}");
    assert!(databases.tables(0).await.is_empty() && databases.tables(1).await.is_empty());
    assert!(migrate(&config, &[]).await.unwrap().is_complete());
    let service = DbService::connect(&config).await.unwrap();
    assert_eq!(service.shards().len(), 1);
}

#[trine_testkit::test]
async fn the_script_applied_by_hand_is_the_same() {
    let (by_hand, by_run) = (Databases::new(1).await, Databases::new(1).await);
    let script = print_migrations(&by_hand.config(), &[orders()]).unwrap();
    let (global, shards) = script.split_once("-- each shard").unwrap();
    by_hand.run(0, global).await;
    by_hand.run(1, &format!("-- {shards}")).await;
    let left = pending(&by_hand.config(), &[orders()]).await.unwrap();
    assert!(left.is_complete() && left.databases.iter().all(|one| one.drift.is_empty()), "{left}");

    let report = migrate(&by_run.config(), &[orders()]).await.unwrap();
    assert!(report.is_complete(), "{report}");
    for index in [0, 1] {
        let text = "SELECT CONCAT_WS(' ', owner, version, name, fingerprint, state, next_statement, \
                    error) FROM trine_migration ORDER BY 1";
        let rows = by_hand.column(index, text).await;
        assert_eq!(rows, by_run.column(index, text).await);
        assert!(rows.len() >= 2);
        let text = "SELECT CAST(CONCAT_WS(' ', table_name, column_name, ordinal_position, \
                    column_type, is_nullable, column_key, column_default, collation_name) AS CHAR) \
                    FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY 1";
        assert_eq!(by_hand.column(index, text).await, by_run.column(index, text).await);
    }
    assert_eq!(by_hand.column(1, "SELECT item FROM orders").await, ["first"]);
}
