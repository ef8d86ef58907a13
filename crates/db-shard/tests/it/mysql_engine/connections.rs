//! The pool: who gets a connection, and which one.

use super::*;
use futures_util::{StreamExt, TryStreamExt, future::join_all};
use tokio::time::{Instant, sleep, timeout};
use trine_core::Deadline;
use trine_db_shard::BeginOptions;
use trine_testkit::{Flow, Proxy};

fn select_one() -> Statement {
    read("SELECT 1", vec![])
}

/// Makes all connections that the pool may have.
async fn fill(backend: &MysqlBackend) {
    let max = backend.stats().max;
    let held = (0..max).map(|_| backend.begin(call(), BeginOptions::default()));
    for work in join_all(held).await {
        work.unwrap().rollback(call()).await.unwrap();
    }
    assert_eq!(backend.stats().size, max);
}

#[tokio::test]
async fn a_caller_who_waits_in_vain_learns_the_numbers_and_the_setting() {
    let database = database().await;
    let mut config = config(&database.url(), 1);
    config.pool.acquire_timeout = Span::millis(50);
    let backend = open(&config);
    let work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    let error = backend.run(call(), select_one()).await.unwrap_err();
    let (kind, text) = told(&error);
    assert_eq!(kind, ErrorKind::Exhausted);
    assert!(text.contains("1 of 1 in use") && text.contains("pool.max"), "{text}");
    // The deadline of the call ends the wait as well.
    let started = Instant::now();
    let brief = backend.run(call_of(Duration::from_millis(10)), select_one()).await.unwrap_err();
    assert_eq!(brief.kind(), ErrorKind::Exhausted);
    assert!(started.elapsed() < Duration::from_millis(45), "{:?}", started.elapsed());
    drop(work);
    backend.run(call(), select_one()).await.unwrap();
}

