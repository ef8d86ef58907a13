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
    let code = driver_error(error)
        .and_then(sqlx::Error::as_database_error)
        .and_then(sqlx::error::DatabaseError::code);
    match code {
        Some(code) if code.len() == 5 => (Some(code.into_owned()), None),
        Some(code) => (None, code.parse().ok()),
        None => (None, None),
    }
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
