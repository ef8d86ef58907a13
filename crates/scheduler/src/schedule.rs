use std::time::{Duration, SystemTime};

use jiff::civil;
use jiff::{SignedDuration, Timestamp, ToSpan};
use sha2::{Digest, Sha256};

use crate::pattern::LAST_DAY;
use crate::weekday::Weekdays;
use crate::when::{Bounds, When, whole_micros_from, whole_micros_until};
use crate::{Exclusions, InvalidSchedule, LocalTime, NeverDue, TimeOfDay, Weekday, Zone};

mod description;
mod text;

/// When a job is due.
///
/// A schedule has no state: it answers with *nominal times*, whole
/// microseconds, from nothing but its definition and the time it is asked
/// about. Processes that hold equal schedules find equal nominal times.
///
/// # When the clocks are set
///
/// *Fixed times* are [`daily`](Self::daily), [`weekly`](Self::weekly),
/// [`monthly`](Self::monthly), [`last_day`](Self::last_day), and a
/// [`cron`](Self::cron) expression whose minutes and hours are numbers or lists
/// of numbers. Each local time of theirs is due once: one that the clocks skip
/// at the moment they are set, one that they show twice at the first of the two.
/// Several that are skipped together are due once together.
///
/// *Repeating expressions* are cron expressions with a `*`, a range or a step in
/// minutes or hours. They go by elapsed time: they are due whenever the clocks
/// show a local time of theirs. What the clocks skip is not made up for, what
/// they show twice is due twice.
///
/// | Europe/Berlin | 2026-03-29, 02:00 becomes 03:00 | 2026-10-25, 03:00 becomes 02:00 |
/// |---|---|---|
/// | `30 2 * * *` | once, at 03:00 | once, at the first 02:30 |
/// | `0,30 2,3 * * *` | 03:00, 03:30 | 02:00, 02:30, 03:00, 03:30 |
/// | `30 * * * *` | 01:30, 03:30 | 01:30, 02:30, 02:30, 03:30 |
/// | `*/30 2 * * *` | never | 02:00, 02:30, 02:00, 02:30 |
/// | `0 */2 * * *` | 00:00, 04:00 | 00:00, 02:00, 02:00, 04:00 |
///
/// Intervals know no local time: every five minutes is that on all days.
///
/// # Text
///
/// [`Display`](std::fmt::Display), `FromStr` and serde have one text for a
/// schedule, and equal schedules have equal texts:
///
/// ```text
/// every 5m                           every 90s from 2026-01-01T00:00:00Z
/// delay 10m                          daily 02:30
/// weekly mon fri 02:30               monthly 31 04:00:30
/// monthly last_day 04:00             cron */15 9-17 * * MON-FRI
/// once 2026-12-24T18:00:00Z          once now
/// ```
///
/// each with `; zone Europe/Berlin`, `; jitter 30s` and `; except sat sun` after
/// it, where they are not UTC, 0 and nothing; read in any order, written in this
/// one. The text of a cron expression is kept, in capitals; two that mean the
/// same in other words are not equal.
///
/// # Example
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use trine_scheduler::Schedule;
///
/// let schedule: Schedule = "daily 02:30; zone Europe/Berlin".parse()?;
/// assert_eq!(schedule, Schedule::daily("02:30")?.in_zone("Europe/Berlin")?);
///
/// let midnight = SystemTime::UNIX_EPOCH;
/// let half_past_one = midnight + Duration::from_secs(5_400);
/// assert_eq!(schedule.next_after(midnight), Some(half_past_one));
/// # Ok::<(), trine_scheduler::InvalidSchedule>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    when: When,
    zone: Zone,
    jitter: Duration,
    exclusions: Exclusions,
}

