//! The rows that an event becomes, one struct per table, and their order within the batch. Everything in them is
//! absolute and comes from the event alone: building them twice gives the same bytes, which is what makes a retry safe.

use std::cmp::Reverse;

use schema::{Generation, RowTimestamp, TimestampError, keys, size};
use scylla::serialize::SerializationError;
use scylla::serialize::batch::{BatchValues, BatchValuesIterator};
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use settlement_events::{
    BalanceChange, Body, Digest, Event, EventKind, OrderState, OutputSequence, Side, SymbolId, Trade, Version,
};

use crate::designs::fees::{FEES_MAX, FeeBytes};
use crate::designs::row::{Bigint, Columns, Int, ShortDigest, Stamp, row};

/// The most account changes one event has: four of a trade, and one for the fee of each side.
pub(crate) const CHANGES_MAX: usize = 6;

row!(
    /// The identity of an event.
    stamped SettledEvent {
        bucket: Bigint,
        output_sequence: Bigint,
        epoch: Int,
        kind: &'static str,
        digest: [u8; 32],
        prev_digest: [u8; 32],
    }
);

row!(
    /// A trade, in its symbol's table.
    stamped SettledTrade {
        trade_id: Bigint,
        output_sequence: Bigint,
        match_seq: Bigint,
        event_time_ms: Bigint,
        buy_order_id: Bigint,
        sell_order_id: Bigint,
        buyer_user_id: Bigint,
        seller_user_id: Bigint,
        base_asset: Int,
        quote_asset: Int,
        price: Bigint,
        quantity: Bigint,
        quote_amount: Bigint,
        buyer_refund: Bigint,
        seller_refund: Bigint,
        buyer_is_maker: bool,
        buyer_base_version: Bigint,
        buyer_quote_version: Bigint,
        seller_base_version: Bigint,
        seller_quote_version: Bigint,
        fees: FeeBytes,
        digest: ShortDigest,
    }
);

row!(
    /// One side of a trade, in its user's history.
    stamped TradeByUser {
        user_id: Bigint,
        day: i32,
        output_sequence: Bigint,
        side: &'static str,
        trade_id: Bigint,
        symbol: Int,
        order_id: Bigint,
        price: Bigint,
        quantity: Bigint,
        quote_amount: Bigint,
        refund: Bigint,
        digest: ShortDigest,
    }
);

row!(
    /// One change of an account.
    stamped LedgerEntry {
        user_id: Bigint,
        asset_id: Int,
        seq: Bigint,
        delta_avail: i64,
        delta_frozen: i64,
        avail: Bigint,
        frozen: Bigint,
        cause: &'static str,
        reference: Bigint,
        output_sequence: Bigint,
        digest: ShortDigest,
    }
);

row!(
    /// An account as it is after its latest change.
    stamped UserBalance {
        user_id: Bigint,
        asset_id: Int,
        version: Bigint,
        avail: Bigint,
        frozen: Bigint,
        digest: ShortDigest,
    }
);

row!(
    /// An order as it is after its latest event.
    stamped OrderRow {
        user_id: Bigint,
        order_id: Bigint,
        version: Bigint,
        symbol: Int,
        side: &'static str,
        price: Bigint,
        quantity: Bigint,
        filled_quantity: Bigint,
        status: &'static str,
        digest: ShortDigest,
    }
);

row!(
    /// A deposit or a withdrawal.
    stamped LedgerEvent {
        user_id: Bigint,
        event_id: Bigint,
        output_sequence: Bigint,
        kind: &'static str,
        asset_id: Int,
        amount: Bigint,
        version: Bigint,
        event_time_ms: Bigint,
        digest: ShortDigest,
    }
);

/// A row of any table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Row {
    /// `settled_trades_<symbol>`
    Trade(SettledTrade),
    /// `trades_by_user`
    TradeByUser(TradeByUser),
    /// `balance_ledger`
    Ledger(LedgerEntry),
    /// `user_balances`
    Balance(UserBalance),
    /// `orders`
    Order(OrderRow),
    /// `ledger_events`
    LedgerEvent(LedgerEvent),
    /// `settled_events`
    Event(SettledEvent),
}

