//! A runtime of the kit's own. Servers and proxies outlive the runtime of the
//! test that asked for them, and keep real time while a test's clock is paused.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

struct Engine {
    runtime: Runtime,
    cleaning: watch::Sender<Cleaning>,
}

/// The clean-ups of this process, by numbers in the order of their start.
#[derive(Default)]
struct Cleaning {
    next: u64,
    unfinished: BTreeSet<u64>,
}

fn engine() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Option<Engine>> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("trine-testkit")
                .enable_all()
                .build()
                .ok()?;
            Some(Engine { runtime, cleaning: watch::Sender::default() })
        })
        .as_ref()
}

/// Returns the handle of the kit's runtime.
pub(crate) fn handle() -> Result<&'static Handle> {
    engine().map(|engine| engine.runtime.handle()).ok_or_else(|| {
        Error::Invalid("the kit's own runtime could not be started: no threads left".into())
    })
}

/// Runs `work` on the kit's runtime, where it goes on if the caller is dropped.
///
/// Boxed: the driver's futures nest so deep that tests which hold them would
/// need a higher recursion limit.
pub(crate) fn run<T, F>(work: F) -> Pin<Box<dyn Future<Output = Result<T>> + Send>>
where
    F: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let work: Pin<Box<dyn Future<Output = Result<T>> + Send>> = Box::pin(work);
    Box::pin(async move { join(handle()?.spawn(work)).await })
}

/// Runs blocking `work` on a thread of the kit's runtime.
pub(crate) async fn run_blocking<T, F>(work: F) -> Result<T>
where
    F: FnOnce() -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    join(handle()?.spawn_blocking(work)).await
}

async fn join<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Invalid("the kit's own runtime is shutting down".into())),
        },
    }
}

/// Waits `span` of real time, also where the caller's clock is paused.
pub(crate) async fn real_sleep(span: Duration) {
    // An aborted sleep must not keep a task for the rest of its span.
    struct AbortOnDrop(JoinHandle<()>);
    impl Drop for AbortOnDrop {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    if let Ok(handle) = handle() {
        // Made over there: a sleep belongs to the clock it was made under.
        let sleep = async move { tokio::time::sleep(span).await };
        let mut sleeping = AbortOnDrop(handle.spawn(sleep));
        // A sleep neither panics nor is it aborted while this future lives.
        let _ = (&mut sleeping.0).await;
    }
}

/// Starts `work` that nobody waits for, except [`settle`].
pub(crate) fn clean_up<F>(work: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    struct Done(&'static watch::Sender<Cleaning>, u64);
    impl Drop for Done {
        fn drop(&mut self) {
            self.0.send_modify(|cleaning| {
                cleaning.unfinished.remove(&self.1);
            });
        }
    }
    if let Some(engine) = engine() {
        let mut number = 0;
        engine.cleaning.send_modify(|cleaning| {
            number = cleaning.next;
            cleaning.next += 1;
            cleaning.unfinished.insert(number);
        });
        let done = Done(&engine.cleaning, number);
        engine.runtime.spawn(async move {
            let _done = done;
            work.await;
        });
    }
}

/// Waits until every clean-up that has begun is done, for at most `bound`. Those
/// that other tests begin meanwhile are theirs to wait for.
///
/// Blocks the thread: only for threads without a runtime.
pub(crate) fn settle(bound: Duration) {
    // Over the bound the rest is left to the sweep of the next run.
    let _ = settle_those(begun(), bound);
}

/// Returns the number of the next clean-up.
fn begun() -> u64 {
    engine().map_or(0, |engine| engine.cleaning.borrow().next)
}

/// Waits for the clean-ups with numbers below `end`, and tells whether all were
/// done within `bound`.
fn settle_those(end: u64, bound: Duration) -> bool {
    let Some(engine) = engine() else { return true };
    let mut cleaning = engine.cleaning.subscribe();
    engine.runtime.block_on(async move {
        let is_done =
            |cleaning: &Cleaning| cleaning.unfinished.first().is_none_or(|first| *first >= end);
        tokio::time::timeout(bound, cleaning.wait_for(is_done)).await.is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::SystemTime;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_real_sleep_takes_its_time_under_a_paused_clock() {
        let start = SystemTime::now();
        real_sleep(Duration::from_millis(50)).await;
        assert!(start.elapsed().unwrap() >= Duration::from_millis(49));
    }

    #[tokio::test]
    async fn settling_waits_for_clean_ups_and_is_bounded() {
        let finished = Arc::new(Semaphore::new(0));
        let is_done = Arc::new(AtomicBool::new(false));
        let (wait, done) = (Arc::clone(&finished), Arc::clone(&is_done));
        clean_up(async move {
            let _ = wait.acquire().await;
            done.store(true, Ordering::SeqCst);
        });
        let settled = |bound| std::thread::spawn(move || settle(bound)).join().unwrap();
        settled(Duration::from_millis(10));
        assert!(!is_done.load(Ordering::SeqCst));
        finished.add_permits(1);
        settled(Duration::from_secs(60));
        assert!(is_done.load(Ordering::SeqCst));
    }

    /// Other tests of the process begin theirs all the time.
    #[tokio::test(flavor = "multi_thread")]
    async fn settling_does_not_wait_for_what_begins_later() {
        let (earlier, later) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let begin = |gate: &Arc<Semaphore>| {
            let gate = Arc::clone(gate);
            clean_up(async move { drop(gate.acquire_owned().await) });
        };
        begin(&earlier);
        let begun = begun();
        begin(&later);
        earlier.add_permits(1);
        let settle = move || settle_those(begun, Duration::from_secs(60));
        let is_settled = std::thread::spawn(settle).join().unwrap();
        assert!(is_settled, "it waited for what began later");
        later.add_permits(1);
    }
}
