use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use trine_core::{Backoff, Moment};

use crate::{Holder, HolderState, Key, Shape};

/// Which line of this process: a key, and 0 or with `order = first_come` a
/// number of the call's own.
pub(crate) type LineId = (Key, u64);

/// Who waits in this process for which key: only the first of a line talks to
/// the store.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Mutex<BTreeMap<LineId, Line>>,
    tickets: AtomicU64,
    /// How often a store is asked that does not tell by itself.
    polling: Option<Backoff>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// For what the store has this line in its own.
    registered: Option<Shape>,
    /// When to ask again though nothing was told; `None` means at once.
    retry_at: Option<Moment>,
    /// When to ask again as the store has told since it was last asked, maybe
    /// before its answer came.
    later: Option<Moment>,
    /// Whether the store said that the key is free, since it was last asked.
    is_free: bool,
    /// Who had the key, and when that was said.
    holder: Option<(Holder, Moment)>,
    /// Refusals since the last grant, fewer when others had the key meanwhile.
    refusals: u32,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    shape: Shape,
    owner: Option<Arc<str>>,
    wake: Arc<Notify>,
}

/// What one in line is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Wait until woken, or until this moment.
    Wait(Option<Moment>),
    /// Ask the store; `next` is what the one behind wants.
    Ask { next: Option<Shape> },
}

/// Least time between two questions of one line that nothing was told for.
const LEAST_POLL: Duration = Duration::from_millis(10);

/// Between the questions of two lines after something was missed: the lines of
/// a process ask 10,000 times a second at most.
const BETWEEN_MISSED: Duration = Duration::from_micros(100);

/// Refusals after which the wait for the next question grows no more.
const LONGEST_GROWTH: u32 = 5;

impl Lines {
    /// Returns no lines; a store that does not push is asked again and again,
    /// with waits of `polling`.
    pub(crate) fn new(polling: Option<Backoff>) -> Self {
        Self { lines: Mutex::default(), tickets: AtomicU64::new(1), polling }
    }

