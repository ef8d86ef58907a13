use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::handle::{Counter, Gauge, Histogram};
use self::snapshot::{Family, HistogramReading, Labels, MetricKind, Reading, Sample, Snapshot};

pub(crate) mod handle;
pub(crate) mod histogram;
#[cfg(feature = "metrics-0_24")]
mod publish;
mod render;
mod shard;
pub(crate) mod snapshot;

/// The counters of one service. Cloning shares them.
///
/// A name is completed to `trine_<service>_<name>`; the same name and labels
/// give the same counter again. Take handles once and keep them: asking locks,
/// counting does not.
///
/// Each family holds a bounded number of label sets; beyond it every label
/// value becomes `other`, and [`Family::overflowed`] tells how often. Labels are
/// therefore never a key or an id.
///
/// # Example
///
/// ```
/// use trine_core::Metrics;
///
/// let metrics = Metrics::new("db");
/// let queries = metrics.counter("queries_total", "Queries sent.", &[("engine", "sqlite")]);
/// queries.add(2);
///
/// metrics.reset();
/// queries.add(1);
/// let snapshot = metrics.snapshot();
/// let name = "trine_db_queries_total";
/// assert_eq!(snapshot.counter(name, &[("engine", "sqlite")]), Some(1));
/// assert_eq!(snapshot.counter_total(name, &[("engine", "sqlite")]), Some(3));
/// ```
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
}

struct Registry {
    service: Box<str>,
    max_label_sets: usize,
    families: Mutex<BTreeMap<String, Entry>>,
}

struct Entry {
    help: &'static str,
    kind: MetricKind,
    series: BTreeMap<Labels, Series>,
    overflowed: u64,
}

#[derive(Clone)]
enum Series {
    Counter { counter: Counter, baseline: u64 },
    Gauge(Gauge),
    Observed(Arc<dyn Fn() -> f64 + Send + Sync>),
    Histogram { histogram: Histogram, baseline: HistogramReading },
}

impl Metrics {
    /// Most label sets of a family, unless told otherwise.
    pub const MAX_LABEL_SETS: usize = 1_000;

    /// Returns the empty counters of `service`, such as `"db"`.
    #[must_use]
    pub fn new(service: impl Into<Box<str>>) -> Self {
        Self::bounded(service, Self::MAX_LABEL_SETS)
    }

    /// Returns such counters with at most `max_label_sets` per family.
    #[must_use]
    pub fn bounded(service: impl Into<Box<str>>, max_label_sets: usize) -> Self {
        let (service, families) = (service.into(), Mutex::default());
        Self { registry: Arc::new(Registry { service, max_label_sets, families }) }
    }

    /// Returns the counter `name` with `labels`; it only ever grows.
    ///
    /// If the name belongs to another kind already, what is counted is not
    /// published, and an error is logged.
    #[must_use]
    pub fn counter(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Counter {
        let new = || Series::Counter { counter: Counter::new(), baseline: 0 };
        match self.series(name, help, labels, MetricKind::Counter, new) {
            Some(Series::Counter { counter, .. }) => counter,
            _ => Counter::new(),
        }
    }

    /// Returns the gauge `name` with `labels`, which goes up and down.
    ///
    /// If the name belongs to another kind already, what is set is not
    /// published, and an error is logged.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        let new = || Series::Gauge(Gauge::default());
        match self.series(name, help, labels, MetricKind::Gauge, new) {
            Some(Series::Gauge(gauge)) => gauge,
            _ => Gauge::default(),
        }
    }

    /// Publishes what `observe` answers at each snapshot as the gauge `name`.
    ///
    /// It replaces an earlier gauge of the same name and labels. The counters
    /// keep `observe` for ever: capture weakly what owns them.
    pub fn gauge_fn(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        observe: Arc<dyn Fn() -> f64 + Send + Sync>,
    ) {
        let observed = Series::Observed(observe);
        let new = || observed.clone();
        let replace = |series: &mut Series| *series = observed.clone();
        self.with_series(name, help, labels, MetricKind::Gauge, new, replace);
    }

    /// Returns the histogram of durations `name` with `labels`.
    ///
    /// If the name belongs to another kind already, what is recorded is not
    /// published, and an error is logged.
    #[must_use]
    pub fn histogram(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        let new = || Series::Histogram {
            histogram: Histogram::new(),
            baseline: HistogramReading::default(),
        };
        match self.series(name, help, labels, MetricKind::Histogram, new) {
            Some(Series::Histogram { histogram, .. }) => histogram,
            _ => Histogram::new(),
        }
    }

    /// Returns everything as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let families = self.registry.families();
        let copies: Vec<_> = families
            .iter()
            .map(|(name, entry)| {
                let series: Vec<_> =
                    entry.series.iter().map(|(l, s)| (l.clone(), s.clone())).collect();
                (name.clone(), entry.help, entry.kind, entry.overflowed, series)
            })
            .collect();
        // Observers may use these counters themselves.
        drop(families);
        let families = copies.into_iter().map(|(name, help, kind, overflowed, series)| Family {
            name,
            help,
            kind,
            overflowed,
            samples: series.into_iter().map(|(labels, series)| series.sample(labels)).collect(),
        });
        Snapshot { families: families.collect() }
    }

    /// Makes the present totals the baseline: values start from zero, totals
    /// and gauges stay as they are.
    pub fn reset(&self) {
        for entry in self.registry.families().values_mut() {
            for series in entry.series.values_mut() {
                match series {
                    Series::Counter { counter, baseline } => *baseline = counter.total(),
                    Series::Histogram { histogram, baseline } => *baseline = histogram.total(),
                    Series::Gauge(_) | Series::Observed(_) => {}
                }
            }
        }
    }

    fn series(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        kind: MetricKind,
        new: impl FnOnce() -> Series,
    ) -> Option<Series> {
        self.with_series(name, help, labels, kind, new, |series| series.clone())
    }

    fn with_series<T>(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        kind: MetricKind,
        new: impl FnOnce() -> Series,
        f: impl FnOnce(&mut Series) -> T,
    ) -> Option<T> {
        let name = format!("trine_{}_{name}", self.registry.service);
        let mut labels: Labels = labels.iter().map(|(key, text)| (*key, (*text).into())).collect();
        let mut families = self.registry.families();
        let empty = || Entry { help, kind, series: BTreeMap::new(), overflowed: 0 };
        let entry = families.entry(name).or_insert_with_key(|_| empty());
        if entry.kind != kind {
            drop(families);
            tracing::error!(service = %self.registry.service, %kind, "metric name taken by another kind");
            return None;
        }
        let is_full = entry.series.len() >= self.registry.max_label_sets;
        if is_full && !labels.is_empty() && !entry.series.contains_key(&labels) {
            entry.overflowed += 1;
            for value in labels.values_mut() {
                "other".clone_into(value);
            }
        }
        Some(f(entry.series.entry(labels).or_insert_with(new)))
    }
}

