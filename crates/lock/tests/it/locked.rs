//! `#[locked]`: functions that run with their key.

use std::fmt::{self, Debug, Display};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use trine_core::{BoxFault, ErrorKind, Fence, FenceSink, ManualClock, Tasks};
use trine_lock::{Error, Guard, Key, LockOptions, LockService, Permit, ReadGuard, locked, testing};

#[derive(Debug)]
enum Failed {
    Lock(Error),
    Refused(u64),
    Number(std::num::ParseIntError),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Lock(error)
    }
}

impl From<std::num::ParseIntError> for Failed {
    fn from(error: std::num::ParseIntError) -> Self {
        Self::Number(error)
    }
}

struct Order {
    id: u64,
    line: (u8, &'static str),
}

/// Remembers what it was shown.
#[derive(Debug, Default)]
struct Sink {
    shown: AtomicU64,
}

#[async_trait]
impl FenceSink for Sink {
    async fn raise(&self, fence: &Fence) -> Result<(), BoxFault> {
        self.shown.store(fence.token(), Ordering::Relaxed);
        Ok(())
    }
}

struct Shop {
    locks: LockService,
    clock: Arc<ManualClock>,
    name: String,
    paid: u64,
    sink: Sink,
}

impl Shop {
    async fn new() -> Self {
        let (locks, clock) = testing::memory().await.unwrap();
        Self { locks, clock, name: "north".into(), paid: 0, sink: Sink::default() }
    }

    /// Returns the keys that are held, with the labels of their holders.
    async fn held(&self) -> Vec<(String, Option<Arc<str>>)> {
        held(&self.locks).await
    }

    #[locked(with = self.locks, key = "order:{id}", ttl = "10s", wait = "0s", label = "pay")]
    async fn pay(&self, id: u64, amount: &str) -> Result<u64, Failed> {
        assert_eq!(self.held().await, [(format!("order:{id}"), Some("pay".into()))]);
        if id == 0 {
            return Err(Failed::Refused(id));
        }
        let amount: u64 = amount.parse()?;
        Ok(amount + 1)
    }

    /// Needs all of `self`.
    #[locked(with = self.locks, key = "{self.name}/{order.id}/{order.line.1}{{}}")]
    async fn count(
        &mut self,
        order: &Order,
        more: impl Into<u64> + Send,
    ) -> Result<String, Failed> {
        assert_eq!(order.line.0, 1);
        self.paid += more.into();
        Ok(self.held().await.remove(0).0)
    }

    #[locked(with = self.locks, key = "order", fencing = [&self.sink, &Sink::default()], guard = lock)]
    async fn write(&self) -> Result<u64, Failed> {
        assert_eq!(self.sink.shown.load(Ordering::Relaxed), lock.fence().token());
        Ok(lock.fence().token())
    }

    #[locked(with = self.locks, key = "order", owner = owner, wait = Duration::ZERO)]
    async fn outer(&self, owner: &str) -> Result<u64, Failed> {
        let outside = self.locks.try_acquire("order", LockOptions::default()).await?;
        assert!(outside.into_guard().is_none());
        self.inner(owner.to_owned()).await
    }

    #[locked(with = self.locks, key = "order", owner = owner, wait = "0s", guard = lock)]
    async fn inner(&self, owner: String) -> Result<u64, Failed> {
        Ok(lock.fence().token())
    }

    #[locked(with = self.locks, key = "order", at_least = "5m", at_most = "10m")]
    async fn kept(&self) -> Result<(), Failed> {
        Ok(())
    }

