use std::ops::Range;

/// Returns the places from `start` to `stop` of `len`, both included; negative
/// ones count from the end, and those outside are left out.
pub(super) fn places(start: i64, stop: i64, len: usize) -> Range<usize> {
    let first = from_start(start, len).max(0);
    let last = from_start(stop, len);
    let end = usize::try_from(last.saturating_add(1)).unwrap_or(0).min(len);
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    if first < end { first..end } else { 0..0 }
}

/// Returns the one place `index` of `len`.
pub(super) fn place(index: i64, len: usize) -> Option<usize> {
    usize::try_from(from_start(index, len)).ok().filter(|place| *place < len)
}

/// Returns the places counted from the other side.
pub(super) fn mirrored(places: &Range<usize>, len: usize) -> Range<usize> {
    len - places.end..len - places.start
}

fn from_start(index: i64, len: usize) -> i64 {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    if index < 0 { index.saturating_add(len) } else { index }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_places_count_from_the_end_and_the_rest_is_cut() {
        for (start, stop, expected) in [
            (0, -1, 0..5),
            (1, 3, 1..4),
            (-2, -1, 3..5),
            (-9, 1, 0..2),
            (3, 99, 3..5),
            (i64::MIN, i64::MAX, 0..5),
            (0, i64::MIN, 0..0),
            (3, 2, 0..0),
            (5, 9, 0..0),
            (0, -6, 0..0),
        ] {
            assert_eq!(places(start, stop, 5), expected, "{start} {stop}");
        }
        assert_eq!(places(0, -1, 0), 0..0);
        assert_eq!(
            [place(0, 3), place(-1, 3), place(3, 3), place(-4, 3)],
            [Some(0), Some(2), None, None]
        );
    }
}
