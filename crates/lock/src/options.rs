use std::sync::Arc;
use std::time::Duration;

use trine_core::LeaseTerms;

use crate::LockConfig;

/// How a key is taken. What is not said is as the configuration says.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use trine_lock::LockOptions;
///
/// let options = LockOptions::default()
///     .with_ttl(Duration::from_secs(10))
///     .with_wait(Duration::ZERO)
///     .with_label("nightly import");
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOptions {
    /// How long the store keeps the key without a renewal, at least
    /// [`MIN_TTL`](Self::MIN_TTL) and at most `max_ttl`. Default: the
    /// configuration's `ttl`.
    pub ttl: Option<Duration>,
    /// Longest wait for the key; zero asks once. Default: the configuration's
    /// `wait`.
    pub wait: Option<Duration>,
    /// How long the key stays taken at least, also if it is released before,
    /// by the store's clock; at most `max_ttl`. Default: none.
    pub at_least: Option<Duration>,
    /// How long it is held at most, however often it is renewed; at least
    /// [`MIN_TTL`](Self::MIN_TTL). Default: none.
    pub at_most: Option<Duration>,
    /// Who asks, such as `request-7`: while a guard of this owner and key is
    /// alive in this service, another one is given at once, with the same
    /// token, and the last release frees. 1 to 128 bytes. Default: none.
    ///
    /// The same text in another process is somebody else. A guard for writing
    /// also covers reading; one for reading is not turned into one for writing.
    pub owner: Option<Arc<str>>,
    /// What others are told of the holder. 1 to 128 bytes. Default: none.
    pub label: Option<Arc<str>>,
}

impl LockOptions {
    /// Shortest ttl. A lock is renewed at a third of it, and a renewal that
    /// gets no answer is sent again: both have to be round trips to another
    /// machine.
    pub const MIN_TTL: Duration = Duration::from_millis(100);

    /// Longest owner and label in bytes.
    pub const MAX_TEXT: usize = 128;

    /// Sets how long the store keeps the key without a renewal.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the longest wait for the key.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Sets how long the key stays taken at least.
    #[must_use]
    pub fn with_at_least(mut self, at_least: Duration) -> Self {
        self.at_least = Some(at_least);
        self
    }

    /// Sets how long the key is held at most.
    #[must_use]
    pub fn with_at_most(mut self, at_most: Duration) -> Self {
        self.at_most = Some(at_most);
        self
    }

    /// Sets who asks.
    #[must_use]
    pub fn with_owner(mut self, owner: impl Into<Arc<str>>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Sets what others are told of the holder.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Puts the configuration in the place of what was not said; the error says
    /// which option is wrong.
    pub(crate) fn resolve(self, config: &LockConfig) -> Result<Terms, String> {
        let max = config.max_ttl.get();
        let ttl = self.ttl.unwrap_or(config.ttl.get());
        let lease = terms(ttl, max)?;
        if let Some(at_least) = self.at_least.filter(|at_least| *at_least > max) {
            return Err(format!("at_least {at_least:?}: expected at most {max:?} (max_ttl)"));
        }
        if let Some(at_most) = self.at_most.filter(|at_most| *at_most < Self::MIN_TTL) {
            return Err(format!("at_most {at_most:?}: expected at least {:?}", Self::MIN_TTL));
        }
        if let (Some(least), Some(most)) = (self.at_least, self.at_most)
            && least > most
        {
            return Err(format!("at_least {least:?}: expected at most at_most ({most:?})"));
        }
        for (name, text) in [("owner", &self.owner), ("label", &self.label)] {
            if let Some(text) = text {
                check_text(name, text)?;
            }
        }
        Ok(Terms {
            lease: self.at_most.map_or(lease, |at_most| lease.with_at_most(at_most)),
            wait: self.wait.unwrap_or(config.wait.get()),
            at_least: self.at_least,
            owner: self.owner,
            label: self.label,
        })
    }
}

/// Options in which everything is said.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) lease: LeaseTerms,
    pub(crate) wait: Duration,
    pub(crate) at_least: Option<Duration>,
    pub(crate) owner: Option<Arc<str>>,
    pub(crate) label: Option<Arc<str>>,
}

/// Returns the terms of a lease of this ttl, a tenth of which is margin.
pub(crate) fn terms(ttl: Duration, max: Duration) -> Result<LeaseTerms, String> {
    let min = LockOptions::MIN_TTL;
    if ttl < min || ttl > max {
        return Err(format!("ttl {ttl:?}: expected {min:?} to {max:?} (max_ttl)"));
    }
    LeaseTerms::new(ttl, ttl / 10).map_err(|error| error.to_string())
}

fn check_text(name: &str, text: &str) -> Result<(), String> {
    let max = LockOptions::MAX_TEXT;
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        let length = text.len();
        return Err(format!(
            "{name} of {length} bytes: expected 1 to {max} without control characters"
        ));
    }
    Ok(())
}
