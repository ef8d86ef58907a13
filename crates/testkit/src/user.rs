use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use rustix::process::geteuid;

use crate::error::{Error, Result};

/// Whose rights a server runs with: servers refuse to run as root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// Returns an account without rights if this process is root, `None` if a
    /// server can run as whoever we are.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::NoServer`] if there is no such account.
    pub(crate) fn for_servers() -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").map_err(Error::io("read /etc/passwd"))?;
        Self::find(&accounts, "nobody").map(Some).ok_or_else(|| {
            Error::NoServer(
                "servers refuse to run as root and there is no account `nobody`: \
                 run the tests as another user"
                    .into(),
            )
        })
    }

    fn find(accounts: &str, name: &str) -> Option<Self> {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next()? == name;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            found.then_some(Self { uid, gid })
        })
    }

    pub(crate) fn uid(self) -> u32 {
        self.uid
    }

    pub(crate) fn gid(self) -> u32 {
        self.gid
    }

    /// Gives `path` to this account.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(Error::io(format!("give {} to its user", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let accounts = "root:x:0:0::/root:/bin/sh\nnobody2:x:7:8::/:/bin/false\n\
                        broken\nnobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n";
        let user = User::find(accounts, "nobody").unwrap();
        assert_eq!((user.uid(), user.gid()), (65_534, 65_533));
        assert!(User::find(accounts, "mysql").is_none());
    }
}