    /// Returns a number that no line of a key has.
    pub(crate) fn lane(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Goes to the end of a line.
    pub(crate) fn enter(
        &self,
        id: &LineId,
        shape: Shape,
        owner: Option<Arc<str>>,
    ) -> (u64, Arc<Notify>) {
        let mut lines = self.lock();
        self.push(lines.entry(id.clone()).or_default(), shape, owner)
    }

    fn push(&self, line: &mut Line, shape: Shape, owner: Option<Arc<str>>) -> (u64, Arc<Notify>) {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let wake = Arc::new(Notify::new());
        let waiting = Waiting { ticket, shape, owner, wake: Arc::clone(&wake) };
        line.waiting.push_back(waiting);
        (ticket, wake)
    }

    /// Leaves a line. If nobody is left whom the store has in its own, the
    /// caller is handed the empty line's first place, to hold while it tells the
    /// store: a registration that comes later must not be withdrawn.
    pub(crate) fn leave(&self, id: &LineId, ticket: u64) -> Option<(u64, Arc<Notify>)> {
        let mut lines = self.lock();
        let line = lines.get_mut(id)?;
        let first = line.waiting.front().is_some_and(|first| first.ticket == ticket);
        line.waiting.retain(|waiting| waiting.ticket != ticket);
        if let Some(next) = line.waiting.front() {
            if first {
                next.wake.notify_one();
            }
            return None;
        }
        if line.registered.take().is_none() {
            lines.remove(id);
            return None;
        }
        // Its shape does not matter: it never asks.
        Some(self.push(line, Shape::Write, None))
    }

    /// Says what the holder of a ticket is to do now.
    pub(crate) fn turn(&self, id: &LineId, ticket: u64, now: Moment) -> Turn {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(id) else { return Turn::Wait(None) };
        let Some(first) = line.waiting.front().filter(|first| first.ticket == ticket) else {
            return Turn::Wait(None);
        };
        let is_known = line.registered == Some(first.shape);
        let waits_until = line.retry_at.filter(|until| is_known && !line.is_free && now < *until);
        if waits_until.is_some() {
            return Turn::Wait(waits_until);
        }
        (line.is_free, line.later) = (false, None);
        Turn::Ask { next: line.waiting.get(1).map(|next| next.shape) }
    }

    /// Notes that the store refused `shape` and will tell, at the latest after
    /// `retry_in`.
    pub(crate) fn refused(
        &self,
        id: &LineId,
        shape: Shape,
        now: Moment,
        holder: &Holder,
        retry_in: Duration,
    ) {
        self.with(id, |line| {
            // A key that changes hands is held for short times.
            let before = line.holder.as_ref().and_then(|(holder, _)| token(holder));
            if token(holder).zip(before).is_some_and(|(token, before)| token != before) {
                line.refusals /= 2;
            }
            let refusals = line.refusals;
            let polling = self.polling.as_ref();
            let polling = polling.map(|backoff| backoff.delay(refusals));
            line.refusals = (refusals + 1).min(LONGEST_GROWTH);
            line.registered = Some(shape);
            let delay = polling.map_or(retry_in, |delay| delay.min(retry_in));
            let retry_at = now + delay.max(LEAST_POLL);
            line.retry_at = Some(line.later.map_or(retry_at, |later| later.min(retry_at)));
            line.holder = Some((holder.clone(), now));
        });
    }

    /// Notes a grant to one of the line, by which the store has `next` in its
    /// own.
    pub(crate) fn granted(&self, id: &LineId, next: Option<Shape>, now: Moment, holder: Holder) {
        self.with(id, |line| {
            let polls = self.polling.is_some();
            line.registered = next;
            line.refusals = 0;
            line.retry_at = (!polls).then(|| now + holder.expires_in);
            line.holder = Some((holder, now));
        });
    }

    /// Notes that nobody knows what the store has of this line.
    pub(crate) fn failed(&self, id: &LineId, shape: Shape) {
        self.with(id, |line| (line.registered, line.retry_at) = (Some(shape), None));
    }

    /// Wakes the first of a line: the key is kept for it.
    pub(crate) fn free(&self, id: &LineId) {
        self.with(id, |line| {
            line.is_free = true;
            if let Some(first) = line.waiting.front() {
                first.wake.notify_one();
            }
        });
    }

    /// Wakes who came first to this key, if the store does not tell: this process
    /// has given it back.
    pub(crate) fn released(&self, key: &Key) {
        if self.polling.is_none() {
            return;
        }
        let mut lines = self.lock();
        let mut lines = lines.range_mut((key.clone(), 0)..=(key.clone(), u64::MAX));
        if let Some((_, line)) = lines.find(|(_, line)| !line.waiting.is_empty()) {
            line.is_free = true;
            if let Some(first) = line.waiting.front() {
                first.wake.notify_one();
            }
        }
    }

    /// Has a line ask by itself after `retry_in` if it is not told before.
    pub(crate) fn later(&self, id: &LineId, now: Moment, retry_in: Duration) {
        self.with(id, |line| {
            line.later = Some(now + retry_in.max(LEAST_POLL));
            if let (Some(first), Some(_)) = (line.waiting.front(), line.retry_at) {
                line.retry_at = line.later;
                first.wake.notify_one();
            }
        });
    }

    /// Has every line ask the store once more, one after the other: any of them
    /// may have been told that its key is free.
    pub(crate) fn missed(&self, now: Moment) {
        let mut due = now;
        for line in self.lock().values_mut() {
            line.later = Some(line.later.map_or(due, |later| later.min(due)));
            if let (Some(first), Some(retry_at)) = (line.waiting.front(), &mut line.retry_at) {
                *retry_at = due.min(*retry_at);
                due = due + BETWEEN_MISSED;
                first.wake.notify_one();
            }
        }
    }

    /// Wakes everybody who may share what this owner was given.
    pub(crate) fn wake_owner(&self, key: &Key, owner: &Arc<str>) {
        let lines = self.lock();
        let lines = lines.range((key.clone(), 0)..=(key.clone(), u64::MAX));
        for waiting in lines.flat_map(|(_, line)| &line.waiting) {
            if waiting.owner.as_ref() == Some(owner) {
                waiting.wake.notify_one();
            }
        }
    }

    /// Returns who had the key when the store last said it.
    pub(crate) fn holder(&self, id: &LineId, now: Moment) -> Option<Holder> {
        let lines = self.lock();
        let (holder, said) = lines.get(id)?.holder.as_ref()?;
        Some(holder.after(now.saturating_since(*said)))
    }

    /// Returns how many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().values().map(|line| line.waiting.len()).sum()
    }

    fn with(&self, id: &LineId, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lock().get_mut(id) {
            change(line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LineId, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which grant a holder has.
fn token(holder: &Holder) -> Option<u64> {
    match holder.state {
        HolderState::Holding { token } | HolderState::Kept { token } => Some(token),
        HolderState::Next => None,
    }
}
