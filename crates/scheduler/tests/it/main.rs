//! What the crate promises.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, reason = "what a measurement has found")]

mod clocks;
mod complete;
mod config;
mod daylight;
mod excluded;
mod fleet;
mod handles;
mod jitter;
mod mariadb;
mod mariadb_faults;
mod memory;
mod nominal;
mod overlap;
mod planning;
mod properties;
mod readme;
mod reference;
mod service;
mod sqlite;
mod support;
mod throughput;
mod zones;

use std::time::SystemTime;

use jiff::tz::{AmbiguousOffset, TimeZoneDatabase};
use trine_scheduler::{Schedule, Zones};

/// Returns the schedule of `text` in a zone of the database that never changes.
fn schedule(text: &str, zone: &str) -> Schedule {
    let schedule: Schedule = text.parse().unwrap();
    schedule.in_zone(Zones::bundled().zone(zone).unwrap()).unwrap()
}

fn time(text: &str) -> SystemTime {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

/// Returns the local times of `schedule` from `from` until just before `to`,
/// both in UTC; one that the clocks show for the second time is one `again`.
fn local_times(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
    let zone = TimeZoneDatabase::bundled().get(schedule.zone().name()).unwrap();
    let to = time(to);
    let times = schedule.upcoming(time(from)).take_while(|at| *at < to);
    times
        .map(|at| {
            let at = at.try_into().unwrap();
            let local = zone.to_datetime(at);
            let again = match zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Fold { after, .. } if after == zone.to_offset(at) => " again",
                _ => "",
            };
            format!("{}{again}", local.strftime("%d %H:%M"))
        })
        .collect()
}