    #[locked(with = self.locks, key = "order", ttl = "1s", guard = lock)]
    async fn lose(&self) -> Result<(), Failed> {
        lock.lose();
        std::future::pending().await
    }
}

async fn held(locks: &LockService) -> Vec<(String, Option<Arc<str>>)> {
    let page = locks.holders("", None, 10).await.unwrap();
    let keys = page.keys.into_iter();
    keys.map(|held| (held.key.to_string(), held.holders[0].label.clone())).collect()
}

/// `?`, `return` and the end are those of the function.
#[tokio::test]
async fn a_function_runs_with_its_key() {
    let mut shop = Shop::new().await;
    assert_eq!(shop.pay(7, "41").await.unwrap(), 42);
    assert!(matches!(shop.pay(0, "41").await, Err(Failed::Refused(0))));
    assert!(
        matches!(shop.pay(7, "x").await, Err(Failed::Number(error)) if error.to_string().contains("digit"))
    );
    let order = Order { id: 9, line: (1, "hat") };
    assert_eq!(shop.count(&order, 3_u32).await.unwrap(), "north/9/hat{}");
    assert_eq!((shop.paid, shop.held().await.len()), (3, 0));

    let guard = shop.locks.try_acquire("order:7", LockOptions::default()).await.unwrap();
    let guard = guard.into_guard().unwrap();
    let Err(Failed::Lock(error)) = shop.pay(7, "41").await else { panic!("two hold one key") };
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    drop(guard);
}

/// What cannot be known before the call.
#[tokio::test]
async fn an_argument_that_makes_no_key_is_refused() {
    #[locked(with = locks, key = "{name}")]
    async fn named(locks: &LockService, name: &str) -> Result<(), Error> {
        Ok(())
    }
    let (locks, _clock) = testing::memory().await.unwrap();
    named(&locks, "order").await.unwrap();
    for name in ["", "a#b", "a\n", &"a".repeat(Key::MAX + 1)] {
        let error = named(&locks, name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[tokio::test]
async fn options_are_those_of_the_lock() {
    let shop = Shop::new().await;
    let token = shop.write().await.unwrap();
    assert_eq!(shop.outer("request-7").await.unwrap(), token + 1);
    let Err(Failed::Lock(lost)) = shop.lose().await else { panic!("a lost lock went on") };
    assert!(matches!(lost, Error::Lost { .. }), "{lost}");
    shop.kept().await.unwrap();
    let wait = LockOptions::default().with_wait(Duration::from_secs(5));
    let free = async {
        let outcome = shop.locks.try_acquire("order", LockOptions::default()).await.unwrap();
        assert!(outcome.into_guard().is_none());
        shop.clock.advance(Duration::from_secs(5 * 60));
        shop.locks.acquire("order", wait).await.unwrap().into_guard().is_some()
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), free).await.unwrap());
}

/// Readers share, permits are counted.
#[tokio::test]
async fn reads_and_permits_are_held_beside_others() {
    #[locked(with = locks, key = "a", read, wait = "0s", guard = lock)]
    async fn read(locks: &LockService, depth: u8) -> Result<u8, Error> {
        let lock: &ReadGuard = lock;
        assert!(lock.is_held());
        match depth {
            0 => Ok(0),
            _ => Box::pin(read(locks, depth - 1)).await.map(|depth| depth + 1),
        }
    }
    #[locked(with = locks, key = "b", permits = 2, wait = "0s", guard = permit)]
    async fn permit(locks: &LockService, depth: u8) -> Result<u64, Error> {
        let permit: &Permit = permit;
        match depth {
            0 => Ok(permit.fence().token()),
            _ => Box::pin(permit_below(locks, depth - 1)).await,
        }
    }
    async fn permit_below(locks: &LockService, depth: u8) -> Result<u64, Error> {
        permit(locks, depth).await
    }
    #[locked(with = locks, key = "a", permits = NonZeroU32::MIN, fencing = [sink])]
    async fn fenced(locks: &LockService, sink: &Sink) -> Result<u64, Error> {
        Ok(sink.shown.load(Ordering::Relaxed))
    }
    let (locks, _clock) = testing::memory().await.unwrap();
    assert_eq!(read(&locks, 3).await.unwrap(), 3);
    assert!(permit(&locks, 1).await.unwrap() > 0);
    let error = permit(&locks, 2).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(fenced(&locks, &Sink::default()).await.unwrap() > 0);
    let guard = locks.try_acquire("a", LockOptions::default()).await.unwrap().into_guard();
    assert!(guard.is_some());
    let error = read(&locks, 0).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

/// The limits that the macro knows by heart.
#[tokio::test]
async fn the_limits_are_those_of_the_crate() {
    #[locked(with = locks, key = "a", ttl = "100ms", at_most = "100ms")]
    async fn shortest(locks: &LockService) -> Result<(), Error> {
        Ok(())
    }
    let (locks, _clock) = testing::memory().await.unwrap();
    shortest(&locks).await.unwrap();
    assert_eq!(LockOptions::MIN_TTL, Duration::from_millis(100));
    assert_eq!((LockOptions::MAX_TEXT, Key::MAX), (128, 200));
}

/// `guard`, `locks` and `options` are what the expansion calls its own.
#[tokio::test]
async fn a_body_sees_its_own_names_only() {
    #[derive(Clone, Copy, Debug)]
    struct Mine(u8);
    #[allow(non_upper_case_globals)]
    const taken: Mine = Mine(4);

    #[locked(with = service, key = "{locks}:{key}:{options}")]
    async fn borrowed(
        service: &LockService,
        locks: u8,
        key: u8,
        options: u8,
        guard: Mine,
    ) -> Result<(u8, u8, u8, u8, u8), Error> {
        Ok((locks, key, options, guard.0, taken.0))
    }
    let (service, _clock) = testing::memory().await.unwrap();
    let answer = borrowed(&service, 1, 2, 3, Mine(5)).await.unwrap();
    assert_eq!(answer, (1, 2, 3, 5, 4));
}

#[derive(Clone, Copy)]
struct Shown<'a>(&'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Generics, references, patterns, arguments that the body consumes, other
/// attributes, types without names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_function_can_be_locked() {
    #[must_use]
    #[locked(with = locks, key = "{name}:{id}", guard = _lock)]
    async fn longest<'a, T, const N: usize>(
        locks: Arc<LockService>,
        name: Shown<'a>,
        (id, mut text): (u64, String),
        all: [T; N],
    ) -> Result<(&'a str, impl Debug + use<'a, T, N>), Failed>
    where
        T: Debug + Send,
    {
        tokio::task::yield_now().await;
        text.push('!');
        let text: String = std::future::ready(text).await;
        Ok((name.0, format!("{id} {text} {:?} {N}", all[0])))
    }
    struct Wrapped<L>(L);
    trait Import {
        async fn import(self, id: u64) -> Result<u64, Failed>;
    }
    impl<L: AsRef<LockService>> Import for Wrapped<L> {
        #[locked(with = self.0.as_ref(), key = "import:{id}")]
        async fn import(self, id: u64) -> Result<u64, Failed> {
            assert_eq!(held(self.0.as_ref()).await.len(), 1);
            drop(self);
            Ok(id)
        }
    }
    let (locks, _clock) = testing::memory().await.unwrap();
    let locks = Arc::new(locks);
    // In a task: it may move between threads.
    let tasks = Tasks::new("test");
    let work = tasks.spawn("locked", {
        let locks = Arc::clone(&locks);
        async move {
            let name = "north".to_owned();
            let call = longest(locks, Shown(&name), (7, "hat".into()), [Some(1), None]);
            let (name, shown) = call.await.unwrap();
            format!("{name} {shown:?}")
        }
    });
    assert_eq!(work.await.unwrap(), "north \"7 hat! Some(1) 2\"");
    assert_eq!(Wrapped(Arc::clone(&locks)).import(3).await.unwrap(), 3);
}

/// The guard that a body asks for is the one of the lock.
#[tokio::test]
async fn a_guard_is_seen_under_its_name() {
    #[locked(with = locks, key = "a", guard = lock)]
    async fn named(locks: &LockService) -> Result<String, Error> {
        let lock: &Guard = lock;
        Ok(lock.key().to_string())
    }
    let (locks, _clock) = testing::memory().await.unwrap();
    assert_eq!(named(&locks).await.unwrap(), "a");
}
