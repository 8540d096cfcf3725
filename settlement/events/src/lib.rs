//! The wire types of the matching engine's output stream, and nothing else: no sockets, no storage, no clock.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | one newtype per identifier and unit |
//! | [`money`] | amounts, prices, quantities, and the one rule by which a price and a quantity become money |
//! | [`event`] | the events themselves: what the matching engine says happened, with the resulting states |
//! | [`codec`] | the canonical encoding, its SHA-256 digest, and the [`Envelope`] in which an event travels |
//! | [`feed`] | what goes over the feed and over replay: [`FeedMessage`], [`ReplayRequest`], [`ReplayReply`] |
//! | [`registry`] | assets with their decimals, symbols with their fees, the fee accounts; as TOML |
//! | [`check`] | does one event agree with itself and with the registry? The answer is a [`Refusal`] or nothing |
//! | [`json`] | the JSON view, integers above 2^53 as strings |
//! | [`samples`] | one event of each kind with numbers worked out by hand, for tests of every crate that stores them |
//!
//! The stream is one contiguous `output_sequence` from 1 within an epoch; each event names the digest of the one
//! before it, so that a digest stands for everything up to its event.

pub mod check;
pub mod codec;
pub mod event;
pub mod feed;
pub mod ids;
mod integer;
pub mod json;
pub mod money;
pub mod registry;
pub mod samples;

pub use check::{Refusal, RefusalCode, check};
pub use codec::{DecodeError, Digest, Envelope, FORMAT_VERSION, Header};
pub use event::{BalanceChange, Body, Event, EventKind, Fee, OrderState, OrderStatus, Side, Trade};
pub use feed::{FEED_TOPIC, FeedMessage, Heartbeat, ReplayRefusal, ReplayReply, ReplayRequest};
pub use ids::{AssetId, Epoch, EventId, MatchSeq, OrderId, OutputSequence, SymbolId, TimeMs, TradeId, UserId, Version};
pub use money::{Amount, MoneyError, Price, Quantity, QuoteAmount, SignedAmount, quote_amount};
pub use registry::{Asset, Registry, RegistryError, Symbol};
