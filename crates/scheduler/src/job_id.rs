use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a job: what is unique among all processes that share its store.
///
/// It has no `#`, which separates a nominal time from its job in the key of a
/// fence.
///
/// Cheap to clone.
///
/// # Example
///
/// ```
/// use trine_scheduler::JobId;
///
/// assert_eq!(JobId::new("report.daily")?.as_str(), "report.daily");
/// assert!(JobId::new("").is_err());
/// # Ok::<(), trine_scheduler::InvalidJobId>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(Arc<str>);

impl JobId {
    /// Longest name in bytes: with the name of the service it must fit into the
    /// name of an inbox's consumer.
    pub const MAX: usize = 100;

    /// Returns `text` as the name of a job.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidJobId`] if the text is empty, longer than
    /// [`MAX`](Self::MAX) bytes, or has a `#` or a control character.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidJobId> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX {
            return Err(InvalidJobId::Length { length: text.len() });
        }
        if text.chars().any(|c| c == '#' || c.is_control()) {
            return Err(InvalidJobId::Character { id: text });
        }
        Ok(Self(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for JobId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<&str> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: &str) -> Result<Self, InvalidJobId> {
        Self::new(text)
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, InvalidJobId> {
        Self::new(text)
    }
}

impl From<&Self> for JobId {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.as_str().to_owned()
    }
}

/// Why a text is no [`JobId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJobId {
    /// It is empty or too long.
    #[error("job id of {length} bytes: expected 1 to {max}", max = JobId::MAX)]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// It has a `#` or a control character.
    #[error("job id {id:?}: expected no `#` and no control characters")]
    Character {
        /// The refused text.
        id: Arc<str>,
    },
}

impl From<std::convert::Infallible> for InvalidJobId {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
