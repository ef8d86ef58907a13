mod driver;

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use trine_core::{ErrorKind, Report};

use crate::backend::Access;
use crate::{Database, Error, Result, Sql, Timestamp, Tx, Value};

pub(crate) use driver::driver_error;

const INSERT: Sql = Sql::portable(
    "INSERT INTO trine_error_log \
     (procedure_name, error_state, error_number, error_message, params, created_at) \
     VALUES (?, ?, ?, ?, ?, ?)",
);

const READ: Sql = Sql::portable(
    "SELECT id, procedure_name, error_state, error_number, error_message, params, created_at \
     FROM trine_error_log WHERE id < ? ORDER BY id DESC LIMIT ?",
);

/// Longest wait for the record of a failure, beyond the failure itself.
const RECORD: Duration = Duration::from_secs(2);

/// A failure of a procedure, as the table `trine_error_log` keeps it.
///
/// # Procedures of MySQL and MariaDB
///
/// A procedure records its own failures and passes them on:
///
/// ```sql
/// CREATE PROCEDURE close_account(IN p_id BIGINT)
/// BEGIN
///     DECLARE EXIT HANDLER FOR SQLEXCEPTION
///     BEGIN
///         GET DIAGNOSTICS CONDITION 1 @state = RETURNED_SQLSTATE,
///             @number = MYSQL_ERRNO, @message = MESSAGE_TEXT;
///         INSERT INTO trine_error_log
///             (procedure_name, error_state, error_number, error_message, params)
///             VALUES ('close_account', @state, @number, LEFT(@message, 1024), CONCAT('id=', p_id));
///         RESIGNAL;
///     END;
///     UPDATE account SET closed = 1 WHERE id = p_id;
///     INSERT INTO closed_account (id) VALUES (p_id);
/// END
/// ```
///
/// What becomes of the row depends on who holds the transaction:
///
/// * Called by [`Database::call_procedure`], no transaction is open: each
///   statement of the procedure commits by itself. The row stays, and so does
///   what the procedure changed before it failed.
/// * With `START TRANSACTION` in the procedure, and `ROLLBACK` as the first
///   statement of the handler's after `GET DIAGNOSTICS`, the changes go and the
///   row stays. Such a procedure must not be called inside of a [`Tx`]: it
///   would end the caller's transaction.
/// * Called by [`Tx::call_procedure`], the row belongs to the caller's
///   transaction: rolled back, it is gone. The caller has the error itself, and
///   can [record](Database::record_error) it.
///
/// # Twins
///
/// On an engine without procedures the failure of a
/// [twin](crate::Procedures) is recorded by the caller's side, once the
/// transaction is over, so that the row stays in every case. Parameters are
/// recorded by their kinds, never by their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ErrorRecord {
    /// Its number, given by the database; 0 for one that is not stored yet.
    #[serde(default)]
    pub id: u64,
    /// The procedure, at most 128 characters.
    #[serde(rename = "procedure_name")]
    pub procedure: String,
    /// The SQLSTATE of five characters, where the engine has one.
    #[serde(rename = "error_state")]
    pub state: Option<String>,
    /// The engine's number of the error.
    #[serde(rename = "error_number")]
    pub number: Option<i32>,
    /// What went wrong, at most 1024 characters.
    #[serde(rename = "error_message")]
    pub message: String,
    /// The parameters, in a form that may be kept; at most 4000 characters.
    pub params: String,
    /// When it happened.
    pub created_at: Timestamp,
}

impl ErrorRecord {
    /// Longest procedure name in characters.
    pub const MAX_PROCEDURE: usize = 128;

    /// Longest message in characters.
    pub const MAX_MESSAGE: usize = 1024;

    /// Longest parameters in characters.
    pub const MAX_PARAMS: usize = 4000;

