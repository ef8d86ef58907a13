//! What becomes of each answer of SQLite.
//!
//! | result code | kind |
//! |---|---|
//! | `CONSTRAINT_UNIQUE`, `_PRIMARYKEY`, `_ROWID` | `Conflict`, with the columns of the key |
//! | other `CONSTRAINT_*` (foreign key, `NOT NULL`, `CHECK`, `RAISE` of a trigger, type of a strict table), `MISMATCH`, `TOOBIG`, `RANGE`, `ERROR` | `Invalid` |
//! | `READONLY` on a reader | `Invalid`: use `execute` |
//! | `READONLY` elsewhere, `FULL`, `NOMEM`, `NOLFS`, `SCHEMA` | `Unavailable`, refused |
//! | `CANTOPEN`, `IOERR` | `Unavailable`, unreachable |
//! | `IOERR` while committing | `OutcomeUnknown`: a crash may yet bring the frames of the log to light |
//! | `INTERRUPT` | `Timeout`: only a deadline or a caller that left interrupts |
//! | `BUSY`, `LOCKED`, `PROTOCOL` | `Timeout`: another program has the file locked |
//! | `ABORT` | `Interrupted` |
//! | `NOTADB` | `Invalid` |
//! | `PERM`, `AUTH` | `Denied` |
//! | `CORRUPT`, all others | `Internal` |
//!
//! A connection whose thread ended is `OutcomeUnknown` for what it was
//! running, unless that only read. After `IOERR`, `CORRUPT`, `NOTADB` and such
//! an end, the next call connects anew.

use std::borrow::Cow;
use std::sync::Arc;

use super::connect::BUSY_TIMEOUT;
use crate::backend::Call;
use crate::error::At;
use crate::{Conflict, Error, Unavailable};

/// What was going on when SQLite answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connecting.
    Connect,
    /// A statement on a reader.
    Read,
    /// A statement of a transaction that can still be rolled back.
    Write,
    /// A commit, or a statement that commits by itself.
    Commit,
}

/// The primary result codes, the low byte of an extended one.
mod code {
    pub(super) const ERROR: u32 = 1;
    pub(super) const PERM: u32 = 3;
    pub(super) const ABORT: u32 = 4;
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const INTERRUPT: u32 = 9;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const PROTOCOL: u32 = 15;
    pub(super) const SCHEMA: u32 = 17;
    pub(super) const TOOBIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const MISMATCH: u32 = 20;
    pub(super) const NOLFS: u32 = 22;
    pub(super) const AUTH: u32 = 23;
    pub(super) const RANGE: u32 = 25;
    pub(super) const NOTADB: u32 = 26;

    pub(super) const CONSTRAINT_CHECK: u32 = CONSTRAINT | 1 << 8;
    pub(super) const CONSTRAINT_FOREIGNKEY: u32 = CONSTRAINT | 3 << 8;
    pub(super) const CONSTRAINT_NOTNULL: u32 = CONSTRAINT | 5 << 8;
    pub(super) const CONSTRAINT_PRIMARYKEY: u32 = CONSTRAINT | 6 << 8;
    pub(super) const CONSTRAINT_TRIGGER: u32 = CONSTRAINT | 7 << 8;
    pub(super) const CONSTRAINT_UNIQUE: u32 = CONSTRAINT | 8 << 8;
    pub(super) const CONSTRAINT_ROWID: u32 = CONSTRAINT | 10 << 8;
    pub(super) const CONSTRAINT_DATATYPE: u32 = CONSTRAINT | 12 << 8;
}

