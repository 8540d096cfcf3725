//! Messages as commands. The planner carries every command out on an exchange of its own as it goes: that tells it what
//! is open, who can pay and what price-time priority would do, and proves that each execution becomes its trade.

use std::collections::{BTreeMap, BTreeSet};

use settlement_events::{Amount, Body, EventId, OrderId, Price, Quantity, Registry, Side, TimeMs, UserId};

use super::parse::{Message, MessageKind};
use super::{TAPE_SYMBOL, TapeError, TapeReport, TapeSpec};
use crate::command::{Command, Matching, TimedCommand};
use crate::exchange::{Exchange, Preview};
use crate::random::{Random, Zipf};

/// A deposit covers this many orders like the one that needs it.
const DEPOSIT_ORDERS: u64 = 32;

const NEVER_EXECUTED: &str = "names an order that the file neither places nor executes";
const NOT_OPEN: &str = "names an order that is not open any more";
const NO_ORDER: &str = "names no order";
const REUSED: &str = "places an order id that is still open";
const CROSS: &str = "cross trade: an auction, it names no resting order";
const HALT: &str = "halt: nothing changes hands";

/// An order that the file executes and does not place.
#[derive(Clone, Copy)]
struct Unplaced {
    /// The first message that names it.
    touch: Message,
    /// Everything that is executed, taken back and deleted of it.
    size: u64,
    executed: bool,
}

/// The orders that are executed in the file and not placed in it, by id.
fn unplaced_of(messages: &[Message]) -> BTreeMap<u64, Unplaced> {
    // `None` for ids that the file places before it touches them.
    let mut seen: BTreeMap<u64, Option<Unplaced>> = BTreeMap::new();
    for message in messages {
        let Some(order) = message.order else { continue };
        match message.kind {
            MessageKind::New => {
                seen.entry(order).or_insert(None);
            }
            MessageKind::Reduce | MessageKind::Delete | MessageKind::Execute => {
                let first = Some(Unplaced {
                    touch: *message,
                    size: 0,
                    executed: false,
                });
                if let Some(unplaced) = seen.entry(order).or_insert(first) {
                    unplaced.size += message.size;
                    unplaced.executed |= message.kind == MessageKind::Execute;
                }
            }
            MessageKind::ExecuteHidden | MessageKind::Cross | MessageKind::Halt => {}
        }
    }
    let executed = |unplaced: Option<Unplaced>| unplaced.filter(|unplaced| unplaced.executed);
    seen.into_iter()
        .filter_map(|(order, unplaced)| Some((order, executed(unplaced)?)))
        .collect()
}

pub(super) struct Planner {
    exchange: Exchange,
    random: Random,
    users: Zipf,
    midnight_ms: u64,
    at: TimeMs,
    /// The file's open orders, by its ids.
    open: BTreeMap<u64, OrderId>,
    /// The same the other way round.
    names: BTreeMap<OrderId, u64>,
    /// The line of the last message that names an order.
    last_line: BTreeMap<u64, u64>,
    /// The file's orders that were ever placed.
    placed: BTreeSet<u64>,
    /// Orders that the file executes later and does not place, by its ids.
    unplaced: BTreeMap<u64, Unplaced>,
    commands: Vec<TimedCommand>,
    /// The events of the last command.
    bodies: Vec<Body>,
    report: TapeReport,
}

impl Planner {
    pub(super) fn new(registry: Registry, spec: &TapeSpec, midnight_ms: u64) -> Self {
        Self {
            exchange: Exchange::new(registry),
            random: Random::new("engine tape", spec.seed),
            users: Zipf::new(spec.users),
            midnight_ms,
            at: TimeMs(midnight_ms),
            open: BTreeMap::new(),
            names: BTreeMap::new(),
            last_line: BTreeMap::new(),
            placed: BTreeSet::new(),
            unplaced: BTreeMap::new(),
            commands: Vec::new(),
            bodies: Vec::new(),
            report: TapeReport::default(),
        }
    }

    pub(super) fn finish(mut self, symbol: String) -> (Vec<TimedCommand>, TapeReport) {
        self.report.symbol = symbol;
        self.report.commands = self.commands.len() as u64;
        self.report.trades = self.exchange.trades();
        (self.commands, self.report)
    }

