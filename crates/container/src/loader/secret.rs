use std::fs;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::path::{Path, Step};
use super::problem::Problem;
use super::schema::{FILE, Schemas, is_secret};
use super::tree::Tree;
use crate::Environment;

/// Puts the secrets of files and variables into the tree.
///
/// Returns the text of every secret, so that messages can be searched for them.
pub(crate) fn resolve(
    tree: &mut Tree,
    schemas: &Schemas,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let mut root = Value::Object(std::mem::take(tree.root_mut()));
    let mut resolver =
        Resolver { tree, schemas, environment, problems, secrets: Vec::new(), moved: Vec::new() };
    let whole = resolver.schemas.at(&Path::root());
    resolver.value(&mut root, &Path::root(), &whole);
    let Resolver { mut secrets, moved, .. } = resolver;
    for (path, origin) in moved {
        tree.note(path, origin);
    }
    if let Value::Object(table) = root {
        *tree.root_mut() = table;
    }
    secrets.retain(|secret| !secret.is_empty());
    // The longest first, so that a part of one does not leave the rest.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// Makes room for a layer: a secret that it gives is no longer the file that an
/// earlier layer names for it, and the other way round.
pub(crate) fn supersede(tree: &mut Tree, layer: &Map<String, Value>, schemas: &Schemas) {
    make_room(tree.root_mut(), layer, schemas, &schemas.at(&Path::root()));
}

fn make_room(
    under: &mut Map<String, Value>,
    over: &Map<String, Value>,
    schemas: &Schemas,
    of_table: &[&Value],
) {
    for key in Schemas::keys(of_table) {
        let inside = schemas.inside(of_table, &Step::Key(key.to_owned()));
        let file = format!("{key}{FILE}");
        if !is_secret(&inside) || (over.contains_key(key) && over.contains_key(&file)) {
            continue;
        }
        if over.contains_key(key) {
            under.remove(&file);
        } else if over.contains_key(&file) {
            under.remove(key);
        }
    }
    for (key, value) in over {
        if let (Some(Value::Object(under)), Value::Object(over)) = (under.get_mut(key), value) {
            let inside = schemas.inside(of_table, &Step::Key(key.clone()));
            make_room(under, over, schemas, &inside);
        }
    }
}

struct Resolver<'a> {
    tree: &'a Tree,
    schemas: &'a Schemas,
    environment: &'a Environment,
    problems: &'a mut Vec<Problem>,
    secrets: Vec<String>,
    /// Where secrets came from that were read from files.
    moved: Vec<(Path, Arc<str>)>,
}

impl<'a> Resolver<'a> {
    fn value(&mut self, value: &mut Value, path: &Path, schemas: &[&'a Value]) {
        match value {
            Value::Object(table) => self.table(table, path, schemas),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let inside = self.schemas.inside(schemas, &Step::Index(index));
                    self.value(item, &path.index(index), &inside);
                }
            }
            Value::String(text) if is_secret(schemas) => {
                *text = self.expanded(text, path);
                self.secrets.push(text.clone());
            }
            _ => {}
        }
    }

    fn table(&mut self, table: &mut Map<String, Value>, path: &Path, schemas: &[&'a Value]) {
        self.files(table, path, schemas);
        for (key, value) in table {
            let inside = self.schemas.inside(schemas, &Step::Key(key.clone()));
            self.value(value, &path.key(key), &inside);
        }
    }

    /// Replaces `key_file` by `key` wherever `key` is a secret.
    fn files(&mut self, table: &mut Map<String, Value>, path: &Path, schemas: &[&'a Value]) {
        let known = Schemas::keys(schemas);
        let is_ours = |name: &&str| {
            let inside = self.schemas.inside(schemas, &Step::Key((*name).to_owned()));
            is_secret(&inside) && !known.contains(format!("{name}{FILE}").as_str())
        };
        let secrets: Vec<_> = known.iter().copied().filter(is_ours).collect();
        for secret in secrets {
            let key = format!("{secret}{FILE}");
            let Some(named) = table.remove(&key) else {
                continue;
            };
            let path = path.key(&*key);
            let origin = self.tree.origin(&path);
            let mut refuse = |text: String| {
                self.problems.push(Problem::new(&path, text, origin.clone()));
            };
            if table.contains_key(secret) {
                refuse(format!("`{secret}` is given as well; expected one of the two"));
                continue;
            }
            let text = match &named {
                Value::String(file) => fs::read_to_string(file).map_err(|error| {
                    refuse(format!("the file cannot be read: {error}"));
                }),
                _ => {
                    refuse("expected the name of a file as text".to_owned());
                    Err(())
                }
            };
            // What is missing was said here; a placeholder keeps the check quiet.
            let text = text.unwrap_or_default();
            let text =
                text.strip_suffix('\n').map_or(&*text, |t| t.strip_suffix('\r').unwrap_or(t));
            // Escaped, because a file is taken as it is.
            table.insert(secret.to_owned(), text.replace("${", "$${").into());
            let secret = path.parent().unwrap_or_default().key(secret);
            self.moved.extend(origin.map(|origin| (secret, origin)));
        }
    }

    /// Replaces each `${NAME}` by its variable.
    fn expanded(&mut self, text: &str, path: &Path) -> String {
        let (mut expanded, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            let (before, reference) = rest.split_at(at);
            let after = reference.get(2..).unwrap_or_default();
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = after;
                continue;
            }
            expanded.push_str(before);
            let name = after.split_once('}').filter(|(name, _)| is_name(name));
            let Some((name, after)) = name else {
                expanded.push_str("${");
                rest = after;
                continue;
            };
            match self.environment.get(name) {
                Some(value) => expanded.push_str(value),
                None => {
                    let text = format!("the variable {name} is not set");
                    self.problems.push(Problem::new(path, text, self.tree.origin(path)));
                }
            }
            rest = after;
        }
        expanded.push_str(rest);
        expanded
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
