use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, chown, fchown};
use std::path::{Path, PathBuf};

use super::keeper::Folder;
use super::machine::find;
use crate::failure::{Context, Failure, Result};
use crate::run::Run;

/// Whom a server runs as: servers refuse root, or should.
#[derive(Debug)]
pub(super) enum Account {
    Myself,
    Other { user: u32, group: u32 },
}

impl Account {
    /// Returns us, or somebody without rights if we are root; `mysql`, if there
    /// is such an account.
    pub(super) fn choose() -> Result<Self> {
        if number(&["-u"])? != 0 {
            return Ok(Self::Myself);
        }
        let name = if Run::new("id").args(["mysql"]).succeeds() { "mysql" } else { "nobody" };
        Ok(Self::Other { user: number(&["-u", name])?, group: number(&["-g", name])? })
    }

    /// Returns `program` under this account, killed by the kernel when the
    /// process that starts it dies.
    pub(super) fn run(&self, program: &Path) -> Run {
        // Two steps, since a change of user forgets the signal.
        let bound = ["setpriv", "--pdeathsig", "KILL"];
        match self {
            Self::Other { user, group } => Run::new("setpriv")
                .args([
                    "--reuid",
                    &user.to_string(),
                    "--regid",
                    &group.to_string(),
                    "--clear-groups",
                ])
                .args(bound)
                .args([program]),
            Self::Myself if find("setpriv", &[]).is_some() => {
                let [setpriv, option, signal] = bound;
                Run::new(setpriv).args([option, signal]).args([program])
            }
            Self::Myself => Run::new(program),
        }
    }

    /// Writes a file that only the account may read.
    pub(super) fn give(&self, path: &Path, text: &str) -> Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .context(path.display())?;
        file.write_all(text.as_bytes()).context(path.display())?;
        match self {
            Self::Myself => Ok(()),
            Self::Other { user, group } => {
                fchown(&file, Some(*user), Some(*group)).context(path.display())
            }
        }
    }

    /// Makes a folder that the account owns, in a place it can reach.
    pub(super) fn folder(&self) -> Result<Folder> {
        let Self::Other { user, group } = self else {
            return Folder::create(&std::env::temp_dir());
        };
        let mut last = None;
        for parent in [std::env::temp_dir(), PathBuf::from("/var/tmp")] {
            let folder = Folder::create(&parent)?;
            chown(folder.path(), Some(*user), Some(*group))
                .context("give the server its folder")?;
            if self.run(Path::new("test")).args(["-x"]).args([folder.path()]).succeeds() {
                return Ok(folder);
            }
            last = Some(parent);
            folder.discard();
        }
        let place = last.unwrap_or_default();
        Err(Failure::new(format!(
            "an unprivileged server cannot reach {}; set TMPDIR to a folder it can",
            place.display()
        )))
    }
}

fn number(args: &[&str]) -> Result<u32> {
    Run::new("id").args(args).text()?.trim().parse().context("id")
}
