use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use trine_core::Span;

/// What the container itself reads from the section of a service.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Treatment {
    /// Whether the process cannot do without the service. Default: true.
    pub(super) required: bool,
    /// Longest time to shut the service down. Default:
    /// `container.shutdown_timeout`.
    pub(super) shutdown_timeout: Option<Span>,
}

impl Default for Treatment {
    fn default() -> Self {
        Self { required: true, shutdown_timeout: None }
    }
}

impl Treatment {
    pub(super) const KEYS: [&str; 2] = ["required", "shutdown_timeout"];

    /// Takes the container's keys out of the section of a service. What cannot
    /// be read has been reported by the check.
    pub(super) fn take(table: &mut Map<String, Value>) -> Self {
        let ours = Self::KEYS.iter().filter_map(|key| table.remove_entry(*key));
        serde_json::from_value(Value::Object(ours.collect())).unwrap_or_default()
    }
}
