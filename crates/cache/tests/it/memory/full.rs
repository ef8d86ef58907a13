//! Sessions in a store that is full: what makes nothing larger goes on, and
//! what finds no room has changed nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use trine_cache::{
    BackendConfig, CacheConfig, CacheService, CreateOutcome, Created, MemoryConfig, Presence,
    Sessions, SessionsConfig, Ttl, WhenFull, testing,
};
use trine_core::{ErrorKind, ManualClock, Secret, Size};

use crate::support::assert_kind;

async fn open(bytes: u64) -> (CacheService, Arc<ManualClock>, Sessions<String>) {
    let mut memory = MemoryConfig::default();
    memory.when_full = WhenFull::Refuse;
    memory.max_bytes = Size::bytes(bytes);
    let mut config = CacheConfig::new(BackendConfig::Memory(memory));
    config.max_value = Size::bytes(32 * 1024);
    let (cache, clock) = testing::memory_with(&config).await.unwrap();
    let mut config = SessionsConfig::new(Secret::new("k".repeat(32)));
    config.max_per_user = NonZeroU32::new(2).unwrap();
    let sessions = Sessions::open(&cache, &config).unwrap();
    (cache, clock, sessions)
}

async fn create(sessions: &Sessions<String>, user: &str) -> Created<String> {
    match sessions.create(user, &"data".to_owned()).await.unwrap() {
        CreateOutcome::Created(created) => created,
        other => panic!("{other:?}"),
    }
}

/// Puts what there is room for, down to the last few bytes.
async fn fill(cache: &CacheService) {
    let (mut size, mut count) = (16 * 1024, 0);
    while size > 0 {
        count += 1;
        let value = vec![0; size];
        if let Err(error) = cache.put_bytes(format!("f{count:04}"), value, Ttl::Never).await {
            assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
            size /= 2;
        }
    }
}

#[tokio::test]
async fn sessions_in_a_full_store_are_used_rotated_and_ended() {
    let (cache, clock, sessions) = open(128 * 1024).await;
    let (first, second) = (create(&sessions, "ada").await, create(&sessions, "ada").await);
    let other = create(&sessions, "bob").await;
    fill(&cache).await;

    clock.advance(Duration::from_secs(100));
    let token = first.token.expose();
    let used = sessions.get(token).await.unwrap().unwrap().used_at;
    assert!(used > first.session.used_at);
    let listed = sessions.list("ada").await.unwrap();
    assert_eq!(listed[0].used_at, used, "the use was not noted");
    let fresh = sessions.rotate(token).await.unwrap().unwrap();
    assert!(sessions.get(token).await.unwrap().is_none());
    let token = fresh.token.expose();
    assert_eq!(sessions.get(token).await.unwrap().unwrap().data, "data");
    // One more takes the place of the one that was unused for longest.
    let third = create(&sessions, "ada").await;
    assert_eq!(third.ended, [second.session.id]);

    let large = "x".repeat(1024);
    assert_kind(sessions.put(token, &large).await, ErrorKind::Exhausted);
    assert_kind(sessions.create("ada", &large).await, ErrorKind::Exhausted);
    assert_kind(sessions.create("eve", &large).await, ErrorKind::Exhausted);
    assert_eq!(sessions.get(token).await.unwrap().unwrap().data, "data");
    assert_eq!(sessions.list("ada").await.unwrap().len(), 2);
    assert!(sessions.list("eve").await.unwrap().is_empty());

    let stranger = create(&open(64 * 1024).await.2, "eve").await;
    assert_eq!(sessions.revoke(stranger.token.expose()).await.unwrap(), Presence::Absent);
    assert_eq!(sessions.revoke_others(token).await.unwrap(), Some(1));
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(sessions.revoke(other.token.expose()).await.unwrap(), Presence::Present);
    assert!(sessions.get(other.token.expose()).await.unwrap().is_none());
}

/// What a step gives back within itself is its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_takes_the_room_of_a_session_that_is_rotated() {
    let (cache, _clock, sessions) = open(1024 * 1024).await;
    let mut token = create(&sessions, "ada").await.token;
    fill(&cache).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut greedy = JoinSet::new();
    for lane in 0..3 {
        let (cache, is_over) = (cache.clone(), Arc::clone(&is_over));
        greedy.spawn(async move {
            let mut count = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                count += 1;
                let name = format!("greedy:{lane}:{count}");
                let _full = cache.put_bytes(name, "", Ttl::Never).await;
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..3_000 {
        token = sessions.rotate(token.expose()).await.unwrap().unwrap().token;
    }
    is_over.store(true, Ordering::Relaxed);
    greedy.join_all().await;
    assert!(sessions.get(token.expose()).await.unwrap().is_some());
}
