use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// What a writer tried and what it was promised, against what is found
/// afterwards.
///
/// A test records [`attempt`](Self::attempt) before it sends a write and
/// [`acknowledge`](Self::acknowledge) or [`refuse`](Self::refuse) after the
/// answer; an attempt without an answer may have happened or not. After the
/// crash [`check`](Self::check) compares.
///
/// A ledger in a file is written line by line, each with one call to the
/// system, so what was recorded survives a kill -9 of the writer (not a loss of
/// power), and a line cut short by the kill is ignored. Several processes may
/// append to one file.
///
/// # Example
///
/// ```
/// use trine_testkit::Ledger;
///
/// # fn main() -> trine_testkit::Result<()> {
/// let ledger = Ledger::in_memory();
/// ledger.attempt("order 1")?;
/// ledger.acknowledge("order 1")?;
/// ledger.attempt("order 2")?; // and never an answer
///
/// let audit = ledger.check(["order 2"]);
/// assert!(audit.lost.contains("order 1"));
/// assert!(!audit.is_clean());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ledger {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    entries: BTreeMap<String, State>,
    file: Option<File>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Attempted,
    Acknowledged,
    Refused,
}

impl State {
    const ALL: [Self; 3] = [Self::Attempted, Self::Acknowledged, Self::Refused];

    /// The word that begins a line.
    fn word(self) -> &'static str {
        match self {
            Self::Attempted => "attempt",
            Self::Acknowledged => "acknowledge",
            Self::Refused => "refuse",
        }
    }
}

/// What [`Ledger::check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerAudit {
    /// Acknowledged and not there.
    pub lost: BTreeSet<String>,
    /// There and never attempted.
    pub phantom: BTreeSet<String>,
    /// There though refused.
    pub refused: BTreeSet<String>,
    /// There more than once.
    pub duplicate: BTreeSet<String>,
    /// How many were acknowledged.
    pub acknowledged: usize,
    /// How many attempts without an answer are there.
    pub unknown_found: usize,
    /// How many attempts without an answer are not there.
    pub unknown_absent: usize,
}

impl Ledger {
    /// Returns an empty ledger that lives with its process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { book: Mutex::default() }
    }

    /// Opens the ledger at `path`, with what is in it, to write on; creates it
    /// if it is absent.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Io`] if the file cannot be used, and with
    /// [`Error::Invalid`] if a complete line is none of a ledger.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = || Error::io(format!("open ledger {}", path.display()));
        let mut file =
            File::options().read(true).append(true).create(true).open(path).map_err(failed())?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed())?;
        let whole = whole_lines(&text);
        if whole.len() < text.len() {
            // The next line would be glued to a torn one.
            file.set_len(whole.len() as u64)
                .and_then(|()| file.seek(SeekFrom::End(0)))
                .map_err(failed())?;
        }
        let entries = parse(whole)?;
        Ok(Self { book: Mutex::new(Book { entries, file: Some(file) }) })
    }

    /// Reads the ledger at `path`; an absent one is empty. What is recorded in
    /// the result stays in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn read(path: &Path) -> Result<Self> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            text => text.map_err(Error::io(format!("read ledger {}", path.display())))?,
        };
        let entries = parse(whole_lines(&text))?;
        Ok(Self { book: Mutex::new(Book { entries, file: None }) })
    }

    /// Records that `id` is about to be written.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] for an empty id or one with control
    /// characters, and with [`Error::Io`] if the file cannot be written: then
    /// the write must not be sent.
    pub fn attempt(&self, id: impl fmt::Display) -> Result<()> {
        self.record(State::Attempted, &id)
    }

    /// Records that the write of `id` was acknowledged.
    ///
    /// # Errors
    ///
    /// As [`attempt`](Self::attempt).
    pub fn acknowledge(&self, id: impl fmt::Display) -> Result<()> {
        self.record(State::Acknowledged, &id)
    }

    /// Records that the write of `id` definitely did not happen.
    ///
    /// # Errors
    ///
    /// As [`attempt`](Self::attempt).
    pub fn refuse(&self, id: impl fmt::Display) -> Result<()> {
        self.record(State::Refused, &id)
    }

    /// Returns how many writes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let book = self.lock();
        book.entries.values().filter(|state| **state == State::Acknowledged).count()
    }

    /// Compares with what is `found`.
    #[must_use]
    pub fn check(&self, found: impl IntoIterator<Item = impl fmt::Display>) -> LedgerAudit {
        let mut audit = LedgerAudit::default();
        let mut seen = BTreeSet::new();
        for id in found {
            let id = id.to_string();
            if seen.contains(&id) {
                audit.duplicate.insert(id);
            } else {
                seen.insert(id);
            }
        }
        let book = self.lock();
        for (id, state) in &book.entries {
            match (state, seen.contains(id)) {
                (State::Acknowledged, is_there) => {
                    audit.acknowledged += 1;
                    if !is_there {
                        audit.lost.insert(id.clone());
                    }
                }
                (State::Attempted, true) => audit.unknown_found += 1,
                (State::Attempted, false) => audit.unknown_absent += 1,
                (State::Refused, true) => {
                    audit.refused.insert(id.clone());
                }
                (State::Refused, false) => {}
            }
        }
        audit.phantom = seen.into_iter().filter(|id| !book.entries.contains_key(id)).collect();
        audit
    }

    fn record(&self, state: State, id: &dyn fmt::Display) -> Result<()> {
        let id = id.to_string();
        if id.is_empty() || id.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "ledger id {id:?}: expected text without control characters"
            )));
        }
        let mut book = self.lock();
        if let Some(file) = book.file.as_mut() {
            let line = format!("{} {id}\n", state.word());
            file.write_all(line.as_bytes()).map_err(Error::io("write the ledger"))?;
        }
        book.enter(id, state);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn enter(&mut self, id: String, state: State) {
        enter(&mut self.entries, id, state);
    }
}

