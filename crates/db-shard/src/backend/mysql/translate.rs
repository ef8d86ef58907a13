//! What the driver's errors mean to a caller.
//!
//! | numbers | error |
//! |---|---|
//! | 1062 1022 1169 1586 1859 | `Conflict`, a unique key with its name |
//! | 1213 1614 3101 1020 1206 | `Conflict`, a deadlock: the transaction is rolled back |
//! | 1205 3572 | `Timeout`: a lock that was not given |
//! | 1969 3024 | `Timeout`: the statement took too long |
//! | 1216 1217 1451 1452 1048 1364 3819 4025 1406 1264 1366 1292 1265 1153 1301 and the like, SQLSTATE 22 and 23 | `Invalid`: the values |
//! | 1064 1146 1054 1149 1295 and the like, SQLSTATE 42 | `Invalid`: the statement |
//! | 1644, and any SQLSTATE 45000 | `Invalid`: a `SIGNAL` |
//! | 1044 1045 1142 1143 1227 1370 1410 1698 | `Denied` |
//! | 1290 1792 1836 3100 | `Unavailable`: read only; the connection is closed (1792 in a transaction begun to read: `Invalid`) |
//! | 1040 1203 1226 1461 1129 | `Unavailable`: the server refuses; the connection is closed |
//! | 1053 1077 1079 1927 2006 2013 4031 3169 | `Unavailable`: gone; the connection is closed |
//! | 1317 | `Interrupted` |
//! | anything else | `Internal` |
//!
//! A connection that breaks without an answer is `Unavailable` for what only
//! reads or has not been committed, and `OutcomeUnknown` for a write of its own
//! and for a commit. So is any answer to a commit but a deadlock and read only.

use std::borrow::Cow;
use std::io;

use sqlx::mysql::MySqlDatabaseError;
use trine_core::BoxError;

use crate::backend::{Access, Call};
use crate::error::At;
use crate::{Conflict, Error, Unavailable};

/// What is lost when no answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stake {
    /// Nothing: it only reads.
    Nothing,
    /// A write that commits by itself.
    Write,
    /// Work that nobody has committed yet.
    Uncommitted,
    /// The commit of a transaction.
    Commit,
}

impl Stake {
    pub(super) fn of(access: Access) -> Self {
        match access {
            Access::Read => Self::Nothing,
            Access::Write => Self::Write,
        }
    }

    fn is_unknown(self) -> bool {
        matches!(self, Self::Write | Self::Commit)
    }
}

/// What an error of the driver means.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) error: Error,
    /// The connection is of no use any more.
    pub(super) closes: bool,
    /// The connection broke, so that others may have too.
    pub(super) is_broken: bool,
    /// The server has answered that it has rolled back the transaction.
    pub(super) rolled_back: bool,
}

impl Verdict {
    fn keeps(error: Error) -> Self {
        Self { error, closes: false, is_broken: false, rolled_back: false }
    }

    fn closes(error: Error) -> Self {
        Self { error, closes: true, is_broken: false, rolled_back: false }
    }
}

/// Returns the number of the error that the server answered.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    let sqlx::Error::Database(error) = error else {
        return None;
    };
    error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// Returns what `error` means for a call with this much at stake.
pub(super) fn translate(at: At, call: &Call, stake: Stake, error: sqlx::Error) -> Verdict {
    match number(&error) {
        Some(number) => {
            let verdict = answered(at, call, stake, number, error);
            // The server may have committed before it was told to stop, or to
            // close the connection.
            if stake == Stake::Commit && !verdict.rolled_back && !refuses_commit(number) {
                return Verdict { error: unknown(verdict.error), closes: true, ..verdict };
            }
            verdict
        }
        None => Verdict {
            closes: true,
            is_broken: true,
            rolled_back: false,
            error: if stake.is_unknown() && !never_sent(&error) {
                let cause = Some(Box::new(error) as BoxError);
                Error::OutcomeUnknown { at, ticket: None, cause }
            } else if matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_)) {
                let reason = Unavailable::Unreachable;
                Error::Unavailable { at, reason, cause: Some(Box::new(error)) }
            } else {
                Error::Internal { at, cause: Box::new(error) }
            },
        },
    }
}

