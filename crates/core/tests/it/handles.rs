use std::fmt::Debug;

use trine_core::{
    Backoff, CallContext, Claim, Counter, Deadline, ErrorKind, Fault, Fence, Gauge, Health,
    Histogram, Hysteresis, IdempotencyKey, InFlight, Intensity, Jitter, Lease, LeaseKeeper,
    LeaseState, Lifecycle, ManualClock, Metrics, MigrationSet, Moment, Probe, Refused, RetryBudget,
    RetryPolicy, Secret, Seed, Snapshot, SystemClock, TaskHandle, Tasks, TraceParent, Watermark,
    retry,
};

fn shared<T: Clone + Debug + Send + Sync + 'static>() {}

fn owned<T: Debug + Send + Sync + 'static>() {}

fn sent<T: Send>(future: T) -> T {
    future
}

#[test]
fn every_handle_is_clone_send_and_sync() {
    shared::<Backoff>();
    shared::<CallContext>();
    shared::<Claim>();
    shared::<Counter>();
    shared::<Deadline>();
    shared::<Fence>();
    shared::<Gauge>();
    shared::<Health>();
    shared::<Histogram>();
    shared::<Hysteresis>();
    shared::<IdempotencyKey>();
    shared::<Intensity>();
    shared::<Jitter>();
    shared::<LeaseKeeper>();
    shared::<LeaseState>();
    shared::<Lifecycle>();
    shared::<ManualClock>();
    shared::<Metrics>();
    shared::<MigrationSet>();
    shared::<Moment>();
    shared::<Probe>();
    shared::<RetryBudget>();
    shared::<RetryPolicy>();
    shared::<Secret>();
    shared::<Seed>();
    shared::<Snapshot>();
    shared::<SystemClock>();
    shared::<Tasks>();
    shared::<TraceParent>();
    shared::<Watermark>();
    owned::<InFlight>();
    owned::<Lease>();
    owned::<TaskHandle<()>>();
}

#[tokio::test]
async fn every_future_can_be_sent() {
    let (lifecycle, tasks) = (Lifecycle::new("t"), Tasks::new("t"));
    let (backoff, budget) = (Backoff::default(), RetryBudget::default());
    let ready = || std::future::ready(Ok::<_, Refused>(()));
    let soon = Deadline::after(std::time::Duration::from_secs(5));
    sent(lifecycle.start(soon.remaining(), &backoff, ready)).await.unwrap();
    sent(retry(&RetryPolicy::never(), &budget, None, ready)).await.unwrap();
    let probe = Probe::new(soon.remaining(), soon.remaining());
    sent(probe.check(|| std::future::ready(Health::up()))).await;
    sent(CallContext::default().scope(async {})).await;
    drop(sent(tasks.failure()));
    sent(tasks.shutdown(soon)).await;
    sent(lifecycle.shutdown(soon, ready)).await.unwrap();
    assert_eq!(lifecycle.enter().unwrap_err().kind(), ErrorKind::Closed);
}
