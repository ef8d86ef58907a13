use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::error::{Error, Result};
use crate::rng::entropy;
use crate::{Rng, env};

/// How much of a fault loop runs: a short form among the tests, a long form
/// under `cargo xtask soak`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SoakSize {
    /// So many rounds.
    Short {
        /// How many.
        rounds: u64,
    },
    /// As many rounds as fit into this much real time, and not fewer than asked
    /// for.
    Long {
        /// How long.
        span: Duration,
        /// How many at least.
        rounds: u64,
    },
}

/// The rounds of a fault loop and its random choices.
///
/// The long form is on where `TRINE_SOAK_MINUTES` is set; `TRINE_SOAK_COUNT` asks
/// it for so many rounds at least, and `TRINE_SOAK_SEED` repeats the choices of
/// an earlier run. `cargo xtask soak <name> --minutes N --count C --seed S` sets
/// them.
///
/// # Example
///
/// ```
/// use trine_testkit::SoakPlan;
///
/// # fn main() -> trine_testkit::Result<()> {
/// let mut plan = SoakPlan::new("kill_server", 3)?; // prints its seed
/// while let Some(round) = plan.next_round() {
///     let victim = plan.rng().below(16);
///     println!("round {round} kills {victim}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SoakPlan {
    name: String,
    size: SoakSize,
    seed: u64,
    rng: Rng,
    started: Duration,
    rounds: u64,
}

impl SoakPlan {
    /// Returns the plan of the loop called `name`, which does `short_rounds` in
    /// its short form, and prints size and seed.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::Invalid`] if a variable is not a whole number.
    pub fn new(name: &str, short_rounds: u64) -> Result<Self> {
        let minutes = number(env::SOAK_MINUTES, env::text(env::SOAK_MINUTES))?;
        let count = number(env::SOAK_COUNT, env::text(env::SOAK_COUNT))?;
        let seed = number(env::SOAK_SEED, env::text(env::SOAK_SEED))?;
        let plan =
            Self::with(name, size(short_rounds, minutes, count), seed.unwrap_or_else(entropy));
        plan.announce();
        Ok(plan)
    }

    fn with(name: &str, size: SoakSize, seed: u64) -> Self {
        let rng = Rng::for_part(seed, name);
        Self { name: name.to_owned(), size, seed, rng, started: now(), rounds: 0 }
    }

    #[expect(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
    fn announce(&self) {
        println!("{self}");
    }

    /// Returns how much runs.
    #[must_use]
    pub fn size(&self) -> SoakSize {
        self.size
    }

    /// Returns the seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the generator of all random choices.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Returns the number of the next round, from 0; `None` when it is enough.
    pub fn next_round(&mut self) -> Option<u64> {
        let round = self.rounds;
        let is_due = match self.size {
            SoakSize::Short { rounds } => round < rounds,
            SoakSize::Long { span, rounds } => round < rounds || self.elapsed() < span,
        };
        self.rounds += u64::from(is_due);
        is_due.then_some(round)
    }

    /// Returns how many rounds were begun.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Returns the real time since the plan was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        now().saturating_sub(self.started)
    }
}

impl fmt::Display for SoakPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, .. } = self;
        match self.size {
            SoakSize::Short { rounds } => write!(
                f,
                "{name}: seed {seed}, {rounds} rounds; \
                 long form: cargo xtask soak {name} --minutes 10 --seed {seed}"
            ),
            SoakSize::Long { span, rounds } => {
                write!(f, "{name}: seed {seed}, {}s and {rounds} rounds at least", span.as_secs())
            }
        }
    }
}

fn size(short_rounds: u64, minutes: Option<u64>, count: Option<u64>) -> SoakSize {
    match minutes {
        None => SoakSize::Short { rounds: short_rounds },
        Some(minutes) => SoakSize::Long {
            span: Duration::from_secs(minutes.saturating_mul(60)),
            rounds: count.unwrap_or(1).max(1),
        },
    }
}

/// A soak takes real time, also where tokio's clock is paused.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Reads the value of the variable `name`.
pub(crate) fn number(name: &str, value: Option<String>) -> Result<Option<u64>> {
    value
        .map(|text| {
            text.parse().map_err(|_| {
                Error::Invalid(format!("{name}={text}: expected a whole number from 0"))
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(size: SoakSize) -> SoakPlan {
        SoakPlan::with("unit", size, 5)
    }

    #[test]
    fn a_short_form_does_its_rounds() {
        let mut plan = plan(size(3, None, Some(9)));
        let rounds: Vec<_> = std::iter::from_fn(|| plan.next_round()).collect();
        assert_eq!(rounds, [0, 1, 2]);
        assert_eq!((plan.rounds(), plan.next_round()), (3, None));
        assert!(plan.to_string().contains("--seed 5"), "{plan}");
    }

    #[test]
    fn a_long_form_goes_by_time_and_does_its_least() {
        let rounds = |minutes, count| {
            let mut plan = plan(size(3, Some(minutes), count));
            std::iter::from_fn(|| plan.next_round()).take(1_000).count()
        };
        assert_eq!(rounds(0, None), 1);
        assert_eq!(rounds(0, Some(0)), 1);
        assert_eq!(rounds(0, Some(40)), 40);
        assert_eq!(rounds(60, Some(40)), 1_000);
    }

    #[test]
    fn a_seed_repeats_the_choices_of_its_loop_only() {
        let size = SoakSize::Short { rounds: 1 };
        let first = |name: &str, seed| SoakPlan::with(name, size, seed).rng().next_u64();
        assert_eq!(first("a", 5), first("a", 5));
        assert_ne!(first("a", 5), first("b", 5));
        assert_ne!(first("a", 5), first("a", 6));
    }

    #[test]
    fn what_is_not_a_number_is_refused_by_name() {
        let error = number("TRINE_SOAK_SEED", Some("-1".into())).unwrap_err().to_string();
        assert_eq!(error, "TRINE_SOAK_SEED=-1: expected a whole number from 0");
        assert_eq!(number("TRINE_SOAK_SEED", None).unwrap(), None);
    }
}
