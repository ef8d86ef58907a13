use std::fmt;
use std::path::Path;

use crate::account::Account;
use crate::error::{Error, Result};
use crate::redis::RedisBuilder;

/// Options that say where the server lives and who may log in.
const RESERVED: [&str; 21] = [
    "aclfile",
    "appenddirname",
    "appendfilename",
    "appendfsync",
    "appendonly",
    "bind",
    "daemonize",
    "dbfilename",
    "dir",
    "include",
    "logfile",
    "pidfile",
    "port",
    "requirepass",
    "tls-ca-cert-file",
    "tls-cert-file",
    "tls-key-file",
    "tls-port",
    "unixsocket",
    "unixsocketperm",
    "user",
];

/// When what a [`Redis`](crate::Redis) was told is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisPersistence {
    /// Never: a restart finds nothing.
    #[default]
    None,
    /// Within about two seconds: `appendfsync everysec`.
    EverySecond,
    /// Before it is acknowledged: `appendfsync always`.
    Always,
}

impl RedisPersistence {
    fn lines(self) -> &'static [&'static str] {
        match self {
            Self::None => &["appendonly no"],
            Self::EverySecond => &["appendonly yes", "appendfsync everysec"],
            Self::Always => &["appendonly yes", "appendfsync always"],
        }
    }
}

/// Refuses what the kit needs for itself and what would be two lines.
pub(super) fn check(builder: &RedisBuilder) -> Result<()> {
    for (name, value) in &builder.options {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            return Err(Error::Invalid(format!(
                "option `{name}`: expected a name such as maxclients, without dashes before it"
            )));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(Error::Invalid(format!("option `{name}`: set by the kit itself")));
        }
        one_line(&format!("option `{name}`"), value)?;
    }
    for (name, rules) in &builder.users {
        if name.is_empty() || name.contains(char::is_whitespace) || name == ADMIN {
            return Err(Error::Invalid(format!("user `{name}`: cannot be called that")));
        }
        one_line(&format!("user `{name}`"), rules)?;
    }
    one_line("password", builder.password.as_deref().unwrap_or_default())
}

fn one_line(what: &str, value: &str) -> Result<()> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(Error::Invalid(format!("{what}: expected one line")));
    }
    Ok(())
}

/// Whom the kit logs in as, with a password of each server's own.
pub(super) const ADMIN: &str = "trine_admin";

/// What a server is told about what it is, as opposed to where.
#[derive(Clone, Default)]
pub(super) struct Conf(Vec<String>);

impl Conf {
    pub(super) fn of(builder: &RedisBuilder) -> Self {
        let fixed = ["save \"\"", "maxmemory-policy noeviction", "repl-diskless-sync-delay 0"];
        let mut lines: Vec<String> = fixed.map(str::to_owned).into();
        lines.extend(builder.persistence.lines().iter().map(|line| (*line).to_owned()));
        if let Some(password) = &builder.password {
            let password = quoted(password);
            lines.extend([format!("requirepass {password}"), format!("masterauth {password}")]);
        }
        lines.extend(builder.users.iter().map(|(name, rules)| format!("user {name} {rules}")));
        lines.extend(builder.options.iter().map(|(name, value)| format!("{name} {value}")));
        Self(lines)
    }

    /// Adds lines, which replace those before them.
    pub(super) fn extend(&mut self, lines: impl IntoIterator<Item = String>) {
        self.0.extend(lines);
    }

    /// Returns the file of a server at `place`, into which `admin` is let.
    pub(super) fn file(&self, place: &[String], admin: &Account) -> String {
        let admit = format!("user {} on >{} ~* &* +@all", admin.name(), admin.password());
        let lines = place.iter().chain([&admit]).chain(&self.0);
        lines.map(|line| format!("{line}\n")).collect()
    }
}

impl fmt::Debug for Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords are among the lines.
        write!(f, "Conf({} lines)", self.0.len())
    }
}

/// Returns `text` as one word of a configuration file.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns `path` as one word of a configuration file.
pub(super) fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_kit_and_malformed_ones_are_refused() {
        let option = |name: &str| check(&RedisBuilder::default().option(name, "1"));
        for name in ["port", "dir", "user", "", "--port", "a b", "max_clients"] {
            assert!(matches!(option(name), Err(Error::Invalid(_))), "{name}");
        }
        option("maxclients").unwrap();
    }

    #[test]
    fn nothing_becomes_a_second_line() {
        let builder = RedisBuilder::default;
        for builder in [
            builder().option("maxclients", "1\nport 1"),
            builder().user("a", "on\nport 1"),
            builder().user("a b", "on"),
            builder().user(ADMIN, "off"),
            builder().password("a\nport 1"),
        ] {
            assert!(matches!(check(&builder), Err(Error::Invalid(_))), "{builder:?}");
        }
    }

    #[test]
    fn a_password_stays_one_word() {
        let conf = Conf::of(&RedisBuilder::default().password(r#"a "b\"#));
        let file = conf.file(&[], &Account::new("a"));
        assert!(file.lines().any(|line| line == r#"requirepass "a \"b\\""#), "{file}");
        assert!(!format!("{conf:?}").contains('b'), "{conf:?}");
    }
}
