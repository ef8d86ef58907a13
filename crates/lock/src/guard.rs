pub(crate) mod held;

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trine_core::{Fence, LeaseEnd};

use self::held::{Grip, Held};
use crate::{Key, ReleaseOutcome, Result};

/// A key that is held for writing: nobody else has it.
///
/// It is renewed in the background until it is released, dropped or lost.
/// Dropping it gives it back in the background. A process that is stopped
/// between a check and the act that it allowed cannot be told of a loss: show
/// the [`fence`](Self::fence) to what you write to.
#[must_use = "a guard is given back when it is dropped"]
pub struct Guard {
    grip: Grip,
}

/// A key that is held for reading, beside others who read. It has no fence:
/// readers write nothing.
#[must_use = "a guard is given back when it is dropped"]
pub struct ReadGuard {
    grip: Grip,
}

/// One of the permits of a key.
#[must_use = "a permit is given back when it is dropped"]
pub struct Permit {
    grip: Grip,
}

impl Guard {
    /// Returns what to show to the resources that the lock protects, before
    /// reading there. A later holder's token is higher.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        self.grip.lease().fence()
    }

    pub(crate) fn downgrade(&self) -> Weak<Held> {
        self.grip.downgrade()
    }
}

impl Permit {
    /// Returns what to show to the resources of this permit. Its key ends in
    /// the number of the permit, and a later holder of the same number has a
    /// higher token.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        self.grip.lease().fence()
    }
}

/// What every guard can do.
macro_rules! guard {
    ($guard:ident) => {
        impl $guard {
            pub(crate) fn new(grip: Grip) -> Self {
                Self { grip }
            }

            pub(crate) fn grip(&self) -> &Grip {
                &self.grip
            }

            /// Returns the key.
            #[must_use]
            pub fn key(&self) -> &Key {
                self.grip.key()
            }

            /// Tells whether it is held at this moment, by the clock.
            #[must_use]
            pub fn is_held(&self) -> bool {
                self.grip.lease().is_held()
            }

            /// Returns how long it is good for without another renewal, zero if
            /// it is over.
            #[must_use]
            pub fn remaining(&self) -> Duration {
                self.grip.lease().remaining()
            }

            /// Resolves when it is over, and says why: before the store lets go,
            /// as long as the rates of the two clocks differ by less than a
            /// tenth. Independent of the guard's life.
            pub fn lost(&self) -> impl Future<Output = LeaseEnd> + Send + use<> {
                self.grip.lease().lost()
            }

            /// Returns the token that is cancelled when it is over.
            #[must_use]
            pub fn cancellation(&self) -> CancellationToken {
                self.grip.lease().token()
            }

            /// Renews it now, and for `ttl` from then on. `at_most` stays.
            ///
            /// The store never shortens what it has granted. Dropping the future
            /// does not take the request back.
            ///
            /// # Errors
            ///
            /// Fails with `Invalid` for a ttl outside of its bounds, with
            /// [`Error::Lost`](crate::Error::Lost) if it is over, and with
            /// `Unavailable` if the store gave no answer; it is then held as
            /// before.
            pub async fn extend(&self, ttl: Duration) -> Result<()> {
                self.grip.extend(ttl).await
            }

            /// Gives it back and says what the store had of it.
            ///
            /// If the future is dropped or fails, it is given back in the
            /// background.
            ///
            /// # Errors
            ///
            /// Fails with the errors of the store.
            pub async fn release(self) -> Result<ReleaseOutcome> {
                self.grip.release().await
            }

            /// Loses it, as if no renewal had reached the store in time. The
            /// store has it until the guard is dropped.
            #[cfg(feature = "testing")]
            pub fn lose(&self) {
                self.grip.lease().end(LeaseEnd::Expired);
            }
        }

        impl fmt::Debug for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($guard))
                    .field("key", self.key())
                    .field("remaining", &self.remaining())
                    .finish()
            }
        }
    };
}

guard!(Guard);
guard!(ReadGuard);
guard!(Permit);
