//! Jobs that run every so often, daily, weekly, monthly, by a cron expression or
//! once, in any time zone, with stated rules for daylight saving; by one of the
//! processes that share them, or by each.
//!
//! A process builds one [`SchedulerConfig`], connects one [`SchedulerService`]
//! from it, and registers [`Job`]s: a [`Schedule`], terms and a handler. Each
//! *nominal time* of a job is one tick, which one process runs under a lease and
//! another takes over when that one dies.
//!
//! A [`Schedule`] is a definition without state, of use alone as well: equal
//! schedules answer with equal nominal times in every process, and have one text,
//! to configure, to store and to compare them by.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use trine_core::Deadline;
//! use trine_scheduler::{Job, SchedulerConfig, SchedulerService};
//!
//! let scheduler = SchedulerService::connect(&SchedulerConfig::memory()).await?;
//! let report = Job::new("report", "cron 0 6 * * MON-FRI; zone Europe/Berlin; jitter 30s")
//!     .with_timeout(Duration::from_secs(600))
//!     .run(|ctx| async move {
//!         println!("the report of {:?}, attempt {}", ctx.nominal(), ctx.attempt());
//!         Ok::<(), std::io::Error>(())
//!     })?;
//! scheduler.register(report).await?;
//!
//! assert_eq!(scheduler.upcoming("report", 5).await?.len(), 5);
//! scheduler.trigger("report").await?;
//! scheduler.shutdown(Deadline::after(Duration::from_secs(10))).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! Each names what proves it: a test, or a check of the suite, which every store
//! passes (`conformance`).
//!
//! * A tick is made once and completed once, and one process has it at a time
//!   (`each_tick_runs_in_one_of_the_processes`); nobody begins it early or late
//!   by the clock of the store (`a_job_runs_at_its_times_and_its_history_says_so`),
//!   and no wall clock moves a lease or a retry
//!   (`a_wall_clock_that_is_set_moves_no_lease_and_no_retry`).
//! * The run of a dead process is taken over within its lease and a second, as
//!   attempt n + 1 with a higher token, its plan within the planner's lease and
//!   a second
//!   (`the_run_of_a_dead_process_is_taken_over_within_its_lease_and_a_second`,
//!   `the_plan_of_a_dead_process_goes_on_within_its_lease_and_a_second`). One
//!   that is silent for less loses nothing, one that is silent for longer is told
//!   before another begins, and its end counts no more
//!   (`a_process_that_is_silent_for_less_than_its_lease_loses_nothing`,
//!   `a_process_that_is_silent_for_its_lease_is_told_and_its_end_counts_no_more`).
//! * An effect in the transaction that completes its tick is done once, one under
//!   `once_in` as well
//!   (`a_run_that_is_completed_with_its_effect_has_succeeded_whatever_its_handler_does`,
//!   `a_completion_that_is_rolled_back_is_none`,
//!   `an_effect_in_another_database_is_done_once_whatever_attempts_there_are`).
//! * A handler that panics, never ends or blocks harms no other job
//!   (`a_panic_ends_its_attempt_and_nothing_else`,
//!   `an_endless_run_is_asked_to_end_then_dropped_and_tried_again`,
//!   `a_blocking_run_holds_up_no_other_and_keeps_its_place_after_its_time`), and a
//!   process runs no more at once than it may
//!   (`a_process_runs_no_more_at_once_than_it_may`).
//! * Failures are tried again as told, also of a job that runs once
//!   (`a_failure_is_tried_again_after_its_waits_also_of_a_job_that_runs_once`).
//! * Ticks beside a run are skipped, wait or run, as told
//!   (`a_tick_beside_a_run_is_skipped`, `one_tick_beside_a_run_waits_for_its_end`,
//!   `so_many_ticks_run_beside_each_other`).
//! * Jobs are registered all or none, a conflict fails a start at once, and an old
//!   process never overwrites a new definition
//!   (`what_would_never_run_is_refused_with_all_that_came_with_it`,
//!   `a_start_that_is_in_conflict_fails_at_once_and_registers_nothing`,
//!   `an_old_process_runs_what_was_made_by_its_revision_and_no_later_ticks`). A
//!   replaced or removed job lets a run end as it began
//!   (`a_higher_revision_replaces_a_job_and_a_run_ends_as_it_began`,
//!   `a_removed_job_runs_no_more_and_a_run_of_it_may_end`).
//! * A store that is away for less than a lease loses no run that is done
//!   (`a_store_that_is_away_for_20_s_loses_no_run_that_is_done`).
//! * A shutdown waits for its runs until its deadline and hands over what is left
//!   (`a_shutdown_waits_for_its_runs_and_begins_none`,
//!   `a_run_that_does_not_end_in_time_is_handed_over_at_once`), and returns
//!   although the store does not
//!   (`a_shutdown_returns_although_the_store_does_not`).
//! * Health goes by progress
//!   (`a_loop_that_hangs_is_degraded_then_down_although_the_store_answers`,
//!   `a_planner_that_hangs_is_down_within_two_periods_although_the_server_answers`,
//!   `ticks_that_nobody_makes_or_takes_are_seen_by_every_process`).
//! * A hundred thousand idle jobs cost the store no more calls than one
//!   (`a_hundred_thousand_idle_jobs_cost_the_store_no_more_calls_than_one`).
//! * A fixed time that the clocks skip is due once, when they are set
//!   (`a_fixed_time_that_the_clocks_skip_is_due_once_when_they_are_set`); one
//!   that they show twice is due at the first
//!   (`a_fixed_time_that_the_clocks_show_twice_is_due_at_the_first`).
//! * A repeating expression is due whenever the clocks show a time of it
//!   (`a_repeating_expression_is_due_whenever_the_clocks_show_a_time_of_it`).
//! * Both hold in every zone of the database, over ten past years and ten coming
//!   ones (`soak_daylight`;
//!   `two_years_of_sampled_zones_are_as_the_reference_has_them`).
//! * A cron expression is due when Vixie's rules say so, and never at a time
//!   that is excluded (`every_expression_is_due_when_the_reference_has_it`,
//!   `every_day_is_due_when_the_reference_has_it`).
//! * An answer is strictly later than the time asked about, and no other is
//!   between (`an_answer_is_strictly_later_and_none_is_between`).
//! * What is wrong with a definition is an error that names the field
//!   (`a_wrong_expression_names_its_field_and_what_is_wrong`,
//!   `a_wrong_text_names_its_field`,
//!   `constructors_name_the_field_that_is_wrong`).
//! * A schedule that is never due is one, too, and found out in bounded time
//!   (`a_time_that_never_comes_is_refused`,
//!   `what_is_excluded_for_ever_is_never_due`,
//!   `a_search_ends_whatever_is_excluded`).
//! * Equal schedules have equal texts, and a text gives back its schedule
//!   (`equal_schedules_have_equal_texts`, `a_schedule_reads_what_it_prints`).
//! * A run is later than its nominal time by less than the jitter, by the same
//!   in every process and version
//!   (`a_run_is_later_by_less_than_the_jitter_and_evenly_spread`,
//!   `jitter_is_that_of_the_job_and_its_nominal_time_for_ever`).
//! * After a change of the time zone files answers follow the new rule: at once
//!   after a reload, else within five minutes
//!   (`after_a_reload_the_next_run_follows_the_new_rule`, `soak_zone_files`). A
//!   fixed time that was due under the old rule is not due again under the new
//!   one, if the caller kept what the clocks showed
//!   (`a_new_rule_makes_no_fixed_time_due_twice`).
//! * A hundred thousand cron schedules take less than 22 MiB, their jobs' names
//!   among it (`a_hundred_thousand_cron_schedules_fit_into_a_third_of_64_mib`).
//!
//! * On a database an effect is committed with its tick or not at all, wherever
//!   the process is killed (`a_killed_process_has_each_effect_once`), and who was
//!   replaced commits nothing (`sqlite_commits_nothing_of_a_replaced_attempt`,
//!   `mariadb_commits_nothing_of_a_replaced_attempt`).
//! * A planner that was followed inserts nothing more
//!   (`a_planner_that_hangs_beyond_its_lease_inserts_nothing`), and no two plan
//!   at once, whoever is cut off or stopped
//!   (`a_planner_that_is_cut_off_is_followed_by_one_other`,
//!   `a_planner_that_is_stopped_beyond_its_lease_makes_nothing_afterwards`). One
//!   that is stopped in the middle of a step keeps no rows from the others on
//!   MariaDB (`a_planner_that_is_stopped_in_its_transaction_is_followed`).
//! * Processes that share a MariaDB complete each tick once, although whoever
//!   plans is killed (`each_tick_is_completed_once_while_planners_are_killed`,
//!   `soak_scheduler_planner_kill`), the server is
//!   (`a_server_that_is_killed_while_jobs_run_loses_and_doubles_nothing`), or
//!   their wall clocks are minutes off
//!   (`wall_clocks_that_are_minutes_off_make_nothing_early_or_late`); so does a
//!   run whose process is stopped or killed
//!   (`a_run_that_is_stopped_for_less_than_its_lease_is_not_run_again`,
//!   `a_run_that_is_stopped_for_its_lease_is_run_again_and_its_effect_is_refused`,
//!   `a_run_that_is_killed_is_run_again_unless_it_is_done`).
//!
//! # Not provided
//!
//! A stop of code that never waits, and word to a process that is itself
//! stopped: it may go on with a tick that is another's by then. What ends that
//! is the transaction that completes the tick, or the
//! [`Fence`](trine_core::Fence) that it shows to a resource. On MySQL, an end of
//! the transaction that such a process has open, before it goes on: its rows stay
//! locked. Order between jobs.
//! Cron's `@daily`, `L`, `W`, `#` and `?`. Leap seconds. Holidays that move: list
//! their dates.
//!
//! # Feature flags
//!
//! * `sqlite`, `mysql`: jobs and ticks in a database, `migrations` for its
//!   tables, `complete_in` and `once_in`.
//! * `conformance`: the suite, for backends of your own.
//! * `testing`: a scheduler in memory on a clock that tests move.

