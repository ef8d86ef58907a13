use std::collections::BTreeSet;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

use super::path::{Path, Step};
use super::problem::{Problem, nearest};
use super::schema::{FILE, Schemas, is_secret};
use super::tree::Tree;

/// Compares the tree with its schema and names everything that differs.
///
/// Says what was expected and never what was found, but for numbers that are no
/// secret.
pub(crate) fn check(tree: &Tree, schemas: &Schemas, problems: &mut Vec<Problem>) {
    let whole = Value::Object(tree.root().clone());
    let validator = match jsonschema::validator_for(schemas.root()) {
        Ok(validator) => validator,
        Err(error) => {
            let text = format!("the schema of the settings is not valid: {}", error.masked());
            problems.push(Problem::new(&Path::root(), text, None));
            return;
        }
    };
    let mut checker = Checker { tree, whole: &whole, schemas, problems };
    for error in validator.iter_errors(&whole) {
        checker.error(&error);
    }
}

struct Checker<'a> {
    tree: &'a Tree,
    whole: &'a Value,
    schemas: &'a Schemas,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn error(&mut self, error: &ValidationError<'_>) {
        let path = self.path(error);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                let known = self.known(&path, error);
                unexpected.iter().for_each(|key| self.unknown(&path, key, &known));
            }
            Kind::Required { property } => self.missing(&path, property),
            Kind::OneOfNotValid { context } | Kind::AnyOf { context } => {
                self.alternatives(&path, error, context);
            }
            _ => {
                let expected = self.expected(&path, error);
                self.say(&path, expected);
            }
        }
    }

    fn path(&self, error: &ValidationError<'_>) -> Path {
        Path::root().follow(error.instance_path().as_str(), self.whole)
    }

    fn say(&mut self, path: &Path, text: impl Into<String>) {
        self.problems.push(Problem::new(path, text, self.tree.origin(path)));
    }

    fn unknown(&mut self, table: &Path, key: &str, known: &BTreeSet<String>) {
        let path = table.key(key);
        let text = match nearest(key, known.iter().map(String::as_str)) {
            Some(meant) => format!("unknown key; did you mean `{meant}`?"),
            None => format!("unknown key{}", one_of(known)),
        };
        self.problems.push(Problem::unknown_key(&path, text, self.tree.origin(&path)));
    }

    /// Returns the keys that the table at fault may have, those that name the
    /// file of a secret among them.
    fn known(&self, table: &Path, error: &ValidationError<'_>) -> BTreeSet<String> {
        let place = error.schema_path().as_str();
        let refused =
            place.rsplit_once('/').and_then(|(place, _)| self.schemas.root().pointer(place));
        let schemas = refused.map_or_else(|| self.schemas.at(table), |schema| vec![schema]);
        let mut known = BTreeSet::new();
        for key in Schemas::keys(&schemas) {
            if is_secret(&self.schemas.inside(&schemas, &Step::Key(key.to_owned()))) {
                known.insert(format!("{key}{FILE}"));
            }
            known.insert(key.to_owned());
        }
        known
    }

    fn missing(&mut self, table: &Path, property: &Value) {
        let path = table.key(property.as_str().unwrap_or_default());
        let schemas = self.schemas.at(&path);
        let file = if is_secret(&schemas) { ", itself or as a file" } else { "" };
        let values =
            schemas.iter().filter_map(|schema| Some(schema.get("const")?.as_str()?.to_owned()));
        let values = one_of(&values.collect());
        // Not the origin of the table: nobody has set this key.
        self.problems.push(Problem::new(&path, format!("missing{file}{values}"), None));
    }

    /// Reports why none of several schemas fits, by the one that was meant.
    fn alternatives(
        &mut self,
        path: &Path,
        error: &ValidationError<'_>,
        branches: &[Vec<ValidationError<'_>>],
    ) {
        let found = error.instance();
        let open: Vec<_> = branches
            .iter()
            .filter(|branch| !branch.iter().any(|e| self.is_here(path, e)))
            .collect();
        if open.is_empty() {
            let expected = Expected::of_all(branches);
            let meant = self.meant(path, found, &expected.values);
            self.say(path, format!("{}{meant}", expected.text(found)));
            return;
        }
        let untagged = open.iter().filter(|branch| self.tag(path, branch).is_none());
        let fitting = untagged.min_by_key(|branch| branch.len());
        if let Some(missing) = missing_in_all(&open) {
            self.missing(path, &missing);
        } else if let Some(branch) = fitting {
            branch.iter().for_each(|error| self.error(error));
        } else {
            let tags: Vec<_> = open.iter().filter_map(|branch| self.tag(path, branch)).collect();
            let Some((at, instance)) = tags.first().map(|tag| (self.path(tag), tag.instance()))
            else {
                return;
            };
            let mut expected = Expected::default();
            tags.iter().for_each(|tag| expected.add(tag));
            let meant = self.meant(&at, instance, &expected.values);
            self.say(&at, format!("{}{meant}", expected.text(instance)));
        }
    }

    /// Tells whether a branch is refused for what the value as such is.
    fn is_here(&self, path: &Path, error: &ValidationError<'_>) -> bool {
        let kinds = match error.kind() {
            Kind::OneOfNotValid { context } | Kind::AnyOf { context } => {
                context.iter().all(|branch| branch.iter().any(|error| self.is_here(path, error)))
            }
            Kind::Type { .. } | Kind::Constant { .. } | Kind::Enum { .. } => true,
            _ => false,
        };
        kinds && self.path(error) == *path
    }

    /// Returns the error that refuses a branch because its table is tagged as
    /// another variant.
    fn tag<'e>(
        &self,
        path: &Path,
        branch: &'e [ValidationError<'e>],
    ) -> Option<&'e ValidationError<'e>> {
        branch.iter().find(|error| {
            matches!(error.kind(), Kind::Constant { .. })
                && self.path(error).parent().as_ref() == Some(path)
        })
    }

    fn expected(&self, path: &Path, error: &ValidationError<'_>) -> String {
        let found = error.instance();
        let number = match &**found {
            Value::Number(number) if !is_secret(&self.schemas.at(path)) => {
                format!(", found {number}")
            }
            _ => String::new(),
        };
        match error.kind() {
            Kind::Type { .. } | Kind::Constant { .. } | Kind::Enum { .. } => {
                let mut expected = Expected::default();
                expected.add(error);
                let meant = self.meant(path, found, &expected.values);
                format!("{}{meant}", expected.text(found))
            }
            Kind::Minimum { limit } => format!("must be at least {limit}{number}"),
            Kind::Maximum { limit } => format!("must be at most {limit}{number}"),
            Kind::ExclusiveMinimum { limit } => format!("must be greater than {limit}{number}"),
            Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}{number}"),
            Kind::MinLength { limit } => format!("must have at least {limit} characters"),
            Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
            Kind::MinItems { limit } => format!("must have at least {limit} items"),
            Kind::MaxItems { limit } => format!("must have at most {limit} items"),
            Kind::UniqueItems => "must not have an item twice".to_owned(),
            Kind::Pattern { pattern } => self.pattern(path, pattern),
            _ => error.masked_with("the value").to_string(),
        }
    }

    /// Says by an example what a pattern wants, where the schema has one.
    fn pattern(&self, path: &Path, pattern: &str) -> String {
        let schemas = self.schemas.at(path);
        let examples = schemas.iter().filter_map(|schema| schema.get("examples")?.as_array());
        let examples: Vec<_> = examples.flatten().map(ToString::to_string).collect();
        if examples.is_empty() {
            return format!("must match `{pattern}`");
        }
        format!("must be like {}", examples.join(" or "))
    }

    fn meant(&self, path: &Path, found: &Value, values: &BTreeSet<String>) -> String {
        let typed = found.as_str().filter(|_| !is_secret(&self.schemas.at(path)));
        let meant = typed.and_then(|typed| nearest(typed, values.iter().map(String::as_str)));
        meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
    }
}

