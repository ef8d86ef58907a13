use bytes::Bytes;
use smallvec::SmallVec;
use trine_core::{Fence, Size};

use crate::op::Load;
use crate::{Key, Op, Reply};

/// Operations for one call to the store.
///
/// Pipelined ones are independent: each has its own key and its own answer, and
/// others may run between them. Atomic ones are isolated: nobody sees a part of
/// them or gets in between. Neither is ever undone: an operation that fails has
/// a [`Reply::Failed`] and leaves the others as they are.
///
/// # Example
///
/// ```
/// use trine_cache::{Batch, Expected, Key, Op};
///
/// let (cart, count) = (Key::new("{user:7}:cart")?, Key::new("{user:7}:count")?);
/// let batch = Batch::atomic()
///     .with(Op::put(&cart, "apple"))
///     .with(Op::put(&count, "1"))
///     .when(&cart, Expected::Absent);
/// assert!(batch.problem().is_none());
/// # Ok::<(), trine_cache::InvalidKey>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub(crate) operation: &'static str,
    pub(crate) ops: SmallVec<[Op; 1]>,
    pub(crate) is_atomic: bool,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) guard: Option<Guard>,
    /// A fence for which no key was named yet.
    homeless: Option<Fence>,
}

/// What must be the case for an atomic batch to run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition {
    /// Under this key,
    pub key: Key,
    /// this.
    pub expected: Expected,
}

/// What a key is expected to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Nothing.
    Absent,
    /// Anything.
    Present,
    /// Exactly these bytes.
    Value(Bytes),
    /// A hash with exactly these bytes in a field, or without the field.
    Field {
        /// The name.
        field: Bytes,
        /// The value; `None` if the field or the whole hash is to be absent.
        value: Option<Bytes>,
    },
}

/// A fence that a batch shows, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guard {
    /// The claim of the writer.
    pub fence: Fence,
    /// Any key of those that live together and are guarded.
    pub key: Key,
}

/// What became of a batch.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Every operation ran; one reply for each, in their order.
    Ran(SmallVec<[Reply; 1]>),
    /// A condition did not hold, and nothing was written.
    Refused {
        /// The place of the first such condition.
        condition: usize,
    },
}

impl Batch {
    /// Most operations in an atomic batch, and most conditions.
    pub const MAX_ATOMIC_OPS: usize = 500;

    /// Most values in one operation: a script of the store cannot pass on more.
    pub const MAX_VALUES: usize = 4_000;

    /// Most bytes of several operations in an atomic batch, and of several
    /// conditions: a store does nothing else meanwhile. A cache whose
    /// `max_value` is larger takes as many as that.
    pub const MAX_ATOMIC_BYTES: usize = 1024 * 1024;

    /// Returns an empty batch of independent operations.
    #[must_use]
    pub fn pipelined() -> Self {
        Self::new("run", false)
    }

    /// Returns an empty batch of isolated operations on keys that live
    /// together.
    #[must_use]
    pub fn atomic() -> Self {
        Self::new("run", true)
    }

    /// Returns a batch of one operation.
    #[must_use]
    pub fn of(operation: &'static str, op: Op) -> Self {
        Self::new(operation, false).with(op)
    }

    /// Returns an atomic batch that does nothing but show `fence` to what lives
    /// together with `key`.
    #[must_use]
    pub fn raise(fence: &Fence, key: impl Into<Key>) -> Self {
        let guard = Guard { fence: fence.clone(), key: key.into() };
        Self { guard: Some(guard), ..Self::new("raise", true) }
    }

    fn new(operation: &'static str, is_atomic: bool) -> Self {
        let (ops, conditions) = (SmallVec::new(), Vec::new());
        Self { operation, ops, is_atomic, conditions, guard: None, homeless: None }
    }

    /// Names the operation for messages and metrics. Default: `"run"`.
    #[must_use]
    pub fn named(mut self, operation: &'static str) -> Self {
        self.operation = operation;
        self
    }

    /// Adds an operation.
    #[must_use]
    pub fn with(mut self, op: Op) -> Self {
        self.push(op);
        self
    }

    /// Adds an operation in place.
    pub fn push(&mut self, op: Op) {
        self.house(op.key());
        self.ops.push(op);
    }

    /// Has an atomic batch run only if `key` holds what is expected; read and
    /// run are one step.
    #[must_use]
    pub fn when(mut self, key: impl Into<Key>, expected: Expected) -> Self {
        let key = key.into();
        self.house(&key);
        self.conditions.push(Condition { key, expected });
        self
    }

    /// Has an atomic batch fail with `Fenced` if a higher token was shown for
    /// the fence's key to what lives together with the batch's keys. One that
    /// names no key, now or later, is refused.
    #[must_use]
    pub fn guarded(mut self, fence: &Fence) -> Self {
        self.homeless = Some(fence.clone());
        let first = self.keys().next().cloned();
        if let Some(key) = first {
            self.house(&key);
        }
        self
    }