impl Row {
    fn serialize(&self, ctx: &RowSerializationContext<'_>, writer: &mut RowWriter) -> Result<(), SerializationError> {
        match self {
            Self::Trade(row) => row.serialize(ctx, writer),
            Self::TradeByUser(row) => row.serialize(ctx, writer),
            Self::Ledger(row) => row.serialize(ctx, writer),
            Self::Balance(row) => row.serialize(ctx, writer),
            Self::Order(row) => row.serialize(ctx, writer),
            Self::LedgerEvent(row) => row.serialize(ctx, writer),
            Self::Event(row) => row.serialize(ctx, writer),
        }
    }
}

/// A table, as a statement of a batch refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// `settled_trades_<symbol>`
    Trades(SymbolId),
    /// `trades_by_user`
    TradesByUser,
    /// `balance_ledger`
    Ledger,
    /// `user_balances`
    Balances,
    /// `orders`
    Orders,
    /// `ledger_events`
    LedgerEvents,
    /// `settled_events`
    Events,
}

/// What decides which statements a batch has: events of one shape share one prepared batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    trade: Option<SymbolId>,
    has_ledger_event: bool,
    changes: usize,
    accounts: usize,
    orders: usize,
}

impl Shape {
    /// How many statements a batch of this shape has.
    pub(crate) const fn statements(self) -> usize {
        let of_trade = if self.trade.is_some() { 3 } else { 0 };
        of_trade + self.changes + self.accounts + self.orders + self.has_ledger_event as usize + 1
    }

    /// What the rows of such an event weigh at most, by the database's count. Every column is taken for a cell of eight
    /// bytes, and what is longer comes on top; a key's values weigh less than that.
    pub(crate) const fn weight_bytes(self) -> usize {
        let mut bytes = weight::<SettledEvent>(TEXT_MAX + 2 * DIGEST_BYTES);
        if self.trade.is_some() {
            bytes += weight::<SettledTrade>(FeeBytes::MAX) + 2 * weight::<TradeByUser>(TEXT_MAX);
        }
        bytes += self.changes * weight::<LedgerEntry>(TEXT_MAX);
        bytes += self.accounts * weight::<UserBalance>(0);
        bytes += self.orders * weight::<OrderRow>(2 * TEXT_MAX);
        bytes
            + if self.has_ledger_event {
                weight::<LedgerEvent>(TEXT_MAX)
            } else {
                0
            }
    }

    /// The table of the n-th statement of such an event. The first one of a batch decides which replica is asked: the trade
    /// or the account, so that the load spreads; `settled_events` is one partition for thousands of events.
    pub(crate) const fn table(self, statement: usize) -> Table {
        let mut at = statement;
        if let Some(symbol) = self.trade {
            match at {
                0 => return Table::Trades(symbol),
                1 | 2 => return Table::TradesByUser,
                _ => at -= 3,
            }
        }
        if at < self.changes {
            return Table::Ledger;
        }
        at -= self.changes;
        if at < self.accounts {
            return Table::Balances;
        }
        at -= self.accounts;
        if at < self.orders {
            return Table::Orders;
        }
        if at == self.orders && self.has_ledger_event {
            return Table::LedgerEvents;
        }
        Table::Events
    }

    /// The tables of such an event, statement by statement.
    pub(crate) fn tables(self) -> impl Iterator<Item = Table> {
        (0..self.statements()).map(move |statement| self.table(statement))
    }
}

/// The longest of the words in `kind`, `cause`, `side` and `status` columns.
const TEXT_MAX: usize = 16;

/// A whole digest.
const DIGEST_BYTES: usize = 32;

/// What a row in a partition of its own weighs, with so many bytes beyond eight per column.
const fn weight<R: Columns>(longer: usize) -> usize {
    size::PARTITION_BYTES + size::ROW_BYTES + R::COLUMNS.len() * (size::CELL_BYTES + 8) + longer
}