impl Schedule {
    /// Longest interval and delay: ten years of 365 days.
    pub const MAX_INTERVAL: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);
    /// Longest jitter: a day.
    pub const MAX_JITTER: Duration = Duration::from_secs(24 * 60 * 60);
    /// How far it looks: a time that does not come in so many years, not counted
    /// excluded dates, counts as one that never comes.
    pub const HORIZON_YEARS: u8 = 50;

    /// Returns the schedule of one run in each `period`, on the grid that begins
    /// with 1970-01-01 in UTC, however long runs take.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] unless `period` is a whole number
    /// of milliseconds, 1 at least, up to [`MAX_INTERVAL`](Self::MAX_INTERVAL).
    pub fn every(period: Duration) -> Result<Self, InvalidSchedule> {
        Self::every_from(SystemTime::UNIX_EPOCH, period)
    }

    /// Returns the schedule of one run in each `period`, the first at `anchor`,
    /// cut to the microsecond.
    ///
    /// # Errors
    ///
    /// As [`every`](Self::every), and if `anchor` is not in the years 1 to 9999.
    pub fn every_from(anchor: SystemTime, period: Duration) -> Result<Self, InvalidSchedule> {
        let (anchor, period) = (moment("anchor", anchor)?, interval("interval", period)?);
        Ok(Self::of(When::Every { period, anchor }))
    }

    /// Returns the schedule of a run `delay` after the end of the one before.
    ///
    /// [`next_after`](Self::next_after) wants to know that end. Where it is
    /// excluded, the run is due when the exclusion ends.
    ///
    /// # Errors
    ///
    /// As [`every`](Self::every).
    pub fn delay(delay: Duration) -> Result<Self, InvalidSchedule> {
        Ok(Self::of(When::Delay { delay: interval("delay", delay)? }))
    }

    /// Returns the schedule of a run every day at the local time `at`.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] if `at` is no time of the day.
    pub fn daily(
        at: impl TryInto<TimeOfDay, Error: Into<InvalidSchedule>>,
    ) -> Result<Self, InvalidSchedule> {
        Ok(Self::of(When::Daily { at: at.try_into().map_err(Into::into)? }))
    }

    /// Returns the schedule of a run on `days` of every week at the local time
    /// `at`.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] if there is no day, or `at` is no
    /// time of the day.
    pub fn weekly(
        days: impl IntoIterator<Item = Weekday>,
        at: impl TryInto<TimeOfDay, Error: Into<InvalidSchedule>>,
    ) -> Result<Self, InvalidSchedule> {
        let days: Weekdays = days.into_iter().collect();
        if days.is_empty() {
            return Err(InvalidSchedule::field("weekdays", "", "one day at least"));
        }
        Ok(Self::of(When::Weekly { days, at: at.try_into().map_err(Into::into)? }))
    }

    /// Returns the schedule of a run on `day` of every month that has it, at the
    /// local time `at`.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] unless `day` is 1 to 31 and `at` a
    /// time of the day.
    pub fn monthly(
        day: u8,
        at: impl TryInto<TimeOfDay, Error: Into<InvalidSchedule>>,
    ) -> Result<Self, InvalidSchedule> {
        if !(1..=31).contains(&day) {
            return Err(InvalidSchedule::field(
                "day of month",
                day.to_string(),
                "1 to 31, or `last_day`",
            ));
        }
        Ok(Self::of(When::Monthly { day, at: at.try_into().map_err(Into::into)? }))
    }

    /// Returns the schedule of a run on the last day of every month at the local
    /// time `at`.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] if `at` is no time of the day.
    pub fn last_day(
        at: impl TryInto<TimeOfDay, Error: Into<InvalidSchedule>>,
    ) -> Result<Self, InvalidSchedule> {
        Ok(Self::of(When::Monthly { day: LAST_DAY, at: at.try_into().map_err(Into::into)? }))
    }

    /// Returns the schedule of a cron expression, as Vixie's cron reads it.
    ///
    /// Five fields: minute, hour, day of month, month, day of week; or six with
    /// the second before them. A field is a list of numbers, names (`JAN`,
    /// `MON`, in any case), ranges (`9-17`), `*`, and ranges or `*` with a step
    /// (`*/15`). Sunday is 0 and 7. If neither day of month nor day of week
    /// begins with `*`, a day is meant that is in either; else one that is in
    /// both.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Cron`], which names the field and the part
    /// of it that is wrong, or says that no day is ever meant.
    pub fn cron(expression: &str) -> Result<Self, InvalidSchedule> {
        Ok(Self::of(When::cron(expression)?))
    }

    /// Returns the schedule of one run at `at`, cut to the microsecond.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] if `at` is not in the years 1 to
    /// 9999.
    pub fn once(at: SystemTime) -> Result<Self, InvalidSchedule> {
        Ok(Self::of(When::Once { at: moment("time", at)? }))
    }

    /// Returns the schedule of one run as soon as the job is registered.
    #[must_use]
    pub const fn once_now() -> Self {
        Self::of(When::Now)
    }

    const fn of(when: When) -> Self {
        let exclusions = Exclusions::none();
        Self { when, zone: Zone::UTC, jitter: Duration::ZERO, exclusions }
    }

    /// Reads local times, exclusions among them, in `zone`: a name of the
    /// system's database, or a [`Zone`] of another. Default: UTC.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Zone`] if there is none of that name.
    pub fn in_zone(
        mut self,
        zone: impl TryInto<Zone, Error: Into<InvalidSchedule>>,
    ) -> Result<Self, InvalidSchedule> {
        self.zone = zone.try_into().map_err(Into::into)?;
        Ok(self)
    }

    /// Spreads runs over `jitter` from their nominal times on. Default: 0.
    ///
    /// # Errors
    ///
    /// Fails with [`InvalidSchedule::Field`] unless it is a whole number of
    /// milliseconds up to [`MAX_JITTER`](Self::MAX_JITTER).
    pub fn with_jitter(mut self, jitter: Duration) -> Result<Self, InvalidSchedule> {
        if jitter > Self::MAX_JITTER || !is_whole_millis(jitter) {
            let expected = "whole milliseconds, 24h at most";
            return Err(InvalidSchedule::field("jitter", format!("{jitter:?}"), expected));
        }
        self.jitter = jitter;
        Ok(self)
    }

    /// Skips nominal times that `exclusions` cover.
    #[must_use]
    pub fn with_exclusions(mut self, exclusions: Exclusions) -> Self {
        self.exclusions = exclusions;
        self
    }

    /// Returns its zone.
    #[must_use]
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Returns over how long its runs are spread.
    #[must_use]
    pub const fn jitter(&self) -> Duration {
        self.jitter
    }

    /// Returns what it skips.
    #[must_use]
    pub const fn exclusions(&self) -> &Exclusions {
        &self.exclusions
    }

    /// Returns the first nominal time of a job that is registered at `now`: at
    /// `now` or later, and one delay later for a [`delay`](Self::delay).
    ///
    /// # Errors
    ///
    /// Fails with [`NeverDue`], which says why, if there is none.
    pub fn first_from(&self, now: SystemTime) -> Result<SystemTime, NeverDue> {
        let at = timestamp(now);
        let first = match self.when {
            When::Now => whole_micros_from(at).filter(|at| !self.excludes(*at)),
            When::Delay { .. } => self.next(at, None),
            _ => self.next(at.checked_sub(1.nanosecond()).unwrap_or(at), None),
        };
        first.map(SystemTime::from).ok_or_else(|| self.never_from(now, at))
    }

    /// Returns the first nominal time strictly after `after`, none if there is
    /// no further one.
    ///
    /// For a [`delay`](Self::delay), `after` is the end of the last run. May
    /// read the zone's file, once in five minutes.
    #[must_use]
    pub fn next_after(&self, after: SystemTime) -> Option<SystemTime> {
        self.next(timestamp(after), None).map(SystemTime::from)
    }

    /// Returns the first nominal time after the run of `ran`, of which
    /// [`local_time`](Self::local_time) said `shown` at that time.
    ///
    /// As [`next_after`](Self::next_after), and right also if the zone got
    /// another rule for a day that has begun: a fixed time that the clocks
    /// showed before, under the old rule, is not due again. Where storage keeps
    /// the last run, keep both.
    #[must_use]
    pub fn next_after_run(&self, ran: SystemTime, shown: LocalTime) -> Option<SystemTime> {
        self.next(timestamp(ran), Some(shown)).map(SystemTime::from)
    }

    /// Returns what the clocks of its zone show at `at`.
    #[must_use]
    pub fn local_time(&self, at: SystemTime) -> LocalTime {
        LocalTime::of(self.zone.rule().local(timestamp(at)))
    }

    /// Returns all nominal times strictly after `after`, in order. Of a
    /// [`delay`](Self::delay) only the first is known.
    #[must_use]
    pub fn upcoming(&self, after: SystemTime) -> Upcoming<'_> {
        Upcoming { schedule: self, after: Some(after) }
    }

    /// Returns when the run of `job` with the nominal time `nominal` is due:
    /// then, or later by less than the jitter.
    ///
    /// The same for the same job and nominal time, in every process and every
    /// version.
    #[must_use]
    pub fn due(&self, job: &str, nominal: SystemTime) -> SystemTime {
        let millis = self.jitter.as_millis();
        if millis < 2 {
            return nominal;
        }
        let mut hash = Sha256::new();
        hash.update(job.as_bytes());
        hash.update(whole_micros_until(timestamp(nominal)).as_microsecond().to_be_bytes());
        let [a, b, c, d, e, f, g, h, ..] = hash.finalize().0;
        let share = u128::from(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        let later = u64::try_from((share * millis) >> 64).unwrap_or_default();
        nominal + Duration::from_millis(later)
    }

    /// Whether it counts from the end of a run.
    pub(crate) const fn is_delay(&self) -> bool {
        matches!(self.when, When::Delay { .. })
    }

    /// Whether it has one time only.
    pub(crate) const fn is_once(&self) -> bool {
        matches!(self.when, When::Once { .. } | When::Now)
    }

    /// Whether its times are local ones, which another rule of its zone moves.
    pub(crate) fn follows_clocks(&self) -> bool {
        match self.when {
            When::Delay { .. } | When::Once { .. } | When::Now => false,
            When::Every { .. } => !self.zone.is_utc() && !self.exclusions.is_none(),
            _ => !self.zone.is_utc(),
        }
    }

    fn next(&self, after: Timestamp, shown: Option<LocalTime>) -> Option<Timestamp> {
        let rule = self.zone.rule();
        let horizon =
            |from: civil::Date| from.saturating_add(i64::from(Self::HORIZON_YEARS).years());
        let last = horizon(rule.local(after).date());
        let mut bounds = Bounds { shown: shown.map(LocalTime::civil), last };
        let mut next = self.when.next(&rule, after, bounds)?;
        loop {
            let local = rule.local(next);
            let Some(end) = self.exclusions.end_of(local) else { return Some(next) };
            if let Some(date) = self.exclusions.last_date(local.date()) {
                bounds.last = bounds.last.max(horizon(date));
            }
            if local.date() > bounds.last {
                return None;
            }
            // The clocks may be set back before the end, to what is not excluded.
            let end = rule.unchanged_from(next, end)?;
            let end = rule.next_change(next).map_or(end, |change| change.min(end));
            next = match self.when {
                When::Delay { .. } => end,
                _ => self.when.next(&rule, end.checked_sub(1.nanosecond()).ok()?, bounds)?,
            };
        }
    }

    fn excludes(&self, at: Timestamp) -> bool {
        self.exclusions.end_of(self.zone.rule().local(at)).is_some()
    }

    fn never_from(&self, now: SystemTime, at: Timestamp) -> NeverDue {
        let schedule = self.to_string().into();
        match self.when {
            When::Once { at: only } if only < at => NeverDue::Past { schedule, now },
            _ if self.exclusions.is_none() => NeverDue::NoTime { schedule, now },
            _ => match self.clone().with_exclusions(Exclusions::none()).first_from(now) {
                Ok(_) => NeverDue::Excluded { schedule, now },
                Err(_) => NeverDue::NoTime { schedule, now },
            },
        }
    }
}

