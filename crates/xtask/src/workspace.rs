use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use serde_json::Value;

use crate::failure::{Context, Failure, Result};
use crate::run::Run;

/// What `cargo metadata` says about the checkout.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    members: Vec<Member>,
}

/// A package of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The folder below the root, such as `crates/core`.
    pub(crate) folder: PathBuf,
    pub(crate) publishable: bool,
    pub(crate) features: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a member's manifest that names a package of this checkout.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Whether only tests, examples and benches use it.
    pub(crate) dev: bool,
}

impl Workspace {
    /// Asks cargo for the workspace around the current folder.
    pub(crate) fn load() -> Result<Self> {
        let text = Run::cargo().args(["metadata", "--no-deps", "--format-version=1"]).text()?;
        let value: Value = serde_json::from_str(&text).context("cargo metadata")?;
        Self::parse(&value)
            .ok_or_else(|| Failure::new("cargo metadata has another shape than expected"))
    }

    fn parse(value: &Value) -> Option<Self> {
        let root = PathBuf::from(value.get("workspace_root")?.as_str()?);
        let target = PathBuf::from(value.get("target_directory")?.as_str()?);
        let packages = value.get("packages")?.as_array()?;
        let members =
            packages.iter().map(|package| Member::parse(package, &root)).collect::<Option<_>>()?;
        Some(Self { root, target, members })
    }

    /// Returns the folder of the workspace manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder where this tool keeps its records between commands.
    pub(crate) fn records(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// Returns the packages in cargo's order.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns a cargo command line that runs at the root.
    pub(crate) fn cargo(&self) -> Run {
        Run::cargo().within(&self.root)
    }

    /// Returns the files that are, or would be, committed: those that no
    /// `.gitignore` names. An unpacked archive, which has no `.git`, will do.
    ///
    /// # Errors
    ///
    /// Fails if a folder cannot be read.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let mut walk = WalkBuilder::new(&self.root);
        walk.standard_filters(false).git_ignore(true).require_git(false);
        walk.filter_entry(|entry| entry.file_name() != ".git");
        let mut files = Vec::new();
        for entry in walk.build() {
            let entry = entry.context("files of the checkout")?;
            if entry.file_type().is_some_and(|kind| kind.is_file()) {
                let path = entry.path();
                files.push(path.strip_prefix(&self.root).unwrap_or(path).to_owned());
            }
        }
        files.sort();
        Ok(files)
    }

    /// Returns the source folder of a locked dependency.
    pub(crate) fn source_of(&self, package: &str) -> Option<PathBuf> {
        let text = self.cargo().args(["metadata", "--locked", "--format-version=1"]).text().ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let packages = value.get("packages")?.as_array()?;
        let found =
            packages.iter().find(|each| each.get("name").is_some_and(|name| name == package))?;
        let manifest = Path::new(found.get("manifest_path")?.as_str()?);
        Some(manifest.parent()?.to_owned())
    }
}

impl Member {
    fn parse(package: &Value, root: &Path) -> Option<Self> {
        let manifest = Path::new(package.get("manifest_path")?.as_str()?);
        let folder = manifest.parent()?;
        let dependencies = package.get("dependencies")?.as_array()?;
        Some(Self {
            name: package.get("name")?.as_str()?.to_owned(),
            folder: folder.strip_prefix(root).unwrap_or(folder).to_owned(),
            publishable: package
                .get("publish")
                .is_none_or(|publish| publish.as_array().is_none_or(|to| !to.is_empty())),
            features: package.get("features")?.as_object()?.keys().cloned().collect(),
            dependencies: dependencies.iter().filter_map(Dependency::parse).collect(),
        })
    }
}

impl Dependency {
    fn parse(value: &Value) -> Option<Self> {
        value.get("path")?.as_str()?;
        Some(Self {
            name: value.get("name")?.as_str()?.to_owned(),
            dev: value.get("kind").is_some_and(|kind| kind == "dev"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_read_with_only_the_dependencies_of_this_checkout() {
        let value = json!({
            "workspace_root": "/house", "target_directory": "/house/target",
            "packages": [
                {"name": "trine-a", "manifest_path": "/house/crates/a/Cargo.toml", "publish": null, "features": {"mysql": []},
                 "dependencies": [
                    {"name": "serde", "kind": null},
                    {"name": "trine-b", "kind": "dev", "path": "/house/crates/b"}]},
                {"name": "tool", "manifest_path": "/house/crates/tool/Cargo.toml", "publish": [], "features": {}, "dependencies": []},
            ],
        });
        let workspace = Workspace::parse(&value).unwrap();
        let [first, tool] = workspace.members() else { panic!("{workspace:?}") };
        assert_eq!(first.folder, Path::new("crates/a"));
        assert!(first.publishable && !tool.publishable);
        assert_eq!(first.features, ["mysql"]);
        assert_eq!(first.dependencies.len(), 1);
        assert!(first.dependencies[0].dev);
    }

    #[test]
    fn files_are_found_without_git_and_ignored_ones_are_left_out() {
        let root = std::env::temp_dir().join(format!("trine-xtask-{}", std::process::id()));
        for file in ["src/a.rs", "target/b.rs", ".github/c.yml", ".git/config"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(root.join(".gitignore"), "/target\n").unwrap();
        let workspace = Workspace { root: root.clone(), target: root.clone(), members: Vec::new() };
        let files = workspace.files();
        fs::remove_dir_all(&root).unwrap();
        let expected = [".github/c.yml", ".gitignore", "src/a.rs"].map(PathBuf::from);
        assert_eq!(files.unwrap(), expected);
    }
}
