//! Generated order flow: a function of its spec, its seed and the exchange it drives. It looks at the exchange (to know
//! what is open and who can pay) and draws; it does not change anything itself.
//!
//! The flow comes in rounds. In each, several makers rest at successive prices on one side of one book and one aggressor
//! sweeps them, mostly stopping in the middle of the last one, sometimes going further than there is; so there is little
//! more than one order per trade, which matters because every order is an event to settle too. In between orders are
//! cancelled and money is withdrawn. Who cannot pay gets a deposit first. Users and makers' users are drawn with Zipf
//! weights; a maker's user is sometimes the aggressor, which gives self-trades.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use settlement_events::{
    Amount, AssetId, EventId, OrderId, Price, Quantity, Registry, Side, Symbol, SymbolId, TimeMs, UserId,
};

use crate::command::{Command, Matching, TimedCommand};
use crate::exchange::{Exchange, Preview};
use crate::random::{Random, Zipf};

/// How many intents in a row may come to nothing (declined, or worth nothing) before the flow ends: a registry whose
/// numbers leave no room (an asset's whole supply is bounded) would otherwise be tried for ever.
const IN_VAIN_MAX: u32 = 1_000;

/// An aggressor sweeps at most this many orders: an event for each, all from one command and in one log record.
const SWEEP_MAX: usize = 64;

/// What a typical order is worth at least, in minor units of the quote asset, so that prices have room for ten thousand
/// steps and few orders are worth nothing.
const LOT_WORTH_MIN: u64 = 20_000;

/// What to generate. Every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadSpec {
    /// What everything is drawn from.
    pub seed: u64,
    /// Exactly so many trades, after which the flow ends.
    pub trades: u64,
    /// Users 1 to this.
    pub users: u32,
    /// Names of the symbols to trade; all of the registry if empty. The first trades most.
    pub symbols: Vec<String>,
    /// The most makers that one aggressor sweeps.
    pub makers_max: u64,
    /// In how many of a thousand rounds an order is cancelled.
    pub cancels_permille: u64,
    /// In how many of a thousand rounds money is withdrawn.
    pub withdrawals_permille: u64,
    /// How many makers of a thousand belong to the aggressor's user.
    pub self_trades_permille: u64,
    /// The time of the first event, milliseconds since the Unix epoch.
    pub start_ms: u64,
}

impl Default for WorkloadSpec {
    fn default() -> Self {
        Self {
            seed: 0,
            trades: 500,
            users: 32,
            symbols: Vec::new(),
            makers_max: 12,
            cancels_permille: 300,
            withdrawals_permille: 150,
            self_trades_permille: 40,
            start_ms: 1_618_234_200_000,
        }
    }
}

/// Why a workload cannot be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// A symbol that the registry does not have.
    #[error("the workload names symbol {name:?}, which the registry does not have (it has: {known})")]
    UnknownSymbol {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// Nothing to trade.
    #[error("the registry has no symbols: nothing can be traded")]
    NoSymbols,
    /// A value that makes no flow.
    #[error("workload.{field} = {value}: {detail}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it should be.
        detail: &'static str,
    },
}

/// Something the flow wants done. Placing may need a deposit first, and how much can be withdrawn shows only then.
#[derive(Clone, Copy, Debug)]
enum Intent {
    Maker {
        user: UserId,
        side: Side,
        price: Price,
        quantity: Quantity,
    },
    Aggressor(Aggressor),
    Cancel {
        user: UserId,
        order: OrderId,
    },
    Withdraw {
        user: UserId,
        asset: AssetId,
    },
}

/// An order that sweeps what rests. How large it is depends on what rests when its turn comes.
#[derive(Clone, Copy, Debug)]
struct Aggressor {
    user: UserId,
    side: Side,
    /// Whether it leaves the worse half of the book alone.
    half: bool,
    /// How much better than needed its limit is: that comes back as a refund.
    slack: u64,
    size: Size,
    matching: Matching,
}

/// How much an aggressor asks for, compared with what rests within its reach.
#[derive(Clone, Copy, Debug)]
enum Size {
    /// All of it but so many of 1,001 parts of the last order.
    Short { of_last_permille: u64 },
    /// All of it.
    Exact,
    /// All of it and so much more.
    Beyond { by: u64 },
}

#[derive(Clone, Debug)]
struct Market {
    symbol: Symbol,
    /// Where prices are drawn around; moves.
    mid: u64,
    /// Where it started; it stays within half and double of that.
    start: u64,
    /// The smallest price step, a ten-thousandth of the start.
    step: u64,
    /// What a typical order is for.
    lot: u64,
}