pub(super) fn translate(at: At, call: &Call, error: Arc<sqlx::Error>, phase: Phase) -> Error {
    let Some(code) = extended_code(&error) else {
        return translate_driver(at, error, phase);
    };
    let cause = Some(Box::new(Arc::clone(&error)) as _);
    if phase == Phase::Commit && leaves_commit_open(&error) {
        return Error::OutcomeUnknown { at, ticket: None, cause };
    }
    let invalid = |detail: &'static str| Error::Invalid {
        at: at.clone(),
        detail: detail.into(),
        cause: Some(Box::new(Arc::clone(&error))),
    };
    match code {
        code::CONSTRAINT_UNIQUE | code::CONSTRAINT_PRIMARYKEY | code::CONSTRAINT_ROWID => {
            let conflict = Conflict::UniqueKey { key: key_of(&error) };
            return Error::Conflict { at, conflict, cause };
        }
        code::CONSTRAINT_FOREIGNKEY => return invalid("a foreign key refuses it"),
        code::CONSTRAINT_NOTNULL => return invalid("a column takes no null"),
        code::CONSTRAINT_CHECK => return invalid("a check refuses it"),
        code::CONSTRAINT_TRIGGER => return invalid("a trigger refuses it"),
        code::CONSTRAINT_DATATYPE => return invalid("a value is not of its column's type"),
        _ => {}
    }
    match code & 0xff {
        code::CONSTRAINT => invalid("a constraint refuses it"),
        code::ERROR => invalid("the statement is not accepted"),
        code::TOOBIG => invalid("a value or the text is too long"),
        code::MISMATCH => invalid("a value is not of its column's type"),
        code::RANGE => invalid("the values do not fit the question marks"),
        code::NOTADB => invalid("the file is no SQLite database"),
        code::READONLY if phase == Phase::Read => {
            invalid("the statement writes: use `execute`, or a transaction that writes")
        }
        code::READONLY | code::FULL | code::NOMEM | code::NOLFS | code::SCHEMA => {
            Error::Unavailable { at, reason: Unavailable::Refused, cause }
        }
        code::IOERR | code::CANTOPEN => {
            Error::Unavailable { at, reason: Unavailable::Unreachable, cause }
        }
        code::INTERRUPT => Error::Timeout { at, after: call.after, limit: call.limit },
        code::BUSY | code::LOCKED | code::PROTOCOL => {
            Error::Timeout { at, after: BUSY_TIMEOUT, limit: "another program locks the file" }
        }
        code::ABORT => Error::Interrupted { at, reason: "SQLite rolled the transaction back" },
        code::PERM | code::AUTH => Error::Denied { at, cause: Box::new(error) },
        _ => Error::Internal { at, cause: Box::new(error) },
    }
}

fn translate_driver(at: At, error: Arc<sqlx::Error>, phase: Phase) -> Error {
    let cause = Some(Box::new(Arc::clone(&error)) as _);
    match &*error {
        sqlx::Error::WorkerCrashed if matches!(phase, Phase::Write | Phase::Commit) => {
            Error::OutcomeUnknown { at, ticket: None, cause }
        }
        sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => {
            Error::Unavailable { at, reason: Unavailable::Unreachable, cause }
        }
        // Such as parameters with names.
        sqlx::Error::Protocol(_) | sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => {
            Error::Invalid { at, detail: "the statement is not accepted".into(), cause }
        }
        _ => Error::Internal { at, cause: Box::new(error) },
    }
}

/// Tells whether nobody knows what became of a commit that failed so: the
/// frames of the log may be there, and a crash bring them to light.
pub(super) fn leaves_commit_open(error: &sqlx::Error) -> bool {
    match extended_code(error) {
        Some(code) => code & 0xff == code::IOERR,
        None => matches!(error, sqlx::Error::WorkerCrashed),
    }
}

/// Tells whether a connection that answered so is of no use any more.
pub(super) fn breaks_connection(error: &sqlx::Error) -> bool {
    match extended_code(error) {
        Some(code) => matches!(code & 0xff, code::IOERR | code::CORRUPT | code::NOTADB),
        None => matches!(error, sqlx::Error::WorkerCrashed),
    }
}

fn extended_code(error: &sqlx::Error) -> Option<u32> {
    let code: Cow<'_, str> = error.as_database_error()?.code()?;
    code.parse().ok()
}

/// Returns the columns of the key that refused a row. Only the message has
/// them; it is `UNIQUE constraint failed: t.a, t.b` or `… index 'name'`.
fn key_of(error: &sqlx::Error) -> Option<Box<str>> {
    let (_, key) = error.as_database_error()?.message().split_once(" constraint failed: ")?;
    let name = key.strip_prefix("index '").and_then(|name| name.strip_suffix('\''));
    Some(name.unwrap_or(key).into())
}
