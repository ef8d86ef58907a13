//! Configurations that cannot be.

use trine_core::ErrorKind;
use trine_lock::{Key, LockConfig, LockDeps, LockService};

fn problems(text: &str) -> Vec<String> {
    let config: LockConfig = toml::from_str(text).unwrap();
    config.validate().unwrap_err().problems().to_vec()
}

#[test]
fn every_broken_rule_is_listed() {
    let text = "backend = { kind = 'memory' }\nttl = '50ms'\nmax_ttl = '2d'\nclaim_timeout = '0s'\n\
                start_timeout = '0s'";
    let found = problems(text);
    for field in ["max_ttl", "ttl", "claim_timeout", "start_timeout"] {
        let begins = format!("{field}: ");
        assert!(found.iter().any(|problem| problem.starts_with(&begins)), "{field}: {found:?}");
    }
    let found = problems("backend = { kind = 'memory' }\nmax_ttl = '30s'");
    assert_eq!(found, ["ttl: 1m is not between 100ms and max_ttl (30s)"]);
}

#[test]
fn a_typo_is_refused_at_every_level() {
    for text in [
        "backend = { kind = 'memory' }\nmax_tll = '1m'",
        "backend = { kind = 'memory', max_bytes = '1MiB' }",
        "backend = { kind = 'memroy' }",
        "backend = { kind = 'memory' }\norder = 'in-turn'",
    ] {
        assert!(toml::from_str::<LockConfig>(text).is_err(), "{text}");
    }
}

#[test]
fn a_name_that_fits_no_fence_is_refused() {
    let longest = "x".repeat(LockDeps::MAX_NAME);
    assert_eq!(longest.len() + Key::MAX + "/#4294967295".len(), trine_core::Fence::MAX_KEY);
    let open =
        |name: &str| LockService::open(&LockConfig::memory(), LockDeps::default().with_name(name));
    assert!(open(&longest).is_ok());
    for name in ["", "a#b", "a\n", &format!("{longest}x")] {
        assert_eq!(open(name).unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }
}
