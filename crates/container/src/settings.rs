use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

/// A type that one section of the configuration is read into.
///
/// # Example
///
/// ```
/// use schemars::JsonSchema;
/// use serde::Deserialize;
/// use trine::Settings;
///
/// #[derive(Debug, Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Limits {
///     lowest: u32,
///     highest: u32,
/// }
///
/// impl Settings for Limits {
///     fn problems(&self) -> Vec<String> {
///         if self.lowest <= self.highest {
///             return Vec::new();
///         }
///         vec!["lowest: must not be above `highest`".to_owned()]
///     }
/// }
/// ```
pub trait Settings: DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Returns every broken rule that spans fields, each as
    /// `path: what is wrong` with the path inside the section.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What [`Builder::section`](crate::Builder::section) returns: the way to the
/// settings once they are read.
pub struct Section<T> {
    pub(crate) name: &'static str,
    pub(crate) marker: PhantomData<fn() -> T>,
}

impl<T> Section<T> {
    /// Returns the section's key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }
}

impl<T> Clone for Section<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Section<T> {}

impl<T> fmt::Debug for Section<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Section({})", self.name)
    }
}
