use crate::failure::Result;
use crate::workspace::{Member, Workspace};

/// Checks the feature combinations that a user can meet one by one.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    for member in workspace
        .members()
        .iter()
        .filter(|member| member.publishable || !member.features.is_empty())
    {
        for combination in combinations(member) {
            workspace
                .cargo()
                .args(["clippy", "--locked", "--package", &member.name])
                .args(&combination)
                .args(["--", "-D", "warnings"])
                .status()?;
        }
    }
    Ok(())
}

/// Returns no features, each one alone, and all; equal sets only once.
fn combinations(member: &Member) -> Vec<Vec<String>> {
    let bare = || vec!["--no-default-features".to_owned()];
    let single = member.features.iter().filter(|feature| *feature != "default").map(|feature| {
        let mut args = bare();
        args.extend(["--features".to_owned(), feature.clone()]);
        args
    });
    let mut all: Vec<_> = [bare()].into_iter().chain(single).collect();
    if all.len() > 2 {
        all.push(vec!["--all-features".to_owned()]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(features: &[&str]) -> Member {
        Member {
            name: "trine-a".to_owned(),
            folder: "crates/a".into(),
            publishable: true,
            features: features.iter().map(|feature| (*feature).to_owned()).collect(),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn a_crate_without_features_is_checked_once() {
        assert_eq!(combinations(&member(&["default"])), [["--no-default-features"]]);
    }

    #[test]
    fn each_feature_stands_alone_before_all_of_them() {
        let found = combinations(&member(&["default", "mysql", "sqlite"]));
        let lines: Vec<_> = found.iter().map(|args| args.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "--no-default-features",
                "--no-default-features --features mysql",
                "--no-default-features --features sqlite",
                "--all-features"
            ]
        );
    }
}
