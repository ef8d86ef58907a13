use std::fmt;

/// The place of a server, without the credentials of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Reads `scheme://user:password@host:port/database`, where the scheme is one
    /// of `schemes` and the port may be left out.
    pub(super) fn parse(url: &str, schemes: &[&str], usual_port: u16) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if !schemes.contains(&scheme) {
            return None;
        }
        let authority = rest.split(['/', '?']).next()?;
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        Self::of_place(place, usual_port)
    }

    /// Reads `host:port` or `host`.
    pub(super) fn of_place(place: &str, usual_port: u16) -> Option<Self> {
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return None;
        }
        let port = port.map_or(Some(usual_port), |port| port.parse().ok())?;
        Some(Self { host: host.to_owned(), port })
    }
}

/// Returns name and password of a URL, decoded; a name that is left out is
/// `default`.
pub(super) fn credentials(url: &str) -> Option<[String; 2]> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let (account, _) = authority.rsplit_once('@')?;
    let (name, password) = account.split_once(':').unwrap_or((account, ""));
    let name = if name.is_empty() { "default" } else { name };
    Some([name, password].map(decoded))
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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Option<String> {
        Address::parse(url, &["mysql", "mariadb"], 3306).map(|address| address.to_string())
    }

    #[test]
    fn the_place_is_read_and_the_password_is_not_kept() {
        assert_eq!(
            shown("mysql://root:p@ss@db.example:3307/app?ssl=1").unwrap(),
            "db.example:3307"
        );
        assert_eq!(shown("mysql://root@127.0.0.1").unwrap(), "127.0.0.1:3306");
        assert_eq!(shown("mariadb://[::1]:3310/").unwrap(), "::1:3310");
    }

    #[test]
    fn what_is_no_server_url_is_refused() {
        for url in
            ["", "127.0.0.1:3306", "redis://h:1", "mysql://", "mysql://h:port", "mysql://[::1]x"]
        {
            assert_eq!(shown(url), None, "{url}");
        }
    }

    #[test]
    fn a_place_without_a_scheme_is_read_too() {
        let shown = |place: &str| Address::of_place(place, 6379).map(|found| found.to_string());
        assert_eq!(shown("h:7000").unwrap(), "h:7000");
        assert_eq!(shown("h").unwrap(), "h:6379");
        assert_eq!(shown(":1"), None);
    }

    #[test]
    fn credentials_are_decoded() {
        let of = |url: &str| credentials(url).map(|account| account.join(" "));
        assert_eq!(of("redis://bob:p%40ss%2F@h:1/").unwrap(), "bob p@ss/");
        assert_eq!(of("redis://:100%@h").unwrap(), "default 100%");
        assert_eq!(of("redis://h:1"), None);
    }
}
