//! What `#[trine_testkit::test]` expands to.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{ExitCode, Termination};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::rng::entropy;
use crate::soak::number;
use crate::{Rng, engine, env};

/// Longest wait for databases that a finished test leaves behind.
const SETTLE: Duration = Duration::from_secs(5);
/// Longest wait for blocking tasks that a finished test leaves behind.
const LEAVE: Duration = Duration::from_secs(1);

/// The options of one test.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Path of the test, which names its thread and its random sequence.
    pub name: &'static str,
    /// Most real time.
    pub timeout: Duration,
    /// Worker threads.
    pub threads: usize,
    /// Whether tokio's clock stands.
    pub start_paused: bool,
}

/// Runs one test to its end or to the end of its time.
///
/// # Panics
///
/// When the test panics, returns an error or takes too long: that is how a
/// test fails.
#[expect(clippy::panic, reason = "a panic is how a test fails")]
pub fn run<T, F>(settings: Settings, body: impl FnOnce(Rng) -> F + Send + 'static)
where
    T: Termination,
    F: Future<Output = T>,
{
    let (done, finished) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().name(settings.name.into()).spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| drive(settings, body)));
        // Nobody listens any more once the time is over.
        let _ = done.send(outcome);
        engine::settle(SETTLE);
    });
    let thread = match spawned {
        Ok(thread) => thread,
        Err(error) => panic!("no thread for the test: {error}"),
    };
    let outcome = finished.recv_timeout(settings.timeout);
    if outcome.is_ok() {
        // What it leaves behind is not within the test's own time. The thread
        // has caught every panic.
        let _ = thread.join();
    }
    match outcome {
        Ok(Ok(code)) if code == ExitCode::SUCCESS => {}
        Ok(Ok(_)) => {
            print_seed(settings.name);
            panic!("the test returned an error");
        }
        Ok(Err(panic)) => {
            print_seed(settings.name);
            resume_unwind(panic);
        }
        Err(RecvTimeoutError::Timeout) => {
            print_seed(settings.name);
            panic!("not finished within {:?}", settings.timeout);
        }
        Err(RecvTimeoutError::Disconnected) => panic!("the test's thread is gone"),
    }
}

fn drive<T, F>(settings: Settings, body: impl FnOnce(Rng) -> F) -> ExitCode
where
    T: Termination,
    F: Future<Output = T>,
{
    let runtime = runtime(settings);
    let rng = Rng::for_part(seed(), settings.name);
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(body(rng)).report()));
    // Tasks that do not end by themselves must not turn a result into a hang.
    runtime.shutdown_timeout(LEAVE);
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

#[expect(clippy::panic, reason = "a panic is how a test fails")]
fn runtime(settings: Settings) -> Runtime {
    let mut builder = if settings.start_paused {
        let mut builder = Builder::new_current_thread();
        builder.start_paused(true);
        builder
    } else {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(settings.threads).thread_name(settings.name);
        builder
    };
    match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime for the test: {error}"),
    }
}

/// Returns the seed of this process: from the environment, else random.
#[expect(clippy::panic, reason = "a panic is how a test fails")]
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| match number(env::TEST_SEED, env::text(env::TEST_SEED)) {
        Ok(seed) => seed.unwrap_or_else(entropy),
        Err(error) => panic!("{error}"),
    })
}

#[expect(clippy::print_stderr, reason = "the test harness shows it beside the failure")]
fn print_seed(name: &str) {
    eprintln!("{name}: repeat its random choices with {}={}", env::TEST_SEED, seed());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_clean_up_is_waited_for_and_takes_none_of_the_tests_time() {
        let is_done = Arc::new(AtomicBool::new(false));
        let settings = Settings {
            name: "unit",
            timeout: Duration::from_secs(2),
            threads: 1,
            start_paused: false,
        };
        let done = Arc::clone(&is_done);
        run(settings, |_| async move {
            engine::clean_up(async move {
                engine::real_sleep(Duration::from_secs(3)).await;
                done.store(true, Ordering::SeqCst);
            });
        });
        assert!(is_done.load(Ordering::SeqCst));
    }
}
