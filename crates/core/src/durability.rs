use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Span;

/// What survives which failure, once a write was acknowledged.
///
/// Named in configuration, health and documentation, so that nobody has to
/// guess. The embedded default is [`Synced`](Self::Synced).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing survives the end of the process.
    Memory,
    /// A process crash loses nothing; a power failure or kernel crash loses at
    /// most what was acknowledged within `window`.
    Async {
        /// Longest time between an acknowledgement and its sync.
        window: Span,
    },
    /// On stable storage before it is acknowledged.
    #[default]
    Synced,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Async { window } => write!(f, "async({window})"),
            Self::Synced => f.write_str("synced"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_word_or_a_table() {
        assert_eq!(serde_json::from_str::<Durability>("\"synced\"").unwrap(), Durability::Synced);
        let window = serde_json::from_str::<Durability>("{\"async\":{\"window\":\"1s\"}}").unwrap();
        assert_eq!(window, Durability::Async { window: Span::secs(1) });
        assert!(serde_json::from_str::<Durability>("{\"async\":{\"windw\":\"1s\"}}").is_err());
        assert!(serde_json::from_str::<Durability>("{\"async\":{}}").is_err());
    }
}
