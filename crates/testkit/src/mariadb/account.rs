use std::fmt;
use std::fmt::Write;

use crate::rng::entropy;

/// An account of a server that this crate set up.
#[derive(Clone)]
pub(super) struct Account {
    name: String,
    password: String,
}

impl Account {
    /// Returns an account with a random password.
    pub(super) fn new(name: impl Into<String>) -> Self {
        let mut password = String::new();
        for _ in 0..2 {
            // Writing to a string cannot fail.
            let _ = write!(password, "{:016x}", entropy());
        }
        Self { name: name.into(), password }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.name)
    }
}

/// Returns what a new server has to be told: who may log in. The accounts that
/// it was installed with have no password and go.
pub(super) fn set_up(admin: &Account, user: &Account, database: &str) -> Vec<String> {
    let (admin, admin_password) = (admin.name(), admin.password());
    let (user, user_password) = (user.name(), user.password());
    vec![
        format!("CREATE USER IF NOT EXISTS '{admin}'@'%' IDENTIFIED BY '{admin_password}'"),
        format!("GRANT ALL ON *.* TO '{admin}'@'%' WITH GRANT OPTION"),
        format!("CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{user_password}'"),
        format!("GRANT ALL ON *.* TO '{user}'@'%'"),
        // Whoever has one of these writes to a read-only server.
        format!("REVOKE SUPER, READ_ONLY ADMIN ON *.* FROM '{user}'@'%'"),
        "DELETE FROM mysql.global_priv WHERE User IN ('', 'root')".into(),
        "FLUSH PRIVILEGES".into(),
        format!("CREATE DATABASE IF NOT EXISTS `{database}`"),
    ]
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
