//! What the judge has in hand when it judges: the oracle's books on one side, what was found on the other. Collected by
//! the runner, read by the invariants; plain data, so that an invariant can be tested without a simulation.
use crate::rows::Tables;
use oracle::{Books, Fact};
use settlement_events::{Digest, Registry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a settlement design promises, as far as the judge must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    /// It keeps an append-only ledger whose versions are the engine's.
    pub ledger: bool,
    /// It keeps `settled_events` and `trades_by_user`.
    pub identity: bool,
    /// It refuses events that contradict themselves, and keeps them as dead letters.
    pub dead_letters: bool,
    /// Its checkpoint says what is durable.
    pub durable: bool,
    /// Settling everything again changes nothing.
    pub idempotent: bool,
}

/// One read of one user's `user_balances` during the run: a request that the database answered, whatever was in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRead {
    /// Simulated ms at the reply.
    pub at_ms: u64,
    /// Whose.
    pub user: u64,
    /// Events up to and including this sequence were acknowledged before the read began.
    pub acknowledged_before: u64,
    /// Events up to and including this sequence were durable before the read began.
    pub durable_before: u64,
    /// What it answered, in its order.
    pub rows: Vec<ReadRow>,
}

/// A row of such a read. A column is None if it is null, or nothing that the column can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadRow {
    /// Which asset.
    pub asset: Option<u32>,
    /// The row's version.
    pub version: Option<i64>,
    /// The row's available.
    pub avail: Option<i64>,
    /// The row's frozen.
    pub frozen: Option<i64>,
}

/// A moment at which something claimed durability and the storage was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurabilityBreach {
    /// Simulated ms.
    pub at_ms: u64,
    /// What the checkpoint called durable.
    pub durable: u64,
    /// The first event at or below it that is not on the fsynced storage of a quorum.
    pub output_sequence: u64,
    /// On how many nodes it was on fsynced storage.
    pub on_nodes: usize,
    /// When it was looked at: a checkpoint's arrival, a truncation, a loss of data.
    pub when: String,
}

/// Durability as seen over the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    /// How many (checkpoint, event) pairs were looked at.
    pub looked_at: u64,
    /// What was found missing.
    pub breaches: Vec<DurabilityBreach>,
    /// The checkpoints that nodes would have served at some time: what is durable, and the digests beside it.
    pub checkpoints: BTreeMap<u64, BTreeSet<Vec<u8>>>,
    /// What the engine had published and its own disk did not have, in words.
    pub unlogged: Vec<String>,
    /// Claims that settlement could not make yet, in words.
    pub early: Vec<String>,
}

/// The largest values that a bounded thing reached, with its stated bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// (name, largest value seen, stated bound).
    pub seen: Vec<(String, u64, u64)>,
}

/// What was seen of the batches that left settlement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// All of them, those sent again included.
    pub batches: u64,
    /// What they had of each event, different ones counted: one per event that was always sent whole and alike.
    pub contents: u64,
    /// Frames that nobody could read, in which more may have been.
    pub unread_frames: u64,
    /// Those that the database warned about for their size.
    pub oversized: u64,
    /// Those that were not LOGGED.
    pub not_logged: u64,
    /// Those at a consistency below a quorum, with the level's name.
    pub below_quorum: u64,
    /// Of how many events there was something in the batches while everything was settled again; None: nobody looked.
    pub again: Option<u64>,
}

/// What came of settling everything again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resettled {
    /// Why it did not come to its end, if it did not.
    pub failed: Option<String>,
    /// What is different on a replica, in words.
    pub differences: Vec<String>,
}

/// An operator's decision to have a refused event passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// When it was made, simulated ms.
    pub at_ms: u64,
    /// The reason given.
    pub reason: String,
}

