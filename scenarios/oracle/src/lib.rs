//! The oracle: the books as they should be, computed from facts alone.
//!
//! It knows what happened (deposits, withdrawals, orders, trades), not what anybody thinks that it led to: it never sees
//! a balance, a version or a refund that an event carries, and depends on nothing else of ours, so that a mistake of the
//! engine or of settlement cannot hide in it. The rules are those of the domain:
//!
//! - a buy order locks `price x quantity / 10^base_decimals` of quote, rounded toward zero; a sell order its quantity of base;
//! - a fill moves `price x quantity / 10^base_decimals` of quote, rounded toward zero, at the trade's own price;
//! - at an order's last fill, and when it is cancelled, what it locked and did not spend goes back to available;
//! - a fee is the market's rate of what its payer received in that asset, rounded down, where the market has rates; it comes
//!   out of that and goes to the fee account the fact names. The maker is the order that was placed first;
//! - every change of an account takes the account's next version, from 1, in the order buyer base, buyer quote, seller
//!   base, seller quote, fees; every change of an order the order's next version, from 1.
//!
//! All arithmetic is checked, in `i128`. Facts that contradict each other are an [`OracleError`].
//!
//! [`facts`] are the input types, [`Books`] the result; the golden stories worked out by hand are in `tests/golden.rs`.
mod books;
mod error;
pub mod facts;

pub use books::{Account, AccountKey, Books, Cause, Order, OrderStep, Posting, Status, TradeRecord};
pub use error::OracleError;
pub use facts::{Fact, Fee, FeeRates, Market, Side, Symbol, Trade};
