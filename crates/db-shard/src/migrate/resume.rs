#[cfg(feature = "mysql")]
mod mysql;

use crate::{Engine, Error};

/// Tells whether the answer to a statement that an interrupted runner may have
/// run says that it has.
pub(super) fn says_done(engine: Engine, error: &Error) -> bool {
    match (engine, error) {
        #[cfg(feature = "mysql")]
        (Engine::Mysql, error) => mysql::says_done(error),
        // The other engines keep nothing of an interrupted step.
        _ => false,
    }
}
