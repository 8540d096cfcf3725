//! Tapes: LOBSTER message files as order flow. Every execution in the file becomes a trade of equal size and price.
//!
//! | part | what it does |
//! |---|---|
//! | [`parse`](self::parse) | the file's lines as messages; every defect named with its line |
//! | [`plan`](self::plan) | the messages as commands, checked against an exchange as it goes, and the report |
//!
//! What a file does not say is made up, from the seed where there is a choice:
//! - **users**: every resting order and every aggressor gets one, with Zipf weights;
//! - **orders that the file executes and does not place** (placed before it begins, or too far from the best price for
//!   it to say) are placed when an order with a higher id is, because ids grow with time, and at the latest when they
//!   are touched, for as much as the file says about them; those never executed are left out;
//! - **orders that executions pass** and that the file never names again are taken back: files of some depth do not say
//!   what happens far from the best price;
//! - **hidden executions** get a hidden resting order and an aggressor;
//! - **aggressors**: a run of executions at one moment against one side becomes a single order, if price-time priority
//!   gives exactly the executions of the file; else each gets an aggressor that names its maker;
//! - **money**: whoever cannot pay gets a deposit first.

mod parse;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use settlement_events::{Asset, AssetId, Digest, Registry, RegistryError, Symbol, SymbolId, UserId};

use crate::command::{Rejection, TimedCommand};
pub use parse::{Message, MessageKind, read_messages};

/// The id of what is traded on a tape.
pub const SHARES: AssetId = AssetId(1);
/// The id of what it is paid with: dollars in units of 1/10,000, as the file has them.
pub const DOLLARS: AssetId = AssetId(2);
/// The id of a tape's only symbol.
pub const TAPE_SYMBOL: SymbolId = SymbolId(1);

/// The longest name that fits a registry together with the `_USD` of the symbol.
const NAME_LEN_MAX: usize = 20;
/// 12 April 2021 UTC, for files whose name does not say their day.
const DEFAULT_MIDNIGHT_MS: u64 = 1_618_185_600_000;
const DAY_MS: u64 = 86_400_000;

/// How to read a tape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TapeSpec {
    /// What users are drawn from.
    pub seed: u64,
    /// How many users.
    pub users: u32,
    /// The name of what is traded; taken from the file's name if empty.
    pub symbol: String,
    /// The midnight that the file's seconds count from, milliseconds since the Unix epoch; taken from a date in the file's
    /// name if zero.
    pub midnight_ms: u64,
    /// What makers pay of the dollars they receive, in parts per million. (Of shares too, but a share has no decimals, so
    /// that rounds to nothing below a million shares.)
    pub maker_fee_ppm: u32,
    /// What takers pay.
    pub taker_fee_ppm: u32,
}

impl Default for TapeSpec {
    fn default() -> Self {
        Self {
            seed: 0,
            users: 64,
            symbol: String::new(),
            midnight_ms: 0,
            maker_fee_ppm: 100,
            taker_fee_ppm: 300,
        }
    }
}

