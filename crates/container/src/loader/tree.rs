use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::path::{Path, Step};

/// The merged configuration, with where each part of it comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    root: Map<String, Value>,
    origins: BTreeMap<Path, Arc<str>>,
}

/// The key that tells which variant a table is; see [`Loader`](crate::Loader).
const KIND: &str = "kind";

impl Tree {
    /// Lays `table` over what is there.
    pub(crate) fn merge(&mut self, table: Map<String, Value>, origin: &Arc<str>) {
        merge(&mut self.root, table, &Path::root(), origin, &mut self.origins);
    }

    /// Puts one value at a path of keys, over what is there.
    pub(crate) fn set(&mut self, path: &Path, value: Value, origin: &Arc<str>) {
        let keys = path.steps().iter().rev();
        let nested = keys.fold(value, |inner, step| match step {
            Step::Key(key) => Value::Object(Map::from_iter([(key.clone(), inner)])),
            Step::Index(_) => inner,
        });
        if let Value::Object(table) = nested {
            self.merge(table, origin);
        }
    }

    pub(crate) fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    pub(crate) fn root_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.root
    }

    /// Returns who set the value at `path`, or what it is part of.
    pub(crate) fn origin(&self, path: &Path) -> Option<Arc<str>> {
        let mut path = path.clone();
        loop {
            if let Some(origin) = self.origins.get(&path) {
                return Some(Arc::clone(origin));
            }
            path = path.parent()?;
        }
    }

    /// Notes that the value at `path` comes from `origin`.
    pub(crate) fn note(&mut self, path: Path, origin: Arc<str>) {
        self.origins.insert(path, origin);
    }
}

fn merge(
    under: &mut Map<String, Value>,
    over: Map<String, Value>,
    path: &Path,
    origin: &Arc<str>,
    origins: &mut BTreeMap<Path, Arc<str>>,
) {
    let changes_kind = matches!((under.get(KIND), over.get(KIND)), (Some(a), Some(b)) if a != b);
    if changes_kind {
        under.clear();
        origins.retain(|known, _| known == path || !known.starts_with(path));
    }
    for (key, value) in over {
        let path = path.key(&*key);
        origins.insert(path.clone(), Arc::clone(origin));
        match (under.get_mut(&key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => {
                merge(under, over, &path, origin, origins);
            }
            (_, Value::Object(over)) => {
                origins.retain(|known, _| *known == path || !known.starts_with(&path));
                let mut table = Map::new();
                merge(&mut table, over, &path, origin, origins);
                under.insert(key, Value::Object(table));
            }
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
