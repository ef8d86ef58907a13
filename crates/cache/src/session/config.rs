use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use trine_core::{Secret, Span};

use crate::{ConfigError, Key};

/// How sessions are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SessionsConfig {
    /// What users are turned into the tags of their sessions with; at least 32
    /// bytes, the same in every process. Another key ends all sessions.
    pub key: Secret,
    /// How long a session lasts that is not used. Default: 30m.
    #[serde(default = "defaults::idle")]
    pub idle: Span,
    /// How long a session lasts however much it is used. Default: 30d.
    #[serde(default = "defaults::absolute")]
    pub absolute: Span,
    /// Most live sessions of one user, at most 1000. Default: 32.
    #[serde(default = "defaults::max_per_user")]
    pub max_per_user: NonZeroU32,
    /// What happens to a login beyond that. Default: `end_oldest`.
    #[serde(default)]
    pub when_too_many: WhenTooMany,
    /// Longest time in which a use of a session is not noted, and so how much
    /// earlier it may end; at most half of `idle`. Default: a twentieth of
    /// `idle`, at most 60s.
    #[serde(default)]
    pub touch_every: Option<Span>,
    /// Keeps sessions also on a store that may drop them to make room: users
    /// are then logged out early. Default: false.
    #[serde(default)]
    pub allow_eviction: bool,
    /// The beginning of the keys, for a cache that has others too. Default:
    /// `"session:"`.
    #[serde(default = "defaults::prefix")]
    pub prefix: String,
}

/// What happens to one session more than a user may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenTooMany {
    /// The session that was unused for longest ends.
    #[default]
    EndOldest,
    /// It is not made.
    Refuse,
}

impl SessionsConfig {
    /// Least length of the key in bytes.
    const KEY: usize = 32;

    /// Most sessions of one user: they are read together.
    const MOST: u32 = 1_000;

    /// Returns the configuration with the defaults.
    #[must_use]
    pub fn new(key: Secret) -> Self {
        Self {
            key,
            idle: defaults::idle(),
            absolute: defaults::absolute(),
            max_per_user: defaults::max_per_user(),
            when_too_many: WhenTooMany::default(),
            touch_every: None,
            allow_eviction: false,
            prefix: defaults::prefix(),
        }
    }

    /// Checks the rules that span fields.
    ///
    /// # Errors
    ///
    /// Fails with every broken rule, each with the path of its setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let length = self.key.expose().len();
        if length < Self::KEY {
            let least = Self::KEY;
            problems.push(format!("key: {length} bytes, expected at least {least}"));
        }
        for (field, span) in [("idle", self.idle), ("absolute", self.absolute)] {
            if span.get() < Duration::from_secs(1) || span.get() > crate::Ttl::MAX {
                problems.push(format!("{field}: {span} is not between 1s and 100 years"));
            }
        }
        if self.absolute < self.idle {
            let (absolute, idle) = (self.absolute, self.idle);
            problems.push(format!("absolute: {absolute} is less than idle ({idle})"));
        }
        if self.max_per_user.get() > Self::MOST {
            let (found, most) = (self.max_per_user, Self::MOST);
            problems.push(format!("max_per_user: {found} is more than {most}"));
        }
        if let Some(span) = self.touch_every
            && span.get() > self.idle.get() / 2
        {
            problems.push(format!("touch_every: {span} is more than half of idle ({})", self.idle));
        }
        // As long as the keys that will be made of it.
        if let Err(refused) = Key::new(format!("{}{{0123456789abcdef}}", self.prefix)) {
            problems.push(format!("prefix: {refused}"));
        }
        ConfigError::unless_empty(problems)
    }

    pub(super) fn touch_every(&self) -> Duration {
        let default = || (self.idle.get() / 20).min(Duration::from_secs(60));
        self.touch_every.map_or_else(default, Span::get)
    }
}

mod defaults {
    use std::num::NonZeroU32;

    use trine_core::Span;

    pub(super) fn idle() -> Span {
        Span::secs(30 * 60)
    }

    pub(super) fn absolute() -> Span {
        Span::secs(30 * 24 * 60 * 60)
    }

    pub(super) fn max_per_user() -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(31)
    }

    pub(super) fn prefix() -> String {
        "session:".to_owned()
    }
}
