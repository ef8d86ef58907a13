//! Typed key-value caching in this process or on Redis: strings, counters,
//! hashes, sets, lists, rankings, atomic batches, fenced writes and sessions.
//!
//! A process builds one [`CacheConfig`], connects one [`CacheService`] from it,
//! and hands out clones. Where entries are kept is a matter of configuration:
//! in this process, or on a Redis that a `trine_redis::RedisPool` reaches.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> trine_cache::Result<()> {
//! use trine_cache::{CacheConfig, CacheService, Ttl};
//!
//! let cache = CacheService::connect(&CacheConfig::memory()).await?;
//! cache.put("user:7", &("Ada", 36), Ttl::secs(60)).await?;
//!
//! let user: Option<(String, u32)> = cache.get("user:7").await?;
//! assert_eq!(user, Some(("Ada".to_owned(), 36)));
//! assert_eq!(cache.add("visits", 1, Ttl::Default).await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! Each names what proves it: a check of the suite, which every backend passes,
//! or a test of the backend that is named.
//!
//! * An entry whose life has ended is never returned, by any operation
//!   (`an_ended_entry_is_never_returned`, `collections_end_as_a_whole`).
//! * A write is never sent twice: one whose reply is lost fails with
//!   `OutcomeUnknown`, and has happened at most once (Redis:
//!   `a_lost_reply_is_an_unknown_outcome_and_counts_once`).
//! * An atomic batch is seen as a whole or not at all, and every operation in
//!   it runs (`an_atomic_batch_is_seen_as_a_whole`,
//!   `an_atomic_batch_runs_every_operation`).
//! * A condition that does not hold refuses its batch before anything is written
//!   (`a_condition_refuses_the_whole_batch`); of many who expect the same value,
//!   one succeeds (`a_value_is_replaced_only_if_it_is_as_expected`).
//! * Once a newer owner has shown its fence, an older one writes nothing more to
//!   what lives under the same tag, also after the value was removed or has
//!   ended (`an_old_fence_is_refused_and_changes_nothing`,
//!   `a_raised_fence_refuses_the_old_owner`,
//!   `a_fence_is_remembered_when_the_value_is_gone`).
//! * A caller cannot leave its part of the store: a prefix is removed and
//!   nothing else (`a_prefix_is_removed_and_nothing_else`,
//!   `a_scan_yields_every_key_with_the_prefix`), and nothing is ever flushed.
//! * A token that was revoked or rotated, or whose session was idle or old for
//!   too long, is nobody's (`a_session_is_made_used_and_revoked`,
//!   `a_rotated_token_replaces_the_old_one`,
//!   `a_session_ends_when_it_is_idle_and_when_it_is_old`), and a user never has
//!   more sessions than allowed (`sessions_made_at_once_keep_the_cap`). The
//!   store holds no token.
//! * In this process, the bytes of all entries stay within `max_bytes` and one
//!   entry (memory: `bytes_never_pass_the_bound_by_more_than_an_entry`). Where a
//!   full store refuses, what finds no room has changed nothing, an atomic batch
//!   as a whole, and no session is lost (memory:
//!   `an_atomic_batch_without_room_is_refused_as_a_whole`,
//!   `sessions_in_a_full_store_are_used_rotated_and_ended`).
//! * A write of which only a part was done, such as one without its lifetime, is
//!   an `OutcomeUnknown` too (Redis:
//!   `a_right_that_is_missing_half_way_leaves_the_outcome_unknown`).
//! * Dropping a future gives no reply to another caller and leaks no connection
//!   (Redis: `dropped_calls_leave_no_foreign_reply`).
//!
//! # Not provided
//!
//! A rollback: an atomic batch is isolated, and what one of its operations did
//! before another failed stays done. Order between concurrent writers of one
//! key. Batches over keys that do not share a `{tag}`. Fences and sessions on a
//! Redis that may evict; there both are refused, sessions unless told otherwise.
//! What a Redis loses when it fails over or restarts, fences and sessions among
//! it, is lost: its durability is shown in health.
//!
//! # Feature flags
//!
//! * `redis`: a Redis server, a master that sentinels watch, or a cluster.
//! * `conformance`: the suite, for backends of your own.
//! * `testing`: a cache in memory on a clock that tests set.

#![forbid(unsafe_code)]

mod backend;
mod batch;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod guard;
mod hash;
mod key;
mod list;
mod op;
mod ranking;
mod reply;
mod service;
mod session;
mod set;
mod ttl;
mod value;

#[cfg(feature = "redis")]
pub use backend::RedisBackend;
pub use backend::{
    CacheBackend, Call, Capabilities, Cursor, MemoryBackend, Observed, Page, StoreFacts, StoreStats,
};
pub use batch::{Batch, Condition, Expected, Guard, Outcome};
pub use config::{
    BackendConfig, CacheConfig, ConfigError, MemoryConfig, RedisStoreConfig, WhenFull,
};
pub use error::{At, Error, Result, Unavailable};
pub use guard::{Fenced, GuardedKeys};
pub use hash::CacheHash;
pub use key::{InvalidKey, Key};
pub use list::CacheList;
pub use op::{End, Op, Order, PutMode, Scored, SortedMode};
pub use ranking::{CacheRanking, Placed};
pub use reply::{FieldPage, Ranked, Reply};
pub use service::{CacheDeps, CacheService};
pub use session::{
    CreateOutcome, Created, Session, SessionId, SessionToken, Sessions, SessionsConfig, WhenTooMany,
};
pub use set::CacheSet;
pub use ttl::{Lifetime, Ttl};
pub use value::{Presence, PutOutcome};

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/cache.md")]
struct Guide;
