use std::io::{self, ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Engine;
use super::url::Address;

/// Longest wait for one answer of a server that is up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads engine and version from the first packet of the server at `address`.
pub(super) fn over_tcp(address: &Address) -> io::Result<(Engine, String)> {
    let mut last = io::Error::from(ErrorKind::NotFound);
    for place in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return read(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads engine and version from the server behind a socket file.
pub(super) fn over_socket(path: &Path) -> io::Result<(Engine, String)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    read(stream)
}

/// Reads one packet: three bytes of length, a number, then protocol version 10
/// and the version text up to a zero byte; a refusal has 0xff in front.
fn read(mut stream: impl Read) -> io::Result<(Engine, String)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let [low, middle, high, _] = header.map(usize::from);
    let mut body = vec![0; (low | middle << 8 | high << 16).min(1024)];
    stream.read_exact(&mut body)?;
    match body.split_first() {
        Some((10, rest)) => {
            let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            Ok(name(&String::from_utf8_lossy(text)))
        }
        Some((0xff, rest)) => {
            let reason = String::from_utf8_lossy(rest.get(2..).unwrap_or_default()).into_owned();
            Err(io::Error::new(
                ErrorKind::ConnectionRefused,
                format!("the server refuses: {reason}"),
            ))
        }
        _ => Err(io::Error::new(ErrorKind::InvalidData, "the answer is not the MySQL protocol")),
    }
}

/// Splits `5.5.5-10.11.19-MariaDB-…` or `8.4.3` into engine and number.
fn name(text: &str) -> (Engine, String) {
    let engine = if text.contains("MariaDB") { Engine::MariaDb } else { Engine::MySql };
    // MariaDB below 11 puts this in front for old replicas.
    let text = text.strip_prefix("5.5.5-").unwrap_or(text);
    let number = text.split('-').next().unwrap_or(text);
    (engine, number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(body: &[u8]) -> Vec<u8> {
        let length = u8::try_from(body.len()).unwrap();
        [&[length, 0, 0, 0], body].concat()
    }

    #[test]
    fn engine_and_number_come_from_the_version_text() {
        let greeting = packet(b"\x0a5.5.5-10.11.19-MariaDB-0+deb12u1\0rest");
        assert_eq!(read(greeting.as_slice()).unwrap(), (Engine::MariaDb, "10.11.19".to_owned()));
        assert_eq!(
            read(packet(b"\x0a11.8.2-MariaDB\0").as_slice()).unwrap(),
            (Engine::MariaDb, "11.8.2".to_owned())
        );
        assert_eq!(
            read(packet(b"\x0a8.4.3\0").as_slice()).unwrap(),
            (Engine::MySql, "8.4.3".to_owned())
        );
    }

    #[test]
    fn a_refusal_and_a_stranger_are_errors() {
        let refusal = read(packet(b"\xff\x10\x04Too many connections").as_slice()).unwrap_err();
        assert!(refusal.to_string().contains("Too many connections"), "{refusal}");
        assert!(read(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]).is_err());
        assert!(read(&b""[..]).is_err());
    }
}
