use std::error::Error as StdError;
use std::sync::Arc;

use crate::Error;

/// Returns the driver's error at the end of the chain, if the driver was asked.
pub(crate) fn driver_error(error: &Error) -> Option<&sqlx::Error> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<sqlx::Error>() {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref::<Arc<sqlx::Error>>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Returns the SQLSTATE and the number that the engine gave to an error. The
/// engines without a SQLSTATE have their number in its place.
pub(super) fn state_and_number(error: &Error) -> (Option<String>, Option<i32>) {
    let Some(error) = driver_error(error).and_then(sqlx::Error::as_database_error) else {
        return (None, None);
    };
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return (error.code().map(str::to_owned), Some(error.number().into()));
    }
    (None, error.code().and_then(|code| code.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DatabaseName;
    use crate::error::At;

    #[test]
    fn the_driver_is_found_however_deep_it_lies() {
        let at = || At::new("query", &DatabaseName::Global);
        let driver = Arc::new(sqlx::Error::RowNotFound);
        let inner = Error::Internal { at: at(), cause: Box::new(driver) };
        let outer = Error::Invalid { at: at(), detail: "x".into(), cause: Some(Box::new(inner)) };
        assert!(matches!(driver_error(&outer), Some(sqlx::Error::RowNotFound)));
        let plain = Error::Internal { at: at(), cause: Box::new(sqlx::Error::PoolClosed) };
        assert!(matches!(driver_error(&plain), Some(sqlx::Error::PoolClosed)));
        assert!(driver_error(&Error::Closed { at: at() }).is_none());
    }
}
