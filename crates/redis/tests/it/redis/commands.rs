//! What commands, batches and scripts answer.

use tokio::net::{TcpStream, UnixListener};
use trine_core::{CallContext, Deadline, ErrorKind, Tasks};
use trine_redis::{Command, Error, RedisService, Script, Value};
use trine_testkit::{Flow, Proxy, Redis};

use crate::support::{PATIENCE, TestResult, close, connect, get, incr, set, single, text};

#[trine_testkit::test]
async fn commands_have_their_replies_and_refusals_their_kinds() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let redis = service.pool();
    assert_eq!(redis.run(&Command::write("SET").key("k").arg(41)).await?, Value::Ok);
    assert_eq!(redis.run(&incr("k")).await?, Value::Int(42));
    assert_eq!(text(&redis.run(&get("k")).await?), "42");
    assert!(redis.run(&get("absent")).await?.is_nil());
    let bytes = Vec::from(*b"\0\xff\r\n");
    redis.run(&Command::write("SET").key("b").arg(&bytes)).await?;
    assert_eq!(redis.run(&get("b")).await?.into_bytes(), Some(bytes));
    let refused = [
        (Command::read("LLEN").key("k"), ErrorKind::Invalid),
        (Command::read("GET"), ErrorKind::Invalid),
        (incr("b"), ErrorKind::Invalid),
        (Command::read("NOSUCH").arg("hunter2"), ErrorKind::Unsupported),
        (Command::write("SELECT").arg(1), ErrorKind::Invalid),
        (Command::write("FLUSHALL"), ErrorKind::Invalid),
        (Command::read("BLPOP").key("k").arg(0), ErrorKind::Invalid),
    ];
    for (command, kind) in refused {
        let error = redis.run(&command).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{command:?}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    close(&service).await;
    let error = redis.run(&get("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    Ok(())
}

#[trine_testkit::test]
async fn nothing_is_sent_before_the_start() -> TestResult {
    let server = Redis::start().await?;
    let service = RedisService::open(&single(server.url()), Default::default())?;
    let error = service.pool().run(&get("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let results = service.pool().run_all(vec![get("k"), get("k")]).await;
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(Result::is_err));
    Ok(())
}

#[trine_testkit::test]
async fn a_refusal_in_a_batch_stays_with_its_command() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let mut batch = vec![set("list", "x"), incr("list"), incr("n"), Command::write("SELECT")];
    batch.extend((0..2_500).map(|n| set(&format!("m{n}"), n.to_string())));
    let results = service.pool().run_all(batch).await;
    assert_eq!(results.len(), 2_504);
    assert!(matches!(results[1], Err(Error::Invalid { .. })), "{:?}", results[1]);
    assert_eq!(*results[2].as_ref().unwrap(), Value::Int(1));
    assert!(matches!(results[3], Err(Error::Invalid { .. })), "{:?}", results[3]);
    assert!(results[4..].iter().all(|result| matches!(result, Ok(Value::Ok))));
    assert_eq!(text(&service.pool().run(&get("m2499")).await?), "2499");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_script_that_the_server_forgot_is_sent_as_a_whole() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let redis = service.pool();
    let script = Script::new("return {redis.call('INCRBY', KEYS[1], ARGV[1]), ARGV[2]}");
    let command = script.command(["n"]).arg(5).server_id();
    let run_id = server.info("run_id").await?.unwrap();
    for round in 1..=3 {
        let reply = redis.run(&command).await?;
        let [count, id] = reply.as_array().unwrap() else { panic!("{reply:?}") };
        assert_eq!((count.to_int(), text(id)), (Some(5 * round), &*run_id));
        server.admin(&["SCRIPT", "FLUSH"]).await?;
    }
    let results = redis.run_all(vec![command.clone(), incr("n"), command.clone()]).await;
    let counts = results.iter().map(|result| match result.as_ref().unwrap() {
        Value::Array(parts) => parts[0].to_int(),
        value => value.to_int(),
    });
    assert_eq!(counts.collect::<Vec<_>>(), [Some(20), Some(21), Some(26)]);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_pipeline_keeps_its_order_when_the_server_forgot_its_script() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let redis = service.pool();
    let script = Script::new("return redis.call('INCRBY', KEYS[1], 1)");
    for round in 1..=3_i64 {
        server.admin(&["SCRIPT", "FLUSH"]).await?;
        let commands = vec![script.command(["n"]), get("n"), script.command(["n"]), get("n")];
        let mut seen = Vec::new();
        for outcome in redis.run_all(commands).await {
            seen.push(outcome?.to_int());
        }
        let (first, second) = (Some(2 * round - 1), Some(2 * round));
        assert_eq!(seen, [first, first, second, second]);
    }
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_script_says_what_is_wrong() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let redis = service.pool();
    let own = Script::new("return redis.error_reply('STALE token 7')");
    let error = redis.script(&own, ["k"], ["a"]).await.unwrap_err();
    let said = error.server().unwrap();
    assert_eq!((said.code(), error.kind()), ("STALE", ErrorKind::Invalid));
    let broken = Script::new("return no_such_thing.field");
    let error = redis.script(&broken, ["k"], ["a"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    let two_slots = Script::new("return 1").command(["a", "b"]);
    assert_eq!(redis.run(&two_slots).await.unwrap_err().kind(), ErrorKind::Invalid);
    let writes = Script::read_only("return redis.call('SET', KEYS[1], 1)");
    assert!(redis.script(&writes, ["k"], ["a"]).await.is_err());
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_full_server_is_exhausted() -> TestResult {
    let server = Redis::builder().max_memory("3mb", "noeviction").start().await?;
    let service = connect(&single(server.url())).await;
    let large = "x".repeat(4 << 20);
    let _kept = service.pool().run(&set("k", large)).await;
    let error = service.pool().run(&set("l", "x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_deadline_that_has_passed_sends_nothing() -> TestResult {
    let server = Redis::start().await?;
    let service = connect(&single(server.url())).await;
    let context = CallContext::default().with_deadline(Deadline::after(std::time::Duration::ZERO));
    let error = context.scope(service.pool().run(&incr("n"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(service.pool().run(&get("n")).await?.is_nil());
    let context = CallContext::default().with_deadline(Deadline::after(PATIENCE));
    assert_eq!(context.scope(service.pool().run(&incr("n"))).await?, Value::Int(1));
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_batch_that_is_cut_off_leaves_its_rest_unsent() -> TestResult {
    let server = Redis::start().await?;
    let proxy = Proxy::to(server.addr()).await?;
    let service = connect(&single(server.url_via(proxy.addr()))).await;
    let redis = service.pool();
    redis.run(&incr("n")).await?;
    proxy.set_replies(Flow::CutAfter(5_000));
    let results = redis.run_all((0..5_000).map(|_| incr("n")).collect()).await;
    proxy.set_replies(Flow::Pass);
    let count = |kind: Option<ErrorKind>| {
        let kinds = results.iter().map(|result| result.as_ref().err().map(Error::kind));
        i64::try_from(kinds.filter(|found| *found == kind).count()).unwrap()
    };
    let (ok, unknown) = (count(None), count(Some(ErrorKind::OutcomeUnknown)));
    let unsent = count(Some(ErrorKind::Unavailable));
    assert_eq!(ok + unknown + unsent, 5_000, "{:?}", results.last());
    assert!(unknown > 0 && unsent >= 1_000, "{ok} {unknown} {unsent}");
    crate::support::until_works(redis, &get("n")).await;
    let counted = redis.run(&get("n")).await?.to_int().unwrap() - 1;
    assert!(ok <= counted && counted <= ok + unknown, "{ok} {unknown} {counted}");
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn two_connections_take_the_commands_in_turn() -> TestResult {
    let server = Redis::start().await?;
    let before = server.connections().await?;
    let mut config = single(server.url());
    config.connections_per_node = 2.try_into()?;
    let service = connect(&config).await;
    let connects = || service.metrics().counter("trine_redis_connects_total", &[]);
    crate::support::until("two connections", async || connects() == Some(2)).await;
    assert_eq!(server.connections().await?, before + 2);
    let ids = Command::read("CLIENT").arg("ID");
    let (one, two) = (service.pool().run(&ids).await?, service.pool().run(&ids).await?);
    assert_ne!(one, two);
    close(&service).await;
    Ok(())
}

#[trine_testkit::test]
async fn a_socket_leads_to_a_server_too() -> TestResult {
    let server = Redis::start().await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("redis.sock");
    let (listener, addr) = (UnixListener::bind(&path)?, server.addr());
    let tasks = Tasks::new("socket");
    let forwarding = async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(addr).await.unwrap();
        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    };
    // One for the proof, which the pool goes on with.
    let _forwarder = tasks.spawn("forwarder", forwarding);
    let service = connect(&single(format!("unix://{}", path.display()))).await;
    assert_eq!(service.pool().run(&incr("n")).await?, Value::Int(1));
    assert!(format!("{service:?}").contains("redis.sock"));
    close(&service).await;
    Ok(())
}
