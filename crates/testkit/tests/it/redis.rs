use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};
use trine_testkit::{Error, Redis, RedisPersistence, RedisReply, Result};

use crate::{absent, again, gone, printed, victim};

const SOON: Duration = Duration::from_secs(20);

/// Whose timers go on.
#[trine_testkit::test]
async fn a_server_has_a_clock_of_its_own() -> Result<()> {
    let server = Redis::builder().own_clock().start().await?;
    let seconds = async || -> Result<i64> {
        let time = server.admin(&["TIME"]).await?;
        Ok(time.items().first().and_then(RedisReply::integer).unwrap_or_default())
    };
    let began = seconds().await?;
    for ahead in [600, -600] {
        server.set_clock(ahead)?;
        let off = seconds().await? - began;
        assert!((ahead..ahead + 60).contains(&off), "{off} for {ahead}");
    }
    server.restart().await?;
    let off = seconds().await? - began;
    assert!((-600..-540).contains(&off), "{off}");
    server.admin(&["DEBUG", "SLEEP", "0.01"]).await?;
    let plain = Redis::start().await?;
    assert!(matches!(plain.set_clock(1), Err(Error::Invalid(_))));
    Ok(())
}

/// A client that knows nothing of the kit: it sends a line and reads once.
struct Plain(TcpStream);

impl Plain {
    fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self(stream)
    }

    fn send(&mut self, line: &str) -> String {
        self.try_send(line).unwrap()
    }

    fn try_send(&mut self, line: &str) -> std::io::Result<String> {
        self.0.write_all(format!("{line}\r\n").as_bytes())?;
        let mut answer = [0; 4_096];
        match self.0.read(&mut answer)? {
            0 => Err(std::io::ErrorKind::ConnectionReset.into()),
            length => Ok(String::from_utf8_lossy(&answer[..length]).into_owned()),
        }
    }
}

fn ok() -> RedisReply {
    RedisReply::Status("OK".into())
}

fn value(text: &str) -> RedisReply {
    RedisReply::Bytes(text.into())
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    match outcome.unwrap_err() {
        Error::Refused { answer, .. } => answer,
        error => panic!("{error}"),
    }
}

async fn server_with_a_key(persistence: RedisPersistence) -> Result<Redis> {
    let server = Redis::builder().persistence(persistence).start().await?;
    assert_eq!(server.admin(&["SET", "k", "v"]).await?, ok());
    Ok(server)
}

#[trine_testkit::test]
async fn tests_of_one_server_have_namespaces_of_their_own() -> Result<()> {
    let shared = Redis::shared().await?;
    let (mine, other) = (shared.namespace(), shared.namespace());
    assert_ne!(mine, other);
    let digits = mine.strip_prefix("trine_test_").unwrap();
    assert!(digits.len() == 16 && digits.chars().all(|c| c.is_ascii_hexdigit()), "{mine}");
    let key = format!("{mine}:k");
    shared.admin(&["SET", &key, "v", "PX", "60000"]).await?;
    assert_eq!(shared.admin(&["GET", &key]).await?, value("v"));
    assert_eq!(shared.admin(&["GET", &format!("{other}:k")]).await?, RedisReply::Nil);
    shared.admin(&["DEL", &key]).await?;
    Ok(())
}

#[trine_testkit::test]
async fn the_shared_server_is_one_and_evicts_nothing() -> Result<()> {
    let (first, second) = (Redis::shared().await?, Redis::shared().await?);
    assert_eq!(first.url(), second.url());
    assert!(first.version().starts_with(|c: char| c.is_ascii_digit()), "{}", first.version());
    let policy = first.admin(&["CONFIG", "GET", "maxmemory-policy"]).await?;
    assert_eq!(policy.items()[1], value("noeviction"));
    Ok(())
}

