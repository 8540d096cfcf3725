//! Murmur3 as Cassandra computes it: tokens of partition keys, and a 128-bit hash for digests.
//!
//! Cassandra's tail handling sign-extends bytes, which the original Murmur3 does not, so a published implementation
//! gives other tokens for keys that are not a multiple of 16 bytes with bytes above 0x7f.

use crate::model::Token;

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The token of a serialized partition key. `i64::MIN` is not a token and becomes `i64::MAX`, as in Cassandra.
pub fn token(partition_key: &[u8]) -> Token {
    let hash = hash128(partition_key).0 as i64;
    Token(if hash == i64::MIN { i64::MAX } else { hash })
}

/// Both halves of Murmur3 x64 128 with seed 0, Cassandra's way.
pub fn hash128(data: &[u8]) -> (u64, u64) {
    let (mut h1, mut h2) = (0u64, 0u64);
    let mut chunks = data.chunks_exact(16);
    for chunk in &mut chunks {
        let k1 = u64::from_le_bytes(chunk[..8].try_into().expect("8 of 16"));
        let k2 = u64::from_le_bytes(chunk[8..].try_into().expect("8 of 16"));
        h1 ^= mix1(k1);
        h1 = h1
            .rotate_left(27)
            .wrapping_add(h2)
            .wrapping_mul(5)
            .wrapping_add(0x52dc_e729);
        h2 ^= mix2(k2);
        h2 = h2
            .rotate_left(31)
            .wrapping_add(h1)
            .wrapping_mul(5)
            .wrapping_add(0x3849_5ab5);
    }
    let tail = chunks.remainder();
    if tail.len() > 8 {
        h2 ^= mix2(signed_tail(&tail[8..]));
    }
    if !tail.is_empty() {
        h1 ^= mix1(signed_tail(&tail[..tail.len().min(8)]));
    }
    h1 ^= data.len() as u64;
    h2 ^= data.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = fmix(h1);
    h2 = fmix(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2)
}

fn mix1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

/// Up to 8 bytes, each sign-extended before it is shifted into place: Cassandra's bytes are signed.
fn signed_tail(tail: &[u8]) -> u64 {
    tail.iter()
        .enumerate()
        .fold(0, |k, (i, b)| k ^ ((i64::from(*b as i8) << (i * 8)) as u64))
}

fn fmix(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::partition_key_bytes;

    /// Vectors of the Rust driver's own partitioner tests, one with bytes above 0x7f.
    #[test]
    fn tokens_agree_with_the_drivers_vectors() {
        for (key, expected) in [
            ("test", -6_017_608_668_500_074_083),
            ("xd", 4_507_812_186_440_344_727),
            ("primary_key", -1_632_642_444_691_073_360),
            ("kremówki", 4_354_931_215_268_080_151),
        ] {
            assert_eq!(token(key.as_bytes()), Token(expected), "{key}");
        }
    }

    #[test]
    fn one_component_is_bare_and_several_are_composite() {
        let (mut one, mut two) = (vec![], vec![]);
        partition_key_bytes(&[b"ab"], &mut one);
        partition_key_bytes(&[&7i64.to_be_bytes(), &1i32.to_be_bytes()], &mut two);
        assert_eq!(one, b"ab");
        assert_eq!(two, [0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 4, 0, 0, 0, 1, 0]);
        assert_eq!(
            crate::model::partition_key_components(&two, 2).unwrap(),
            [&7i64.to_be_bytes()[..], &1i32.to_be_bytes()]
        );
    }
}
