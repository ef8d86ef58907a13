use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use trine_core::Span;

use crate::Settings;

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

    /// Takes the container's keys out of the section of a service.
    pub(super) fn take(table: &mut Map<String, Value>) -> Value {
        let ours = Self::KEYS.iter().filter_map(|key| table.remove_entry(*key));
        Value::Object(ours.collect())
    }
}

impl Settings for Treatment {
    fn problems(&self) -> Vec<String> {
        let is_zero = self.shutdown_timeout.is_some_and(|span| span.get().is_zero());
        is_zero.then(|| "shutdown_timeout: must be longer than 0".to_owned()).into_iter().collect()
    }
}
