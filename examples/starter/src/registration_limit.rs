use std::net::IpAddr;
use std::sync::Arc;

use crate::allowance::{Allowance, network};
use crate::config::RegistrationConfig;
use crate::error::{Error, Result};

/// Counts registrations per address, and refuses further ones of whoever has
/// too many. Each costs a hash, and tells whether an address has an account.
/// Cloning shares the counts.
#[derive(Clone, Debug)]
pub(crate) struct RegistrationLimit {
    addresses: Arc<Allowance>,
}

impl RegistrationLimit {
    /// Returns a counter without registrations.
    pub(crate) fn new(config: &RegistrationConfig) -> Self {
        let addresses = Allowance::new(config.per_address, config.window.get());
        Self { addresses: Arc::new(addresses) }
    }

    /// Counts a registration from `address`, whatever becomes of it.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TooManyRegistrations`].
    pub(crate) fn count(&self, address: IpAddr) -> Result<()> {
        let counted = self.addresses.count(network(address));
        counted.map_err(|wait| Error::TooManyRegistrations { wait })
    }
}
