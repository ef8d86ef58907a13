use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// Variables, as data: the loader reads no other ones.
///
/// # Example
///
/// ```
/// use trine::Environment;
///
/// let environment: Environment = [("TRINE__DB__MAX_ROWS", "500")].into_iter().collect();
/// assert_eq!(environment.get("TRINE__DB__MAX_ROWS"), Some("500"));
/// ```
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    pub(crate) const PREFIX: &str = "TRINE__";

    /// Returns the variables of this process. Hosts call it once, at start.
    #[must_use]
    pub fn of_process() -> Self {
        // Unlike `vars`, this does not panic on a variable that is not UTF-8.
        #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
        let variables = std::env::vars_os();
        let named = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self(named.collect())
    }

    /// Returns the value of a variable; `None` if it is not set or not UTF-8.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str()
    }

    /// Returns what sets configuration keys, sorted, without the prefix; a value
    /// is `None` if it is not UTF-8.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let from = Self::PREFIX.to_owned()..;
        self.0.range(from).map_while(|(name, value)| {
            let keys = name.strip_prefix(Self::PREFIX)?;
            Some((keys, value.to_str()))
        })
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let pair = |(name, value): (N, V)| (name.into(), value.into());
        Self(variables.into_iter().map(pair).collect())
    }
}

impl fmt::Debug for Environment {
    /// Prints names only: any value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
