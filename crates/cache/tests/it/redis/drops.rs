//! Futures dropped before they are ready.
//!
//! A drop counts only if it is *confirmed unfinished*: the last poll answered
//! `Pending`. Replies come one by one through a proxy, so that drops meet every
//! place between them.

mod methods;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use trine_cache::{CreateOutcome, Sessions, SessionsConfig, Ttl};
use trine_core::{Fence, Secret, Span};
use trine_testkit::{DropPlan, DropReport, Flow, Protocol, Proxy, Redis, SoakPlan};

use self::methods::METHODS;
use crate::support::{BOUND, Opened, single};

/// Keys that the calls go to.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A call with several replies is woken by the last of them only.
const NUDGE: Duration = Duration::from_millis(1);

/// One call of a public method, which asserts what it is answered.
type Work<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A cache behind a proxy, with something of every kind under each name.
struct Bench {
    server: Redis,
    proxy: Proxy,
    opened: Opened,
    sessions: Sessions<String>,
    /// For each name.
    tokens: Vec<String>,
    fence: Fence,
    /// Counts that were begun, and those that were answered.
    begun: AtomicU64,
    answered: AtomicU64,
}

impl Bench {
    async fn new() -> Self {
        let server = Redis::start().await.unwrap();
        let proxy = Proxy::to(server.addr()).await.unwrap().speaking(Protocol::Redis);
        let mut config = single(server.url_via(proxy.addr()));
        // No reply is late here, however slow the machine.
        config.response_timeout = Span::from(Duration::from_secs(20));
        let opened = Opened::new(&config).await;
        let sessions = SessionsConfig::new(Secret::new("k".repeat(32)));
        let sessions = Sessions::open(&opened.cache, &sessions).unwrap();
        let mut bench = Self {
            server,
            proxy,
            opened,
            sessions,
            tokens: Vec::new(),
            fence: Fence::new("lock.default/drops", 7).unwrap(),
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        };
        for name in NAMES {
            bench.fill(name).await;
        }
        bench
    }

    async fn fill(&mut self, name: &str) {
        let cache = &self.opened.cache;
        cache.put(format!("v:{name}"), name, Ttl::Never).await.unwrap();
        let hash = cache.hash(format!("h:{name}")).unwrap();
        hash.put_many([("f", name), ("g", name)]).await.unwrap();
        cache.set(format!("s:{name}")).unwrap().add([name.to_owned()]).await.unwrap();
        let list = cache.list(format!("l:{name}")).unwrap();
        list.push(trine_cache::End::Right, name).await.unwrap();
        let ranking = cache.ranking(format!("r:{name}")).unwrap();
        ranking.put([(name.to_owned(), 1.0)]).await.unwrap();
        let made = self.sessions.create(name, &name.to_owned()).await.unwrap();
        let CreateOutcome::Created(made) = made else { panic!("{made:?}") };
        self.tokens.push(made.token.expose().to_owned());
    }

    fn token(&self, name: &str) -> &str {
        let place = NAMES.iter().position(|each| *each == name).unwrap();
        &self.tokens[place]
    }

    /// One call of a method, with a name of its turn, its replies held back.
    fn work_of(&self, method: usize, turn: u64) -> Work<'_> {
        self.proxy.set_replies(Flow::Step);
        let (_, make) = METHODS[method];
        make(self, NAMES[turn as usize % NAMES.len()])
    }

    /// The next callers get what they asked for; returns how long that took.
    async fn next_callers(&self) -> Duration {
        self.proxy.set_replies(Flow::Pass);
        let began = Instant::now();
        let cache = &self.opened.cache;
        let hash = cache.hash("h:b").unwrap();
        let (set, owner) = (cache.set("s:c").unwrap(), cache.fenced(&self.fence));
        let (one, many, field, members, batch) = tokio::join!(
            cache.get::<String>("v:a"),
            cache.get_many::<String>(["v:b", "v:c"]),
            hash.get::<String>("f"),
            set.all(),
            owner.get::<String>("v:d"),
        );
        assert_eq!(one.unwrap().as_deref(), Some("a"));
        assert_eq!(many.unwrap(), [Some("b".to_owned()), Some("c".to_owned())]);
        assert_eq!(field.unwrap().as_deref(), Some("b"));
        assert_eq!(members.unwrap(), ["c"]);
        assert_eq!(batch.unwrap().as_deref(), Some("d"));
        began.elapsed()
    }

    /// There is one connection, which nobody had to make again.
    async fn check_connections(&self) -> Result<(), String> {
        let found = self.server.connections().await.map_err(|error| error.to_string())?;
        let made = (found, self.proxy.connections(), self.proxy.accepted());
        if made == (1, 1, 1) { Ok(()) } else { Err(format!("connections: {made:?}")) }
    }

    /// Returns how often was counted at least and at most, and how often it was.
    async fn counted(&self) -> (u64, u64, u64) {
        let mut found = 0;
        for name in NAMES {
            let cache = &self.opened.cache;
            let fields = cache.hash(format!("hn:{name}")).unwrap();
            for count in [cache.get(format!("n:{name}")).await, fields.get(name).await] {
                found += count.unwrap().unwrap_or(0_u64);
            }
        }
        (self.answered.load(Ordering::Relaxed), self.begun.load(Ordering::Relaxed), found)
    }

    async fn end(self) {
        let (least, most, found) = self.counted().await;
        assert!(least <= found && found <= most, "{found} is not in {least}..={most}");
        assert!(least > 0 && most > least, "nothing was dropped or nothing was counted");
        self.check_connections().await.unwrap();
        self.opened.close().await;
    }
}

