use serde_json::Value;

use crate::Settings;

/// One broken rule, with its path inside the section; empty for the whole.
pub(crate) type Broken = (String, String);

/// Reads a section that its schema accepts, and checks the rules that no schema
/// can say.
pub(crate) fn read<T: Settings>(value: Value) -> Result<T, Vec<Broken>> {
    let settings: T = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = Some(error.path().to_string()).filter(|path| path != ".");
        vec![(path.unwrap_or_default(), error.inner().to_string())]
    })?;
    let problems = settings.problems();
    if problems.is_empty() {
        return Ok(settings);
    }
    let split = |problem: String| match problem.split_once(": ") {
        Some((path, text)) if !path.contains(' ') => (path.to_owned(), text.to_owned()),
        _ => (String::new(), problem),
    };
    Err(problems.into_iter().map(split).collect())
}
