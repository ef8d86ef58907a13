//! Every mode of the proxy against a query of a real driver to a real server.

use std::io;
use std::time::Duration;

use sqlx::{Connection, MySqlConnection};
use tokio::time::{Instant, timeout};
use trine_testkit::{Door, DropPlan, Flow, MariaDb, Proxy, Result, Side, TestDatabase};

const SOON: Duration = Duration::from_secs(10);
const WHILE: Duration = Duration::from_millis(150);

struct Setup {
    /// Its drop ends its connections, so it has to stay in scope.
    database: TestDatabase,
    proxy: Proxy,
    connection: MySqlConnection,
}

async fn set_up() -> Result<Setup> {
    let database = MariaDb::shared().await?.database().await?;
    let proxy = Proxy::to(database.addr().await?).await?;
    let url = database.url_via(proxy.addr());
    let mut connection = MySqlConnection::connect(&url).await.unwrap();
    assert_eq!(seven(&mut connection).await.unwrap(), 7);
    Ok(Setup { database, proxy, connection })
}

async fn seven(connection: &mut MySqlConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT 7").fetch_one(connection).await
}

async fn rows(connection: &mut MySqlConnection) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar("SELECT CAST(seq AS SIGNED) FROM seq_1_to_20").fetch_all(connection).await
}

fn io_kind(error: &sqlx::Error) -> Option<io::ErrorKind> {
    match error {
        sqlx::Error::Io(error) => Some(error.kind()),
        _ => None,
    }
}

#[trine_testkit::test]
async fn refused() -> Result<()> {
    let Setup { database, proxy, connection: _connection } = set_up().await?;
    proxy.set_door(Door::Refuse).await?;
    let error = MySqlConnection::connect(&database.url_via(proxy.addr())).await.unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionRefused), "{error}");
    Ok(())
}

#[trine_testkit::test]
async fn a_silent_address() -> Result<()> {
    let Setup { database, proxy, mut connection } = set_up().await?;
    proxy.set_door(Door::Silent).await?;
    let url = database.url_via(proxy.addr());
    assert!(timeout(2 * WHILE, MySqlConnection::connect(&url)).await.is_err());
    assert_eq!(seven(&mut connection).await.unwrap(), 7);
    Ok(())
}

#[trine_testkit::test]
async fn reset() -> Result<()> {
    let Setup { proxy, mut connection, database: _database } = set_up().await?;
    proxy.set_replies(Flow::ResetAfter(5));
    let error = rows(&mut connection).await.unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionReset), "{error}");
    Ok(())
}

#[trine_testkit::test]
async fn cut() -> Result<()> {
    let Setup { proxy, mut connection, database: _database } = set_up().await?;
    proxy.set_replies(Flow::CutAfter(20));
    let error = rows(&mut connection).await.unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::UnexpectedEof), "{error}");
    Ok(())
}

#[trine_testkit::test]
async fn hanging() -> Result<()> {
    let Setup { proxy, mut connection, database: _database } = set_up().await?;
    proxy.set_replies(Flow::Hang);
    let mut query = Box::pin(seven(&mut connection));
    assert!(timeout(WHILE, &mut query).await.is_err());
    proxy.set(Flow::Pass);
    assert_eq!(timeout(SOON, query).await.unwrap().unwrap(), 7);
    Ok(())
}

#[trine_testkit::test]
async fn delayed() -> Result<()> {
    let Setup { proxy, mut connection, database: _database } = set_up().await?;
    proxy.set_requests(Flow::Delay(Duration::from_millis(60)));
    proxy.set_replies(Flow::Delay(Duration::from_millis(60)));
    let start = Instant::now();
    assert_eq!(seven(&mut connection).await.unwrap(), 7);
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
    Ok(())
}

#[trine_testkit::test]
async fn throttled() -> Result<()> {
    let Setup { proxy, mut connection, database: _database } = set_up().await?;
    proxy.set_replies(Flow::Throttle(1_000));
    let start = Instant::now();
    assert_eq!(rows(&mut connection).await.unwrap().len(), 20);
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    Ok(())
}

#[trine_testkit::test]
async fn half_open() -> Result<()> {
    let Setup { database, proxy, mut connection } = set_up().await?;
    proxy.lose(Side::Server);
    assert!(timeout(WHILE, seven(&mut connection)).await.is_err());
    timeout(SOON, async {
        while database.threads_connected().await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the server was not told");
    Ok(())
}

#[trine_testkit::test]
async fn a_client_that_vanished() -> Result<()> {
    let Setup { database, proxy, mut connection } = set_up().await?;
    proxy.lose(Side::Client);
    seven(&mut connection).await.unwrap_err();
    assert_eq!(database.threads_connected().await?, 1, "the server was told");
    Ok(())
}

#[trine_testkit::test]
async fn killed() -> Result<()> {
    let Setup { proxy, mut connection, database: _database } = set_up().await?;
    proxy.kill_all();
    seven(&mut connection).await.unwrap_err();
    Ok(())
}

#[trine_testkit::test]
async fn packet_by_packet() -> Result<()> {
    let Setup { proxy, mut connection, database: _database } = set_up().await?;
    rows(&mut connection).await.unwrap();
    proxy.set_replies(Flow::Packets(Duration::from_millis(1)));
    assert_eq!(rows(&mut connection).await.unwrap().len(), 20);
    Ok(())
}

/// Each of the packets of a reply is seen by a poll of its own, so a query of
/// 20 rows can be dropped at more than 20 points; all at once it is a few.
#[trine_testkit::test]
async fn a_query_is_dropped_between_any_two_packets() -> Result<()> {
    let Setup { database, proxy, connection } = set_up().await?;
    drop(connection);
    let url = database.url_via(proxy.addr());
    let slot = std::cell::RefCell::new(None);
    let connect = async || {
        proxy.set_replies(Flow::Pass);
        let mut fresh = MySqlConnection::connect(&url).await.unwrap();
        rows(&mut fresh).await.unwrap();
        *slot.borrow_mut() = Some(fresh);
        proxy.set_replies(Flow::Step);
    };
    connect().await;
    let query = || {
        let mut connection = slot.borrow_mut().take().unwrap();
        async move { rows(&mut connection).await.unwrap().len() }
    };
    let report = DropPlan::every_await()
        .feeding(|| proxy.step())
        .run(query, async |_| connect().await)
        .await
        .unwrap();
    assert!(report.confirmed >= 20, "{report:?}");
    assert_eq!(report.finished, 1);
    Ok(())
}
