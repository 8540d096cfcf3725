//! The running hash of a trace: one folded multiplication per event. It tells runs apart; it resists no adversary.

use std::hash::Hasher;

/// Constants of wyhash, whose mixing step this is: odd, half of the bits set.
const K0: u64 = 0xa076_1d64_78bd_642f;
const K1: u64 = 0xe703_7ed1_a0b4_28db;

/// Hashes side by side in [`Fold::add_bytes`].
const LANES: usize = 4;

/// A hash that can be stopped, stored as one word and resumed.
#[derive(Clone, Copy, Debug)]
pub struct Fold {
    state: u64,
}

impl Fold {
    /// The hash of nothing.
    pub const START: u64 = 0x8ebc_6af0_9c88_c6e3;

    /// Goes on from a stored value.
    #[inline]
    pub fn resume(value: u64) -> Self {
        Fold { state: value }
    }

    /// Folds two words in. The old state is added back, so that no operand can wipe out what was hashed before.
    #[inline]
    pub fn add(&mut self, a: u64, b: u64) {
        let wide = u128::from(self.state ^ a ^ K0) * u128::from(b ^ K1);
        self.state = self
            .state
            .rotate_left(23)
            .wrapping_add((wide >> 64) as u64 ^ wide as u64);
    }

    /// Folds bytes in, sixteen at a time, and their number. Long ones go into several hashes side by side, which are then
    /// folded in: each step of a hash waits for the one before it, and several can wait at once.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let mut blocks = bytes.chunks_exact(LANES * 16);
        if blocks.len() > 0 {
            let mut lanes = [Fold { state: Fold::START }; LANES];
            for block in &mut blocks {
                for (lane, chunk) in lanes.iter_mut().zip(block.chunks_exact(16)) {
                    lane.add(word(&chunk[..8]), word(&chunk[8..]));
                }
            }
            lanes.iter().for_each(|lane| self.add(lane.state, 0));
        }
        let mut chunks = blocks.remainder().chunks_exact(16);
        for chunk in &mut chunks {
            self.add(word(&chunk[..8]), word(&chunk[8..]));
        }
        let rest = chunks.remainder();
        let (head, tail) = rest.split_at(rest.len().min(8));
        self.add(word(head), word(tail));
        self.add(bytes.len() as u64, 0);
    }

    /// The hash so far.
    #[inline]
    pub fn value(self) -> u64 {
        self.state
    }
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// For derived `Hash` of records. Integers go in by value, so that the hash does not depend on the byte order.
impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.state
    }
    fn write(&mut self, bytes: &[u8]) {
        self.add_bytes(bytes);
    }
    fn write_u8(&mut self, n: u8) {
        self.add(n.into(), 1);
    }
    fn write_u16(&mut self, n: u16) {
        self.add(n.into(), 2);
    }
    fn write_u32(&mut self, n: u32) {
        self.add(n.into(), 4);
    }
    fn write_u64(&mut self, n: u64) {
        self.add(n, 8);
    }
    fn write_usize(&mut self, n: usize) {
        self.add(n as u64, 8);
    }
    fn write_i16(&mut self, n: i16) {
        self.add(n as u64, 2);
    }
    fn write_i32(&mut self, n: i32) {
        self.add(n as u64, 4);
    }
    fn write_i64(&mut self, n: i64) {
        self.add(n as u64, 8);
    }
    fn write_isize(&mut self, n: isize) {
        self.add(n as u64, 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(bytes: &[u8]) -> u64 {
        let mut fold = Fold::resume(Fold::START);
        fold.add_bytes(bytes);
        fold.value()
    }

    proptest! {
        #[test]
        fn a_changed_bit_changes_the_hash(mut bytes in prop::collection::vec(any::<u8>(), 1..300), at: prop::sample::Index, bit in 0u8..8) {
            let before = of(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_ne!(before, of(&bytes));
        }

        #[test]
        fn length_and_order_count(a: u64, b: u64) {
            prop_assume!(a != b);
            let two = |x, y| { let mut f = Fold::resume(Fold::START); f.add(x, 0); f.add(y, 0); f.value() };
            prop_assert_ne!(two(a, b), two(b, a));
            prop_assert_ne!(of(&[0; 3]), of(&[0; 4]));
        }
    }

    #[test]
    fn stopping_and_resuming_changes_nothing() {
        let mut whole = Fold::resume(Fold::START);
        whole.add(1, 2);
        let mut resumed = Fold::resume(whole.value());
        whole.add(3, 4);
        resumed.add(3, 4);
        assert_eq!(whole.value(), resumed.value());
    }
}
