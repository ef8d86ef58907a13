//! Who is let in, and over what.

use std::time::Duration;

use trine_core::{CallContext, Deadline, ErrorKind, Report, Secret, Span};
use trine_redis::{Command, RedisConfig, RedisService, Route, TlsConfig};
use trine_testkit::{Flow, Proxy, Redis};

use crate::support::{
    PATIENCE, TestResult, close, connect, get, set, single, text, until, until_works,
};

#[trine_testkit::test]
async fn a_wrong_password_is_denied_and_never_shown() -> TestResult {
    let server = Redis::builder().password("hunter2").start().await?;
    let service = connect(&single(server.url())).await;
    service.pool().run(&set("k", "v")).await?;
    assert!(!format!("{service:?}").contains("hunter2"));
    close(&service).await;
    for url in [
        format!("redis://:hunter3@{}", server.addr()),
        format!("redis://nobody:hunter3@{}", server.addr()),
        format!("redis://{}", server.addr()),
    ] {
        let error = RedisService::connect(&single(url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let shown = format!("{error:?} {}", Report(&error));
        assert!(!shown.contains("hunter"), "{shown}");
    }
    let service = connect(&single(server.url())).await;
    let refused = Command::write("ACL").arg("SETUSER").arg("bob").arg(">>hunter2").arg("hunter3");
    let error = service.pool().run(&refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let shown = format!("{error:?} {}", Report(&error));
    assert!(shown.contains("ACL SETUSER") && !shown.contains("hunter"), "{shown}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_user_may_do_what_its_rules_say() -> TestResult {
    let rules = "on >secret ~app:* +@read +@connection +info";
    let server = Redis::builder().user("bob", rules).start().await?;
    let config =
        single(format!("redis://{}", server.addr())).with_credentials("bob", Secret::new("secret"));
    let service = connect(&config).await;
    assert!(service.pool().run(&get("app:k")).await?.is_nil());
    for command in [set("app:k", "v"), get("other")] {
        let error = service.pool().run(&command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    }
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn an_absent_server_is_unavailable_after_the_start_timeout() -> TestResult {
    let config = single("redis://127.0.0.1:1").with_start_timeout(Duration::from_millis(300));
    let error = RedisService::connect(&config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(Report(&error).to_string().contains("127.0.0.1:1"), "{}", Report(&error));
    Ok(())
}

#[trine_testkit::test]
async fn tls_to_a_plain_port_says_so() -> TestResult {
    let server = Redis::start().await?;
    let mut config =
        RedisConfig::single("test", Secret::new(format!("rediss://{}", server.addr())))
            .with_start_timeout(Duration::from_secs(2));
    config.connect_timeout = Span::millis(300);
    let error = RedisService::connect(&config).await.unwrap_err();
    let shown = Report(&error).to_string();
    assert!(shown.contains("TLS") || shown.contains("tls"), "{shown}");
    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unavailable), "{shown}");
    Ok(())
}

#[trine_testkit::test]
async fn tls_is_spoken_with_an_authority_of_ones_own() -> TestResult {
    let server = Redis::builder().tls().option("tls-auth-clients", "yes").start().await?;
    let files = server.tls().unwrap();
    let mut tls = TlsConfig::default();
    tls.ca_file = Some(files.ca_file());
    tls.cert_file = Some(files.client_certificate_file());
    tls.key_file = Some(files.client_key_file());
    let config = single(server.url()).with_tls(tls.clone());
    let service = connect(&config).await;
    service.pool().run(&set("k", "v")).await?;
    let _own = service.pool().acquire(Route::Any).await?;
    let _heard = service.pool().subscribe(&["a"]).await?;
    drop(_own);
    close(&service).await;

    let refused = |tls| async {
        let config = single(server.url()).with_tls(tls);
        RedisService::connect(&config.with_start_timeout(Duration::from_secs(1))).await.unwrap_err()
    };
    // Mozilla does not know the authority.
    let error = refused(TlsConfig::default()).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{}", Report(&error));
    let mut other_name = tls.clone();
    other_name.server_name = Some("redis.example".to_owned());
    assert_eq!(refused(other_name).await.kind(), ErrorKind::Invalid);
    let mut absent = tls;
    absent.ca_file = Some("no/such/ca.pem".into());
    let error = refused(absent).await;
    assert!(Report(&error).to_string().contains("tls.ca_file"), "{}", Report(&error));
    Ok(())
}

#[trine_testkit::test]
async fn certificates_that_are_renewed_are_read_again() -> TestResult {
    let (server, other) =
        (Redis::builder().tls().start().await?, Redis::builder().tls().start().await?);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ca.pem");
    let put = |text: &[u8]| {
        let new = folder.path().join("new.pem");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &file)
    };
    let authority = |server: &Redis| std::fs::read(server.tls().unwrap().ca_file());
    put(&authority(&server)?)?;
    let mut tls = TlsConfig::default();
    tls.ca_file = Some(file.clone());
    let service = connect(&single(server.url()).with_tls(tls)).await;
    let redis = service.pool();
    redis.run(&get("k")).await?;

    // Half written: the former is good enough.
    put(b"-----BEGIN")?;
    server.kill_connections().await?;
    until_works(redis, &get("k")).await;

    put(&authority(&other)?)?;
    server.kill_connections().await?;
    until("a refused certificate", async || {
        redis.run(&get("k")).await.is_err_and(|error| error.kind() == ErrorKind::Invalid)
    })
    .await;

    put(&authority(&server)?)?;
    until_works(redis, &get("k")).await;
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn plain_text_to_a_tls_port_says_so() -> TestResult {
    let server = Redis::builder().tls().start().await?;
    let config =
        single(format!("redis://{}", server.addr())).with_start_timeout(Duration::from_secs(2));
    let error = RedisService::connect(&config).await.unwrap_err();
    let shown = Report(&error).to_string();
    assert!(shown.contains("TLS"), "{shown}");
    Ok(())
}

#[trine_testkit::test]
async fn a_password_changes_under_load() -> TestResult {
    let server = Redis::builder().user("bob", "on >first ~* +@all").start().await?;
    let config = single(server.url_of("bob", "first"));
    let service = connect(&config).await;
    let redis = service.pool();
    let load = crate::support::Load::start(redis, "n");
    let error = redis.set_credentials("bob", Secret::new("hunter2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!format!("{error:?} {}", Report(&error)).contains("hunter2"));
    server.admin(&["ACL", "SETUSER", "bob", ">second"]).await?;
    redis.set_credentials("bob", Secret::new("second")).await?;
    server.admin(&["ACL", "SETUSER", "bob", "<first"]).await?;
    load.wait_for(50).await;
    let load = load.end().await;
    assert_eq!(load.failed() + load.unknown, 0, "{load:?}");
    // New connections have the new one.
    server.kill_connections().await?;
    crate::support::until_works(redis, &get("n")).await;
    assert!(redis.acquire(Route::Any).await.is_ok());
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_loan_that_comes_back_is_lent_to_nobody_under_a_former_user() -> TestResult {
    let rules = "on >secret ~* &* +@all";
    let server = Redis::builder().user("bob", rules).user("eve", rules).start().await?;
    let service = connect(&single(server.url_of("bob", "secret"))).await;
    let redis = service.pool();
    let who = Command::read("ACL").arg("WHOAMI");
    let mut own = redis.acquire(Route::Any).await?;
    redis.set_credentials("eve", Secret::new("secret")).await?;
    assert_eq!(text(&own.run(&who, PATIENCE).await?), "bob");
    drop(own);
    let mut own = redis.acquire(Route::Any).await?;
    assert_eq!(text(&own.run(&who, PATIENCE).await?), "eve");
    drop(own);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_failed_start_leaves_no_task_and_may_be_repeated() -> TestResult {
    let server = Redis::start().await?;
    let config = single(server.url()).with_start_timeout(Duration::from_millis(200));
    let service = RedisService::open(&config, Default::default())?;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    server.kill().await?;
    assert_eq!(service.start().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((tasks(), service.state()), (before, trine_core::State::Failed));
    server.restart().await?;
    service.start().await?;
    service.pool().run(&set("k", "v")).await?;
    close(&service).await;
    crate::support::until("the end of all tasks", async || tasks() == before).await;
    Ok(())
}

#[trine_testkit::test]
async fn the_deadline_of_the_call_bounds_the_trial_of_a_password() -> TestResult {
    let server = Redis::builder().user("bob", "on >first >second ~* &* +@all").start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let url = format!("redis://{}", proxy.addr());
    let mut config = single(url).with_credentials("bob", Secret::new("first"));
    config.connect_timeout = PATIENCE.into();
    let service = connect(&config).await;
    proxy.set(Flow::Hang);
    let near = CallContext::default().with_deadline(Deadline::after(Duration::from_millis(50)));
    let changing = service.pool().set_credentials("bob", Secret::new("second"));
    let error = near.scope(changing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    proxy.set(Flow::Pass);
    // Nothing has changed: the first one still lets new connections in.
    server.admin(&["ACL", "SETUSER", "bob", "<second"]).await?;
    assert!(service.pool().acquire(Route::Any).await.is_ok());
    close(&service).await;
    Ok(())
}
