use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::Rfc3339;

pub(crate) mod probe;
pub(crate) mod watermark;

/// How well a service does. Ordered: the worst of several is the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// All is well.
    #[default]
    Up,
    /// Works, with a part away or late.
    Degraded,
    /// Does not work.
    Down,
}

impl HealthStatus {
    /// Returns the stable name, such as `"degraded"`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a check found.
///
/// Serializes with `latency` in milliseconds and `checked_at` as RFC 3339 text
/// in UTC.
///
/// # Example
///
/// ```
/// use trine_core::{Health, HealthStatus};
///
/// let health = Health::down("connection refused").with_detail("address", "db:3306");
/// assert_eq!(health.status, HealthStatus::Down);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The answer.
    pub status: HealthStatus,
    /// How long the check took.
    #[serde(serialize_with = "as_millis", skip_serializing_if = "Option::is_none")]
    pub latency: Option<Duration>,
    /// When the check ended, by the wall clock.
    #[serde(serialize_with = "as_rfc3339")]
    pub checked_at: SystemTime,
    /// What an operator asks first. No secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
    /// What went wrong, the chain in one line. No secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Health {
    /// Returns a health of `status`, checked now.
    #[must_use]
    pub fn new(status: HealthStatus) -> Self {
        Self {
            status,
            latency: None,
            checked_at: SystemTime::now(),
            details: BTreeMap::new(),
            error: None,
        }
    }

    /// Returns that all is well.
    #[must_use]
    pub fn up() -> Self {
        Self::new(HealthStatus::Up)
    }

    /// Returns that a part is away or late.
    #[must_use]
    pub fn degraded(error: impl fmt::Display) -> Self {
        Self::new(HealthStatus::Degraded).with_error(error)
    }

    /// Returns that nothing works.
    #[must_use]
    pub fn down(error: impl fmt::Display) -> Self {
        Self::new(HealthStatus::Down).with_error(error)
    }

    /// Sets how long the check took.
    #[must_use]
    pub fn with_latency(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }

    /// Sets one detail.
    #[must_use]
    pub fn with_detail(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }

    /// Sets what went wrong, such as a [`Report`](crate::Report).
    #[must_use]
    pub fn with_error(mut self, error: impl fmt::Display) -> Self {
        self.error = Some(error.to_string());
        self
    }

    /// Adds the health of a part: the worst status wins and keeps its error,
    /// the part's serialized health becomes the detail `name`.
    #[must_use]
    pub fn with_part(self, name: impl Into<String>, part: &Self) -> Self {
        self.with_part_at(name.into(), part, part.status)
    }

    /// Adds the health of a part that the whole can do without: down, it makes
    /// the whole degraded. The detail shows its own status.
    #[must_use]
    pub fn with_optional_part(self, name: impl Into<String>, part: &Self) -> Self {
        self.with_part_at(name.into(), part, part.status.min(HealthStatus::Degraded))
    }

    fn with_part_at(mut self, name: String, part: &Self, status: HealthStatus) -> Self {
        if status > self.status {
            self.status = status;
            self.error = part.error.as_ref().map(|error| format!("{name}: {error}"));
        }
        let part = serde_json::to_value(part).unwrap_or_default();
        self.with_detail(name, part)
    }
}

fn as_millis<S: Serializer>(latency: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    // Whole microseconds: more digits say nothing.
    let micros = (latency.unwrap_or_default().as_secs_f64() * 1e6).round();
    serializer.serialize_f64(micros / 1e3)
}

fn as_rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Rfc3339(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_part_that_is_down_degrades_the_whole() {
        let whole = Health::up().with_optional_part("spare", &Health::down("away"));
        assert_eq!(whole.status, HealthStatus::Degraded);
        assert_eq!(whole.error.as_deref(), Some("spare: away"));
        assert_eq!(whole.details["spare"]["status"], "down");
    }

    #[test]
    fn the_worst_status_is_the_greatest() {
        let all = [HealthStatus::Up, HealthStatus::Down, HealthStatus::Degraded];
        assert_eq!(all.into_iter().max(), Some(HealthStatus::Down));
    }

    #[test]
    fn it_serializes_for_people() {
        let mut health = Health::degraded("late")
            .with_latency(Duration::from_micros(1_500))
            .with_detail("lag", 7);
        health.checked_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_164_799_045);
        assert_eq!(
            serde_json::to_string(&health).unwrap(),
            r#"{"status":"degraded","latency":1.5,"checked_at":"2024-02-28T23:59:59.045Z","details":{"lag":7},"error":"late"}"#
        );
    }

    #[test]
    fn a_part_that_is_worse_decides_and_says_why() {
        let whole = Health::up()
            .with_part("a", &Health::degraded("slow"))
            .with_part("b", &Health::down("gone"))
            .with_part("c", &Health::up());
        assert_eq!(whole.status, HealthStatus::Down);
        assert_eq!(whole.error.as_deref(), Some("b: gone"));
        assert_eq!(whole.details.len(), 3);
    }
}
