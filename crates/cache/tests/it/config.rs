//! Configurations that cannot be.

use trine_cache::{CacheConfig, CacheDeps, CacheService, Sessions, SessionsConfig, testing};
use trine_core::{ErrorKind, Secret};

fn problems(text: &str) -> Vec<String> {
    let config: CacheConfig = toml::from_str(text).unwrap();
    config.validate().unwrap_err().problems().to_vec()
}

#[test]
fn every_broken_rule_is_listed() {
    let found = problems(
        "default_ttl = '0s'\nttl_jitter = 0.6\nmax_value = '0B'\nstart_timeout = '0s'\n\
         backend = { kind = 'memory', max_bytes = '1KiB' }",
    );
    for field in ["default_ttl", "ttl_jitter", "max_value", "start_timeout", "backend.max_bytes"] {
        assert!(found.iter().any(|problem| problem.starts_with(field)), "{field}: {found:?}");
    }
    let found = problems("backend = { kind = 'memory', max_bytes = '512KiB' }");
    assert_eq!(found, ["backend.max_bytes: 512KiB is less than max_value (1MiB)"]);
}

#[test]
fn a_fence_is_remembered_for_a_second_at_least() {
    for kind in ["memory", "redis"] {
        for (span, is_good) in [("0s", false), ("999ms", false), ("36501d", false), ("1s", true)] {
            let text = format!("backend = {{ kind = '{kind}', fence_retention = '{span}' }}");
            let found = toml::from_str::<CacheConfig>(&text).unwrap().validate();
            assert_eq!(found.is_ok(), is_good, "{kind} {span}");
            let Err(error) = found else { continue };
            let [problem] = error.problems() else { panic!("{error}") };
            assert!(problem.starts_with("backend.fence_retention: "), "{problem}");
            assert!(problem.ends_with(" is not between 1s and 100 years"), "{problem}");
        }
    }
}

#[test]
fn a_typo_is_refused_at_every_level() {
    for text in [
        "backend = { kind = 'memory' }\nmax_valeu = '1MiB'",
        "backend = { kind = 'memory', max_byts = '1MiB' }",
        "backend = { kind = 'redis', conection = 'main' }",
        "backend = { kind = 'radis' }",
        "backend = { kind = 'memory', when_full = 'evcit' }",
    ] {
        assert!(toml::from_str::<CacheConfig>(text).is_err(), "{text}");
    }
    assert!(toml::from_str::<SessionsConfig>("key = 'k'\nidel = '1h'").is_err());
}

#[test]
fn a_redis_that_nobody_gave_is_named() {
    let error = CacheService::open(&CacheConfig::redis("main"), CacheDeps::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("backend.connection: no Redis `main`"), "{error}");
}

#[tokio::test]
async fn sessions_without_a_good_key_are_refused_and_never_shown() {
    let (cache, _) = testing::memory().await.unwrap();
    let text = "key = 'too short'\nidle = '2h'\nabsolute = '1h'\nmax_per_user = 5000\n\
                touch_every = '90m'\nprefix = '{s}'";
    let config: SessionsConfig = toml::from_str(text).unwrap();
    let error = Sessions::<()>::open(&cache, &config).unwrap_err().to_string();
    for field in ["key:", "absolute:", "max_per_user:", "touch_every:", "prefix:"] {
        assert!(error.contains(field), "{field} {error}");
    }
    let config = SessionsConfig::new(Secret::new("hunter2-hunter2-hunter2-hunter2-"));
    assert!(!format!("{config:?} {error}").contains("hunter2"));
    assert!(!error.contains("too short"));
}

#[tokio::test]
async fn sessions_are_refused_where_entries_may_be_dropped() {
    let cache = CacheService::connect(&CacheConfig::memory()).await.unwrap();
    let mut config = SessionsConfig::new(Secret::new("k".repeat(32)));
    let sessions = Sessions::<()>::open(&cache, &config).unwrap();
    let error = sessions.create("ada", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    config.allow_eviction = true;
    let sessions = Sessions::<()>::open(&cache, &config).unwrap();
    sessions.create("ada", &()).await.unwrap();
}