#[tokio::test]
async fn the_pool_never_grows_beyond_its_size() {
    let (database, backend) = backend(3).await;
    backend.prove(call()).await.unwrap();
    let queries = (0..30).map(|_| backend.run(call(), read("SELECT SLEEP(0.01)", vec![])));
    for reply in join_all(queries).await {
        reply.unwrap();
    }
    let stats = backend.stats();
    assert_eq!((stats.size, stats.idle, stats.waiting), (3, 3, 0));
    // Those of the pool, and the one that kills others.
    assert_eq!(database.threads_connected().await.unwrap(), 4);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_asked_before_its_use() {
    let database = database().await;
    for (idle_check, expected) in
        [(Span::millis(1), None), (Span::secs(60), Some(ErrorKind::Unavailable))]
    {
        let mut config = config(&database.url(), 1);
        config.pool.idle_check = idle_check;
        let backend = open(&config);
        backend.run(call(), select_one()).await.unwrap();
        database.kill_connections().await.unwrap();
        sleep(Duration::from_millis(5)).await;
        let reply = backend.run(call(), select_one()).await;
        assert_eq!(reply.err().map(|error| error.kind()), expected, "{idle_check:?}");
    }
}

#[tokio::test]
async fn after_one_connection_broke_the_others_are_asked_before_their_use() {
    let (database, backend) = backend(5).await;
    fill(&backend).await;
    database.kill_connections().await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..10 {
        kinds.extend(backend.run(call(), select_one()).await.err().map(|error| error.kind()));
    }
    assert_eq!(kinds, [ErrorKind::Unavailable], "one caller finds out for all");
}

#[tokio::test]
async fn a_connection_is_replaced_at_its_age() {
    let database = database().await;
    let mut config = config(&database.url(), 1);
    config.pool.max_lifetime = Span::millis(200);
    let backend = open(&config);
    for _ in 0..3 {
        backend.run(call(), select_one()).await.unwrap();
    }
    assert_eq!(backend.stats().connects, 1);
    sleep(Duration::from_millis(230)).await;
    backend.run(call(), select_one()).await.unwrap();
    assert_eq!(backend.stats().connects, 2);
    assert_eq!(database.threads_connected().await.unwrap(), 1);
}

// DB-16
#[tokio::test]
async fn few_connections_are_made_at_the_same_time() {
    let database = database().await;
    let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let backend = open(&config(&database.url_via(proxy.addr()), 20));
    proxy.set(Flow::Hang);
    let calls = (0..20).map(|_| backend.run(call(), read("SELECT SLEEP(0.05)", vec![])));
    let watching = async {
        assert!(eventually(TIMEOUT, async || proxy.accepted() == 4).await);
        // Time enough for the other sixteen.
        sleep(Duration::from_millis(100)).await;
        assert_eq!(proxy.accepted(), 4);
        proxy.set(Flow::Pass);
    };
    let (replies, ()) = tokio::join!(join_all(calls), watching);
    assert!(replies.iter().all(Result::is_ok));
}

/// The negative control: the driver's own pool of the same size makes them all.
#[tokio::test]
async fn the_drivers_own_pool_makes_all_connections_at_the_same_time() {
    let database = database().await;
    let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let pool = sqlx::mysql::MySqlPoolOptions::new().max_connections(20);
    let pool = pool.connect_lazy(&database.url_via(proxy.addr())).unwrap();
    proxy.set(Flow::Hang);
    let calls = (0..20).map(|_| sqlx::query("SELECT SLEEP(0.05)").fetch_all(&pool));
    let watching = async {
        let all = eventually(TIMEOUT, async || proxy.accepted() == 20).await;
        proxy.set(Flow::Pass);
        assert!(all, "{} connections at the same time", proxy.accepted());
    };
    let (replies, ()) = tokio::join!(join_all(calls), watching);
    assert!(replies.iter().all(Result::is_ok));
}

#[tokio::test]
async fn texts_that_change_do_not_stall_over_tcp() {
    let (_database, backend) = backend(1).await;
    backend.run(call(), select_one()).await.unwrap();
    let started = Instant::now();
    for n in 0..100 {
        let reply = backend.run(call(), dynamic(format!("SELECT {n} + ?"), vec![Value::Int(1)]));
        assert_eq!(only(&reply.await.unwrap()), Value::Int(n + 1));
    }
    let each = started.elapsed() / 100;
    println!("texts that change, over TCP: {each:?} each");
    // A stall is 40 ms or more.
    assert!(each < Duration::from_millis(20), "{each:?} each");
}

#[tokio::test]
async fn prepared_statements_are_bounded_per_connection() {
    let database = database().await;
    let mut config = config(&database.url(), 1);
    config.pool.statement_cache = 10;
    let backend = open(&config);
    const OPEN: &str = "SELECT SUM(IF(VARIABLE_NAME = 'COM_STMT_PREPARE', VARIABLE_VALUE, \
                        -VARIABLE_VALUE)) FROM information_schema.SESSION_STATUS \
                        WHERE VARIABLE_NAME IN ('COM_STMT_PREPARE', 'COM_STMT_CLOSE')";
    let text = |n: i64| dynamic(format!("SELECT {n}"), vec![]);
    for n in 0..100 {
        backend.run(call(), text(n)).await.unwrap();
    }
    assert_eq!(backend.stats().connects, 10);
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    for n in 0..100 {
        work.run(call(), text(n)).await.unwrap();
    }
    let open = work.run(call(), read(OPEN, vec![])).await.unwrap();
    let Value::Float(open) = only(&open) else { panic!("expected a float: {open:?}") };
    assert!(open <= 10.0, "{open} open statements");
    work.commit(call()).await.unwrap();
}

#[tokio::test]
async fn a_stream_gives_rows_as_they_come_and_its_connection_back() {
    let (_database, backend) = backend(1).await;
    let rows: Vec<_> = backend
        .stream(call(), read("SELECT seq FROM seq_1_to_5000", vec![]))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rows.len(), 5000);
    assert_eq!(rows[4999].values(), [Value::Int(5000)]);
    let failed: Vec<_> = backend.stream(call(), read("SELEC 1", vec![])).collect().await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].as_ref().unwrap_err().kind(), ErrorKind::Invalid);
    backend.run(call(), select_one()).await.unwrap();
    let stats = backend.stats();
    assert_eq!((stats.connects, stats.cancelled), (1, 0));
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_its_query() {
    let (_database, backend) = backend(1).await;
    let mut rows = backend.stream(call(), read("SELECT seq FROM seq_1_to_10000000", vec![]));
    for n in 1..=3 {
        assert_eq!(rows.next().await.unwrap().unwrap().values(), [Value::Int(n)]);
    }
    drop(rows);
    backend.run(call(), select_one()).await.unwrap();
    let stats = backend.stats();
    assert_eq!((stats.cancelled, stats.abandoned, stats.size), (1, 0, 1));
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let (_database, backend) = backend(1).await;
    let slow = read("SELECT seq, SLEEP(0.02) FROM seq_1_to_1000", vec![]);
    let mut rows = backend.stream(call_of(Duration::from_millis(200)), slow);
    let error = loop {
        match rows.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(rows.next().await.is_none());
    drop(rows);
    backend.run(call(), select_one()).await.unwrap();
}

#[tokio::test]
async fn closing_finishes_what_is_under_way_and_refuses_what_comes() {
    let (database, backend) = backend(1).await;
    backend.prove(call()).await.unwrap();
    let under_way = backend.run(call(), read("SELECT SLEEP(0.2)", vec![]));
    let waiting = async {
        sleep(Duration::from_millis(20)).await;
        backend.run(call(), select_one()).await
    };
    let closing = async {
        sleep(Duration::from_millis(50)).await;
        backend.close(Deadline::after(TIMEOUT)).await;
        backend.run(call(), select_one()).await
    };
    let (under_way, waiting, after) = tokio::join!(under_way, waiting, closing);
    assert_eq!(only(&under_way.unwrap()), Value::Int(0));
    assert_eq!(waiting.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(after.unwrap_err().kind(), ErrorKind::Closed);
    let gone = eventually(TIMEOUT, async || database.threads_connected().await.unwrap() == 0).await;
    assert!(gone);
    backend.close(Deadline::after(TIMEOUT)).await;
}

#[tokio::test]
async fn closing_is_bounded_when_the_server_is_stuck() {
    let database = database().await;
    let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let backend = open(&config(&database.url_via(proxy.addr()), 2));
    backend.prove(call()).await.unwrap();
    let mut stuck = Box::pin(backend.run(call(), read("SELECT SLEEP(20)", vec![])));
    assert!(timeout(Duration::from_millis(50), &mut stuck).await.is_err());
    let mut dropped = Box::pin(backend.run(call(), read("SELECT SLEEP(20)", vec![])));
    assert!(timeout(Duration::from_millis(50), &mut dropped).await.is_err());
    proxy.set(Flow::Hang);
    drop(dropped);
    let started = Instant::now();
    backend.close(Deadline::after(Duration::from_millis(200))).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
