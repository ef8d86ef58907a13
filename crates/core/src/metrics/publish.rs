use metrics::{Label, counter, describe_counter, describe_gauge, gauge};

use super::snapshot::{Family, HistogramReading, Labels, MetricKind, Reading, Snapshot};

impl Snapshot {
    /// Hands the totals and gauges to the recorder of the `metrics` facade that
    /// is installed now; without one, nothing happens.
    ///
    /// To be called periodically or before each scrape. Handles are taken anew
    /// every time, because one that was taken before a recorder was installed
    /// stays without effect. The facade cannot take a finished distribution:
    /// a histogram `x` becomes the counters `x_bucket` (label `le`, in seconds)
    /// and `x_count` and the gauge `x_sum`.
    pub fn publish(&self) {
        for family in &self.families {
            describe(family);
            for sample in &family.samples {
                let (name, labels) = (family.name.clone(), labels(&sample.labels));
                match &sample.reading {
                    Reading::Counter { total, .. } => counter!(name, labels).absolute(*total),
                    Reading::Gauge { value } => gauge!(name, labels).set(*value),
                    Reading::Histogram { total, .. } => publish_histogram(&name, &labels, total),
                }
            }
        }
    }
}

fn describe(family: &Family) {
    match family.kind {
        MetricKind::Counter => describe_counter!(family.name.clone(), family.help),
        MetricKind::Gauge => describe_gauge!(family.name.clone(), family.help),
        MetricKind::Histogram => {
            describe_counter!(format!("{}_bucket", family.name), family.help);
        }
    }
}

fn labels(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(key, value)| Label::new(*key, value.clone())).collect()
}

fn publish_histogram(name: &str, labels: &[Label], total: &HistogramReading) {
    let bucket = |le: String, count| {
        let mut labels = labels.to_vec();
        labels.push(Label::new("le", le));
        counter!(format!("{name}_bucket"), labels).absolute(count);
    };
    for (bound, count) in total.buckets() {
        bucket(bound.as_secs_f64().to_string(), count);
    }
    bucket("+Inf".to_owned(), total.count());
    counter!(format!("{name}_count"), labels.to_vec()).absolute(total.count());
    gauge!(format!("{name}_sum"), labels.to_vec()).set(total.sum().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use crate::Metrics;

    /// Keeps every counter and gauge by the text of its key.
    #[derive(Default)]
    struct Kept(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Kept {
        fn cell(&self, key: &Key) -> Arc<AtomicU64> {
            Arc::clone(self.0.lock().unwrap().entry(key.to_string()).or_default())
        }

        fn read(&self, key: &str) -> u64 {
            self.0
                .lock()
                .unwrap()
                .get(key)
                .unwrap_or_else(|| panic!("no {key}"))
                .load(Ordering::Relaxed)
        }
    }

    impl Recorder for Kept {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.cell(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.cell(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn totals_reach_a_recorder_that_was_installed_late_and_survive_a_reset() {
        let metrics = Metrics::new("db");
        let counter = metrics.counter("a_total", "A.", &[("x", "1")]);
        let histogram = metrics.histogram("b_seconds", "B.", &[]);
        metrics.gauge("c", "C.", &[]).set(7);
        counter.add(2);
        histogram.record(Duration::from_millis(1));
        metrics.snapshot().publish();

        let kept = Kept::default();
        metrics::with_local_recorder(&kept, || {
            metrics.reset();
            counter.add(1);
            metrics.snapshot().publish();
        });
        let counts: Vec<_> = kept.0.lock().unwrap().keys().cloned().collect();
        let read = |part: &str| {
            let key = counts
                .iter()
                .find(|key| key.contains(part))
                .unwrap_or_else(|| panic!("{counts:?}"));
            kept.read(key)
        };
        assert_eq!(read("trine_db_a_total"), 3);
        assert_eq!(f64::from_bits(read("trine_db_c")), 7.0);
        assert_eq!(read("trine_db_b_seconds_count"), 1);
        assert_eq!(f64::from_bits(read("trine_db_b_seconds_sum")), 0.001);
        assert_eq!(read("+Inf"), 1);
        assert_eq!(read("0.00064"), 0);
        assert_eq!(read("0.00128"), 1);
    }
}
