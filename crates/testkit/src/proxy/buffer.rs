//! Bytes that are held back, and where packets begin among them.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Bytes in the order and with the times of their arrival.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: VecDeque<u8>,
    arrivals: VecDeque<(Instant, usize)>,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn push(&mut self, bytes: &[u8], now: Instant) {
        self.bytes.extend(bytes);
        // A packet that is there as a whole is to leave in one write.
        self.bytes.make_contiguous();
        self.arrivals.push_back((now, bytes.len()));
    }

    /// Returns the first bytes, at most `most`.
    pub(super) fn front(&self, most: usize) -> &[u8] {
        let (front, _) = self.bytes.as_slices();
        front.get(..most.min(front.len())).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
        let mut count = count;
        while let Some((_, arrived)) = self.arrivals.front_mut() {
            if *arrived > count {
                *arrived -= count;
                break;
            }
            count -= *arrived;
            self.arrivals.pop_front();
        }
    }

    /// Returns when the first byte arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.arrivals.front().map(|(arrived, _)| *arrived)
    }

    /// Returns how many bytes arrived at `instant` or earlier.
    pub(super) fn arrived_before(&self, instant: Option<Instant>) -> usize {
        let Some(instant) = instant else { return 0 };
        let due = self.arrivals.iter().take_while(|(arrived, _)| *arrived <= instant);
        due.map(|(_, count)| count).sum()
    }
}

/// Follows the packets of the MySQL protocol: three bytes of length, lowest
/// first, one of sequence, then so many of payload.
#[derive(Debug, Default)]
pub(super) struct Framing {
    header: [u8; 4],
    header_len: usize,
    payload_left: usize,
}

impl Framing {
    const HEADER: usize = 4;

    /// Follows `bytes`, which have passed.
    pub(super) fn advance(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            if let Some(slot) = self.header.get_mut(self.header_len) {
                *slot = *first;
            }
            self.header_len += 1;
            bytes = rest;
            if self.header_len == Self::HEADER {
                self.header_len = 0;
                self.payload_left = payload(self.header);
            }
        }
    }

    /// Returns how many bytes are known to belong to the packet that has begun
    /// to pass; 0 between packets.
    pub(super) fn left(&self) -> usize {
        match self.header_len {
            0 => self.payload_left,
            // The payload's length shows once the header is complete.
            begun => Self::HEADER - begun,
        }
    }

    /// Returns the size of the packet that begins with the first byte of
    /// `held`, if that is where one begins and its header is there.
    pub(super) fn next_packet(&self, held: &Buffer) -> Option<usize> {
        if self.left() > 0 || held.len() < Self::HEADER {
            return None;
        }
        let mut header = [0; Self::HEADER];
        for (slot, byte) in header.iter_mut().zip(&held.bytes) {
            *slot = *byte;
        }
        Some(Self::HEADER + payload(header))
    }
}

fn payload(header: [u8; 4]) -> usize {
    let [low, middle, high, _sequence] = header;
    usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packet(length: usize) -> Vec<u8> {
        let [low, middle, high, ..] = u32::try_from(length).unwrap().to_le_bytes();
        let mut packet = vec![low, middle, high, 0];
        packet.resize(4 + length, b'x');
        packet
    }

    #[test]
    fn packets_are_followed_whatever_the_pieces() {
        let stream: Vec<u8> = [0, 1, 300, 70_000].into_iter().flat_map(packet).collect();
        for piece in [1, 3, 4, 5, 1_000, stream.len()] {
            let mut framing = Framing::default();
            for bytes in stream.chunks(piece) {
                framing.advance(bytes);
            }
            assert_eq!(framing.left(), 0, "pieces of {piece}");
        }
        let mut framing = Framing::default();
        framing.advance(&stream[..4 + 4 + 1 + 2]);
        assert_eq!(framing.left(), 2, "the rest of a header");
    }

    #[test]
    fn the_next_packet_is_known_once_its_header_is_there() {
        let (mut held, framing) = (Buffer::default(), Framing::default());
        let now = Instant::now();
        held.push(&packet(300)[..3], now);
        assert_eq!(framing.next_packet(&held), None);
        held.push(&packet(300)[3..4], now);
        assert_eq!(framing.next_packet(&held), Some(304));
    }

    #[test]
    fn bytes_are_due_by_their_arrival() {
        let (mut held, start) = (Buffer::default(), Instant::now());
        let later = start + Duration::from_secs(1);
        held.push(b"abc", start);
        held.push(b"de", later);
        assert_eq!(held.arrived_before(Some(start)), 3);
        assert_eq!(held.arrived_before(Some(later)), 5);
        assert_eq!(held.arrived_before(None), 0);
        held.consume(4);
        assert_eq!((held.oldest(), held.arrived_before(Some(later))), (Some(later), 1));
    }
}