    pub(super) fn plan(&mut self, messages: &[Message]) -> Result<(), TapeError> {
        for message in messages {
            let entry = self.report.types.entry(message.kind.number()).or_default();
            message.kind.name().clone_into(&mut entry.name);
            entry.messages += 1;
        }
        self.report.messages = messages.len() as u64;
        self.unplaced = unplaced_of(messages);
        self.last_line = messages.iter().filter_map(|m| Some((m.order?, m.line))).collect();
        let mut at = 0;
        while at < messages.len() {
            let message = &messages[at];
            self.tick(message);
            if let Some(order) = message.order {
                self.catch_up(message, order)?;
            }
            at += match message.kind {
                MessageKind::Execute if message.order.is_some() => self.executions(&messages[at..])?,
                _ => self.single(message)?,
            };
        }
        Ok(())
    }

    /// Moves the time to a message's, never back.
    fn tick(&mut self, message: &Message) {
        let at = TimeMs(self.midnight_ms + message.at_ns / 1_000_000);
        if at < self.at {
            self.report.out_of_order += 1;
        } else {
            self.at = at;
        }
    }

    /// Every message but a run of visible executions; always one.
    fn single(&mut self, message: &Message) -> Result<usize, TapeError> {
        match (message.kind, message.order) {
            (MessageKind::Execute | MessageKind::ExecuteHidden, _) => self.hidden_execution(message)?,
            (MessageKind::Cross, _) => self.skip(message, CROSS),
            (MessageKind::Halt, _) => self.skip(message, HALT),
            (_, None) => self.skip(message, NO_ORDER),
            (MessageKind::New, Some(order)) if self.open.contains_key(&order) => self.skip(message, REUSED),
            (MessageKind::New, Some(order)) => {
                self.rest(message, order, message.size)?;
                self.replayed(message);
            }
            (MessageKind::Reduce, Some(order)) => self.take_back(message, order, message.size)?,
            (MessageKind::Delete, Some(order)) => self.take_back(message, order, u64::MAX)?,
        }
        Ok(1)
    }

    fn type_report(&mut self, message: &Message) -> &mut super::TypeReport {
        self.report.types.entry(message.kind.number()).or_default()
    }

    fn skip(&mut self, message: &Message, reason: &str) {
        *self.type_report(message).skipped.entry(reason.to_owned()).or_default() += 1;
    }

    fn replayed(&mut self, message: &Message) {
        self.type_report(message).replayed += 1;
    }

    /// Lets orders that the file does not place rest before a message that shows they were there: one that names such an
    /// order, or that places a younger one.
    fn catch_up(&mut self, message: &Message, order: u64) -> Result<(), TapeError> {
        if message.kind == MessageKind::New {
            return self.place_unplaced_before(order);
        }
        match self.unplaced.remove(&order) {
            Some(unplaced) => self.place_unplaced(order, &unplaced),
            None => Ok(()),
        }
    }

    /// Places the orders that the file does not place and that, by their ids, are older than this one.
    fn place_unplaced_before(&mut self, order: u64) -> Result<(), TapeError> {
        let later = self.unplaced.split_off(&order);
        for (order, unplaced) in std::mem::replace(&mut self.unplaced, later) {
            self.place_unplaced(order, &unplaced)?;
        }
        Ok(())
    }

    fn place_unplaced(&mut self, order: u64, unplaced: &Unplaced) -> Result<(), TapeError> {
        self.report.orders_unplaced += 1;
        self.rest(
            &Message {
                size: unplaced.size,
                ..unplaced.touch
            },
            order,
            unplaced.size,
        )
    }

    /// Lets an order of the file rest in the book.
    fn rest(&mut self, message: &Message, order: u64, size: u64) -> Result<(), TapeError> {
        let user = self.user();
        let id = self.place(message, (user, message.side, message.price, size), Matching::Rest)?;
        self.opened(order, id);
        self.placed.insert(order);
        Ok(())
    }

    fn opened(&mut self, order: u64, id: OrderId) {
        self.open.insert(order, id);
        self.names.insert(id, order);
    }

    fn closed(&mut self, order: u64) -> Option<OrderId> {
        let id = self.open.remove(&order)?;
        self.names.remove(&id);
        Some(id)
    }

    fn user(&mut self) -> UserId {
        UserId(1 + self.users.draw(&mut self.random))
    }