/// The generator at some point of its flow.
#[derive(Clone, Debug)]
pub struct Workload {
    spec: WorkloadSpec,
    random: Random,
    users: Zipf,
    markets: Vec<Market>,
    picks: Zipf,
    /// The market of the current round.
    market: usize,
    intents: VecDeque<Intent>,
    at_ms: u64,
    last_event_id: u64,
    /// Whether the last command was only the deposit that its intent needs first.
    preparing: bool,
    in_vain: u32,
}

impl Workload {
    /// The flow from its beginning.
    pub fn new(spec: &WorkloadSpec, registry: &Registry) -> Result<Self, WorkloadError> {
        check_spec(spec)?;
        let mut random = Random::new("engine workload", spec.seed);
        let symbols = symbols_of(spec, registry)?;
        let markets: Vec<Market> = symbols
            .iter()
            .map(|symbol| Market::new(symbol, registry, &mut random))
            .collect();
        Ok(Self {
            spec: spec.clone(),
            users: Zipf::new(spec.users),
            picks: Zipf::new(u32::try_from(markets.len()).unwrap_or(u32::MAX)),
            markets,
            market: 0,
            intents: VecDeque::new(),
            at_ms: spec.start_ms,
            last_event_id: 0,
            preparing: false,
            in_vain: 0,
            random,
        })
    }

    /// The next command; `None` when there were enough trades (or nothing works out any more).
    pub fn next(&mut self, exchange: &Exchange) -> Option<TimedCommand> {
        // Each pass plans a round, or carries an intent out, or drops one, and only so many are dropped in a row.
        loop {
            if exchange.trades() >= self.spec.trades || self.in_vain >= IN_VAIN_MAX {
                return None;
            }
            let Some(intent) = self.intents.front().copied() else {
                self.plan_round(exchange);
                continue;
            };
            if let Some(command) = self.command_of(intent, exchange) {
                self.at_ms += self.random.below(4);
                return Some(TimedCommand {
                    at: TimeMs(self.at_ms),
                    command,
                });
            }
            self.intents.pop_front();
            self.in_vain += 1;
        }
    }

    /// Tells the flow what became of its last command.
    pub fn executed(&mut self, accepted: bool) {
        if accepted {
            self.in_vain = 0;
            return;
        }
        self.in_vain += 1;
        if self.preparing {
            // What the deposit was for will not happen either.
            self.intents.pop_front();
        }
    }

    fn user(&mut self) -> UserId {
        UserId(1 + self.users.draw(&mut self.random))
    }

    fn plan_round(&mut self, exchange: &Exchange) {
        self.market = usize::try_from(self.picks.draw(&mut self.random)).unwrap_or(0);
        let side = if self.random.ratio(1, 2) { Side::Buy } else { Side::Sell };
        self.move_mid();
        let aggressor = self.user();
        let makers = self.random.between(2, self.spec.makers_max);
        self.plan_makers(side, makers, aggressor);
        self.plan_aggressor(side.opposite(), aggressor);
        if self.random.ratio(self.spec.cancels_permille, 1_000) {
            self.plan_cancel(exchange);
        }
        if self.random.ratio(self.spec.withdrawals_permille, 1_000) {
            let symbol = &self.markets[self.market].symbol;
            let asset = if side == Side::Buy { symbol.base } else { symbol.quote };
            self.intents.push_back(Intent::Withdraw { user: aggressor, asset });
        }
    }

    fn move_mid(&mut self) {
        let market = &mut self.markets[self.market];
        let by = market.step * self.random.below(17);
        let moved = if self.random.ratio(1, 2) {
            market.mid + by
        } else {
            market.mid.saturating_sub(by)
        };
        market.mid = moved.clamp(market.start / 2 + 1, market.start * 2);
    }

    /// Makers at successively worse prices.
    fn plan_makers(&mut self, side: Side, makers: u64, aggressor: UserId) {
        let Market { mid, step, lot, .. } = self.markets[self.market];
        let mut distance = step;
        for _ in 0..makers {
            let own = self.random.ratio(self.spec.self_trades_permille, 1_000);
            let user = if own { aggressor } else { self.user() };
            let price = match side {
                Side::Sell => mid + distance,
                Side::Buy => mid.saturating_sub(distance).max(1),
            };
            let quantity = Quantity(1 + self.random.below(lot));
            self.intents.push_back(Intent::Maker {
                user,
                side,
                price: Price(price),
                quantity,
            });
            // Mostly a step further out, sometimes at the same price, where the earlier order goes first.
            distance += step * self.random.below(4);
        }
    }

