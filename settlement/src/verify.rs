//! Rule 5: an event is verified before it is settled. First against itself and the registry
//! ([`settlement_events::check`]), then each account change and each order state against its predecessor, where the
//! predecessor is still remembered. A contradiction is a refused event, never a retry.
//!
//! The memory is bounded: what was not touched for long is forgotten, and then only the event itself is checked. What
//! the database holds is not looked at: there is no read before a new event's write.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use indexmap::IndexMap;
use settlement_events::{
    Amount, AssetId, BalanceChange, Digest, Event, OrderId, OrderState, OutputSequence, Price, Quantity, Refusal,
    RefusalCode, Registry, Side, SignedAmount, SymbolId, TradeId, UserId, Version,
};

/// A map that forgets what was not used for long. Two halves: a full young half becomes the old half, and what is
/// still used comes back young. At most `entries_max` entries; no order of iteration is ever used.
#[derive(Debug)]
struct Memory<K, V> {
    young: Half<K, V>,
    old: Half<K, V>,
    half_max: usize,
}

type Half<K, V> = IndexMap<K, V, BuildHasherDefault<IdHasher>>;

/// Hashes ids. The matching engine numbers its users and orders itself, so that nobody chooses ids that collide, and
/// the hash is the same in every run.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // The fractional part of the golden ratio: odd, and neighbours end far from each other.
        self.0 = (self.0.rotate_left(29) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // The table looks at the lowest and the highest bits; the multiplication leaves the lowest poor.
        self.0 ^ (self.0 >> 32)
    }
}

impl<K: Hash + Eq + Copy, V: Copy> Memory<K, V> {
    fn new(entries_max: usize) -> Self {
        Self {
            young: Half::default(),
            old: Half::default(),
            half_max: (entries_max / 2).max(1),
        }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

/// An account after one of its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    version: Version,
    digest: [u8; 8],
    avail: Amount,
    frozen: Amount,
}

/// An order after one of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    state: OrderState,
    digest: [u8; 8],
}

type AccountKey = (UserId, AssetId);

/// Checks events against each other.
#[derive(Debug)]
pub struct Verifier {
    accounts: Memory<AccountKey, Account>,
    orders: Memory<OrderId, Order>,
    /// Which event each trade was in.
    trades: Memory<TradeId, OutputSequence>,
    /// Filled by each check; kept for its memory.
    staged: Vec<(AccountKey, Account)>,
}

impl Verifier {
    /// Remembers so many accounts and as many orders.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self {
            accounts: Memory::new(entries_max),
            orders: Memory::new(entries_max),
            trades: Memory::new(entries_max),
            staged: Vec::new(),
        }
    }

    /// The earlier event, if it is still remembered, that had the trade id of this one (rule 4): both rows stand, because
    /// their key has the sequence too, and a person must hear of it.
    pub fn reused_trade_id(&mut self, event: &Event) -> Option<(TradeId, OutputSequence)> {
        let id = event.trade()?.trade_id;
        let sequence = event.output_sequence;
        let known = self.trades.get(&id).filter(|known| *known != sequence);
        self.trades.put(id, sequence);
        known.map(|known| (id, known))
    }

    /// Checks one event, in the order in which events arrive; remembers its states if nothing contradicts.
    pub fn check(&mut self, event: &Event, digest: &Digest, registry: &Registry) -> Result<(), Refusal> {
        settlement_events::check(event, registry)?;
        let digest = digest.short();
        self.staged.clear();
        for change in event.changes() {
            self.check_change(change, digest)?;
        }
        let traded = event.trade().map_or(Quantity(0), |trade| trade.quantity);
        for order in event.orders() {
            self.check_order(order, traded, digest)?;
        }
        for (key, account) in self.staged.drain(..) {
            if self
                .accounts
                .get(&key)
                .is_none_or(|known| known.version < account.version)
            {
                self.accounts.put(key, account);
            }
        }
        for order in event.orders() {
            if self
                .orders
                .get(&order.order_id)
                .is_none_or(|known| known.state.version < order.version)
            {
                self.orders.put(order.order_id, Order { state: *order, digest });
            }
        }
        Ok(())
    }

    fn check_change(&mut self, change: &BalanceChange, digest: [u8; 8]) -> Result<(), Refusal> {
        let key = (change.user_id, change.asset_id);
        let staged = self
            .staged
            .iter()
            .rev()
            .find(|(other, _)| *other == key)
            .map(|(_, account)| *account);
        if let Some(before) = staged.or_else(|| self.accounts.get(&key)) {
            follows(change, digest, &before)?;
        } else if change.version == Version::FIRST {
            continues(change, Amount::ZERO, Amount::ZERO)?;
        }
        let after = Account {
            version: change.version,
            digest,
            avail: change.avail,
            frozen: change.frozen,
        };
        self.staged.push((key, after));
        Ok(())
    }

    /// An order in an event that trades so much of it, against the latest state that is known of it.
    fn check_order(&self, order: &OrderState, traded: Quantity, digest: [u8; 8]) -> Result<(), Refusal> {
        let Some(before) = self.orders.get(&order.order_id) else {
            return Ok(());
        };
        if order.version == before.state.version && digest != before.digest {
            return Err(contradiction(format!(
                "order {} has two events of version {}",
                order.order_id, order.version
            )));
        }
        let before = before.state;
        if before.version.next() != Some(order.version) {
            return Ok(());
        }
        if terms(order) != terms(&before) {
            return Err(contradiction(format!(
                "order {} is now another one: it was {before:?} and is said to be {order:?}",
                order.order_id
            )));
        }
        if !before.status.may_become(order.status) {
            let detail = format!(
                "order {} went from {} to {}",
                order.order_id, before.status, order.status
            );
            return Err(Refusal::new(RefusalCode::IllegalTransition, detail));
        }
        if before.filled_quantity.checked_add(traded) != Ok(order.filled_quantity) {
            return Err(contradiction(format!(
                "order {} had {} filled, {traded} were traded, and now it has {}",
                order.order_id, before.filled_quantity, order.filled_quantity
            )));
        }
        Ok(())
    }
}

