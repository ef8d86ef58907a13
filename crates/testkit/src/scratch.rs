//! Folders that go with the process, however it ends.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use rustix::process::geteuid;

use crate::env;
use crate::error::{Error, Result};
use crate::rng::entropy;

/// A folder of this process's own, removed when dropped.
///
/// Other accounts can pass through it, so that a server without our rights
/// reaches what it owns inside.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held while the folder is in use; the kernel lets go of it when this
    /// process ends, and the next one sweeps.
    _lock: File,
}

impl Scratch {
    /// Creates an empty folder whose name starts with `kind`.
    pub(crate) fn new(kind: &str) -> Result<Self> {
        static SWEPT: Once = Once::new();
        let base = base()?;
        SWEPT.call_once(|| sweep(&base));
        for _ in 0..16 {
            let path = base.join(format!("{kind}-{:016x}", entropy()));
            let lock_path = path.with_extension("lock");
            let lock = File::create_new(&lock_path)
                .map_err(Error::io(format!("create {}", lock_path.display())))?;
            // A sweep may have taken or removed the file before we locked it.
            let is_ours = lock.try_lock().is_ok()
                && lock.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
            if !is_ours {
                continue;
            }
            create_folder(&path)?;
            remove_at_exit(&path, &lock_path);
            return Ok(Self { path, lock_path, _lock: lock });
        }
        Err(Error::Invalid(format!("no folder to be had in {}", base.display())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind goes when the process ends, or with the next sweep.
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Returns the folder of this account below a folder for temporary files.
fn base() -> Result<PathBuf> {
    let is_root = geteuid().is_root();
    let parent = [env::temp_folder(), "/tmp".into(), "/var/tmp".into()]
        .into_iter()
        .find(|folder| folder.is_dir() && (!is_root || others_may_pass(folder)))
        .ok_or_else(|| {
            Error::Invalid("no folder for temporary files that a server can reach".into())
        })?;
    let path = parent.join(format!("trine-testkit-{}", geteuid().as_raw()));
    if !path.is_dir() {
        // Another process may have been faster; what counts is checked below.
        let _ = create_folder(&path);
    }
    let metadata =
        fs::symlink_metadata(&path).map_err(Error::io(format!("open {}", path.display())))?;
    let is_ours = metadata.is_dir() && metadata.uid() == geteuid().as_raw();
    if !is_ours || metadata.mode() & 0o022 != 0 {
        let path = path.display();
        return Err(Error::Invalid(format!("{path} belongs to somebody else: remove it")));
    }
    Ok(path)
}

fn create_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o755)
        .create(path)
        .map_err(Error::io(format!("create {}", path.display())))
}

fn others_may_pass(folder: &Path) -> bool {
    folder
        .ancestors()
        .all(|folder| fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o001 != 0))
}

/// Removes the folders of processes that are gone.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for lock_path in entries.flatten().map(|entry| entry.path()) {
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = File::open(&lock_path) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(lock_path.with_extension(""));
            let _ = fs::remove_file(&lock_path);
        }
    }
}

/// Reads what to remove until its input ends, which is when this process ends.
const UNDERTAKER: &str = r#"
while IFS= read -r line; do set -- "$@" "$line"; done
for line do
  case $line in
    'path '*) rm -rf -- "${line#path }" ;;
    'container '*) docker rm --force --volumes "${line#container }" ;;
  esac
done
"#;

/// Has `line` carried out once this process has ended. Values in static
/// variables, such as a shared server, are never dropped.
pub(crate) fn at_exit(line: &str) {
    static UNDERTAKER_INPUT: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();
    let input = UNDERTAKER_INPUT.get_or_init(|| {
        let process = Command::new("/bin/sh")
            .args(["-c", UNDERTAKER])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Signals from the terminal end us, not it.
            .process_group(0)
            .spawn();
        process.ok()?.stdin.map(Mutex::new)
    });
    if let Some(input) = input {
        let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
        // If it is gone, the next run sweeps.
        let _ = writeln!(input, "{line}");
    }
}

fn remove_at_exit(path: &Path, lock_path: &Path) {
    for path in [path, lock_path] {
        if let Some(path) = path.to_str().filter(|path| !path.contains('\n')) {
            at_exit(&format!("path {path}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_value() {
        let scratch = Scratch::new("unit").unwrap();
        let (path, lock_path) = (scratch.path.clone(), scratch.lock_path.clone());
        fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists() && !lock_path.exists());
    }

    #[test]
    fn a_sweep_removes_what_nobody_holds_and_nothing_else() {
        let held = Scratch::new("unit").unwrap();
        let left = base().unwrap().join(format!("unit-{:016x}", entropy()));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("file"), "x").unwrap();
        fs::write(left.with_extension("lock"), "").unwrap();
        sweep(&base().unwrap());
        assert!(!left.exists() && !left.with_extension("lock").exists());
        assert!(held.path().exists());
    }
}
