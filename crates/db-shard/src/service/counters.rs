use trine_core::{Counter, Metrics};

/// What the service counts by itself; calls to databases are counted there.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Keys whose shard was known.
    pub(crate) known_keys: Counter,
    /// Keys whose shard the map was asked for.
    pub(crate) asked_keys: Counter,
    pub(crate) moved: Counter,
    pub(crate) move_failed: Counter,
    pub(crate) move_aborted: Counter,
}

impl Counters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let keys = |source| {
            let help = "Keys that a shard was looked up for, by where it was found.";
            metrics.counter("key_lookups_total", help, &[("source", source)])
        };
        let moves = |outcome| {
            let help = "Moves of keys by how they ended in this process.";
            metrics.counter("moves_total", help, &[("outcome", outcome)])
        };
        Self {
            known_keys: keys("memory"),
            asked_keys: keys("map"),
            moved: moves("moved"),
            move_failed: moves("failed"),
            move_aborted: moves("aborted"),
        }
    }
}