/// What an order is for, as long as it lives.
const fn terms(order: &OrderState) -> (UserId, SymbolId, Side, Price, Quantity) {
    (order.user_id, order.symbol, order.side, order.price, order.quantity)
}

/// A change against the latest one known of its account.
fn follows(change: &BalanceChange, digest: [u8; 8], before: &Account) -> Result<(), Refusal> {
    if before.version.next() == Some(change.version) {
        return continues(change, before.avail, before.frozen);
    }
    // The same event again is what resending is for; another event of the same version is not.
    if before.version == change.version && before.digest != digest {
        return Err(contradiction(format!(
            "account {} asset {} has two events of version {}",
            change.user_id, change.asset_id, change.version
        )));
    }
    // An older version, or one beyond a gap: nothing to compare with.
    Ok(())
}

/// `avail' = avail + delta`, and the same for what is frozen.
fn continues(change: &BalanceChange, avail: Amount, frozen: Amount) -> Result<(), Refusal> {
    let parts = [
        ("avail", avail, change.delta_avail, change.avail),
        ("frozen", frozen, change.delta_frozen, change.frozen),
    ];
    for (part, before, delta, after) in parts {
        if !adds_up(before, delta, after) {
            return Err(contradiction(format!(
                "account {} asset {} version {}: {part} was {before}, changed by {delta}, and is said to be {after}",
                change.user_id, change.asset_id, change.version
            )));
        }
    }
    Ok(())
}

fn adds_up(before: Amount, delta: SignedAmount, after: Amount) -> bool {
    delta.apply(before) == Ok(after)
}

