use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::path::{Path, Step};

/// The schema of the whole configuration, and questions about it.
#[derive(Debug)]
pub(crate) struct Schemas {
    root: Value,
}

/// Suffix of the key that names a file instead of giving the secret itself.
pub(crate) const FILE: &str = "_file";

/// Deepest nesting of references that is followed.
const DEPTH: usize = 32;

impl Schemas {
    /// Takes the schema of the whole tree, with its definitions, and closes
    /// every table in it to unknown keys.
    pub(crate) fn new(mut root: Value) -> Self {
        close(&mut root, Part::Whole);
        Self { root }
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// Returns the schema for editors: as the one that is checked, but where a
    /// secret may stand, so may the name of its file.
    pub(crate) fn for_editors(&self) -> Value {
        let mut root = self.root.clone();
        allow_files(&mut root);
        root
    }

    /// Returns every schema that a value at `path` may have to follow.
    pub(crate) fn at(&self, path: &Path) -> Vec<&Value> {
        let start = self.expanded(vec![&self.root]);
        path.steps().iter().fold(start, |schemas, step| self.inside(&schemas, step))
    }

    /// Returns the schemas of one step further.
    pub(crate) fn inside<'a>(&'a self, schemas: &[&'a Value], step: &Step) -> Vec<&'a Value> {
        let next = schemas.iter().filter_map(|schema| match step {
            Step::Index(_) => schema.get("items"),
            Step::Key(key) => schema
                .get("properties")
                .and_then(|properties| properties.get(key))
                .or_else(|| schema.get("additionalProperties")),
        });
        self.expanded(next.collect())
    }

    /// Follows references and takes all branches of compositions.
    fn expanded<'a>(&'a self, schemas: Vec<&'a Value>) -> Vec<&'a Value> {
        let (mut flat, mut open) = (Vec::new(), schemas);
        for _ in 0..DEPTH {
            let mut next = Vec::new();
            for schema in open {
                flat.push(schema);
                let reference = schema.get("$ref").and_then(Value::as_str);
                next.extend(reference.and_then(|name| self.root.pointer(name.get(1..)?)));
                for branches in ["allOf", "anyOf", "oneOf"] {
                    next.extend(
                        schema.get(branches).and_then(Value::as_array).into_iter().flatten(),
                    );
                }
            }
            if next.is_empty() {
                break;
            }
            open = next;
        }
        flat
    }

    /// Returns the keys that a table with these schemas may have.
    pub(crate) fn keys<'a>(schemas: &[&'a Value]) -> BTreeSet<&'a str> {
        let properties = schemas.iter().filter_map(|schema| schema.get("properties")?.as_object());
        properties.flat_map(Map::keys).map(String::as_str).collect()
    }

    /// Returns the path that the parts of a variable's name mean: their
    /// spelling in the schema or in one of the `trees`, which may have capitals
    /// and dashes, else in small letters.
    pub(crate) fn spelled(&self, parts: &[&str], trees: &[&Map<String, Value>]) -> Path {
        let (mut path, mut here) = (Path::root(), trees.to_vec());
        for part in parts {
            let plain = |key: &str| key.to_ascii_lowercase().replace('-', "_");
            let schemas = self.at(&path);
            let known = Self::keys(&schemas).into_iter();
            let present = here.iter().copied().flat_map(Map::keys).map(String::as_str);
            let key = present.chain(known).find(|key| plain(key) == plain(part));
            let key = key.map_or_else(|| part.to_ascii_lowercase(), str::to_owned);
            here = here.iter().filter_map(|table| table.get(&key)?.as_object()).collect();
            path = path.key(key);
        }
        path
    }

    /// Reads the text of a variable as what the schema wants at `path`. What
    /// cannot be read stays text, which the check refuses.
    pub(crate) fn typed(&self, path: &Path, text: &str) -> Value {
        let types = types(&self.at(path));
        let wants = |kind: &str| types.contains(kind);
        let opens = |bracket: char| text.trim_start().starts_with(bracket);
        let is_nested = (wants("object") && opens('{')) || (wants("array") && opens('['));
        let parsed = if is_nested {
            inline(text)
        } else if wants("string") {
            None
        } else if let Ok(truth) = text.parse::<bool>()
            && wants("boolean")
        {
            Some(truth.into())
        } else if wants("integer") || wants("number") {
            let whole = text.parse::<i64>().map(Value::from);
            whole.or_else(|_| text.parse::<f64>().map(Value::from)).ok()
        } else {
            None
        };
        parsed.unwrap_or_else(|| text.into())
    }
}