/// Lists what would do, if anything.
fn one_of(words: &BTreeSet<String>) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match words.len() {
        0 => String::new(),
        1 => format!("; expected {}", words.concat()),
        _ => format!("; expected one of {}", words.join(", ")),
    }
}

/// Returns a key that is missing whichever branch was meant.
fn missing_in_all(branches: &[&Vec<ValidationError<'_>>]) -> Option<Value> {
    let missing = |branch: &Vec<ValidationError<'_>>| -> Vec<Value> {
        let required = branch.iter().filter_map(|error| match error.kind() {
            Kind::Required { property } => Some(property.clone()),
            _ => None,
        });
        required.collect()
    };
    let (first, others) = branches.split_first()?;
    let in_all = |key: &Value| others.iter().all(|branch| missing(branch).contains(key));
    missing(first).into_iter().find(|key| !others.is_empty() && in_all(key))
}

/// What would have been accepted.
#[derive(Default)]
struct Expected {
    values: BTreeSet<String>,
    types: BTreeSet<&'static str>,
}

impl Expected {
    fn of_all(branches: &[Vec<ValidationError<'_>>]) -> Self {
        let mut expected = Self::default();
        branches.iter().for_each(|branch| expected.branch(branch));
        expected
    }

    /// Takes the values of a branch, or else its type.
    fn branch(&mut self, branch: &[ValidationError<'_>]) {
        let names_values = |error: &&ValidationError<'_>| {
            matches!(error.kind(), Kind::Constant { .. } | Kind::Enum { .. })
        };
        match branch.iter().find(names_values) {
            Some(error) => self.add(error),
            None => branch.iter().for_each(|error| self.add(error)),
        }
    }

    fn add(&mut self, error: &ValidationError<'_>) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match error.kind() {
            Kind::Constant { expected_value } => {
                self.values.insert(text(expected_value));
            }
            Kind::Enum { options } => {
                self.values.extend(options.as_array().into_iter().flatten().map(text));
            }
            Kind::Type { kind: TypeKind::Single(kind) } => {
                self.types.extend(type_name(kind.as_str()));
            }
            Kind::Type { kind: TypeKind::Multiple(kinds) } => {
                self.types.extend(kinds.iter().filter_map(|kind| type_name(kind.as_str())));
            }
            Kind::OneOfNotValid { context } | Kind::AnyOf { context } => {
                context.iter().for_each(|branch| self.branch(branch));
            }
            _ => {}
        }
    }

    fn text(&self, found: &Value) -> String {
        let values = self.values.iter().map(|value| format!("`{value}`"));
        let all: Vec<_> = values.chain(self.types.iter().map(|name| (*name).to_owned())).collect();
        let one_of = if all.len() > 1 { "one of " } else { "" };
        // A wrong type is worth a word; a wrong word is not repeated.
        let found = match found {
            Value::String(_) if !self.values.is_empty() => String::new(),
            found => format!(", found {}", kind_of(found)),
        };
        format!("expected {one_of}{}{found}", all.join(", "))
    }
}

/// Returns `None` for `null`, which no file can say.
fn type_name(json: &str) -> Option<&'static str> {
    Some(match json {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        _ => return None,
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
