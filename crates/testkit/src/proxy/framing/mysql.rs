//! The MySQL protocol: three bytes of length, lowest first, one of sequence,
//! then so many of payload.

/// Follows packets.
#[derive(Debug, Default)]
pub(in super::super) struct Mysql {
    header: [u8; 4],
    header_len: usize,
    payload_left: usize,
}

impl Mysql {
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

    /// Returns the size of the packet that begins with the first of the bytes
    /// to come, if that is where one begins and its header is there.
    pub(super) fn next_packet(&self, to_come: &[u8]) -> Option<usize> {
        let header = to_come.first_chunk().filter(|_| self.left() == 0)?;
        Some(Self::HEADER + payload(*header))
    }
}

fn payload(header: [u8; 4]) -> usize {
    let [low, middle, high, _sequence] = header;
    usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16
}

#[cfg(test)]
mod tests {
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
            let mut framing = Mysql::default();
            for bytes in stream.chunks(piece) {
                framing.advance(bytes);
            }
            assert_eq!(framing.left(), 0, "pieces of {piece}");
        }
        let mut framing = Mysql::default();
        framing.advance(&stream[..4 + 4 + 1 + 2]);
        assert_eq!(framing.left(), 2, "the rest of a header");
    }

    #[test]
    fn the_next_packet_is_known_once_its_header_is_there() {
        let (packet, framing) = (packet(300), Mysql::default());
        assert_eq!(framing.next_packet(&packet[..3]), None);
        assert_eq!(framing.next_packet(&packet[..4]), Some(304));
    }
}
