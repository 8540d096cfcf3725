//! A running hash of what replicas hold: digests of reads, and marks of rows. One folded multiplication per two words, and
//! nothing is laid out in memory for it. It tells contents apart; it resists no adversary.

/// Constants of wyhash, whose mixing step this is: odd, half of the bits set.
const K0: u64 = 0xa076_1d64_78bd_642f;
const K1: u64 = 0xe703_7ed1_a0b4_28db;

/// The hash so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    high: u64,
    low: u64,
}

impl Default for Fold {
    /// The hash of nothing.
    fn default() -> Self {
        Fold {
            high: 0x8ebc_6af0_9c88_c6e3,
            low: 0x5899_65cc_7537_4cc3,
        }
    }
}

impl Fold {
    /// Folds two words in. Both halves keep what they were, so that no operand can wipe out what was hashed before.
    #[inline]
    pub fn add(&mut self, a: u64, b: u64) {
        let wide = u128::from(self.low ^ a ^ K0) * u128::from(b ^ K1);
        let (high, low) = ((wide >> 64) as u64, wide as u64);
        self.low = self.low.rotate_left(23).wrapping_add(high ^ low);
        self.high = self.high.rotate_left(29).wrapping_add(high) ^ a;
    }

    /// Folds bytes in, sixteen at a time, and their number.
    #[inline]
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(16);
        for chunk in &mut chunks {
            self.add(word(&chunk[..8]), word(&chunk[8..]));
        }
        let rest = chunks.remainder();
        if rest.len() == 8 {
            // The commonest length by far: no copy through a buffer.
            self.add(word(rest), bytes.len() as u64);
            return;
        }
        let (head, tail) = rest.split_at(rest.len().min(8));
        self.add(part_word(head), part_word(tail));
        self.add(bytes.len() as u64, 0);
    }

    /// All of it.
    pub fn value(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

#[inline]
fn word(eight: &[u8]) -> u64 {
    u64::from_le_bytes(eight.try_into().expect("8 bytes"))
}

/// As many bytes as there are, up to eight, as the low ones of a word; in two loads that overlap rather than in a copy of
/// whatever length.
#[inline]
fn part_word(bytes: &[u8]) -> u64 {
    let four = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")));
    match bytes.len() {
        0 => 0,
        n @ 1..4 => {
            u64::from(bytes[0]) | u64::from(bytes[n / 2]) << (n / 2 * 8) | u64::from(bytes[n - 1]) << (n * 8 - 8)
        }
        n => four(0) | four(n - 4) << (n * 8 - 32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(parts: &[&[u8]]) -> u128 {
        let mut fold = Fold::default();
        parts.iter().for_each(|part| fold.add_bytes(part));
        fold.value()
    }

    #[test]
    fn part_of_a_word_is_its_low_bytes() {
        for n in 0..=8usize {
            let bytes: Vec<u8> = (1..=n as u8).map(|b| b * 31).collect();
            let mut padded = [0; 8];
            padded[..n].copy_from_slice(&bytes);
            assert_eq!(part_word(&bytes), u64::from_le_bytes(padded), "{n} bytes");
        }
    }

    #[test]
    fn where_one_part_ends_matters_and_so_does_every_length() {
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        let zeros = [0u8; 40];
        let lengths: BTreeSet<u128> = (0..=40).map(|n| of(&[&zeros[..n]])).collect();
        assert_eq!(lengths.len(), 41);
    }

    proptest! {
        #[test]
        fn one_bit_changes_both_halves(bytes in prop::collection::vec(any::<u8>(), 1..60), at in any::<prop::sample::Index>()) {
            let mut other = bytes.clone();
            let bit = at.index(bytes.len() * 8);
            other[bit / 8] ^= 1 << (bit % 8);
            let (a, b) = (of(&[&bytes, b"end"]), of(&[&other, b"end"]));
            prop_assert_ne!(a as u64, b as u64);
            prop_assert_ne!((a >> 64) as u64, (b >> 64) as u64);
        }
    }
}
