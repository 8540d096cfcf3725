//! A ledger that believes nothing: it follows a stream event by event and stops at the first that does not continue what
//! came before. It shares no arithmetic with the engine.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use engine::contradiction::{FIRST_USER, UNREADABLE};
use settlement_events::{
    AssetId, Body, Digest, Envelope, Event, EventKind, OrderId, OrderState, OrderStatus, RefusalCode, Registry, Side,
    UserId, check,
};

#[derive(Default)]
struct Held {
    version: u64,
    avail: i128,
    frozen: i128,
}

struct Known {
    state: OrderState,
    /// What it locked minus what it spent.
    locked: i128,
}

/// Everything a stream said so far.
#[derive(Default)]
pub struct Follower {
    sequence: u64,
    digest: Digest,
    time_ms: u64,
    accounts: BTreeMap<(UserId, AssetId), Held>,
    orders: BTreeMap<OrderId, Known>,
    supply: BTreeMap<AssetId, i128>,
    matches: BTreeMap<u32, u64>,
    trades: u64,
    pub kinds: BTreeMap<EventKind, u64>,
    pub self_trades: u64,
    pub refunds: u64,
    pub partial_fills: u64,
    pub fees: u64,
    pub rounded: u64,
    pub trades_by_user: BTreeMap<UserId, u64>,
    pub trades_by_symbol: BTreeMap<u32, u64>,
    pub largest_event_bytes: usize,
}

impl Follower {
    /// Follows a whole stream; contradictions must be refused with their code and change nothing.
    pub fn follow(stream: &[(Envelope, Option<&str>)], registry: &Registry) -> Self {
        let mut follower = Self::default();
        for (envelope, contradictory) in stream {
            follower.event(envelope, *contradictory, registry);
        }
        follower.conserves();
        follower
    }

    fn event(&mut self, envelope: &Envelope, contradictory: Option<&str>, registry: &Registry) {
        if contradictory == Some(UNREADABLE) {
            let error = envelope.open().expect_err("nobody can read it");
            assert!(!error.is_damage(), "and its digest is right: {error}");
            self.sequence += 1;
            self.digest = envelope.digest;
            return;
        }
        let event = envelope.open().expect("the engine seals what can be opened");
        assert_eq!(event.output_sequence.0, self.sequence + 1, "sequences are contiguous");
        assert_eq!(
            event.prev_digest, self.digest,
            "the chain holds at {}",
            event.output_sequence
        );
        assert!(
            event.event_time_ms.0 >= self.time_ms,
            "time does not go back at {}",
            event.output_sequence
        );
        self.sequence += 1;
        self.digest = envelope.digest;
        self.time_ms = event.event_time_ms.0;
        self.largest_event_bytes = self.largest_event_bytes.max(envelope.bytes.len());
        let refusal = check(&event, registry).err();
        let code = refusal.as_ref().map(|refusal| refusal.code);
        let code = code.or_else(|| (!self.continues(&event)).then_some(RefusalCode::Contradiction));
        let code = code.or_else(|| self.refused_step(&event));
        assert_eq!(
            code.map(RefusalCode::as_str),
            contradictory,
            "event {}: {refusal:?}",
            event.output_sequence
        );
        if contradictory.is_none() {
            *self.kinds.entry(event.kind()).or_default() += 1;
            self.changes(&event);
            self.body(&event, registry);
        }
    }

    /// Whether each change continues the one before it of the same account.
    fn continues(&self, event: &Event) -> bool {
        let mut after: BTreeMap<_, (u64, i128, i128)> = BTreeMap::new();
        event.changes().iter().all(|change| {
            let key = (change.user_id, change.asset_id);
            let held = self.accounts.get(&key);
            let known = held.map_or((0, 0, 0), |held| (held.version, held.avail, held.frozen));
            let (version, avail, frozen) = after.get(&key).copied().unwrap_or(known);
            let next = (
                version + 1,
                avail + i128::from(change.delta_avail.0),
                frozen + i128::from(change.delta_frozen.0),
            );
            after.insert(key, next);
            next == (change.version.0, change.avail.0.into(), change.frozen.0.into())
        })
    }

    /// Why an order cannot have taken this step, if it cannot.
    fn refused_step(&self, event: &Event) -> Option<RefusalCode> {
        event.orders().iter().find_map(|order| {
            let known = self.orders.get(&order.order_id)?.state;
            let traded = event.trade().map_or(0, |trade| trade.quantity.0);
            let goes_on = order.version > known.version
                && order.quantity == known.quantity
                && order.filled_quantity.0 == known.filled_quantity.0 + traded;
            // A cancelled order may say what it likes of its fills: that it was cancelled comes first.
            if !goes_on && (order.version <= known.version || known.status.may_become(order.status)) {
                return Some(RefusalCode::Contradiction);
            }
            (!known.status.may_become(order.status)).then_some(RefusalCode::IllegalTransition)
        })
    }

