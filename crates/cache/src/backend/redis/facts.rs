use std::sync::Arc;

use trine_core::Durability;
use trine_redis::{Error, Result, ServerFacts};

use crate::StoreFacts;

/// Returns what can be said of all masters together: what the least of them
/// promises. Those that are away are left out as long as there is another.
///
/// # Errors
///
/// Fails with what the first one said if none answered, and with `None` if
/// there is none.
pub(super) fn merged(
    servers: Vec<(Arc<str>, Result<ServerFacts>)>,
) -> Result<StoreFacts, Option<Error>> {
    let (mut known, mut failure) = (Vec::new(), None);
    for (_, facts) in servers {
        match facts {
            Ok(facts) => known.push(facts),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    let Some(first) = known.first() else { return Err(failure) };
    let identities: Vec<_> = known.iter().map(|facts| &*facts.run_id).collect();
    let weakest = known.iter().map(|facts| facts.durability).max_by_key(|each| weakness(*each));
    Ok(StoreFacts {
        version: format!("Redis {}", first.version).into(),
        identity: identities.join(",").into(),
        durability: weakest.unwrap_or(Durability::Memory),
        evicts: known.iter().any(ServerFacts::evicts),
    })
}

/// Orders durabilities from the strongest to the weakest.
fn weakness(durability: Durability) -> (u8, std::time::Duration) {
    match durability {
        Durability::Synced => (0, std::time::Duration::ZERO),
        Durability::Async { window } => (1, window.get()),
        _ => (2, std::time::Duration::ZERO),
    }
}