/// Why an event has no rows. Verification refuses such events before they come here, so this is a defect of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRows {
    /// A version or sequence that no timestamp holds.
    #[error(transparent)]
    Timestamp(#[from] TimestampError),
    /// More changes than an event can have.
    #[error("{0} account changes: at most {CHANGES_MAX}")]
    Changes(usize),
    /// A trade without its four changes.
    #[error("a trade with {0} account changes: at least 4")]
    TradeChanges(usize),
    /// More fees than a trade can have.
    #[error("{0} fees: at most {FEES_MAX}")]
    Fees(usize),
    /// A time so late that no day number holds it.
    #[error("the event's time lies beyond what a day number holds")]
    Day,
    /// An epoch start is not settled.
    #[error("an epoch start has no rows")]
    EpochStart,
}

/// An event on its way to the database: what [`Row`]s are made of, one at a time, whenever the driver asks.
#[derive(Debug)]
pub(crate) struct EventRows<'e> {
    event: &'e Event,
    digest: &'e Digest,
    short: ShortDigest,
    generation: Generation,
    sequence_stamp: Stamp,
    day: i32,
    reference: u64,
    /// The places, among the changes, of the last change of each account.
    latest: [u8; CHANGES_MAX],
    shape: Shape,
}

impl<'e> EventRows<'e> {
    /// Checks everything that could keep a row from being made.
    pub(crate) fn new(event: &'e Event, digest: &'e Digest, generation: Generation) -> Result<Self, NoRows> {
        let changes = event.changes();
        if changes.len() > CHANGES_MAX {
            return Err(NoRows::Changes(changes.len()));
        }
        for change in changes {
            RowTimestamp::of_version(change.version, generation)?;
        }
        for order in event.orders() {
            RowTimestamp::of_version(order.version, generation)?;
        }
        let (latest, accounts) = latest_changes(changes);
        let trade = event.trade();
        if let Some(trade) = trade {
            if trade.fees.len() > FEES_MAX {
                return Err(NoRows::Fees(trade.fees.len()));
            }
            if trade.changes.len() < 4 {
                return Err(NoRows::TradeChanges(trade.changes.len()));
            }
        }
        let shape = Shape {
            trade: trade.map(|trade| trade.symbol),
            has_ledger_event: matches!(event.kind(), EventKind::Deposit | EventKind::Withdrawal),
            changes: changes.len(),
            accounts,
            orders: event.orders().len(),
        };
        Ok(Self {
            event,
            digest,
            short: digest.short(),
            generation,
            sequence_stamp: Stamp(RowTimestamp::of_sequence(event.output_sequence, generation)?),
            day: keys::day(event.event_time_ms).ok_or(NoRows::Day)?,
            reference: reference(&event.body)?,
            latest,
            shape,
        })
    }

    /// What decides the statements.
    pub(crate) const fn shape(&self) -> Shape {
        self.shape
    }

    /// The row of the n-th statement of [`Shape::tables`].
    pub(crate) fn at(&self, statement: usize) -> Option<Row> {
        let mut at = statement;
        if let Some(trade) = self.event.trade() {
            match at {
                0 => return Some(Row::Trade(self.settled_trade(trade))),
                1 => return Some(Row::TradeByUser(self.trade_by_user(trade, Side::Buy))),
                2 => return Some(Row::TradeByUser(self.trade_by_user(trade, Side::Sell))),
                _ => at -= 3,
            }
        }
        let changes = self.event.changes();
        if at < self.shape.changes {
            return Some(Row::Ledger(self.ledger_entry(at, &changes[at])));
        }
        at -= self.shape.changes;
        if at < self.shape.accounts {
            return Some(Row::Balance(self.balance(&changes[usize::from(self.latest[at])])));
        }
        at -= self.shape.accounts;
        let orders = self.event.orders();
        if at < orders.len() {
            return Some(Row::Order(self.order(&orders[at])));
        }
        at -= orders.len();
        match (self.ledger_event(), at) {
            (Some(row), 0) => Some(Row::LedgerEvent(row)),
            (Some(_), 1) | (None, 0) => Some(Row::Event(self.settled_event())),
            _ => None,
        }
    }

    /// The timestamp of a row that describes this version: rule 1.
    fn stamp(&self, version: Version) -> Stamp {
        // Checked for every version when this was made.
        RowTimestamp::of_version(version, self.generation).map_or(self.sequence_stamp, Stamp)
    }

    fn sequence(&self) -> OutputSequence {
        self.event.output_sequence
    }