    /// Shows the fence to what lives together with `key`, if it has no key yet.
    fn house(&mut self, key: &Key) {
        if let Some(fence) = self.homeless.take() {
            self.guard = Some(Guard { fence, key: key.clone() });
        }
    }

    /// Returns the operation's name for messages and metrics.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the operations.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Tells whether the operations are isolated.
    #[must_use]
    pub fn is_atomic(&self) -> bool {
        self.is_atomic
    }

    /// Returns what must be the case.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Returns the fence to be shown.
    #[must_use]
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    /// Tells whether it may change something; showing a fence does.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.guard.is_some() || self.ops.iter().any(Op::is_write)
    }

    /// Returns every key it names.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let guarded = self.guard.iter().map(|guard| &guard.key);
        let conditions = self.conditions.iter().map(|condition| &condition.key);
        self.ops.iter().map(Op::key).chain(conditions).chain(guarded)
    }

    /// Says what is wrong with it, whatever is stored; not how large values may
    /// be, which is for the cache to say.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let problem = |op: &Op| {
            op.problem().map(|problem| match self.ops.len() {
                1 => format!("key `{}`: {problem}", op.key()),
                _ => format!("operation on key `{}`: {problem}", op.key()),
            })
        };
        if let Some(problem) = self.ops.iter().find_map(problem) {
            return Some(problem);
        }
        if self.homeless.is_some() {
            return Some("a fence, and no key that it guards".to_owned());
        }
        if self.is_atomic { self.atomic_problem() } else { self.pipeline_problem() }
    }

    fn pipeline_problem(&self) -> Option<String> {
        let needs = |what| Some(format!("{what} needs an atomic batch"));
        match (&self.guard, self.conditions.is_empty()) {
            (Some(_), _) => needs("a fence"),
            (None, false) => needs("a condition"),
            (None, true) => None,
        }
    }

    fn atomic_problem(&self) -> Option<String> {
        let mut keys = self.keys();
        let first = keys.next()?;
        if let Some(other) = keys.find(|key| !key.lives_with(first)) {
            return Some(format!(
                "atomic batch over keys that do not live together: `{first}`, `{other}`; \
                 give them one {{tag}}"
            ));
        }
        let counts = [(self.ops.len(), "operations"), (self.conditions.len(), "conditions")];
        let (count, what) = counts.into_iter().find(|(count, _)| *count > Self::MAX_ATOMIC_OPS)?;
        let max = Self::MAX_ATOMIC_OPS;
        Some(format!("atomic batch of {count} {what}: expected at most {max}"))
    }

    /// Says what is larger than a cache takes with this `max_value`.
    pub(crate) fn excess(&self, max_value: Size) -> Option<String> {
        let ops = || self.ops.iter().map(|op| (op.key(), op.load()));
        let conditions = || self.conditions.iter().map(|each| (&each.key, each.load()));
        let too_large = |(_, load): &(&Key, Load)| load.largest > max_value.as_len();
        if let Some((key, load)) = ops().chain(conditions()).find(too_large) {
            let found = load.largest;
            return Some(format!(
                "key `{key}`: value of {found} bytes, expected at most {max_value} (max_value)"
            ));
        }
        if !self.is_atomic {
            return None;
        }
        let max = Self::MAX_ATOMIC_BYTES.max(max_value.as_len());
        let bytes = |loads: &mut dyn Iterator<Item = (&Key, Load)>| {
            loads.map(|(_, load)| load.bytes).sum::<usize>()
        };
        // One by itself is bounded by its values, as in a pipeline.
        let several = [
            (self.ops.len() > 1, bytes(&mut ops()), "operations"),
            (self.conditions.len() > 1, bytes(&mut conditions()), "conditions"),
        ];
        let is_too_much = |(is_several, bytes, _): &(bool, usize, _)| *is_several && *bytes > max;
        let (_, bytes, what) = several.into_iter().find(is_too_much)?;
        Some(format!("atomic batch with {what} of {bytes} bytes: expected at most {max}"))
    }
}

impl Condition {
    /// Returns what it carries beside its key.
    fn load(&self) -> Load {
        match &self.expected {
            Expected::Absent | Expected::Present => Load::default(),
            Expected::Value(value) => Load::of([value.len()]),
            Expected::Field { field, value } => {
                Load::of(std::iter::once(field).chain(value).map(Bytes::len))
            }
        }
    }
}

impl Outcome {
    /// Returns the outcome of a batch of one operation.
    #[must_use]
    pub fn one(reply: Reply) -> Self {
        Self::Ran(SmallVec::from_buf([reply]))
    }
}