/// Why a tape cannot be used. Nothing of it was replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapeError {
    /// Nothing in it.
    #[error(
        "the tape is empty: it has no messages. A message is a line with time, type, order id, size, price, direction"
    )]
    Empty,
    /// Nothing in it becomes a trade.
    #[error(
        "the tape has {messages} messages and none is an execution (types 4 and 5), so that nothing would be traded or \
         settled: is it the part of the day that was meant?"
    )]
    NoExecutions {
        /// How many messages.
        messages: usize,
    },
    /// A gzip file that ends too early.
    #[error(
        "the tape is a gzip file that ends too early, after {good_bytes} bytes of text: it was cut off (or something was \
         appended to it). Nothing of it was replayed; fetch it again"
    )]
    TruncatedGzip {
        /// How much of the text came out.
        good_bytes: usize,
    },
    /// A gzip file that is damaged.
    #[error("the tape is a damaged gzip file ({detail}). Nothing of it was replayed; fetch it again")]
    BadGzip {
        /// What is wrong.
        detail: String,
    },
    /// More text than any message file.
    #[error("the tape unpacks to more than {max_bytes} bytes: split it")]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// Fewer columns than a message has.
    #[error(
        "line {line} of the tape has {found} columns, a message has 6 (time, type, order id, size, price, direction): cut off, or not a message file"
    )]
    MissingColumns {
        /// Which line, from 1.
        line: u64,
        /// How many columns.
        found: usize,
    },
    /// A column that cannot be read.
    #[error("line {line} of the tape: {column} is {found:?}, expected {expected}")]
    BadColumn {
        /// Which line, from 1.
        line: u64,
        /// Which column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A message type that LOBSTER does not have.
    #[error("line {line} of the tape: message type {found}, known are 1 to 7")]
    UnknownType {
        /// Which line, from 1.
        line: u64,
        /// The type.
        found: i64,
    },
    /// A number beyond what any message has.
    #[error("line {line} of the tape: {column} {found} is out of range (1 to {max})")]
    OutOfRange {
        /// Which line, from 1.
        line: u64,
        /// Which column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// The largest that is accepted.
        max: u64,
    },
    /// The exchange declined what a message asks for.
    #[error("line {line} of the tape cannot be replayed: {rejection}")]
    Declined {
        /// Which line, from 1.
        line: u64,
        /// Why.
        rejection: Rejection,
    },
    /// An execution did not become the trade it should be: a defect of the importer, found before anything was replayed.
    #[error(
        "line {line} of the tape: the execution of {size} at {price} did not become such a trade (a defect of the importer)"
    )]
    Mismatch {
        /// Which line, from 1.
        line: u64,
        /// Its size.
        size: u64,
        /// Its price.
        price: u64,
    },
    /// A spec that makes no registry.
    #[error("the tape's symbol or fees: {0}")]
    Registry(#[from] RegistryError),
}

/// What became of the messages of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeReport {
    /// What the type is.
    pub name: String,
    /// How many there are.
    pub messages: u64,
    /// How many were carried out.
    pub replayed: u64,
    /// How many became a trade.
    pub trades: u64,
    /// How many were skipped, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// What an import found and made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapeReport {
    /// What is traded.
    pub symbol: String,
    /// How many messages.
    pub messages: u64,
    /// By type.
    pub types: BTreeMap<u8, TypeReport>,
    /// How many trades: the messages of types 4 and 5.
    pub trades: u64,
    /// How many commands.
    pub commands: u64,
    /// How many events those cause.
    pub events: u64,
    /// How many deposits were made up.
    pub deposits: u64,
    /// How many orders were placed that the file executes and does not place.
    pub orders_unplaced: u64,
    /// How many orders were taken back because executions passed them and the file never names them again.
    pub taken_back_unseen: u64,
    /// How many resting orders were made up because an execution found less than its size.
    pub restated: u64,
    /// How many aggressors were made up.
    pub aggressors: u64,
    /// How many executions price-time priority gave by itself.
    pub by_priority: u64,
    /// How many executions had to name their maker (hidden ones always).
    pub by_name: u64,
    /// How many messages had a time before the one of the message before them (they get that one's).
    pub out_of_order: u64,
}

/// A tape ready to be replayed.
#[derive(Clone, Debug)]
pub struct Tape {
    /// The assets and the symbol.
    pub registry: Registry,
    /// The commands, in order. None of them is declined by an exchange that does nothing else.
    pub commands: Vec<TimedCommand>,
    /// What was found and made.
    pub report: TapeReport,
    /// A digest of the file and of what was made up.
    pub identity: Digest,
}

impl Tape {
    /// Imports a message file, plain or gzip. `name` is the file's name or path, for the symbol and the day.
    pub fn import(name: &str, file: &[u8], spec: &TapeSpec) -> Result<Arc<Self>, TapeError> {
        let messages = read_messages(file)?;
        let is_execution =
            |message: &Message| matches!(message.kind, MessageKind::Execute | MessageKind::ExecuteHidden);
        if !messages.iter().any(is_execution) {
            return Err(TapeError::NoExecutions {
                messages: messages.len(),
            });
        }
        let symbol = if spec.symbol.is_empty() {
            symbol_of(name)
        } else {
            legal(&spec.symbol)
        };
        let midnight_ms = if spec.midnight_ms == 0 {
            midnight_of(name)
        } else {
            spec.midnight_ms
        };
        let registry = registry_of(&symbol, spec)?;
        let mut planner = plan::Planner::new(registry.clone(), spec, midnight_ms);
        planner.plan(&messages)?;
        let (commands, report) = planner.finish(symbol);
        let identity = identity_of(file, spec, midnight_ms, &registry);
        Ok(Arc::new(Self {
            registry,
            commands,
            report,
            identity,
        }))
    }
}