/// The nominal times of a schedule, in order.
#[derive(Clone, Debug)]
pub struct Upcoming<'s> {
    schedule: &'s Schedule,
    after: Option<SystemTime>,
}

impl Iterator for Upcoming<'_> {
    type Item = SystemTime;

    fn next(&mut self) -> Option<SystemTime> {
        let next = self.schedule.next_after(self.after?);
        let goes_on = !matches!(self.schedule.when, When::Delay { .. });
        self.after = next.filter(|_| goes_on);
        next
    }
}

/// What is beyond the calendar counts as its first or last moment.
fn timestamp(time: SystemTime) -> Timestamp {
    let beyond = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::try_from(time).unwrap_or(beyond)
}

fn moment(field: &'static str, time: SystemTime) -> Result<Timestamp, InvalidSchedule> {
    let first = Timestamp::from_second(-62_135_596_800).unwrap_or(Timestamp::MIN);
    match Timestamp::try_from(time) {
        Ok(moment) if moment >= first => Ok(whole_micros_until(moment)),
        _ => {
            let found = trine_core::Rfc3339(time).to_string();
            Err(InvalidSchedule::field(field, found, "a time in the years 1 to 9999"))
        }
    }
}

fn interval(field: &'static str, length: Duration) -> Result<Duration, InvalidSchedule> {
    if length.is_zero() || length > Schedule::MAX_INTERVAL || !is_whole_millis(length) {
        let expected = "whole milliseconds, 1ms to 3650d";
        return Err(InvalidSchedule::field(field, format!("{length:?}"), expected));
    }
    Ok(length)
}

fn is_whole_millis(length: Duration) -> bool {
    length.subsec_nanos().is_multiple_of(1_000_000) && SignedDuration::try_from(length).is_ok()
}
