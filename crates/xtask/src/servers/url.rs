use std::fmt;

/// The place of a server, without the credentials of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// Reads `mysql://user:password@host:port/database`; the port may be left
    /// out and is then 3306.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if !matches!(scheme, "mysql" | "mariadb") {
            return None;
        }
        let authority = rest.split(['/', '?']).next()?;
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, "3306"),
            Some((host, port)) => (host, port.strip_prefix(':')?),
            None => place.split_once(':').unwrap_or((place, "3306")),
        };
        if host.is_empty() {
            return None;
        }
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
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
        Address::parse(url).map(|address| address.to_string())
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
}
