use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult, Timeouts};
use futures_util::FutureExt;
use redis::Cmd;
use tokio::time::{Instant, timeout};

use crate::DedicatedConfig;
use crate::config::{Address, Credentials};
use crate::dial::{Dialed, Dialer, Purpose, Refusal, alongside};

/// The connections of one node that callers have for themselves.
pub(crate) type Pool = managed::Pool<Manager>;
/// A connection on loan.
pub(crate) type Object = managed::Object<Manager>;

/// Makes such connections and decides which of them are still good.
pub(crate) struct Manager {
    address: Address,
    dialer: Arc<Dialer>,
    idle: Duration,
    /// What was last used before this is as dead as the one that was asked then
    /// and did not answer: each of them would cost its own time-out.
    silent_since: Mutex<Option<Instant>>,
}

impl Manager {
    fn silent_since(&self) -> Option<Instant> {
        *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_silent_since(&self, asked: Instant) {
        let mut since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = (*since).max(Some(asked));
    }
}

/// A connection whose driver is polled by whoever has it.
pub(crate) struct Connection {
    pub(crate) dialed: Dialed,
    /// Whether a reply is still to come.
    pub(crate) is_busy: bool,
    /// As whom it has logged in.
    credentials: Option<Arc<Credentials>>,
}

/// Returns a pool without any connection yet.
pub(crate) fn pool(address: &Address, dialer: &Arc<Dialer>, config: &DedicatedConfig) -> Pool {
    let (address, dialer) = (address.clone(), Arc::clone(dialer));
    let idle = config.idle.get();
    let manager = Manager { address, dialer, idle, silent_since: Mutex::new(None) };
    let mut pool = managed::PoolConfig::new(usize::try_from(config.max.get()).unwrap_or(1));
    // Making and asking a connection are bounded by themselves.
    pool.timeouts =
        Timeouts { wait: Some(config.acquire_timeout.get()), create: None, recycle: None };
    let built = Pool::builder(manager).config(pool).runtime(Runtime::Tokio1).build();
    #[expect(clippy::expect_used, reason = "only a missing runtime is refused")]
    built.expect("a runtime was given")
}

impl managed::Manager for Manager {
    type Type = Box<Connection>;
    type Error = Arc<Refusal>;

    async fn create(&self) -> Result<Box<Connection>, Arc<Refusal>> {
        let credentials = self.dialer.credentials();
        let dialing =
            self.dialer.dial_as(&self.address, Purpose::Dedicated, credentials.as_deref());
        Ok(Box::new(Connection { dialed: dialing.await?, is_busy: false, credentials }))
    }

    async fn recycle(
        &self,
        connection: &mut Box<Connection>,
        metrics: &Metrics,
    ) -> RecycleResult<Arc<Refusal>> {
        const ENDED: RecycleError<Arc<Refusal>> = RecycleError::Message(Cow::Borrowed("ended"));
        let Dialed { connection: driven, driver, .. } = &mut connection.dialed;
        // Polled once, the driver sees that the server has closed it.
        if connection.is_busy || (&mut *driver).now_or_never().is_some() {
            return Err(ENDED);
        }
        let present = self.dialer.credentials();
        if connection.credentials.as_ref().map(Arc::as_ptr) != present.as_ref().map(Arc::as_ptr) {
            return Err(ENDED);
        }
        let asked = Instant::now();
        let rest = metrics.last_used();
        let used = asked.checked_sub(rest).unwrap_or(asked);
        if self.silent_since().is_some_and(|since| used < since) {
            return Err(ENDED);
        }
        if rest < self.idle {
            return Ok(());
        }
        let ping = Cmd::new().arg("PING").take();
        let asking = alongside(driver, driven.send_packed_command(&ping));
        match timeout(self.dialer.response_timeout(), asking).await {
            Ok(Some(Ok(_))) => Ok(()),
            _ => {
                self.set_silent_since(asked);
                Err(ENDED)
            }
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("address", &self.address).finish_non_exhaustive()
    }
}
