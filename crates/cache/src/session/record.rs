use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is stored of a session; times are since the Unix epoch, by the store's
/// clock. Names are short because every session has them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record<T> {
    #[serde(rename = "u")]
    pub(super) user: String,
    #[serde(rename = "c", with = "millis")]
    pub(super) created: Duration,
    #[serde(rename = "s", with = "millis")]
    pub(super) used: Duration,
    #[serde(rename = "d")]
    pub(super) data: T,
}

impl<T> Record<T> {
    pub(super) fn new(user: &str, now: Duration, data: T) -> Self {
        // What is not stored must not be told either.
        let now = Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        Self { user: user.to_owned(), created: now, used: now, data }
    }
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        // Bounded, so that no sum with a lifetime can overflow.
        u64::deserialize(from).map(|millis| Duration::from_millis(millis.min(1 << 50)))
    }
}
