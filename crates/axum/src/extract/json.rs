use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::Problem;

/// Reads a body; fails with what is wrong and where, without repeating it.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = Some(error.path().to_string()).filter(|path| path != ".");
        let cause = error.inner();
        match cause.classify() {
            Category::Data => refused(&path.unwrap_or_default(), &cause.to_string()),
            _ => malformed(cause),
        }
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let problem = if error.classify() == Category::Eof {
        Problem::malformed(format!("the JSON ends too early, at line {line} column {column}"))
    } else {
        Problem::malformed(format!("not JSON at line {line} column {column}"))
    };
    problem.with_field("body")
}

/// Names the field that serde's message is about. `path` leads to it, or to
/// the object that should have it.
pub(super) fn refused(path: &str, message: &str) -> Problem {
    let quoted = message.split('`').nth(1).unwrap_or_default();
    let named = |prefix: &str| message.contains(prefix) && !quoted.is_empty();
    let (field, detail) = if named("missing field") {
        (joined(path, quoted), "missing".to_owned())
    } else if named("duplicate field") {
        (joined(path, quoted), "given twice".to_owned())
    } else if named("unknown field") {
        // The path leads to the field itself, where the reader tracks it.
        let known = path == quoted || path.ends_with(&format!(".{quoted}"));
        let field = if known { path.to_owned() } else { joined(path, quoted) };
        (field, "unknown field".to_owned())
    } else {
        let expected = message.rsplit_once("expected ").map(|(_, rest)| rest);
        let expected = expected.map(|rest| rest.split(" at line ").next().unwrap_or(rest));
        let detail = expected.map_or_else(
            || "not an acceptable value".to_owned(),
            |expected| format!("expected {expected}"),
        );
        (path.to_owned(), detail)
    };
    let field = if field.is_empty() { "body".to_owned() } else { field };
    Problem::invalid_field(field, detail)
}

fn joined(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}
