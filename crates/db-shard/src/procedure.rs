use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::backend::{Access, Call, Statement};
use crate::error::At;
use crate::{Database, Error, Param, Result, ResultSet, Row, SqlText, StatementText, Tx, Value};

/// The result sets of a twin.
pub type TwinFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<ResultSet>>> + Send + 'a>>;

type Function = dyn for<'a> Fn(&'a mut Tx, &'a [Value]) -> TwinFuture<'a> + Send + Sync;

/// Twins of stored procedures, for engines that have none: what
/// [`call_procedure`](Database::call_procedure) runs there under the same
/// name, in one transaction.
///
/// # Example
///
/// ```
/// use trine_db_shard::Procedures;
///
/// let procedures = Procedures::new()
///     .with_statements("close_account", [
///         "DELETE FROM session WHERE account_id = ?",
///         "UPDATE account SET closed = 1 WHERE id = ?",
///     ]);
/// # let _ = procedures;
/// ```
#[derive(Clone, Default)]
pub struct Procedures {
    twins: Arc<HashMap<Box<str>, Twin>>,
}

#[derive(Clone)]
enum Twin {
    Statements(Arc<[&'static str]>),
    Function(Arc<Function>),
}

impl Procedures {
    /// Returns an empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a list of statements. Each takes, in order, as many of the
    /// procedure's parameters as it has question marks, from the first one on.
    #[must_use]
    pub fn with_statements(
        self,
        name: impl Into<Box<str>>,
        statements: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        self.with(name.into(), Twin::Statements(statements.into_iter().collect()))
    }

    /// Registers a function. It runs in a transaction of its own, which is
    /// committed when it returns `Ok`.
    #[must_use]
    pub fn with_function<F>(self, name: impl Into<Box<str>>, function: F) -> Self
    where
        F: for<'a> Fn(&'a mut Tx, &'a [Value]) -> TwinFuture<'a> + Send + Sync + 'static,
    {
        self.with(name.into(), Twin::Function(Arc::new(function)))
    }

    fn with(mut self, name: Box<str>, twin: Twin) -> Self {
        let mut twins = Arc::unwrap_or_clone(self.twins);
        twins.insert(name, twin);
        self.twins = Arc::new(twins);
        self
    }

    fn get(&self, name: &str) -> Option<Twin> {
        self.twins.get(name).cloned()
    }
}

impl fmt::Debug for Procedures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.twins.keys()).finish()
    }
}

const OPERATION: &str = "call_procedure";

pub(crate) async fn call(
    database: &Database,
    name: &str,
    params: Vec<Param>,
) -> Result<Vec<ResultSet>> {
    let values = check(|| database.at(OPERATION), name, params)?;
    if database.capabilities().procedures {
        let admitted = database.admit(OPERATION, Access::Write).await?;
        return database.shared().backend().call(admitted.call, statement(name, values)).await;
    }
    let twin = twin(database, name)?;
    let (twin, values) = (&twin, &values);
    let result =
        database.transaction(move |mut tx| async move { run(&mut tx, twin, values).await }).await;
    if let Err(error) = &result {
        database.record_twin(name, values, error).await;
    }
    result
}

pub(crate) async fn call_in(tx: &mut Tx, name: &str, params: Vec<Param>) -> Result<Vec<ResultSet>> {
    let values = check(|| tx.database().at(OPERATION), name, params)?;
    if !tx.database().capabilities().procedures {
        let twin = twin(tx.database(), name)?;
        let result = run(tx, &twin, &values).await;
        if let Err(error) = &result {
            tx.record_twin(name, &values, error);
        }
        return result;
    }
    let open = tx.open_mut(OPERATION)?;
    let call: Call = open.call(OPERATION)?;
    let result = open.expose().call(call, statement(name, values)).await;
    open.settle(result)
}

fn twin(database: &Database, name: &str) -> Result<Twin> {
    database.shared().procedures.get(name).ok_or_else(|| Error::Unsupported {
        at: database.at(OPERATION),
        what: "a stored procedure without a registered twin",
        engine: database.engine().as_str(),
    })
}

/// Names are written into the text, so nothing but an identifier passes.
fn check(at: impl Fn() -> At, name: &str, params: Vec<Param>) -> Result<Vec<Value>> {
    let is_identifier = |part: &str| {
        let mut bytes = part.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let parts = name.split('.').count();
    if parts > 2 || name.len() > 129 || !name.split('.').all(is_identifier) {
        let expected = "expected `name` or `schema.name` of letters, digits and underscores";
        return Err(Error::invalid(at(), format!("procedure name: {expected}")));
    }
    let value = |(index, param)| match param {
        Param::One(value) => Ok(value),
        Param::List(_) | Param::Rows(_) => {
            let detail = format!("parameter {}: a procedure takes single values", index + 1);
            Err(Error::invalid(at(), detail))
        }
    };
    params.into_iter().enumerate().map(value).collect()
}

fn statement(name: &str, values: Vec<Value>) -> Statement {
    let marks = vec!["?"; values.len()].join(", ");
    // The same few names come again and again: worth preparing.
    let text = StatementText::constant("").written_out(format!("CALL {name}({marks})"));
    Statement::new(text, values, Access::Write)
}

async fn run(tx: &mut Tx, twin: &Twin, values: &[Value]) -> Result<Vec<ResultSet>> {
    let statements = match twin {
        Twin::Function(function) => return function(tx, values).await,
        Twin::Statements(statements) => Arc::clone(statements),
    };
    let mut sets = Vec::with_capacity(statements.len());
    for text in statements.iter() {
        sets.push(run_one(tx, text, values).await?);
    }
    Ok(sets)
}

async fn run_one(tx: &mut Tx, text: &'static str, values: &[Value]) -> Result<ResultSet> {
    use crate::database::prepare::Takes;
    use crate::sql::{Shape, Verb};

    let shape = Shape::of(text, tx.engine());
    let params: Vec<Value> = values.iter().take(shape.parameters).cloned().collect();
    let takes = if shape.verb == Verb::Read { Takes::Reads } else { Takes::Writes };
    let reply = tx.run(OPERATION, takes, None, &SqlText::from(text), params).await?;
    let rows: Vec<Row> = reply.rows;
    Ok(ResultSet::new(rows, reply.done.affected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DatabaseName, IntoParams, list};

    #[test]
    fn names_that_are_no_identifiers_are_refused() {
        let check =
            |name: &str, params| check(|| At::new("call", &DatabaseName::Global), name, params);
        for name in ["", "a b", "p();", "a.b.c", "1p", "p`", "ä"] {
            assert!(check(name, Vec::new()).is_err(), "{name}");
        }
        assert_eq!(check("app.close_2", (1, "x").into_params()).unwrap().len(), 2);
        assert!(check("p", (list([1]),).into_params()).is_err());
    }

    #[test]
    fn the_call_has_one_mark_for_each_value() {
        let text = statement("p", vec![1.into(), 2.into()]).text;
        assert_eq!(text.as_str(), "CALL p(?, ?)");
        assert!(text.is_reused());
    }
}
