use crate::error::{Error, Result};

/// Fills `bytes` from the system's generator.
///
/// # Errors
///
/// Fails with `Unavailable` if the system has no random bits to give.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|cause| Error::NoRandomness { cause: cause.into() })
}
