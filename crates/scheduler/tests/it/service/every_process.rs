//! Jobs of each process.

use trine_scheduler::{Job, TickState};

use crate::support::{Log, SECOND, World};

fn own(log: &Log, keys: &Log) -> Job {
    let (log, keys) = (log.clone(), keys.clone());
    let job = Job::new("own", "every 10s").every_process().run(move |ctx| {
        log.say("runs");
        keys.say(ctx.fence().key());
        async { Ok::<(), std::io::Error>(()) }
    });
    job.unwrap()
}

#[tokio::test]
async fn it_runs_in_every_process_and_nothing_of_it_is_stored() {
    let (world, keys) = (World::new(), Log::default());
    let logs = [Log::default(), Log::default()];
    let first = world.process(vec![own(&logs[0], &keys)]).await;
    let second = world.process(Vec::new()).await;
    second.service.register(own(&logs[1], &keys)).await.unwrap();
    world.pass(SECOND * 30).await;
    assert!(logs.iter().all(|log| log.count() >= 3), "{logs:?}");
    assert_eq!(first.way.count("register") + second.way.count("register"), 0);
    let states = first.states("own").await;
    assert!(states.iter().all(|state| *state == TickState::Succeeded), "{states:?}");
    let mut keys = keys.all();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 2, "a process does not end the runs of another: {keys:?}");
    first.service.pause("own", "here only").await.unwrap();
    let before = logs[0].count();
    world.pass(SECOND * 30).await;
    assert_eq!(logs[0].count(), before);
    assert!(logs[1].count() >= 6);
    assert!(first.service.remove("own").await.unwrap());
    assert!(first.service.job("own").await.unwrap().is_none());
    assert!(second.service.job("own").await.unwrap().is_some());
}
