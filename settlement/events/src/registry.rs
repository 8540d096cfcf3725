//! Which assets, symbols and fee accounts exist. Small, read at start-up, the same for every program of an exchange;
//! written as TOML. Balances, orders and tables are not here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AssetId, SymbolId, UserId};
use crate::money::DECIMALS_MAX;

/// A fee rate of 100%, in parts per million.
pub const FEE_PPM_MAX: u32 = 1_000_000;

/// The longest name: table names are built from symbols, and a keyspace or table name has at most 48 characters.
const NAME_LEN_MAX: usize = 24;

/// Something one can own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// Its id, also a CQL `int`.
    pub id: AssetId,
    /// Its name, such as `BTC`.
    pub name: String,
    /// How many decimals its minor unit has: 8 means that one BTC is 10^8 minor units.
    pub decimals: u8,
}

/// Two assets with a book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symbol {
    /// Its id, also a CQL `int`.
    pub id: SymbolId,
    /// Its name, such as `BTC_USDT`; letters, digits and underscores, because a table is named after it.
    pub name: String,
    /// What is traded.
    pub base: AssetId,
    /// What it is paid with.
    pub quote: AssetId,
    /// What the maker pays of what it receives, in parts per million, rounded toward zero.
    #[serde(default)]
    pub maker_fee_ppm: u32,
    /// What the taker pays of what it receives, in parts per million, rounded toward zero.
    #[serde(default)]
    pub taker_fee_ppm: u32,
}

impl Symbol {
    /// The name in lower case, as table names carry it.
    #[must_use]
    pub fn table_suffix(&self) -> String {
        self.name.to_ascii_lowercase()
    }
}

/// Assets, symbols and fee accounts, checked against each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Registry {
    assets: Vec<Asset>,
    symbols: Vec<Symbol>,
    fee_accounts: Vec<UserId>,
}

/// The same as it stands in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default)]
    fee_accounts: Vec<UserId>,
    assets: Vec<Asset>,
    symbols: Vec<Symbol>,
}

/// Why a registry is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Not the TOML it should be.
    #[error("the registry cannot be read: {0}")]
    Syntax(String),
    /// Two of a kind.
    #[error("the registry has two {what} {which}: each may appear once")]
    Duplicate {
        /// What appears twice.
        what: &'static str,
        /// Which one.
        which: String,
    },
    /// A symbol names an asset that is not there.
    #[error("symbol {symbol} names asset {asset}, which the registry does not have: add it to [[assets]]")]
    UnknownAsset {
        /// The symbol.
        symbol: String,
        /// The asset.
        asset: AssetId,
    },
    /// A value outside what it may be.
    #[error("the registry's {what}: {detail}")]
    OutOfRange {
        /// Where.
        what: String,
        /// What is wrong and what would be right.
        detail: String,
    },
}

impl Registry {
    /// Checks the parts against each other and sorts them by id.
    pub fn new(
        mut assets: Vec<Asset>,
        mut symbols: Vec<Symbol>,
        mut fee_accounts: Vec<UserId>,
    ) -> Result<Self, RegistryError> {
        assets.sort_by_key(|asset| asset.id);
        symbols.sort_by_key(|symbol| symbol.id);
        fee_accounts.sort();
        no_duplicates("assets with id", assets.iter().map(|a| a.id))?;
        no_duplicates(
            "assets named",
            sorted(assets.iter().map(|a| a.name.to_ascii_lowercase())),
        )?;
        no_duplicates("symbols with id", symbols.iter().map(|s| s.id))?;
        no_duplicates("symbols named", sorted(symbols.iter().map(|s| s.table_suffix())))?;
        no_duplicates("fee accounts", fee_accounts.iter().copied())?;
        let registry = Self {
            assets,
            symbols,
            fee_accounts,
        };
        registry.assets.iter().try_for_each(check_asset)?;
        registry
            .symbols
            .iter()
            .try_for_each(|symbol| registry.check_symbol(symbol))?;
        Ok(registry)
    }

    /// Reads the TOML form.
    pub fn from_toml(text: &str) -> Result<Self, RegistryError> {
        let unchecked: Unchecked = toml::from_str(text).map_err(|error| RegistryError::Syntax(error.to_string()))?;
        unchecked.try_into()
    }

