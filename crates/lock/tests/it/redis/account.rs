//! The suite as an account that may do what `docs/wire.md` lists, and nothing
//! else.

use std::path::Path;

use tokio::sync::OnceCell;
use trine_core::Secret;
use trine_lock::conformance::Fixture;
use trine_redis::RedisConfig;
use trine_testkit::Redis;

use crate::support::redis::fixture;

/// Returns the rules in the page, those of the pool and those of locks.
fn rules() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut rules = String::new();
    for section in ["\n## trine-redis\n", "\n## trine-lock\n"] {
        let section = page.split_once(section).unwrap().1;
        let block = section.split_once("```acl\n").unwrap().1.split_once("```").unwrap().0;
        rules.push_str(&block.replace('\n', " "));
    }
    rules
}

async fn connect() -> Fixture {
    static SERVER: OnceCell<Redis> = OnceCell::const_new();
    let start = || async {
        let rules =
            format!("on >secret resetkeys ~app:*:* resetchannels &app:*:* -@all {}", rules());
        Redis::builder().user("locks", rules).start().await.unwrap()
    };
    let server = SERVER.get_or_init(start).await;
    let namespace = server.namespace().replace("trine_test_", "app:");
    let url = Secret::new(server.url_of("locks", "secret"));
    fixture(RedisConfig::single(namespace, url), ()).await
}

trine_lock::conformance_tests!(least_rights, super::connect);
