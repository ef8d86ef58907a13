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

/// What a `kind` that differs from the former means for its table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinds {
    /// The table is replaced: it comes of another layer.
    Replace,
    /// Nothing: the parts of one layer belong together, in whatever order.
    Join,
}

impl Tree {
    /// Returns the layer that one source makes.
    pub(crate) fn layer(root: Map<String, Value>, origin: Arc<str>) -> Self {
        Self { root, origins: BTreeMap::from([(Path::root(), origin)]) }
    }

    /// Lays a whole layer over what is there.
    pub(crate) fn lay(&mut self, mut layer: Self) {
        let root = std::mem::take(&mut layer.root);
        let mut merge = Merge {
            kinds: Kinds::Replace,
            origin: &|path: &Path| layer.origin(path),
            origins: &mut self.origins,
        };
        merge.tables(&mut self.root, root, &Path::root());
    }

    /// Puts one value of this layer at a path of keys.
    pub(crate) fn set(&mut self, path: &Path, value: Value, origin: &Arc<str>) {
        let keys = path.steps().iter().rev();
        let nested = keys.fold(value, |inner, step| match step {
            Step::Key(key) => Value::Object(Map::from_iter([(key.clone(), inner)])),
            Step::Index(_) => inner,
        });
        if let Value::Object(table) = nested {
            let mut merge = Merge {
                kinds: Kinds::Join,
                origin: &|_: &Path| Some(Arc::clone(origin)),
                origins: &mut self.origins,
            };
            merge.tables(&mut self.root, table, &Path::root());
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

struct Merge<'a> {
    kinds: Kinds,
    /// Who set what comes on top.
    origin: &'a dyn Fn(&Path) -> Option<Arc<str>>,
    origins: &'a mut BTreeMap<Path, Arc<str>>,
}

impl Merge<'_> {
    fn tables(&mut self, under: &mut Map<String, Value>, over: Map<String, Value>, path: &Path) {
        let is_other = matches!((under.get(KIND), over.get(KIND)), (Some(a), Some(b)) if a != b);
        if is_other && self.kinds == Kinds::Replace {
            under.clear();
            self.forget_inside(path);
        }
        for (key, value) in over {
            let path = path.key(&*key);
            if let Some(origin) = (self.origin)(&path) {
                self.origins.insert(path.clone(), origin);
            }
            match (under.get_mut(&key), value) {
                (Some(Value::Object(under)), Value::Object(over)) => {
                    self.tables(under, over, &path);
                }
                (_, Value::Object(over)) => {
                    self.forget_inside(&path);
                    let mut table = Map::new();
                    self.tables(&mut table, over, &path);
                    under.insert(key, Value::Object(table));
                }
                (_, value) => {
                    under.insert(key, value);
                }
            }
        }
    }

    fn forget_inside(&mut self, path: &Path) {
        self.origins.retain(|known, _| known == path || !known.starts_with(path));
    }
}