async fn drop_each() -> DropReport {
    let bench = Bench::new().await;
    let mut sum = DropReport::default();
    for (method, (name, _)) in METHODS.iter().enumerate() {
        for turn in 0..2 {
            let report = DropPlan::every_await()
                .nudging(NUDGE)
                .feeding(|| bench.proxy.step())
                .run(
                    || bench.work_of(method, turn),
                    async |_| {
                        bench.next_callers().await;
                        bench.check_connections().await
                    },
                )
                .await
                .unwrap_or_else(|failure| panic!("{name}: {failure}"));
            assert!(report.confirmed > 0, "{name} was never dropped");
            sum.confirmed += report.confirmed;
            sum.finished += report.finished;
            sum.deepest = sum.deepest.max(report.deepest);
        }
    }
    bench.end().await;
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_calls_leave_no_foreign_reply() {
    let report = drop_each().await;
    println!("{} methods: {report:?}", METHODS.len());
    assert!(report.confirmed >= 2 * METHODS.len() as u64, "{report:?}");
    // A call that needs several round trips is met in each.
    assert!(report.deepest >= 3, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_dropped_at_random_leave_no_foreign_reply() {
    drop_at_random().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long form: cargo xtask soak cache_drops --count 100000"]
async fn soak_cache_drops() {
    drop_at_random().await;
}

/// Rounds are drops, confirmed unfinished.
#[expect(clippy::print_stdout, reason = "the harness shows the figures")]
async fn drop_at_random() {
    const TURNS: u64 = 10;
    let mut plan = SoakPlan::new("cache_drops", 300).unwrap();
    let bench = Bench::new().await;
    let (mut worst, mut sum) = (Duration::ZERO, DropReport::default());
    let mut asked = 0;
    // Whatever chance brings, one of those that count comes first.
    let mut first = METHODS.iter().position(|(name, _)| *name == "add");
    loop {
        // A round is asked for each drop that was made, one at least.
        let more = (sum.confirmed + 1).saturating_sub(asked);
        let due = std::iter::from_fn(|| plan.next_round()).take(more as usize).count() as u64;
        asked += due;
        if due < more {
            break;
        }
        // Each plan looks how deep its method goes, and drops it there.
        let at_random = plan.rng().below(METHODS.len() as u64) as usize;
        let method = first.take().unwrap_or(at_random);
        let mut turn = 0;
        let report = DropPlan::random(plan.rng().next_u64(), TURNS)
            .nudging(NUDGE)
            .feeding(|| bench.proxy.step())
            .run(
                || {
                    turn += 1;
                    bench.work_of(method, turn)
                },
                async |point| {
                    worst = worst.max(bench.next_callers().await);
                    if point.finished { bench.check_connections().await } else { Ok(()) }
                },
            )
            .await
            .unwrap_or_else(|failure| panic!("{}: {failure}", METHODS[method].0));
        sum.confirmed += report.confirmed;
        sum.finished += report.finished;
        sum.deepest = sum.deepest.max(report.deepest);
    }
    let (least, most, found) = bench.counted().await;
    println!(
        "{} drops of {} methods confirmed unfinished (seed {}, {} ran to their end, at most {} \
         polls deep): 0 connections lost or made, 0 foreign replies, {found} counts for {least} \
         answered and {most} begun, worst wait of the next callers {worst:?}",
        sum.confirmed,
        METHODS.len(),
        plan.seed(),
        sum.finished,
        sum.deepest,
    );
    assert!(sum.confirmed >= plan.rounds());
    assert!(sum.finished < sum.confirmed * 4, "{sum:?}");
    assert!(worst < BOUND, "{worst:?}");
    bench.end().await;
}

/// The negative control: a client that goes on with its connection after a drop
/// gives a caller the answer of the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_naive_client_gives_foreign_replies_after_such_drops() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::to(server.addr()).await.unwrap().speaking(Protocol::Redis);
    let stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let naive = Naive(Mutex::new(BufReader::new(stream)));
    for name in NAMES {
        server.admin(&["SET", name, name]).await.unwrap();
    }
    let work = || {
        proxy.set_replies(Flow::Step);
        naive.get("a")
    };
    let check = async |_| {
        proxy.set_replies(Flow::Pass);
        match naive.get("b").await {
            Ok(found) if found == "b" => Ok(()),
            other => Err(format!("{other:?} under b")),
        }
    };
    let plan = DropPlan::every_await().feeding(|| proxy.step());
    let failure = plan.run(work, check).await.unwrap_err().to_string();
    assert!(failure.contains("\"a\") under b"), "{failure}");
}

struct Naive(Mutex<BufReader<TcpStream>>);

impl Naive {
    async fn get(&self, key: &str) -> io::Result<String> {
        let mut stream = self.0.lock().await;
        stream.write_all(format!("GET {key}\r\n").as_bytes()).await?;
        let (mut size, mut value) = (String::new(), String::new());
        stream.read_line(&mut size).await?;
        stream.read_line(&mut value).await?;
        Ok(value.trim_end().to_owned())
    }
}
