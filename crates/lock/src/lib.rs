//! Locks with fencing tokens: exclusive, read/write, semaphores, several keys
//! at once, leaders; woken by push and renewed in the background.
//!
//! A process builds one [`LockConfig`], connects one [`LockService`] from it,
//! and hands out clones. What it holds are guards: each is renewed until it is
//! released, dropped or lost, and tells when it is. Locks are kept in this
//! process, on Redis or in a database; other stores implement [`LockBackend`].
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> trine_lock::Result<()> {
//! use trine_lock::{AcquireOutcome, LockConfig, LockOptions, LockService};
//!
//! let locks = LockService::connect(&LockConfig::memory()).await?;
//! let outcome = locks.acquire("order:42", LockOptions::default()).await?;
//! if let AcquireOutcome::Acquired(guard) = outcome {
//!     tokio::select! {
//!         end = guard.lost() => println!("stop: {end:?}"),
//!         () = async { /* the work, showing guard.fence() */ } => {}
//!     }
//!     guard.release().await?;
//! }
//!
//! let total = locks.with_lock("account:7").run(async |_| Ok::<_, trine_lock::Error>(42)).await?;
//! assert_eq!(total, 42);
//! # Ok(())
//! # }
//! ```
//!
//! A whole function at a time, with feature `macros`:
//!
//! ```
//! # #[cfg(feature = "macros")]
//! # mod shop {
//! use trine_lock::LockService;
//!
//! struct Shop {
//!     locks: LockService,
//! }
//!
//! impl Shop {
//!     #[trine_lock::locked(with = self.locks, key = "order:{id}", ttl = "10s", wait = "5s")]
//!     async fn pay(&self, id: u64) -> trine_lock::Result<()> {
//!         // Nobody else pays this order now.
//!         Ok(())
//!     }
//! }
//! # }
//! ```
//!
//! # Guarantees
//!
//! Each names what proves it: a check of the suite, which every backend passes,
//! or a test of the backend that is named.
//!
//! * A key is one holder's, or readers', or at most so many permits'
//!   (`a_key_is_held_by_one_at_a_time`, `reads_share_and_exclude_writes`,
//!   `permits_are_bounded_and_numbered`; memory:
//!   `no_addition_is_lost_under_two_locks`,
//!   `no_schedule_lets_two_believe_that_they_write`; MariaDB:
//!   `no_addition_of_two_processes_is_lost`).
//! * What processes see of a store is what one lock with leases would have
//!   answered, one call after the other, whatever is late, lost or cut off on the
//!   way (memory: `every_history_of_the_store_in_memory_is_one_of_a_lock`; Redis,
//!   also when it is killed and comes back with its data:
//!   `every_history_of_a_redis_is_one_of_a_lock`; SQLite and MariaDB:
//!   `every_history_of_a_sqlite_is_one_of_a_lock`,
//!   `every_history_of_a_mariadb_is_one_of_a_lock`).
//! * A later grant of a key has a higher token, after a release, an expiry or a
//!   steal, and whatever the wall clock does
//!   (`tokens_grow_however_a_key_changes_hands`; memory:
//!   `a_jump_of_the_wall_clock_changes_nothing_and_tokens_grow`; SQLite:
//!   `tokens_grow_whatever_the_clock_says`; MariaDB, by the server's clock:
//!   `a_jump_of_a_clients_clock_changes_nothing`; Redis, by the server's clock:
//!   `a_client_that_jumps_changes_nothing`,
//!   `a_server_that_jumps_back_ends_nothing_early_and_no_token_falls`). On Redis
//!   a server that jumps ahead gives held keys on, with higher tokens
//!   (`a_server_that_jumps_ahead_gives_a_key_on_with_a_higher_token`).
//! * A Redis that was replaced or has lost its data grants nothing for
//!   `clock_margin`, and then with higher tokens
//!   (`a_server_that_lost_its_data_grants_nothing_for_the_margin`; sentinels and
//!   cluster: `the_next_master_grants_nothing_for_the_margin_and_then_higher_tokens`);
//!   with `mode = "exclusive"` not before every holder has let go
//!   (`an_exclusive_store_that_lost_its_data_waits_for_every_holder`). What it
//!   still knows goes on
//!   (`a_server_that_comes_back_with_its_data_keeps_who_held`,
//!   `a_server_that_forgot_its_scripts_forgets_no_lock`), and who was forgotten
//!   notices at the next renewal (`a_holder_notices_that_the_server_forgot_it`).
//! * Who holds a key keeps it by renewals, and a holder that is silent loses it
//!   after its ttl (`what_is_held_is_renewed`,
//!   `an_expired_key_is_given_on_with_a_higher_token`,
//!   `an_expired_permit_is_given_on`; memory:
//!   `permits_of_a_process_that_is_cut_off_come_back_after_their_ttl`; MariaDB:
//!   `the_key_of_a_killed_process_is_given_on_after_its_ttl`,
//!   `permits_of_a_killed_process_come_back`; Redis:
//!   `permits_of_processes_that_die_come_back_after_their_ttl`; package `trine`,
//!   Redis and MariaDB:
//!   `the_key_of_a_killed_process_goes_to_the_next_after_its_ttl`), except for its least time
//!   (`a_key_stays_taken_for_its_least_time`,
//!   `the_key_of_a_holder_that_died_stays_taken_for_its_least_time`). Nothing
//!   is held for longer than its most (`a_hold_is_over_after_its_most`).
//! * A guard is lost before the store lets go, while the rates of the two
//!   clocks differ by less than a tenth (the model of `trine-core`:
//!   `no_holder_believes_in_a_lease_that_the_store_has_let_go`), and a renewal
//!   that arrives late takes nothing from an extension
//!   (`an_extension_holds_from_now_on`, `a_late_renewal_shortens_nothing`).
//! * A hold outlives a restart of the server and a cut of the connection that
//!   are shorter than its ttl, and the loss of one is told once (MariaDB:
//!   `what_is_held_outlives_a_restart_of_its_server`,
//!   `a_short_cut_is_survived_and_a_long_one_is_told`; Redis:
//!   `a_short_cut_loses_nothing_and_a_long_one_is_told_once`,
//!   `a_stopped_server_loses_a_lock_before_it_could_give_it_on`).
//! * What a store granted though its answer was lost is found by the request
//!   that is asked again, or given back
//!   (`a_request_that_is_asked_again_has_its_grant`; MariaDB:
//!   `a_grant_whose_answer_was_lost_is_found`,
//!   `a_grant_whose_caller_gave_up_is_given_back`,
//!   `a_release_whose_answer_was_lost_is_told`; Redis:
//!   `a_grant_whose_reply_was_lost_is_found_again`,
//!   `a_grant_that_nobody_knows_of_is_given_back`,
//!   `a_release_whose_reply_was_lost_leaves_nothing`).
//! * A stolen key is told to its holder at once, where losses are pushed, else
//!   at its next renewal (`a_steal_ends_every_grant_and_tells_its_holder`).
//! * Who waits is woken when the key is free, processes in turn and within one
//!   in the order of coming, or all in the order of coming if told so
//!   (`a_release_wakes_who_waits`, `waiters_of_a_process_come_in_their_order`,
//!   `processes_take_turns`, `who_came_first_is_first_if_told`); nobody passes
//!   who is next (`nobody_passes_who_was_told`), and one that does not come is
//!   skipped (`a_dead_waiter_is_skipped`; Redis:
//!   `a_process_that_is_gone_is_skipped_at_once`,
//!   `who_is_told_on_a_dead_connection_is_passed_over`). What was told and not
//!   heard is asked for (Redis: `what_was_missed_is_asked_for`). Readers do not
//!   starve a writer (`who_waits_to_write_goes_before_later_reads`).
//! * Where there is push, a hand-off takes two commands however many wait
//!   (memory, Redis: `a_thousand_waiters_cost_two_commands_each`). Where there is none,
//!   who waits asks at growing intervals, sooner when the key changes hands and
//!   in time for its turn (memory: `a_key_that_changes_hands_is_asked_for_more_often`,
//!   `who_is_next_asks_while_the_key_is_kept_for_it`), and a question that
//!   changes nothing writes nothing (SQLite:
//!   `a_question_that_changes_nothing_writes_nothing`).
//! * A release says what the store had, and frees nobody else's grant
//!   (`a_release_says_what_the_store_had`).
//! * Several keys are taken together or not at all, without deadlock
//!   (`several_keys_are_taken_together_or_not_at_all`,
//!   `two_who_take_several_keys_never_wait_for_each_other`).
//! * An owner that takes its key again has the same token, and the last release
//!   frees (`an_owner_takes_its_key_again`,
//!   `a_waiting_call_of_the_owner_is_let_in`).
//! * The body of a `with_lock` runs with the key only: it does not begin before
//!   its fence is raised, and is dropped when the lock is lost
//!   (`a_body_runs_with_the_key_and_gives_it_back`,
//!   `a_body_does_not_begin_before_its_fence_is_raised`,
//!   `a_body_is_dropped_when_the_lock_is_lost`); `#[locked]` is the same for a
//!   whole function, which sees its own names only
//!   (`a_function_runs_with_its_key`, `a_body_sees_its_own_names_only`).
//! * Where a new holder has raised its fence, an old one writes nothing more,
//!   wherever it was stopped (package `trine`, over SQLite, a cache in memory
//!   and one on Redis; locks in memory:
//!   `no_schedule_lets_an_owner_write_whose_lock_expired`,
//!   `no_schedule_lets_an_owner_write_whose_lock_was_stolen`; locks on Redis and
//!   in SQLite: `no_schedule_lets_an_owner_write_whose_lock_became_another_s`;
//!   processes with locks on Redis and in MariaDB:
//!   `a_process_that_was_stopped_writes_nothing_once_another_has_raised`).
//! * One candidate leads at a time, a leader knows when it is over, and another
//!   takes over (`one_candidate_leads_and_another_takes_over`,
//!   `a_leader_that_is_lost_leads_no_more`, `a_shutdown_ends_a_candidacy`).
//! * Dropping a call anywhere leaves no grant and no place in a line
//!   (`a_dropped_wait_leaves_the_line`; memory, Redis and SQLite:
//!   `a_call_that_is_dropped_anywhere_leaves_nothing_behind`).
//! * A shutdown gives everything back and ends every wait
//!   (`a_shutdown_gives_everything_back_and_ends_the_waits`).
//! * On Redis, what one holder has alone takes a short way there and back, and
//!   is as any other grant once others come, it is extended, stolen, listed or
//!   swept (`a_plain_grant_gets_waiters`, `a_plain_grant_is_extended`,
//!   `a_plain_grant_is_stolen`, `a_plain_grant_says_who_has_it`,
//!   `a_plain_grant_is_swept`).
//! * A store is bounded by what is held and waited for (memory, Redis:
//!   `no_key_leaves_a_record`; SQLite: `no_key_leaves_a_row`; Redis:
//!   `what_the_dead_have_held_is_swept`, `pages_of_holders_have_every_key_once`).
//! * A Redis that may evict is refused unless told
//!   (`a_server_that_may_evict_is_refused_unless_told`), and a full one takes
//!   back what is held (`a_full_server_takes_what_is_given_back`).
//!
//! # Not provided
//!
//! A stop of code that never waits, and word to a process that is itself
//! stopped: it may act on a lock that is another's by then, and only the
//! [`Fence`](trine_core::Fence) that it shows to the resource ends that. A turn
//! of a read lock into a write lock. Order between calls that only try. Exclusion
//! across a fail-over: a Redis of another `mode` than `exclusive` and a database
//! that replicates asynchronously may give a key to two, until the first one
//! notices at its next renewal; the fence decides there.
//!
//! # Feature flags
//!
//! * `macros` (default): the attribute `#[locked]`.
//! * `redis`: locks on a Redis server, a master that sentinels watch, or a
//!   cluster.
//! * `sqlite`: locks in the SQLite of `trine-db-shard`.
//! * `mysql`: locks in its MySQL ≥ 8.0.1 or MariaDB ≥ 10.6.
//! * `conformance`: the suite, for backends of your own.
//! * `testing`: locks in memory on a clock that tests set, and guards that
//!   tests take away.

#![forbid(unsafe_code)]

mod backend;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod deps;
mod election;
mod error;
mod guard;
mod guards;
mod holder;
mod key;
mod lines;
mod options;
mod outcome;
mod request;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod schema;
mod service;
mod shape;
mod with_lock;

#[cfg(feature = "redis")]
pub use backend::RedisBackend;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub use backend::SqlBackend;
pub use backend::{
    Answer, Call, Capabilities, Event, EventSender, Events, LockBackend, MemoryBackend, Mode,
    Observed, StoreFacts, StoreStats, Waiter, Want,
};
pub use config::{
    AfterLoss, BackendConfig, ConfigError, LockConfig, RedisStoreConfig, SqlConfig, WaitOrder,
};
pub use deps::LockDeps;
pub use election::{Election, Leader, Leadership};
pub use error::{At, Error, Result, Unavailable};
pub use guard::{Guard, Permit, ReadGuard};
pub use guards::Guards;
pub use holder::{HeldKey, Holder, HolderState, Page};
pub use key::{InvalidKey, Key};
pub use options::LockOptions;
pub use outcome::{AcquireOutcome, ReleaseOutcome, TryAcquireOutcome};
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub use schema::migrations;
pub use service::LockService;
pub use shape::Shape;
#[cfg(feature = "macros")]
pub use trine_macros::locked;
pub use with_lock::WithLock;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/lock.md")]
struct Guide;
