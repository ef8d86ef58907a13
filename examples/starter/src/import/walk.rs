use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::documents::{DocumentName, MAX_BYTES, NewDocument, count_words};

/// What a walk comes across.
#[derive(Debug)]
pub(super) enum Found {
    /// A file to read, by its path below the folder.
    File { path: PathBuf, name: DocumentName },
    /// Something that is no document.
    Skipped(Skipped),
}

/// Something below the folder that was not stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Its path below the folder, as far as it can be shown.
    pub(super) name: String,
    pub(super) reason: Reason,
}

/// Why something was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    NotText,
    TooLarge,
    Link,
    HiddenFolder,
    DataFolder,
    NotAFile,
    Name,
    Unreadable(io::ErrorKind),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => f.write_str("not UTF-8 text"),
            Self::TooLarge => f.write_str("larger than 8 MiB"),
            Self::Link => f.write_str("symbolic links are not followed"),
            Self::HiddenFolder => f.write_str("hidden folder"),
            Self::DataFolder => f.write_str("the data folder"),
            Self::NotAFile => f.write_str("neither file nor folder"),
            Self::Name => f.write_str("not a name of at most 1024 bytes of UTF-8"),
            Self::Unreadable(kind) => write!(f, "cannot be read: {kind}"),
        }
    }
}

/// Walks through everything below `folder` in the order of names, without
/// following links and without `data`, until `take` has had enough.
pub(super) fn walk(folder: &Path, data: Option<&Path>, mut take: impl FnMut(Found) -> bool) {
    let data = data.and_then(|data| fs::canonicalize(data).ok());
    let mut entries = WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let found = match &entry {
            Ok(entry) if entry.file_type().is_dir() => match reason_to_pass(entry, data.as_deref())
            {
                Some(reason) => {
                    entries.skip_current_dir();
                    Found::Skipped(Skipped { name: shown(folder, entry.path()), reason })
                }
                None => continue,
            },
            Ok(entry) => file(folder, entry),
            Err(error) => {
                let kind = error.io_error().map_or(io::ErrorKind::Other, io::Error::kind);
                let name = shown(folder, error.path().unwrap_or(folder));
                Found::Skipped(Skipped { name, reason: Reason::Unreadable(kind) })
            }
        };
        if !take(found) {
            return;
        }
    }
}

fn reason_to_pass(folder: &DirEntry, data: Option<&Path>) -> Option<Reason> {
    if folder.file_name().as_encoded_bytes().starts_with(b".") {
        return Some(Reason::HiddenFolder);
    }
    let is_data = data.is_some_and(|data| fs::canonicalize(folder.path()).is_ok_and(|p| p == data));
    is_data.then_some(Reason::DataFolder)
}

fn file(folder: &Path, entry: &DirEntry) -> Found {
    let skipped = |reason| Found::Skipped(Skipped { name: shown(folder, entry.path()), reason });
    if entry.path_is_symlink() {
        return skipped(Reason::Link);
    }
    if !entry.file_type().is_file() {
        return skipped(Reason::NotAFile);
    }
    let below = entry.path().strip_prefix(folder).ok();
    match below.and_then(|below| Some((below.to_owned(), name(below)?))) {
        Some((path, name)) => Found::File { path, name },
        None => skipped(Reason::Name),
    }
}

/// Returns the path below the folder with `/` between its parts, on every
/// system.
fn name(below: &Path) -> Option<DocumentName> {
    let parts: Vec<_> = below.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    DocumentName::parse(&parts.join("/")).ok()
}

fn shown(folder: &Path, path: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    below.display().to_string().escape_debug().to_string()
}

/// Reads the file at `path` below `folder`, which a walk found. What has taken
/// its place since, or that of a folder on the way, is not followed.
///
/// # Errors
///
/// Fails with why the file is no document.
pub(super) fn read(folder: &Path, path: &Path, name: DocumentName) -> Result<NewDocument, Skipped> {
    match read_text(folder, path) {
        Ok(text) => Ok(NewDocument { name, words: count_words(&text), text }),
        Err(reason) => Err(Skipped { name: name.as_str().to_owned(), reason }),
    }
}