    fn settled_event(&self) -> SettledEvent {
        SettledEvent {
            bucket: Bigint(keys::bucket(self.sequence())),
            output_sequence: self.sequence().into(),
            epoch: Int(self.event.epoch.0),
            kind: self.event.kind().as_str(),
            digest: self.digest.0,
            prev_digest: self.event.prev_digest.0,
            timestamp: self.sequence_stamp,
        }
    }

    fn settled_trade(&self, trade: &Trade) -> SettledTrade {
        let version = |place: usize| Bigint::from(trade.changes[place].version);
        SettledTrade {
            trade_id: trade.trade_id.into(),
            output_sequence: self.sequence().into(),
            match_seq: trade.match_seq.into(),
            event_time_ms: self.event.event_time_ms.into(),
            buy_order_id: trade.buy_order_id.into(),
            sell_order_id: trade.sell_order_id.into(),
            buyer_user_id: trade.buyer_user_id.into(),
            seller_user_id: trade.seller_user_id.into(),
            base_asset: trade.base_asset.into(),
            quote_asset: trade.quote_asset.into(),
            price: trade.price.into(),
            quantity: trade.quantity.into(),
            quote_amount: trade.quote_amount.into(),
            buyer_refund: trade.buyer_refund.into(),
            seller_refund: trade.seller_refund.into(),
            buyer_is_maker: trade.buyer_is_maker,
            buyer_base_version: version(0),
            buyer_quote_version: version(1),
            seller_base_version: version(2),
            seller_quote_version: version(3),
            fees: FeeBytes::of(&trade.fees),
            digest: self.short,
            timestamp: self.sequence_stamp,
        }
    }

    fn trade_by_user(&self, trade: &Trade, side: Side) -> TradeByUser {
        let (user, order, refund) = match side {
            Side::Buy => (trade.buyer_user_id, trade.buy_order_id, trade.buyer_refund),
            Side::Sell => (trade.seller_user_id, trade.sell_order_id, trade.seller_refund),
        };
        TradeByUser {
            user_id: user.into(),
            day: self.day,
            output_sequence: self.sequence().into(),
            side: side.as_str(),
            trade_id: trade.trade_id.into(),
            symbol: trade.symbol.into(),
            order_id: order.into(),
            price: trade.price.into(),
            quantity: trade.quantity.into(),
            quote_amount: trade.quote_amount.into(),
            refund: refund.into(),
            digest: self.short,
            timestamp: self.sequence_stamp,
        }
    }

    fn ledger_entry(&self, place: usize, change: &BalanceChange) -> LedgerEntry {
        // The first four changes of a trade are its own; what follows are the fee accounts' credits.
        let is_fee = self.shape.trade.is_some() && place >= 4;
        LedgerEntry {
            user_id: change.user_id.into(),
            asset_id: change.asset_id.into(),
            seq: change.version.into(),
            delta_avail: change.delta_avail.0,
            delta_frozen: change.delta_frozen.0,
            avail: change.avail.into(),
            frozen: change.frozen.into(),
            cause: if is_fee { "fee" } else { self.event.kind().as_str() },
            reference: Bigint(self.reference),
            output_sequence: self.sequence().into(),
            digest: self.short,
            timestamp: self.stamp(change.version),
        }
    }

    fn balance(&self, change: &BalanceChange) -> UserBalance {
        UserBalance {
            user_id: change.user_id.into(),
            asset_id: change.asset_id.into(),
            version: change.version.into(),
            avail: change.avail.into(),
            frozen: change.frozen.into(),
            digest: self.short,
            timestamp: self.stamp(change.version),
        }
    }

    fn order(&self, order: &OrderState) -> OrderRow {
        OrderRow {
            user_id: order.user_id.into(),
            order_id: order.order_id.into(),
            version: order.version.into(),
            symbol: order.symbol.into(),
            side: order.side.as_str(),
            price: order.price.into(),
            quantity: order.quantity.into(),
            filled_quantity: order.filled_quantity.into(),
            status: order.status.as_str(),
            digest: self.short,
            timestamp: self.stamp(order.version),
        }
    }

