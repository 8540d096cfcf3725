//! Facts that cannot all be true. Each names the sequence at which the contradiction showed.

/// A contradiction between facts, or a number that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OracleError {
    /// A sequence that is not above the last one.
    #[error("sequence {seq} after {last}: facts must come in order")]
    OutOfOrder {
        /// This one.
        seq: u64,
        /// The one before.
        last: u64,
    },
    /// A symbol that the market does not have.
    #[error("at {seq}: unknown symbol {symbol}")]
    UnknownSymbol {
        /// Where.
        seq: u64,
        /// Which.
        symbol: u32,
    },
    /// An order that was never placed.
    #[error("at {seq}: unknown order {order}")]
    UnknownOrder {
        /// Where.
        seq: u64,
        /// Which.
        order: u64,
    },
    /// An order id used twice.
    #[error("at {seq}: order {order} was placed before")]
    OrderTwice {
        /// Where.
        seq: u64,
        /// Which.
        order: u64,
    },
    /// An order that is filled or cancelled cannot change again.
    #[error("at {seq}: order {order} is closed")]
    OrderClosed {
        /// Where.
        seq: u64,
        /// Which.
        order: u64,
    },
    /// A fill beyond what the order has left, on the wrong side, of another symbol, or beyond its limit.
    #[error("at {seq}: trade {trade} does not fit order {order}: {why}")]
    Mismatch {
        /// Where.
        seq: u64,
        /// Which trade.
        trade: u64,
        /// Which order.
        order: u64,
        /// Why not.
        why: &'static str,
    },
    /// An amount of zero where something must move.
    #[error("at {seq}: {what} is zero")]
    Zero {
        /// Where.
        seq: u64,
        /// What.
        what: &'static str,
    },
    /// More than the account has.
    #[error("at {seq}: user {user} asset {asset} would have {avail} available and {frozen} frozen")]
    Overdrawn {
        /// Where.
        seq: u64,
        /// Whose.
        user: u64,
        /// Which asset.
        asset: u32,
        /// Would be available.
        avail: i128,
        /// Would be frozen.
        frozen: i128,
    },
    /// A fee that its payer did not receive enough for.
    #[error("at {seq}: trade {trade} charges user {payer} a fee of asset {asset} that it does not pay them")]
    BadFee {
        /// Where.
        seq: u64,
        /// Which trade.
        trade: u64,
        /// Who should pay.
        payer: u64,
        /// Which asset.
        asset: u32,
    },
    /// A fee that is not what the market charges.
    #[error(
        "at {seq}: trade {trade} charges a fee of {charged} of asset {asset}, and the market's rate gives {expected}"
    )]
    WrongFee {
        /// Where.
        seq: u64,
        /// Which trade.
        trade: u64,
        /// Which asset.
        asset: u32,
        /// What it charges, minor units.
        charged: u64,
        /// What it should charge, minor units.
        expected: i128,
    },
    /// A result outside the range of money.
    #[error("at {seq}: {what} overflows")]
    Overflow {
        /// Where.
        seq: u64,
        /// What.
        what: &'static str,
    },
}
