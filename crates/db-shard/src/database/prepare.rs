use std::borrow::Cow;

use crate::backend::{Access, Statement};
use crate::error::At;
use crate::sql::{Shape, TEMPORARY, Verb, expand};
use crate::{Engine, Error, IntoParams, Result, SqlText};

/// Which statements a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Those that read.
    Reads,
    /// Those that write, and those that cannot be told apart from them.
    Writes,
    /// Those that write, in a transaction that a change of the schema would
    /// commit.
    WritesOfRows,
}

/// Checks a statement and writes its parameters out, before anything is sent.
pub(crate) fn prepare(
    at: impl FnOnce() -> At,
    engine: Engine,
    takes: Takes,
    sql: &SqlText,
    params: impl IntoParams,
) -> Result<Statement> {
    let Some(text) = sql.resolve(engine) else {
        return Err(Error::invalid(at(), format!("the statement has no text for {engine}")));
    };
    let shape = text.shape(engine);
    if let Some(refusal) = refusal(&shape, takes) {
        return Err(Error::invalid(at(), refusal));
    }
    let access = if takes == Takes::Reads { Access::Read } else { Access::Write };
    match expand(text, shape.parameters, params.into_params(), engine) {
        Ok((text, values)) => Ok(Statement::new(text, values, access)),
        Err(misfit) => Err(Error::invalid(at(), misfit.to_string())),
    }
}

fn refusal(shape: &Shape, takes: Takes) -> Option<Cow<'static, str>> {
    if shape.is_many {
        return Some(
            "several statements in one text: send each alone, or use `execute_all`".into(),
        );
    }
    if shape.is_numbered {
        return Some("named and numbered parameters are not portable: write `?`".into());
    }
    let refusal = match (shape.verb, takes) {
        (Verb::Empty, _) => "the text has no statement",
        (Verb::Control, _) => {
            "transaction and session words are not taken: use `begin`, `transaction` or `savepoint`"
        }
        (Verb::Temporary, _) => TEMPORARY,
        (Verb::Call, _) => "procedures are called by `call`",
        (Verb::Write | Verb::Schema, Takes::Reads) => "the statement writes: use `execute`",
        (Verb::Schema, Takes::WritesOfRows) => {
            "a change of the schema would commit the transaction on this engine"
        }
        (Verb::Read | Verb::Write | Verb::Schema, _) => return None,
    };
    Some(refusal.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatabaseName, Sql};

    fn check(takes: Takes, sql: impl Into<SqlText>) -> Result<Statement> {
        prepare(|| At::new("test", &DatabaseName::Global), Engine::Sqlite, takes, &sql.into(), ())
    }

    #[test]
    fn what_would_touch_other_callers_is_refused() {
        for text in [
            "COMMIT",
            "BEGIN",
            "SET autocommit = 1",
            "DELETE FROM t; COMMIT",
            "",
            "SELECT ?1",
            "CREATE TEMPORARY TABLE t (a INT)",
        ] {
            for takes in [Takes::Reads, Takes::Writes, Takes::WritesOfRows] {
                let error = check(takes, Sql::dynamic(text)).unwrap_err();
                assert_eq!(error.kind(), trine_core::ErrorKind::Invalid, "{text}");
            }
        }
    }

    #[test]
    fn reads_and_writes_are_told_apart() {
        assert!(check(Takes::Reads, "SELECT 1").is_ok());
        assert!(check(Takes::Reads, "DELETE FROM t").is_err());
        assert!(check(Takes::Writes, "CREATE TABLE t (a INT)").is_ok());
        assert!(check(Takes::WritesOfRows, "CREATE TABLE t (a INT)").is_err());
    }

    #[test]
    fn a_missing_engine_is_named() {
        let error = check(Takes::Reads, Sql::per_engine().mysql("SELECT 1")).unwrap_err();
        assert_eq!(error.to_string(), "db test global: the statement has no text for sqlite");
    }
}