    /// The TOML form.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(&Unchecked::from(self.clone())).expect("a registry is plain tables of numbers and strings")
    }

    /// Three assets, three symbols, four fee accounts: enough for examples, tests and generated workloads.
    #[must_use]
    pub fn example() -> Self {
        let asset = |id, name: &str, decimals| Asset {
            id: AssetId(id),
            name: name.to_owned(),
            decimals,
        };
        let symbol = |id, name: &str, base, quote| Symbol {
            id: SymbolId(id),
            name: name.to_owned(),
            base: AssetId(base),
            quote: AssetId(quote),
            maker_fee_ppm: 500,
            taker_fee_ppm: 1_000,
        };
        Self::new(
            vec![asset(1, "BTC", 8), asset(2, "ETH", 9), asset(3, "USDT", 6)],
            vec![
                symbol(1, "BTC_USDT", 1, 3),
                symbol(2, "ETH_USDT", 2, 3),
                symbol(3, "ETH_BTC", 2, 1),
            ],
            (900_001..=900_004).map(UserId).collect(),
        )
        .expect("the example is consistent")
    }

    /// All assets, by id.
    #[must_use]
    pub fn assets(&self) -> &[Asset] {
        &self.assets
    }

    /// All symbols, by id.
    #[must_use]
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// The accounts that collect fees, several because one alone would be a hot partition.
    #[must_use]
    pub fn fee_accounts(&self) -> &[UserId] {
        &self.fee_accounts
    }

    /// The asset with this id.
    #[must_use]
    pub fn asset(&self, id: AssetId) -> Option<&Asset> {
        self.assets
            .binary_search_by_key(&id, |asset| asset.id)
            .ok()
            .map(|at| &self.assets[at])
    }

    /// The symbol with this id.
    #[must_use]
    pub fn symbol(&self, id: SymbolId) -> Option<&Symbol> {
        self.symbols
            .binary_search_by_key(&id, |symbol| symbol.id)
            .ok()
            .map(|at| &self.symbols[at])
    }

    /// The symbol with this name, whatever its case.
    #[must_use]
    pub fn symbol_by_name(&self, name: &str) -> Option<&Symbol> {
        self.symbols
            .iter()
            .find(|symbol| symbol.name.eq_ignore_ascii_case(name))
    }

    /// Whether this user is one of the fee accounts.
    #[must_use]
    pub fn is_fee_account(&self, user: UserId) -> bool {
        self.fee_accounts.binary_search(&user).is_ok()
    }

    /// The decimals of a symbol's base asset.
    #[must_use]
    pub fn base_decimals(&self, symbol: &Symbol) -> u8 {
        self.asset(symbol.base).map_or(0, |asset| asset.decimals)
    }

    fn check_symbol(&self, symbol: &Symbol) -> Result<(), RegistryError> {
        check_name("symbol", &symbol.name)?;
        check_int_id("symbol", symbol.id.0)?;
        for asset in [symbol.base, symbol.quote] {
            if self.asset(asset).is_none() {
                return Err(RegistryError::UnknownAsset {
                    symbol: symbol.name.clone(),
                    asset,
                });
            }
        }
        if symbol.base == symbol.quote {
            return Err(out_of_range(
                format_args!("symbol {}", symbol.name),
                "base and quote are the same asset",
            ));
        }
        for (which, ppm) in [
            ("maker_fee_ppm", symbol.maker_fee_ppm),
            ("taker_fee_ppm", symbol.taker_fee_ppm),
        ] {
            if ppm > FEE_PPM_MAX {
                let what = format_args!("symbol {}", symbol.name);
                return Err(out_of_range(
                    what,
                    format!("{which} = {ppm} is above {FEE_PPM_MAX} (100%)"),
                ));
            }
            if ppm > 0 && self.fee_accounts.is_empty() {
                let what = format_args!("symbol {}", symbol.name);
                return Err(out_of_range(
                    what,
                    format!("{which} = {ppm}, but there is no fee account: name some"),
                ));
            }
        }
        Ok(())
    }
}

impl TryFrom<Unchecked> for Registry {
    type Error = RegistryError;

