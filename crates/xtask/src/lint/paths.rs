/// The places that differ between machines; written so that this file does not
/// hold them itself.
const PLACES: [&str; 4] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "tmp/"), concat!("/", "home/")];

/// Returns each line number with the absolute path of one machine in it. A part
/// of a longer path or of an address is none: `target/tmp` and
/// `https://example.org/work` stay.
pub(super) fn local(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        let places = PLACES.iter().flat_map(move |place| line.match_indices(place));
        places
            .filter(move |(start, _)| begins(line, *start))
            .map(move |(start, _)| (index + 1, word(line, start)))
    })
}

/// Reports whether a path begins here, rather than going on.
fn begins(line: &str, start: usize) -> bool {
    let before = line.get(..start).and_then(|head| head.chars().next_back());
    before.is_none_or(|before| !before.is_alphanumeric() && !"._-/})>~".contains(before))
}

fn word(line: &str, start: usize) -> &str {
    let rest = line.get(start..).unwrap_or_default();
    rest.split([' ', '"', '\'', '`', ')', ',', '<', '>']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_one_machine_is_found_wherever_it_stands_in_the_line() {
        for place in PLACES {
            let text = format!("first\nsee `{place}x/notes.md`, or {place}y\nTARGET={place}z");
            let found: Vec<_> = local(&text).collect();
            assert_eq!(
                found,
                [
                    (2, format!("{place}x/notes.md").as_str()),
                    (2, &format!("{place}y")),
                    (3, &format!("{place}z"))
                ]
            );
        }
    }

    #[test]
    fn the_middle_of_another_path_is_no_place() {
        for place in PLACES {
            let text =
                format!("target{place}x https://example.org{place}x ${{DIR}}{place}x ~{place}x");
            assert_eq!(local(&text).count(), 0, "{text}");
        }
    }
}