#![forbid(unsafe_code)]

mod backend;
mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod cron;
mod date;
mod definition;
mod deps;
mod engine;
mod error;
mod exclusions;
mod invalid;
mod job;
mod job_facts;
mod job_id;
mod local_time;
pub mod maintenance;
mod pattern;
pub mod planning;
mod policy;
mod progress;
mod schedule;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod schema;
mod service;
mod tick;
mod time_of_day;
mod weekday;
mod when;
mod zone;

pub use backend::{
    Call, Capabilities, ClaimAnswer, Finish, FinishOutcome, MemoryBackend, Observed, Overview,
    PlanAnswer, Registered, SchedulerBackend, StoreFacts, TriggerOutcome, fence_key,
};
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub use backend::{SqlBackend, once_in};
pub use config::{BackendConfig, ConfigError, DatabaseConfig, SchedulerConfig};
pub use context::{Cancelled, JobContext};
pub use cron::CronField;
pub use date::Date;
pub use definition::{Definition, Terms};
pub use deps::SchedulerDeps;
pub use error::{At, Error, Result, Unavailable};
pub use exclusions::Exclusions;
pub use invalid::{InvalidCron, InvalidSchedule, NeverDue};
pub use job::{InvalidJob, Job, JobBuilder, Scope};
pub use job_facts::{JobFacts, JobPage, JobState, TickPage};
pub use job_id::{InvalidJobId, JobId};
pub use local_time::LocalTime;
pub use policy::{Misfire, Overlap, Retries};
pub use progress::Progress;
pub use schedule::{Schedule, Upcoming};
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub use schema::migrations;
pub use service::{RegisterOutcome, SchedulerService};
pub use tick::{Attempt, AttemptEnd, ClaimedTick, Tick, TickKind, TickState};
pub use time_of_day::TimeOfDay;
pub use weekday::Weekday;
pub use zone::{Zone, Zones};

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guides/scheduler.md")]
struct Guide;