    fn try_from(file: Unchecked) -> Result<Self, RegistryError> {
        Self::new(file.assets, file.symbols, file.fee_accounts)
    }
}

impl From<Registry> for Unchecked {
    fn from(registry: Registry) -> Self {
        Self {
            fee_accounts: registry.fee_accounts,
            assets: registry.assets,
            symbols: registry.symbols,
        }
    }
}

fn check_asset(asset: &Asset) -> Result<(), RegistryError> {
    check_name("asset", &asset.name)?;
    check_int_id("asset", asset.id.0)?;
    if asset.decimals > DECIMALS_MAX {
        let what = format_args!("asset {}", asset.name);
        return Err(out_of_range(
            what,
            format!("{} decimals: at most {DECIMALS_MAX}", asset.decimals),
        ));
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), RegistryError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(legal) {
        let detail = format!("use 1 to {NAME_LEN_MAX} letters, digits and underscores");
        return Err(out_of_range(format_args!("{what} {name:?}"), detail));
    }
    Ok(())
}

/// Ids stand in CQL `int` columns.
fn check_int_id(what: &str, id: u32) -> Result<(), RegistryError> {
    if i32::try_from(id).is_err() {
        return Err(out_of_range(
            format_args!("{what} id {id}"),
            "above what a CQL int holds",
        ));
    }
    Ok(())
}

fn out_of_range(what: impl fmt::Display, detail: impl Into<String>) -> RegistryError {
    RegistryError::OutOfRange {
        what: what.to_string(),
        detail: detail.into(),
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items.into_iter()
}

fn no_duplicates<T: PartialEq + fmt::Display>(
    what: &'static str,
    items: impl Iterator<Item = T>,
) -> Result<(), RegistryError> {
    let mut last: Option<T> = None;
    for item in items {
        if last.as_ref() == Some(&item) {
            return Err(RegistryError::Duplicate {
                what,
                which: item.to_string(),
            });
        }
        last = Some(item);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(edit: impl FnOnce(&mut Unchecked)) -> String {
        let mut file = Unchecked::from(Registry::example());
        edit(&mut file);
        Registry::try_from(file).expect_err("must be refused").to_string()
    }

    #[test]
    fn toml_round_trip() {
        let registry = Registry::example();
        assert_eq!(Registry::from_toml(&registry.to_toml()), Ok(registry));
    }

    #[test]
    fn look_ups() {
        let registry = Registry::example();
        let symbol = registry.symbol_by_name("eth_btc").expect("is there");
        assert_eq!((symbol.id, registry.base_decimals(symbol)), (SymbolId(3), 9));
        assert!(registry.is_fee_account(UserId(900_002)) && !registry.is_fee_account(UserId(1)));
        assert!(registry.asset(AssetId(9)).is_none() && registry.symbol(SymbolId(0)).is_none());
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_its_reason() {
        assert!(problem(|f| f.symbols[0].quote = AssetId(77)).contains("names asset 77"));
        assert!(problem(|f| f.symbols[0].quote = AssetId(1)).contains("the same asset"));
        assert!(problem(|f| f.assets[1].id = AssetId(1)).contains("two assets with id 1"));
        assert!(problem(|f| f.assets[1].name = "btc".into()).contains("two assets named btc"));
        assert!(problem(|f| f.symbols[1].name = "btc_usdt".into()).contains("two symbols named btc_usdt"));
        assert!(problem(|f| f.symbols[1].name = "a; DROP".into()).contains("letters, digits and underscores"));
        assert!(problem(|f| f.assets[0].decimals = 19).contains("at most 18"));
        assert!(problem(|f| f.symbols[0].taker_fee_ppm = 1_000_001).contains("above 1000000"));
        assert!(problem(|f| f.fee_accounts.clear()).contains("no fee account"));
        assert!(problem(|f| f.fee_accounts.push(UserId(900_001))).contains("two fee accounts 900001"));
        assert!(problem(|f| f.symbols[0].id = SymbolId(u32::MAX)).contains("CQL int"));
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        let error = Registry::from_toml("assets = []\nsymbols = []\nfee_acounts = [1]").expect_err("must be refused");
        assert!(error.to_string().contains("fee_acounts"), "{error}");
    }
}