impl Registry {
    fn families(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let families = self.registry.families().len();
        f.debug_struct("Metrics")
            .field("service", &self.registry.service)
            .field("families", &families)
            .finish()
    }
}

impl Series {
    fn sample(self, labels: Labels) -> Sample {
        let reading = match self {
            Self::Counter { counter, baseline } => {
                let total = counter.total();
                Reading::Counter { value: total.saturating_sub(baseline), total }
            }
            Self::Gauge(gauge) => Reading::Gauge { value: gauge.get() as f64 },
            Self::Observed(observe) => Reading::Gauge { value: observe() },
            Self::Histogram { histogram, baseline } => {
                let total = histogram.total();
                Reading::Histogram { value: total.since(&baseline), total }
            }
        };
        Sample { labels, reading }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reset_changes_values_and_never_totals() {
        let metrics = Metrics::new("db");
        let counter = metrics.counter("a_total", "A.", &[]);
        let histogram = metrics.histogram("b_seconds", "B.", &[]);
        let gauge = metrics.gauge("c", "C.", &[]);
        for round in 1..4 {
            counter.add(2);
            histogram.record(Duration::from_millis(1));
            gauge.set(7);
            let snapshot = metrics.snapshot();
            assert_eq!(snapshot.counter("trine_db_a_total", &[]), Some(2));
            assert_eq!(snapshot.counter_total("trine_db_a_total", &[]), Some(2 * round));
            assert_eq!(snapshot.histogram("trine_db_b_seconds", &[]).unwrap().count(), 1);
            metrics.reset();
            let snapshot = metrics.snapshot();
            assert_eq!(snapshot.counter("trine_db_a_total", &[]), Some(0));
            assert_eq!(snapshot.counter_total("trine_db_a_total", &[]), Some(2 * round));
            assert_eq!(snapshot.histogram("trine_db_b_seconds", &[]).unwrap().count(), 0);
            assert_eq!(snapshot.gauge("trine_db_c", &[]), Some(7.0));
        }
    }

    #[test]
    fn the_order_of_labels_does_not_matter() {
        let metrics = Metrics::new("db");
        metrics.counter("a_total", "A.", &[("x", "1"), ("y", "2")]).add(1);
        metrics.counter("a_total", "A.", &[("y", "2"), ("x", "1")]).add(1);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.counter("trine_db_a_total", &[("y", "2"), ("x", "1")]), Some(2));
    }

    // CO-16
    #[test]
    fn a_million_label_sets_are_capped_and_flagged() {
        let metrics = Metrics::new("db");
        for id in 0..1_000_000 {
            metrics.counter("a_total", "A.", &[("user", &id.to_string())]).add(1);
        }
        let snapshot = metrics.snapshot();
        let family = snapshot.family("trine_db_a_total").unwrap();
        assert_eq!(family.samples.len(), Metrics::MAX_LABEL_SETS + 1);
        assert_eq!(family.overflowed, 999_000);
        assert_eq!(snapshot.counter("trine_db_a_total", &[("user", "other")]), Some(999_000));
        assert_eq!(snapshot.counter("trine_db_a_total", &[("user", "7")]), Some(1));
    }

    #[test]
    fn a_name_has_one_kind() {
        let metrics = Metrics::new("db");
        metrics.counter("a", "A.", &[]).add(1);
        metrics.gauge("a", "A.", &[]).set(9);
        metrics.histogram("a", "A.", &[]).record(Duration::ZERO);
        metrics.gauge_fn("a", "A.", &[], Arc::new(|| 9.0));
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.families.len(), 1);
        assert_eq!(snapshot.counter("trine_db_a", &[]), Some(1));
    }

    #[test]
    fn an_observer_may_use_the_counters_themselves() {
        let metrics = Metrics::new("db");
        let inner = Arc::downgrade(&metrics.registry);
        let observe = move || inner.upgrade().map_or(-1.0, |r| r.families().len() as f64);
        metrics.gauge_fn("families", "F.", &[], Arc::new(observe));
        assert_eq!(metrics.snapshot().gauge("trine_db_families", &[]), Some(1.0));
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let metrics = Metrics::new("db");
        let counter = metrics.counter("a_total", "A.", &[]);
        let histogram = metrics.histogram("b_seconds", "B.", &[]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.add(1);
                        histogram.record(Duration::from_secs(1));
                    }
                });
            }
        });
        assert_eq!(counter.total(), 80_000);
        assert_eq!(histogram.total().count(), 80_000);
        assert_eq!(histogram.total().sum(), Duration::from_secs(80_000));
    }
}
