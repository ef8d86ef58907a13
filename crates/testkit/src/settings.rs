use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::env;
use crate::error::{Error, Result};

const BEGIN: &str = "<!-- settings -->\n";
const END: &str = "<!-- end of settings -->\n";

/// Checks that the table of settings in `readme` is the one that the JSON
/// schema of the configuration makes, or writes it there if
/// `TRINE_UPDATE_README` is set.
///
/// The table stands between the lines `<!-- settings -->` and
/// `<!-- end of settings -->`. A key's meaning is its description, and its
/// default what the description says after `Default:` at its end.
///
/// # Errors
///
/// Fails with [`Error::Invalid`] for a page without these two lines, and for
/// another table, with the command that writes it.
///
/// # Example
///
/// ```no_run
/// # struct AppConfig;
/// # fn schema_of<T>() -> serde_json::Value { serde_json::Value::Null }
/// # fn main() -> trine_testkit::Result<()> {
/// // With schemars: schemars::schema_for!(AppConfig).to_value()
/// trine_testkit::check_settings("README.md".as_ref(), &schema_of::<AppConfig>())?;
/// # Ok(())
/// # }
/// ```
pub fn check_settings(readme: &Path, schema: &Value) -> Result<()> {
    let page =
        fs::read_to_string(readme).map_err(Error::io(format!("open {}", readme.display())))?;
    let missing = || {
        let lines = format!("{} and {}", BEGIN.trim_end(), END.trim_end());
        Error::Invalid(format!("{}: expected the lines {lines}", readme.display()))
    };
    let (before, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (present, after) = rest.split_once(END).ok_or_else(missing)?;
    let expected = table(schema);
    if present == expected {
        return Ok(());
    }
    if env::text(env::UPDATE_README).is_some() {
        let page = [before, BEGIN, &expected, END, after].concat();
        return fs::write(readme, page).map_err(Error::io(format!("open {}", readme.display())));
    }
    let (page, variable) = (readme.display(), env::UPDATE_README);
    Err(Error::Invalid(format!(
        "{page}: its settings are not those of the code; run the test again with {variable}=1"
    )))
}

/// Returns the table of every key below `schema`.
fn table(schema: &Value) -> String {
    let mut rows = Rows { definitions: definitions(schema), text: String::new() };
    rows.text.push_str("\n| key | default | meaning |\n|---|---|---|\n");
    rows.add_fields("", schema);
    rows.text.push('\n');
    rows.text
}

struct Rows<'a> {
    definitions: Option<&'a Map<String, Value>>,
    text: String,
}

impl<'a> Rows<'a> {
    fn add_fields(&mut self, path: &str, schema: &'a Value) {
        let required = schema.get("required").and_then(Value::as_array);
        for (name, field) in fields(schema) {
            // The kind is named with the keys that it brings.
            if field.get("const").is_some() {
                continue;
            }
            let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let is_required = required.is_some_and(|all| all.iter().any(|one| one == name));
            self.add_field(&key, field, is_required);
        }
    }

    fn add_field(&mut self, key: &str, field: &'a Value, is_required: bool) {
        let target = self.resolve(field);
        let inside = [("additionalProperties", ".<name>"), ("items", "[]")];
        let container = inside.iter().find_map(|(keyword, suffix)| {
            let items = target.get(*keyword).filter(|items| items.is_object())?;
            Some((self.resolve(items), format!("{key}{suffix}")))
        });
        let (content, path) = container.unwrap_or_else(|| (target, key.to_owned()));
        let kinds: Vec<_> = variants(content).filter(|kind| tag(kind).is_some()).collect();
        let is_group = !kinds.is_empty() || !fields(content).is_empty();
        if !is_group {
            return self.add_row(key, field, is_required);
        }
        self.add_fields(&path, content);
        for kind in kinds {
            let Some((tag, name)) = tag(kind) else { continue };
            let text = description(kind).unwrap_or_default();
            self.push(&format!("{path}.{tag} = \"{name}\""), "", &text);
            self.add_fields(&path, kind);
            // A newtype variant has its fields in a definition.
            let definition = self.resolve(kind);
            if !std::ptr::eq(definition, kind) {
                self.add_fields(&path, definition);
            }
        }
    }

    fn add_row(&mut self, key: &str, field: &Value, is_required: bool) {
        let text = description(field).unwrap_or_default();
        let (meaning, default) = match text.rsplit_once("Default: ") {
            Some((meaning, default)) => (meaning.trim_end(), default.trim_end_matches('.')),
            None if is_required => (text.as_str(), "required"),
            None => (text.as_str(), "none"),
        };
        self.push(key, default, meaning);
    }

