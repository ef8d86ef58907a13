use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::process::find_program;
use crate::user::User;

/// What stands between a process and the wall clock: a library that is loaded
/// before the system's, compiled for it.
#[derive(Debug)]
pub(crate) struct ClockShim {
    library: PathBuf,
    ahead: PathBuf,
}

const SOURCE: &str = include_str!("clock.c");

impl ClockShim {
    /// Compiles the library into `folder`, for a process that runs as `user`
    /// and whose wall clock is so many microseconds ahead.
    pub(crate) fn make(folder: &Path, user: Option<User>, ahead: i64) -> Result<Self> {
        let compiler = find_program(&["cc"]).or_else(|| find_program(&["gcc"]));
        let compiler = compiler.ok_or_else(|| {
            Error::NoServer(
                "no clock of its own for this test: it is set by a library that is compiled, and \
                 there is no `cc` on this machine. This helps:\n  \
                 apt-get install --no-install-recommends gcc libc6-dev"
                    .to_owned(),
            )
        })?;
        let source = folder.join("clock.c");
        let shim = Self { library: folder.join("clock.so"), ahead: folder.join("clock.ahead") };
        fs::write(&source, SOURCE).map_err(Error::io(format!("write {}", source.display())))?;
        let output = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&shim.library, &source])
            .output()
            .map_err(Error::io(format!("run {}", compiler.display())))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Invalid(format!("clock of a process: it does not compile: {said}")));
        }
        shim.set(ahead)?;
        for path in [&shim.library, &shim.ahead] {
            user.map_or(Ok(()), |user| user.own(path))?;
        }
        Ok(shim)
    }

    /// Sets by how many microseconds the wall clock is ahead of the machine's.
    pub(crate) fn set(&self, ahead: i64) -> Result<()> {
        let write = || {
            let mut options = fs::File::options();
            // The process has this very file mapped.
            let mut file = options.write(true).create(true).truncate(false).open(&self.ahead)?;
            file.write_all(&ahead.to_ne_bytes())
        };
        write().map_err(Error::io(format!("write {}", self.ahead.display())))
    }

    /// Returns the variables of the process' environment.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("TRINE_TEST_CLOCK", self.ahead.display().to_string()),
        ]
    }
}
