use std::fmt;
use std::fmt::Write;

use crate::rng::entropy;

/// An account of a server.
#[derive(Clone)]
pub(crate) struct Account {
    name: String,
    password: String,
}

impl Account {
    /// Returns an account with a random password.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        let mut password = String::new();
        for _ in 0..2 {
            // Writing to a string cannot fail.
            let _ = write!(password, "{:016x}", entropy());
        }
        Self { name: name.into(), password }
    }

    /// Returns an account that somebody gave us.
    #[cfg(feature = "redis")]
    pub(crate) fn known(name: String, password: String) -> Self {
        Self { name, password }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_random_and_never_printed() {
        let account = Account::new("a");
        assert_ne!(account.password(), Account::new("a").password());
        assert_eq!(format!("{account:?}"), "a:***");
    }
}