    fn push(&mut self, key: &str, default: &str, meaning: &str) {
        let meaning = meaning.replace('|', "\\|");
        self.text.push_str(&format!("| `{key}` | {default} | {meaning} |\n"));
    }

    /// Follows a reference, and looks behind the null of an optional value.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let choices = schema.get("anyOf").and_then(Value::as_array);
        let only = choices.and_then(|choices| {
            choices.iter().find(|choice| choice.get("type").is_none_or(|kind| kind != "null"))
        });
        let schema = only.unwrap_or(schema);
        let name = schema.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|name| name.strip_prefix("#/$defs/"));
        let found = name.and_then(|name| self.definitions?.get(name));
        found.unwrap_or(schema)
    }
}

fn definitions(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("$defs").and_then(Value::as_object)
}

/// Returns the fields in the order of their names, whatever order serde_json
/// was built to keep.
fn fields(schema: &Value) -> BTreeMap<&str, &Value> {
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    fields.map(|(name, field)| (name.as_str(), field)).collect()
}

fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    schema.get("oneOf").and_then(Value::as_array).into_iter().flatten()
}

/// Returns the field that tells a variant from the others, and its value.
fn tag(variant: &Value) -> Option<(&str, &str)> {
    fields(variant)
        .into_iter()
        .find_map(|(name, field)| Some((name, field.get("const")?.as_str()?)))
}

/// Returns a description as one line, without the targets of its links.
fn description(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some((before, link)) = rest.split_once('[') {
        let Some((label, behind)) = link.split_once(']') else { break };
        plain.push_str(before);
        plain.push_str(label);
        rest = match behind.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, behind)) => behind,
            None => behind,
        };
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "properties": {
                "name": { "type": "string", "description": "What it\nis [called](Name)." },
                "size": { "type": "integer", "description": "A|B. Default: 3." },
                "map": { "$ref": "#/$defs/Map", "description": "The map." },
                "stores": { "additionalProperties": { "$ref": "#/$defs/Store" } },
                "parts": { "type": "array", "items": { "$ref": "#/$defs/Map" } },
                "mode": { "anyOf": [{ "$ref": "#/$defs/Mode" }, { "type": "null" }],
                          "description": "How. Default: `auto`." },
            },
            "required": ["name"],
            "$defs": {
                "Map": { "properties": {
                    "lease": { "type": "string", "description": "How long. Default: 5s." },
                } },
                "Mode": { "oneOf": [
                    { "const": "auto" },
                    { "properties": { "off": { "type": "string" } } },
                ] },
                "Store": { "oneOf": [
                    { "properties": { "kind": { "const": "memory" } }, "description": "A map." },
                    { "$ref": "#/$defs/File", "properties": { "kind": { "const": "file" } },
                      "description": "A file." },
                ] },
                "File": { "properties": {
                    "path": { "type": "string", "description": "Where." },
                }, "required": ["path"] },
            },
        })
    }

    const EXPECTED: &str = "\n| key | default | meaning |\n|---|---|---|\n\
        | `map.lease` | 5s | How long. |\n\
        | `mode` | `auto` | How. |\n\
        | `name` | required | What it is called. |\n\
        | `parts[].lease` | 5s | How long. |\n\
        | `size` | 3 | A\\|B. |\n\
        | `stores.<name>.kind = \"memory\"` |  | A map. |\n\
        | `stores.<name>.kind = \"file\"` |  | A file. |\n\
        | `stores.<name>.path` | required | Where. |\n\n";

    #[test]
    fn every_key_has_its_row() {
        assert_eq!(table(&schema()), EXPECTED);
    }

    #[test]
    fn another_table_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("README.md");
        let of = |table: &str| format!("# A\n\n{BEGIN}{table}{END}\nend\n");
        fs::write(&page, of(EXPECTED)).unwrap();
        check_settings(&page, &schema()).unwrap();
        fs::write(&page, of("\n| key |\n\n")).unwrap();
        let error = check_settings(&page, &schema()).unwrap_err().to_string();
        assert!(error.contains("TRINE_UPDATE_README=1"), "{error}");
        fs::write(&page, "# A\n").unwrap();
        let error = check_settings(&page, &schema()).unwrap_err().to_string();
        assert!(error.contains("expected the lines <!-- settings -->"), "{error}");
    }
}