fn read_text(folder: &Path, path: &Path) -> Result<String, Reason> {
    let unreadable = |error: io::Error| Reason::Unreadable(error.kind());
    let file = open(folder, path)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Reason::NotAFile);
    }
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    if metadata.len() > most {
        return Err(Reason::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    // It may have grown since.
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(Reason::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Reason::NotText)
}

/// Opens a file without following any link below `folder`, and without waiting
/// for the other end of a pipe.
#[cfg(unix)]
fn open(folder: &Path, path: &Path) -> Result<File, Reason> {
    use std::ffi::OsStr;
    use std::os::fd::{AsFd, BorrowedFd};

    use rustix::fs::{CWD, Mode, OFlags, openat};

    let unreadable = |error| match error {
        rustix::io::Errno::LOOP => Reason::Link,
        error => Reason::Unreadable(io::Error::from(error).kind()),
    };
    let open = |at: BorrowedFd<'_>, part: &OsStr, flags| {
        openat(at, part, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())
            .map_err(unreadable)
    };
    let mut at = open(CWD, folder.as_os_str(), OFlags::DIRECTORY)?;
    for part in path.parent().into_iter().flat_map(Path::iter) {
        at = open(at.as_fd(), part, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    }
    let file = path.file_name().unwrap_or_default();
    open(at.as_fd(), file, OFlags::NOFOLLOW | OFlags::NONBLOCK).map(File::from)
}

#[cfg(not(unix))]
fn open(folder: &Path, path: &Path) -> Result<File, Reason> {
    File::open(folder.join(path)).map_err(|error| Reason::Unreadable(error.kind()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn found_below(folder: &Path, data: Option<&Path>) -> (Vec<String>, Vec<(String, Reason)>) {
        let (mut files, mut skipped) = (Vec::new(), Vec::new());
        walk(folder, data, |found| {
            match found {
                Found::File { path, name } => match read(folder, &path, name) {
                    Ok(document) => files.push(document.name.as_str().to_owned()),
                    Err(Skipped { name, reason }) => skipped.push((name, reason)),
                },
                Found::Skipped(Skipped { name, reason }) => skipped.push((name, reason)),
            }
            true
        });
        (files, skipped)
    }

    #[test]
    fn everything_is_either_found_or_skipped_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for sub in ["a/b", ".git", "data", "a/.hidden"] {
            fs::create_dir_all(root.join(sub)).unwrap();
        }
        for file in ["a/b/deep.txt", "a/one.txt", ".env", ".git/config", "data/global.db", "z z.md"]
        {
            fs::write(root.join(file), "some text").unwrap();
        }
        fs::write(root.join("empty"), "").unwrap();
        fs::write(root.join("binary"), [0xff, 0xfe]).unwrap();
        fs::write(root.join("largest"), vec![b'x'; MAX_BYTES]).unwrap();
        fs::write(root.join("larger"), vec![b'x'; MAX_BYTES + 1]).unwrap();
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"bad\xff")), "text").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.join("hostname")).unwrap();
        let (files, skipped) = found_below(root, Some(&root.join("data")));
        assert_eq!(files, [".env", "a/b/deep.txt", "a/one.txt", "empty", "largest", "z z.md"]);
        let expected = [
            (".git", Reason::HiddenFolder),
            ("a/.hidden", Reason::HiddenFolder),
            ("bad\u{fffd}", Reason::Name),
            ("binary", Reason::NotText),
            ("data", Reason::DataFolder),
            ("etc", Reason::Link),
            ("hostname", Reason::Link),
            ("larger", Reason::TooLarge),
        ];
        assert_eq!(skipped, expected.map(|(name, reason)| (name.to_owned(), reason)));
    }

    #[test]
    fn a_hidden_folder_that_was_asked_for_is_walked() {
        let folder = tempfile::Builder::new().prefix(".hidden").tempdir().unwrap();
        fs::write(folder.path().join("a"), "text").unwrap();
        assert_eq!(found_below(folder.path(), None).0, ["a"]);
    }

    #[test]
    fn a_file_that_is_gone_is_skipped() {
        let name = DocumentName::parse("gone").unwrap();
        let skipped = read(Path::new("/nowhere"), Path::new("gone"), name).unwrap_err();
        assert_eq!(skipped.reason, Reason::Unreadable(io::ErrorKind::NotFound));
    }

    /// What is read may have been replaced since the walk came by.
    #[trine_testkit::test(timeout = "20s")]
    async fn what_took_the_place_of_a_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let reason = |path: &str| {
            let name = DocumentName::parse(path).unwrap();
            read(root, Path::new(path), name).unwrap_err().reason
        };
        std::os::unix::fs::symlink("/etc/hostname", root.join("link")).unwrap();
        assert_eq!(reason("link"), Reason::Link);
        std::os::unix::fs::symlink("/etc", root.join("linked")).unwrap();
        let linked = reason("linked/hostname");
        assert_eq!(linked, Reason::Unreadable(io::ErrorKind::NotADirectory));
        fs::create_dir(root.join("folder")).unwrap();
        assert_eq!(reason("folder"), Reason::NotAFile);
        let mode = rustix::fs::Mode::RWXU;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), fifo, mode, 0).unwrap();
        assert_eq!(reason("fifo"), Reason::NotAFile);
    }
}
