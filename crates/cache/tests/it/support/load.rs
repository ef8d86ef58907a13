//! Many callers at once, and what they were answered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use trine_cache::{Batch, CacheService, Error, Key, Op, Outcome, Reply, Ttl};
use trine_core::ErrorKind;
use trine_testkit::Rng;

use super::{BOUND, PATIENCE, until};

/// A back end comes back in ten seconds at the most.
const RECOVERY: Duration = Duration::from_secs(5 * 10);

/// Callers that put, get, count and run batches until they are stopped. Each
/// has a counter of its own, whose changes are all in a ledger, and values that
/// name their key.
pub(crate) struct Load {
    cache: CacheService,
    callers: Vec<Arc<Mutex<Book>>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    worst_recovery: Duration,
}

/// What one caller was answered.
#[derive(Debug, Default)]
struct Book {
    counter: String,
    /// Added, as the answer said.
    acknowledged: i64,
    /// May have been added.
    unknown: i64,
    /// All calls that were answered.
    answered: u64,
    failed: BTreeMap<&'static str, u64>,
    worst_call: Duration,
    /// What must never be.
    faults: Vec<String>,
}

/// What all callers were answered, against what the store has.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) answered: u64,
    pub(crate) acknowledged: i64,
    pub(crate) unknown: i64,
    /// Acknowledged, and not there.
    pub(crate) lost: i64,
    failed: BTreeMap<&'static str, u64>,
    worst_call: Duration,
    worst_recovery: Duration,
}

impl Load {
    pub(crate) fn start(cache: &CacheService, callers: u64, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (mut books, mut tasks) = (Vec::new(), JoinSet::new());
        for caller in 0..callers {
            let caller = Caller::new(cache, caller, Rng::seeded(seed ^ caller));
            books.push(Arc::clone(&caller.book));
            tasks.spawn(caller.run(stopped.clone()));
        }
        let (cache, worst_recovery) = (cache.clone(), Duration::ZERO);
        Self { cache, callers: books, stop, tasks, worst_recovery }
    }

    fn each(&self, of: impl Fn(&Book) -> u64) -> Vec<u64> {
        let of = |book: &Arc<Mutex<Book>>| {
            let book = book.lock().unwrap();
            assert!(book.faults.is_empty(), "{:?}", book.faults);
            of(&book)
        };
        self.callers.iter().map(of).collect()
    }

    /// Waits until every caller was answered so often once more.
    pub(crate) async fn answers(&self, more: u64) {
        let before = self.each(|book| book.answered);
        until("an answer for everyone", async || {
            let now = self.each(|book| book.answered);
            now.iter().zip(&before).all(|(now, before)| now >= &(before + more))
        })
        .await;
    }

    /// Waits until so many more calls have failed.
    pub(crate) async fn failures(&self, more: u64) {
        let count = || self.each(|book| book.failed.values().sum()).iter().sum::<u64>();
        let before = count();
        until("a failure", async || count() >= before + more).await;
    }

    /// The fault is over: waits until every caller is served again.
    pub(crate) async fn recovers(&mut self) {
        let healed = Instant::now();
        self.answers(2).await;
        let took = healed.elapsed();
        assert!(took < RECOVERY, "{took:?}");
        self.worst_recovery = self.worst_recovery.max(took);
    }

    /// Stops all callers and compares what they were answered with what is
    /// there.
    pub(crate) async fn end(mut self) -> Ledger {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let mut ledger = Ledger { worst_recovery: self.worst_recovery, ..Ledger::default() };
        for book in &self.callers {
            let counter = book.lock().unwrap().counter.clone();
            let counted = self.cache.get::<i64>(&*counter).await.unwrap().unwrap_or(0);
            let book = book.lock().unwrap();
            assert!(book.faults.is_empty(), "{:?}", book.faults);
            let most = book.acknowledged + book.unknown;
            assert!(counted <= most, "sent twice, or refused and done: {counted} of {book:?}");
            ledger.lost += (book.acknowledged - counted).max(0);
            ledger.answered += book.answered;
            ledger.acknowledged += book.acknowledged;
            ledger.unknown += book.unknown;
            ledger.worst_call = ledger.worst_call.max(book.worst_call);
            for (kind, count) in &book.failed {
                *ledger.failed.entry(kind).or_default() += count;
            }
        }
        assert!(ledger.worst_call < BOUND, "{ledger}");
        assert!(ledger.acknowledged > 0, "{ledger}");
        ledger
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, acknowledged, unknown, lost, failed, .. } = self;
        let (call, recovery) = (self.worst_call, self.worst_recovery);
        write!(
            f,
            "{answered} calls answered, failed: {failed:?}; {acknowledged} counts acknowledged, \
             {unknown} unknown, {lost} lost, 0 twice; slowest call {call:.1?}, slowest recovery \
             {recovery:.1?}"
        )
    }
}

struct Caller {
    cache: CacheService,
    number: u64,
    counter: Key,
    value: Key,
    book: Arc<Mutex<Book>>,
    rng: Rng,
}

