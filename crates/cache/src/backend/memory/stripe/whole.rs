use smallvec::SmallVec;

use super::Stripe;
use crate::backend::memory::bound::Bound;
use crate::backend::memory::dispatch;
use crate::backend::memory::entry::{ENTRY, Entry};
use crate::backend::memory::moment::Turn;
use crate::{Error, Key, Op, Reply, Result};

impl Stripe {
    /// Runs the operations of an atomic batch. What one of them frees is for
    /// those after it.
    ///
    /// # Errors
    ///
    /// Fails with `Exhausted`, having changed nothing, if stripes share their
    /// bytes and there is no room for all of it.
    pub(in crate::backend::memory) fn run_all(
        &mut self,
        turn: &Turn<'_>,
        ops: &[Op],
    ) -> Result<SmallVec<[Reply; 1]>> {
        let before = if self.has_room_for_all(ops) { None } else { Some(self.kept(ops)) };
        let mut replies: SmallVec<_> = ops.iter().map(|op| self.step(turn, op)).collect();
        let full = replies
            .iter()
            .position(|reply| matches!(reply, Reply::Failed(Error::Exhausted { .. })));
        let refused = match (before, full) {
            (Some(before), Some(place)) => {
                self.restore(before);
                Some(replies.swap_remove(place))
            }
            _ => None,
        };
        self.settle();
        match refused {
            Some(Reply::Failed(error)) => Err(error),
            _ => Ok(replies),
        }
    }

    /// Tells whether nothing need be undone: no operation can fail for want of
    /// room, or only one writes, or others make room, who would not come back.
    fn has_room_for_all(&mut self, ops: &[Op]) -> bool {
        let writes = || ops.iter().filter(|op| op.is_write());
        let Bound::Shared(share) = &mut self.bound else { return true };
        if writes().nth(1).is_none() {
            return true;
        }
        let most = |op: &Op| ENTRY + op.key().as_str().len() as u64 + dispatch::most(op);
        let most: u64 = writes().map(most).sum();
        share.reserve(self.cache.weight() + self.marks.bytes() + most)
    }

    /// Returns what is under the keys of the operations.
    fn kept(&self, ops: &[Op]) -> Vec<(Key, Option<Entry>)> {
        let mut kept: Vec<(Key, Option<Entry>)> = Vec::new();
        for key in ops.iter().filter(|op| op.is_write()).map(Op::key) {
            if !kept.iter().any(|(known, _)| known == key) {
                kept.push((key.clone(), self.cache.peek(key).cloned()));
            }
        }
        kept
    }

    /// Puts back what was under the keys. There is room for it: nothing was
    /// given back meanwhile.
    fn restore(&mut self, kept: Vec<(Key, Option<Entry>)>) {
        for (key, entry) in kept {
            self.remove(&key);
            if let Some(entry) = entry {
                self.place(&key, entry, None);
            }
        }
    }
}
