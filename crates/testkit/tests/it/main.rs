//! The kit tested against itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(any(feature = "mariadb", feature = "redis"))]
mod docker;
mod ledger;
#[cfg(feature = "mariadb")]
mod mariadb;
mod process;
mod proxy;
#[cfg(feature = "mariadb")]
mod proxy_mariadb;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_cluster;
#[cfg(feature = "redis")]
mod redis_sentinel;
mod test_macro;

use std::path::Path;
use std::time::Duration;

use trine_testkit::{Child, ChildBuilder, Result};

/// Returns how to run the ignored test called `name` of this very binary as a
/// process of its own.
fn victim(name: &str) -> ChildBuilder {
    again(name).arg("--ignored")
}

/// Returns how to run the test called `name` as a process of its own.
fn again(name: &str) -> ChildBuilder {
    let this = std::env::current_exe().unwrap();
    Child::builder(this).args([name, "--exact", "--nocapture"])
}

/// Waits until the process `pid` is gone or only its entry is left.
async fn gone(pid: u32) -> bool {
    for _ in 0..1_000 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// Waits until nothing is at `path`.
async fn absent(path: &Path) -> bool {
    for _ in 0..1_000 {
        if !path.exists() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// Returns the part of a log line that follows `mark`, as a victim prints it.
async fn printed(child: &Child, mark: &str) -> Result<String> {
    let line = child.wait_for_log(mark, Duration::from_secs(30)).await?;
    Ok(line.split_once(mark).unwrap().1.trim().to_owned())
}
