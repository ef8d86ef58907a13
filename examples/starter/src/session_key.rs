use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use trine_core::Secret;

use crate::failure::Failure;
use crate::random::fill_random;

/// The key that the sessions of the embedded profile are named with. It is made
/// at the first start and stays in the data folder.
#[derive(Debug)]
pub(crate) struct SessionKey {
    file: PathBuf,
    /// The key, if the file is not there yet.
    fresh: Option<Secret>,
}

impl SessionKey {
    const FILE: &str = "sessions.key";

    /// Looks for the key in `folder`, which may not be there, and makes another
    /// one if there is none. Writes nothing.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be looked into, or if the system has no random
    /// bits to give.
    pub(crate) fn find(folder: &Path) -> Result<Self, Failure> {
        let file = folder.join(Self::FILE);
        let failed = |cause| Failure::DataFolder { path: file.clone(), cause };
        if file.try_exists().map_err(failed)? {
            return Ok(Self { file, fresh: None });
        }
        let mut bytes = [0; 32];
        fill_random(&mut bytes)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file, fresh: Some(Secret::new(text)) })
    }

    /// Returns where the key is kept.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the key if it is not kept yet.
    pub(crate) fn fresh(&self) -> Option<&Secret> {
        self.fresh.as_ref()
    }

    /// Keeps a key that was just made in its file, which only its owner may
    /// read.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub(crate) fn keep(&self) -> Result<(), Failure> {
        let Some(key) = &self.fresh else { return Ok(()) };
        let failed = |cause| Failure::DataFolder { path: self.file.clone(), cause };
        write(&self.file, key).map_err(failed)
    }
}

/// Writes beside and renames: a crash leaves the whole file or none.
fn write(file: &Path, key: &Secret) -> io::Result<()> {
    let beside = file.with_extension("key.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    options.mode(0o600);
    let mut open: File = options.open(&beside)?;
    open.write_all(key.expose().as_bytes())?;
    open.sync_all()?;
    fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let first = SessionKey::find(folder.path()).unwrap();
        assert!(!first.file().exists(), "nothing is written before it is asked for");
        let key = first.fresh().unwrap().expose().to_owned();
        assert_eq!(key.len(), 64);
        assert!(!format!("{first:?}").contains(&key));
        first.keep().unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(first.file()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let second = SessionKey::find(folder.path()).unwrap();
        assert!(second.fresh().is_none());
        second.keep().unwrap();
        assert_eq!(fs::read_to_string(second.file()).unwrap(), key);
    }
}