    fn plan_aggressor(&mut self, side: Side, user: UserId) {
        let market = &self.markets[self.market];
        let slack = market.step * self.random.below(8);
        let by = 1 + self.random.below(market.lot);
        let of_last_permille = self.random.below(1_000);
        let (size, matching) = match self.random.below(10) {
            0..=5 => (Size::Short { of_last_permille }, Matching::Limit),
            6 | 7 => (Size::Exact, Matching::Limit),
            8 => (Size::Beyond { by }, Matching::Limit),
            _ => (Size::Beyond { by }, Matching::Immediate),
        };
        let half = self.random.ratio(1, 6);
        self.intents.push_back(Intent::Aggressor(Aggressor {
            user,
            side,
            half,
            slack,
            size,
            matching,
        }));
    }

    /// One of the oldest open orders, so that leftovers of earlier rounds do not pile up.
    fn plan_cancel(&mut self, exchange: &Exchange) {
        let at = self.random.below(6);
        if let Some(open) = exchange.open_orders().nth(usize::try_from(at).unwrap_or(0)) {
            self.intents.push_back(Intent::Cancel {
                user: open.state.user_id,
                order: open.state.order_id,
            });
        }
    }

    /// The command that brings an intent forward; `None` when there is nothing (left) to do about it.
    fn command_of(&mut self, intent: Intent, exchange: &Exchange) -> Option<Command> {
        let symbol = self.markets[self.market].symbol.id;
        match intent {
            Intent::Maker {
                user,
                side,
                price,
                quantity,
            } => {
                let price = behind_the_spread(exchange, symbol, side, price)?;
                self.place(exchange, (user, side, price, quantity), Matching::Limit)
            }
            Intent::Aggressor(aggressor) => {
                let (limit, quantity) = self.reach(exchange, &aggressor)?;
                self.place(
                    exchange,
                    (aggressor.user, aggressor.side, limit, quantity),
                    aggressor.matching,
                )
            }
            Intent::Cancel { user, order } => {
                exchange.open_order(order)?;
                self.done_with_front();
                Some(Command::Cancel { user, order })
            }
            Intent::Withdraw { user, asset } => {
                let amount = Amount(self.random.below(exchange.account(user, asset).avail.0 / 4));
                if amount.is_zero() {
                    return None;
                }
                self.done_with_front();
                Some(Command::Withdraw {
                    event_id: self.next_event_id(),
                    user,
                    asset,
                    amount,
                })
            }
        }
    }

    /// The placement if its user can pay, else the deposit that lets them; the intent stays until it is placed.
    fn place(
        &mut self,
        exchange: &Exchange,
        (user, side, price, quantity): (UserId, Side, Price, Quantity),
        matching: Matching,
    ) -> Option<Command> {
        let symbol = &self.markets[self.market].symbol;
        let symbol_id = symbol.id;
        let (asset, lock) = exchange.lock_of(symbol, side, price, quantity).ok()?;
        if lock.is_zero() {
            return None;
        }
        if exchange.account(user, asset).avail >= lock {
            self.done_with_front();
            return Some(Command::Place {
                user,
                symbol: symbol_id,
                side,
                price,
                quantity,
                matching,
            });
        }
        self.preparing = true;
        // Enough for many more orders, with odd digits.
        let amount = lock
            .0
            .saturating_mul(self.random.between(24, 64))
            .saturating_add(self.random.below(lock.0));
        Some(Command::Deposit {
            event_id: self.next_event_id(),
            user,
            asset,
            amount: Amount(amount),
        })
    }

