use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine;
use crate::error::{Error, Result};
use crate::process::Child;

/// Longest wait for a server to answer after its start.
pub(crate) const READY_BOUND: Duration = Duration::from_secs(30);
/// Longest wait for an orderly end.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(30);
/// How often a busy port is replaced by another one.
const PORT_ATTEMPTS: usize = 4;

/// The process of a server that comes and goes.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    name: &'static str,
    child: Mutex<Option<Arc<Child>>>,
    is_paused: AtomicBool,
}

impl ServerProcess {
    /// Returns the place of a process that has not been started.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, child: Mutex::new(None), is_paused: AtomicBool::new(false) }
    }

    /// Takes in what was just started.
    pub(crate) fn put(&self, child: Child) {
        *self.lock() = Some(Arc::new(child));
        self.is_paused.store(false, Ordering::Release);
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().as_ref().map(|child| child.pid())
    }

    /// Tells whether the process is there and not paused.
    #[cfg(feature = "redis")]
    pub(crate) fn is_awake(&self) -> bool {
        let child = self.lock().clone();
        child.is_some_and(|child| child.is_running()) && !self.is_paused.load(Ordering::Acquire)
    }

    fn running(&self, operation: &'static str) -> Result<Arc<Child>> {
        let child = self.lock().clone();
        child.ok_or_else(|| Error::NotRunning { operation, program: self.name.to_owned() })
    }

    /// Waits until `ping` succeeds.
    pub(crate) async fn ready<F>(&self, ping: impl Fn() -> F + Send) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send,
    {
        let child = self.running("wait for")?;
        // The caller's clock may be paused.
        let deadline = engine::real_sleep(READY_BOUND);
        tokio::pin!(deadline);
        loop {
            let Err(error) = ping().await else {
                return Ok(());
            };
            if let Some(status) = child.try_wait()? {
                return Err(child.failed_to_start(format!("ended with {status}")));
            }
            tokio::select! {
                () = &mut deadline => {
                    let cause = trine_core::Report(&error);
                    let reason = format!("no answer within {READY_BOUND:?}: {cause}");
                    return Err(child.failed_to_start(reason));
                }
                () = engine::real_sleep(Duration::from_millis(10)) => {}
            }
        }
    }

    /// Kills the process, if there is one.
    pub(crate) async fn kill(&self) -> Result<()> {
        let child = self.lock().take();
        match child {
            Some(child) => child.kill().await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends the server in an orderly way, if it runs.
    pub(crate) async fn shut_down(&self) -> Result<()> {
        let child = self.lock().take();
        let Some(child) = child else {
            return Ok(());
        };
        if child.is_running() {
            child.resume()?;
            child.terminate()?;
        }
        child.wait(SHUTDOWN_BOUND).await.map(drop)
    }

    pub(crate) async fn pause(&self) -> Result<()> {
        self.is_paused.store(true, Ordering::Release);
        self.running("pause")?.pause().await
    }

    pub(crate) fn resume(&self) -> Result<()> {
        self.running("resume")?.resume()?;
        self.is_paused.store(false, Ordering::Release);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Child>>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a server, again if another process has taken its port meanwhile.
pub(crate) async fn start_on_a_free_port<T, F>(start: impl Fn() -> F + Send) -> Result<T>
where
    F: Future<Output = Result<T>> + Send,
    T: Send,
{
    let mut attempt = 1;
    loop {
        match start().await {
            Err(Error::Start { log, .. })
                if attempt < PORT_ATTEMPTS && log.contains("Address already in use") =>
            {
                attempt += 1;
            }
            other => return other,
        }
    }
}
