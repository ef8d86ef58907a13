use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

pub use super::histogram::HistogramReading;

/// Names and values of labels, sorted by name.
pub type Labels = BTreeMap<&'static str, String>;

/// The counters of one or more services at one moment: plain data.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Sorted by name.
    pub families: Vec<Family>,
}

/// All samples of one name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Family {
    /// The full name, such as `trine_db_operations_total`.
    pub name: String,
    /// What is counted, in one sentence.
    pub help: &'static str,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// How often a label set beyond the bound was asked for; those count under
    /// the label value `other`.
    pub overflowed: u64,
    /// One for each label set, sorted by it.
    pub samples: Vec<Sample>,
}

/// What kind of number a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of durations.
    Histogram,
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// The reading of one label set.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// Empty if the family has one sample only.
    pub labels: Labels,
    /// The number.
    #[serde(flatten)]
    pub reading: Reading,
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "a snapshot is read once and dropped")]
pub enum Reading {
    /// Of a counter.
    Counter {
        /// Since the last reset.
        value: u64,
        /// Since the start of the process; never goes back. This is exported.
        total: u64,
    },
    /// Of a gauge.
    Gauge {
        /// Now.
        value: f64,
    },
    /// Of a histogram.
    Histogram {
        /// Since the last reset.
        value: HistogramReading,
        /// Since the start of the process; never goes back. This is exported.
        total: HistogramReading,
    },
}

impl Snapshot {
    /// Returns the family `name`.
    #[must_use]
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// Returns a counter's value since the last reset.
    #[must_use]
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        match self.reading(name, labels)? {
            Reading::Counter { value, .. } => Some(value),
            Reading::Gauge { .. } | Reading::Histogram { .. } => None,
        }
    }

    /// Returns a counter's total since the start of the process.
    #[must_use]
    pub fn counter_total(&self, name: &str, labels: &[(&str, &str)]) -> Option<u64> {
        match self.reading(name, labels)? {
            Reading::Counter { total, .. } => Some(total),
            Reading::Gauge { .. } | Reading::Histogram { .. } => None,
        }
    }

    /// Returns a gauge's value.
    #[must_use]
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.reading(name, labels)? {
            Reading::Gauge { value } => Some(value),
            Reading::Counter { .. } | Reading::Histogram { .. } => None,
        }
    }

    /// Returns what a histogram recorded since the last reset.
    #[must_use]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Option<HistogramReading> {
        match self.reading(name, labels)? {
            Reading::Histogram { value, .. } => Some(value),
            Reading::Counter { .. } | Reading::Gauge { .. } => None,
        }
    }

    /// Adds a label to every sample, such as the instance of a service, so that
    /// snapshots of several can be merged. A label of that name is replaced.
    #[must_use]
    pub fn with_label(mut self, name: &'static str, value: &str) -> Self {
        for family in &mut self.families {
            for sample in &mut family.samples {
                sample.labels.insert(name, value.to_owned());
            }
            family.samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        self
    }

    /// Adds the samples of `other`. Where both have the same name, kind and
    /// labels, the numbers are added, gauges too.
    pub fn merge(&mut self, other: Self) {
        for family in other.families {
            let place = |mine: &Family| (&mine.name, mine.kind).cmp(&(&family.name, family.kind));
            match self.families.binary_search_by(place) {
                Ok(index) => {
                    if let Some(mine) = self.families.get_mut(index) {
                        mine.merge(family);
                    }
                }
                Err(index) => self.families.insert(index, family),
            }
        }
    }

    fn reading(&self, name: &str, labels: &[(&str, &str)]) -> Option<Reading> {
        let is_meant = |sample: &&Sample| {
            sample.labels.len() == labels.len()
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(key).is_some_and(|found| found == value))
        };
        self.family(name)?.samples.iter().find(is_meant).map(|sample| sample.reading)
    }
}

impl Family {
    fn merge(&mut self, other: Self) {
        self.overflowed += other.overflowed;
        for sample in other.samples {
            match self.samples.binary_search_by(|mine| mine.labels.cmp(&sample.labels)) {
                Ok(index) => {
                    if let Some(mine) = self.samples.get_mut(index) {
                        mine.reading.add(&sample.reading);
                    }
                }
                Err(index) => self.samples.insert(index, sample),
            }
        }
    }
}

impl Reading {
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Counter { value, total }, Self::Counter { value: v, total: t }) => {
                *value = value.saturating_add(*v);
                *total = total.saturating_add(*t);
            }
            (Self::Gauge { value }, Self::Gauge { value: v }) => *value += v,
            (Self::Histogram { value, total }, Self::Histogram { value: v, total: t }) => {
                value.add(v);
                total.add(t);
            }
            // A family has one kind.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Metrics;

    #[test]
    fn merging_adds_what_is_the_same_and_keeps_what_differs() {
        let make = |instance: &str| {
            let metrics = Metrics::new("cache");
            metrics.counter("hits_total", "Hits.", &[]).add(2);
            metrics.gauge("size", "Size.", &[]).set(3);
            metrics.histogram("wait_seconds", "Wait.", &[]).record(Duration::from_secs(1));
            metrics.snapshot().with_label("instance", instance)
        };
        let mut merged = make("a");
        merged.merge(make("b"));
        merged.merge(make("a"));
        let (a, b) = ([("instance", "a")], [("instance", "b")]);
        assert_eq!(merged.counter("trine_cache_hits_total", &a), Some(4));
        assert_eq!(merged.counter("trine_cache_hits_total", &b), Some(2));
        assert_eq!(merged.gauge("trine_cache_size", &a), Some(6.0));
        assert_eq!(merged.histogram("trine_cache_wait_seconds", &a).unwrap().count(), 2);
        assert_eq!(merged.counter("trine_cache_hits_total", &[]), None);
        assert!(merged.families.is_sorted_by_key(|family| &family.name));
    }

    #[test]
    fn it_serializes_as_data() {
        let metrics = Metrics::new("db");
        metrics.counter("a_total", "A.", &[("x", "1")]).add(2);
        assert_eq!(
            serde_json::to_string(&metrics.snapshot()).unwrap(),
            r#"{"families":[{"name":"trine_db_a_total","help":"A.","kind":"counter","overflowed":0,"samples":[{"labels":{"x":"1"},"value":2,"total":2}]}]}"#
        );
    }
}
