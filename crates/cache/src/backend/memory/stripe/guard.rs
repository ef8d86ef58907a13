use trine_core::Fence;

use super::Stripe;
use crate::backend::memory::entry::{Data, Kind};
use crate::backend::memory::hash::Hash;
use crate::backend::memory::marks;
use crate::backend::memory::moment::Turn;
use crate::{Condition, Expected, Key, Result};

impl Stripe {
    /// Tells whether a key holds what is expected. What is of another type
    /// holds neither bytes nor fields.
    pub(in crate::backend::memory) fn holds(&self, turn: &Turn<'_>, condition: &Condition) -> bool {
        let entry = self.peek(turn, &condition.key);
        match (&condition.expected, entry.map(|entry| &entry.data)) {
            (Expected::Absent, entry) => entry.is_none(),
            (Expected::Present, entry) => entry.is_some(),
            (Expected::Value(value), Some(Data::Text(text))) => text == value,
            (Expected::Value(_), _) => false,
            (Expected::Field { value, .. }, None) => value.is_none(),
            (Expected::Field { field, value }, Some(data)) => {
                Hash::of(data).is_some_and(|hash| hash.get(field) == value.as_ref())
            }
        }
    }

    /// Shows a fence to what lives under `home`, until `ends` at least.
    ///
    /// # Errors
    ///
    /// Fails with `Fenced` if a higher token was shown, and with `Exhausted` if
    /// there is no room for a mark.
    pub(in crate::backend::memory) fn raise(
        &mut self,
        turn: &Turn<'_>,
        home: &str,
        fence: &Fence,
        ends: u64,
    ) -> Result<()> {
        let growth = self.marks.check(turn, home, fence)?;
        if growth > 0 {
            self.make_room(turn, growth, growth)?;
        }
        self.marks.raise(turn, home, fence, ends);
        self.settle();
        Ok(())
    }

    /// Keeps the mark of a fence for `retention` beyond the end of what is
    /// under the keys of its batch.
    pub(in crate::backend::memory) fn prolong<'k>(
        &mut self,
        home: &str,
        fence: &Fence,
        retention: u64,
        keys: impl Iterator<Item = &'k Key>,
    ) {
        let ends = keys.filter_map(|key| self.cache.peek(key)).map(|entry| entry.ends).max();
        if let Some(ends) = ends {
            self.marks.prolong(home, fence, marks::beyond(ends, retention));
        }
    }
}
