//! The suite as an account that may do what `docs/wire.md` lists, and nothing
//! else.

use std::path::Path;

use tokio::sync::OnceCell;
use trine_cache::conformance::Fixture;
use trine_core::Secret;
use trine_redis::RedisConfig;
use trine_testkit::Redis;

use crate::support::fixture;

/// Returns the rules in the page, those of the pool and those of the cache.
fn rules() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut rules = String::new();
    for block in page.split("```acl\n").skip(1) {
        rules.push_str(&block.split_once("```").unwrap().0.replace('\n', " "));
    }
    assert!(rules.contains("+get"), "{rules}");
    rules
}

async fn connect() -> Fixture {
    static SERVER: OnceCell<Redis> = OnceCell::const_new();
    let start = || async {
        let rules = format!("on >secret resetkeys ~app:*:* resetchannels -@all {}", rules());
        Redis::builder().user("cache", rules).start().await.unwrap()
    };
    let server = SERVER.get_or_init(start).await;
    let namespace = server.namespace().replace("trine_test_", "app:");
    let url = Secret::new(server.url_of("cache", "secret"));
    fixture(RedisConfig::single(namespace, url), ()).await
}

trine_cache::conformance_tests!(least_rights, super::connect);
