mod paths;

use std::path::Path;

use crate::arrows;
use crate::failure::{Failure, Result};
use crate::run::Run;
use crate::workspace::Workspace;

type Check = fn(&Workspace) -> Result<()>;

/// Runs every check in order of cost, so that one run shows all there is to
/// mend.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let checks: [(&str, Check); 6] = [
        ("fmt", format),
        ("typos", typos),
        ("arrows", arrows::run),
        ("paths", local_paths),
        ("locks", locks),
        ("clippy", clippy),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(failure) = check(workspace) {
            eprintln!("{name}: {failure}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("lint: {} failed", failed.join(", "))))
}

fn format(workspace: &Workspace) -> Result<()> {
    workspace.cargo().args(["fmt", "--all", "--", "--check"]).status()
}

/// Checks the spelling where the tool is installed; the GitHub workflow always
/// has it.
fn typos(workspace: &Workspace) -> Result<()> {
    if !Run::new("typos").args(["--version"]).succeeds() {
        println!("typos: not installed, left to the GitHub workflow");
        return Ok(());
    }
    Run::new("typos").within(workspace.root()).status()
}

fn clippy(workspace: &Workspace) -> Result<()> {
    workspace
        .cargo()
        .args(["clippy", "--workspace", "--all-targets", "--all-features", "--locked"])
        .args(["--", "-D", "warnings"])
        .status()
}

/// Checks that the lock files of the workspaces of their own follow the
/// manifests here that they build on.
fn locks(workspace: &Workspace) -> Result<()> {
    let files = workspace.files()?;
    let mut behind = Vec::new();
    for file in files.iter().filter(|file| file.ends_with("Cargo.lock")) {
        let Some(folder) = file.parent().filter(|folder| *folder != Path::new("")) else {
            continue;
        };
        let update = Run::cargo().args(["update", "--workspace", "--locked", "--quiet"]);
        if update.within(&workspace.root().join(folder)).status().is_err() {
            behind.push(file.display().to_string());
        }
    }
    if behind.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "behind their manifests: {}; run `cargo update --workspace` beside each",
        behind.join(", ")
    )))
}

fn local_paths(workspace: &Workspace) -> Result<()> {
    let mut found = Vec::new();
    let files = workspace.files()?;
    for file in &files {
        // What is not UTF-8 is no text to read.
        let Ok(text) = std::fs::read_to_string(workspace.root().join(file)) else {
            continue;
        };
        found.extend(
            paths::local(&text).map(|(line, path)| format!("{}:{line}: {path}", file.display())),
        );
    }
    if found.is_empty() {
        println!("paths: {} files name no place of one machine", files.len());
        return Ok(());
    }
    Err(Failure::new(format!(
        "committed files name places of one machine:\n  {}",
        found.join("\n  ")
    )))
}
