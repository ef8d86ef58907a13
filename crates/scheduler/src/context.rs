#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod effects;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use trine_core::{CallContext, Fence, LeaseEnd};

use crate::engine::run::RunState;
use crate::{ClaimedTick, JobId, TickKind};

/// What a handler knows of its run. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    pub(crate) state: Arc<RunState>,
}

/// Why a run was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cancelled {
    /// It took longer than the job's time-out.
    TimedOut,
    /// Its lease is over: another process may have the tick by now.
    Lost,
    /// The service is shut down, and its deadline has come.
    ShutDown,
}

impl JobContext {
    /// Returns the job.
    #[must_use]
    pub fn job(&self) -> &JobId {
        &self.tick().job
    }

    /// Returns the time that the run is for, whenever it is run: what to name
    /// its results by.
    #[must_use]
    pub fn nominal(&self) -> SystemTime {
        self.tick().nominal
    }

    /// Returns when it was due: the nominal time, and the jitter.
    #[must_use]
    pub fn due(&self) -> SystemTime {
        self.tick().due
    }

    /// Returns why there is a run.
    #[must_use]
    pub fn kind(&self) -> TickKind {
        self.tick().kind
    }

    /// Returns which attempt this is, counted from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.tick().attempt
    }

    /// Returns how many attempts before this one have failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.tick().failures
    }

    /// Returns what to show to resources, so that they refuse an attempt that
    /// was replaced.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.tick().fence
    }

    /// Returns the context of the calls that the run makes: until its time-out,
    /// in a trace of its own, and with a seed that all attempts of the tick
    /// share. The handler of [`run`](crate::JobBuilder::run) is inside of it
    /// already.
    #[must_use]
    pub fn call(&self) -> &CallContext {
        &self.state.call
    }

    /// Returns how long the run may still take; `None` without a time-out.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.state.remaining()
    }

    /// Resolves when the run is asked to end, and says why. It is dropped the
    /// configuration's `cancel_grace` later. Independent of the context's life.
    pub fn cancelled(&self) -> impl Future<Output = Cancelled> + Send + use<> {
        let state = Arc::clone(&self.state);
        async move { state.cancelled().await }
    }

    /// Tells whether the run was asked to end, for handlers that block.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.state.cause().is_some()
    }

    /// Returns the token that is cancelled when the run is asked to end.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.state.token()
    }

    /// Resolves when the lease of the run is over, and says why: before the
    /// store gives the tick to another process, as long as the rates of the two
    /// clocks differ by less than a tenth. Independent of the context's life.
    pub fn lost(&self) -> impl Future<Output = LeaseEnd> + Send + use<> {
        self.state.lost()
    }

    fn tick(&self) -> &ClaimedTick {
        &self.state.tick
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("tick", self.tick())
            .field("cancelled", &self.state.cause())
            .finish()
    }
}
