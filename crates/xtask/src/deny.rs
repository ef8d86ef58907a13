use crate::failure::{Failure, Result};
use crate::run::Run;
use crate::workspace::Workspace;

/// Checks what the lock file holds against deny.toml, without the network.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    if !Run::cargo().args(["deny", "--version"]).succeeds() {
        return Err(Failure::new(
            "cargo-deny is not installed; run: cargo install cargo-deny --locked",
        ));
    }
    workspace
        .cargo()
        .args(["deny", "--all-features", "--locked", "check", "licenses", "bans", "sources"])
        .status()
}