    /// Returns the record of a failure that happens now.
    #[must_use]
    pub fn new(procedure: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            procedure: procedure.into(),
            message: message.into(),
            created_at: SystemTime::now().into(),
            ..Self::default()
        }
    }

    /// Returns the record of `error`, with what the driver said of it.
    #[must_use]
    pub fn from_error(procedure: impl Into<String>, error: &Error) -> Self {
        let mut record = Self::new(procedure, Report(error).to_string());
        (record.state, record.number) = driver::state_and_number(error);
        record
    }

    /// Sets the parameters, in a form that may be kept.
    #[must_use]
    pub fn with_params(mut self, params: impl Into<String>) -> Self {
        self.params = params.into();
        self
    }

    /// What is too long is cut: half a message is worth more than none.
    fn values(&self) -> Vec<Value> {
        let cut = |text: &str, max| text.chars().take(max).collect::<String>();
        vec![
            cut(&self.procedure, Self::MAX_PROCEDURE).into(),
            self.state.as_ref().map(|state| cut(state, 5)).into(),
            self.number.into(),
            cut(&self.message, Self::MAX_MESSAGE).into(),
            cut(&self.params, Self::MAX_PARAMS).into(),
            self.created_at.into(),
        ]
    }
}

impl Database {
    /// Records a failure. What is too long is cut.
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database.
    pub async fn record_error(&self, record: &ErrorRecord) -> Result<()> {
        self.execute(INSERT, record.values()).await?;
        Ok(())
    }

    /// Returns the latest recorded failures, at most `limit`, the newest first.
    /// `before_id` goes on behind the last one of a page. Failures older than
    /// `error_log_retention` are removed by [`sweep`](Self::sweep).
    ///
    /// # Errors
    ///
    /// Fails with the errors of the database.
    pub async fn error_log(&self, limit: u32, before_id: Option<u64>) -> Result<Vec<ErrorRecord>> {
        let before = before_id.and_then(|id| i64::try_from(id).ok()).unwrap_or(i64::MAX);
        self.query(READ, (before, limit)).await
    }

    /// Records the failure of a twin after its transaction was rolled back.
    /// That the record fails changes nothing for the caller.
    pub(crate) async fn record_twin(&self, procedure: &str, values: &[Value], error: &Error) {
        if let Some(record) = twin_record(procedure, values, error) {
            self.record_quietly(record).await;
        }
    }

    async fn record_quietly(&self, record: ErrorRecord) {
        let call = self.own_call("record_error").until(Some(trine_core::Deadline::after(RECORD)));
        let insert = self.own_statement(INSERT, record.values(), Access::Write);
        if let Err(error) = self.shared().backend().run(call, insert).await {
            let error = Report(&error).to_string();
            tracing::debug!(procedure = record.procedure, error, "failure not recorded");
        }
    }
}

impl Tx {
    /// Records the failure of a twin once this transaction is over: before
    /// that the record would be rolled back with it.
    pub(crate) fn record_twin(&mut self, procedure: &str, values: &[Value], error: &Error) {
        let Some(record) = twin_record(procedure, values, error) else {
            return;
        };
        let database = self.database().clone();
        self.after_completion(move |_completion| {
            let tasks = database.shared().executors.tasks().clone();
            tasks.spawn("record_error", async move { database.record_quietly(record).await });
        });
    }
}

/// A database that is away is no failure of the procedure, and would not take
/// the record either.
fn twin_record(procedure: &str, values: &[Value], error: &Error) -> Option<ErrorRecord> {
    let is_away = matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::Closed | ErrorKind::Timeout
    );
    // The kinds of the values; what they hold may be anybody's data.
    let record = || ErrorRecord::from_error(procedure, error).with_params(format!("{values:?}"));
    (!is_away).then(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseName;
    use crate::error::At;

    #[test]
    fn what_is_too_long_is_cut_at_a_character() {
        let record =
            ErrorRecord::new("ü".repeat(200), "ß".repeat(2_000)).with_params("x".repeat(9_000));
        let lengths: Vec<_> = record
            .values()
            .iter()
            .filter_map(|value| match value {
                Value::Text(text) => Some(text.chars().count()),
                _ => None,
            })
            .collect();
        assert_eq!(lengths, [128, 1024, 4000]);
    }

    #[test]
    fn parameters_are_recorded_by_their_kinds() {
        let error = Error::invalid(At::new("call", &DatabaseName::Global), "too young");
        let record = twin_record("p", &["secret".into(), 5.into()], &error).unwrap();
        assert_eq!(record.params, "[text, integer]");
        assert_eq!(record.message, "db call global: too young");
        assert_eq!((record.state, record.number), (None, None));
    }

    #[test]
    fn a_database_that_is_away_is_no_failure_of_the_procedure() {
        let error = Error::Closed { at: At::new("call", &DatabaseName::Global) };
        assert_eq!(twin_record("p", &[], &error), None);
    }
}
