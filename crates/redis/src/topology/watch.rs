use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use trine_core::{Backoff, Intensity, Jitter, Tasks};

use crate::dial::Refusal;
use crate::node::NodeMaker;

/// Least time between two looks.
const SPACING: Duration = Duration::from_millis(100);
/// Longest time between two looks while there is trouble, which may go on for
/// days without any news.
const LONGEST: Duration = Duration::from_secs(1);

/// What has to be looked at again and again: who is master of what.
#[async_trait]
pub(super) trait Watched: Send + Sync + 'static {
    /// Looks once, and tells whether there are news. Calls go on meanwhile with
    /// what is known.
    async fn refresh(&self) -> Result<bool, Arc<Refusal>>;

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
    let jitter = Jitter::random();
    let spacing = Backoff::new(SPACING * 2, LONGEST).with_jitter(jitter.clone());
    let mut without_news = 0;
    loop {
        // Many processes watch the same servers.
        let calm = watched.interval().mul_f64(f64::midpoint(1.0, jitter.next()));
        tokio::select! {
            () = maker.trouble.notified() => {}
            () = sleep(calm) => without_news = 0,
        }
        maker.counters.refreshes.add(1);
        match watched.refresh().await {
            Ok(true) => without_news = 0,
            Ok(false) => {}
            Err(refusal) => {
                tracing::debug!(%refusal, "nobody tells who is master");
                // Nobody else may give notice.
                maker.trouble.notify_one();
            }
        }
        sleep(SPACING.max(spacing.delay(without_news))).await;
        without_news = without_news.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::{Instant, timeout};
    use trine_core::{Metrics, Secret};

    use super::*;
    use crate::RedisConfig;
    use crate::service::Counters;

    /// Trouble that goes on.
    struct Troubled {
        maker: NodeMaker,
        looks: AtomicU64,
        has_news: bool,
    }

    #[async_trait]
    impl Watched for Troubled {
        async fn refresh(&self) -> Result<bool, Arc<Refusal>> {
            self.looks.fetch_add(1, Ordering::Relaxed);
            self.maker.trouble.notify_one();
            Ok(self.has_news)
        }

        fn maker(&self) -> &NodeMaker {
            &self.maker
        }

        fn interval(&self) -> Duration {
            Duration::from_secs(5)
        }
    }

    async fn looks_in(span: Duration, has_news: bool) -> u64 {
        let config = RedisConfig::single("test", Secret::new("redis://h"));
        let watched = Arc::new(Troubled {
            maker: NodeMaker::of(&config, &Counters::new(&Metrics::new("redis"))),
            looks: AtomicU64::new(0),
            has_news,
        });
        watched.maker.trouble.notify_one();
        let began = Instant::now();
        let ended = timeout(span, keep_looking(Arc::clone(&watched))).await;
        assert!(ended.is_err() && began.elapsed() == span);
        watched.looks.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn looks_without_news_become_rare_and_do_not_end() {
        let looks = looks_in(Duration::from_secs(600), false).await;
        assert!((600..2_400).contains(&looks), "{looks}");
        let looks = looks_in(Duration::from_secs(600), true).await;
        assert!((2_700..=6_000).contains(&looks), "{looks}");
    }
}
