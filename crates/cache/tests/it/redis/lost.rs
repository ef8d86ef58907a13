//! Replies that are lost on their way.

use trine_cache::{Batch, CacheService, End, Error, Expected, Key, Op, Outcome, Ttl};
use trine_core::{ErrorKind, Fence};
use trine_testkit::{Flow, Proxy, Redis};

use crate::support::{Opened, assert_kind, single, until_works};

struct Bench {
    server: Redis,
    proxy: Proxy,
    opened: Opened,
}

impl Bench {
    async fn new() -> Self {
        let server = Redis::start().await.unwrap();
        let proxy = Proxy::to(server.addr()).await.unwrap();
        let opened = Opened::new(&single(server.url_via(proxy.addr()))).await;
        // The server knows the scripts: it would refuse the first of each once.
        opened.cache.add("warm", 1, Ttl::Never).await.unwrap();
        opened.cache.ranking("none").unwrap().rank("nobody").await.unwrap();
        Self { server, proxy, opened }
    }

    fn cache(&self) -> &CacheService {
        &self.opened.cache
    }

    /// Runs a call whose reply is cut after its first byte, and has the
    /// connection made again.
    async fn lose<T>(&self, call: impl Future<Output = T>) -> T {
        self.proxy.set_replies(Flow::CutAfter(1));
        let answer = call.await;
        self.proxy.set_replies(Flow::Pass);
        until_works(self.cache()).await;
        answer
    }

    /// Runs a call whose reply never comes.
    async fn starve<T>(&self, call: impl Future<Output = T>) -> T {
        self.proxy.set_replies(Flow::Hang);
        let answer = call.await;
        self.proxy.set_replies(Flow::Pass);
        until_works(self.cache()).await;
        answer
    }

    /// Asks the server itself.
    async fn server_has(&self, words: &[&str]) -> i64 {
        let mut words = words.to_vec();
        let key = format!("test:it:cache.default:{}", words[1]);
        words[1] = &key;
        self.server.admin(&words).await.unwrap().integer().unwrap()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn add(name: &str) -> Op {
    Op::Add { key: key(name), by: 1, ttl: Ttl::Never }
}

#[track_caller]
fn assert_unknown<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = assert_kind(result, ErrorKind::OutcomeUnknown);
    assert!(!error.is_retryable(), "{error:?}");
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
}

#[trine_testkit::test]
async fn a_lost_reply_is_an_unknown_outcome_and_counts_once() {
    let bench = Bench::new().await;
    let cache = bench.cache();
    for lost in 1..=3 {
        assert_unknown(bench.lose(cache.add("n", 1, Ttl::Never)).await);
        assert_eq!(bench.server_has(&["GET", "n"]).await, lost);
    }
    assert_unknown(bench.starve(cache.add("n", 1, Ttl::secs(60))).await);
    assert_eq!(bench.server_has(&["GET", "n"]).await, 4);
    bench.opened.close().await;
}

#[trine_testkit::test]
async fn every_kind_of_write_is_sent_once() {
    let bench = Bench::new().await;
    let cache = bench.cache();
    assert_unknown(bench.lose(cache.hash("h").unwrap().add("f", 1)).await);
    assert_eq!(bench.server_has(&["HGET", "h", "f"]).await, 1);
    assert_unknown(bench.lose(cache.list("l").unwrap().push(End::Left, "x")).await);
    assert_eq!(bench.server_has(&["LLEN", "l"]).await, 1);
    assert_unknown(bench.lose(cache.ranking("r").unwrap().add("ada", 1.0)).await);
    assert_eq!(bench.server_has(&["ZSCORE", "r", "ada"]).await, 1);
    cache.put_bytes("v", "1", Ttl::Never).await.unwrap();
    assert_unknown(bench.lose(cache.compare_and_put("v", Some(&1), &2, Ttl::Never)).await);
    assert_eq!(bench.server_has(&["GET", "v"]).await, 2);
    let batch = Batch::atomic().with(add("{t}a")).with(add("{t}b"));
    assert_unknown(bench.lose(cache.run(batch.clone())).await);
    assert_unknown(bench.lose(cache.run(batch.when(key("{t}a"), Expected::Present))).await);
    for name in ["{t}a", "{t}b"] {
        assert_eq!(bench.server_has(&["GET", name]).await, 2);
    }
    let fence = Fence::new("lock.default/lost", 3).unwrap();
    let guarded = cache.fenced(&fence);
    assert_unknown(bench.lose(guarded.run(Batch::atomic().with(add("g")))).await);
    assert_eq!(bench.server_has(&["GET", "g"]).await, 1);
    let pipeline = Batch::pipelined().with(add("p")).with(Op::get(key("p"))).with(add("q"));
    let Outcome::Ran(replies) = bench.lose(cache.run(pipeline)).await.unwrap() else { panic!() };
    let [p, got, q] = <[_; 3]>::try_from(replies.into_vec()).unwrap();
    assert_unknown(p.into_int());
    assert_kind(got.into_value(), ErrorKind::Unavailable);
    assert_unknown(q.into_int());
    for name in ["p", "q"] {
        assert_eq!(bench.server_has(&["GET", name]).await, 1);
    }
    assert_unknown(bench.lose(cache.put_many([("a", &1), ("b", &2)], Ttl::Never)).await);
    assert_unknown(bench.lose(cache.remove("a")).await);
    bench.opened.close().await;
}

#[trine_testkit::test]
async fn a_lost_reply_to_a_read_harms_nobody() {
    let bench = Bench::new().await;
    let cache = bench.cache();
    cache.put("v", "x", Ttl::Never).await.unwrap();
    let ranking = cache.ranking("r").unwrap();
    // The last is a script that only reads.
    let lost = [
        bench.lose(cache.get::<String>("v")).await.map(drop),
        bench.lose(cache.get_many::<String>(["v", "w"])).await.map(drop),
        bench.lose(ranking.rank("ada")).await.map(drop),
    ];
    for answer in lost {
        assert!(assert_kind(answer, ErrorKind::Unavailable).is_retryable());
    }
    let late = bench.starve(cache.get_many::<String>(["v", "w"])).await;
    assert!(assert_kind(late, ErrorKind::Timeout).is_retryable());
    assert_eq!(cache.get::<String>("v").await.unwrap().as_deref(), Some("x"));
    bench.opened.close().await;
}

/// The negative control: who sends a write again counts it twice.
#[trine_testkit::test]
async fn a_naive_retry_counts_a_lost_reply_twice() {
    let bench = Bench::new().await;
    let cache = bench.cache();
    let first = bench.lose(cache.add("n", 1, Ttl::Never)).await;
    assert!(first.is_err());
    cache.add("n", 1, Ttl::Never).await.unwrap();
    assert_eq!(bench.server_has(&["GET", "n"]).await, 2);
    bench.opened.close().await;
}