fn identity_of(file: &[u8], spec: &TapeSpec, midnight_ms: u64, registry: &Registry) -> Digest {
    let mut text = format!("{} {} {midnight_ms} {}", spec.seed, spec.users, registry.to_toml()).into_bytes();
    text.extend_from_slice(&Digest::of(file).0);
    Digest::of(&text)
}

/// Shares without decimals, dollars in 1/10,000: then price x size is exact, and sizes and prices are the file's own.
fn registry_of(name: &str, spec: &TapeSpec) -> Result<Registry, RegistryError> {
    let shares = if name.eq_ignore_ascii_case("USD") {
        "USD_SHARES"
    } else {
        name
    };
    Registry::new(
        vec![
            Asset {
                id: SHARES,
                name: shares.to_owned(),
                decimals: 0,
            },
            Asset {
                id: DOLLARS,
                name: "USD".to_owned(),
                decimals: 4,
            },
        ],
        vec![Symbol {
            id: TAPE_SYMBOL,
            name: format!("{name}_USD"),
            base: SHARES,
            quote: DOLLARS,
            maker_fee_ppm: spec.maker_fee_ppm,
            taker_fee_ppm: spec.taker_fee_ppm,
        }],
        (900_001..=900_004).map(UserId).collect(),
    )
}

/// The leading part of a file's name in the form that registries take: `AMZN` of `AMZN_2012-06-21_message_10.csv`.
fn symbol_of(name: &str) -> String {
    let base = file_name(name);
    let end = base
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .unwrap_or(base.len());
    let stem = base[..end]
        .trim_end_matches(".gz")
        .trim_end_matches(".csv")
        .trim_end_matches(".messages");
    if stem.is_empty() {
        "TAPE".to_owned()
    } else {
        legal(stem)
    }
}

fn legal(name: &str) -> String {
    let replaced = name.chars().map(|c| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    });
    replaced.take(NAME_LEN_MAX).collect()
}

/// The last part of a path, of whichever system.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The midnight of the first `YYYY-MM-DD` in a file's name. Directories are often named by a day too, that of the download.
fn midnight_of(name: &str) -> u64 {
    let name = file_name(name);
    let days = (0..name.len()).find_map(|at| days_of(name.get(at..at + 10)?));
    days.map_or(DEFAULT_MIDNIGHT_MS, |days| days * DAY_MS)
}

/// Days since 1970 of a date `YYYY-MM-DD` (Howard Hinnant's `days_from_civil`).
fn days_of(date: &str) -> Option<u64> {
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day): (u64, u64, u64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_days_come_from_names() {
        assert_eq!(symbol_of("/data/amzn-2021-04-12-0930.messages.csv.gz"), "AMZN");
        assert_eq!(symbol_of("AMZN_2012-06-21_34200000_57600000_message_10.csv"), "AMZN");
        assert_eq!(symbol_of("BRK.B_2012-06-21.csv"), "BRK_B");
        assert_eq!(symbol_of("msft.csv.gz"), "MSFT");
        assert_eq!(symbol_of("-"), "TAPE");
        assert_eq!(midnight_of("amzn-2021-04-12-0930.messages.csv.gz"), 1_618_185_600_000);
        assert_eq!(midnight_of("AMZN_2012-06-21_34200000.csv"), 1_340_236_800_000);
        assert_eq!(midnight_of("x-2012-13-40.csv"), DEFAULT_MIDNIGHT_MS);
        assert_eq!(
            midnight_of("/tapes/2026-01-31/AMZN_2012-06-21_34200000.csv"),
            1_340_236_800_000
        );
        assert_eq!(midnight_of("C:\\2026-01-31\\amzn.csv"), DEFAULT_MIDNIGHT_MS);
        assert_eq!(days_of("2000-02-29"), Some(11_016));
        assert_eq!(days_of("1970-01-01"), Some(0));
    }

    #[test]
    fn a_symbol_named_like_the_money_is_not_the_money() {
        let registry = registry_of("USD", &TapeSpec::default()).expect("two assets");
        assert_eq!(registry.assets()[0].name, "USD_SHARES");
    }
}
