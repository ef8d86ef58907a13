use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names one transaction, so that its outcome can be asked for when the reply
/// to its commit was lost.
///
/// A ticket is a UUIDv7: it carries the time it was made, from which its
/// retention counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(Uuid);

impl Ticket {
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Returns the ticket as a UUID.
    #[must_use]
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// Returns when it was made, by the clock of the process that made it.
    #[must_use]
    pub fn made_at(&self) -> SystemTime {
        let (secs, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        UNIX_EPOCH + Duration::new(secs, nanos)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Ticket {
    type Err = InvalidTicket;

    fn from_str(text: &str) -> Result<Self, InvalidTicket> {
        match text.parse::<Uuid>() {
            Ok(uuid) if uuid.get_version_num() == 7 => Ok(Self(uuid)),
            _ => Err(InvalidTicket),
        }
    }
}

/// A text that is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the text of a ticket")]
pub struct InvalidTicket;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was committed.
    Committed,
    /// It was rolled back, and can never be committed any more.
    RolledBack,
    /// The database still runs it, or is too busy to tell; ask again.
    Running,
    /// The ticket is older than its retention, and nobody knows any more.
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_carries_its_time_and_reads_what_it_prints() {
        let ticket = Ticket::new();
        assert!(ticket.made_at() <= SystemTime::now());
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
        assert!(Uuid::nil().to_string().parse::<Ticket>().is_err());
    }
}