    /// The limit and the quantity with which an aggressor sweeps what rests now, and makes no more trades than are
    /// asked for. `None` if nothing rests.
    fn reach(&self, exchange: &Exchange, aggressor: &Aggressor) -> Option<(Price, Quantity)> {
        let symbol = self.markets[self.market].symbol.id;
        let any_price = if aggressor.side == Side::Buy {
            Price(u64::MAX)
        } else {
            Price(0)
        };
        let trades_left = usize::try_from(self.spec.trades - exchange.trades()).unwrap_or(usize::MAX);
        let most = trades_left.min(SWEEP_MAX);
        let resting: Vec<Preview> = exchange.preview(symbol, aggressor.side, any_price).take(most).collect();
        let depth = if aggressor.half {
            resting.len().div_ceil(2)
        } else {
            resting.len()
        };
        let worst = resting[..depth].last()?;
        let limit = match aggressor.side {
            Side::Buy => worst.price.0 + aggressor.slack,
            Side::Sell => worst.price.0.saturating_sub(aggressor.slack).max(1),
        };
        let sum = |fills: &[Preview]| fills.iter().map(|fill| fill.quantity.0).sum::<u64>();
        let wanted = match aggressor.size {
            Size::Short { of_last_permille } => sum(&resting[..depth]) - worst.quantity.0 * of_last_permille / 1_001,
            Size::Exact => sum(&resting[..depth]),
            Size::Beyond { by } => sum(&resting[..depth]) + by,
        };
        // With a whole sweep resting there may be more behind it: going on would make too many trades.
        let quantity = if resting.len() == most {
            wanted.min(sum(&resting))
        } else {
            wanted
        };
        Some((Price(limit), Quantity(quantity)))
    }

    fn done_with_front(&mut self) {
        self.preparing = false;
        self.intents.pop_front();
    }

    fn next_event_id(&mut self) -> EventId {
        self.last_event_id += 1;
        EventId(self.last_event_id)
    }
}

/// Makers rest: a price that would cross what an earlier round left is moved behind it.
fn behind_the_spread(exchange: &Exchange, symbol: SymbolId, side: Side, price: Price) -> Option<Price> {
    let Some(best) = exchange.best_price(symbol, side.opposite()) else {
        return Some(price);
    };
    match side {
        Side::Buy => Some(price.min(Price(best.0.checked_sub(1)?))).filter(|price| !price.is_zero()),
        Side::Sell => Some(price.max(Price(best.0 + 1))),
    }
}

impl Market {
    /// Prices and quantities that suit the decimals, far from what would overflow.
    fn new(symbol: &Symbol, registry: &Registry, random: &mut Random) -> Self {
        let scale = |asset: AssetId, most: u32| {
            let decimals = registry.asset(asset).map_or(0, |asset| u32::from(asset.decimals));
            10_u64.pow(decimals.min(most))
        };
        let lot = (scale(symbol.base, 10) / 2).max(200);
        // 5 to 2,000 whole quote units for a whole base unit, and a lot is worth at least LOT_WORTH_MIN.
        let drawn = scale(symbol.quote, 8) * random.between(50, 20_000) / 10;
        let start = drawn
            .max(scale(symbol.base, 18) / lot * LOT_WORTH_MIN)
            .max(LOT_WORTH_MIN);
        Self {
            symbol: symbol.clone(),
            mid: start,
            start,
            step: start / 10_000,
            lot,
        }
    }
}

fn symbols_of(spec: &WorkloadSpec, registry: &Registry) -> Result<Vec<Symbol>, WorkloadError> {
    if registry.symbols().is_empty() {
        return Err(WorkloadError::NoSymbols);
    }
    if spec.symbols.is_empty() {
        return Ok(registry.symbols().to_vec());
    }
    let find = |name: &String| {
        registry
            .symbol_by_name(name)
            .cloned()
            .ok_or_else(|| WorkloadError::UnknownSymbol {
                name: name.clone(),
                known: registry
                    .symbols()
                    .iter()
                    .map(|symbol| symbol.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    };
    spec.symbols.iter().map(find).collect()
}

fn check_spec(spec: &WorkloadSpec) -> Result<(), WorkloadError> {
    let out_of_range = |field, value, detail| Err(WorkloadError::OutOfRange { field, value, detail });
    if spec.users == 0 || spec.users > 800_000 {
        return out_of_range(
            "users",
            u64::from(spec.users),
            "use 1 to 800000 (fee accounts come above)",
        );
    }
    if !(2..=1_000).contains(&spec.makers_max) {
        return out_of_range("makers_max", spec.makers_max, "use 2 to 1000");
    }
    if spec.start_ms > i64::MAX as u64 / 2 {
        return out_of_range("start_ms", spec.start_ms, "use milliseconds since 1970");
    }
    for (field, value) in [
        ("cancels_permille", spec.cancels_permille),
        ("withdrawals_permille", spec.withdrawals_permille),
        ("self_trades_permille", spec.self_trades_permille),
    ] {
        if value > 1_000 {
            return out_of_range(field, value, "use 0 to 1000");
        }
    }
    Ok(())
}
