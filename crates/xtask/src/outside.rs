use std::fs;

use crate::failure::{Context, Failure, Result};
use crate::run::Run;
use crate::servers::{Kind, ServerOptions, Servers};
use crate::workspace::Workspace;

const README: &str = "crates/db-shard/README.md";
const PROGRAM: &str = "outside/alone/src/main.rs";

/// Runs the program of the README twice, the second time on the data of the
/// first, and tests the crate that keeps its own pool and the one that has
/// nothing but a cache.
pub(crate) fn run(workspace: &Workspace, options: &ServerOptions) -> Result<()> {
    let read = |name: &str| fs::read_to_string(workspace.root().join(name)).context(name);
    if program_of(&read(README)?) != Some(read(PROGRAM)?.as_str()) {
        return Err(Failure::new(format!("{PROGRAM} is not the program of {README}")));
    }
    let folder = workspace.records().join("outside");
    if folder.exists() {
        fs::remove_dir_all(&folder).context(folder.display())?;
    }
    fs::create_dir_all(&folder).context(folder.display())?;
    let manifest = workspace.root().join("outside/alone/Cargo.toml");
    for expected in ["1 notes\n", "2 notes\n"] {
        let cargo = Run::cargo().args(["run", "--locked", "--manifest-path"]).args([&manifest]);
        let printed = cargo.within(&folder).text()?;
        print!("{printed}");
        if printed != expected {
            return Err(Failure::new(format!("{PROGRAM}: expected {expected:?}")));
        }
    }
    let servers = Servers::provide(options, &[Kind::Database, Kind::Redis])?;
    for name in ["own-pool", "cache-tls"] {
        let mut cargo = Run::cargo().args(["test", "--locked"]);
        for (name, value) in servers.variables() {
            cargo = cargo.env(name, value);
        }
        cargo.within(&workspace.root().join("outside").join(name)).status()?;
    }
    Ok(())
}

/// Returns the first Rust program of a Markdown text.
fn program_of(text: &str) -> Option<&str> {
    let (_, program) = text.split_once("```rust,no_run\n")?;
    Some(program.split_once("```\n")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_is_found_without_its_fences() {
        let text = "# A\n```toml\na = 1\n```\n```rust,no_run\nfn main() {}\n```\nend";
        assert_eq!(program_of(text), Some("fn main() {}\n"));
        assert_eq!(program_of("no program"), None);
    }
}
