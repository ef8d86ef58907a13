//! How far apart the ends of entries are that were made together.

use std::sync::Arc;
use std::time::Duration;

use trine_cache::{
    BackendConfig, CacheConfig, CacheDeps, CacheService, Lifetime, MemoryConfig, Ttl, WhenFull,
};
use trine_core::{Jitter, ManualClock};

const KEYS: usize = 100_000;
const TTL: Duration = Duration::from_secs(60);

/// Puts so many keys at one moment and returns how long each lives, as a part
/// of the window that `jitter` opens before the end of the lifetime.
async fn ends(jitter: f64) -> Vec<f64> {
    let mut memory = MemoryConfig::default();
    memory.when_full = WhenFull::Refuse;
    memory.max_bytes = "256MiB".parse().unwrap();
    let mut config = CacheConfig::new(BackendConfig::Memory(memory)).with_default_ttl(TTL.into());
    config.ttl_jitter = jitter;
    let clock = Arc::new(ManualClock::new());
    let deps = CacheDeps::default().with_clock(clock).with_jitter(Jitter::seeded(7));
    let cache = CacheService::open(&config, deps).unwrap();
    cache.start().await.unwrap();
    let mut ends = Vec::with_capacity(KEYS);
    for each in 0..KEYS {
        let key = format!("k{each}");
        cache.put_bytes(&*key, "x", Ttl::Default).await.unwrap();
        let Lifetime::Left(left) = cache.lifetime(&*key).await.unwrap() else { panic!("{key}") };
        assert!(left <= TTL && left >= TTL.mul_f64(1.0 - jitter), "{left:?}");
        ends.push((TTL - left).as_secs_f64() / TTL.mul_f64(0.1).as_secs_f64());
    }
    ends
}

/// The statistic of Kolmogorov and Smirnov: how far the distribution is from an
/// even one from 0 to 1.
fn distance_from_even(mut ends: Vec<f64>) -> f64 {
    ends.sort_by(f64::total_cmp);
    let count = ends.len() as f64;
    let apart = |(at, end): (usize, &f64)| {
        let (below, up_to) = (at as f64 / count, (at + 1) as f64 / count);
        (end - below).abs().max((up_to - end).abs())
    };
    ends.iter().enumerate().map(apart).fold(0.0, f64::max)
}

/// An even distribution is farther away than this once in a hundred times.
fn critical() -> f64 {
    1.63 / (KEYS as f64).sqrt()
}

// CA-15
#[tokio::test]
async fn entries_made_together_end_evenly_over_the_window() {
    let ends = ends(0.1).await;
    let (first, last) = ends
        .iter()
        .fold((1.0, 0.0), |(first, last), end| (f64::min(first, *end), f64::max(last, *end)));
    assert!(first < 0.001 && last > 0.999, "from {first} to {last} of the window");
    let distance = distance_from_even(ends);
    assert!(distance < critical(), "{distance} of {}", critical());
}

/// The negative controls.
#[tokio::test]
async fn without_jitter_or_with_half_of_it_they_do_not() {
    for jitter in [0.0, 0.05] {
        let distance = distance_from_even(ends(jitter).await);
        assert!(distance > 0.4, "{distance}");
    }
}
