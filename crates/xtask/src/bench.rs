use clap::Args;

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs only this bench of crates/bench.
    name: Option<String>,
    /// Asks the benches for their short form.
    #[arg(long)]
    quick: bool,
    /// Handed to the bench as they are.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs the benches, which are a workspace of their own with their own lock
/// file, so that peers to compare with never enter anybody's build.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let folder = workspace.root().join("crates/bench");
    if !folder.join("Cargo.toml").is_file() {
        return Err(Failure::new(
            "crates/bench does not exist in this checkout: there is nothing to measure",
        ));
    }
    let mut cargo = workspace.cargo().within(&folder).args(["bench", "--locked"]);
    if let Some(name) = &options.name {
        cargo = cargo.args(["--bench", name]);
    }
    cargo = cargo.args(["--"]).args(&options.args);
    if options.quick {
        cargo = cargo.args(["--quick"]);
    }
    cargo.status()
}
