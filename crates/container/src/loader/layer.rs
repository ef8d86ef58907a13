use std::fs;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Loader;
use super::path::Path;
use super::problem::Problem;
use super::schema::Schemas;
use super::secret;
use super::tree::Tree;
use crate::Environment;

impl Loader {
    /// Reads every source and lays them over each other.
    pub(crate) fn layers(&self, schemas: &Schemas, problems: &mut Vec<Problem>) -> Tree {
        let mut layers = Layers { tree: Tree::default(), schemas, problems };
        for text in &self.defaults {
            layers.parse(text, &"defaults of the program".into());
        }
        if let Some(folder) = &self.folder {
            layers.read_file(&folder.join("default.toml"), Absent::Allowed);
            if let Some(profile) = &self.profile {
                layers.read_file(&folder.join(format!("{profile}.toml")), Absent::Refused);
            }
        }
        for file in &self.files {
            layers.read_file(file, Absent::Refused);
        }
        let variables = self.variables(&layers.tree, schemas, layers.problems);
        layers.lay(variables);
        let mut overrides = Tree::default();
        for value in &self.overrides {
            overrides.set(&Path::dotted(&value.path), value.value.clone(), &value.from);
        }
        layers.lay(overrides);
        layers.tree
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

/// What was laid so far, and what is wrong with it.
struct Layers<'a> {
    tree: Tree,
    schemas: &'a Schemas,
    problems: &'a mut Vec<Problem>,
}

impl Layers<'_> {
    fn lay(&mut self, layer: Tree) {
        secret::supersede(&mut self.tree, layer.root(), self.schemas);
        self.tree.lay(layer);
    }

    fn read_file(&mut self, file: &FilePath, absent: Absent) {
        let origin: Arc<str> = file.display().to_string().into();
        match fs::read_to_string(file) {
            Ok(text) => self.parse(&text, &origin),
            Err(error) if error.kind() == io::ErrorKind::NotFound && absent == Absent::Allowed => {}
            Err(error) => {
                let text = format!("the file cannot be read: {error}");
                self.problems.push(Problem::new(&Path::root(), text, Some(origin)));
            }
        }
    }

    fn parse(&mut self, text: &str, origin: &Arc<str>) {
        match toml::from_str::<Map<String, Value>>(text) {
            Ok(table) => self.lay(Tree::layer(table, Arc::clone(origin))),
            Err(error) => {
                // The full text of the error quotes the line, which may hold a
                // secret.
                let line = error.span().map(|span| line_of(text, span.start));
                let origin =
                    line.map_or_else(|| origin.to_string(), |line| format!("{origin}:{line}"));
                let text = format!("not valid TOML: {}", error.message());
                self.problems.push(Problem::new(&Path::root(), text, Some(origin.into())));
            }
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