/// A promise is never taken back by a later attempt or refusal of the same.
fn enter(entries: &mut BTreeMap<String, State>, id: String, state: State) {
    let kept = entries.entry(id).or_insert(state);
    if *kept != State::Acknowledged {
        *kept = state;
    }
}

/// Returns `text` up to the end of its last whole line.
fn whole_lines(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

fn parse(lines: &[u8]) -> Result<BTreeMap<String, State>> {
    let mut entries = BTreeMap::new();
    for (index, line) in String::from_utf8_lossy(lines).lines().enumerate() {
        let entry = line.split_once(' ').and_then(|(word, id)| {
            let state = State::ALL.into_iter().find(|state| state.word() == word)?;
            Some((id.to_owned(), state))
        });
        let Some((id, state)) = entry else {
            return Err(Error::Invalid(format!("line {} is none of a ledger", index + 1)));
        };
        enter(&mut entries, id, state);
    }
    Ok(entries)
}

impl LedgerAudit {
    /// Tells whether nothing is lost, made up, there though refused, or there
    /// twice.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.phantom.is_empty()
            && self.refused.is_empty()
            && self.duplicate.is_empty()
    }
}

impl fmt::Display for LedgerAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged; without an answer {} found, {} absent",
            self.acknowledged, self.unknown_found, self.unknown_absent
        )?;
        let sets = [
            ("lost", &self.lost),
            ("phantom", &self.phantom),
            ("found though refused", &self.refused),
            ("duplicate", &self.duplicate),
        ];
        for (name, ids) in sets {
            if let Some(first) = ids.first() {
                write!(f, "; {} {name}, such as {first}", ids.len())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
        ids.map(str::to_owned).into()
    }

    fn sample() -> Ledger {
        let ledger = Ledger::in_memory();
        for id in ["kept", "gone", "open", "never", "no"] {
            ledger.attempt(id).unwrap();
        }
        ledger.acknowledge("kept").unwrap();
        ledger.acknowledge("gone").unwrap();
        ledger.refuse("no").unwrap();
        ledger
    }

    #[test]
    fn planted_faults_are_found() {
        let audit = sample().check(["kept", "kept", "open", "no", "made up"]);
        assert_eq!(audit.lost, ids(["gone"]));
        assert_eq!(audit.phantom, ids(["made up"]));
        assert_eq!(audit.refused, ids(["no"]));
        assert_eq!(audit.duplicate, ids(["kept"]));
        assert_eq!((audit.acknowledged, audit.unknown_found, audit.unknown_absent), (2, 1, 1));
        assert!(!audit.is_clean());
        let text = audit.to_string();
        assert!(text.contains("1 lost, such as gone"), "{text}");
    }

    #[test]
    fn what_was_promised_and_what_may_be_is_clean() {
        for found in [vec!["kept", "gone"], vec!["gone", "kept", "open", "never"]] {
            let audit = sample().check(found);
            assert!(audit.is_clean(), "{audit}");
        }
    }

    #[test]
    fn an_acknowledgement_is_never_taken_back() {
        let ledger = Ledger::in_memory();
        ledger.acknowledge("a").unwrap();
        ledger.attempt("a").unwrap();
        ledger.refuse("a").unwrap();
        assert_eq!(ledger.check([""; 0]).lost, ids(["a"]));
    }

    #[test]
    fn ids_that_would_break_a_line_are_refused() {
        let ledger = Ledger::in_memory();
        for id in ["", "a\nb", "a\rb"] {
            assert!(matches!(ledger.attempt(id), Err(Error::Invalid(_))), "{id:?}");
        }
    }
}
