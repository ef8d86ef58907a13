//! The suite in this process, the spread of lifetimes, and two owners of one
//! claim.

mod full;
mod jitter;

use std::sync::Arc;

use trine_cache::conformance::Fixture;
use trine_cache::{BackendConfig, CacheConfig, CacheDeps, MemoryConfig, WhenFull};
use trine_core::ManualClock;

use crate::support::race::{Race, race};

async fn connect() -> Fixture {
    let mut memory = MemoryConfig::default();
    memory.when_full = WhenFull::Refuse;
    let config = CacheConfig::new(BackendConfig::Memory(memory));
    Fixture::new(config, CacheDeps::default(), ()).with_clock(Arc::new(ManualClock::new()))
}

trine_cache::conformance_tests!(suite, super::connect);

// DB-20, in this process
#[tokio::test]
async fn no_stale_write_is_accepted_however_two_owners_meet() {
    let (cache, clock) = trine_cache::testing::memory().await.unwrap();
    // What is over at once is over with the next tick.
    let ticking = async {
        loop {
            clock.advance(trine_cache::Ttl::MIN);
            tokio::task::yield_now().await;
        }
    };
    let race = tokio::select! {
        race = race(&cache, "memory", 3, 2_000, true) => race,
        () = ticking => Race::default(),
    };
    assert_eq!(race.stale, 0, "{race}");
    assert!(race.early > 100 && race.refused > 100, "the owners do not meet: {race}");
}
