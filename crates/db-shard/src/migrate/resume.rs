#[cfg(feature = "mysql")]
mod mysql;

use crate::error_log::driver_error;
use crate::{Engine, Error};

/// Tells whether the answer to a statement that an interrupted runner may have
/// run says that it has.
pub(super) fn says_done(engine: Engine, error: &Error) -> bool {
    match (engine, driver_error(error)) {
        #[cfg(feature = "mysql")]
        (Engine::Mysql, Some(answer)) => mysql::says_done(answer),
        // The other engines keep nothing of an interrupted step.
        _ => false,
    }
}