#[trine_testkit::test(start_paused = true)]
async fn a_server_comes_and_goes_while_the_clock_is_paused() -> Result<()> {
    let server = Redis::start().await?;
    server.kill().await?;
    server.restart().await?;
    server.pause().await?;
    server.restart_empty().await?;
    assert_eq!(server.kill_connections().await?, 0);
    Ok(())
}

#[trine_testkit::test]
async fn a_server_answers_its_clients_at_its_address() -> Result<()> {
    let server = Redis::start().await?;
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}/", server.port()));
    assert_eq!(Plain::connect(server.addr()).send("PING"), "+PONG\r\n");
    assert!(server.log().contains("Ready to accept connections"), "{}", server.log());
    Ok(())
}

#[trine_testkit::test]
async fn the_url_serves_other_processes() -> Result<()> {
    let server = Redis::builder().password("p@ss \"word\"").start().await?;
    let child = again("redis::tests_of_one_server_have_namespaces_of_their_own")
        .env("TRINE_TEST_REDIS_URL", server.url())
        .spawn()?;
    assert!(child.wait(SOON).await?.success(), "{}", child.log());
    assert!(child.log().contains("1 passed"), "{}", child.log());
    let calls = server.admin(&["INFO", "commandstats"]).await?.text().unwrap();
    assert!(calls.contains("cmdstat_set:calls=1"), "{calls}");
    assert!(!calls.contains("flush"), "{calls}");
    Ok(())
}

#[trine_testkit::test]
async fn a_url_that_leads_nowhere_fails_the_test_without_showing_it() -> Result<()> {
    let child = again("redis::tests_of_one_server_have_namespaces_of_their_own")
        .env("TRINE_TEST_REDIS_URL", "redis://root:secret@127.0.0.1:1/")
        .spawn()?;
    assert!(!child.wait(SOON).await?.success());
    let log = child.log();
    assert!(log.contains("TRINE_TEST_REDIS_URL cannot be used"), "{log}");
    assert!(!log.contains("secret"), "{log}");
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_cannot_be_had_fails_the_test_with_instructions() -> Result<()> {
    // No program is looked up there, and what the kit itself needs is at fixed
    // places.
    let child = again("redis::a_server_answers_its_clients_at_its_address")
        .env("PATH", "/nonexistent")
        .spawn()?;
    assert!(!child.wait(SOON).await?.success());
    assert!(child.log().contains("apt-get install"), "{}", child.log());
    Ok(())
}

#[trine_testkit::test]
async fn a_killed_server_comes_back_on_its_port_with_its_data() -> Result<()> {
    let server = server_with_a_key(RedisPersistence::Always).await?;
    let (url, pid) = (server.url(), server.pid().unwrap());
    let mut client = Plain::connect(server.addr());
    server.kill().await?;
    assert!(gone(pid).await);
    assert_eq!(server.pid(), None);
    client.try_send("PING").unwrap_err();
    TcpStream::connect(server.addr()).unwrap_err();
    assert!(matches!(server.pause().await, Err(Error::NotRunning { .. })));
    server.restart().await?;
    assert_eq!(server.admin(&["GET", "k"]).await?, value("v"));
    assert_eq!(server.url(), url);
    Ok(())
}

#[trine_testkit::test]
async fn a_server_without_persistence_comes_back_without_data() -> Result<()> {
    let server = server_with_a_key(RedisPersistence::None).await?;
    let run = server.info("run_id").await?;
    server.restart().await?;
    assert_eq!(server.admin(&["GET", "k"]).await?, RedisReply::Nil);
    assert_ne!(server.info("run_id").await?, run);
    Ok(())
}

#[trine_testkit::test]
async fn an_orderly_restart_keeps_what_a_second_would_have_written() -> Result<()> {
    let server = server_with_a_key(RedisPersistence::EverySecond).await?;
    server.restart().await?;
    assert_eq!(server.admin(&["GET", "k"]).await?, value("v"));
    assert_eq!(server.info("aof_enabled").await?.as_deref(), Some("1"));
    Ok(())
}

#[trine_testkit::test]
async fn an_empty_restart_loses_the_data_and_keeps_the_settings() -> Result<()> {
    let server = Redis::builder()
        .persistence(RedisPersistence::Always)
        .password("secret")
        .option("maxclients", "37")
        .start()
        .await?;
    server.admin(&["SET", "k", "v"]).await?;
    server.restart_empty().await?;
    assert_eq!(server.admin(&["GET", "k"]).await?, RedisReply::Nil);
    assert_eq!(server.admin(&["CONFIG", "GET", "maxclients"]).await?.items()[1], value("37"));
    assert!(Plain::connect(server.addr()).send("PING").starts_with("-NOAUTH"));
    Ok(())
}

#[trine_testkit::test]
async fn a_paused_server_hangs_and_a_resumed_one_answers() -> Result<()> {
    let server = server_with_a_key(RedisPersistence::None).await?;
    let mut client = Plain::connect(server.addr());
    server.pause().await?;
    client.0.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = client.try_send("GET k").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    client.0.set_read_timeout(Some(SOON)).unwrap();
    server.resume().await?;
    let mut answer = [0; 7];
    client.0.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"$1\r\nv\r\n");
    Ok(())
}

