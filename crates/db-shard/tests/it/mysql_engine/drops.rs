//! Futures dropped before they are ready.
//!
//! A drop counts only if it is *confirmed unfinished*: the last poll answered
//! `Pending`. Replies come packet by packet through a proxy, so that drops
//! meet every place in them.

use super::*;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::future::join_all;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::{Connection, MySqlConnection};
use tokio::time::{Instant, timeout};
use trine_db_shard::BeginOptions;
use trine_testkit::{DropPlan, Flow, Proxy, SoakPlan};

const MAX: u32 = 3;

/// A pool behind a proxy, and what it was seen to do.
struct Bench {
    database: TestDatabase,
    proxy: Proxy,
    backend: MysqlBackend,
    rounds: AtomicU64,
}

impl Bench {
    async fn new() -> Self {
        let database = database().await;
        let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
        let backend = open(&config(&database.url_via(proxy.addr()), MAX));
        backend.prove(call()).await.unwrap();
        run(&backend, "CREATE TABLE t (n BIGINT)", vec![]).await;
        run(
            &backend,
            "CREATE PROCEDURE two (IN n BIGINT) BEGIN SELECT n; SELECT n, seq FROM \
            seq_1_to_5; END",
            vec![],
        )
        .await;
        Self { database, proxy, backend, rounds: AtomicU64::new(0) }
    }

    /// One call whose reply takes many packets; another kind each time.
    fn work(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.proxy.set_replies(Flow::Step);
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        let mark = Value::from(round);
        let backend = &self.backend;
        Box::pin(async move {
            match round % 6 {
                0 => {
                    let statement = read("SELECT ?, seq FROM seq_1_to_20", vec![mark]);
                    let _ = backend.run(call(), statement).await;
                }
                1 => {
                    let text = format!("SELECT {round}, ?, seq FROM seq_1_to_10");
                    let _ = backend.run(call(), dynamic(text, vec![mark])).await;
                }
                2 => {
                    let _ =
                        backend.run(call(), write("INSERT INTO t VALUES (?)", vec![mark])).await;
                }
                3 => {
                    let _ = backend.call(call(), write("CALL two(?)", vec![mark])).await;
                }
                4 => {
                    let statement = read("SELECT ?, seq FROM seq_1_to_20", vec![mark]);
                    let mut rows = backend.stream(call(), statement);
                    while let Some(Ok(_)) = rows.next().await {}
                }
                _ => {
                    let Ok(mut work) = backend.begin(call(), BeginOptions::default()).await else {
                        return;
                    };
                    let insert = write("INSERT INTO t VALUES (-1)", vec![]);
                    let _ = work.run(call(), insert).await;
                    let _ =
                        work.run(call(), read("SELECT ?, seq FROM seq_1_to_9", vec![mark])).await;
                    let _ = work.rollback(call()).await;
                }
            }
        })
    }

    /// The next caller gets its own row; returns how long that took.
    async fn next_caller(&self) -> Result<Duration, String> {
        self.proxy.set_replies(Flow::Pass);
        let mark = self.rounds.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let ask = read("SELECT ?", vec![Value::from(mark)]);
        let reply = self.backend.run(call(), ask).await.map_err(|error| told(&error).1)?;
        let waited = started.elapsed();
        // Packets of a connection that is being killed would take the steps
        // that are meant for the next round.
        let is_over = async || {
            let stats = self.backend.stats();
            stats.idle == stats.size
        };
        if !eventually(TIMEOUT, is_over).await {
            return Err(format!("a place is not given back: {:?}", self.backend.stats()));
        }
        match reply.rows.as_slice() {
            [row] if row.values() == [Value::from(mark)] => Ok(waited),
            rows => Err(format!("a foreign row for {mark}: {rows:?}")),
        }
    }

    async fn check_threads(&self) -> Result<(), String> {
        let threads = self.database.threads_connected().await.map_err(|error| error.to_string())?;
        // One that kills, and one that the server is still taking down.
        let most = MAX as usize + 2;
        if threads > most { Err(format!("{threads} of {most} server threads")) } else { Ok(()) }
    }

    /// All places of the pool can be taken at once.
    async fn check_places(&self) {
        let all = (0..MAX).map(|_| self.backend.begin(call(), BeginOptions::default()));
        let held = timeout(TIMEOUT, join_all(all)).await.expect("a place is lost");
        for work in held {
            work.unwrap().rollback(call()).await.unwrap();
        }
        let stats = self.backend.stats();
        assert_eq!((stats.size, stats.waiting), (MAX as usize, 0));
        assert_eq!(stats.abandoned, 0);
    }
}

