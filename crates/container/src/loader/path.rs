use std::fmt;

use serde_json::{Map, Value};

/// The way to one value of a configuration, printed as `db.shards[2].id`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// Splits a dotted path of keys.
    pub(crate) fn dotted(text: &str) -> Self {
        Self(text.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    #[must_use]
    pub(crate) fn key(&self, key: impl Into<String>) -> Self {
        self.with(Step::Key(key.into()))
    }

    #[must_use]
    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// Appends a printed path, such as `shards[2].id`.
    pub(crate) fn join(&self, inside: &str) -> Self {
        let mut path = self.clone();
        for part in inside.split('.').filter(|part| !part.is_empty()) {
            let (key, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
            if !key.is_empty() {
                path = path.key(key);
            }
            let indices = indices.split(['[', ']']).filter_map(|index| index.parse().ok());
            path = indices.fold(path, |path, index| path.index(index));
        }
        path
    }

    /// Takes the value at this path of keys out of `root`.
    pub(crate) fn remove_from(&self, root: &mut Map<String, Value>) {
        let Some((Step::Key(last), parents)) = self.0.split_last() else {
            return;
        };
        let (mut parents, Some(Step::Key(first))) = (parents.iter(), parents.first()) else {
            root.remove(last);
            return;
        };
        parents.next();
        let start = root.get_mut(first);
        let parent = parents.fold(start, |value, step| match step {
            Step::Key(key) => value?.get_mut(key),
            Step::Index(index) => value?.get_mut(index),
        });
        if let Some(table) = parent.and_then(Value::as_object_mut) {
            table.remove(last);
        }
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// Follows a JSON pointer through `tree`, which tells keys from indices.
    pub(crate) fn follow(&self, pointer: &str, tree: &Value) -> Self {
        let mut path = self.clone();
        let mut here = Some(tree);
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let index = here.filter(|value| value.is_array()).and_then(|_| part.parse().ok());
            (path, here) = match index {
                Some(index) => (path.index(index), here.and_then(|value| value.get(index))),
                None => (path.key(&*part), here.and_then(|value| value.get(&part))),
            };
        }
        path
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(crate) fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if place == 0 { "" } else { "." };
                    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                    if !key.is_empty() && key.chars().all(is_bare) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
