//! What a container is told, by a stand-in for `docker` that notes it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use trine_testkit::Result;

use crate::again;

const SOON: Duration = Duration::from_secs(30);
/// Notes what it is told, keeps what is copied, and starts nothing.
const STAND_IN: &str = r#"#!/bin/sh
echo "$@" >>"${0%/*}/told"
case $1 in
  cp) while IFS= read -r line || [ -n "$line" ]; do echo "$line"; done <"$2" >"${0%/*}/copied" ;;
  run | start) echo "nothing is started" >&2; exit 1 ;;
esac
"#;

/// Has the test called `name` look for a server in a container; returns what
/// `docker` was told, and what was copied into it.
async fn told(name: &str) -> Result<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("docker");
    std::fs::write(&program, STAND_IN).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let child = again(name).env("PATH", folder.path().display().to_string()).spawn()?;
    assert!(!child.wait(SOON).await?.success());
    assert!(child.log().contains("nothing is started"), "{}", child.log());
    let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    Ok((read("told"), read("copied")))
}

#[cfg(feature = "redis")]
#[trine_testkit::test]
async fn redis_is_told_its_passwords_in_a_file() -> Result<()> {
    let (told, copied) = told("redis::a_dropped_server_is_gone_with_its_folder").await?;
    assert!(told.contains("redis:7.0") && !told.contains("trine_admin"), "{told}");
    assert!(copied.contains("user trine_admin on >"), "{copied}");
    Ok(())
}

#[cfg(feature = "mariadb")]
#[trine_testkit::test]
async fn mariadb_is_told_its_password_in_a_file() -> Result<()> {
    let (told, copied) = told("mariadb::the_administrator_s_url_serves_other_processes").await?;
    let copied = copied.trim();
    assert!(told.contains("mariadb:10.11") && !copied.is_empty(), "{told}");
    assert!(!told.contains("MARIADB_ROOT_PASSWORD=") && !told.contains(copied), "{told}");
    Ok(())
}