    fn changes(&mut self, event: &Event) {
        for change in event.changes() {
            let held = self.accounts.entry((change.user_id, change.asset_id)).or_default();
            held.version += 1;
            held.avail += i128::from(change.delta_avail.0);
            held.frozen += i128::from(change.delta_frozen.0);
            let said = (
                change.version.0,
                i128::from(change.avail.0),
                i128::from(change.frozen.0),
            );
            assert_eq!(
                said,
                (held.version, held.avail, held.frozen),
                "event {}: {change:?}",
                event.output_sequence
            );
            assert!(held.avail >= 0 && held.frozen >= 0);
        }
    }

    fn body(&mut self, event: &Event, registry: &Registry) {
        match &event.body {
            Body::Deposit { change, .. } | Body::Withdrawal { change, .. } => {
                *self.supply.entry(change.asset_id).or_default() += i128::from(change.delta_avail.0);
            }
            Body::OrderPlaced { change, order } => {
                let locked = i128::from(change.delta_frozen.0);
                let earlier = self.orders.insert(order.order_id, Known { state: *order, locked });
                assert!(earlier.is_none(), "order {} is new", order.order_id);
            }
            Body::OrderCancelled { change, order } => {
                let locked = self.order_step(order, 0);
                assert_eq!(
                    locked,
                    i128::from(change.delta_avail.0),
                    "order {} gets back what is left",
                    order.order_id
                );
            }
            Body::Trade(trade) => {
                // What is made up beside the matching has ids of its own, one of them twice.
                if trade.buyer_user_id < FIRST_USER {
                    self.trades += 1;
                    assert_eq!(trade.trade_id.0, self.trades);
                    let matches = self.matches.entry(trade.symbol.0).or_default();
                    *matches += 1;
                    assert_eq!(trade.match_seq.0, *matches);
                }
                let [buy, sell] = &trade.orders;
                let unspent = self.order_step(buy, i128::from(trade.quote_amount.0));
                let filled = buy.status == OrderStatus::Filled;
                let refund = i128::from(trade.buyer_refund.0);
                assert_eq!(
                    refund,
                    if filled { unspent } else { 0 },
                    "refund of order {}",
                    buy.order_id
                );
                let unsold = self.order_step(sell, i128::from(trade.quantity.0));
                assert_eq!(unsold, i128::from(sell.quantity.0 - sell.filled_quantity.0));
                self.count(trade, registry);
            }
            Body::EpochStart { .. } => panic!("the engine starts no epochs"),
        }
    }

    fn count(&mut self, trade: &settlement_events::Trade, registry: &Registry) {
        self.self_trades += u64::from(trade.buyer_user_id == trade.seller_user_id);
        self.refunds += u64::from(!trade.buyer_refund.is_zero());
        self.partial_fills += u64::from(trade.orders.iter().any(|order| order.status == OrderStatus::Partial));
        self.fees += trade.fees.len() as u64;
        let scale = 10_u128.pow(u32::from(registry.asset(trade.base_asset).expect("known").decimals));
        self.rounded += u64::from(u128::from(trade.price.0) * u128::from(trade.quantity.0) % scale != 0);
        *self.trades_by_symbol.entry(trade.symbol.0).or_default() += 1;
        for user in [trade.buyer_user_id, trade.seller_user_id] {
            *self.trades_by_user.entry(user).or_default() += 1;
        }
    }

    /// One legal step of an order; returns what is left of its lock.
    fn order_step(&mut self, next: &OrderState, spent: i128) -> i128 {
        let known = self.orders.get_mut(&next.order_id).expect("placed before");
        let before = known.state;
        assert_eq!(next.version.0, before.version.0 + 1, "order {}", next.order_id);
        assert!(
            before.status.may_become(next.status),
            "{} -> {}",
            before.status,
            next.status
        );
        assert!(next.filled_quantity >= before.filled_quantity);
        let same = |o: &OrderState| (o.user_id, o.symbol, o.side == Side::Buy, o.price, o.quantity);
        assert_eq!(same(&before), same(next), "what an order is does not change");
        known.locked -= spent;
        known.state = *next;
        assert!(known.locked >= 0, "order {} spends more than it locked", next.order_id);
        known.locked
    }

    /// Nothing appeared or vanished; what is frozen is what open orders have locked.
    fn conserves(&self) {
        let mut held: BTreeMap<AssetId, i128> = BTreeMap::new();
        let mut frozen = 0;
        for (&(_, asset), account) in &self.accounts {
            *held.entry(asset).or_default() += account.avail + account.frozen;
            frozen += account.frozen;
        }
        held.retain(|_, sum| *sum != 0);
        let supply: BTreeMap<AssetId, i128> = self
            .supply
            .iter()
            .map(|(a, s)| (*a, *s))
            .filter(|(_, s)| *s != 0)
            .collect();
        assert_eq!(held, supply, "deposits minus withdrawals are all that anybody has");
        let open = |known: &&Known| matches!(known.state.status, OrderStatus::Placed | OrderStatus::Partial);
        let locked: i128 = self.orders.values().filter(open).map(|known| known.locked).sum();
        assert_eq!(frozen, locked, "what is frozen is what open orders have locked");
    }

    /// How many trades there were.
    pub fn trades(&self) -> u64 {
        self.trades
    }

    /// The events by kind, for a report.
    pub fn mix(&self) -> String {
        self.kinds
            .iter()
            .map(|(kind, count)| format!("{kind}: {count}\n"))
            .collect()
    }
}
