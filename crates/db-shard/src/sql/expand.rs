use super::token::{Token, Tokens};
use super::{Engine, StatementText};
use crate::{Param, Value};

/// Most parameters of one statement: SQLite's limit, MySQL's is 65,535.
pub(crate) const MAX_PARAMETERS: usize = 32_766;

/// Why parameters do not fit a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("the statement takes {expected} parameters, {found} were given")]
    Count { expected: usize, found: usize },
    #[error("row {row} has {found} values, the first one has {expected}")]
    Ragged { row: usize, expected: usize, found: usize },
    #[error("parameter {parameter} has no rows: `VALUES ?` needs at least one")]
    NoRows { parameter: usize },
    #[error(
        "{found} values in one statement, at most {MAX_PARAMETERS} are possible: send it in parts"
    )]
    TooMany { found: usize },
}

/// Writes lists and rows out into the text and returns the values in order.
pub(crate) fn expand(
    text: StatementText,
    parameters: usize,
    params: Vec<Param>,
    engine: Engine,
) -> Result<(StatementText, Vec<Value>), Misfit> {
    if params.len() != parameters {
        return Err(Misfit::Count { expected: parameters, found: params.len() });
    }
    if params.iter().all(|param| matches!(param, Param::One(_))) {
        // Collecting would shrink the buffer in place, which takes the
        // allocator's lock.
        let mut values = Vec::with_capacity(params.len());
        values.extend(params.into_iter().filter_map(Param::into_one));
        return Ok((text, values));
    }
    let found = params.iter().map(count).sum();
    let Some(mut spare) = MAX_PARAMETERS.checked_sub(found) else {
        return Err(Misfit::TooMany { found });
    };
    let mut written = String::with_capacity(text.as_str().len() + 64);
    let mut values = Vec::new();
    let mut copied = 0;
    let mut tokens = Tokens::new(text.as_str(), engine);
    let mut params = params.into_iter().enumerate();
    while let Some(token) = tokens.next() {
        if !matches!(token, Token::Parameter { .. }) {
            continue;
        }
        let Some((position, param)) = params.next() else { break };
        let mark = tokens.offset() - 1;
        written.push_str(text.as_str().get(copied..mark).unwrap_or_default());
        copied = tokens.offset();
        match param {
            Param::One(value) => {
                written.push('?');
                values.push(value);
            }
            Param::List(members) => {
                spare -= write_list(&mut written, &mut values, members, spare);
            }
            Param::Rows(rows) => write_rows(&mut written, &mut values, rows, position + 1)?,
        }
    }
    written.push_str(text.as_str().get(copied..).unwrap_or_default());
    Ok((text.written_out(written), values))
}

/// Returns how many values a parameter stands for.
fn count(param: &Param) -> usize {
    match param {
        Param::One(_) => 1,
        Param::List(members) => members.len(),
        Param::Rows(rows) => rows.iter().map(Vec::len).sum(),
    }
}

/// Pads the list to a power of two with at most `spare` values, and returns how
/// many it took.
///
/// An empty list becomes NULL, which `IN` never matches. `NOT IN (NULL)`
/// matches nothing either; the guide says so.
fn write_list(
    written: &mut String,
    values: &mut Vec<Value>,
    mut members: Vec<Value>,
    spare: usize,
) -> usize {
    let Some(last) = members.last().cloned() else {
        written.push_str("NULL");
        return 0;
    };
    let padding = spare.min(members.len().next_power_of_two() - members.len());
    members.resize(members.len() + padding, last);
    write_marks(written, members.len());
    values.append(&mut members);
    padding
}

