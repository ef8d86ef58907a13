use std::time::SystemTime;

use crate::LocalTime;

/// How far the planning of a job has come, which a store keeps with its
/// definition.
///
/// [`planning`](crate::planning) makes every one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The last nominal time that there is a tick of, and what the clocks of the
    /// job's zone showed then.
    pub last: Option<(SystemTime, LocalTime)>,
    /// The next nominal time, at which its tick is to be made; `None` after the
    /// last one, and while a schedule with a delay waits for the end of a run.
    pub next: Option<SystemTime>,
}

impl Progress {
    /// Returns what a store has kept.
    #[must_use]
    pub fn new(last: Option<(SystemTime, LocalTime)>, next: Option<SystemTime>) -> Self {
        Self { last, next }
    }
}
