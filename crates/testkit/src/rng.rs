use std::fmt;

/// A small random generator that repeats itself from a seed.
///
/// Not for secrets. A test gets one as its argument from
/// [`#[trine_testkit::test]`](crate::test), which prints the seed when the test
/// fails; a soak gets one from its [`SoakPlan`](crate::SoakPlan).
///
/// The generator is SplitMix64 (Steele, Lea and Flood, 2014).
///
/// # Example
///
/// ```
/// use trine_testkit::Rng;
///
/// let mut first = Rng::seeded(7);
/// let mut again = Rng::seeded(7);
/// assert_eq!(first.below(1_000), again.below(1_000));
/// ```
#[derive(Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Returns the generator of `seed`.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the generator of `seed` for one of many parts: other names give
    /// independent sequences.
    #[must_use]
    pub fn for_part(seed: u64, name: &str) -> Self {
        // FNV-1a: stable across versions of the standard library, so that a
        // printed seed means the same tomorrow.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::seeded(seed ^ hash)
    }

    /// Returns the next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number from 0 up to but without `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The high half of a wide product is even enough for tests.
        let wide = u128::from(self.next_u64()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Returns `true` once in `n` calls on average; never if `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }

    /// Returns one of `choices`; `None` if there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let index = self.below(choices.len() as u64);
        choices.get(usize::try_from(index).unwrap_or(0))
    }

    /// Fills `bytes` with random bits.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            for (byte, random) in chunk.iter_mut().zip(random) {
                *byte = random;
            }
        }
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rng({:#x})", self.state)
    }
}

/// Returns 64 bits from the operating system: seeds, names, passwords.
pub(crate) fn entropy() -> u64 {
    // Without an entropy source nothing else on the machine works either; the
    // process id still keeps concurrent names apart.
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_parts_differ() {
        let numbers = |mut rng: Rng| -> Vec<u64> { (0..8).map(|_| rng.next_u64()).collect() };
        assert_eq!(numbers(Rng::seeded(1)), numbers(Rng::seeded(1)));
        assert_ne!(numbers(Rng::for_part(1, "a")), numbers(Rng::for_part(1, "b")));
        // First output of the reference implementation for seed 0.
        assert_eq!(Rng::seeded(0).next_u64(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn numbers_stay_below_their_limit_and_reach_every_value() {
        let mut rng = Rng::seeded(3);
        let mut seen = [0_u32; 5];
        for _ in 0..1_000 {
            seen[usize::try_from(rng.below(5)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (100..300).contains(count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.pick::<u8>(&[]), None);
        assert!(!rng.one_in(0));
        assert!(rng.one_in(1));
    }
}
