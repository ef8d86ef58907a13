use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use self::environment::Environment;

pub(crate) mod check;
pub(crate) mod environment;
pub(crate) mod layer;
pub(crate) mod path;
pub(crate) mod problem;
pub(crate) mod read;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod tree;

/// Where the configuration comes from. Later layers replace what earlier ones
/// say, key by key:
///
/// 1. the defaults of the settings' types,
/// 2. [`with_defaults`](Self::with_defaults): the program's own,
/// 3. `default.toml` of the [folder](Self::with_folder), if it is there,
/// 4. `{profile}.toml` of the folder, if a [profile](Self::with_profile) is set,
/// 5. [files](Self::with_file) by name,
/// 6. variables `TRINE__SECTION__KEY` of the [environment](Self::with_environment),
/// 7. [overrides](Self::with_override), such as command-line options.
///
/// Tables are merged, all else is replaced. A table whose `kind` changes is
/// replaced as a whole: what belongs to another kind means nothing any more.
/// All variables together are one layer, and so are all overrides: their order
/// decides nothing, but that the last override of one key wins.
///
/// A secret may be given as `name_file = "/run/secrets/name"` instead, which is
/// read without its final line break; either replaces the other where an earlier
/// layer gave it. It may hold `${NAME}`, which stands for
/// a variable (`$${` for the two characters themselves). Nothing else is
/// expanded.
///
/// Nothing is read before [`Builder::configure`](crate::Builder::configure).
#[derive(Clone, Debug, Default)]
pub struct Loader {
    pub(crate) defaults: Vec<Arc<str>>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) profile: Option<String>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) environment: Environment,
    pub(crate) overrides: Vec<Override>,
}

/// One value that the host sets.
#[derive(Clone)]
pub(crate) struct Override {
    pub(crate) from: Arc<str>,
    pub(crate) path: String,
    pub(crate) value: Value,
}

impl Loader {
    /// Returns a loader without any source.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the program's own defaults, as TOML.
    #[must_use]
    pub fn with_defaults(mut self, toml: impl Into<Arc<str>>) -> Self {
        self.defaults.push(toml.into());
        self
    }

    /// Sets the folder of `default.toml` and the profiles.
    #[must_use]
    pub fn with_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets the profile, whose file must be there.
    #[must_use]
    pub fn with_profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// Adds a file, which must be there.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Sets the variables to read from.
    #[must_use]
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Sets the value at a dotted `path`; `from`, such as `"--listen"`, is named
    /// where the value is refused.
    #[must_use]
    pub fn with_override(
        mut self,
        from: impl Into<Arc<str>>,
        path: impl Into<String>,
        value: impl Into<Value>,
    ) -> Self {
        self.overrides.push(Override { from: from.into(), path: path.into(), value: value.into() });
        self
    }
}

impl std::fmt::Debug for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} → {}", self.from, self.path)
    }
}
