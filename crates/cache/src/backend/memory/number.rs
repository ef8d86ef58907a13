/// Returns the number that `text` writes as stores of this kind do: decimal
/// digits, a minus at most, and no sign, zero or space that could be left out.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_canonical = match digits {
        b"0" => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Why a number could not be added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSum {
    NotANumber,
    Overflow,
}

impl NoSum {
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::NotANumber => "the stored value is not a 64-bit decimal number",
            Self::Overflow => "the sum does not fit 64 bits",
        }
    }
}

/// Returns what `text` writes, or 0 if there is none, plus `by`.
pub(super) fn sum(text: Option<&[u8]>, by: i64) -> Result<i64, NoSum> {
    let number = text.map_or(Some(0), parse).ok_or(NoSum::NotANumber)?;
    number.checked_add(by).ok_or(NoSum::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_decimals_are_numbers() {
        for (text, number) in [
            ("0", 0),
            ("7", 7),
            ("-7", -7),
            ("10", 10),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(number), "{text}");
        }
        for text in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "-0",
            "00",
            "-01",
            "1.0",
            "1e3",
            "0x1",
            "a",
            "--1",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "1\n",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_sum_stays_within_64_bits() {
        assert_eq!(sum(None, -3), Ok(-3));
        assert_eq!(sum(Some(b"5"), -7), Ok(-2));
        assert_eq!(sum(Some(b"9223372036854775807"), 1), Err(NoSum::Overflow));
        assert_eq!(sum(Some(b"-1"), i64::MIN), Err(NoSum::Overflow));
        assert_eq!(sum(Some(b"x"), 1), Err(NoSum::NotANumber));
    }
}
