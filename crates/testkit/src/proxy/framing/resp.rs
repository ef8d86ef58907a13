//! The protocol of Redis: a packet is one reply or command with all its
//! elements, however deep they are.

/// Most of a line that is kept: a type and a number.
const MOST_KEPT: usize = 24;

/// Follows packets.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Resp {
    /// Elements of the packet that have not begun.
    to_come: u64,
    /// The beginning of a line that has not ended.
    line: Vec<u8>,
    /// Bytes of a value that have not passed, its end of line with them.
    value_left: usize,
}

impl Resp {
    /// Follows `bytes`, which have passed.
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let taken = self.advance_in_packet(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Follows the part of `bytes` that belongs to one packet, and returns how
    /// many those are: at least one.
    fn advance_in_packet(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.value_left > 0 {
                let skipped = self.value_left.min(bytes.len() - at);
                self.value_left -= skipped;
                at += skipped;
            } else {
                at += 1;
                if *byte != b'\n' {
                    if self.line.len() < MOST_KEPT {
                        self.line.push(*byte);
                    }
                    continue;
                }
                self.end_line();
            }
            if self.is_between() {
                break;
            }
        }
        at
    }

    /// One element has begun with this line.
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let (kind, count) = line.split_first().map_or((b'+', None), |(kind, rest)| {
            let text = std::str::from_utf8(rest).unwrap_or_default();
            // What is negative stands for nothing.
            (*kind, text.trim_end().parse::<u64>().ok())
        });
        let (elements, value) = match (kind, count) {
            (b'*' | b'~' | b'>', Some(count)) => (count, None),
            (b'%', Some(count)) => (count.saturating_mul(2), None),
            // What they say about follows them.
            (b'|', Some(count)) => (count.saturating_mul(2).saturating_add(1), None),
            (b'$' | b'!' | b'=', Some(count)) => (0, usize::try_from(count).ok()),
            _ => (0, None),
        };
        self.to_come = self.to_come.saturating_sub(1).saturating_add(elements);
        self.value_left = value.map_or(0, |length| length.saturating_add(2));
    }

    pub(super) fn is_between(&self) -> bool {
        self.to_come == 0 && self.line.is_empty() && self.value_left == 0
    }

    /// Returns how many of the bytes to come belong to the packet that has begun
    /// to pass.
    pub(super) fn left(&self, to_come: &[u8]) -> usize {
        if self.is_between() { 0 } else { self.clone().advance_in_packet(to_come).max(1) }
    }

    /// Returns how many of the bytes to come belong to the packet that begins
    /// with them.
    pub(super) fn next_packet(&self, to_come: &[u8]) -> Option<usize> {
        let begins = self.is_between() && !to_come.is_empty();
        begins.then(|| self.clone().advance_in_packet(to_come))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKETS: [&[u8]; 12] = [
        b"+OK\r\n",
        b"-ERR no such\r\n",
        b":-12\r\n",
        b"$0\r\n\r\n",
        b"$7\r\n*1\r\n+a\n\r\n",
        b"$-1\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n*1\r\n$2\r\nbc\r\n$-1\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n*2\r\n_\r\n#t\r\n",
        b"|1\r\n+ttl\r\n:9\r\n$3\r\nabc\r\n",
        b">2\r\n+message\r\n=5\r\ntxt:x\r\n",
    ];

    #[test]
    fn packets_are_followed_whatever_the_pieces() {
        let stream = PACKETS.concat();
        for piece in [1, 2, 3, 7, 1_000] {
            let mut resp = Resp::default();
            for bytes in stream.chunks(piece) {
                resp.advance(bytes);
            }
            assert!(resp.is_between(), "pieces of {piece}: {resp:?}");
        }
    }

    #[test]
    fn a_packet_ends_with_its_last_element() {
        for (at, packet) in PACKETS.iter().enumerate() {
            let held = PACKETS[at..].concat();
            let mut resp = Resp::default();
            assert_eq!(resp.next_packet(&held), Some(packet.len()), "packet {at}");
            for passed in 1..packet.len() {
                resp.advance(&packet[passed - 1..passed]);
                assert!(!resp.is_between(), "packet {at} after {passed} bytes");
                assert_eq!(resp.next_packet(&held[passed..]), None);
                assert_eq!(resp.left(&held[passed..]), packet.len() - passed, "packet {at}");
            }
            assert_eq!(resp.left(&[]), 1, "more is to come, nobody knows how much");
            resp.advance(&packet[packet.len() - 1..]);
            assert_eq!((resp.is_between(), resp.left(&held)), (true, 0), "packet {at}");
        }
    }

    #[test]
    fn a_packet_may_be_larger_than_what_is_held() {
        let resp = Resp::default();
        assert_eq!(resp.next_packet(b""), None);
        assert_eq!(resp.next_packet(b"$1000\r\nab"), Some(9));
        assert_eq!(resp.next_packet(b"*100\r\n+a\r\n"), Some(10));
    }
}