fn inline(text: &str) -> Option<Value> {
    let table: Map<String, Value> = toml::from_str(&format!("value = {text}")).ok()?;
    table.into_iter().next().map(|(_, value)| value)
}

/// Tells whether a value with one of these schemas is a secret.
pub(crate) fn is_secret(schemas: &[&Value]) -> bool {
    let marks = |schema: &&Value| {
        schema.get("writeOnly").and_then(Value::as_bool) == Some(true)
            || schema.get("format").and_then(Value::as_str) == Some("password")
    };
    schemas.iter().any(marks)
}

fn types<'a>(schemas: &[&'a Value]) -> BTreeSet<&'a str> {
    let named = schemas.iter().filter_map(|schema| schema.get("type"));
    let names = |value: &'a Value| match value {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        single => single.as_str().into_iter().collect::<Vec<_>>(),
    };
    named.flat_map(names).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// One of several schemas that a value follows at once: it must not refuse
    /// what only the others know.
    OfSeveral,
}

fn close(schema: &mut Value, part: Part) {
    let Value::Object(table) = schema else {
        return;
    };
    let is_open = !table.contains_key("additionalProperties")
        && !table.contains_key("patternProperties")
        && !["$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| table.contains_key(*key));
    if part == Part::Whole && is_open && table.contains_key("properties") {
        table.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    let has_own = table.contains_key("properties");
    for (key, value) in table {
        match (key.as_str(), value) {
            ("properties" | "$defs", Value::Object(inner)) => {
                inner.values_mut().for_each(|schema| close(schema, Part::Whole));
            }
            ("items" | "additionalProperties", schema) => close(schema, Part::Whole),
            ("allOf", Value::Array(branches)) => {
                branches.iter_mut().for_each(|schema| close(schema, Part::OfSeveral));
            }
            ("anyOf" | "oneOf", Value::Array(branches)) => {
                let part = if has_own { Part::OfSeveral } else { part };
                branches.iter_mut().for_each(|schema| close(schema, part));
            }
            _ => {}
        }
    }
}

fn allow_files(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(allow_files),
        Value::Object(table) => {
            table.values_mut().for_each(allow_files);
            for secret in secret_keys(table) {
                let text =
                    format!("File whose content is `{secret}`, without its last line break.");
                let file = json!({ "type": "string", "description": text });
                if let Some(properties) = table.get_mut("properties").and_then(Value::as_object_mut)
                {
                    properties.entry(format!("{secret}{FILE}")).or_insert(file);
                }
                require_one_of(table, &secret);
            }
        }
        _ => {}
    }
}

fn secret_keys(table: &Map<String, Value>) -> Vec<String> {
    let properties = table.get("properties").and_then(Value::as_object).into_iter().flatten();
    let secrets = properties.filter(|(_, schema)| is_secret(&[schema]));
    secrets.map(|(key, _)| key.clone()).collect()
}

fn require_one_of(table: &mut Map<String, Value>, secret: &str) {
    let Some(required) = table.get_mut("required").and_then(Value::as_array_mut) else {
        return;
    };
    let before = required.len();
    required.retain(|key| key != secret);
    if required.len() == before {
        return;
    }
    let file = format!("{secret}{FILE}");
    let either = json!({ "oneOf": [{ "required": [secret] }, { "required": [file] }] });
    let all = table.entry("allOf").or_insert_with(|| json!([]));
    if let Some(all) = all.as_array_mut() {
        all.push(either);
    }
}
