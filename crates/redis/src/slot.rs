mod set;

pub(crate) use set::SlotSet;

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// Returns the slot of `key`: what a cluster routes it by.
#[must_use]
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// Returns what decides the slot: what stands between the first `{` and the
/// next `}` if that is not empty, else the whole key.
#[must_use]
pub(crate) fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let (_, rest) = key.split_at(open + 1);
    match rest.iter().position(|byte| *byte == b'}') {
        Some(close) if close > 0 => rest.split_at(close).0,
        _ => key,
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let index = usize::from((crc >> 8) as u8 ^ byte);
        (crc << 8) ^ TABLE.get(index).copied().unwrap_or_default()
    })
}

const TABLE: [u16; 256] = table();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_server() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, expected) in [("foo", 12_182), ("bar", 5_061), ("{foo}bar", 12_182), ("", 0)] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn the_first_braces_with_something_between_them_are_the_tag() {
        for (key, tag) in [
            ("a{b}c", "b"),
            ("{b}{c}", "b"),
            ("a{}c{d}", "a{}c{d}"),
            ("a{b", "a{b"),
            ("a}b{c}", "c"),
            ("a{{b}}", "{b"),
            ("plain", "plain"),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }
}
