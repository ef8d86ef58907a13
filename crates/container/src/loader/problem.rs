use std::fmt;
use std::sync::Arc;

use super::path::Path;

/// One thing that is wrong with a configuration. Never has a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    at: Path,
    path: String,
    text: String,
    origin: Option<Arc<str>>,
    is_unknown_key: bool,
}

impl Problem {
    pub(crate) fn new(path: &Path, text: impl Into<String>, origin: Option<Arc<str>>) -> Self {
        let (at, text) = (path.clone(), text.into());
        Self { at, path: path.to_string(), text, origin, is_unknown_key: false }
    }

    /// Says that nothing reads what stands at `path`.
    pub(crate) fn unknown_key(
        path: &Path,
        text: impl Into<String>,
        origin: Option<Arc<str>>,
    ) -> Self {
        Self { is_unknown_key: true, ..Self::new(path, text, origin) }
    }

    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    pub(crate) fn is_unknown_key(&self) -> bool {
        self.is_unknown_key
    }

    /// Returns the dotted path of the setting, such as `db.shards[2].id`; empty
    /// if a file as a whole is wrong.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what is wrong, and what was expected.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the file, variable or option that set the value; `None` where
    /// nothing did.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration, not only the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.path, &a.text).cmp(&(&b.path, &b.text)));
        problems.dedup();
        Self { problems }
    }

    /// Returns the problems, sorted by path.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    /// Prints one problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "the configuration has {count} {noun}:")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Returns the name that was probably meant.
pub(crate) fn nearest<'a>(
    typed: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase().replace('-', "_");
    let distance = |name: &str| strsim::damerau_levenshtein(&typed, &name.replace('-', "_"));
    // A third of the letters wrong is a typo; more is another word.
    let names = names.into_iter().map(|name| (distance(name), name));
    let near = names.filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3);
    near.min().map(|(_, name)| name)
}
