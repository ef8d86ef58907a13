//! One Redis connection for all services of a process: a single server, a
//! master that sentinels watch, or a cluster.
//!
//! A process builds one [`RedisConfig`] for each Redis, connects one
//! [`RedisService`] from it, and hands out clones of its [`RedisPool`]. Commands
//! of all callers share one or two connections per node; what blocks gets a
//! [`Dedicated`] connection, what is published comes through a
//! [`Subscription`].
//!
//! # Example
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use trine_core::Secret;
//! use trine_redis::{Command, RedisConfig, RedisService, Script};
//!
//! let url = Secret::new("redis://127.0.0.1:6379");
//! let service = RedisService::connect(&RedisConfig::single("shop:prod", url)).await?;
//! let redis = service.pool();
//!
//! let key = redis.namespace("cache.default")?.key("user:1")?;
//! redis.run(&Command::write("SET").key(&key).arg("alice").arg("PX").arg(60_000)).await?;
//! let name = redis.run(&Command::read("GET").key(&key)).await?;
//! assert_eq!(name.as_text(), Some("alice"));
//!
//! let rename = Script::new("return redis.call('SET', KEYS[1], ARGV[1], 'XX', 'GET')");
//! let before = redis.script(&rename, [&key], ["bob"]).await?;
//! assert_eq!(before.as_text(), Some("alice"));
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! Each names the test that proves it.
//!
//! * A command is sent once. Only one that a server has refused is sent again,
//!   to where its keys are; a write whose reply was lost is `OutcomeUnknown`
//!   (`a_lost_reply_leaves_a_write_unknown_and_counted_once`; in a cluster
//!   `a_lost_reply_is_not_sent_again`, `calls_work_again_after_a_master_died`).
//! * A dropped call hands no reply to another and costs no connection
//!   (`a_dropped_call_leaves_no_reply_to_another`,
//!   `a_dropped_call_on_a_broken_connection_stops_no_other`); a blocking read
//!   that is dropped takes nothing from the server any more
//!   (`a_dropped_blocking_read_takes_nothing_with_it`), and a write that a
//!   shutdown cuts is `OutcomeUnknown` (`a_write_that_a_shutdown_cuts_is_unknown`).
//! * Once started, connections come back by themselves for ever
//!   (`it_comes_back_after_the_server_was_killed`,
//!   `a_connection_that_the_server_ends_is_made_again`,
//!   `a_half_open_connection_is_noticed_and_replaced`), however soon callers
//!   give up (`a_half_open_connection_is_noticed_by_callers_with_near_deadlines`,
//!   `a_half_open_connection_is_noticed_by_callers_that_drop_their_calls`).
//! * A server that is away costs a call at most its time-outs, and nothing
//!   while the next attempt is only due
//!   (`a_black_hole_costs_a_call_its_time_out_and_then_nothing`,
//!   `a_refused_connection_is_unavailable_at_once`,
//!   `many_that_are_dead_cost_one_time_out`,
//!   `none_is_made_while_the_server_is_known_to_be_away`,
//!   `the_deadline_of_a_call_is_kept_where_it_is_nearer`).
//! * A late reply alone ends no connection (`a_slow_reply_costs_no_connection`,
//!   `a_large_reply_that_holds_up_the_others_costs_no_connection`).
//! * A node that is away or slow harms no other (`a_slow_node_harms_no_other`,
//!   `a_stopped_master_is_left_and_harms_no_other`).
//! * Calls work again within 10 s of the death or the halt of a master, once
//!   the servers have failed over (cluster and sentinels:
//!   `calls_work_again_after_a_master_died`,
//!   `a_stopped_master_is_left_and_harms_no_other`,
//!   `a_stopped_master_is_left_for_its_successor`).
//! * A slot that moves is followed, half moved or moved
//!   (`a_slot_that_moves_is_followed`).
//! * A node that was cut off from its cluster leads no call to where the keys no
//!   longer are (`a_master_that_was_cut_off_has_no_say`), and a sentinel that was
//!   cut off none to a former master (`a_sentinel_that_was_cut_off_has_no_say`).
//! * A scan finds every key that is there all the time, whoever is restarted or
//!   takes over meanwhile (`a_scan_misses_no_key_when_the_server_was_restarted`,
//!   `a_scan_misses_no_key_while_servers_take_over`,
//!   `a_scan_misses_no_key_of_a_slot_that_has_moved`); not one that is on its way
//!   to another node just then.
//! * What a server refuses in a batch stays with its command
//!   (`a_refusal_in_a_batch_stays_with_its_command`), and scripts keep their
//!   place in it (`a_pipeline_keeps_its_order_when_the_server_forgot_its_script`,
//!   `a_batch_keeps_its_order_where_the_first_use_of_a_script_was_refused`).
//! * A script that the server forgot is sent as a whole, on the same connection
//!   (`a_script_that_the_server_forgot_is_sent_as_a_whole`).
//! * What a subscription missed is a gap
//!   (`a_lost_connection_is_a_gap_and_is_made_again`,
//!   `a_reader_that_is_too_slow_has_a_gap`,
//!   `a_lost_connection_behind_a_full_buffer_is_no_end_of_the_gap`), and it leaves
//!   a demoted master (`a_subscription_leaves_a_demoted_master`).
//! * No namespace is inside another (`no_namespace_is_inside_another`).
//! * A fence mark is in the slot of the key it guards, and no scan of a
//!   namespace finds it
//!   (`a_mark_is_in_the_slot_of_its_key_and_outside_its_namespace`).
//! * New credentials that a server refuses change nothing, and those that all
//!   take fail no call (`a_password_changes_under_load`,
//!   `a_password_changes_on_all_masters_or_on_none`).
//! * Over TLS too nodes are found and followed, whose certificates have the host
//!   that they announce (`a_cluster_is_followed_over_tls`,
//!   `a_master_is_followed_over_tls`); renewed files are read again
//!   (`certificates_that_are_renewed_are_read_again`).
//! * Durability is never reported higher than what the server says
//!   (`facts_and_durability_are_the_servers_own`).
//! * No password shows in debug texts or errors
//!   (`debug_and_errors_hide_every_secret`,
//!   `a_wrong_password_is_denied_and_never_shown`).
//!
//! # Errors
//!
//! | what happened | kind |
//! |---|---|
//! | no connection, none in time, or none was started; the connection broke before the reply to a read | `Unavailable` |
//! | the reply to a read was late, or the deadline had passed before anything was sent | `Timeout` |
//! | the reply to a write was lost or late | `OutcomeUnknown` |
//! | `NOPERM`, `NOAUTH`, `WRONGPASS`, `DENIED` | `Denied` |
//! | `OOM`; no free dedicated connection | `Exhausted` |
//! | `READONLY`, `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`, `MISCONF`, `BUSY`, `NOREPLICAS`, `UNBLOCKED`, too many clients | `Unavailable` |
//! | `TRYAGAIN`, `MOVED`, `ASK`, `READONLY` after the last attempt | `Unavailable` |
//! | `BUSYGROUP` | `Conflict` |
//! | a command or subcommand that the server does not know; a server before 7.0 | `Unsupported` |
//! | a script that fails in itself or does not compile | `Internal` |
//! | everything else: `WRONGTYPE`, `CROSSSLOT`, wrong arguments, an `error_reply` of a script | `Invalid` |
//!
//! A refused command had no effect; a script that fails may have written before
//! it did. [`Error::server`] has the server's own words.
//!
//! # Not provided
//!
//! `SELECT`, and a flush of any kind, of data, scripts or functions. Reads from replicas, transactions by
//! `MULTI` (write a script), client-side caching, sharded publish and subscribe.
//! Order between commands of different calls. What a fail-over of the server
//! loses, is lost.
//!
//! # Feature flags
//!
//! * `redis-1`: access to connections and values of the redis crate, version 1.
//!   Off by default.
//!
//! TLS is always there, by rustls with aws-lc-rs; no default provider of the
//! process is needed or installed.

#![forbid(unsafe_code)]

mod attempts;
mod command;
mod config;
mod dedicated;
mod dial;
mod error;
mod facts;
#[cfg(feature = "redis-1")]
mod interop;
mod link;
mod namespace;
mod node;
mod pool;
mod script;
mod service;
mod slot;
mod subscription;
mod topology;
mod value;

pub use command::{Access, Command, CommandArg, CommandArgs};
pub use config::{
    ConfigError, DedicatedConfig, ReconnectConfig, RedisConfig, ServerConfig, TlsConfig,
};
pub use dedicated::{Dedicated, Route};
pub use error::{At, Error, Result, ServerError, Unavailable};
pub use facts::{DurabilitySource, Role, ServerFacts};
pub use namespace::{InvalidKey, Namespace};
pub use pool::{PoolFacts, RedisPool, ScanCursor, ScanPage};
pub use script::Script;
pub use service::{RedisDeps, RedisService};
pub use subscription::{Subscription, SubscriptionEvent};
pub use value::Value;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/redis.md")]
struct Guide;
