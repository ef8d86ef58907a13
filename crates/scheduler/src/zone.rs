use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::InvalidSchedule;

/// A time zone database.
///
/// Cheap to clone; clones share what they have read. A file that changes is
/// read again within five minutes, or at once after [`reload`](Self::reload).
#[derive(Clone)]
pub struct Zones(TimeZoneDatabase);

impl Zones {
    /// Returns the system's database: the folder that `TZDIR` names, else
    /// `/usr/share/zoneinfo` and its like; on a system without one, that which
    /// is part of this crate.
    ///
    /// All callers in a process share it.
    #[must_use]
    pub fn system() -> Self {
        Self(jiff::tz::db().clone())
    }

    /// Returns the database that is part of this crate, which never changes.
    #[must_use]
    pub fn bundled() -> Self {
        Self(TimeZoneDatabase::bundled())
    }

    /// Returns the database in `folder`, of compiled zone files.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::ZoneFolder`] if there is none.
    pub fn in_folder(folder: impl AsRef<Path>) -> Result<Self, InvalidSchedule> {
        let folder = folder.as_ref();
        TimeZoneDatabase::from_dir(folder).map(Self).map_err(|cause| InvalidSchedule::ZoneFolder {
            folder: folder.to_owned(),
            cause: cause.into(),
        })
    }

    /// Returns the zone called `name`, in any case.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Zone`] if there is none. `localtime` and
    /// `posixrules` are none: what they mean depends on the machine.
    pub fn zone(&self, name: &str) -> Result<Zone, InvalidSchedule> {
        let unknown = || InvalidSchedule::Zone { name: name.into() };
        if !is_portable(name) {
            return Err(unknown());
        }
        let known = self.0.get(name).map_err(|_| unknown())?;
        if known.is_unknown() || known.iana_name().is_none() {
            return Err(unknown());
        }
        Ok(Zone { zones: self.clone(), known })
    }

    /// Returns the names of all zones.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.available().map(|name| name.to_string()).filter(|name| is_portable(name))
    }

    /// Forgets what was read, so that all zones of this database follow its
    /// files from now on.
    pub fn reload(&self) {
        self.0.reset();
    }
}

fn is_portable(name: &str) -> bool {
    !["localtime", "posixrules"].iter().any(|local| name.eq_ignore_ascii_case(local))
}

impl fmt::Debug for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zones").field(&self.0).finish()
    }
}

/// A time zone by its name; the rule behind it is that of its database at the
/// time of each question.
///
/// Cheap to clone. A zone that its database no longer has keeps the rule it was
/// found with. Two of them are equal if their names are.
#[derive(Clone)]
pub struct Zone {
    zones: Zones,
    known: TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self { zones: Zones(TimeZoneDatabase::none()), known: TimeZone::UTC };

    /// Returns its name as the database writes it, such as `Europe/Berlin`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.known.iana_name().unwrap_or("UTC")
    }

    pub(crate) fn is_utc(&self) -> bool {
        self.known == TimeZone::UTC
    }

    pub(crate) fn rule(&self) -> Rule {
        if self.is_utc() {
            return Rule(TimeZone::UTC);
        }
        Rule(self.zones.0.get(self.name()).unwrap_or_else(|_| self.known.clone()))
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl TryFrom<&str> for Zone {
    type Error = InvalidSchedule;

    /// Finds it in the [system's](Zones::system) database.
    fn try_from(name: &str) -> Result<Self, InvalidSchedule> {
        Zones::system().zone(name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({self})")
    }
}

/// What a zone's clocks show, as known when it was asked for.
#[derive(Debug)]
pub(crate) struct Rule(TimeZone);

impl Rule {
    pub(crate) fn local(&self, moment: Timestamp) -> DateTime {
        self.0.to_datetime(moment)
    }

    /// Returns the next moment at which the clocks may be set, strictly after
    /// `moment`.
    pub(crate) fn next_change(&self, moment: Timestamp) -> Option<Timestamp> {
        self.0.following(moment).next().map(|change| change.timestamp())
    }

    /// Returns the moment at which the clocks would show `local` if they were
    /// not set from `moment` on.
    pub(crate) fn unchanged_from(&self, moment: Timestamp, local: DateTime) -> Option<Timestamp> {
        self.0.to_offset(moment).to_timestamp(local).ok()
    }

    /// Returns the first moment at which the clocks show `local`; where they
    /// skip it, the moment at which they do.
    pub(crate) fn first_moment_of(&self, local: DateTime) -> Option<Timestamp> {
        match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset }
            | AmbiguousOffset::Fold { before: offset, .. } => offset.to_timestamp(local).ok(),
            AmbiguousOffset::Gap { after, .. } => {
                let before_it = after.to_timestamp(local).ok()?;
                let changes = self.0.following(before_it);
                changes.map(|change| change.timestamp()).find(|at| self.local(*at) > local)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_name_in_any_case() {
        for zones in [Zones::system(), Zones::bundled()] {
            assert_eq!(zones.zone("europe/BERLIN").unwrap().name(), "Europe/Berlin");
            assert!(zones.zone("utc").unwrap().is_utc());
        }
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for name in ["", "Europe/Nowhere", "Etc/Unknown", "localtime", "+01:00", "../zoneinfo/UTC"]
        {
            let error = Zones::system().zone(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("zone `{name}`: ")), "{error}");
        }
    }

    #[test]
    fn a_folder_without_zones_is_refused() {
        let error = Zones::in_folder("/nowhere").unwrap_err().to_string();
        assert_eq!(error, "no time zone database in /nowhere");
    }

    #[test]
    fn the_first_moment_of_a_local_time_is_before_the_fold_and_after_the_gap() {
        let rule = Zones::bundled().zone("Europe/Berlin").unwrap().rule();
        for (local, moment) in [
            ("2026-03-29T02:00:00", "2026-03-29T01:00:00Z"),
            ("2026-03-29T02:30:00", "2026-03-29T01:00:00Z"),
            ("2026-03-29T03:00:00", "2026-03-29T01:00:00Z"),
            ("2026-03-29T03:00:01", "2026-03-29T01:00:01Z"),
            ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
            ("2026-10-25T03:00:00", "2026-10-25T02:00:00Z"),
        ] {
            let found = rule.first_moment_of(local.parse().unwrap()).unwrap();
            assert_eq!(found.to_string(), moment, "{local}");
        }
    }

    #[test]
    fn a_day_that_a_zone_skipped_begins_with_the_next() {
        let rule = Zones::bundled().zone("Pacific/Apia").unwrap().rule();
        let found = rule.first_moment_of("2011-12-30T02:30:00".parse().unwrap()).unwrap();
        assert_eq!(rule.local(found).to_string(), "2011-12-31T00:00:00");
    }
}
