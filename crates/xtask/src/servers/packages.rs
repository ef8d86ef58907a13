use crate::failure::{Failure, Result};
use crate::run::Run;

const INSTALL: [&str; 4] = ["apt-get", "install", "--yes", "--no-install-recommends"];

/// A package of the distribution that has a server and no system service.
#[derive(Debug)]
pub(super) struct Package {
    /// The engine, as its makers write it.
    pub(super) server: &'static str,
    pub(super) name: &'static str,
    /// What to do on a machine without apt.
    pub(super) otherwise: &'static str,
}

impl Package {
    /// Says that the package is there and `what` is not.
    pub(super) fn without(&self, what: &str) -> Failure {
        Failure::new(format!("{} is installed, and still there is no {what}", self.name))
    }
}

/// Installs the distribution's servers in one go, and says so first.
///
/// # Errors
///
/// Fails with the line to run if this process may not install, and with what
/// to install on a machine without apt.
pub(super) fn install(packages: &[&Package], refused: bool) -> Result<()> {
    let names: Vec<_> = packages.iter().map(|package| package.name).collect();
    let servers: Vec<_> = packages.iter().map(|package| package.server).collect();
    let servers = servers.join(" and no ");
    let line = format!("{} {}", INSTALL.join(" "), names.join(" "));
    if !Run::new("apt-get").args(["--version"]).succeeds() {
        let otherwise: Vec<_> = packages.iter().map(|package| package.otherwise).collect();
        return Err(Failure::new(format!(
            "no {servers} server: neither on this machine nor from a Docker engine; {}",
            otherwise.join("; ")
        )));
    }
    if refused {
        return Err(Failure::new(format!(
            "no {servers} server, and --no-install refuses to install it; run: sudo {line}"
        )));
    }
    let Some(prefix) = privilege() else {
        return Err(Failure::new(format!(
            "no {servers} server, and installing it needs root; run: sudo {line}"
        )));
    };
    let shows = Run::new("apt-cache").args(["show", "--no-all-versions"]).args(&names);
    if !shows.succeeds() {
        apt(prefix, &["apt-get", "update"]).status()?;
    }
    announce(&names);
    if apt(prefix, &INSTALL).args(&names).status().is_err() {
        // Package lists that are old name files that are gone.
        apt(prefix, &["apt-get", "update"]).status()?;
        apt(prefix, &INSTALL).args(&names).status()?;
    }
    Ok(())
}

/// Reports whether [`install`] could do anything.
pub(super) fn can_install(refused: bool) -> bool {
    !refused && Run::new("apt-get").args(["--version"]).succeeds() && privilege().is_some()
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

fn announce(names: &[&str]) {
    println!(
        "installing the distribution's {} for the tests; no system service is started",
        names.join(" and ")
    );
    let simulate = ["install", "--simulate", "--no-install-recommends"];
    let plan = Run::new("apt-get").args(simulate).args(names).text();
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
        assert_eq!(planned(plan), ["mariadb-common", "mariadb-server-core"]);
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
