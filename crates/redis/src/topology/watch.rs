use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use trine_core::{Intensity, Tasks};

use crate::dial::Refusal;
use crate::node::NodeMaker;

/// Least time between two looks.
const SPACING: Duration = Duration::from_millis(100);

/// What has to be looked at again and again: who is master of what.
#[async_trait]
pub(super) trait Watched: Send + Sync + 'static {
    /// Looks once. Calls go on meanwhile with what is known.
    async fn refresh(&self) -> Result<(), Arc<Refusal>>;

    fn maker(&self) -> &NodeMaker;

    fn interval(&self) -> Duration;
}

/// Looks whenever something is wrong, and from time to time, until the owner of
/// the tasks ends.
pub(super) fn watch<W: Watched>(tasks: &Tasks, watched: &Arc<W>) {
    let (watched, token) = (Arc::clone(watched), tasks.token());
    tasks.supervise("redis topology", Intensity::default(), move || {
        let watching = keep_looking(Arc::clone(&watched));
        let watching = token.clone().run_until_cancelled_owned(watching);
        async move {
            watching.await;
        }
    });
}

async fn keep_looking<W: Watched>(watched: Arc<W>) {
    let maker = watched.maker();
    let mut failures = 0;
    loop {
        tokio::select! {
            () = maker.trouble.notified() => {}
            () = sleep(watched.interval()) => {}
        }
        maker.counters.refreshes.add(1);
        match watched.refresh().await {
            Ok(()) => {
                failures = 0;
                sleep(SPACING).await;
            }
            Err(refusal) => {
                tracing::debug!(%refusal, "nobody tells who is master");
                sleep(SPACING.max(maker.backoff.delay(failures))).await;
                failures = failures.saturating_add(1);
                // Nobody else may give notice.
                maker.trouble.notify_one();
            }
        }
    }
}
