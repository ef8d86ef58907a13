//! The suite that every backend passes: one check for each guarantee.
//!
//! A backend's test file names a function that makes a fresh, empty cache and
//! expands [`conformance_tests!`](crate::conformance_tests) with it.
//!
//! ```ignore
//! async fn connect() -> trine_cache::conformance::Fixture { /* … */ }
//! trine_cache::conformance_tests!(suite, super::connect);
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "checks fail by panicking, like any test"
)]

mod batches;
mod bytes;
mod collections;
mod guards;
mod lifecycle;
mod lifetimes;
mod rankings;
mod scans;
mod sessions;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use trine_core::{ErrorKind, ManualClock};

use crate::{Batch, CacheConfig, CacheDeps, CacheService, Error, Key, Op, Outcome, Reply, Ttl};

pub use self::bytes::*;
pub use batches::*;
pub use collections::*;
pub use guards::*;
pub use lifecycle::*;
pub use lifetimes::*;
pub use rankings::*;
pub use scans::*;
pub use sessions::*;

/// A fresh, empty cache for one check, on a store that does not evict.
pub struct Fixture {
    /// How to open it.
    pub config: CacheConfig,
    /// What it needs beside that.
    pub deps: CacheDeps,
    clock: Option<Arc<ManualClock>>,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    /// Returns a fixture; `keep` is dropped with it.
    #[must_use]
    pub fn new(config: CacheConfig, deps: CacheDeps, keep: impl Any + Send + Sync) -> Self {
        Self { config, deps, clock: None, _keep: Box::new(keep) }
    }

    /// Has the checks set this clock, which is the one of the store, instead of
    /// waiting.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<ManualClock>) -> Self {
        self.deps = self.deps.with_clock(Arc::<ManualClock>::clone(&clock));
        self.clock = Some(clock);
        self
    }

    /// Starts a cache.
    pub async fn start(&self) -> CacheService {
        self.start_with(|_| {}).await
    }

    /// Starts a cache with a changed configuration.
    pub async fn start_with(&self, change: impl FnOnce(&mut CacheConfig)) -> CacheService {
        let mut config = self.config.clone();
        change(&mut config);
        let cache = CacheService::open(&config, self.deps.clone()).unwrap();
        cache.start().await.unwrap();
        cache
    }

    /// Lets time go by on the clock of the store.
    async fn pass(&self, span: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(span),
            None => tokio::time::sleep(span).await,
        }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("config", &self.config).finish_non_exhaustive()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Runs operations as one pipelined or atomic batch that has no conditions.
async fn run(cache: &CacheService, batch: Batch) -> Vec<Reply> {
    match cache.run(batch).await.unwrap() {
        Outcome::Ran(replies) => replies.into_vec(),
        Outcome::Refused { condition } => panic_with(&format!("condition {condition}")),
    }
}

/// Runs one operation.
async fn one(cache: &CacheService, op: Op) -> Result<Reply, Error> {
    match run(cache, Batch::pipelined().with(op)).await.pop() {
        Some(Reply::Failed(error)) => Err(error),
        reply => Ok(reply.unwrap()),
    }
}

/// Puts a text that never ends.
async fn put(cache: &CacheService, name: &str, text: &str) {
    cache.put_bytes(name, text.to_owned(), Ttl::Never).await.unwrap();
}

async fn get(cache: &CacheService, name: &str) -> Option<String> {
    cache.get_text(name).await.unwrap()
}

#[track_caller]
fn assert_invalid<T: fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.to_string()
}

#[expect(clippy::panic, reason = "checks fail by panicking, like any test")]
fn panic_with<T>(what: &str) -> T {
    panic!("{what}")
}

/// Expands to one named test per check, in a module of its own.
///
/// `$connect` is an `async fn` that returns a [`Fixture`], and panics with
/// instructions when its server cannot be had. The caller's crate needs tokio
/// with its macros.
#[macro_export]
macro_rules! conformance_tests {
    ($module:ident, $connect:path) => {
        $crate::conformance_tests!(
            @each $module, $connect,
            // bytes
            bytes_are_put_read_and_removed,
            values_are_kept_as_json,
            a_value_of_another_shape_is_a_codec_error,
            modes_of_a_put_are_kept,
            bytes_are_swapped_and_taken,
            several_values_are_read_in_their_order,
            numbers_are_added,
            what_is_no_number_is_not_added_to,
            a_value_is_replaced_only_if_it_is_as_expected,
            values_may_be_empty_binary_and_large,
            oversized_values_are_refused,
            // lifetimes
            an_ended_entry_is_never_returned,
            lifetimes_are_given_kept_and_removed,
            a_default_lifetime_is_given_where_a_key_is_made,
            an_explicit_lifetime_always_replaces,
            a_refused_put_changes_no_lifetime,
            a_lifetime_out_of_range_is_refused,
            collections_end_as_a_whole,
            // collections
            hashes_have_fields,
            fields_are_added_to,
            a_hash_is_read_page_by_page,
            sets_have_members_once,
            lists_are_pushed_popped_and_cut,
            a_collection_without_members_does_not_exist,
            another_type_under_a_key_is_refused_and_stays,
            // rankings
            rankings_are_in_the_order_of_scores,
            a_rank_comes_with_its_score,
            scores_are_written_where_the_mode_allows,
            scores_are_read_removed_and_cut,
            scores_may_be_infinite_but_are_numbers,
            // batches
            a_pipeline_answers_each_operation,
            an_atomic_batch_runs_every_operation,
            an_atomic_batch_is_seen_as_a_whole,
            a_condition_refuses_the_whole_batch,
            conditions_see_every_type,
            a_value_that_may_be_stored_may_be_so_in_one_step,
            batches_that_can_never_run_are_refused,
            // guards
            an_old_fence_is_refused_and_changes_nothing,
            a_fence_is_remembered_when_the_value_is_gone,
            a_raised_fence_refuses_the_old_owner,
            fences_guard_what_lives_together,
            a_fence_mark_ends_after_what_it_guards,
            a_fence_mark_is_never_scanned,
            // scans
            a_scan_yields_every_key_with_the_prefix,
            a_scan_goes_on_while_keys_come_and_go,
            a_cursor_of_no_scan_is_refused,
            a_prefix_is_removed_and_nothing_else,
            // sessions
            a_session_is_made_used_and_revoked,
            a_session_ends_when_it_is_idle_and_when_it_is_old,
            a_user_has_only_so_many_sessions,
            a_rotated_token_replaces_the_old_one,
            sessions_are_listed_and_revoked_together,
            sessions_made_at_once_keep_the_cap,
            // life cycle
            nothing_is_answered_before_start_and_after_shutdown,
            health_and_metrics_show_the_work,
            keys_that_can_never_be_are_refused
        );
    };
    (@each $module:ident, $connect:path, $($check:ident),+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::conformance::$check($connect().await).await;
            })+
        }
    };
}
