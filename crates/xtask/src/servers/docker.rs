use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::keeper::Keeper;
use super::url::Address;
use crate::failure::{Context, Failure, Result};
use crate::run::Run;

/// Longest wait for a container's server, its first start included.
const START: Duration = Duration::from_secs(180);

/// An image of a server and what its container is told.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) image: &'static str,
    pub(super) port: u16,
    /// A variable of the container.
    pub(super) variable: Option<&'static str>,
    pub(super) options: &'static [&'static str],
    /// Names the variable that points the tests at another server.
    pub(super) named: &'static str,
}

/// Reports whether a Docker engine, and not only the client, is here.
pub(super) fn engine_answers() -> bool {
    Run::new("docker").args(["version", "--format", "{{.Server.Version}}"]).succeeds()
}

/// Starts a container on a free loopback port and waits until `ask` gets an
/// answer from it.
pub(super) fn start<T>(
    image: &Image,
    ask: impl Fn(&Address) -> io::Result<T>,
) -> Result<(Address, T, Keeper)> {
    if !engine_answers() {
        return Err(Failure::new(format!(
            "{} comes from Docker, and no Docker engine answers; start one, or name a server in {}",
            image.image, image.named
        )));
    }
    let publish = format!("127.0.0.1::{}", image.port);
    let variable = image.variable.iter().flat_map(|variable| ["--env", variable]);
    let run = Run::new("docker").args(["run", "--detach", "--publish", &publish]).args(variable);
    let id = run.args([image.image]).args(image.options).text()?.trim().to_owned();
    let keeper = Keeper::contain(&id)?;
    let port = format!("{}/tcp", image.port);
    let address = published(&Run::new("docker").args(["port", &id, &port]).text()?)
        .ok_or_else(|| Failure::new(format!("docker published no port of {}", image.image)))?;
    let end = Instant::now() + START;
    loop {
        match ask(&address) {
            Ok(answer) => return Ok((address, answer, keeper)),
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
