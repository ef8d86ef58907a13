use std::time::Duration;

use trine_core::Durability;

use super::RedisPool;
use crate::link::Trouble;
use crate::{Access, Result, ServerFacts};

/// What can be said of all masters together: what the least of them promises.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolFacts {
    /// Product and version.
    pub version: Box<str>,
    /// The `run_id`s of the masters: it changes when one is restarted or
    /// replaced.
    pub identity: Box<str>,
    /// What survives which failure.
    pub durability: Durability,
    /// Whether one of them may remove keys that have not expired.
    pub evicts: bool,
}

impl RedisPool {
    /// Asks every master for its facts as they are now, and returns what holds
    /// for all. Those that are away are left out as long as there is another.
    ///
    /// # Errors
    ///
    /// Fails with what the first master said if none answered, and with
    /// `Unavailable` if none is known.
    pub async fn facts(&self) -> Result<PoolFacts> {
        let (mut known, mut failure) = (Vec::new(), None);
        for (_, facts) in self.servers().await? {
            match facts {
                Ok(facts) => known.push(facts),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        let none = || Trouble::NoMaster.into_error(self.at("facts"), Access::Read);
        let first = known.first().ok_or_else(|| failure.unwrap_or_else(none))?;
        let identities: Vec<_> = known.iter().map(|facts| &*facts.run_id).collect();
        let weakest = known.iter().map(|facts| facts.durability).max_by_key(|each| weakness(*each));
        Ok(PoolFacts {
            version: format!("Redis {}", first.version).into(),
            identity: identities.join(",").into(),
            durability: weakest.unwrap_or(Durability::Memory),
            evicts: known.iter().any(ServerFacts::evicts),
        })
    }
}

/// Orders durabilities from the strongest to the weakest.
fn weakness(durability: Durability) -> (u8, Duration) {
    match durability {
        Durability::Synced => (0, Duration::ZERO),
        Durability::Async { window } => (1, window.get()),
        _ => (2, Duration::ZERO),
    }
}