    /// Carries a command out and remembers it.
    fn command(&mut self, message: &Message, command: Command) -> Result<(), TapeError> {
        self.bodies.clear();
        self.exchange
            .execute(&command, &mut self.bodies)
            .map_err(|rejection| TapeError::Declined {
                line: message.line,
                rejection,
            })?;
        self.commands.push(TimedCommand { at: self.at, command });
        self.report.events += self.bodies.len() as u64;
        Ok(())
    }

    /// Places an order, with a deposit before it if its user cannot pay.
    fn place(
        &mut self,
        message: &Message,
        (user, side, price, size): (UserId, Side, u64, u64),
        matching: Matching,
    ) -> Result<OrderId, TapeError> {
        let (price, quantity) = (Price(price), Quantity(size));
        let symbol = self
            .exchange
            .registry()
            .symbol(TAPE_SYMBOL)
            .expect("a tape's registry has its symbol");
        let (asset, lock) = self
            .exchange
            .lock_of(symbol, side, price, quantity)
            .map_err(|rejection| TapeError::Declined {
                line: message.line,
                rejection,
            })?;
        if self.exchange.account(user, asset).avail < lock {
            self.report.deposits += 1;
            let event_id = EventId(self.report.deposits);
            let amount = Amount(lock.0.saturating_mul(DEPOSIT_ORDERS));
            self.command(
                message,
                Command::Deposit {
                    event_id,
                    user,
                    asset,
                    amount,
                },
            )?;
        }
        self.command(
            message,
            Command::Place {
                user,
                symbol: TAPE_SYMBOL,
                side,
                price,
                quantity,
                matching,
            },
        )?;
        Ok(self.exchange.last_order())
    }

    /// A partial cancel or a delete: the order is cancelled and, if something is to stay, placed again for that.
    fn take_back(&mut self, message: &Message, order: u64, size: u64) -> Result<(), TapeError> {
        let open = self
            .open
            .remove(&order)
            .and_then(|id| self.exchange.open_order(id).copied());
        let Some(open) = open else {
            let reason = if self.placed.contains(&order) {
                NOT_OPEN
            } else {
                NEVER_EXECUTED
            };
            self.skip(message, reason);
            return Ok(());
        };
        let user = open.state.user_id;
        self.command(
            message,
            Command::Cancel {
                user,
                order: open.state.order_id,
            },
        )?;
        if let Some(left) = open.left().0.checked_sub(size).filter(|left| *left > 0) {
            let terms = (user, open.state.side, open.state.price.0, left);
            let id = self.place(message, terms, Matching::Rest)?;
            self.opened(order, id);
        }
        self.replayed(message);
        Ok(())
    }

    /// A run of visible executions at one moment against one side: as one aggressor if that gives exactly these trades,
    /// else the first of them alone. Returns how many messages that was.
    fn executions(&mut self, messages: &[Message]) -> Result<usize, TapeError> {
        let first = messages[0];
        let belongs = |m: &&Message| {
            (m.kind, m.at_ns, m.side) == (MessageKind::Execute, first.at_ns, first.side) && m.order.is_some()
        };
        let run = messages.iter().take_while(belongs).count();
        self.take_back_stale(&messages[..run])?;
        let together = if self.is_sweep(&messages[..run]) { run } else { 1 };
        let messages = &messages[..together];
        if together > 1 || self.is_sweep(messages) {
            let worst = messages.iter().map(|m| m.price);
            let limit = if first.side == Side::Sell {
                worst.max()
            } else {
                worst.min()
            };
            let size = messages.iter().map(|m| m.size).sum();
            let user = self.user();
            let terms = (user, first.side.opposite(), limit.unwrap_or(first.price), size);
            self.place(&first, terms, Matching::Immediate)?;
            self.report.aggressors += 1;
            self.report.by_priority += together as u64;
        } else {
            let maker = self.maker_for(&first)?;
            self.take_from(&first, maker)?;
        }
        self.confirm(messages)?;
        Ok(together)
    }