#[trine_testkit::test]
async fn a_full_server_refuses_or_evicts_as_it_was_told() -> Result<()> {
    let big = "x".repeat(200_000);
    let refuses = Redis::builder().max_memory("1500kb", "noeviction").start().await?;
    let evicts = Redis::builder().max_memory("1500kb", "allkeys-lru").start().await?;
    let mut refused = 0;
    for number in 0..20 {
        let key = number.to_string();
        evicts.admin(&["SET", &key, &big]).await?;
        if let Err(Error::Refused { answer, .. }) = refuses.admin(&["SET", &key, &big]).await {
            assert!(answer.starts_with("OOM "), "{answer}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert!(evicts.admin(&["DBSIZE"]).await?.integer().unwrap() < 20);
    Ok(())
}

#[trine_testkit::test]
async fn accounts_may_do_what_their_rules_allow() -> Result<()> {
    let server = Redis::builder()
        .password("secret")
        .user("bob", "on >of-bob ~bob:* +@all -@dangerous")
        .start()
        .await?;
    assert_eq!(server.url(), format!("redis://:secret@127.0.0.1:{}/", server.port()));
    let bob = server.url_of("bob", "of-bob");
    assert_eq!(bob, format!("redis://bob:of-bob@127.0.0.1:{}/", server.port()));
    let mut client = Plain::connect(server.addr());
    assert!(client.send("GET k").starts_with("-NOAUTH"));
    assert_eq!(client.send("AUTH bob of-bob"), "+OK\r\n");
    assert_eq!(client.send("SET bob:k v"), "+OK\r\n");
    assert!(client.send("SET k v").starts_with("-NOPERM"));
    // The kit stays in, whatever becomes of the others.
    server.admin(&["ACL", "SETUSER", "default", "off"]).await?;
    server.admin(&["ACL", "DELUSER", "bob"]).await?;
    assert_eq!(server.admin(&["GET", "bob:k"]).await?, value("v"));
    assert!(!format!("{server:?}").contains("secret"));
    Ok(())
}

/// Asks a TLS server for a `PING` and returns its answer.
fn ask_tls(addr: SocketAddr, config: ClientConfig) -> std::io::Result<String> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(addr)?);
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn trusting(ca: &Path) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    ClientConfig::builder().with_root_certificates(roots)
}

#[trine_testkit::test]
async fn a_server_with_tls_shows_a_certificate_of_its_own_authority() -> Result<()> {
    let server = Redis::builder().tls().start().await?;
    let other = Redis::builder().tls().start().await?;
    assert_eq!(server.url(), format!("rediss://127.0.0.1:{}/", server.port()));
    let config = |server: &Redis| trusting(&server.tls().unwrap().ca_file()).with_no_client_auth();
    assert_eq!(ask_tls(server.addr(), config(&server)).unwrap(), "+PONG\r\n");
    ask_tls(server.addr(), config(&other)).unwrap_err();
    // In the clear it speaks to nobody, and the kit reaches it all the same.
    assert!(Plain::connect(server.addr()).try_send("PING").unwrap_or_default().is_empty());
    server.restart().await?;
    assert_eq!(ask_tls(server.addr(), config(&server)).unwrap(), "+PONG\r\n");
    Ok(())
}

#[trine_testkit::test]
async fn a_server_with_tls_may_ask_clients_for_a_certificate() -> Result<()> {
    let server = Redis::builder().tls().option("tls-auth-clients", "yes").start().await?;
    let tls = server.tls().unwrap();
    let ca = tls.ca_file();
    ask_tls(server.addr(), trusting(&ca).with_no_client_auth()).unwrap_err();
    let certificate = CertificateDer::from_pem_file(tls.client_certificate_file()).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls.client_key_file()).unwrap();
    let config = trusting(&ca).with_client_auth_cert(vec![certificate], key).unwrap();
    assert_eq!(ask_tls(server.addr(), config).unwrap(), "+PONG\r\n");
    Ok(())
}

