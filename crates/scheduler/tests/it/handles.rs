//! What may be shared, sent and printed.

use std::fmt::Debug;

use trine_scheduler::{
    Error, Job, JobBuilder, JobContext, JobFacts, JobId, MemoryBackend, SchedulerConfig,
    SchedulerDeps, SchedulerService, SqlBackend, Tick, testing,
};

fn shared<T: Debug + Send + Sync + 'static>() {}
fn handle<T: Clone + Debug + Send + Sync + 'static>() {}

#[test]
fn handles_are_clones() {
    handle::<SchedulerService>();
    handle::<SchedulerConfig>();
    handle::<SchedulerDeps>();
    handle::<Job>();
    handle::<JobId>();
    handle::<JobContext>();
    handle::<JobFacts>();
    handle::<Tick>();
    handle::<SqlBackend>();
    handle::<testing::TestScheduler>();
    shared::<JobBuilder>();
    shared::<MemoryBackend>();
    shared::<Error>();
}