/// How the run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Last sequence that the engine published.
    pub head: u64,
    /// Acknowledged watermark when waiting ended.
    pub acknowledged: u64,
    /// Durable watermark when waiting ended.
    pub durable: u64,
    /// From the last fault (or the last event, whichever came later) to the end of waiting, ms.
    pub waited_ms: u64,
    /// The bound, ms.
    pub bound_ms: u64,
    /// Why settlement stopped, if it stopped by itself and did not come back.
    pub stopped: Option<String>,
    /// Why it stopped earlier, as often as nothing that struck was a reason to.
    pub stops: Vec<String>,
}

/// A value for each event, by its sequence. Sequences run from 1, so that looking one up is counting and not searching:
/// the judge does it several times for every row.
#[derive(Clone, Debug)]
pub struct BySequence<T> {
    near: Vec<Option<T>>,
    /// What would leave a large hole.
    far: BTreeMap<u64, T>,
}

/// The largest hole that is kept as one.
const HOLE_MAX: usize = 4_096;

impl<T> Default for BySequence<T> {
    fn default() -> Self {
        Self {
            near: Vec::new(),
            far: BTreeMap::new(),
        }
    }
}

impl<T> BySequence<T> {
    /// The value of an event.
    pub fn get(&self, sequence: &u64) -> Option<&T> {
        let near = usize::try_from(*sequence)
            .ok()
            .and_then(|at| self.near.get(at)?.as_ref());
        near.or_else(|| self.far.get(sequence))
    }

    /// Sets the value of an event, and returns what it was.
    pub fn insert(&mut self, sequence: u64, value: T) -> Option<T> {
        let len = self.near.len();
        let Some(at) = usize::try_from(sequence).ok().filter(|at| *at <= len + HOLE_MAX) else {
            return self.far.insert(sequence, value);
        };
        if at >= len {
            self.near.resize_with(at + 1, || None);
        }
        let far = self.far.remove(&sequence);
        self.near[at].replace(value).or(far)
    }
}

impl<T> FromIterator<(u64, T)> for BySequence<T> {
    fn from_iter<I: IntoIterator<Item = (u64, T)>>(values: I) -> Self {
        let mut by_sequence = Self::default();
        for (sequence, value) in values {
            by_sequence.insert(sequence, value);
        }
        by_sequence
    }
}

impl<T> std::ops::Index<&u64> for BySequence<T> {
    type Output = T;

    fn index(&self, sequence: &u64) -> &T {
        self.get(sequence).expect("the event has a value")
    }
}

/// Everything the judge knows.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What the design promises.
    pub promises: Promises,
    /// Names and decimals for reports.
    pub registry: Registry,
    /// The facts, in order of sequence, refused events left out.
    pub facts: Vec<(u64, Fact)>,
    /// Digest of every event by sequence, refused ones included.
    pub digests: BySequence<Digest>,
    /// Kind of every event by sequence, as rows name it.
    pub kinds: BySequence<&'static str>,
    /// Time of every event by sequence, ms.
    pub times_ms: BySequence<u64>,
    /// The epoch of the stream.
    pub epoch: u32,
    /// Deposits and withdrawals by sequence: event id.
    pub event_ids: BySequence<u64>,
    /// Matches by sequence: match_seq, and whether the buyer's order rested.
    pub trade_meta: BySequence<(u64, bool)>,
    /// Refused events by sequence, with the reason that must be given.
    pub refused: BTreeMap<u64, String>,
    /// The operator's decisions, by the event that is to be skipped.
    pub decisions: BTreeMap<u64, Decision>,
    /// Where the acknowledged watermark was seen when, simulated ms, ascending.
    pub acknowledged_ms: Vec<(u64, u64)>,
    /// The books as they should be.
    pub books: Books,
    /// What a client reads at the end, on the healed cluster.
    pub found: Tables,
    /// What each replica held before the heal. Replicas that held the same share one copy.
    pub replicas_before_heal: Vec<Arc<Tables>>,
    /// What each replica held of the money after it, and before any read at ALL; other tables may be missing.
    pub replicas_after_heal: Vec<Arc<Tables>>,
    /// What the reader saw during the run.
    pub reads: Vec<BalanceRead>,
    /// When a replica went down, and may have lost what it had not synced, ms.
    pub replica_losses_ms: Vec<u64>,
    /// Checkpoints against fsynced storage.
    pub durability: Durability,
    /// What settling everything again did; None: it was not done.
    pub resettled: Option<Resettled>,
    /// Bounded things.
    pub bounds: Bounds,
    /// What settlement's metrics said that was not so.
    pub untrue_metrics: Vec<String>,
    /// How many trades settlement has told of whose id was used before; None where it was started again, because it
    /// remembers ids only while it runs.
    pub trade_ids_reused: Option<u64>,
    /// The batches that settlement sent; None: nobody looked.
    pub requests: Option<Requests>,
    /// Rows whose timestamps are not what their versions say, in words.
    pub untimely: Vec<String>,
    /// How it ended.
    pub ending: Ending,
}

