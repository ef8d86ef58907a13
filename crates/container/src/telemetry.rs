use std::io::IsTerminal as _;

use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use trine_core::BoxError;

use crate::Settings;

/// Settings of the log, for a section such as `[telemetry]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TelemetryConfig {
    /// What is logged, as `level` or `target=level,…`. Default: `"info"`.
    pub filter: String,
    /// How a line looks. Default: `"text"`.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

impl TelemetryConfig {
    fn parsed(&self) -> Result<EnvFilter, ParseError> {
        EnvFilter::builder().parse(&self.filter)
    }
}

impl Settings for TelemetryConfig {
    fn problems(&self) -> Vec<String> {
        let error = self.parsed().err();
        error.map(|error| format!("filter: {error}")).into_iter().collect()
    }
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("telemetry.filter cannot be read")]
    Filter(#[from] ParseError),
    /// The process has a subscriber already.
    #[error("the process has a log already")]
    Taken(#[source] BoxError),
}

/// Sends the log of the whole process to standard error, once. For hosts only:
/// no service installs a subscriber. Text has colours only on a terminal.
///
/// # Errors
///
/// Fails if the filter cannot be read or the process has a subscriber already.
pub fn install_log(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    let builder =
        tracing_subscriber::fmt().with_env_filter(config.parsed()?).with_writer(std::io::stderr);
    let installed = match config.format {
        // The builder's own choice heeds NO_COLOR.
        LogFormat::Text if std::io::stderr().is_terminal() => builder.try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    installed.map_err(TelemetryError::Taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Loader};

    #[test]
    fn a_filter_that_cannot_be_read_is_a_problem_of_its_section() {
        let mut builder = Builder::new();
        builder.section::<TelemetryConfig>("telemetry");
        let loader = Loader::new()
            .with_defaults("[telemetry]\nfilter = 'trine=loud'\nformat = 'jsn'\nfilt = 'x'");
        let error = builder.configure(&loader).unwrap_err().to_string();
        assert!(error.contains("telemetry.filt: unknown key; did you mean `filter`?"), "{error}");
        assert!(error.contains("telemetry.format: expected one of `json`, `text`"), "{error}");

        let config = TelemetryConfig { filter: "trine=loud".to_owned(), ..Default::default() };
        assert_eq!(config.problems().len(), 1);
        assert!(matches!(install_log(&config), Err(TelemetryError::Filter(_))));
        assert!(TelemetryConfig::default().problems().is_empty());
    }

    #[test]
    fn a_process_has_one_log() {
        let config = TelemetryConfig { format: LogFormat::Json, ..TelemetryConfig::default() };
        assert!(install_log(&config).is_ok());
        assert!(matches!(install_log(&config), Err(TelemetryError::Taken(_))));
    }
}
