//! When a job is due: intervals, daily, weekly, monthly, cron and once, in any
//! time zone, with stated rules for daylight saving.
//!
//! A [`Schedule`] is a definition without state. Asked about a time, it answers
//! with the next *nominal time*; equal schedules give equal answers in every
//! process. It has one text, to configure, to store and to compare it by.
//!
//! # Example
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use trine_scheduler::{Exclusions, Schedule};
//!
//! let report = Schedule::cron("0 6 * * MON-FRI")?
//!     .in_zone("Europe/Berlin")?
//!     .with_jitter(Duration::from_secs(30))?
//!     .with_exclusions(Exclusions::none().with_dates("2026-12-24", "2027-01-01")?);
//!
//! let nominal = report.first_from(SystemTime::now())?;
//! let due = report.due("report", nominal);
//! assert!(due < nominal + Duration::from_secs(30));
//!
//! let week: Vec<SystemTime> = report.upcoming(nominal).take(5).collect();
//! assert_eq!(report.next_after(nominal), week.first().copied());
//!
//! let text = report.to_string();
//! assert_eq!(text.parse::<Schedule>()?, report);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! Each names the test that proves it.
//!
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
//!   (`a_planner_that_hangs_beyond_its_lease_inserts_nothing`).
//!
//! # Not provided
//!
//! Running anything: timers, storage and handlers. Cron's `@daily`, `L`, `W`,
//! `#` and `?`. Leap seconds. Holidays that move: list their dates.
//!
//! # Feature flags
//!
//! * `sqlite`: jobs and ticks in a SQLite file of this process.
//! * `mysql`: jobs and ticks in MySQL ≥ 8.0.1 or MariaDB ≥ 10.6.
//! * `conformance`: the suite, for stores of your own.

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
pub use config::{BackendConfig, ConfigError, SchedulerConfig};
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
