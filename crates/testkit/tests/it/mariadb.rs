use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, MySqlConnection, Row};
use tokio::time::timeout;
use trine_testkit::{Error, MariaDb, Result};

use crate::{absent, again, gone, printed, victim};

const SOON: Duration = Duration::from_secs(20);

async fn connect(url: &str) -> MySqlConnection {
    timeout(SOON, MySqlConnection::connect(url)).await.expect("no connection").unwrap()
}

async fn run(connection: &mut MySqlConnection, sql: &str) -> sqlx::Result<u64> {
    let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection);
    Ok(timeout(SOON, statement).await.expect("no answer")?.rows_affected())
}

async fn count(url: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT COUNT(*) FROM t").fetch_one(&mut connect(url).await).await
}

fn code(error: &sqlx::Error) -> Option<u16> {
    match error {
        sqlx::Error::Database(error) => {
            Some(error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?.number())
        }
        _ => None,
    }
}

/// An own server with one row in `t`.
async fn server_with_a_row() -> Result<MariaDb> {
    let server = MariaDb::start().await?;
    let mut connection = connect(&server.url()).await;
    run(&mut connection, "CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    run(&mut connection, "INSERT INTO t VALUES (1)").await.unwrap();
    Ok(server)
}

#[trine_testkit::test]
async fn a_server_reads_and_writes_files_in_a_folder_of_its_own_only() -> Result<()> {
    let server = MariaDb::start().await?;
    let mut connection = connect(&server.url()).await;
    let folder: String =
        sqlx::query_scalar("SELECT @@secure_file_priv").fetch_one(&mut connection).await.unwrap();
    assert!(folder.contains("/trine-testkit-"), "{folder}");
    let error = run(&mut connection, "SELECT 1 INTO OUTFILE 'trine-outfile'").await;
    // ER_OPTION_PREVENTS_STATEMENT: the server's folder is elsewhere.
    assert_eq!(code(&error.unwrap_err()), Some(1_290));
    Ok(())
}

#[trine_testkit::test]
async fn a_test_database_is_there_with_its_own_account() -> Result<()> {
    let database = MariaDb::shared().await?.database().await?;
    let mut connection = connect(&database.url()).await;
    let row = sqlx::query("SELECT DATABASE(), SUBSTRING_INDEX(CURRENT_USER(), '@', 1)")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), database.name());
    assert_eq!(row.get::<String, _>(1), database.name());
    run(&mut connection, "CREATE TABLE t (id INT PRIMARY KEY)").await.unwrap();
    assert_eq!(run(&mut connection, "INSERT INTO t VALUES (1), (2)").await.unwrap(), 2);
    Ok(())
}

#[trine_testkit::test]
async fn a_test_database_reaches_no_other() -> Result<()> {
    let shared = MariaDb::shared().await?;
    let (mine, other) = (shared.database().await?, shared.database().await?);
    let mut connection = connect(&mine.url()).await;
    let statements = [
        format!("CREATE TABLE {}.t (id INT)", other.name()),
        format!("DROP DATABASE {}", other.name()),
        // Differs where an underscore is: no pattern must let it through.
        format!("CREATE DATABASE {}", mine.name().replacen('_', "x", 1)),
        "SELECT * FROM mysql.global_priv".to_owned(),
    ];
    for statement in statements {
        let error = run(&mut connection, &statement).await.unwrap_err();
        assert!(matches!(code(&error), Some(1044 | 1142)), "{statement}: {error}");
    }
    Ok(())
}