    /// Takes back what would be matched before these executions although the file executes past it and never names it
    /// again: the file is silent about orders far from the best price, so such an order was taken back there.
    fn take_back_stale(&mut self, messages: &[Message]) -> Result<(), TapeError> {
        let makers: Vec<OrderId> = messages
            .iter()
            .filter_map(|m| self.open.get(&m.order?).copied())
            .collect();
        let (Some(message), Some(last)) = (messages.last(), makers.last()) else {
            return Ok(());
        };
        let side = message.side.opposite();
        let ahead = self
            .exchange
            .preview(TAPE_SYMBOL, side, Price(message.price))
            .take_while(|fill| fill.maker != *last);
        let stale = |order: &OrderId| {
            let named_again = self
                .names
                .get(order)
                .is_some_and(|name| self.last_line[name] >= messages[0].line);
            !named_again && !makers.contains(order)
        };
        let stale: Vec<OrderId> = ahead.map(|fill| fill.maker).filter(stale).collect();
        for id in stale {
            let user = self
                .exchange
                .open_order(id)
                .map_or(UserId(0), |open| open.state.user_id);
            self.command(message, Command::Cancel { user, order: id })?;
            self.report.taken_back_unseen += 1;
            if let Some(order) = self.names.get(&id).copied() {
                self.closed(order);
            }
        }
        Ok(())
    }

    /// Whether price-time priority gives exactly these executions to an aggressor that asks for all of them.
    fn is_sweep(&self, messages: &[Message]) -> bool {
        let Some(first) = messages.first() else { return false };
        let side = first.side.opposite();
        let worst = messages.iter().map(|m| Price(m.price));
        let Some(limit) = (if side == Side::Buy { worst.max() } else { worst.min() }) else {
            return false;
        };
        let mut fills = self.exchange.preview(TAPE_SYMBOL, side, limit);
        messages.iter().enumerate().all(|(at, message)| {
            let maker = message.order.and_then(|order| self.open.get(&order));
            let is_last = at + 1 == messages.len();
            fills.next().is_some_and(
                |Preview {
                     maker: next,
                     price,
                     quantity,
                 }| {
                    let fits = if is_last {
                        message.size <= quantity.0
                    } else {
                        message.size == quantity.0
                    };
                    Some(&next) == maker && price.0 == message.price && fits
                },
            )
        })
    }

    /// The open order that a visible execution names, if it can give what it must; else a hidden one made up for it.
    fn maker_for(&mut self, message: &Message) -> Result<OrderId, TapeError> {
        let named = message.order.and_then(|order| self.open.get(&order)).copied();
        let fits = named.and_then(|id| self.exchange.open_order(id)).is_some_and(|open| {
            (open.state.side, open.state.price.0) == (message.side, message.price) && open.left().0 >= message.size
        });
        match named.filter(|_| fits) {
            Some(id) => Ok(id),
            None => {
                self.report.restated += 1;
                self.hidden_maker(message)
            }
        }
    }

    fn hidden_maker(&mut self, message: &Message) -> Result<OrderId, TapeError> {
        let user = self.user();
        self.place(
            message,
            (user, message.side, message.price, message.size),
            Matching::Hidden,
        )
    }

    /// An aggressor that names its maker.
    fn take_from(&mut self, message: &Message, maker: OrderId) -> Result<(), TapeError> {
        let user = self.user();
        let terms = (user, message.side.opposite(), message.price, message.size);
        self.place(message, terms, Matching::Against(maker))?;
        self.report.aggressors += 1;
        self.report.by_name += 1;
        Ok(())
    }

    fn hidden_execution(&mut self, message: &Message) -> Result<(), TapeError> {
        let maker = self.hidden_maker(message)?;
        self.take_from(message, maker)?;
        self.confirm(std::slice::from_ref(message))
    }

    /// The last command must have made exactly the trades of these messages.
    fn confirm(&mut self, messages: &[Message]) -> Result<(), TapeError> {
        let mut trades = self.bodies.iter().filter_map(|body| match body {
            Body::Trade(trade) => Some((trade.quantity.0, trade.price.0)),
            _ => None,
        });
        let wrong = messages
            .iter()
            .find(|message| trades.next() != Some((message.size, message.price)));
        if let Some(&Message { line, size, price, .. }) = wrong {
            return Err(TapeError::Mismatch { line, size, price });
        }
        if trades.next().is_some() {
            let Message { line, size, price, .. } = messages[messages.len() - 1];
            return Err(TapeError::Mismatch { line, size, price });
        }
        for message in messages {
            let entry = self.type_report(message);
            entry.replayed += 1;
            entry.trades += 1;
            // A filled order is gone from the exchange and from the file.
            if let Some(order) = message.order
                && self
                    .open
                    .get(&order)
                    .is_some_and(|id| self.exchange.open_order(*id).is_none())
            {
                self.closed(order);
            }
        }
        Ok(())
    }
}
