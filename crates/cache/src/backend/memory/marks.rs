use std::collections::HashMap;

use quick_cache::DefaultHashBuilder;
use trine_core::Fence;

use super::moment::{NEVER, Turn};
use crate::{Error, Result};

/// The highest tokens that were shown in a stripe, by the home of the keys that
/// live together and by the fence's key. No scan finds them, and no removal of
/// the keys touches them.
#[derive(Debug, Default)]
pub(super) struct Marks {
    homes: HashMap<Box<str>, Vec<Mark>, DefaultHashBuilder>,
    count: usize,
    bytes: u64,
    /// At this many, those that have ended are looked for.
    crowd: usize,
}

#[derive(Debug)]
struct Mark {
    fence: Box<str>,
    token: u64,
    ends: u64,
}

/// Bytes of a mark besides its two names.
const MARK: u64 = 160;

/// Least marks worth a look for those that have ended.
const CROWD: usize = 64;

fn weight(home: &str, fence: &str) -> u64 {
    MARK + (home.len() + fence.len()) as u64
}

impl Marks {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how many bytes it takes to show `fence`: none if its key was
    /// shown before.
    ///
    /// # Errors
    ///
    /// Fails with `Fenced` if a higher token was shown.
    pub(super) fn check(&self, turn: &Turn<'_>, home: &str, fence: &Fence) -> Result<u64> {
        let Some(mark) = self.find(home, fence.key()) else {
            return Ok(weight(home, fence.key()));
        };
        if mark.token > fence.token() && !turn.is_over(mark.ends) {
            let (key, token, seen) = (fence.key().into(), fence.token(), mark.token);
            return Err(Error::Fenced { at: turn.at(), key, token, seen });
        }
        Ok(0)
    }

    /// Keeps the token of a fence that was checked, until `ends` at least.
    pub(super) fn raise(&mut self, turn: &Turn<'_>, home: &str, fence: &Fence, ends: u64) {
        if let Some(mark) = self.find_mut(home, fence.key()) {
            // The mark of one key is prolonged by it as long as it lives; that
            // of a tag may be of keys that are not named now.
            let is_endless = mark.ends == NEVER && !home.starts_with('{');
            let present = if is_endless || turn.is_over(mark.ends) { 0 } else { mark.ends };
            (mark.token, mark.ends) = (fence.token(), present.max(ends));
            return;
        }
        if self.count >= self.crowd {
            self.sweep(turn);
        }
        self.count += 1;
        self.bytes += weight(home, fence.key());
        let mark = Mark { fence: fence.key().into(), token: fence.token(), ends };
        if let Some(marks) = self.homes.get_mut(home) {
            marks.push(mark);
        } else {
            self.homes.insert(home.into(), vec![mark]);
        }
    }

    /// Keeps the mark of a fence that was raised until `ends` at least.
    pub(super) fn prolong(&mut self, home: &str, fence: &Fence, ends: u64) {
        if let Some(mark) = self.find_mut(home, fence.key()) {
            mark.ends = mark.ends.max(ends);
        }
    }

    /// Removes the marks that have ended.
    pub(super) fn sweep(&mut self, turn: &Turn<'_>) {
        self.homes.retain(|home, marks| {
            marks.retain(|mark| {
                let is_over = turn.is_over(mark.ends);
                if is_over {
                    self.count -= 1;
                    self.bytes -= weight(home, &mark.fence);
                }
                !is_over
            });
            !marks.is_empty()
        });
        self.crowd = self.count.saturating_mul(2).max(CROWD);
    }

    fn find(&self, home: &str, fence: &str) -> Option<&Mark> {
        self.homes.get(home)?.iter().find(|mark| &*mark.fence == fence)
    }

    fn find_mut(&mut self, home: &str, fence: &str) -> Option<&mut Mark> {
        self.homes.get_mut(home)?.iter_mut().find(|mark| &*mark.fence == fence)
    }
}

/// Returns when a mark may be forgotten that guarded an entry with this end.
pub(super) fn beyond(ends: u64, retention: u64) -> u64 {
    if ends == NEVER { NEVER } else { ends.saturating_add(retention).min(NEVER - 1) }
}