#[trine_testkit::test]
async fn a_closed_database_is_gone_with_its_account_and_its_connections() -> Result<()> {
    let shared = MariaDb::shared().await?;
    let (kept, database) = (shared.database().await?, shared.database().await?);
    let mut connection = connect(&database.url()).await;
    let (url, name) = (database.url(), database.name());
    database.close().await?;
    run(&mut connection, "SELECT 1").await.unwrap_err();
    let error = MySqlConnection::connect(&url).await.unwrap_err();
    assert_eq!(code(&error), Some(1045), "{error}");
    assert_ne!(kept.name(), name);
    connect(&kept.url()).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_dropped_database_goes_in_the_background() -> Result<()> {
    let database = MariaDb::shared().await?.database().await?;
    let url = database.url();
    drop(database);
    timeout(SOON, async {
        while MySqlConnection::connect(&url).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the database is still there");
    Ok(())
}

#[trine_testkit::test]
async fn databases_of_others_are_never_dropped() -> Result<()> {
    let shared = MariaDb::shared().await?;
    for name in ["mysql", "trine", "trine_test_", "trine_test_%", "production", ""] {
        let error = shared.drop_database(name).await.unwrap_err();
        assert!(matches!(error, Error::ForeignDatabase { .. }), "{name}: {error}");
    }
    let database = shared.database().await?;
    shared.drop_database(&database.name()).await?;
    MySqlConnection::connect(&database.url()).await.unwrap_err();
    Ok(())
}

#[trine_testkit::test]
async fn the_account_of_a_database_is_counted_and_killed_alone() -> Result<()> {
    let shared = MariaDb::shared().await?;
    let (mine, other) = (shared.database().await?, shared.database().await?);
    let (mut first, mut second) = (connect(&mine.url()).await, connect(&mine.url()).await);
    let mut foreign = connect(&other.url()).await;
    assert_eq!(mine.threads_connected().await?, 2);
    assert_eq!(mine.kill_connections().await?, 2);
    for connection in [&mut first, &mut second] {
        run(connection, "SELECT 1").await.unwrap_err();
    }
    run(&mut foreign, "SELECT 1").await.unwrap();
    Ok(())
}

#[trine_testkit::test(start_paused = true)]
async fn a_database_can_be_had_while_the_clock_is_paused() -> Result<()> {
    MariaDb::shared().await?.database().await?.close().await
}

#[trine_testkit::test(start_paused = true)]
async fn a_server_comes_and_goes_while_the_clock_is_paused() -> Result<()> {
    let server = MariaDb::start().await?;
    server.kill().await?;
    server.restart().await?;
    server.pause().await?;
    server.restart_empty().await?;
    assert_eq!(server.kill_connections().await?, 0);
    Ok(())
}

#[trine_testkit::test]
async fn a_server_of_ones_own_is_reached_over_tcp_and_its_socket() -> Result<()> {
    let server = server_with_a_row().await?;
    assert_eq!(count(&server.url()).await.unwrap(), 1);
    assert_eq!(count(&server.socket_url().unwrap()).await.unwrap(), 1);
    assert!(server.version().contains("MariaDB"), "{}", server.version());
    assert_eq!(server.addr().port(), server.port());
    assert!(server.log().contains("ready for connections"));
    Ok(())
}

#[trine_testkit::test]
async fn nobody_logs_in_without_a_password() -> Result<()> {
    let server = MariaDb::start().await?;
    for user in ["root", "", "trine", "trine_admin"] {
        for host in ["127.0.0.1", "localhost"] {
            let socket = server.socket_url().unwrap();
            let socket = socket.split_once("socket=").unwrap().1;
            let via = if host == "localhost" { format!("?socket={socket}") } else { String::new() };
            let url = format!("mysql://{user}@{host}:{}/{via}", server.port());
            let error = MySqlConnection::connect(&url).await.unwrap_err();
            assert!(matches!(code(&error), Some(1045 | 1698)), "{user}@{host}: {error}");
        }
    }
    Ok(())
}

#[trine_testkit::test]
async fn the_administrator_s_url_serves_other_processes() -> Result<()> {
    let server = MariaDb::start().await?;
    let child = again("mariadb::a_test_database_is_there_with_its_own_account")
        .env("TRINE_TEST_MARIADB_URL", server.admin_url())
        .spawn()?;
    let status = child.wait(SOON).await?;
    assert!(status.success(), "{}", child.log());
    assert!(child.log().contains("1 passed"), "{}", child.log());
    let mut admin = connect(&server.admin_url()).await;
    let left: Vec<String> =
        sqlx::query_scalar("SELECT User FROM mysql.user WHERE User LIKE 'trine\\_test\\_%'")
            .fetch_all(&mut admin)
            .await
            .unwrap();
    assert!(left.is_empty(), "a test left {left:?} behind");
    Ok(())
}

#[trine_testkit::test]
async fn what_killed_processes_left_is_swept_after_an_hour() -> Result<()> {
    let server = MariaDb::start().await?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let name = |age: u64| format!("trine_test_{:08x}00000001", now.as_secs() - age);
    let (old, young, foreign) = (name(4_000), name(60), "trine_test_production".to_owned());
    let mut admin = connect(&server.admin_url()).await;
    for name in [&old, &young, &foreign] {
        run(&mut admin, &format!("CREATE DATABASE {name}")).await.unwrap();
    }
    let child = again("mariadb::a_test_database_is_there_with_its_own_account")
        .env("TRINE_TEST_MARIADB_URL", server.admin_url())
        .spawn()?;
    assert!(child.wait(SOON).await?.success(), "{}", child.log());
    let left: Vec<String> = sqlx::query_scalar(
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'trine_test%'",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    assert!(left.contains(&young) && left.contains(&foreign) && left.len() == 2, "{left:?}");
    Ok(())
}

#[trine_testkit::test]
async fn a_url_that_leads_nowhere_fails_the_test_without_showing_it() -> Result<()> {
    let child = again("mariadb::a_test_database_is_there_with_its_own_account")
        .env("TRINE_TEST_MARIADB_URL", "mysql://root:secret@127.0.0.1:1/")
        .spawn()?;
    assert!(!child.wait(SOON).await?.success());
    let log = child.log();
    assert!(log.contains("TRINE_TEST_MARIADB_URL cannot be used"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    Ok(())
}

#[trine_testkit::test]
async fn a_killed_server_comes_back_on_its_port_with_its_data() -> Result<()> {
    let server = server_with_a_row().await?;
    let (url, pid) = (server.url(), server.pid().unwrap());
    let mut connection = connect(&url).await;
    server.kill().await?;
    assert!(gone(pid).await);
    assert_eq!(server.pid(), None);
    run(&mut connection, "SELECT 1").await.unwrap_err();
    MySqlConnection::connect(&url).await.unwrap_err();
    assert!(matches!(server.pause().await, Err(Error::NotRunning { .. })));
    server.restart().await?;
    assert_eq!(count(&url).await.unwrap(), 1);
    assert_eq!(server.url(), url);
    Ok(())
}

#[trine_testkit::test]
async fn an_orderly_restart_keeps_the_data_too() -> Result<()> {
    let server = server_with_a_row().await?;
    let pid = server.pid();
    server.restart().await?;
    assert_ne!(server.pid(), pid);
    assert_eq!(count(&server.url()).await.unwrap(), 1);
    assert!(server.log().contains("Shutdown complete"));
    Ok(())
}

#[trine_testkit::test]
async fn an_empty_restart_loses_the_data_and_keeps_the_accounts() -> Result<()> {
    let server = server_with_a_row().await?;
    server.restart_empty().await?;
    let error = count(&server.url()).await.unwrap_err();
    assert_eq!(code(&error), Some(1146), "{error}");
    Ok(())
}

#[trine_testkit::test]
async fn a_paused_server_hangs_and_a_resumed_one_answers() -> Result<()> {
    let server = server_with_a_row().await?;
    let mut connection = connect(&server.url()).await;
    server.pause().await?;
    let mut query =
        Box::pin(sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM t").fetch_one(&mut connection));
    assert!(timeout(Duration::from_millis(300), &mut query).await.is_err());
    server.resume().await?;
    assert_eq!(timeout(SOON, query).await.unwrap().unwrap(), 1);
    Ok(())
}

#[trine_testkit::test]
async fn a_paused_server_can_be_killed_and_restarted() -> Result<()> {
    let server = server_with_a_row().await?;
    server.pause().await?;
    server.kill().await?;
    server.restart().await?;
    server.pause().await?;
    // In an orderly way, for which it has to go on first.
    server.restart().await?;
    assert_eq!(count(&server.url()).await.unwrap(), 1);
    Ok(())
}

#[trine_testkit::test]
async fn a_read_only_server_refuses_writes_of_ordinary_accounts() -> Result<()> {
    let server = server_with_a_row().await?;
    let database = server.database().await?;
    let mut tenant = connect(&database.url()).await;
    run(&mut tenant, "CREATE TABLE t (id INT)").await.unwrap();
    let mut connection = connect(&server.url()).await;
    server.set_read_only(true).await?;
    for connection in [&mut connection, &mut tenant] {
        let error = run(connection, "INSERT INTO t VALUES (2)").await.unwrap_err();
        assert_eq!(code(&error), Some(1290), "{error}");
    }
    assert_eq!(count(&server.url()).await.unwrap(), 1);
    server.set_read_only(false).await?;
    run(&mut connection, "INSERT INTO t VALUES (2)").await.unwrap();
    Ok(())
}

#[trine_testkit::test]
async fn killed_connections_are_noticed_and_counted() -> Result<()> {
    let server = MariaDb::start().await?;
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(connect(&server.url()).await);
    }
    assert_eq!(server.threads_connected().await?, 3);
    assert_eq!(server.kill_connections().await?, 3);
    for connection in &mut connections {
        run(connection, "SELECT 1").await.unwrap_err();
    }
    assert_eq!(server.threads_connected().await?, 0);
    connect(&server.url()).await;
    Ok(())
}

#[trine_testkit::test]
async fn options_reach_the_server_and_outlive_a_restart() -> Result<()> {
    let server = MariaDb::builder().option("max_connections", "37").start().await?;
    for _ in 0..2 {
        let mut connection = connect(&server.url()).await;
        let most: i64 = sqlx::query_scalar("SELECT CAST(@@max_connections AS SIGNED)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(most, 37);
        server.restart_empty().await?;
    }
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_does_not_start_shows_its_log() {
    let error = MariaDb::builder().option("no_such_option", "1").start().await.unwrap_err();
    let Error::Start { log, .. } = &error else { panic!("{error}") };
    assert!(log.contains("no_such_option"), "{log}");
}

#[trine_testkit::test]
async fn a_dropped_server_is_gone_with_its_folder() -> Result<()> {
    let server = MariaDb::start().await?;
    let pid = server.pid().unwrap();
    let socket = server.socket_url().unwrap().split_once("socket=").unwrap().1.to_owned();
    let folder = std::path::Path::new(&socket).ancestors().nth(2).unwrap().to_owned();
    assert!(folder.exists());
    drop(server);
    assert!(gone(pid).await && absent(&folder).await);
    Ok(())
}

#[trine_testkit::test]
async fn the_server_of_a_killed_process_dies_with_it_and_leaves_no_folder() -> Result<()> {
    let victim = victim("mariadb::victim_with_a_server").spawn()?;
    let pid = printed(&victim, "server pid ").await?.parse().unwrap();
    let socket = printed(&victim, "server socket ").await?;
    let folder = std::path::Path::new(&socket).ancestors().nth(2).unwrap();
    assert!(folder.exists());
    victim.kill().await?;
    assert!(gone(pid).await, "the server outlived its process");
    assert!(absent(folder).await, "the folder outlived its process");
    Ok(())
}

#[trine_testkit::test]
#[ignore = "run as a process of its own by another test"]
async fn victim_with_a_server() -> Result<()> {
    let server = MariaDb::start().await?;
    let url = server.socket_url().unwrap();
    let socket = url.split_once("socket=").unwrap().1;
    println!("\nserver pid {}\nserver socket {socket}", server.pid().unwrap());
    std::future::pending().await
}
