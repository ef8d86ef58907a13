//! Servers that crash, hang, refuse or are not what they were.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use sqlx::{Connection, MySqlConnection};
use tokio::time::{Instant, sleep, timeout};
use trine_db_shard::BeginOptions;
use trine_testkit::{Door, Flow, Proxy};

fn select_one() -> Statement {
    read("SELECT 1", vec![])
}

async fn recovers(backend: &MysqlBackend) -> bool {
    eventually(TIMEOUT, async || backend.run(call(), select_one()).await.is_ok()).await
}

// CO-11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_outlives_a_crash_of_its_server() {
    let server = MariaDb::start().await.unwrap();
    let backend = open(&config(&server.url(), 4));
    backend.prove(call()).await.unwrap();
    let before = backend.prove(call()).await.unwrap().identity;
    let warm = (0..4).map(|_| backend.run(call(), read("SELECT SLEEP(0.05)", vec![])));
    join_all(warm).await;
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    let under_way = backend.run(call(), write("DO SLEEP(20)", vec![]));
    let (under_way, killed) = tokio::join!(under_way, async {
        sleep(Duration::from_millis(50)).await;
        server.kill().await
    });
    killed.unwrap();
    assert_eq!(under_way.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let error = work.run(call(), select_one()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    drop(work);
    for _ in 0..20 {
        let started = Instant::now();
        let error = backend.run(call(), select_one()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    server.restart().await.unwrap();
    let started = Instant::now();
    assert!(recovers(&backend).await);
    println!("back {:?} after the server", started.elapsed());
    assert_ne!(backend.prove(call()).await.unwrap().identity, before);
    let all = (0..4).map(|_| backend.run(call(), read("SELECT SLEEP(0.05)", vec![])));
    assert!(join_all(all).await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_few_writes_are_unknown() {
    let server = MariaDb::start().await.unwrap();
    let backend = open(&config(&server.url(), 10));
    run(&backend, "CREATE TABLE t (n INT)", vec![]).await;
    let warm = (0..10).map(|_| backend.run(call(), read("SELECT SLEEP(0.05)", vec![])));
    join_all(warm).await;
    assert_eq!(backend.stats().size, 10);
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let mut failed = 0;
    for _ in 0..20 {
        let insert = write("INSERT INTO t VALUES (1)", vec![]);
        failed += usize::from(backend.run(call(), insert).await.is_err());
    }
    assert_eq!(failed, 1, "the first one finds out for all ten connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_is_refused_and_its_connections_are_closed() {
    let server = MariaDb::start().await.unwrap();
    let backend = open(&config(&server.url(), 1));
    run(&backend, "CREATE TABLE t (n INT)", vec![]).await;
    let insert = || write("INSERT INTO t VALUES (1)", vec![]);
    assert!(!backend.prove(call()).await.unwrap().is_read_only);
    server.set_read_only(true).await.unwrap();
    let connects = backend.stats().connects;
    for _ in 0..3 {
        let (kind, text) = told(&backend.run(call(), insert()).await.unwrap_err());
        assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    }
    assert_eq!(backend.stats().connects, connects + 2, "each refusal closed a connection");
    assert!(backend.prove(call()).await.unwrap().is_read_only);
    backend.run(call(), select_one()).await.unwrap();
    let mut work = backend.begin(call(), BeginOptions::default()).await.unwrap();
    assert_eq!(work.run(call(), insert()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(work);
    server.set_read_only(false).await.unwrap();
    backend.run(call(), insert()).await.unwrap();
    assert_eq!(one(&backend, "SELECT COUNT(*) FROM t").await, Value::Int(1));
}

// DB-24
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_costs_each_call_its_deadline_and_no_more() {
    let database = database().await;
    let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let mut config = config(&database.url_via(proxy.addr()), 2);
    config.cancel_grace = Span::millis(300);
    let backend = open(&config);
    backend.prove(call()).await.unwrap();
    proxy.set(Flow::Hang);
    proxy.set_door(Door::Silent).await.unwrap();
    let brief = Duration::from_millis(200);
    let within = async |statement: Statement| {
        let started = Instant::now();
        let error = backend.run(call_of(brief), statement).await.unwrap_err();
        // Generous: the machine is shared.
        assert!(started.elapsed() < brief * 5, "{:?}", started.elapsed());
        error.kind()
    };
    assert_eq!(within(select_one()).await, ErrorKind::Timeout);
    // Nothing of this one was sent: there was no connection.
    let unsent = within(write("DO 1", vec![])).await;
    assert!(matches!(unsent, ErrorKind::Timeout | ErrorKind::Unavailable), "{unsent:?}");
    for _ in 0..5 {
        within(select_one()).await;
    }
    proxy.set_door(Door::Open).await.unwrap();
    proxy.set(Flow::Pass);
    proxy.kill_all();
    assert!(recovers(&backend).await);
    let both = (0..2).map(|_| backend.run(call(), read("SELECT SLEEP(0.02)", vec![])));
    assert!(join_all(both).await.iter().all(Result::is_ok), "both places are back");
}

/// The negative control: without a deadline of its own a call never ends.
#[tokio::test]
async fn a_black_hole_keeps_the_driver_for_ever() {
    let database = database().await;
    let proxy = Proxy::to(database.addr().await.unwrap()).await.unwrap();
    let mut connection = MySqlConnection::connect(&database.url_via(proxy.addr())).await.unwrap();
    proxy.set(Flow::Hang);
    let asked = sqlx::query("SELECT 1").fetch_all(&mut connection);
    // As long as the calls of the pool may take at most.
    assert!(timeout(Duration::from_secs(1), asked).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_more_connections_is_unavailable_until_it_does() {
    let server = MariaDb::builder().option("max_connections", "10").start().await.unwrap();
    let other = open(&config(&server.url(), 12));
    let backend = open(&config(&server.url(), 4));
    let mut held = Vec::new();
    let refused = loop {
        match other.begin(call(), BeginOptions::default()).await {
            Ok(work) => held.push(work),
            Err(error) => break error,
        }
    };
    let (kind, text) = told(&refused);
    assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    assert!(text.contains("1040"), "{text}");
    assert_eq!(backend.run(call(), select_one()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    other.close(trine_core::Deadline::after(Duration::from_millis(1))).await;
    drop(held);
    assert!(recovers(&backend).await);
}

#[tokio::test]
async fn a_statement_killed_by_somebody_else_is_told_apart() {
    let (database, backend) = backend(2).await;
    let under_way = backend.run(call(), read("SELECT SLEEP(20)", vec![]));
    let (error, _) = tokio::join!(under_way, async {
        sleep(Duration::from_millis(50)).await;
        database.kill_connections().await.unwrap()
    });
    let (kind, text) = told(&error.unwrap_err());
    assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    assert_eq!(one(&backend, "SELECT 1").await, Value::Int(1));
}

// DB-16
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_come_back_over_few_connections() {
    const CLIENTS: usize = 1000;
    const MAX: usize = 20;
    let server = MariaDb::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let backend = Arc::new(open(&config(&server.url_via(proxy.addr()), 20)));
    backend.prove(call()).await.unwrap();
    server.kill().await.unwrap();
    proxy.kill_all();
    let back = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (backend, back) = (Arc::clone(&backend), Arc::clone(&back));
            async move {
                while backend.run(call(), select_one()).await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
                back.fetch_add(1, Ordering::Relaxed);
            }
        })
        .collect();
    let recovery = async {
        sleep(Duration::from_millis(300)).await;
        let attempts = proxy.accepted();
        server.restart().await.unwrap();
        let restarted = Instant::now();
        let (mut most, mut whole) = (0, None);
        while whole.is_none() {
            most = most.max(server.threads_connected().await.unwrap());
            if back.load(Ordering::Relaxed) == CLIENTS {
                whole = Some(restarted.elapsed());
            }
        }
        (attempts, most, whole.unwrap())
    };
    let ((attempts, most, whole), _) =
        timeout(Duration::from_secs(60), async { tokio::join!(recovery, join_all(clients)) })
            .await
            .expect("a client never came back");
    println!(
        "{CLIENTS} clients: {attempts} attempts while the server was away, at most {most} threads, \
         all back {whole:?} after the restart, {} connections made",
        backend.stats().connects
    );
    assert!(attempts < 100, "{attempts} attempts at a server that is away");
    assert!(most <= MAX + 2, "{most} threads");
    assert!(whole < Duration::from_secs(25), "{whole:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_killed_by_an_id_of_an_earlier_run_of_the_server() {
    let server = MariaDb::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap();
    let mut config_via = config(&server.url_via(proxy.addr()), 1);
    config_via.cancel_grace = Span::secs(20);
    let backend = open(&config_via);
    backend.prove(call()).await.unwrap();
    let slow = backend.run(call(), read("SELECT SLEEP(60)", vec![]));
    assert!(timeout(Duration::from_millis(50), slow).await.is_err_and(|_| {
        // The KILL never gets there.
        proxy.set(Flow::Hang);
        true
    }));
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    // The ids of the earlier run are given anew, to these among others.
    let bystander = open(&config(&server.url(), 20));
    let asleep = (0..20).map(|_| bystander.run(call(), read("SELECT SLEEP(2)", vec![])));
    let cancelling = async {
        sleep(Duration::from_millis(500)).await;
        proxy.set(Flow::Pass);
        proxy.kill_all();
        assert!(recovers(&backend).await, "the place comes back");
    };
    let (replies, ()) = tokio::join!(join_all(asleep), cancelling);
    for reply in replies {
        assert_eq!(only(&reply.unwrap()), Value::Int(0));
    }
    let stats = backend.stats();
    assert_eq!((stats.cancelled, stats.abandoned), (1, 1));
}
