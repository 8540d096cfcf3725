//! The `fees` column of a trade: 20 bytes for each fee, big endian: payer (8), asset (4), amount (8). Fixed in size,
//! because a trade has at most one fee per side; bytes and not a collection, because a collection's cells weigh more
//! than the money in them.

use settlement_events::{Amount, AssetId, Fee, UserId};

/// The most fees of a trade: one per side. Verification refuses more.
pub const FEES_MAX: usize = 2;

const FEE_BYTES: usize = 20;

/// The column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeBytes {
    bytes: [u8; FEES_MAX * FEE_BYTES],
    len: usize,
}

impl FeeBytes {
    /// The most bytes it can have.
    pub const MAX: usize = FEES_MAX * FEE_BYTES;

    /// Of the first [`FEES_MAX`] fees.
    #[must_use]
    pub fn of(fees: &[Fee]) -> Self {
        let mut bytes = [0; FEES_MAX * FEE_BYTES];
        for (fee, out) in fees.iter().zip(bytes.chunks_exact_mut(FEE_BYTES)) {
            out[..8].copy_from_slice(&fee.payer.0.to_be_bytes());
            out[8..12].copy_from_slice(&fee.asset_id.0.to_be_bytes());
            out[12..].copy_from_slice(&fee.amount.0.to_be_bytes());
        }
        Self {
            bytes,
            len: fees.len().min(FEES_MAX) * FEE_BYTES,
        }
    }

    /// As the database holds it.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Reads the column back; `None` if it is not a whole number of fees.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Vec<Fee>> {
    let (fees, rest) = bytes.as_chunks::<FEE_BYTES>();
    let fee = |bytes: &[u8; FEE_BYTES]| {
        let (payer, rest) = bytes.split_first_chunk::<8>()?;
        let (asset, rest) = rest.split_first_chunk::<4>()?;
        let (amount, _) = rest.split_first_chunk::<8>()?;
        Some(Fee {
            payer: UserId(u64::from_be_bytes(*payer)),
            asset_id: AssetId(u32::from_be_bytes(*asset)),
            amount: Amount(u64::from_be_bytes(*amount)),
        })
    };
    if rest.is_empty() {
        fees.iter().map(fee).collect()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fees_come_back(parts in prop::collection::vec((any::<u64>(), any::<u32>(), any::<u64>()), 0..=FEES_MAX)) {
            let fees: Vec<Fee> = parts
                .into_iter()
                .map(|(payer, asset, amount)| Fee {
                    payer: UserId(payer),
                    asset_id: AssetId(asset),
                    amount: Amount(amount),
                })
                .collect();
            prop_assert_eq!(decode(FeeBytes::of(&fees).as_slice()), Some(fees));
        }
    }

    #[test]
    fn a_torn_column_is_not_read() {
        assert_eq!(decode(&[0; 21]), None);
        assert_eq!(decode(&[]), Some(Vec::new()));
    }
}
