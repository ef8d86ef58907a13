//! Who is let in, and over what.

use std::time::Duration;

use trine_core::{ErrorKind, Report, Secret, Span};
use trine_redis::{RedisConfig, RedisService};
use trine_testkit::Redis;

use crate::support::{TestResult, close, connect, get, set, single};

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
