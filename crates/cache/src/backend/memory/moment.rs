use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use trine_core::{Clock, Moment};

use crate::{At, Error, Ttl};

/// The end of a life that has none; all others are milliseconds of the clock.
pub(super) const NEVER: u64 = u64::MAX;

/// The clock of a store, with what people call its beginning.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Arc<dyn Clock>,
    opened: Moment,
    /// The wall clock then, since the Unix epoch: it may jump later.
    epoch: Duration,
}

impl Timeline {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (opened, wall) = (clock.now(), clock.wall());
        let epoch = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { clock, opened, epoch }
    }

    pub(super) fn since_epoch(&self) -> Duration {
        self.epoch + self.clock.now().saturating_since(self.opened)
    }

    fn millis(&self) -> u64 {
        millis(self.clock.now().elapsed())
    }
}

/// One turn at a stripe: what its messages name, and its one moment, read when
/// it is first needed.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    operation: &'static str,
    cache: &'a Arc<str>,
    pub(super) timeline: &'a Timeline,
    now: Cell<Option<u64>>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        operation: &'static str,
        cache: &'a Arc<str>,
        timeline: &'a Timeline,
    ) -> Self {
        Self { operation, cache, timeline, now: Cell::new(None) }
    }

    pub(super) fn at(&self) -> At {
        At::new(self.operation, self.cache)
    }

    pub(super) fn now(&self) -> u64 {
        self.now.get().unwrap_or_else(|| {
            let now = self.timeline.millis();
            self.now.set(Some(now));
            now
        })
    }

    /// Tells whether a life that ends then is over, without a look at the
    /// clock if it has no end.
    pub(super) fn is_over(&self, ends: u64) -> bool {
        ends != NEVER && ends <= self.now()
    }

    /// Returns when a life ends that `ttl` is given to; `present` is the end of
    /// what is there already.
    pub(super) fn ends(&self, ttl: Ttl, present: Option<u64>) -> u64 {
        match (ttl, present) {
            (Ttl::After(span), _) | (Ttl::IfNew(span), None) => self.after(span),
            (Ttl::Never, _) | (Ttl::Keep | Ttl::Default, None) => NEVER,
            (Ttl::Keep | Ttl::Default | Ttl::IfNew(_), Some(ends)) => ends,
        }
    }

    pub(super) fn after(&self, span: Duration) -> u64 {
        self.now().saturating_add(Ttl::millis(span)).min(NEVER - 1)
    }

    pub(super) fn invalid(&self, detail: &'static str) -> Error {
        Error::invalid(self.at(), detail)
    }
}

/// Returns the milliseconds that are over.
fn millis(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000).saturating_add(u64::from(span.subsec_millis()))
}