/// Returns the error for a call whose time is up.
pub(super) fn timed_out(at: At, call: &Call, stake: Stake) -> Error {
    let timeout = Error::Timeout { at, after: call.after, limit: call.limit };
    if stake.is_unknown() { unknown(timeout) } else { timeout }
}

fn unknown(error: Error) -> Error {
    match error.at().cloned() {
        Some(at) => Error::OutcomeUnknown { at, ticket: None, cause: Some(Box::new(error)) },
        None => error,
    }
}

/// A pipe is broken only for who writes: the server has not got the whole
/// statement, and runs none that is cut off.
fn never_sent(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

fn refuses_commit(number: u16) -> bool {
    matches!(number, 1290 | 1792 | 1836 | 3100)
}

fn answered(at: At, call: &Call, stake: Stake, number: u16, error: sqlx::Error) -> Verdict {
    let is_signal = state(&error) == Some("45000");
    match number {
        1644 => Verdict::keeps(invalid(at, "the statement signalled an error", error)),
        _ if is_signal => Verdict::keeps(invalid(at, "the statement signalled an error", error)),
        1062 | 1022 | 1169 | 1586 | 1859 => {
            let conflict = Conflict::UniqueKey { key: key_name(&error) };
            Verdict::keeps(Error::Conflict { at, conflict, cause: Some(Box::new(error)) })
        }
        1213 | 1614 | 3101 | 1020 | 1206 => {
            let cause = Some(Box::new(error) as BoxError);
            let error = Error::Conflict { at, conflict: Conflict::Deadlock, cause };
            Verdict { rolled_back: true, ..Verdict::keeps(error) }
        }
        1205 | 3572 => {
            let limit = "innodb_lock_wait_timeout";
            Verdict::keeps(Error::Timeout { at, after: call.after, limit })
        }
        1969 | 3024 => {
            Verdict::keeps(Error::Timeout { at, after: call.after, limit: "db.query_timeout" })
        }
        1317 => Verdict::keeps(Error::Interrupted { at, reason: "the statement was killed" }),
        1216 | 1217 | 1451 | 1452 | 1830 => {
            Verdict::keeps(invalid(at, "a foreign key refuses the values", error))
        }
        1048 | 1263 | 1364 => Verdict::keeps(invalid(at, "a column needs a value", error)),
        3819 | 4025 => Verdict::keeps(invalid(at, "a check refuses the values", error)),
        1406 | 1264 | 1265 | 1292 | 1366 | 1367 | 1411 | 1426 | 1525 | 1690 | 3140 | 3141
        | 4038 => Verdict::keeps(invalid(at, "a value does not fit its column", error)),
        // The server closes the connection after the first of these.
        1153 => Verdict::closes(invalid(at, "longer than the server's max_allowed_packet", error)),
        1301 => Verdict::keeps(invalid(at, "longer than the server's max_allowed_packet", error)),
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1410 | 1698 => {
            Verdict::keeps(Error::Denied { at, cause: Box::new(error) })
        }
        // The transaction was begun to read only.
        1792 if stake == Stake::Nothing => {
            Verdict::keeps(invalid(at, "the transaction only reads", error))
        }
        1290 | 1792 | 1836 | 3100 | 1040 | 1203 | 1226 | 1461 | 1129 => {
            let reason = Unavailable::Refused;
            Verdict::closes(Error::Unavailable { at, reason, cause: Some(Box::new(error)) })
        }
        1053 | 1077 | 1079 | 1927 | 2006 | 2013 | 4031 | 3169 => {
            let reason = Unavailable::Unreachable;
            let error = Error::Unavailable { at, reason, cause: Some(Box::new(error)) };
            Verdict { is_broken: true, ..Verdict::closes(error) }
        }
        1046 | 1049 | 1050 | 1051 | 1052 | 1054 | 1055 | 1060 | 1061 | 1064 | 1065 | 1066
        | 1068 | 1091 | 1109 | 1110 | 1111 | 1136 | 1140 | 1146 | 1149 | 1166 | 1176 | 1210
        | 1221 | 1222 | 1235 | 1241 | 1242 | 1267 | 1295 | 1304 | 1305 | 1318 | 1327 | 1462
        | 1582 | 1583 => Verdict::keeps(invalid(at, "the statement cannot be run", error)),
        _ => match state(&error) {
            // By the SQL standard: data, constraints, syntax or access rule.
            Some(state) if ["22", "23", "42"].iter().any(|class| state.starts_with(class)) => {
                Verdict::keeps(invalid(at, "the statement cannot be run", error))
            }
            _ => Verdict::keeps(Error::Internal { at, cause: Box::new(error) }),
        },
    }
}

fn invalid(at: At, detail: &'static str, error: sqlx::Error) -> Error {
    Error::Invalid { at, detail: Cow::Borrowed(detail), cause: Some(Box::new(error)) }
}

fn server_error(error: &sqlx::Error) -> Option<&MySqlDatabaseError> {
    match error {
        sqlx::Error::Database(error) => error.try_downcast_ref(),
        _ => None,
    }
}

fn state(error: &sqlx::Error) -> Option<&str> {
    server_error(error)?.code()
}

/// The server names the key in its message only, MySQL with the table before.
fn key_name(error: &sqlx::Error) -> Option<Box<str>> {
    key_in(server_error(error)?.message())
}

fn key_in(message: &str) -> Option<Box<str>> {
    let (_, quoted) = message.rsplit_once(" for key '")?;
    let name = quoted.strip_suffix('\'')?;
    Some(name.rsplit_once('.').map_or(name, |(_, key)| key).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_key_is_the_last_word_whatever_the_entry_holds() {
        let message = "Duplicate entry 'x' for key 'y'-1' for key 'email'";
        assert_eq!(key_in(message).as_deref(), Some("email"));
        let mysql = "Duplicate entry 'x' for key 'account.email'";
        assert_eq!(key_in(mysql).as_deref(), Some("email"));
        assert_eq!(key_in("Duplicate entry 'cut off"), None);
        assert_eq!(key_in("Duplicate entry 'x' for key 'ema"), None);
    }

    #[test]
    fn a_lost_answer_is_unknown_only_where_something_may_have_been_committed() {
        let call = Call::new("execute", std::time::Duration::from_secs(1), 1);
        let at = || At::new("execute", &crate::DatabaseName::Global);
        let lost = || sqlx::Error::Io(io::ErrorKind::ConnectionReset.into());
        let kind = |stake, error| translate(at(), &call, stake, error).error.kind();
        use trine_core::ErrorKind::{OutcomeUnknown, Unavailable};
        assert_eq!(kind(Stake::Nothing, lost()), Unavailable);
        assert_eq!(kind(Stake::Uncommitted, lost()), Unavailable);
        assert_eq!(kind(Stake::Write, lost()), OutcomeUnknown);
        assert_eq!(kind(Stake::Commit, lost()), OutcomeUnknown);
        let unsent = || sqlx::Error::Io(io::ErrorKind::BrokenPipe.into());
        assert_eq!(kind(Stake::Write, unsent()), Unavailable);
        assert_eq!(kind(Stake::Write, sqlx::Error::Protocol("?".into())), OutcomeUnknown);
    }
    #[tokio::test]
    async fn an_answered_commit_is_known_only_if_the_answer_settles_it() {
        use trine_core::ErrorKind::{Conflict, OutcomeUnknown, Unavailable};
        let database = trine_testkit::MariaDb::shared().await.unwrap().database().await.unwrap();
        let mut driver =
            <sqlx::MySqlConnection as sqlx::Connection>::connect(&database.url()).await.unwrap();
        let call = Call::new("commit", std::time::Duration::from_secs(1), 1);
        for (number, committing, before) in [
            (1213, Conflict, Conflict),
            (1290, Unavailable, Unavailable),
            (1053, OutcomeUnknown, Unavailable),
            (1079, OutcomeUnknown, Unavailable),
            (1927, OutcomeUnknown, Unavailable),
            (3169, OutcomeUnknown, Unavailable),
            (1317, OutcomeUnknown, trine_core::ErrorKind::Interrupted),
        ] {
            for (stake, expected) in [(Stake::Commit, committing), (Stake::Uncommitted, before)] {
                let text = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}");
                let error = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut driver).await;
                let at = At::new("commit", &crate::DatabaseName::Global);
                let verdict = translate(at, &call, stake, error.unwrap_err());
                assert_eq!(verdict.error.kind(), expected, "{number} {stake:?}");
                assert_eq!(verdict.rolled_back, number == 1213);
            }
        }
    }
}
