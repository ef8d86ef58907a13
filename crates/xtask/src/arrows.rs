use crate::failure::{Failure, Result};
use crate::workspace::{Member, Workspace};

/// The hard edges between service crates, as docs/architecture.md section 1
/// draws them; crates that are planned have their row already.
const SERVICES: [(&str, &[&str]); 12] = [
    ("trine-cache", &["trine-redis"]),
    ("trine-db-shard", &[]),
    ("trine-external", &["trine-redis"]),
    ("trine-lock", &["trine-db-shard", "trine-redis"]),
    ("trine-outbox", &["trine-db-shard"]),
    ("trine-queue", &["trine-db-shard", "trine-redis"]),
    ("trine-redis", &[]),
    ("trine-saga", &["trine-outbox"]),
    ("trine-scheduler", &["trine-db-shard"]),
    ("trine-search", &[]),
    ("trine-storage", &["trine-db-shard"]),
    ("trine-vectordb", &[]),
];

/// Checks every manifest of the workspace.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let wrong = violations(workspace.members());
    if wrong.is_empty() {
        println!(
            "arrows: {} packages depend only along the allowed edges",
            workspace.members().len()
        );
        return Ok(());
    }
    Err(Failure::new(format!(
        "dependencies against docs/architecture.md section 1:\n  {}",
        wrong.join("\n  ")
    )))
}

fn violations(members: &[Member]) -> Vec<String> {
    let mut found = Vec::new();
    for member in members {
        let Some(allowed) = allowed(member) else {
            found.push(format!(
                "{}: a new package needs its row in crates/xtask/src/arrows.rs",
                member.name
            ));
            continue;
        };
        for dependency in &member.dependencies {
            let name = dependency.name.as_str();
            if !(allowed.contains(&name) || dependency.dev && name == "trine-testkit") {
                let kind = if dependency.dev { "dev-dependency" } else { "dependency" };
                found.push(format!(
                    "{} -> {name} ({kind} in {}/Cargo.toml)",
                    member.name,
                    member.folder.display()
                ));
            }
        }
    }
    found
}

/// Returns what `member` may use, or nothing for a package without a place.
fn allowed(member: &Member) -> Option<Vec<&'static str>> {
    let everything =
        || SERVICES.iter().map(|(name, _)| *name).chain(["trine-core", "trine-macros"]);
    if member.folder.starts_with("examples") {
        return Some(everything().chain(["trine", "trine-axum", "trine-console"]).collect());
    }
    Some(match member.name.as_str() {
        "trine-core" | "xtask" => vec![],
        "trine-axum" | "trine-macros" => vec!["trine-core"],
        // Its attribute for tests is written in the macros crate.
        "trine-testkit" => vec!["trine-core", "trine-macros"],
        "trine" => everything().collect(),
        "trine-console" => vec!["trine", "trine-core"],
        name => {
            let (_, edges) = SERVICES.iter().find(|(service, _)| *service == name)?;
            edges.iter().copied().chain(["trine-core", "trine-macros"]).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn member(name: &str, folder: &str, dependencies: &[(&str, bool)]) -> Member {
        let dependencies = dependencies
            .iter()
            .map(|(name, dev)| Dependency { name: (*name).to_owned(), dev: *dev });
        Member {
            name: name.to_owned(),
            folder: folder.into(),
            publishable: true,
            features: Vec::new(),
            dependencies: dependencies.collect(),
        }
    }

    #[test]
    fn a_crate_that_uses_its_own_edges_passes() {
        let house = [
            member(
                "trine-db-shard",
                "crates/db-shard",
                &[("trine-core", false), ("trine-testkit", true)],
            ),
            member(
                "trine-queue",
                "crates/queue",
                &[("trine-redis", false), ("trine-db-shard", false)],
            ),
            member("trine", "crates/container", &[("trine-queue", false)]),
            member(
                "trine-starter",
                "examples/starter",
                &[("trine", false), ("trine-axum", false), ("trine-testkit", true)],
            ),
        ];
        assert_eq!(violations(&house), [""; 0]);
    }

    #[test]
    fn an_arrow_in_the_wrong_direction_is_named_with_its_manifest() {
        let house = [member("trine-core", "crates/core", &[("trine-db-shard", false)])];
        assert_eq!(
            violations(&house),
            ["trine-core -> trine-db-shard (dependency in crates/core/Cargo.toml)"]
        );
    }

    #[test]
    fn services_join_through_ports_and_not_through_manifests() {
        let house = [
            member("trine-cache", "crates/cache", &[("trine-db-shard", false)]),
            member("trine-axum", "crates/axum", &[("trine", true)]),
            member("trine-db-shard", "crates/db-shard", &[("trine-testkit", false)]),
        ];
        assert_eq!(violations(&house).len(), 3);
    }

    #[test]
    fn a_package_without_a_row_is_refused() {
        let house = [member("trine-novelty", "crates/novelty", &[])];
        assert!(violations(&house)[0].contains("needs its row"));
    }
}