fn contradiction(detail: String) -> Refusal {
    Refusal::new(RefusalCode::Contradiction, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use settlement_events::{Body, Envelope, EventId, samples};

    fn registry() -> Registry {
        Registry::example()
    }

    fn check(subject: &mut Verifier, event: &Event) -> Result<(), Refusal> {
        subject.check(event, &Envelope::seal(event).digest, &registry())
    }

    /// A deposit of `amount` for user 7 in asset 3, as it says.
    fn deposit(sequence: u64, version: u64, amount: i64, avail: u64) -> Event {
        let mut event = samples::stream().swap_remove(0);
        event.output_sequence = OutputSequence(sequence);
        let Body::Deposit { event_id, change } = &mut event.body else {
            unreachable!("the first sample is a deposit")
        };
        *event_id = EventId(sequence);
        change.version = Version(version);
        change.delta_avail = SignedAmount(amount);
        change.avail = Amount(avail);
        event
    }

    #[test]
    fn a_trade_id_used_twice_is_noticed_and_one_that_comes_again_is_not() {
        let mut subject = Verifier::new(100);
        let events = samples::stream();
        let trade = events.iter().find(|event| event.trade().is_some()).expect("a trade");
        for event in events.iter().chain([trade]) {
            assert_eq!(subject.reused_trade_id(event), None, "event {}", event.output_sequence);
        }
        let mut other = trade.clone();
        other.output_sequence = OutputSequence(1_000);
        let id = trade.trade().expect("one").trade_id;
        assert_eq!(subject.reused_trade_id(&other), Some((id, trade.output_sequence)));
    }

    #[test]
    fn the_samples_pass_in_their_order_and_again() {
        let mut subject = Verifier::new(100);
        for round in 0..2 {
            for event in samples::stream() {
                assert_eq!(check(&mut subject, &event), Ok(()), "round {round}, {}", event.kind());
            }
        }
    }

    #[test]
    fn a_balance_that_does_not_continue_is_refused_and_not_remembered() {
        let mut subject = Verifier::new(100);
        assert_eq!(check(&mut subject, &deposit(1, 1, 100, 100)), Ok(()));
        let refusal = check(&mut subject, &deposit(2, 2, 50, 151)).expect_err("151 is not 100 + 50");
        assert_eq!(refusal.code, RefusalCode::Contradiction);
        assert_eq!(
            check(&mut subject, &deposit(3, 2, 50, 150)),
            Ok(()),
            "the refused one left nothing behind"
        );
    }

    #[test]
    fn a_first_version_begins_with_nothing() {
        let refusal = check(&mut Verifier::new(100), &deposit(1, 1, 100, 130)).expect_err("30 came from nowhere");
        assert_eq!(refusal.code, RefusalCode::Contradiction);
    }

    #[test]
    fn two_events_of_one_version_contradict() {
        let mut subject = Verifier::new(100);
        assert_eq!(check(&mut subject, &deposit(1, 4, 100, 500)), Ok(()));
        let refusal = check(&mut subject, &deposit(2, 4, 100, 500)).expect_err("the same version from another event");
        assert!(refusal.detail.contains("two events of version 4"), "{refusal}");
    }

    #[test]
    fn beyond_a_gap_and_before_it_nothing_is_compared() {
        let mut subject = Verifier::new(100);
        assert_eq!(check(&mut subject, &deposit(9, 9, 5, 900)), Ok(()));
        assert_eq!(
            check(&mut subject, &deposit(12, 12, 5, 77)),
            Ok(()),
            "10 and 11 are missing"
        );
        assert_eq!(
            check(&mut subject, &deposit(10, 10, 5, 905)),
            Ok(()),
            "older than what is known"
        );
    }

    #[test]
    fn an_order_stays_what_it_was_placed_as_and_is_filled_by_what_is_traded() {
        // Each event of the samples that moves an order one version on from what is known, with one number of it wrong.
        let mut wrong: Vec<fn(&mut OrderState)> = vec![
            |order| order.user_id.0 += 1,
            |order| order.price.0 += 1,
            |order| order.quantity.0 += 1,
            |order| order.filled_quantity.0 += 1,
            |order| order.symbol.0 += 1,
        ];
        wrong.push(|order| order.side = if order.side == Side::Buy { Side::Sell } else { Side::Buy });
        let (mut subject, mut moved) = (Verifier::new(100), 0);
        for event in samples::stream() {
            let traded = event.trade().map_or(Quantity(0), |trade| trade.quantity);
            for order in event.orders().iter().filter(|order| order.version > Version::FIRST) {
                moved += 1;
                assert_eq!(subject.check_order(order, traded, [0; 8]), Ok(()), "{order:?}");
                for change in &wrong {
                    let mut other = *order;
                    change(&mut other);
                    let refused = subject.check_order(&other, traded, [0; 8]);
                    assert_eq!(
                        refused.map_err(|r| r.code),
                        Err(RefusalCode::Contradiction),
                        "{other:?}"
                    );
                }
            }
            assert_eq!(check(&mut subject, &event), Ok(()));
        }
        assert!(moved >= 3, "{moved} steps of orders");
    }

    #[test]
    fn the_memory_knows_the_latest_of_what_was_put() {
        let mut memory = Memory::new(4);
        for value in 0..9_u32 {
            memory.put(1, value);
            memory.put(100 + value, value);
            assert_eq!(memory.get(&1), Some(value));
        }
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let mut memory = Memory::new(8);
        for key in 0..1_000_u32 {
            memory.put(key, key);
            let kept = memory.get(&0).unwrap_or(0);
            memory.put(0, kept);
            assert!(memory.young.len() + memory.old.len() <= 9);
        }
        assert_eq!(
            (memory.get(&0), memory.get(&999), memory.get(&10)),
            (Some(0), Some(999), None)
        );
    }
}
