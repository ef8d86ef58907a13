//! What may be shared, sent and printed.

use std::fmt::Debug;
use std::time::Duration;

use trine_core::{FenceSink, Tasks};
use trine_lock::{
    Election, Error, Guard, Guards, Holder, Key, Leader, LockConfig, LockDeps, LockOptions,
    LockService, MemoryBackend, Permit, ReadGuard,
};

fn shared<T: Debug + Send + Sync + 'static>() {}
fn handle<T: Clone + Debug + Send + Sync + 'static>() {}

#[test]
fn handles_are_clones_and_guards_are_not() {
    handle::<LockService>();
    handle::<LockConfig>();
    handle::<LockDeps>();
    handle::<LockOptions>();
    handle::<Key>();
    handle::<Holder>();
    handle::<Leader>();
    shared::<Guard>();
    shared::<ReadGuard>();
    shared::<Permit>();
    shared::<Guards>();
    shared::<Election>();
    shared::<MemoryBackend>();
    shared::<Error>();
}

/// With bodies that borrow, in tasks that move between threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_run_in_tasks() {
    let locks = LockService::connect(&LockConfig::memory()).await.unwrap();
    let tasks = Tasks::new("test");
    let work = tasks.spawn("work", {
        let locks = locks.clone();
        async move {
            let sinks: [&dyn FenceSink; 0] = [];
            let mut count = 0;
            let body = async |guard: &Guard| {
                tokio::time::sleep(Duration::from_millis(1)).await;
                count += 1;
                Ok::<_, Error>(guard.fence().token())
            };
            let token = locks.with_lock("k").fencing(&sinks).run(body).await.unwrap();
            let keys = ["a".to_owned(), "b".to_owned()];
            let both = locks.acquire_all(&keys, LockOptions::default()).await.unwrap();
            (token > 0, count, both.into_guard().is_some())
        }
    });
    assert_eq!(work.await.unwrap(), (true, 1, true));
}
