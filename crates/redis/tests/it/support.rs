//! What the tests share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use trine_core::{Deadline, ErrorKind, Secret, TaskHandle, Tasks};
use trine_redis::{Command, RedisConfig, RedisPool, RedisService, ScanCursor, Value};

pub(crate) type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Far more than anything takes; a test that waits for so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn single(url: impl Into<String>) -> RedisConfig {
    // Short waits between attempts, so that coming back is quick.
    RedisConfig::single("test:it", Secret::new(url))
        .with_reconnect(Duration::from_millis(10), Duration::from_millis(200))
}

pub(crate) async fn connect(config: &RedisConfig) -> RedisService {
    RedisService::connect(config).await.unwrap()
}

pub(crate) async fn close(service: &RedisService) {
    service.shutdown(Deadline::after(PATIENCE)).await.unwrap();
}

pub(crate) fn set(key: &str, value: impl Into<String>) -> Command {
    Command::write("SET").key(key).arg(value.into())
}

pub(crate) fn get(key: &str) -> Command {
    Command::read("GET").key(key)
}

pub(crate) fn incr(key: &str) -> Command {
    Command::write("INCRBY").key(key).arg(1)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_text().unwrap_or_else(|| panic!("{value:?} is no text"))
}

/// Returns the rules of an account that may do what `docs/wire.md` says that the
/// pool needs, and read and write keys.
pub(crate) fn least_rights() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, chapter) = page.split_once("## trine-redis").unwrap();
    let (_, block) = chapter.split_once("```acl\n").unwrap();
    let rules = block.split_once("```").unwrap().0.replace('\n', " ");
    format!("on >secret ~* &* -@all {rules} +get +set +incrby")
}

/// Calls until it works, for as long as patience lasts; returns how long it
/// took.
pub(crate) async fn until_works(pool: &RedisPool, command: &Command) -> Duration {
    let began = Instant::now();
    loop {
        match pool.run(command).await {
            Ok(_) => return began.elapsed(),
            Err(error) => assert!(began.elapsed() < PATIENCE, "still {error:?}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until `is_so` holds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Goes on with a scan to its end and adds what it finds.
pub(crate) async fn scan_on(
    pool: &RedisPool,
    prefix: &str,
    mut cursor: Option<ScanCursor>,
    found: &mut BTreeSet<Vec<u8>>,
) {
    loop {
        // As text, which is how it is kept.
        let kept = cursor.map(|cursor| ScanCursor::parse(&cursor.to_text()).unwrap());
        let page = pool.scan(prefix, kept.as_ref(), 10).await.unwrap();
        found.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            return;
        }
    }
}

/// One task that counts up a key, and what it was answered.
pub(crate) struct Load {
    tally: watch::Receiver<Tally>,
    stop: watch::Sender<bool>,
    task: TaskHandle<()>,
    _tasks: Tasks,
}

/// What a load was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    key: String,
    pub(crate) ok: i64,
    pub(crate) unknown: i64,
    kinds: BTreeMap<String, i64>,
}

impl Load {
    pub(crate) fn start(pool: &RedisPool, key: &str) -> Self {
        let (pool, command) = (pool.clone(), incr(key));
        let (tell, tally) = watch::channel(Tally { key: key.to_owned(), ..Tally::default() });
        let (stop, stopped) = watch::channel(false);
        let tasks = Tasks::new("load");
        let task = tasks.spawn("load", async move {
            while !*stopped.borrow() {
                let result = pool.run(&command).await;
                tell.send_modify(|tally| match result {
                    Ok(_) => tally.ok += 1,
                    Err(error) if error.kind() == ErrorKind::OutcomeUnknown => tally.unknown += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                        *tally.kinds.entry(error.to_string()).or_default() += 1;
                    }
                });
                sleep(Duration::from_millis(1)).await;
            }
        });
        Self { tally, stop, task, _tasks: tasks }
    }

    /// Waits for so many more successes.
    pub(crate) async fn wait_for(&self, more: i64) {
        let mut tally = self.tally.clone();
        let aim = tally.borrow().ok + more;
        let waiting = tally.wait_for(|tally| tally.ok >= aim);
        timeout(PATIENCE, waiting).await.expect("no more successes").unwrap();
    }

    /// Waits for one more failure of any kind.
    pub(crate) async fn wait_for_failure(&self) {
        let mut tally = self.tally.clone();
        let waiting = tally.wait_for(|tally| tally.failed() + tally.unknown > 0);
        timeout(PATIENCE, waiting).await.expect("no failure").unwrap();
    }

    pub(crate) async fn end(self) -> Tally {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        self.tally.borrow().clone()
    }
}

impl Tally {
    pub(crate) fn failed(&self) -> i64 {
        self.kinds.values().sum()
    }

    /// Returns what the server has counted.
    pub(crate) async fn on_server(&self, pool: &RedisPool) -> i64 {
        pool.run(&get(&self.key)).await.unwrap().to_int().unwrap()
    }
}
