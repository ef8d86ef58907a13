use serde_json::{Map, Value, json};

use super::treatment::Treatment;
use super::{Builder, CONTAINER, Slot};
use crate::component::DEFAULT;
use crate::loader::path::Path;
use crate::loader::problem::Problem;
use crate::loader::read::{Broken, read};
use crate::loader::schema::Schemas;
use crate::loader::tree::Tree;
use crate::loader::{check, secret};
use crate::{ConfigError, ContainerConfig, Loader, Result};

impl Builder {
    /// Reads the sources, checks them and gives every part its settings.
    pub(super) fn read(&mut self, schemas: &Schemas, loader: &Loader) -> Result<ContainerConfig> {
        let mut problems = Vec::new();
        let mut tree = loader.layers(schemas, &mut problems);
        if problems.iter().any(|problem| problem.path().is_empty()) {
            // What a file would have said is unknown; the rest would be noise.
            return Err(ConfigError::new(problems).into());
        }
        self.slots.retain(|slot| !slot.is_on_demand || slot.has_table(tree.root()));
        self.complete(tree.root_mut());
        let secrets = secret::resolve(&mut tree, schemas, &loader.environment, &mut problems);
        check::check(&tree, schemas, &mut problems);
        for unknown in problems.iter().filter(|problem| problem.is_unknown_key()) {
            // Rules of the other keys are checked all the same.
            unknown.at().remove_from(tree.root_mut());
        }
        let mut reader = Reader { tree: &tree, secrets, problems };
        let container = self.distribute(&mut reader);
        let mut problems = reader.problems;
        self.check_needs(&tree, &mut problems);
        if problems.is_empty() { Ok(container) } else { Err(ConfigError::new(problems).into()) }
    }

    /// Adds a table for each part that has none, so that the keys it lacks are
    /// reported.
    fn complete(&self, root: &mut Map<String, Value>) {
        for section in &self.sections {
            root.entry(section.name()).or_insert_with(|| json!({}));
        }
        for slot in &self.slots {
            let section = root.entry(slot.entry.section()).or_insert_with(|| json!({}));
            if let (Some(section), false) = (section.as_object_mut(), slot.is_default()) {
                section.entry(slot.entry.instance()).or_insert_with(|| json!({}));
            }
        }
    }

    fn distribute(&mut self, reader: &mut Reader<'_>) -> ContainerConfig {
        let own = Path::root().key(CONTAINER);
        let container = reader.part(&own, reader.table(CONTAINER), read);
        for section in &mut self.sections {
            let (path, table) = (Path::root().key(section.name()), reader.table(section.name()));
            reader.part(&path, table, |value| section.read(value));
        }
        let instances: Vec<_> = self
            .slots
            .iter()
            .filter(|slot| !slot.is_default())
            .map(|slot| (slot.entry.section(), slot.entry.instance().to_owned()))
            .collect();
        for slot in &mut self.slots {
            let section = slot.entry.section();
            let mut table = reader.table(section);
            let path = slot.path();
            if slot.is_default() {
                table.retain(|key, _| {
                    !instances.iter().any(|(of, name)| *of == section && name == key)
                });
            } else {
                let instance = slot.entry.instance();
                table = table.remove(instance).and_then(into_table).unwrap_or_default();
            }
            reader.service(slot, &path, table);
        }
        container.unwrap_or_default()
    }
}

/// What was read so far, and what is wrong with it.
struct Reader<'a> {
    tree: &'a Tree,
    secrets: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn table(&self, section: &str) -> Map<String, Value> {
        self.tree.root().get(section).cloned().and_then(into_table).unwrap_or_default()
    }

    /// Reads one part, unless it has problems already: they would come again.
    fn part<T>(
        &mut self,
        path: &Path,
        table: Map<String, Value>,
        read: impl FnOnce(Value) -> Result<T, Vec<Broken>>,
    ) -> Option<T> {
        if self.is_broken(path) {
            return None;
        }
        read(Value::Object(table)).map_err(|broken| self.say(path, broken)).ok()
    }

    fn service(&mut self, slot: &mut Slot, path: &Path, mut table: Map<String, Value>) {
        let treatment = Treatment::take(&mut table);
        if self.is_broken(path) {
            return;
        }
        self.entry(slot, path, table);
        match read(treatment) {
            Ok(treatment) => slot.treatment = treatment,
            Err(broken) => self.say(path, broken),
        }
    }

    fn entry(&mut self, slot: &mut Slot, path: &Path, mut table: Map<String, Value>) {
        let Some(shared) = slot.entry.connections() else {
            self.part(path, table, |value| slot.entry.read(value));
            return;
        };
        let connections = Path::root().key(shared.section);
        if self.is_broken(&connections) {
            return;
        }
        table.insert(shared.field.to_owned(), self.table(shared.section).into());
        let Err(broken) = slot.entry.read(Value::Object(table)) else {
            return;
        };
        let (of_connections, own): (Vec<_>, Vec<_>) = broken.into_iter().partition(|(at, _)| {
            at.strip_prefix(shared.field).is_some_and(|rest| rest.starts_with('.'))
        });
        self.say(path, own);
        let inside =
            |(at, text): Broken| (at.split_once('.').unwrap_or_default().1.to_owned(), text);
        self.say(&connections, of_connections.into_iter().map(inside).collect());
    }

    fn is_broken(&self, path: &Path) -> bool {
        let real = self.problems.iter().filter(|problem| !problem.is_unknown_key());
        real.into_iter().any(|problem| problem.at().starts_with(path))
    }

    fn say(&mut self, path: &Path, broken: Vec<Broken>) {
        for (inside, text) in broken {
            let path = path.join(&inside);
            // Neither serde nor a host's own rule knows what is a secret.
            let hide = |text: String, secret: &String| text.replace(secret, "***");
            let text = self.secrets.iter().fold(text, hide);
            self.problems.push(Problem::new(&path, text, self.tree.origin(&path)));
        }
    }
}

fn into_table(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(table) => Some(table),
        _ => None,
    }
}

impl Slot {
    pub(super) fn is_default(&self) -> bool {
        self.entry.instance() == DEFAULT
    }

    /// Returns where its settings are.
    pub(super) fn path(&self) -> Path {
        let section = Path::root().key(self.entry.section());
        if self.is_default() { section } else { section.key(self.entry.instance()) }
    }

    fn has_table(&self, root: &Map<String, Value>) -> bool {
        let section = root.get(self.entry.section());
        if self.is_default() {
            return section.is_some();
        }
        section.and_then(|section| section.get(self.entry.instance())).is_some()
    }
}
