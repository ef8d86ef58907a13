/// What link checking needs of a Markdown file.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) links: Vec<Link>,
    /// The anchors of the headings.
    pub(super) headings: Vec<String>,
}

/// A link to another place of the checkout.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) line: usize,
    pub(super) target: String,
}

impl Page {
    /// Reads headings and relative links; code is skipped.
    pub(super) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut fence = None;
        for (index, line) in text.lines().enumerate() {
            let start = line.trim_start();
            let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
            match (fence, mark) {
                (None, Some(mark)) => fence = Some(mark),
                (Some(open), Some(mark)) if open == mark => fence = None,
                (Some(_), _) => {}
                (None, None) => page.line(index + 1, line),
            }
        }
        page
    }

    fn line(&mut self, line: usize, text: &str) {
        if let Some(heading) = text.strip_prefix('#') {
            let anchor = anchor(heading.trim_start_matches('#'));
            let same = self.headings.iter().filter(|known| **known == anchor).count();
            self.headings.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
        }
        let text = without_code(text);
        let inline = text
            .match_indices("](")
            .filter_map(|(at, mark)| text.get(at + mark.len()..)?.split(')').next());
        let defined = text.strip_prefix('[').and_then(|rest| Some(rest.split_once("]:")?.1));
        for target in inline.chain(defined) {
            let target = target.split_whitespace().next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !outside {
                self.links.push(Link { line, target: target.to_owned() });
            }
        }
    }
}

/// Returns the anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .chars()
        .filter(|each| each.is_alphanumeric() || matches!(each, ' ' | '-' | '_'));
    kept.map(|each| if each == ' ' { '-' } else { each.to_ascii_lowercase() }).collect()
}

/// Blanks what stands between backticks.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<String> {
        Page::parse(text).links.into_iter().map(|link| link.target).collect()
    }

    #[test]
    fn relative_links_are_read_and_code_is_not() {
        let text = "[a](x.md \"title\") and `[b](no.md)` and ![c](d.png)\n```rust\n[e](no.md)\n```\n[f]: y.md\n";
        assert_eq!(targets(text), ["x.md", "d.png", "y.md"]);
    }

    #[test]
    fn headings_become_the_anchors_that_the_host_makes() {
        let page =
            Page::parse("# Two commands\n## What is `new`?\n## What is new\n# 1. The house\n");
        assert_eq!(page.headings, ["two-commands", "what-is-new", "what-is-new-1", "1-the-house"]);
    }
}