fn write_rows(
    written: &mut String,
    values: &mut Vec<Value>,
    rows: Vec<Vec<Value>>,
    parameter: usize,
) -> Result<(), Misfit> {
    let Some(expected) = rows.first().map(Vec::len) else {
        return Err(Misfit::NoRows { parameter });
    };
    for (index, mut row) in rows.into_iter().enumerate() {
        if row.len() != expected {
            return Err(Misfit::Ragged { row: index + 1, expected, found: row.len() });
        }
        written.push_str(if index == 0 { "(" } else { ", (" });
        write_marks(written, expected);
        written.push(')');
        values.append(&mut row);
    }
    Ok(())
}

fn write_marks(written: &mut String, count: usize) {
    for index in 0..count {
        written.push_str(if index == 0 { "?" } else { ", ?" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IntoParams, list, rows};

    fn expanded(text: &'static str, params: impl IntoParams) -> Result<(String, usize), Misfit> {
        let parameters = super::super::Shape::of(text, Engine::Sqlite).parameters;
        let text = StatementText::constant(text);
        expand(text, parameters, params.into_params(), Engine::Sqlite)
            .map(|(text, values)| (text.as_str().to_owned(), values.len()))
    }

    #[test]
    fn lists_grow_to_a_power_of_two() {
        let (text, values) =
            expanded("SELECT '?' FROM t WHERE a = ? AND b IN (?)", (1, list([1, 2, 3]))).unwrap();
        assert_eq!(text, "SELECT '?' FROM t WHERE a = ? AND b IN (?, ?, ?, ?)");
        assert_eq!(values, 5);
    }

    #[test]
    fn as_many_values_as_are_possible_are_taken() {
        const ONE: &str = "a = ? AND b IN (?)";
        for length in [16_385_i64, 20_000, 32_765] {
            let (text, values) = expanded(ONE, (1, list(0..length))).unwrap();
            assert_eq!(values, MAX_PARAMETERS, "{length}");
            assert_eq!(text.matches('?').count(), values);
        }
        let two = expanded("a IN (?) AND b IN (?)", (list(0..20_000_i64), list(0..12_000_i64)));
        assert_eq!(two.unwrap().1, MAX_PARAMETERS);
        let found = MAX_PARAMETERS + 1;
        let many = expanded(ONE, (1, list(0..32_766_i64))).unwrap_err();
        assert_eq!(many, Misfit::TooMany { found });
    }

    #[test]
    fn an_empty_list_matches_nothing() {
        let (text, values) = expanded("a IN (?)", (list::<i64>([]),)).unwrap();
        assert_eq!((text.as_str(), values), ("a IN (NULL)", 0));
    }

    #[test]
    fn rows_are_written_out() {
        let two = rows([[1.into(), "a".into()], [2.into(), "b".into()]]);
        let (text, values) = expanded("INSERT INTO t (a, b) VALUES ?", (two,)).unwrap();
        assert_eq!(text, "INSERT INTO t (a, b) VALUES (?, ?), (?, ?)");
        assert_eq!(values, 4);
    }

    #[test]
    fn misfits_say_what_was_expected() {
        let count = expanded("a = ? AND b = ?", (1,)).unwrap_err();
        assert_eq!(count, Misfit::Count { expected: 2, found: 1 });
        let ragged = Param::Rows(vec![vec![1.into()], vec![1.into(), 2.into()]]);
        assert_eq!(
            expanded("VALUES ?", vec![ragged]).unwrap_err(),
            Misfit::Ragged { row: 2, expected: 1, found: 2 }
        );
        assert_eq!(
            expanded("VALUES ?", vec![Param::Rows(vec![])]).unwrap_err(),
            Misfit::NoRows { parameter: 1 }
        );
        let many = expanded("a IN (?)", (list(0..40_000_i64),)).unwrap_err();
        assert!(matches!(many, Misfit::TooMany { .. }));
    }

    #[test]
    fn constant_texts_stay_constant() {
        let text = StatementText::constant("a = ?");
        let (text, _) = expand(text, 1, (1,).into_params(), Engine::Sqlite).unwrap();
        assert_eq!(text, StatementText::constant("a = ?"));
    }
}
