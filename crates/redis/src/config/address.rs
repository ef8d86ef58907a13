use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use trine_core::Secret;
use url::Url;

/// The port of a URL without one.
const PORT: u16 = 6379;

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: Arc<str>, port: u16 },
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp { host: host.into(), port }
    }

    /// Reads `host:port` as servers announce it; an empty or unknown host means
    /// this one.
    pub(crate) fn announced(&self, text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(self.with(host, port.parse().ok()?))
    }

    /// Returns the address of `host`, which means this one if it is empty or
    /// unknown.
    pub(crate) fn with(&self, host: &str, port: u16) -> Self {
        match (host, self) {
            ("" | "?", Self::Tcp { host, .. }) => Self::Tcp { host: Arc::clone(host), port },
            _ => Self::tcp(host.trim_matches(['[', ']']), port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A user, if not the default one, and a password.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) username: Option<Box<str>>,
    pub(crate) password: Secret,
}

impl Credentials {
    /// Returns those of the default user if `username` is empty.
    pub(crate) fn new(username: &str, password: Secret) -> Self {
        let username = (!username.is_empty()).then(|| username.into());
        Self { username, password }
    }

    pub(crate) fn user(&self) -> &str {
        self.username.as_deref().unwrap_or("default")
    }
}

/// What a URL says.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) tls: bool,
    pub(crate) credentials: Option<Credentials>,
}

const EXPECTED: &str =
    "expected redis://user:password@host:port, rediss://… for TLS or unix:///path";

impl Target {
    /// Reads a URL; the reason of a failure never repeats it.
    pub(crate) fn read(url: &Secret) -> Result<Self, &'static str> {
        let url = Url::parse(url.expose()).map_err(|_| EXPECTED)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("settings after ? or # are not read; remove them");
        }
        let credentials = credentials(&url)?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            "unix" | "redis+unix" => return Self::socket(&url, credentials),
            _ => return Err(EXPECTED),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(EXPECTED)?;
        if !matches!(url.path(), "" | "/" | "/0") {
            return Err("database numbers other than 0 are not supported; \
                        keep applications apart by namespace");
        }
        let host = host.trim_matches(['[', ']']);
        let address = Address::tcp(host, url.port().unwrap_or(PORT));
        Ok(Self { address, tls, credentials })
    }

    fn socket(url: &Url, credentials: Option<Credentials>) -> Result<Self, &'static str> {
        let path = decoded(url.path()).ok_or(EXPECTED)?;
        if path.len() < 2 || url.host_str().is_some_and(|host| !host.is_empty()) {
            return Err(EXPECTED);
        }
        Ok(Self { address: Address::Unix(path.into()), tls: false, credentials })
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, &'static str> {
    const NOT_TEXT: &str = "the user or the password is no UTF-8 text";
    let Some(password) = url.password() else {
        let is_named = !url.username().is_empty();
        return if is_named { Err("a user needs a password") } else { Ok(None) };
    };
    let username = decoded(url.username()).ok_or(NOT_TEXT)?;
    let password = Secret::new(decoded(password).ok_or(NOT_TEXT)?);
    Ok(Some(Credentials::new(&username, password)))
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Target, &'static str> {
        Target::read(&Secret::new(url))
    }

    #[test]
    fn urls_lead_somewhere() {
        for (url, address, tls) in [
            ("redis://h", "h:6379", false),
            ("redis://h:1/", "h:1", false),
            ("redis://h:1/0", "h:1", false),
            ("rediss://[::1]:7", "[::1]:7", true),
            ("unix:///run/r.sock", "/run/r.sock", false),
            ("redis+unix:///run/a%20b.sock", "/run/a b.sock", false),
        ] {
            let target = read(url).unwrap();
            assert_eq!((&*target.address.to_string(), target.tls), (address, tls), "{url}");
        }
        let credentials = read("redis://me:a%40b@h").unwrap().credentials.unwrap();
        assert_eq!(credentials.username.as_deref(), Some("me"));
        assert_eq!(credentials.password.expose(), "a@b");
        assert_eq!(read("redis://:x@h").unwrap().credentials.unwrap().username, None);
    }

    #[test]
    fn a_url_that_says_more_than_is_read_is_refused() {
        for url in [
            "h:6379",
            "http://h",
            "redis://",
            "redis://h/1",
            "redis://h/0/1",
            "redis://h?db=1",
            "redis://h#insecure",
            "redis://me@h",
            "unix://h/run/r.sock",
            "unix:///",
            "redis://h:port",
        ] {
            assert!(read(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_unknown_host_is_the_one_that_was_asked() {
        let asked = Address::tcp("10.0.0.1", 1);
        assert_eq!(asked.announced("10.0.0.2:7"), Some(Address::tcp("10.0.0.2", 7)));
        assert_eq!(asked.announced("::1:7"), Some(Address::tcp("::1", 7)));
        for unknown in [":7", "?:7"] {
            assert_eq!(asked.announced(unknown), Some(Address::tcp("10.0.0.1", 7)));
        }
        assert_eq!(asked.announced("nothing"), None);
    }
}
