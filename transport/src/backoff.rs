//! How long to wait before the next attempt: doubling, capped, jittered, and the same again from the same seed.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Waits between attempts to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure, before jitter.
    pub base: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row (1 after the first): between half of the doubled value and all of
    /// it, so that peers that failed together do not come back together.
    #[must_use]
    pub fn delay(&self, failures: u32, random: &mut SplitMix64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.base.saturating_mul(1 << doublings).min(self.max);
        let half = full / 2;
        let spread_nanos = u64::try_from((full - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(random.below(spread_nanos.saturating_add(1)))
    }
}

/// A small generator for jitter, not for secrets: Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators" (2014).
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The sequence that belongs to this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        let number = self.next_u64();
        if bound == 0 { 0 } else { number % bound }
    }
}

/// A seed that differs from process to process, for everything that is not a simulation.
#[must_use]
pub fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_seed_waits_the_same() {
        let backoff = Backoff { base: Duration::from_millis(50), max: Duration::from_secs(1) };
        let delays = |seed| {
            let mut random = SplitMix64::new(seed);
            (1..20).map(|failures| backoff.delay(failures, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
        assert_ne!(random_seed(), random_seed());
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_half_and_all_of_the_doubled_base(seed: u64, failures in 1_u32..100) {
            let backoff = Backoff { base: Duration::from_millis(50), max: Duration::from_secs(1) };
            let full = Duration::from_millis(50 << (failures - 1).min(10)).min(backoff.max);
            let delay = backoff.delay(failures, &mut SplitMix64::new(seed));
            prop_assert!(full / 2 <= delay && delay <= full);
        }
    }
}
