use std::thread;
use std::time::{Duration, Instant};

use super::keeper::Keeper;
use super::url::Address;
use super::{Server, greeting};
use crate::failure::{Context, Failure, Result};
use crate::run::Run;

/// Longest wait for a container's server, its first start included.
const START: Duration = Duration::from_secs(180);

/// An image of a database server and the variable that lets root in.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) image: &'static str,
    empty_password: &'static str,
}

/// The MariaDB that Debian 12 has too.
pub(super) const MARIADB: Image =
    Image { image: "mariadb:10.11", empty_password: "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1" };

/// The long-term release of MySQL.
pub(super) const MYSQL: Image =
    Image { image: "mysql:8.4", empty_password: "MYSQL_ALLOW_EMPTY_PASSWORD=1" };

/// Reports whether a Docker engine, and not only the client, is here.
pub(super) fn engine_answers() -> bool {
    Run::new("docker").args(["version", "--format", "{{.Server.Version}}"]).succeeds()
}

/// Starts a container on a free loopback port.
pub(super) fn start(image: &Image) -> Result<Server> {
    if !engine_answers() {
        return Err(Failure::new(format!(
            "{} comes from Docker, and no Docker engine answers; start one, or name a server in {}",
            image.image,
            super::MYSQL_URL
        )));
    }
    let options = ["--performance-schema=OFF", "--max-connections=500"];
    let run = Run::new("docker").args([
        "run",
        "--detach",
        "--publish",
        "127.0.0.1::3306",
        "--env",
        image.empty_password,
    ]);
    let id = run.args([image.image]).args(options).text()?.trim().to_owned();
    let keeper = Keeper::contain(&id)?;
    let address = published(&Run::new("docker").args(["port", &id, "3306/tcp"]).text()?)
        .ok_or_else(|| Failure::new(format!("docker published no port of {}", image.image)))?;
    let end = Instant::now() + START;
    loop {
        match greeting::over_tcp(&address) {
            Ok((engine, version)) => {
                let url = format!("mysql://root@{address}");
                return Ok(Server {
                    engine,
                    version,
                    url,
                    origin: "in Docker",
                    _keeper: Some(keeper),
                });
            }
            // The engine accepts connections before the server listens.
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(200)),
            Err(error) => {
                return Err(error)
                    .context(format_args!("{} does not answer at {address}", image.image));
            }
        }
    }
}

/// Reads the first line of `docker port`, such as `127.0.0.1:49153`.
fn published(text: &str) -> Option<Address> {
    let (host, port) = text.lines().next()?.trim().rsplit_once(':')?;
    Some(Address { host: host.to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_port_is_read() {
        assert_eq!(published("127.0.0.1:49153\n").unwrap().to_string(), "127.0.0.1:49153");
        assert_eq!(published(""), None);
    }
}
