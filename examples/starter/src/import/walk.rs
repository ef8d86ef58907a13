use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::documents::{DocumentName, MAX_BYTES, NewDocument, count_words};

/// What a walk comes across.
#[derive(Debug)]
pub(super) enum Found {
    /// A file to read.
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
    match name(folder, entry.path()) {
        Some(name) => Found::File { path: entry.path().to_owned(), name },
        None => skipped(Reason::Name),
    }
}

/// Returns the path below the folder with `/` between its parts, on every
/// system.
fn name(folder: &Path, path: &Path) -> Option<DocumentName> {
    let below = path.strip_prefix(folder).ok()?;
    let parts: Vec<_> = below.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    DocumentName::parse(&parts.join("/")).ok()
}

fn shown(folder: &Path, path: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    below.display().to_string().escape_debug().to_string()
}

/// Reads a file that a walk found.
///
/// # Errors
///
/// Fails with why the file is no document.
pub(super) fn read(path: &Path, name: DocumentName) -> Result<NewDocument, Skipped> {
    match read_text(path) {
        Ok(text) => Ok(NewDocument { name, words: count_words(&text), text }),
        Err(reason) => Err(Skipped { name: name.as_str().to_owned(), reason }),
    }
}

fn read_text(path: &Path) -> Result<String, Reason> {
    let unreadable = |error: io::Error| Reason::Unreadable(error.kind());
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    if length > most {
        return Err(Reason::TooLarge);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // It may have grown since.
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(Reason::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Reason::NotText)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn found_below(folder: &Path, data: Option<&Path>) -> (Vec<String>, Vec<(String, Reason)>) {
        let (mut files, mut skipped) = (Vec::new(), Vec::new());
        walk(folder, data, |found| {
            match found {
                Found::File { path, name } => match read(&path, name) {
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
        let skipped = read(Path::new("/nowhere/gone"), name).unwrap_err();
        assert_eq!(skipped.reason, Reason::Unreadable(io::ErrorKind::NotFound));
    }
}
