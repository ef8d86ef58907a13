use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Upper bound of the first bucket, in nanoseconds.
const FIRST: u64 = 10_000;

/// Buckets with an upper bound; one more takes what is longer.
const BOUNDED: usize = 24;

/// What one shard of a histogram counts.
#[derive(Default)]
pub(super) struct Cells {
    buckets: [AtomicU64; BOUNDED + 1],
    nanos: AtomicU64,
}

impl Cells {
    pub(super) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(nanos)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, reading: &mut HistogramReading) {
        for (sum, bucket) in reading.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        reading.nanos = reading.nanos.wrapping_add(self.nanos.load(Ordering::Relaxed));
    }
}

fn bucket_of(nanos: u64) -> usize {
    // Rounded up, because a bound belongs to the bucket below it.
    let steps = nanos.div_ceil(FIRST).max(1);
    let doublings = u64::BITS - (steps - 1).leading_zeros();
    (doublings as usize).min(BOUNDED)
}

fn bound_of(bucket: usize) -> Duration {
    Duration::from_nanos(FIRST << bucket)
}

/// What a histogram counted, at one moment.
///
/// Serializes as `count`, `sum` in seconds and `buckets`: pairs of an upper
/// bound in seconds and the count up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramReading {
    buckets: [u64; BOUNDED + 1],
    nanos: u64,
}

impl HistogramReading {
    /// Returns how many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the sum of all durations.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// Returns each upper bound with the number of durations up to it, as
    /// Prometheus counts: every bucket includes those below. Longer ones are in
    /// [`count`](Self::count) only.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let mut below = 0;
        self.buckets.iter().take(BOUNDED).enumerate().map(move |(bucket, count)| {
            below += count;
            (bound_of(bucket), below)
        })
    }

    /// Returns the duration that the fraction `q` (0 to 1) of all stays below,
    /// spread evenly within its bucket; `None` if nothing was recorded. Beyond
    /// the last bound the answer is that bound.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * count as f64).max(1.0);
        let (mut below, mut lower) = (0, Duration::ZERO);
        for (upper, until) in self.buckets() {
            if until as f64 >= rank {
                let share = (rank - below as f64) / (until - below) as f64;
                return Some(lower + (upper - lower).mul_f64(share.clamp(0.0, 1.0)));
            }
            (below, lower) = (until, upper);
        }
        Some(lower)
    }

    pub(super) fn since(&self, baseline: &Self) -> Self {
        let mut since = *self;
        for (count, before) in since.buckets.iter_mut().zip(&baseline.buckets) {
            *count = count.saturating_sub(*before);
        }
        since.nanos = since.nanos.wrapping_sub(baseline.nanos);
        since
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }
}

impl Serialize for HistogramReading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let buckets: Vec<_> =
            self.buckets().map(|(bound, count)| (bound.as_secs_f64(), count)).collect();
        let mut fields = serializer.serialize_struct("HistogramReading", 3)?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("sum", &self.sum().as_secs_f64())?;
        fields.serialize_field("buckets", &buckets)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(durations: &[Duration]) -> HistogramReading {
        let cells = Cells::default();
        for duration in durations {
            cells.record(*duration);
        }
        let mut reading = HistogramReading::default();
        cells.add_to(&mut reading);
        reading
    }

    #[test]
    fn buckets_span_ten_microseconds_to_a_minute() {
        assert_eq!(bound_of(0), Duration::from_micros(10));
        assert!(bound_of(BOUNDED - 1) > Duration::from_secs(60));
        for bucket in 0..BOUNDED {
            let bound = u64::try_from(bound_of(bucket).as_nanos()).unwrap();
            assert_eq!(bucket_of(bound), bucket);
            assert_eq!(bucket_of(bound + 1), bucket + 1);
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BOUNDED));
    }

    #[test]
    fn nothing_is_lost_beyond_the_last_bound() {
        let long = reading(&[Duration::from_secs(3_600)]);
        assert_eq!(long.count(), 1);
        assert_eq!(long.buckets().last().unwrap().1, 0);
        assert_eq!(long.quantile(0.5), Some(bound_of(BOUNDED - 1)));
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let mut durations = vec![Duration::from_micros(15); 99];
        durations.push(Duration::from_millis(70));
        let reading = reading(&durations);
        let median = reading.quantile(0.5).unwrap();
        assert!(median > Duration::from_micros(10) && median <= Duration::from_micros(20));
        let longest = reading.quantile(1.0).unwrap();
        assert!(longest > Duration::from_millis(40) && longest <= Duration::from_millis(82));
        assert_eq!(reading.quantile(f64::NAN), reading.quantile(0.0));
        assert_eq!(HistogramReading::default().quantile(0.5), None);
    }
}