#[trine_testkit::test]
async fn connections_of_clients_are_counted_and_killed() -> Result<()> {
    let server = Redis::start().await?;
    let mut clients: Vec<_> = (0..3).map(|_| Plain::connect(server.addr())).collect();
    for client in &mut clients {
        client.send("PING");
    }
    assert_eq!(server.connections().await?, 3);
    assert_eq!(server.kill_connections().await?, 3);
    for client in &mut clients {
        client.try_send("PING").unwrap_err();
    }
    assert_eq!(server.connections().await?, 0);
    Ok(())
}

#[trine_testkit::test]
async fn a_refused_command_says_why() -> Result<()> {
    let server = server_with_a_key(RedisPersistence::None).await?;
    assert!(refusal(server.admin(&["INCR", "k"]).await).starts_with("ERR value is not"));
    assert_eq!(server.admin(&["DEBUG", "SLEEP", "0"]).await?, ok());
    Ok(())
}

#[trine_testkit::test]
async fn a_server_that_does_not_start_shows_its_log() {
    let error = Redis::builder().option("no-such-option", "1").start().await.unwrap_err();
    let Error::Start { log, .. } = &error else { panic!("{error}") };
    assert!(log.contains("no-such-option"), "{log}");
}

#[trine_testkit::test]
async fn a_dropped_server_is_gone_with_its_folder() -> Result<()> {
    let server = Redis::start().await?;
    let pid = server.pid().unwrap();
    let folder = folder_of(&server).await?;
    assert!(folder.exists());
    drop(server);
    assert!(gone(pid).await && absent(&folder).await);
    Ok(())
}

async fn folder_of(server: &Redis) -> Result<std::path::PathBuf> {
    let data = server.admin(&["CONFIG", "GET", "dir"]).await?.items()[1].text().unwrap();
    Ok(std::path::Path::new(&data).parent().unwrap().to_owned())
}

#[trine_testkit::test]
async fn the_server_of_a_killed_process_dies_with_it_and_leaves_no_folder() -> Result<()> {
    let victim = victim("redis::victim_with_a_server").spawn()?;
    let pid = printed(&victim, "server pid ").await?.parse().unwrap();
    let folder = printed(&victim, "server folder ").await?;
    let folder = std::path::Path::new(&folder);
    assert!(folder.exists());
    victim.kill().await?;
    assert!(gone(pid).await, "the server outlived its process");
    assert!(absent(folder).await, "the folder outlived its process");
    Ok(())
}

#[trine_testkit::test]
#[ignore = "run as a process of its own by another test"]
async fn victim_with_a_server() -> Result<()> {
    let server = Redis::start().await?;
    let folder = folder_of(&server).await?;
    println!("\nserver pid {}\nserver folder {}", server.pid().unwrap(), folder.display());
    std::future::pending().await
}
