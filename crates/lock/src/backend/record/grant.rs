use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trine_core::{BoxError, Fence};

use super::{Micros, Now};
use crate::backend::Want;
use crate::{Holder, HolderState, Key, Shape};

/// What tells the grants of one key apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct GrantName {
    pub(super) slot: Option<u32>,
    pub(super) token: u64,
}

impl GrantName {
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    pub(in crate::backend) fn token(self) -> u64 {
        self.token
    }

    /// Returns the fence of a grant of `key` by the locks called `service`.
    pub(in crate::backend) fn fence(self, service: &str, key: &Key) -> Result<Fence, BoxError> {
        let text = match self.slot {
            Some(slot) => format!("{service}/{key}#{slot}"),
            None => format!("{service}/{key}"),
        };
        Ok(Fence::new(text, self.token)?)
    }

    /// Returns the locked key and the name of its grant, if the locks called
    /// `service` made the fence.
    pub(in crate::backend) fn of<'a>(service: &str, fence: &'a Fence) -> Option<(&'a str, Self)> {
        let rest = fence.key().strip_prefix(service)?.strip_prefix('/')?;
        let token = fence.token();
        let Some((key, number)) = rest.split_once('#') else {
            return Some((rest, Self { slot: None, token }));
        };
        Some((key, Self { slot: Some(number.parse().ok()?), token }))
    }
}

/// One grant of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    #[serde(rename = "t")]
    pub(super) token: u64,
    /// The number of a permit.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(super) slot: Option<u32>,
    #[serde(rename = "s", with = "Form")]
    pub(super) shape: Shape,
    #[serde(rename = "p")]
    pub(super) process: Arc<str>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<Arc<str>>,
    /// By the wall clock.
    #[serde(rename = "b")]
    pub(super) since: Micros,
    #[serde(rename = "e")]
    pub(super) expires: Micros,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub(super) at_least: Option<Micros>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(super) at_most: Option<Micros>,
    /// Let go before `at_least`.
    #[serde(rename = "k", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_kept: bool,
    /// Of the request that it answered.
    #[serde(rename = "r")]
    pub(super) nonce: u64,
}

impl Grant {
    pub(super) fn name(&self) -> GrantName {
        GrantName { slot: self.slot, token: self.token }
    }

    /// Begins its times.
    pub(super) fn begin(&mut self, now: Micros, want: &Want) {
        self.at_most = want.terms.at_most().map(|at_most| now + at_most);
        self.expires = self.bounded(now + want.terms.ttl());
    }

    pub(super) fn bounded(&self, until: Micros) -> Micros {
        self.at_most.map_or(until, |at_most| at_most.min(until))
    }

    /// When it is over without a renewal.
    pub(super) fn ends(&self) -> Micros {
        self.at_least.map_or(self.expires, |at_least| at_least.max(self.expires))
    }

    /// Whether it is there, kept if its holder is gone.
    pub(super) fn is_there(&mut self, now: Micros) -> bool {
        now < self.expires || self.keep(now)
    }

    /// Keeps it for what is left of its least time; `false` if nothing is.
    pub(super) fn keep(&mut self, now: Micros) -> bool {
        let Some(at_least) = self.at_least.filter(|at_least| now < *at_least) else {
            return false;
        };
        (self.is_kept, self.expires) = (true, at_least);
        true
    }

    pub(super) fn holder(&self, now: Now) -> Holder {
        let token = self.token;
        let state =
            if self.is_kept { HolderState::Kept { token } } else { HolderState::Holding { token } };
        let expires_in = self.expires.since(now.time);
        let process = Arc::clone(&self.process);
        Holder::new(process, self.shape, self.since.into(), expires_in, state)
            .with_label(self.label.clone())
    }
}

/// How a shape is stored.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Shape")]
pub(super) enum Form {
    #[serde(rename = "w")]
    Write,
    #[serde(rename = "r")]
    Read,
    #[serde(rename = "p")]
    Permit {
        #[serde(rename = "o")]
        of: NonZeroU32,
    },
}