    fn ledger_event(&self) -> Option<LedgerEvent> {
        let (Body::Deposit { event_id, change } | Body::Withdrawal { event_id, change }) = &self.event.body else {
            return None;
        };
        Some(LedgerEvent {
            user_id: change.user_id.into(),
            event_id: (*event_id).into(),
            output_sequence: self.sequence().into(),
            kind: self.event.kind().as_str(),
            asset_id: change.asset_id.into(),
            amount: Bigint(change.delta_avail.0.unsigned_abs()),
            version: change.version.into(),
            event_time_ms: self.event.event_time_ms.into(),
            digest: self.short,
            timestamp: self.sequence_stamp,
        })
    }
}

/// What a ledger entry refers to: the trade, the order or the transfer.
fn reference(body: &Body) -> Result<u64, NoRows> {
    match body {
        Body::Deposit { event_id, .. } | Body::Withdrawal { event_id, .. } => Ok(event_id.0),
        Body::OrderPlaced { order, .. } | Body::OrderCancelled { order, .. } => Ok(order.order_id.0),
        Body::Trade(trade) => Ok(trade.trade_id.0),
        Body::EpochStart { .. } => Err(NoRows::EpochStart),
    }
}

/// The places of the last change of each account, in the order of the changes, and how many there are. An account
/// that appears twice in one event (a trade with oneself) has one current state, not two.
fn latest_changes(changes: &[BalanceChange]) -> ([u8; CHANGES_MAX], usize) {
    let mut latest = [0; CHANGES_MAX];
    let mut count = 0;
    for (place, change) in changes.iter().enumerate() {
        let account = |other: &BalanceChange| (other.user_id, other.asset_id);
        let is_last = changes[place + 1..]
            .iter()
            .all(|later| account(later) != account(change));
        if is_last {
            latest[count] = place as u8;
            count += 1;
        }
    }
    (latest, count)
}

/// The events of one batch, one after the other.
#[derive(Debug)]
pub(crate) struct GroupRows<'g> {
    events: Vec<EventRows<'g>>,
}

impl<'g> GroupRows<'g> {
    /// Of at least one event. Those of one shape come together, trades first, so that one batch's statements are mostly
    /// those of the one before; nothing depends on their order.
    pub(crate) fn new(mut events: Vec<EventRows<'g>>) -> Self {
        events.sort_by_key(|event| Reverse(event.shape));
        Self { events }
    }

    /// What decides the statements, event by event.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.events.iter().map(EventRows::shape)
    }

    /// The first event.
    pub(crate) fn first_sequence(&self) -> OutputSequence {
        self.events.first().map(EventRows::sequence).unwrap_or_default()
    }
}

impl BatchValues for GroupRows<'_> {
    type BatchValuesIter<'r>
        = RowIter<'r>
    where
        Self: 'r;

    fn batch_values_iter(&self) -> RowIter<'_> {
        RowIter {
            events: &self.events,
            next: 0,
        }
    }
}

/// Makes the rows one after the other.
pub(crate) struct RowIter<'r> {
    /// From the event whose turn it is.
    events: &'r [EventRows<'r>],
    /// Its next statement.
    next: usize,
}

impl<'r> RowIter<'r> {
    /// The event whose turn it is, and its next statement; moves past both.
    fn step(&mut self) -> Option<(&'r EventRows<'r>, usize)> {
        let event = self.events.first()?;
        let at = self.next;
        self.next += 1;
        if self.next == event.shape.statements() {
            self.events = &self.events[1..];
            self.next = 0;
        }
        Some((event, at))
    }
}

impl<'r> BatchValuesIterator<'r> for RowIter<'r> {
    fn serialize_next(
        &mut self,
        ctx: &RowSerializationContext<'_>,
        writer: &mut RowWriter,
    ) -> Option<Result<(), SerializationError>> {
        let (event, at) = self.step()?;
        Some(event.at(at)?.serialize(ctx, writer))
    }

    fn is_empty_next(&mut self) -> Option<bool> {
        self.skip_next().map(|()| false)
    }

    fn skip_next(&mut self) -> Option<()> {
        self.step().map(|_| ())
    }

    fn count(self) -> usize {
        self.events.iter().map(|event| event.shape.statements()).sum::<usize>() - self.next
    }
}
