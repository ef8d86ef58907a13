use std::collections::BTreeSet;
use std::sync::Arc;

use trine_core::{MigrationScope, MigrationSet, MigrationStep};

use super::report::AppliedStep;
use crate::error::At;
use crate::sql::{Shape, TEMPORARY, Verb};
use crate::{DatabaseName, Engine, Error, Result, StatementText};

/// The part that a database plays for migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Global,
    Shard,
    /// The only one there is, of a host's own.
    Only,
}

impl Part {
    fn takes(self, scope: MigrationScope) -> bool {
        match scope {
            MigrationScope::Global => matches!(self, Self::Global | Self::Only),
            MigrationScope::Shards => matches!(self, Self::Shard | Self::Only),
            MigrationScope::Everywhere => true,
        }
    }
}

/// A step as one database takes it.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) owner: Box<str>,
    pub(super) version: u32,
    pub(super) name: Box<str>,
    /// In hexadecimal: SQLite has no integer of 64 bits without a sign.
    pub(super) fingerprint: Box<str>,
    pub(super) statements: Vec<PlannedStatement>,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedStatement {
    pub(super) text: StatementText,
    /// Whether it changes the schema: some engines commit it by itself.
    pub(super) is_schema: bool,
}

impl Planned {
    /// Longest name in characters.
    const MAX_NAME: usize = 255;

    pub(super) fn applied(&self) -> AppliedStep {
        AppliedStep { owner: self.owner.clone(), version: self.version, name: self.name.clone() }
    }

    /// Returns how many statements there are, as the table has it.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.statements.len()).unwrap_or(u32::MAX)
    }
}

/// Returns the steps that belong to the database, in the order of the sets.
///
/// # Errors
///
/// Fails with `Invalid` for everything that could not be applied, before
/// anything is.
pub(super) fn plan(
    sets: &[MigrationSet],
    part: Part,
    engine: Engine,
    database: &DatabaseName,
) -> Result<Vec<Planned>> {
    let mut steps = Vec::new();
    let mut problems = Vec::new();
    let mut owners = BTreeSet::new();
    for set in sets.iter().filter(|set| part.takes(set.scope())) {
        if !owners.insert(set.owner()) {
            problems.push(format!("two sets of owner `{}`", set.owner()));
        }
        for step in set.steps() {
            match planned(set.owner(), step, engine) {
                Ok(step) => steps.push(step),
                Err(problem) => {
                    problems.push(format!("{} {}: {problem}", set.owner(), step.version()));
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(steps)
    } else {
        let detail = format!("migrations: {}", problems.join("; "));
        Err(Error::invalid(At::new("migrate", database), detail))
    }
}

fn planned(owner: &str, step: &MigrationStep, engine: Engine) -> Result<Planned, String> {
    if step.name().chars().count() > Planned::MAX_NAME {
        return Err(format!("its name has more than {} characters", Planned::MAX_NAME));
    }
    let texts = step.statements(engine.as_str()).unwrap_or_default();
    if texts.is_empty() {
        return Err(format!("it has no statements for {engine}"));
    }
    let mut statements = Vec::with_capacity(texts.len());
    for (text, number) in texts.iter().zip(1..) {
        let shape = Shape::of(text, engine);
        if let Some(refusal) = refusal(&shape) {
            return Err(format!("statement {number}: {refusal}"));
        }
        statements.push(PlannedStatement {
            text: StatementText::dynamic(Arc::from(&**text)),
            is_schema: shape.verb == Verb::Schema,
        });
    }
    Ok(Planned {
        owner: owner.into(),
        version: step.version(),
        name: step.name().into(),
        fingerprint: format!("{:016x}", step.fingerprint(engine.as_str())).into(),
        statements,
    })
}

fn refusal(shape: &Shape) -> Option<&'static str> {
    if shape.is_many {
        return Some("several statements in one text: give each alone");
    }
    if shape.parameters > 0 {
        return Some("there are no values for its question marks");
    }
    match shape.verb {
        Verb::Empty => Some("the text has no statement"),
        Verb::Control => Some("transaction and session words are not taken"),
        Verb::Temporary => Some(TEMPORARY),
        Verb::Call => Some("procedures are not called here"),
        Verb::Read | Verb::Write | Verb::Schema => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(owner: &'static str, scope: MigrationScope, text: &'static str) -> MigrationSet {
        let step = MigrationStep::new(1, "one").on("sqlite", [text]);
        MigrationSet::new(owner, scope).step(step)
    }

    fn plan_for(sets: &[MigrationSet], part: Part) -> Result<Vec<Planned>> {
        plan(sets, part, Engine::Sqlite, &DatabaseName::Global)
    }

    #[test]
    fn each_part_takes_its_scopes_in_the_given_order() {
        let sets = [
            set("z", MigrationScope::Everywhere, "CREATE TABLE z (a INT)"),
            set("g", MigrationScope::Global, "CREATE TABLE g (a INT)"),
            set("s", MigrationScope::Shards, "CREATE TABLE s (a INT)"),
        ];
        let owners = |part| -> Vec<_> {
            plan_for(&sets, part).unwrap().into_iter().map(|step| step.owner).collect()
        };
        assert_eq!(owners(Part::Global), ["z".into(), "g".into()]);
        assert_eq!(owners(Part::Shard), ["z".into(), "s".into()]);
    }

    #[test]
    fn what_could_not_be_applied_is_listed_before_anything_is() {
        let sets = [
            set("a", MigrationScope::Global, "BEGIN"),
            set("b", MigrationScope::Global, "CREATE TABLE b (a INT); DROP TABLE b"),
            set("c", MigrationScope::Global, "INSERT INTO c VALUES (?)"),
            set("d", MigrationScope::Global, "-- nothing"),
            set("e", MigrationScope::Global, "CREATE TABLE e (a INT)"),
            set("e", MigrationScope::Global, "CREATE TABLE f (a INT)"),
            MigrationSet::new("g", MigrationScope::Global)
                .step(MigrationStep::new(1, "one").on("mysql", ["CREATE TABLE g (a INT)"])),
        ];
        let text = plan_for(&sets, Part::Global).unwrap_err().to_string();
        for part in ["a 1:", "b 1:", "c 1:", "d 1:", "two sets of owner `e`", "g 1: it has no"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(plan_for(&sets, Part::Shard).unwrap().is_empty());
    }

    #[test]
    fn rows_and_schema_are_told_apart() {
        let step = MigrationStep::new(1, "one")
            .on("sqlite", ["CREATE TABLE a (b INT)", "INSERT INTO a VALUES (1)"]);
        let set = MigrationSet::new("a", MigrationScope::Global).step(step);
        let steps = plan_for(&[set], Part::Global).unwrap();
        let kinds: Vec<_> = steps[0].statements.iter().map(|one| one.is_schema).collect();
        assert_eq!(kinds, [true, false]);
    }
}