/// Rounds are drops, confirmed unfinished.
#[expect(clippy::print_stdout, reason = "the harness shows the figures")]
async fn drop_many() {
    const BATCH: usize = 200;
    let mut plan = SoakPlan::new("cancel", 300).unwrap();
    let bench = Bench::new().await;
    let (mut worst, mut confirmed, mut finished, mut deepest) = (Duration::ZERO, 0, 0, 0);
    let mut long = 0;
    loop {
        let due = std::iter::from_fn(|| plan.next_round()).take(BATCH).count() as u64;
        if due == 0 {
            break;
        }
        let (mut short, slow) = (0, due.div_ceil(10));
        while short + slow < due {
            let report = DropPlan::random(plan.rng().next_u64(), (due - slow - short).max(20))
                .feeding(|| bench.proxy.step())
                .run(
                    || bench.work(),
                    async |point| {
                        worst = worst.max(bench.next_caller().await?);
                        if point.round % 16 == 0 { bench.check_threads().await } else { Ok(()) }
                    },
                )
                .await
                .unwrap();
            short += report.confirmed;
            finished += report.finished;
            deepest = deepest.max(report.deepest);
            let seen = confirmed + short;
            assert!(finished < seen * 4 + 100, "{seen} drops, {finished} ran to their end");
        }
        for round in 0..slow {
            let text = if round % 2 == 0 {
                "SELECT SLEEP(60)"
            } else {
                "SELECT COUNT(*) FROM seq_1_to_100000 a, seq_1_to_100000 b WHERE a.seq * b.seq = 7"
            };
            let unfinished = bench.backend.run(call(), read(text, vec![]));
            assert!(timeout(Duration::from_millis(2), unfinished).await.is_err());
            worst = worst.max(bench.next_caller().await.unwrap());
        }
        confirmed += short + slow;
        long += slow;
    }
    bench.check_threads().await.unwrap();
    bench.check_places().await;
    assert_eq!(one(&bench.backend, "SELECT COUNT(*) FROM t WHERE n = -1").await, Value::Int(0));
    println!(
        "{confirmed} drops confirmed unfinished (seed {}, {finished} ran to their end, {long} \
         long, at most {deepest} packets deep): 0 of {MAX} places lost, 0 foreign rows, {} killed, \
         worst wait of the next caller {worst:?}",
        plan.seed(),
        bench.backend.stats().cancelled,
    );
    assert!(confirmed >= plan.rounds());
    assert!(deepest >= 10, "no drop went deep: {deepest} packets");
}

// DB-17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_calls_lose_no_place_and_leave_no_row_behind() {
    drop_many().await;
}

// DB-17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form: cargo xtask soak cancel --count 100000"]
async fn soak_cancel() {
    drop_many().await;
}

/// The negative control: what the driver's own pool makes of the same drops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drivers_own_pool_loses_its_places_to_such_drops() {
    let database = database().await;
    let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let pool = MySqlPoolOptions::new()
        .max_connections(MAX)
        .acquire_timeout(Duration::from_millis(300))
        .connect(&database.url_via(proxy.addr()))
        .await
        .unwrap();
    let mut round = 0;
    let report = DropPlan::random(1, 60)
        .run(
            || {
                proxy.set_replies(Flow::Packets(Duration::from_millis(1)));
                round += 1;
                let text = sqlx::AssertSqlSafe(format!("SELECT {round}, ?, seq FROM seq_1_to_20"));
                let rows = sqlx::query(text).bind(round).fetch_all(&pool);
                async move {
                    let _ = rows.await;
                }
            },
            async |_| proxy.set_replies(Flow::Pass),
        )
        .await
        .unwrap();
    proxy.set_replies(Flow::Pass);
    let mut held = Vec::new();
    while let Ok(connection) = pool.acquire().await {
        held.push(connection);
    }
    println!("{} drops of the driver's own: {} of {MAX} places left", report.confirmed, held.len());
    assert!(held.len() < MAX as usize, "the drops do not bite: nothing was lost");
}

/// The other negative control: a connection that goes on after a drop is an
/// answer behind. The driver's pool notices that when it takes one back, and
/// lost its place instead.
#[tokio::test]
async fn the_drivers_own_connection_is_an_answer_behind_after_such_a_drop() {
    let database = database().await;
    let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let mut connection = MySqlConnection::connect(&database.url_via(proxy.addr())).await.unwrap();
    proxy.set_replies(Flow::Hang);
    let dropped = sqlx::query("SELECT 7").fetch_all(&mut connection);
    assert!(timeout(Duration::from_millis(50), dropped).await.is_err());
    proxy.set_replies(Flow::Pass);
    let asked = sqlx::query_scalar::<_, i64>("SELECT ?").bind(1).fetch_one(&mut connection);
    let answer = timeout(TIMEOUT, asked).await.unwrap();
    assert!(matches!(answer, Err(sqlx::Error::Protocol(_))), "{answer:?}");
}

#[tokio::test]
async fn a_long_query_that_is_dropped_ends_on_the_server() {
    let (database, backend) = backend(1).await;
    backend.prove(call()).await.unwrap();
    let slow = backend.run(call(), read("SELECT SLEEP(60)", vec![]));
    assert!(timeout(Duration::from_millis(50), slow).await.is_err());
    // The only place comes back long before the query would have ended.
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
    assert_eq!(database.threads_connected().await.unwrap(), 2);
    let stats = backend.stats();
    assert_eq!((stats.cancelled, stats.abandoned), (1, 0));
}

#[tokio::test]
async fn a_call_past_its_deadline_ends_on_the_server_too() {
    let (database, backend) = backend(1).await;
    backend.prove(call()).await.unwrap();
    let brief = call_of(Duration::from_millis(50));
    let error = backend.run(brief, read("SELECT SLEEP(60)", vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
    let error = backend.run(brief, write("DO SLEEP(60)", vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
    assert_eq!(database.threads_connected().await.unwrap(), 2);
}

#[tokio::test]
async fn with_close_the_place_comes_back_at_once() {
    let database = database().await;
    let mut config = config(&database.url(), 1);
    config.cancel = trine_db_shard::Cancel::Close;
    let backend = open(&config);
    backend.prove(call()).await.unwrap();
    assert_eq!(database.threads_connected().await.unwrap(), 1);
    let slow = backend.run(call(), read("SELECT SLEEP(1)", vec![]));
    assert!(timeout(Duration::from_millis(50), slow).await.is_err());
    assert_eq!(backend.stats().size, 0);
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
    assert_eq!(backend.stats().abandoned, 0);
}
