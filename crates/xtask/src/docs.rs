mod links;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use self::links::Page;
use crate::failure::{Context, Failure, Result};
use crate::workspace::Workspace;

/// Builds the documentation, private items too, and checks the links between
/// the Markdown files of the checkout.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    // Cargo shows its own complaints, so that both kinds are seen in one run.
    let documentation = workspace
        .cargo()
        .args(["doc", "--workspace", "--no-deps", "--all-features"])
        .args(["--document-private-items", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .status();
    check_links(workspace)?;
    documentation
}

fn check_links(workspace: &Workspace) -> Result<()> {
    let mut pages = BTreeMap::new();
    for file in workspace
        .files()?
        .into_iter()
        .filter(|file| file.extension().is_some_and(|end| end == "md"))
    {
        let text = fs::read_to_string(workspace.root().join(&file)).context(file.display())?;
        pages.insert(file, Page::parse(&text));
    }
    let broken = broken(&pages, |path| workspace.root().join(path).exists());
    if broken.is_empty() {
        println!("links: {} Markdown files point at what exists", pages.len());
        return Ok(());
    }
    Err(Failure::new(format!("broken links:\n  {}", broken.join("\n  "))))
}

fn broken(pages: &BTreeMap<PathBuf, Page>, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (file, page) in pages {
        for link in &page.links {
            let (path, heading) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let target = if path.is_empty() { Some(file.clone()) } else { resolve(file, path) };
            let known = target.as_ref().is_some_and(|target| exists(target));
            let page = target.as_ref().and_then(|target| pages.get(target));
            let has_heading = heading.is_empty()
                || page.is_none_or(|page| page.headings.iter().any(|name| name == heading));
            if !known || !has_heading {
                found.push(format!("{}:{}: {}", file.display(), link.line, link.target));
            }
        }
    }
    found
}

/// Returns the place of `path`, seen from the folder of `file`, or nothing if
/// it leaves the checkout.
fn resolve(file: &Path, path: &str) -> Option<PathBuf> {
    let mut place = file.parent()?.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir if place.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<String> {
        let pages = [("docs/a.md", text), ("README.md", "# Trine\n\n## Two commands\n")];
        let pages = pages.map(|(name, text)| (PathBuf::from(name), Page::parse(text)));
        let pages = BTreeMap::from(pages);
        broken(&pages, |path| pages.contains_key(path) || path == Path::new("docs"))
    }

    #[test]
    fn links_to_files_folders_and_headings_that_exist_pass() {
        let text = "# A\n[up](../README.md) [part](../README.md#two-commands) [own](#a) [here](.) [web](https://example.org/x)\n";
        assert_eq!(check(text), [""; 0]);
    }

    #[test]
    fn a_missing_file_or_heading_is_named_with_its_line() {
        let text = "[x](b.md)\n\n[y](../README.md#three)\n[z](../../outside.md)\n";
        assert_eq!(
            check(text),
            [
                "docs/a.md:1: b.md",
                "docs/a.md:3: ../README.md#three",
                "docs/a.md:4: ../../outside.md"
            ]
        );
    }
}
