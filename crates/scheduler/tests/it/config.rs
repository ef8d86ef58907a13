//! Configurations that cannot be.

use trine_core::ErrorKind;
use trine_scheduler::{JobId, SchedulerConfig, SchedulerDeps, SchedulerService};

#[test]
fn every_broken_rule_is_listed() {
    let text = "backend = { kind = 'memory' }\nlease = '100ms'\nplanner_lease = '2h'\n\
                poll = '11s'\nmax_running = 0\nhistory_runs = 0\nhistory_age = '0s'\n\
                max_lag = '0s'\nstart_timeout = '0s'";
    let config: SchedulerConfig = toml::from_str(text).unwrap();
    let found = config.validate().unwrap_err().problems().to_vec();
    for field in [
        "lease",
        "planner_lease",
        "poll",
        "max_running",
        "history_runs",
        "history_age",
        "max_lag",
        "start_timeout",
    ] {
        let begins = format!("{field}: ");
        assert!(found.iter().any(|problem| problem.starts_with(&begins)), "{field}: {found:?}");
    }
    let text = "backend = { kind = 'memory' }\npoll = '10s'\nmax_lag = '19s'";
    let config: SchedulerConfig = toml::from_str(text).unwrap();
    let found = config.validate().unwrap_err().problems().to_vec();
    assert_eq!(found, ["max_lag: 19s is less than twice the poll (20s)"]);
}

#[test]
fn a_typo_is_refused_at_every_level() {
    for text in [
        "backend = { kind = 'memory' }\nleese = '1m'",
        "backend = { kind = 'memory', max_bytes = '1MiB' }",
        "backend = { kind = 'database', connection = 'main' }",
        "backend = { kind = 'memroy' }",
    ] {
        assert!(toml::from_str::<SchedulerConfig>(text).is_err(), "{text}");
    }
}

#[test]
fn a_name_that_fits_no_inbox_is_refused() {
    let longest = "x".repeat(SchedulerDeps::MAX_INSTANCE);
    assert_eq!("job./".len() + longest.len() + JobId::MAX, trine_db_shard::Inbox::MAX_CONSUMER);
    let open = |name: &str| {
        let deps = SchedulerDeps::default().with_name(name);
        SchedulerService::open(&SchedulerConfig::memory(), deps)
    };
    assert!(open(&format!("scheduler.{longest}")).is_ok() && open(&longest).is_ok());
    for name in ["", "scheduler.", "a#b", "a/b", "a\n", &format!("scheduler.{longest}x")] {
        assert_eq!(open(name).unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }
}
