use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A text that is never shown: a password, a key, a URL with credentials.
///
/// `Debug` prints `Secret(***)`, there is no `Display` and no `Serialize`, and
/// the memory is wiped on drop. It deserializes from text only; the error for
/// anything else does not repeat the value.
///
/// # Example
///
/// ```
/// use trine_core::Secret;
///
/// let url = Secret::new("mysql://app:p@ss@db.internal:3306/orders?ssl-mode=required");
/// assert_eq!(format!("{url:?}"), "Secret(***)");
/// assert_eq!(url.address(), "mysql://db.internal:3306/orders");
/// ```
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Returns `text` as a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// Returns the text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns what may be shown of a URL: scheme, host, port and path.
    ///
    /// User, password, query and fragment are left out. Where it cannot be told
    /// what belongs to the password (a `/`, `?` or `#` before the last `@`, a
    /// port that is no number), only the scheme is left, as `mysql://***`; a
    /// text without a scheme and `://` gives `***`.
    #[must_use]
    pub fn address(&self) -> String {
        address(self.expose())
    }
}

const HIDDEN: &str = "***";

fn address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return HIDDEN.to_owned();
    };
    if !is_scheme(scheme) {
        return HIDDEN.to_owned();
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    // An `@` further on may end a password that holds an unescaped delimiter.
    if tail.contains('@') || !hosts.split(',').all(is_host) {
        return format!("{scheme}://{HIDDEN}");
    }
    let path = tail.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{hosts}{path}")
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn is_host(text: &str) -> bool {
    let port = match text.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((_, port)) => port,
            None => return false,
        },
        None => text.find(':').map_or("", |colon| text.split_at(colon).1),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    let has_port = port.starts_with(':') || port.is_empty();
    has_port && digits.len() <= 5 && digits.chars().all(|c| c.is_ascii_digit())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_string`: formats then refuse by themselves, with the value.
        deserializer.deserialize_any(Text)
    }
}

struct Text;

/// Refuses without the value: serde's own message would print it.
fn not_text<E: de::Error>() -> Result<Secret, E> {
    Err(E::custom("expected a secret as text"))
}

impl Visitor<'_> for Text {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret as text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        not_text()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        not_text()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        not_text()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
        not_text()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
        not_text()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        not_text()
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Secret, E> {
        not_text()
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true, "format": "password" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_has_no_user_password_or_query() {
        for (url, shown) in [
            ("mysql://u:p@h:3306/db?x=1", "mysql://h:3306/db"),
            ("mysql://u:p@ss@h/db", "mysql://h/db"),
            ("mysql://u:p%40%2F@h/db#f", "mysql://h/db"),
            ("redis://:p@[::1]:6379/0", "redis://[::1]:6379/0"),
            ("redis://h", "redis://h"),
            ("mysql://u:p@localhost?socket=/run/my.sock", "mysql://localhost"),
            ("mysql://u:p@localhost/db?socket=/run/my.sock", "mysql://localhost/db"),
            ("mysql://u:p@%2Frun%2Fmy.sock/db", "mysql://%2Frun%2Fmy.sock/db"),
            ("redis://u:p@a:1,b:2/0", "redis://a:1,b:2/0"),
            ("sqlite:///data/app.db", "sqlite:///data/app.db"),
        ] {
            assert_eq!(Secret::new(url).address(), shown, "{url}");
        }
    }

    #[test]
    fn an_ambiguous_url_shows_only_its_scheme() {
        for url in [
            "mysql://u:p/q@h/db",
            "mysql://u:a@b/c@h/db",
            "mysql://u:p?q@h/db",
            "mysql://u:p#q@h/db",
            "mysql://h/db?mail=a@b",
            "mysql://u:secret",
            "mysql://u:p@[::1",
            "mysql://u:p@[::1]x",
            "mysql://u:p@h:1:2/db",
        ] {
            assert_eq!(Secret::new(url).address(), "mysql://***", "{url}");
        }
        for text in ["", "hunter2", "://h", "pa ss://h", "1a://h", "sqlite::memory:"] {
            assert_eq!(Secret::new(text).address(), "***", "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_password_shows_in_an_address_whatever_it_holds(
            password in "[zZ/?#@:%&\\[\\], ]{1,20}",
            query in proptest::option::of("[a-y=&/:]{0,20}"),
        ) {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let url = format!("mysql://me:{password}@host:1/db{query}");
            let shown = Secret::new(&*url).address();
            prop_assert!(!shown.contains(['z', 'Z']), "{url} gave {shown}");
            prop_assert!(!shown.contains("me"), "{url} gave {shown}");
        }
    }

    #[test]
    fn debug_never_shows_the_text() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(Secret(***))");
    }

    #[test]
    fn only_text_is_read_and_the_error_does_not_repeat_the_value() {
        assert_eq!(serde_json::from_str::<Secret>("\"x\"").unwrap().expose(), "x");
        for json in ["12345", "-12345", "12345.5", "true", "[12345]", "{\"a\":12345}", "null"] {
            let error = serde_json::from_str::<Secret>(json).unwrap_err().to_string();
            assert!(!error.contains("12345") && !error.contains("true"), "{error}");
        }
    }

    #[test]
    fn its_schema_is_a_write_only_password() {
        let schema = schemars::schema_for!(Secret);
        assert_eq!(schema.get("format").unwrap(), "password");
        assert_eq!(schema.get("writeOnly").unwrap(), true);
    }
}
