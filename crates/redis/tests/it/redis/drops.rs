//! Futures that are dropped.

use std::cell::Cell;
use std::time::Duration;

use trine_redis::{Command, Script, Value};
use trine_testkit::{DropPlan, Flow, Proxy, Redis, drop_at_every_await};

use crate::support::{TestResult, close, connect, get, incr, set, single, text, until_works};

#[trine_testkit::test]
async fn a_dropped_call_leaves_no_reply_to_another() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let service = connect(&single(server.url_via(proxy.addr()))).await;
    let redis = service.pool();
    let script = Script::new("return redis.call('GET', KEYS[1])");
    for n in 0..10 {
        redis.run(&set(&format!("k{n}"), format!("v{n}"))).await?;
    }
    let turn = Cell::new(0);
    let make = || {
        let key = format!("k{}", turn.replace((turn.get() + 1) % 10));
        let script = &script;
        async move {
            let one = redis.run(&get(&key)).await.unwrap();
            let all = redis.run_all(vec![get(&key), script.command([&key])]).await;
            assert_eq!(text(&one)[1..], key[1..]);
            for reply in all {
                assert_eq!(text(&reply.unwrap())[1..], key[1..]);
            }
        }
    };
    let check = async |_| {
        for n in 0..10 {
            let value = redis.run(&get(&format!("k{n}"))).await.unwrap();
            assert_eq!(text(&value), format!("v{n}"), "a reply of another call");
        }
    };
    // On a busy machine a reply may be there before anybody looks for it.
    proxy.set_replies(Flow::Delay(Duration::from_millis(2)));
    let report = drop_at_every_await(make, check).await?;
    assert!(report.confirmed > 0, "{report:?}");
    proxy.set_replies(Flow::Pass);
    let report = DropPlan::random(7, 200).run(make, check).await?;
    assert!(report.confirmed > 0, "{report:?}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_dropped_call_on_a_broken_connection_stops_no_other() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let service = connect(&single(server.url_via(proxy.addr()))).await;
    let redis = service.pool();
    let make = || {
        proxy.kill_all();
        async {
            let _either = redis.run(&incr("n")).await;
            let _either = redis.run_all(vec![incr("n"), get("k")]).await;
        }
    };
    drop_at_every_await(make, async |_| {
        until_works(redis, &set("k", "v")).await;
        assert_eq!(text(&redis.run(&get("k")).await.unwrap()), "v");
    })
    .await?;
    proxy.set_replies(Flow::Delay(Duration::from_millis(5)));
    drop_at_every_await(make, async |_| {
        until_works(redis, &Command::write("SET").key("k").arg("v")).await;
        assert_eq!(redis.run(&Command::read("STRLEN").key("k")).await.unwrap(), Value::Int(1));
    })
    .await?;
    close(&service).await;
    Ok(())
}
