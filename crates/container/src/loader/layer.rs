use std::fs;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Loader;
use super::path::Path;
use super::problem::Problem;
use super::schema::Schemas;
use super::tree::Tree;
use crate::Environment;

impl Loader {
    /// Reads every source and lays them over each other.
    pub(crate) fn layers(&self, schemas: &Schemas, problems: &mut Vec<Problem>) -> Tree {
        let mut tree = Tree::default();
        for text in &self.defaults {
            parse(&mut tree, text, &"defaults of the program".into(), problems);
        }
        if let Some(folder) = &self.folder {
            read_file(&mut tree, &folder.join("default.toml"), Absent::Allowed, problems);
            if let Some(profile) = &self.profile {
                let file = folder.join(format!("{profile}.toml"));
                read_file(&mut tree, &file, Absent::Refused, problems);
            }
        }
        for file in &self.files {
            read_file(&mut tree, file, Absent::Refused, problems);
        }
        let variables = self.variables(&tree, schemas, problems);
        tree.lay(variables);
        let mut overrides = Tree::default();
        for value in &self.overrides {
            overrides.set(&Path::dotted(&value.path), value.value.clone(), &value.from);
        }
        tree.lay(overrides);
        tree
    }

    /// Reads all variables as one layer over `tree`.
    fn variables(&self, tree: &Tree, schemas: &Schemas, problems: &mut Vec<Problem>) -> Tree {
        let mut layer = Tree::default();
        for (name, text) in self.environment.settings() {
            let origin: Arc<str> = format!("variable {}{name}", Environment::PREFIX).into();
            let keys: Vec<_> = name.split("__").collect();
            let path = schemas.spelled(&keys, &[tree.root(), layer.root()]);
            let Some(text) = text else {
                problems.push(Problem::new(&path, "not valid UTF-8", Some(origin)));
                continue;
            };
            let value = schemas.typed(&path, text);
            layer.set(&path, value, &origin);
        }
        layer
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Allowed,
    Refused,
}

fn read_file(tree: &mut Tree, file: &FilePath, absent: Absent, problems: &mut Vec<Problem>) {
    let origin: Arc<str> = file.display().to_string().into();
    match fs::read_to_string(file) {
        Ok(text) => parse(tree, &text, &origin, problems),
        Err(error) if error.kind() == io::ErrorKind::NotFound && absent == Absent::Allowed => {}
        Err(error) => {
            let text = format!("the file cannot be read: {error}");
            problems.push(Problem::new(&Path::root(), text, Some(origin)));
        }
    }
}

fn parse(tree: &mut Tree, text: &str, origin: &Arc<str>, problems: &mut Vec<Problem>) {
    match toml::from_str::<Map<String, Value>>(text) {
        Ok(table) => tree.lay(Tree::layer(table, Arc::clone(origin))),
        Err(error) => {
            // The full text of the error quotes the line, which may hold a secret.
            let line = error.span().map(|span| line_of(text, span.start));
            let origin = line.map_or_else(|| origin.to_string(), |line| format!("{origin}:{line}"));
            let text = format!("not valid TOML: {}", error.message());
            problems.push(Problem::new(&Path::root(), text, Some(origin.into())));
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
