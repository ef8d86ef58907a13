use std::time::Duration;

use trine_core::{BoxError, Claim, Fence};

use crate::Key;

/// How many hashes the keys of an instance are spread over.
pub(super) const TAGS: u16 = 256;

/// Which of the hashes has the record of a key: FNV-1a of 64 bits, the bytes of
/// the result xored. Part of what is stored: never to be changed.
pub(super) fn tag(key: &str) -> u16 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    u16::from(hash.to_le_bytes().into_iter().fold(0, |all, byte| all ^ byte))
}

/// Returns the fence of a grant; `slot` is the number of a permit.
pub(super) fn fence(
    name: &str,
    key: &str,
    slot: Option<u32>,
    token: u64,
) -> Result<Fence, BoxError> {
    let text = match slot {
        Some(slot) => format!("{name}/{key}#{slot}"),
        None => format!("{name}/{key}"),
    };
    Ok(Fence::new(text, token)?)
}

/// Returns the key of a fence that the locks called `name` have made, and the
/// number if it is of a permit.
pub(super) fn locked<'a>(name: &str, fence: &'a Fence) -> Option<(&'a str, Option<&'a str>)> {
    let rest = fence.key().strip_prefix(name)?.strip_prefix('/')?;
    Some(match rest.split_once('#') {
        Some((key, slot)) => (key, Some(slot)),
        None => (rest, None),
    })
}

/// Returns the field of a key.
pub(super) fn field(key: &str) -> String {
    ["k:", key].concat()
}

/// A claim with its place in a batch, its key, and the number if it is of a
/// permit.
pub(super) struct Placed<'a> {
    pub(super) place: usize,
    pub(super) claim: &'a Claim,
    pub(super) key: &'a str,
    pub(super) slot: Option<&'a str>,
}

impl Placed<'_> {
    /// Returns which grant of the key is meant.
    pub(super) fn text(&self) -> String {
        let token = self.claim.fence().token();
        match self.slot {
            Some(slot) => format!("{token}#{slot}"),
            None => format!("{token}P"),
        }
    }
}

/// Returns what fields of keys that begin with `prefix` look like.
pub(super) fn pattern(prefix: &str) -> String {
    let mut pattern = String::from("k:");
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

/// What is published to a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    Free { key: Key, lane: u64 },
    Later { key: Key, lane: u64, retry_in: Duration },
    Lost(Fence),
}

impl Word {
    /// Reads a message to a process of the locks called `name`; `None` for one
    /// that another version sends, or a stranger.
    pub(super) fn read(name: &str, payload: &[u8]) -> Option<Self> {
        let (kind, rest) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
        let (number, rest) = rest.split_once(' ')?;
        let number = number.parse().ok()?;
        match kind {
            "free" => Some(Self::Free { key: Key::new(rest).ok()?, lane: number }),
            "later" => {
                let (micros, key) = rest.split_once(' ')?;
                let retry_in = Duration::from_micros(micros.parse().ok()?);
                Some(Self::Later { key: Key::new(key).ok()?, lane: number, retry_in })
            }
            "lost" => {
                let (slot, key) = rest.split_once(' ')?;
                let slot = if slot == "-1" { None } else { Some(slot.parse().ok()?) };
                fence(name, key, slot, number).ok().map(Self::Lost)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_key_stays_where_it_is() {
        assert_eq!([tag("a"), tag("order:42"), tag("ключ")], [187, 167, 105]);
    }

    #[test]
    fn keys_are_spread_evenly() {
        let mut counts = HashMap::new();
        for id in 0..25_600 {
            *counts.entry(tag(&format!("order:{id}"))).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), usize::from(TAGS));
        assert!(counts.values().all(|count| (50..200).contains(count)), "{counts:?}");
    }

    #[test]
    fn words_are_read_and_those_of_strangers_are_not() {
        let free = Word::Free { key: Key::new("a b").unwrap(), lane: 7 };
        assert_eq!(Word::read("l.d", b"free 7 a b"), Some(free));
        let (key, retry_in) = (Key::new("a b").unwrap(), Duration::from_micros(5));
        let later = Word::Later { key, lane: 7, retry_in };
        assert_eq!(Word::read("l.d", b"later 7 5 a b"), Some(later));
        let lost = |key: &str| Some(Word::Lost(Fence::new(key, 9).unwrap()));
        assert_eq!(Word::read("l.d", b"lost 9 -1 a b"), lost("l.d/a b"));
        assert_eq!(Word::read("l.d", b"lost 9 3 k"), lost("l.d/k#3"));
        for text in ["", "free", "free x k", "lost 9 k", "lost 0 -1 k", "moved 1 k"] {
            assert_eq!(Word::read("l.d", text.as_bytes()), None, "{text}");
        }
        assert_eq!(Word::read("l.d", b"\xff 1 k"), None);
    }

    #[test]
    fn a_fence_leads_to_its_key() {
        let fence = fence("l.d", "k", Some(3), 1).unwrap();
        assert_eq!(locked("l.d", &fence), Some(("k", Some("3"))));
        assert_eq!(locked("l.x", &fence), None);
        let plain = Fence::new("l.d/a/b", 1).unwrap();
        assert_eq!(locked("l.d", &plain), Some(("a/b", None)));
    }
}
