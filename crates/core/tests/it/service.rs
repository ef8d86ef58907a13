use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use trine_core::{
    Backoff, BoxFault, Clock, Counter, Deadline, ErrorKind, Health, HealthStatus, Intensity,
    Lifecycle, ManualClock, Metrics, Probe, Refused, Service, Snapshot, State, Tasks, Watermark,
};

const SECOND: Duration = Duration::from_secs(1);

/// A service with a background loop, as every crate builds one.
#[derive(Clone, Debug)]
struct Clerk {
    lifecycle: Lifecycle,
    tasks: Tasks,
    metrics: Metrics,
    probe: Probe,
    watermark: Watermark,
    filed: Counter,
}

impl Clerk {
    fn open() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::with_rate(1.0));
        let metrics = Metrics::new("clerk");
        Self {
            lifecycle: Lifecycle::new("clerk.default"),
            tasks: Tasks::new("clerk.default"),
            probe: Probe::new(SECOND, SECOND),
            watermark: Watermark::new(clock),
            filed: metrics.counter("filed_total", "Papers filed.", &[]),
            metrics,
        }
    }

    async fn file(&self) -> Result<(), Refused> {
        let _call = self.lifecycle.enter()?;
        sleep(SECOND).await;
        self.filed.add(1);
        Ok(())
    }

    /// Ends for good after ten rounds, as a loop with a defect does.
    fn sweep(&self) {
        let watermark = self.watermark.clone();
        let mut rounds = 0..10;
        self.tasks.supervise("sweep", Intensity::default(), move || {
            let watermark = watermark.clone();
            let rounds = rounds.by_ref().collect::<Vec<_>>();
            async move {
                for _ in rounds {
                    sleep(SECOND).await;
                    watermark.advance();
                }
                panic!("on purpose");
            }
        });
    }
}

#[async_trait]
impl Service for Clerk {
    fn name(&self) -> &str {
        self.lifecycle.name()
    }

    fn state(&self) -> State {
        self.lifecycle.state()
    }

    async fn start(&self) -> Result<(), BoxFault> {
        let prove = || async { Ok::<_, Refused>(()) };
        self.lifecycle.start(SECOND * 30, &Backoff::default(), prove).await?;
        self.sweep();
        Ok(())
    }

    async fn shutdown(&self, deadline: Deadline) -> Result<(), BoxFault> {
        let close = || async {
            self.tasks.shutdown(deadline).await;
            Ok::<_, Refused>(())
        };
        self.lifecycle.shutdown(deadline, close).await?;
        Ok(())
    }

    async fn health(&self) -> Health {
        self.probe.check(|| async { self.watermark.health(SECOND * 2) }).await
    }

    fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    fn reset_metrics(&self) {
        self.metrics.reset();
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_works_from_start_to_shutdown_behind_the_trait() {
    let clerk = Clerk::open();
    let service: Arc<dyn Service> = Arc::new(clerk.clone());
    assert_eq!((service.name(), service.state()), ("clerk.default", State::Created));
    assert!(clerk.file().await.is_err());

    service.start().await.unwrap();
    let filed = clerk.clone();
    let (result, ()) = tokio::join!(filed.file(), async {
        sleep(SECOND / 2).await;
        service.shutdown(Deadline::after(SECOND * 5)).await.unwrap();
    });
    assert_eq!(result, Ok(()), "a call in flight is finished");
    assert_eq!(service.state(), State::Closed);
    assert_eq!(service.metrics().counter("trine_clerk_filed_total", &[]), Some(1));
    assert_eq!(service.start().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_dies_makes_the_service_go_down_and_is_reported() {
    let clerk = Clerk::open();
    clerk.start().await.unwrap();
    sleep(SECOND * 8).await;
    assert_eq!(clerk.health().await.status, HealthStatus::Up);
    let failure = clerk.tasks.failure().await;
    assert_eq!(failure.task, "sweep");
    sleep(SECOND * 8).await;
    let mut last = HealthStatus::Up;
    for _ in 0..3 {
        last = clerk.health().await.status;
        sleep(SECOND).await;
    }
    assert_eq!(last, HealthStatus::Down);
}
