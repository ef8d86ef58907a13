//! Bytes that are held back.

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
