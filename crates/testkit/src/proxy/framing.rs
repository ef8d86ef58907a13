//! Where packets begin and end in a stream.

mod mysql;
mod resp;

use self::mysql::Mysql;
use self::resp::Resp;
use super::Protocol;
use super::buffer::Buffer;

/// Follows the packets of one direction.
#[derive(Debug)]
pub(super) enum Framing {
    Mysql(Mysql),
    Resp(Resp),
}

impl Framing {
    pub(super) fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Mysql => Self::Mysql(Mysql::default()),
            Protocol::Redis => Self::Resp(Resp::default()),
        }
    }

    /// Follows `bytes`, which have passed.
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        match self {
            Self::Mysql(mysql) => mysql.advance(bytes),
            Self::Resp(resp) => resp.advance(bytes),
        }
    }

    /// Tells whether everything that passed was whole packets.
    pub(super) fn is_between(&self) -> bool {
        match self {
            Self::Mysql(mysql) => mysql.left() == 0,
            Self::Resp(resp) => resp.is_between(),
        }
    }

    /// Returns how many of the next bytes are known to belong to the packet that
    /// has begun to pass; 0 between packets.
    pub(super) fn left(&self, held: &Buffer) -> usize {
        match self {
            Self::Mysql(mysql) => mysql.left(),
            Self::Resp(resp) => resp.left(held.front(usize::MAX)),
        }
    }

    /// Returns how many of the next bytes are known to belong to the packet that
    /// begins with the first of them; `None` if none begins there or too little
    /// of it is held.
    pub(super) fn next_packet(&self, held: &Buffer) -> Option<usize> {
        match self {
            Self::Mysql(mysql) => mysql.next_packet(held.front(usize::MAX)),
            Self::Resp(resp) => resp.next_packet(held.front(usize::MAX)),
        }
    }
}
