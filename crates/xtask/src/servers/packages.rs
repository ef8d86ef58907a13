use crate::failure::{Failure, Result};
use crate::run::Run;

/// The package that has mariadbd and no system service.
pub(super) const NAME: &str = "mariadb-server-core";

const INSTALL: [&str; 4] = ["apt-get", "install", "--yes", "--no-install-recommends"];

/// Installs the distribution's server, and says so first.
///
/// # Errors
///
/// Fails with the line to run if this process may not install, and with what
/// to install on a machine without apt.
pub(super) fn install(refused: bool) -> Result<()> {
    let line = format!("{} {NAME}", INSTALL.join(" "));
    if !Run::new("apt-get").args(["--version"]).succeeds() {
        return Err(Failure::new(format!(
            "no MariaDB server: neither mariadbd on this machine nor a Docker engine; install MariaDB 10.6 or newer, \
             or set {}=mysql://root@host:port",
            super::MARIADB_URL
        )));
    }
    if refused {
        return Err(Failure::new(format!(
            "no MariaDB server, and --no-install refuses to install it; run: sudo {line}"
        )));
    }
    let Some(prefix) = privilege() else {
        return Err(Failure::new(format!(
            "no MariaDB server, and installing it needs root; run: sudo {line}"
        )));
    };
    if !Run::new("apt-cache").args(["show", "--no-all-versions", NAME]).succeeds() {
        apt(prefix, &["apt-get", "update"]).status()?;
    }
    announce();
    if apt(prefix, &INSTALL).args([NAME]).status().is_err() {
        // Package lists that are old name files that are gone.
        apt(prefix, &["apt-get", "update"]).status()?;
        apt(prefix, &INSTALL).args([NAME]).status()?;
    }
    Ok(())
}

/// Returns what makes a command root's: nothing, sudo, or no way at all.
fn privilege() -> Option<&'static [&'static str]> {
    if Run::new("id").args(["-u"]).text().is_ok_and(|id| id.trim() == "0") {
        return Some(&[]);
    }
    let sudo: &[&str] = &["sudo", "-n"];
    Run::new("sudo").args(["-n", "true"]).succeeds().then_some(sudo)
}

fn apt(prefix: &[&str], line: &[&str]) -> Run {
    let question = ["env", "DEBIAN_FRONTEND=noninteractive"];
    let mut words = prefix.iter().chain(&question).chain(line);
    let program = words.next().copied().unwrap_or("env");
    Run::new(program).args(words)
}

fn announce() {
    println!(
        "installing the distribution's package {NAME} for the tests; it starts no system service"
    );
    let plan =
        Run::new("apt-get").args(["install", "--simulate", "--no-install-recommends", NAME]).text();
    let plan = plan.unwrap_or_default();
    let packages = planned(&plan);
    if !packages.is_empty() {
        println!("packages: {}", packages.join(" "));
    }
}

/// Returns the names in the `Inst` lines of a simulated installation.
fn planned(plan: &str) -> Vec<&str> {
    plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_names_every_package() {
        let plan = "Reading lists...\nInst mariadb-common (1:10.11 Debian [all])\nInst mariadb-server-core (1:10.11)\nConf mariadb-common\n";
        assert_eq!(planned(plan), ["mariadb-common", NAME]);
    }

    #[test]
    fn a_command_of_root_runs_as_it_is_and_others_go_through_sudo() {
        assert_eq!(
            apt(&[], &["apt-get", "update"]).line(),
            "env DEBIAN_FRONTEND=noninteractive apt-get update"
        );
        assert_eq!(
            apt(&["sudo", "-n"], &["apt-get", "update"]).line(),
            "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get update"
        );
    }
}
