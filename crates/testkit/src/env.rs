//! The only place that reads the environment: what a command around the tests
//! (`cargo xtask test`, `cargo xtask soak`) or a person tells them.
#![expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration file; what runs them speaks through variables"
)]

use std::env;
use std::path::PathBuf;

/// Names a MariaDB server to use instead of starting one.
#[cfg(feature = "mariadb")]
pub(crate) const MARIADB_URL: &str = "TRINE_TEST_MARIADB_URL";
/// Names a Redis server to use instead of starting one.
#[cfg(feature = "redis")]
pub(crate) const REDIS_URL: &str = "TRINE_TEST_REDIS_URL";
/// Names nodes of a Redis cluster to use instead of starting one.
#[cfg(feature = "redis")]
pub(crate) const REDIS_CLUSTER: &str = "TRINE_TEST_REDIS_CLUSTER";
/// Names Redis sentinels to use instead of starting some.
#[cfg(feature = "redis")]
pub(crate) const REDIS_SENTINELS: &str = "TRINE_TEST_REDIS_SENTINELS";
/// Repeats the random choices of an earlier run.
pub(crate) const TEST_SEED: &str = "TRINE_TEST_SEED";
/// Turns the long form on and says how long it runs.
pub(crate) const SOAK_MINUTES: &str = "TRINE_SOAK_MINUTES";
/// Asks the long form for so many rounds at least.
pub(crate) const SOAK_COUNT: &str = "TRINE_SOAK_COUNT";
/// Writes tables into the READMEs instead of comparing them.
pub(crate) const UPDATE_README: &str = "TRINE_UPDATE_README";
/// Repeats the random choices of an earlier soak.
pub(crate) const SOAK_SEED: &str = "TRINE_SOAK_SEED";

/// Returns the value of `name`, `None` if it is unset or empty.
pub(crate) fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the parts of `host:port,host:port`.
#[cfg(feature = "redis")]
pub(crate) fn addresses(list: &str) -> Vec<String> {
    list.split(',').map(|address| address.trim().to_owned()).collect()
}

/// Returns the folders of `PATH`, then those where servers live that are not
/// in a user's path.
pub(crate) fn program_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    folders.extend(
        ["/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/libexec", "/opt/homebrew/bin"]
            .map(PathBuf::from),
    );
    folders
}

/// Returns the folder for temporary files.
pub(crate) fn temp_folder() -> PathBuf {
    env::temp_dir()
}
