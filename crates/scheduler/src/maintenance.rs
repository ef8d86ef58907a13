//! Ready-made jobs that keep stores small.
//!
//! Each goes on in small steps until nothing is left, and ends between two of
//! them when it is asked to: what it has not done, its next run does.

#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod tables;

use std::num::NonZeroU32;
use std::sync::Arc;

use trine_core::BoxError;

#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub use self::tables::{RollingTables, expired_rows};
use crate::{Cancelled, InvalidJob, Job, JobBuilder, JobContext};

/// Returns the job that calls `step` with `rows` again and again until it
/// answers that it has removed fewer: for what nobody owns any more, such as
/// files without a row.
///
/// # Errors
///
/// Fails with [`InvalidJob`] for what the job cannot be.
///
/// # Example
///
/// ```
/// use std::num::NonZeroU32;
/// use trine_scheduler::{Job, maintenance};
///
/// async fn remove_orphans(at_most: u32) -> Result<u64, std::io::Error> {
///     # let _ = at_most;
///     // … remove up to so many, and say how many there were …
///     Ok(0)
/// }
///
/// let rows = NonZeroU32::new(500).ok_or("none")?;
/// let job = maintenance::orphans(Job::new("orphans", "daily 03:30"), rows, remove_orphans)?;
/// # let _ = job;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn orphans<S, F, E>(job: JobBuilder, rows: NonZeroU32, step: S) -> Result<Job, InvalidJob>
where
    S: Fn(u32) -> F + Send + Sync + 'static,
    F: Future<Output = Result<u64, E>> + Send + 'static,
    E: Into<BoxError>,
{
    let step = Arc::new(step);
    job.run(move |ctx| {
        let step = Arc::clone(&step);
        async move {
            let step = || async { step(rows.get()).await.map_err(Into::into) };
            until_less(&ctx, rows, step).await
        }
    })
}

/// A run that was asked to end between two of its steps.
#[derive(Debug, thiserror::Error)]
#[error("ended after {removed} rows ({cause:?})")]
struct Ended {
    removed: u64,
    cause: Cancelled,
}

/// Takes steps until one removes fewer than `rows`, or the run is to end.
async fn until_less<S, F>(ctx: &JobContext, rows: NonZeroU32, mut step: S) -> Result<(), BoxError>
where
    S: FnMut() -> F,
    F: Future<Output = Result<u64, BoxError>>,
{
    let mut removed = 0_u64;
    loop {
        let done = step().await?;
        removed = removed.saturating_add(done);
        if done < u64::from(rows.get()) {
            tracing::debug!(job = %ctx.job(), removed, "maintenance done");
            return Ok(());
        }
        // Others must have their turns, also where nothing is waited for.
        tokio::task::yield_now().await;
        if ctx.is_cancelled() {
            let cause = ctx.cancelled().await;
            return Err(Ended { removed, cause }.into());
        }
    }
}