impl Evidence {
    /// The name of an asset, or its number.
    pub fn asset_name(&self, asset: u32) -> String {
        let known = self.registry.asset(settlement_events::AssetId(asset));
        known.map_or_else(|| format!("asset {asset}"), |a| a.name.clone())
    }

    /// Minor units as people read them: `3.20`, with the asset's decimals, trailing zeros cut to two.
    pub fn amount(&self, asset: u32, minor: i128) -> String {
        let known = self.registry.asset(settlement_events::AssetId(asset));
        format_minor(minor, known.map_or(0, |a| a.decimals.into()))
    }

    /// Users that appear in the facts.
    pub fn users(&self) -> BTreeSet<u64> {
        self.books.accounts.keys().map(|(user, _)| *user).collect()
    }
}

/// What replicas held, each copy once, with the first node that held it: looking at equal replicas finds nothing new.
pub fn distinct(replicas: &[Arc<Tables>]) -> impl Iterator<Item = (usize, &Tables)> {
    let first = |(node, tables): &(usize, &Arc<Tables>)| !replicas[..*node].iter().any(|r| Arc::ptr_eq(r, tables));
    replicas
        .iter()
        .enumerate()
        .filter(first)
        .map(|(node, tables)| (node, &**tables))
}

/// `minor` units with `decimals` decimals; at least two decimals are kept where the asset has them.
pub fn format_minor(minor: i128, decimals: u32) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let unit = 10u128.pow(decimals);
    let (whole, rest) = (minor.unsigned_abs() / unit, minor.unsigned_abs() % unit);
    if decimals == 0 {
        return format!("{sign}{whole}");
    }
    let mut digits = format!("{rest:0width$}", width = decimals as usize);
    while digits.len() > 2 && digits.ends_with('0') {
        digits.pop();
    }
    format!("{sign}{whole}.{digits}")
}

#[cfg(test)]
mod tests {
    use super::{BySequence, HOLE_MAX, format_minor};

    #[test]
    fn a_value_by_sequence_is_found_wherever_it_lies_and_replaced_once() {
        let beyond = 2 * HOLE_MAX as u64;
        let mut values = BySequence::default();
        assert_eq!((values.insert(3, 'a'), values.insert(beyond, 'b')), (None, None));
        assert_eq!(
            (values.get(&3), values.get(&2), values.get(&beyond)),
            (Some(&'a'), None, Some(&'b'))
        );
        // Once what lies before it is there, it is near.
        assert_eq!(values.insert(HOLE_MAX as u64, 'c'), None);
        assert_eq!(values.get(&beyond), Some(&'b'));
        assert_eq!(
            (values.insert(beyond, 'd'), values.insert(3, 'e')),
            (Some('b'), Some('a'))
        );
        assert_eq!(
            (values.get(&3), values.get(&beyond), values.get(&u64::MAX)),
            (Some(&'e'), Some(&'d'), None)
        );
    }

    #[test]
    fn amounts_read_as_people_write_them() {
        assert_eq!(format_minor(320, 2), "3.20");
        assert_eq!(format_minor(-5, 8), "-0.00000005");
        assert_eq!(format_minor(150_000_000, 8), "1.50");
        assert_eq!(format_minor(7, 0), "7");
    }
}
