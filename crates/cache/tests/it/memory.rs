//! The suite in this process.

use std::sync::Arc;

use trine_cache::conformance::Fixture;
use trine_cache::{BackendConfig, CacheConfig, CacheDeps, MemoryConfig, WhenFull};
use trine_core::ManualClock;

async fn connect() -> Fixture {
    let mut memory = MemoryConfig::default();
    memory.when_full = WhenFull::Refuse;
    let config = CacheConfig::new(BackendConfig::Memory(memory));
    Fixture::new(config, CacheDeps::default(), ()).with_clock(Arc::new(ManualClock::new()))
}

trine_cache::conformance_tests!(suite, super::connect);
