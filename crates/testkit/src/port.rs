use std::net::{Ipv4Addr, TcpListener};

use crate::Rng;
use crate::error::{Error, Result};
use crate::rng::entropy;

/// Below the range from which the system serves `connect` and port 0, so that
/// a port stays free while its server is away.
const FIRST: u64 = 12_000;
const LAST: u64 = 29_999;

/// Returns a loopback port on which nobody listens now.
pub(crate) fn free_port() -> Result<u16> {
    let mut rng = Rng::seeded(entropy());
    for _ in 0..200 {
        let Ok(port) = u16::try_from(FIRST + rng.below(LAST - FIRST + 1)) else {
            continue;
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::Invalid(format!("no free port between {FIRST} and {LAST} on 127.0.0.1")))
}
