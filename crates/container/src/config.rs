use schemars::JsonSchema;
use serde::Deserialize;
use trine_core::Span;

use crate::Settings;
use crate::container::pulse::Pulse;

/// Settings of the container itself, section `[container]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ContainerConfig {
    /// Longest time to start one service, for those that have no such setting
    /// of their own. Default: 30s.
    pub start_timeout: Span,
    /// Time between "not ready" and the end of accepting, in which load
    /// balancers take notice. Default: 5s.
    pub drain_delay: Span,
    /// Longest time for requests in flight once nothing new is accepted.
    /// Default: 30s.
    pub drain_timeout: Span,
    /// Longest time to shut down one service; a section's own
    /// `shutdown_timeout` replaces it. Default: 10s.
    pub shutdown_timeout: Span,
    /// Longest time of one health check. Default: 3s.
    pub health_timeout: Span,
    /// Time between two health checks of one service. Default: 1s.
    pub health_interval: Span,
    /// How long the runtime may be held up before the process counts as not
    /// live; at least 1s. Default: 10s.
    pub live_timeout: Span,
}

impl Default for ContainerConfig {
    fn default() -> Self {
        Self {
            start_timeout: Span::secs(30),
            drain_delay: Span::secs(5),
            drain_timeout: Span::secs(30),
            shutdown_timeout: Span::secs(10),
            health_timeout: Span::secs(3),
            health_interval: Span::secs(1),
            live_timeout: Span::secs(10),
        }
    }
}

impl Settings for ContainerConfig {
    fn problems(&self) -> Vec<String> {
        let positive = [
            ("start_timeout", self.start_timeout),
            ("drain_timeout", self.drain_timeout),
            ("shutdown_timeout", self.shutdown_timeout),
            ("health_timeout", self.health_timeout),
            ("health_interval", self.health_interval),
        ];
        let broken = positive.into_iter().filter(|(_, span)| span.get().is_zero());
        let mut problems: Vec<_> =
            broken.map(|(field, _)| format!("{field}: must be longer than 0")).collect();
        if self.live_timeout.get() < Pulse::LEAST_TIMEOUT {
            problems.push(format!("live_timeout: must be at least {:?}", Pulse::LEAST_TIMEOUT));
        }
        problems
    }
}
