use std::fmt;
use std::net::SocketAddr;

use crate::account::Account;
use crate::engine;
use crate::error::{Error, Result};
use crate::redis::admin::{Admin, Place};

/// Where a server is for its clients, and as whom they talk to it.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) scheme: &'static str,
    /// Host and port as in a URL.
    pub(super) authority: String,
    /// What stands before the at sign, encoded.
    pub(super) credentials: String,
    /// What follows the port: the number of a database and settings.
    pub(super) tail: String,
}

impl Endpoint {
    pub(super) fn new(scheme: &'static str, port: u16, password: Option<&str>) -> Self {
        let credentials = password.map(|password| credentials("", password)).unwrap_or_default();
        let authority = format!("127.0.0.1:{port}");
        Self { scheme, authority, credentials, tail: "/".into() }
    }

    /// Reads the URL of a server that somebody gave us.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`]. The text leaves the URL out, because it
    /// may hold a password.
    pub(super) fn from_url(url: &str) -> Result<(Self, Admin)> {
        let invalid = || {
            let expected = "expected redis://user:password@host:port/, without TLS";
            Error::Invalid(expected.into())
        };
        let rest = url.strip_prefix("redis://").ok_or_else(invalid)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (place, tail) = rest.split_at(end);
        let (credentials, host) = place.rsplit_once('@').unwrap_or(("", place));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if host.is_empty() || host.starts_with(':') {
            return Err(invalid());
        }
        let authority = if has_port { host.to_owned() } else { format!("{host}:6379") };
        let account = (!credentials.is_empty()).then(|| {
            let (name, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            let name = if name.is_empty() { "default" } else { name };
            Account::known(decoded(name), decoded(password))
        });
        let admin = Admin::new(Place::Tcp(authority.clone()), account);
        let (credentials, tail) = (credentials.to_owned(), tail.to_owned());
        Ok((Self { scheme: "redis", authority, credentials, tail }, admin))
    }

    /// Returns the same server behind another address.
    pub(super) fn via(&self, addr: SocketAddr) -> Self {
        Self { authority: addr.to_string(), ..self.clone() }
    }

    /// Returns the same server as another account sees it.
    pub(super) fn with_account(&self, name: &str, password: &str) -> Self {
        Self { credentials: credentials(name, password), ..self.clone() }
    }

    pub(super) fn url(&self) -> String {
        let Self { scheme, authority, credentials, tail } = self;
        let at = if credentials.is_empty() { "" } else { "@" };
        format!("{scheme}://{credentials}{at}{authority}{tail}")
    }

    /// Returns the address behind the host and port.
    pub(super) async fn addr(&self) -> Result<SocketAddr> {
        let authority = self.authority.clone();
        engine::run(async move {
            let mut found = tokio::net::lookup_host(&authority)
                .await
                .map_err(Error::io(format!("look up {authority}")))?;
            found.next().ok_or_else(|| Error::Invalid(format!("{authority} has no address")))
        })
        .await
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

fn credentials(name: &str, password: &str) -> String {
    format!("{}:{}", encoded(name), encoded(password))
}

/// Writes all but letters, digits and dashes as `%` and two digits.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        match (code, part.get(2..)) {
            (Some(byte), Some(rest)) => {
                bytes.push(byte);
                bytes.extend(rest.bytes());
            }
            _ => bytes.extend(format!("%{part}").bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_others_keep_their_place_and_their_settings() {
        let url = |url: &str| Endpoint::from_url(url).unwrap().0.url();
        for kept in ["redis://bob:p%40ss@db.example:7000/3?a=b", "redis://h:1", "redis://:x@h:1/"] {
            assert_eq!(url(kept), kept);
        }
        assert_eq!(url("redis://db.example/1"), "redis://db.example:6379/1");
    }

    #[test]
    fn passwords_go_into_urls_and_come_out_again() {
        let endpoint = Endpoint::new("redis", 1, Some("p@ss:/%ü"));
        assert_eq!(endpoint.url(), "redis://:p%40ss%3A%2F%25%C3%BC@127.0.0.1:1/");
        assert_eq!(decoded(&encoded("p@ss:/%ü")), "p@ss:/%ü");
        assert_eq!(decoded("100%"), "100%");
        assert!(!format!("{endpoint:?}").contains("ss"));
    }

    #[test]
    fn what_is_no_redis_url_is_refused_without_being_repeated() {
        for url in ["", "root:secret@host", "rediss://:secret@host/", "redis://", "redis://:1"] {
            let error = Endpoint::from_url(url).unwrap_err().to_string();
            assert_eq!(error, "expected redis://user:password@host:port/, without TLS");
        }
    }
}
