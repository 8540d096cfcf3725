//! Draws for generated order flow and for tapes: a ChaCha8 generator keyed by a label and a seed, integers only, so
//! that the same seed gives the same commands on every machine. The simulated world's own streams are elsewhere; this
//! crate must be able to run without it.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use settlement_events::Digest;

/// A labelled stream of draws.
#[derive(Clone, Debug)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of this label under this seed.
    pub(crate) fn new(label: &str, seed: u64) -> Self {
        let mut key = label.as_bytes().to_vec();
        key.extend_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(Digest::of(&key).0))
    }

    /// A number below `bound`; zero if the bound is. (Multiply and shift: the bias is below bound / 2^64.)
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit number")
    }

    /// A number from `low` to `high`, both included; `low` if the range is inverted.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            low
        } else {
            low + self.below(high - low + 1)
        }
    }

    /// True in `numerator` of `denominator` cases.
    pub(crate) fn ratio(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }
}

/// Ranks drawn with Zipf weights (rank r has weight 1/r, in integers).
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    /// Cumulative weights.
    upto: Vec<u64>,
}

impl Zipf {
    /// Weight of the first rank; large enough that the last of a million ranks still has one.
    const SCALE: u64 = 1_000_000;

    /// Ranks `0..ranks`, at least one.
    pub(crate) fn new(ranks: u32) -> Self {
        let mut upto = Vec::with_capacity(ranks as usize);
        let mut sum = 0;
        for rank in 1..=u64::from(ranks.max(1)) {
            sum += (Self::SCALE / rank).max(1);
            upto.push(sum);
        }
        Self { upto }
    }

    /// A rank, 0 being the most frequent.
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        let total = self.upto.last().copied().unwrap_or(1);
        let at = random.below(total);
        self.upto.partition_point(|upto| *upto <= at) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_label_and_seed() {
        let draw = |label, seed| Random::new(label, seed).below(u64::MAX);
        assert_eq!(draw("workload", 7), draw("workload", 7));
        assert_ne!(draw("workload", 7), draw("workload", 8));
        assert_ne!(draw("workload", 7), draw("tape", 7));
        // A literal: the same on every machine and after every upgrade, or saved seeds lose their meaning.
        assert_eq!(draw("workload", 7), 13_295_269_774_775_316_008);
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new("test", 1);
        for _ in 0..1_000 {
            assert!(random.below(3) < 3);
            assert!((5..=9).contains(&random.between(5, 9)));
        }
        assert_eq!((random.below(0), random.between(9, 5)), (0, 9));
        assert!(!random.ratio(0, 10) && random.ratio(10, 10));
    }

    #[test]
    fn zipf_draws_every_rank_and_the_first_ones_most() {
        let (zipf, mut random) = (Zipf::new(20), Random::new("test", 2));
        let mut counts = [0_u32; 20];
        for _ in 0..20_000 {
            counts[usize::try_from(zipf.draw(&mut random)).expect("a rank")] += 1;
        }
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        // Harmonic number of 20 is 3.598: the first rank has 27.8% of the draws, the tenth a tenth of that.
        assert!((5_200..=5_900).contains(&counts[0]), "{counts:?}");
        assert!((430..=690).contains(&counts[9]), "{counts:?}");
    }
}
