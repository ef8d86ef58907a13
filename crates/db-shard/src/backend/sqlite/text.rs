use std::borrow::Cow;
use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::sql::{Shape, TEMPORARY, Verb};
use crate::{Engine, StatementText};

/// Most texts whose forms are kept.
const KEPT: usize = 512;

/// What the engine has to know of a text, and the forms in which it is sent.
#[derive(Debug)]
pub(super) struct Plan {
    /// The text as it is.
    pub(super) plain: StatementText,
    /// Savepoint, statement and release in one text: one hand-over to the
    /// connection's thread for each job of a group.
    pub(super) in_group: StatementText,
    /// Begin, statement and commit in one text.
    pub(super) alone: StatementText,
    /// Whether the count of changed rows is its own; SQLite leaves that of the
    /// statement before in place otherwise.
    pub(super) changes_rows: bool,
    /// Whether it may return rows, so that it has to be sent apart: the thread
    /// would have passed the commit before the bound on rows is seen.
    pub(super) returns_rows: bool,
    /// Whether it runs outside of any transaction of ours, as `VACUUM` must.
    pub(super) is_schema: bool,
    parameters: Option<usize>,
    refusal: Option<&'static str>,
}

impl Plan {
    pub(super) fn of(text: &StatementText) -> Self {
        let shape = text.shape(Engine::Sqlite);
        // The line break ends a comment that the text may end with.
        let wrapped =
            |before, after| text.written_out(format!("{before};\n{}\n;{after}", text.as_str()));
        Self {
            in_group: wrapped(SAVEPOINT, RELEASE),
            alone: wrapped(BEGIN, COMMIT),
            plain: text.clone(),
            changes_rows: shape.changes_rows,
            returns_rows: shape.returns_rows,
            is_schema: shape.verb == Verb::Schema,
            parameters: (!shape.is_numbered).then_some(shape.parameters),
            refusal: refusal(text.as_str(), &shape),
        }
    }

    /// Returns why the text cannot be sent with so many values, if it cannot.
    pub(super) fn refusal(&self, values: usize) -> Option<Cow<'static, str>> {
        if let Some(refusal) = self.refusal {
            return Some(refusal.into());
        }
        let expected = self.parameters.filter(|expected| *expected != values)?;
        Some(format!("expected {expected} values for its question marks, found {values}").into())
    }
}

pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";
pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";
pub(super) const SAVEPOINT: &str = "SAVEPOINT trine";
pub(super) const RELEASE: &str = "RELEASE trine";
pub(super) const UNDO: &str = "ROLLBACK TO trine; RELEASE trine";

fn refusal(text: &str, shape: &Shape) -> Option<&'static str> {
    // The driver never gets past such a character and blocks its thread.
    if text.contains('\0') {
        return Some("the text has a NUL character");
    }
    if shape.is_many {
        return Some("several statements in one text");
    }
    match shape.verb {
        Verb::Empty => Some("the text has no statement"),
        // A commit of its own would publish the others of its group.
        Verb::Control => Some("transaction and session words are not taken"),
        Verb::Temporary => Some(TEMPORARY),
        Verb::Call => Some("there are no procedures in SQLite"),
        Verb::Read | Verb::Write | Verb::Schema => None,
    }
}

/// Plans by text. Those of texts that do not come again are not kept.
#[derive(Debug)]
pub(super) struct Plans(Cache<Box<str>, Arc<Plan>>);

impl Plans {
    pub(super) fn new() -> Self {
        Self(Cache::new(KEPT))
    }

    pub(super) fn get(&self, text: &StatementText) -> Arc<Plan> {
        if !text.is_reused() {
            return Arc::new(Plan::of(text));
        }
        if let Some(plan) = self.0.get(text.as_str()) {
            return plan;
        }
        let plan = Arc::new(Plan::of(text));
        self.0.insert(text.as_str().into(), Arc::clone(&plan));
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_leave_the_group_is_refused() {
        for text in ["COMMIT", "SAVEPOINT a", "SELECT 1; SELECT 2", "", "PRAGMA x", "SELECT '\0'"] {
            assert!(Plan::of(&StatementText::constant(text)).refusal(0).is_some(), "{text}");
        }
        let plan = Plan::of(&StatementText::constant("SELECT ?, '?'"));
        assert_eq!(plan.refusal(1), None);
        assert!(plan.refusal(0).is_some() && plan.refusal(2).is_some());
    }

    #[test]
    fn a_comment_at_the_end_swallows_nothing() {
        let plan = Plan::of(&StatementText::constant("DELETE FROM t -- all"));
        assert_eq!(
            plan.in_group.as_str(),
            "SAVEPOINT trine;\nDELETE FROM t -- all\n;RELEASE trine"
        );
    }
}
