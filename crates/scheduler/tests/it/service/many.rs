//! A hundred thousand jobs cost what they do.

use trine_scheduler::Job;

use crate::support::{SECOND, World};

const JOBS: usize = 100_000;

#[tokio::test]
async fn a_hundred_thousand_idle_jobs_cost_the_store_no_more_calls_than_one() {
    let world = World::new();
    let process = world.process(Vec::new()).await;
    let jobs = (0..JOBS).map(|number| {
        let schedule = format!("cron {} {} 1 1 *", number % 60, number / 60 % 24);
        let job = Job::new(format!("job:{number}"), &*schedule);
        job.run(|_| async { Ok::<(), std::io::Error>(()) }).unwrap()
    });
    let registered = process.service.register_all(jobs.collect()).await.unwrap();
    assert_eq!(registered.len(), JOBS);
    world.turn().await;
    let before = [process.way.count("plan"), process.way.count("claim")];
    world.pass(SECOND * 60).await;
    let calls = [process.way.count("plan") - before[0], process.way.count("claim") - before[1]];
    assert!(calls.iter().all(|calls| *calls <= 70), "{calls:?}");
    assert_eq!(process.way.count("register"), 1);
    let health = process.service.health().await;
    assert_eq!(health.details["jobs"], JOBS);
}
