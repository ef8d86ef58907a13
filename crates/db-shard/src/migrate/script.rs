use std::fmt::Write;

use trine_core::MigrationSet;

use super::plan::{Part, Planned, plan};
use super::record::own_tables;
use crate::sql::Shape;
use crate::{ConfigError, DatabaseName, DbConfig, Engine, Error, Result};

/// Writes out what [`migrate`](super::migrate) does to empty databases.
pub(super) fn script(config: &DbConfig, sets: &[MigrationSet]) -> Result<String> {
    let mut text = String::new();
    let engine = |connection: &str| {
        let found = config.connections.get(connection).map(crate::ConnectionConfig::engine);
        found.ok_or_else(|| {
            Error::Config(ConfigError::one(format!("connections.{connection}: it is missing")))
        })
    };
    let title = format!("global: connection {}", config.global);
    section(&mut text, &title, Part::Global, engine(&config.global)?, sets)?;
    for kind in [Engine::Sqlite, Engine::Mysql] {
        let mut connections = Vec::new();
        for shard in &config.shards {
            if engine(&shard.connection)? == kind {
                connections.push(format!("{} (shard {})", shard.connection, shard.id));
            }
        }
        if !connections.is_empty() {
            let title = format!("each shard: connections {}", connections.join(", "));
            section(&mut text, &title, Part::Shard, kind, sets)?;
        }
    }
    Ok(text)
}

fn section(
    text: &mut String,
    title: &str,
    part: Part,
    engine: Engine,
    sets: &[MigrationSet],
) -> Result<()> {
    let steps = plan(sets, part, engine, &DatabaseName::Global)?;
    line(text, &format!("-- {}", one_line(title)));
    line(text, &format!("-- engine {engine}; leave out the steps that trine_migration has"));
    for own in own_tables(engine) {
        line(text, &format!("{own};"));
    }
    for step in &steps {
        line(text, &format!("\n-- {}", one_line(&step.applied().to_string())));
        step_lines(text, step, engine);
    }
    line(text, "");
    Ok(())
}

fn step_lines(text: &mut String, step: &Planned, engine: Engine) {
    // Where it can be, a step is all or nothing.
    let is_one = engine == Engine::Sqlite;
    if is_one {
        line(text, "BEGIN IMMEDIATE;");
    }
    for statement in &step.statements {
        let statement = statement.text.as_str().trim_end();
        let statement = statement.strip_suffix(';').unwrap_or(statement);
        // The line break ends a comment that the text may end with.
        let ending =
            if Shape::of(&format!("{statement};SELECT"), engine).is_many { ";" } else { "\n;" };
        // The command-line client would cut a body at its semicolons.
        if engine == Engine::Mysql && statement.contains(';') {
            line(text, &format!("DELIMITER //\n{statement}\n//\nDELIMITER ;"));
        } else {
            line(text, &format!("{statement}{ending}"));
        }
    }
    line(text, &record(step, engine));
    if is_one {
        line(text, "COMMIT;");
    }
}

fn record(step: &Planned, engine: Engine) -> String {
    let now = match engine {
        Engine::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        Engine::Mysql => "UTC_TIMESTAMP(6)",
    };
    format!(
        "INSERT INTO trine_migration \
         (owner, version, name, fingerprint, state, next_statement, applied_at) \
         VALUES ({}, {}, {}, '{}', 'applied', {}, {now});",
        quoted(&step.owner, engine),
        step.version,
        quoted(&step.name, engine),
        step.fingerprint,
        step.len(),
    )
}

fn quoted(text: &str, engine: Engine) -> String {
    let text = text.replace('\'', "''");
    match engine {
        Engine::Sqlite => format!("'{text}'"),
        Engine::Mysql => format!("'{}'", text.replace('\\', "\\\\")),
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use trine_core::{MigrationScope, MigrationStep, Secret};

    use super::*;

    #[test]
    fn literals_and_comments_cannot_be_left() {
        assert_eq!(quoted("it's \\", Engine::Sqlite), "'it''s \\'");
        assert_eq!(quoted("it's \\", Engine::Mysql), "'it''s \\\\'");
        assert_eq!(one_line("a\nDROP TABLE b"), "a DROP TABLE b");
    }

    #[test]
    fn a_statement_ends_even_behind_a_comment() {
        let step = MigrationStep::new(1, "one")
            .on("sqlite", ["CREATE TABLE a (b INT) -- the last word", "CREATE TABLE c (d INT);"]);
        let set = MigrationSet::new("a", MigrationScope::Shards).step(step);
        let text = script(&DbConfig::sqlite("data", 2), &[set]).unwrap();
        assert!(text.contains("-- the last word\n;"), "{text}");
        assert!(text.contains("CREATE TABLE c (d INT);\n"), "{text}");
        assert!(text.contains("shard-0 (shard 0), shard-1 (shard 1)"), "{text}");
    }

    #[test]
    fn passwords_are_not_printed() {
        let url = Secret::new("mysql://app:hunter2@db:3306/main");
        let text = script(&DbConfig::mysql(url.clone(), [url]), &crate::schema::migrations());
        assert!(!text.unwrap().contains("hunter2"));
    }
}