impl Caller {
    fn new(cache: &CacheService, number: u64, rng: Rng) -> Self {
        let key = |name: &str| Key::new(format!("{{caller:{number}}}:{name}")).unwrap();
        let (counter, value) = (key("n"), key("v"));
        let book = Book { counter: counter.to_string(), ..Book::default() };
        Self { cache: cache.clone(), number, counter, value, book: Arc::new(Mutex::new(book)), rng }
    }

    async fn run(mut self, stopped: watch::Receiver<bool>) {
        let began = Instant::now();
        while !*stopped.borrow() {
            let started = Instant::now();
            self.call().await;
            let took = started.elapsed();
            {
                let mut book = self.book.lock().unwrap();
                book.worst_call = book.worst_call.max(took);
                if !book.faults.is_empty() {
                    return;
                }
            }
            assert!(began.elapsed() < PATIENCE * 120, "nobody stopped it");
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn call(&mut self) {
        let cache = self.cache.clone();
        let (counter, value) = (&self.counter, &self.value);
        let add = || Op::Add { key: counter.clone(), by: 1, ttl: Ttl::Never };
        let put = || Op::put(value, format!("\"{value}\""));
        match self.rng.below(6) {
            0 => self.counted(cache.add(counter, 1, Ttl::Never).await.map(|_| ())),
            1 => self.wrote(cache.put(value, value.as_str(), Ttl::Never).await),
            2 => {
                let read = cache.get::<String>(value).await;
                self.read(read.map(|found| found.into_iter().collect()));
            }
            3 => {
                // The keys of others come from other nodes of a cluster.
                let other = self.rng.below(self.number + 1);
                let other = Key::new(format!("{{caller:{other}}}:v")).unwrap();
                let read = cache.get_many::<String>([&other, value]).await;
                self.read_of(&[other, value.clone()], read);
            }
            4 => {
                let batch = Batch::atomic().with(add()).with(put()).with(Op::get(value));
                match cache.run(batch).await {
                    Ok(Outcome::Ran(replies)) => self.replied(replies.into_vec(), true),
                    Ok(refused) => self.fault(format!("{refused:?}")),
                    Err(error) => self.counted(Err(error)),
                }
            }
            _ => {
                let batch = Batch::pipelined().with(add()).with(put()).with(Op::get(value));
                match cache.run(batch).await {
                    Ok(Outcome::Ran(replies)) => self.replied(replies.into_vec(), false),
                    other => self.fault(format!("{other:?}")),
                }
            }
        }
    }

    /// The replies to a count, a put and a get.
    fn replied(&self, replies: Vec<Reply>, is_atomic: bool) {
        let Ok([add, put, get]) = <[Reply; 3]>::try_from(replies) else {
            return self.fault("not as many replies as operations".to_owned());
        };
        self.counted(add.into_int().map(|_| ()));
        self.wrote(put.into_applied().map(|_| ()));
        match get.into_value() {
            Ok(Some(found)) if found == format!("\"{}\"", self.value) => self.answered(),
            Ok(None) if !is_atomic => self.answered(),
            Ok(other) => self.fault(format!("{other:?} under {}", self.value)),
            Err(error) => self.failed(&error, false),
        }
    }

    fn counted(&self, result: Result<(), Error>) {
        {
            let mut book = self.book.lock().unwrap();
            match &result {
                Ok(()) => book.acknowledged += 1,
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => book.unknown += 1,
                Err(_) => {}
            }
        }
        self.wrote(result);
    }

    fn wrote(&self, result: Result<(), Error>) {
        match result {
            Ok(()) => self.answered(),
            Err(error) => self.failed(&error, true),
        }
    }

    fn read(&self, result: Result<Vec<String>, Error>) {
        let found = result.map(|found| found.into_iter().map(Some).collect());
        self.read_of(std::slice::from_ref(&self.value), found);
    }

    /// Every value names its key.
    fn read_of(&self, keys: &[Key], result: Result<Vec<Option<String>>, Error>) {
        match result {
            Ok(found) => {
                for (found, key) in found.iter().zip(keys) {
                    if found.as_ref().is_some_and(|found| found != key.as_str()) {
                        self.fault(format!("{found:?} under {key}"));
                    }
                }
                self.answered();
            }
            Err(error) => self.failed(&error, false),
        }
    }

    fn answered(&self) {
        self.book.lock().unwrap().answered += 1;
    }

    fn failed(&self, error: &Error, is_write: bool) {
        let expected = match error.kind() {
            ErrorKind::Unavailable => true,
            ErrorKind::Timeout => !is_write,
            ErrorKind::OutcomeUnknown => is_write,
            _ => false,
        };
        if !expected {
            return self.fault(format!("{error:?}"));
        }
        *self.book.lock().unwrap().failed.entry(error.kind().as_str()).or_default() += 1;
    }

    fn fault(&self, what: String) {
        self.book.lock().unwrap().faults.push(what);
    }
}
