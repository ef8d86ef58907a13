use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

/// The right to have a database open: one process, and one handle in it.
///
/// An advisory lock of the operating system on a file beside the database, so
/// that a process which dies gives it up. The file stays; it holds the number
/// of the process that had the lock last.
#[derive(Debug)]
pub(super) struct ProcessLock {
    _file: File,
}

/// Why the right was not to be had.
#[derive(Debug)]
pub(super) enum Refused {
    /// Somebody else has it.
    Held(Box<str>),
    /// The file cannot be used.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl ProcessLock {
    /// Takes the lock for the database at `path`, which has to be
    /// [resolved](resolve).
    pub(super) fn take(path: &Path) -> Result<Self, Refused> {
        let path = beside(path, ".lock");
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Refused::Held(holder(&mut file))),
            Err(TryLockError::Error(error)) => return Err(Refused::Io(error)),
        }
        file.set_len(0)?;
        file.write_all(process::id().to_string().as_bytes())?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> Box<str> {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut text));
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) if pid == process::id() => "this process".into(),
        (Ok(_), Ok(pid)) => format!("process {pid}").into(),
        // The holder has the lock and has not written its number yet.
        _ => "another process".into(),
    }
}

/// Returns the one absolute path of a database, whichever way was taken to it,
/// and makes its folder.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    if let Ok(resolved) = path.canonicalize() {
        return Ok(resolved);
    }
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    Ok(folder.canonicalize()?.join(name))
}

/// Returns the path of a file that belongs to the database at `path`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(ending);
    beside.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_learns_who_has_it_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = resolve(&folder.path().join("deep/er/a.db")).unwrap();
        let lock = ProcessLock::take(&path).unwrap();
        match ProcessLock::take(&path) {
            Err(Refused::Held(holder)) => assert_eq!(&*holder, "this process"),
            other => panic!("{other:?}"),
        }
        drop(lock);
        ProcessLock::take(&path).unwrap();
    }

    #[test]
    fn two_ways_to_a_file_are_one_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = resolve(&folder.path().join("a.db")).unwrap();
        fs::write(&path, "").unwrap();
        fs::create_dir(folder.path().join("x")).unwrap();
        assert_eq!(resolve(&folder.path().join("x/../a.db")).unwrap(), path);
    }
}
