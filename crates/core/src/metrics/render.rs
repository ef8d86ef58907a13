use std::fmt::Write;

use super::snapshot::{Family, HistogramReading, Labels, MetricKind, Reading, Snapshot};

/// The family that says which others were cut at their bound of label sets.
const OVERFLOWED: &str = "trine_metrics_overflowed_total";

impl Snapshot {
    /// Renders the totals in the Prometheus text format 0.0.4, for the media
    /// type `text/plain; version=0.0.4`.
    ///
    /// A family that was asked for more label sets than its bound is named in
    /// `trine_metrics_overflowed_total`.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        for family in &self.families {
            render_family(&mut text, family);
        }
        let cut = self.families.iter().filter(|family| family.overflowed > 0);
        for (index, family) in cut.enumerate() {
            if index == 0 {
                head(
                    &mut text,
                    OVERFLOWED,
                    "Label sets refused at the bound.",
                    MetricKind::Counter,
                );
            }
            let labels = Labels::from([("family", name_of(&family.name))]);
            line(&mut text, OVERFLOWED, &labels, None, family.overflowed);
        }
        text
    }
}

fn render_family(text: &mut String, family: &Family) {
    let name = name_of(&family.name);
    head(text, &name, family.help, family.kind);
    for sample in &family.samples {
        match &sample.reading {
            Reading::Counter { total, .. } => line(text, &name, &sample.labels, None, total),
            Reading::Gauge { value } => line(text, &name, &sample.labels, None, Float(*value)),
            Reading::Histogram { total, .. } => histogram(text, &name, &sample.labels, total),
        }
    }
}

fn histogram(text: &mut String, name: &str, labels: &Labels, reading: &HistogramReading) {
    let bucket = format!("{name}_bucket");
    for (bound, count) in reading.buckets() {
        let bound = Float(bound.as_secs_f64()).to_string();
        line(text, &bucket, labels, Some(&bound), count);
    }
    line(text, &bucket, labels, Some("+Inf"), reading.count());
    let sum = Float(reading.sum().as_secs_f64());
    line(text, &format!("{name}_sum"), labels, None, sum);
    line(text, &format!("{name}_count"), labels, None, reading.count());
}

fn head(text: &mut String, name: &str, help: &str, kind: MetricKind) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(
    text: &mut String,
    name: &str,
    labels: &Labels,
    bound: Option<&str>,
    value: impl std::fmt::Display,
) {
    text.push_str(name);
    let mut open = '{';
    let bound = bound.map(|bound| ("le", bound));
    let own = labels.iter().map(|(key, value)| (*key, value.as_str()));
    for (key, value) in own.chain(bound) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{open}{key}=\"{value}\"");
        open = ',';
    }
    if open == ',' {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

/// Returns `name` with what the format does not allow in names as `_`.
fn name_of(name: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    name.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect()
}

/// A float as the format spells it.
struct Float(f64);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value == f64::INFINITY => f.write_str("+Inf"),
            value if value == f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::Metrics;

    #[test]
    fn counters_and_gauges_have_help_type_and_sorted_labels() {
        let metrics = Metrics::new("db");
        metrics.counter("a_total", "A.", &[("y", "2"), ("x", "1")]).add(3);
        metrics.gauge("b", "B.", &[]).set(-7);
        metrics.reset();
        assert_eq!(
            metrics.snapshot().to_prometheus(),
            "# HELP trine_db_a_total A.\n# TYPE trine_db_a_total counter\n\
             trine_db_a_total{x=\"1\",y=\"2\"} 3\n\
             # HELP trine_db_b B.\n# TYPE trine_db_b gauge\ntrine_db_b -7\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_end_in_infinity() {
        let metrics = Metrics::new("db");
        let histogram = metrics.histogram("wait_seconds", "W.", &[("engine", "x")]);
        histogram.record(Duration::from_micros(10));
        histogram.record(Duration::from_micros(15));
        histogram.record(Duration::from_secs(3_600));
        let text = metrics.snapshot().to_prometheus();
        for line in [
            "# TYPE trine_db_wait_seconds histogram",
            "trine_db_wait_seconds_bucket{engine=\"x\",le=\"0.00001\"} 1",
            "trine_db_wait_seconds_bucket{engine=\"x\",le=\"0.00002\"} 2",
            "trine_db_wait_seconds_bucket{engine=\"x\",le=\"+Inf\"} 3",
            "trine_db_wait_seconds_sum{engine=\"x\"} 3600.000025",
            "trine_db_wait_seconds_count{engine=\"x\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let counts: Vec<u64> = text
            .lines()
            .filter(|line| line.contains("_bucket{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(counts.is_sorted());
    }

    #[test]
    fn what_would_break_a_line_is_escaped() {
        let metrics = Metrics::new("db.default");
        metrics.counter("a_total", "A \\ B\nC", &[("x", "q\"u\\o\nte")]).add(1);
        assert_eq!(
            metrics.snapshot().to_prometheus(),
            "# HELP trine_db_default_a_total A \\\\ B\\nC\n\
             # TYPE trine_db_default_a_total counter\n\
             trine_db_default_a_total{x=\"q\\\"u\\\\o\\nte\"} 1\n"
        );
    }

    #[test]
    fn floats_are_spelled_as_the_format_wants() {
        let metrics = Metrics::new("x");
        for (name, value) in [("a", f64::NAN), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY)] {
            metrics.gauge_fn(name, "V.", &[], Arc::new(move || value));
        }
        let text = metrics.snapshot().to_prometheus();
        for line in ["trine_x_a NaN", "trine_x_b +Inf", "trine_x_c -Inf"] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    // CO-16
    #[test]
    fn a_family_that_was_cut_is_flagged() {
        let metrics = Metrics::bounded("x", 2);
        for id in 0..5 {
            metrics.counter("a_total", "A.", &[("user", &id.to_string())]).add(1);
        }
        let text = metrics.snapshot().to_prometheus();
        assert!(text.contains("trine_metrics_overflowed_total{family=\"trine_x_a_total\"} 3"));
    }
}
