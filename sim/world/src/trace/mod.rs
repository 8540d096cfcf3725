//! The one typed trace of a run: it feeds the hash, the timeline, the coverage marks and the reports.
//!
//! - [`record`]: what is recorded, as plain data.
//! - [`hash`]: the fast wide hash over everything, kept or not.
//! - here: [`Trace`], the handle through which everything is recorded.
//!
//! Two kinds of events. *Kept* ones are few and become a [`Record`] with simulated time and an ordinal. *High-rate* ones
//! (deliveries, disk operations, draws) only enter the hash, unless the run records all. Both take an ordinal and both
//! are hashed the same way, so that a run that records all has the hash of one that does not. No wall time anywhere.

mod hash;
mod record;

pub use hash::Fold;
pub use record::{
    Class, ClusterRecord, CqlOp, CqlRecord, DiskOpKind, FaultRecord, FaultStage, HostChange, HostId, Kind, Level,
    Record, WriteKind,
};

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Codes of the world's own high-rate events. Other crates number theirs from [`FIRST_FREE_CODE`].
pub(crate) mod code {
    pub const DRAW: u32 = 1;
    #[cfg(madsim)]
    pub const DELIVERY: u32 = 2;
    #[cfg(madsim)]
    pub const DISK: u32 = 3;
    #[cfg(madsim)]
    pub const SOCKET: u32 = 4;
    pub const KEPT: u32 = 15;
}

/// The first code of [`Trace::emit_fast`] that the world does not use itself.
pub const FIRST_FREE_CODE: u32 = 16;

/// Where the trace reads the simulated time, in nanoseconds since the run began.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A handle to the trace of one run. Clones record into the same trace.
#[derive(Clone)]
pub struct Trace {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    record_all: bool,
    // One thread writes. Atomics make the type Sync; plain load and store avoid a locked instruction per event.
    ordinal: AtomicU64,
    hash: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: Vec<Record>,
    marks: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// An empty trace. `record_all` keeps high-rate events as records too.
    pub fn new(clock: Clock, record_all: bool) -> Self {
        let inner = Inner {
            clock,
            record_all,
            ordinal: AtomicU64::new(0),
            hash: AtomicU64::new(Fold::START),
            kept: Mutex::default(),
        };
        Trace { inner: Arc::new(inner) }
    }

    /// Records an event of a kept kind now.
    pub fn emit(&self, host: Option<HostId>, kind: Kind) {
        let at_ns = (self.inner.clock)();
        let mut fold = Fold::resume(self.inner.hash.load(Relaxed));
        fold.add(code::KEPT.into(), at_ns);
        host.hash(&mut fold);
        kind.hash(&mut fold);
        self.inner.hash.store(fold.value(), Relaxed);
        let ordinal = self.next_ordinal();
        self.keep(Record {
            at_ns,
            ordinal,
            host,
            kind,
        });
    }

    /// Keeps a record that is no event of the run but tells about it: it takes no ordinal of its own (it has that of the
    /// next event) and is not hashed, so that a run that is told has the hash of one that is not.
    pub fn annotate(&self, host: Option<HostId>, kind: Kind) {
        let at_ns = (self.inner.clock)();
        self.keep(Record {
            at_ns,
            ordinal: self.events(),
            host,
            kind,
        });
    }

    /// Folds a high-rate event into the hash and nothing else: `code` from [`FIRST_FREE_CODE`] on.
    #[inline]
    pub fn emit_fast(&self, code: u32, a: u64, b: u64) {
        self.fold(code, a, b);
        self.next_ordinal();
    }

    /// A high-rate event that becomes a record where the run records all. `(code, a, b)` is what the hash sees, in
    /// either case; `kind` is called only when the record is kept.
    #[inline]
    pub fn emit_rated(&self, code: u32, a: u64, b: u64, host: Option<HostId>, kind: impl FnOnce() -> Kind) {
        self.fold(code, a, b);
        let ordinal = self.next_ordinal();
        if self.inner.record_all {
            let at_ns = (self.inner.clock)();
            self.keep(Record {
                at_ns,
                ordinal,
                host,
                kind: kind(),
            });
        }
    }

    /// As [`Trace::emit_rated`], inside a timer callback, where the clock still shows the time before.
    #[cfg(madsim)]
    #[inline]
    pub(crate) fn emit_rated_at(
        &self,
        at_ns: u64,
        (code, a, b): (u32, u64, u64),
        host: HostId,
        kind: impl FnOnce() -> Kind,
    ) {
        self.fold(code, a, b);
        let ordinal = self.next_ordinal();
        if self.inner.record_all {
            self.keep(Record {
                at_ns,
                ordinal,
                host: Some(host),
                kind: kind(),
            });
        }
    }

    /// Whether high-rate events are kept as records.
    pub fn records_all(&self) -> bool {
        self.inner.record_all
    }

    /// Counts that the run came past a point that coverage asks for. Marks are not part of the hash.
    pub fn mark(&self, name: &'static str) {
        *self.kept().marks.entry(name).or_default() += 1;
    }

    /// How often each mark was passed, by name.
    pub fn marks(&self) -> BTreeMap<String, u64> {
        self.kept()
            .marks
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    /// A copy of the records so far.
    pub fn records(&self) -> Vec<Record> {
        self.kept().records.clone()
    }

    /// Looks at the records without copying them. The trace must not be used inside `f`.
    pub fn with_records<R>(&self, f: impl FnOnce(&[Record]) -> R) -> R {
        f(&self.kept().records)
    }

    /// Takes the records out; ordinals and hash go on.
    pub fn take_records(&self) -> Vec<Record> {
        std::mem::take(&mut self.kept().records)
    }

    /// The hash over everything so far, kept or not.
    pub fn hash(&self) -> u64 {
        self.inner.hash.load(Relaxed)
    }

    /// How many events there were, kept or not.
    pub fn events(&self) -> u64 {
        self.inner.ordinal.load(Relaxed)
    }

    /// A draw from the stream with this number.
    #[inline]
    pub(crate) fn draw(&self, stream: u32, value: u64) {
        self.emit_rated(code::DRAW, stream.into(), value, None, || Kind::Draw { stream, value });
    }

    #[inline]
    fn fold(&self, code: u32, a: u64, b: u64) {
        let mut fold = Fold::resume(self.inner.hash.load(Relaxed));
        fold.add(u64::from(code) ^ a.rotate_left(32), b);
        self.inner.hash.store(fold.value(), Relaxed);
    }

    #[inline]
    fn next_ordinal(&self) -> u64 {
        let ordinal = self.inner.ordinal.load(Relaxed);
        self.inner.ordinal.store(ordinal + 1, Relaxed);
        ordinal
    }

    fn keep(&self, record: Record) {
        self.kept().records.push(record);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("events", &self.events())
            .field("hash", &self.hash())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Kind {
        Kind::Note { text: text.to_owned() }
    }

    fn run(record_all: bool, draw: bool) -> Trace {
        let trace = Trace::new(Arc::new(|| 7), record_all);
        trace.emit(Some(HostId(1)), note("a"));
        trace.emit_fast(FIRST_FREE_CODE, 1, 2);
        if draw {
            trace.draw(3, 4);
        }
        trace.emit_rated(code::DRAW, 1, 2, None, || note("rare"));
        trace.emit(None, note("b"));
        trace
    }

    #[test]
    fn the_hash_does_not_depend_on_what_is_kept() {
        let (lean, full) = (run(false, true), run(true, true));
        assert_eq!((lean.hash(), lean.events()), (full.hash(), full.events()));
        let ordinals = |t: &Trace| t.records().iter().map(|r| r.ordinal).collect::<Vec<_>>();
        assert_eq!((ordinals(&lean), ordinals(&full)), (vec![0, 4], vec![0, 2, 3, 4]));
    }

    #[test]
    fn one_more_draw_is_noticed() {
        assert_ne!(run(false, false).hash(), run(false, true).hash());
    }

    #[test]
    fn every_field_of_a_kept_record_is_hashed() {
        let one = |host, kind| {
            let trace = Trace::new(Arc::new(|| 7), false);
            trace.emit(host, kind);
            trace.hash()
        };
        let base = one(None, note("x"));
        assert_ne!(base, one(Some(HostId(0)), note("x")));
        assert_ne!(base, one(None, note("y")));
        assert_ne!(
            base,
            one(
                None,
                Kind::Log {
                    target: "x".into(),
                    level: Level::Info,
                    message: String::new()
                }
            )
        );
    }

    #[test]
    fn records_travel_as_json() {
        for record in run(true, true).records() {
            let text = serde_json::to_string(&record).expect("plain data");
            assert_eq!(
                serde_json::from_str::<Record>(&text).expect("what was written is read"),
                record
            );
        }
    }

    #[test]
    fn marks_are_counted_and_do_not_change_the_hash() {
        let trace = run(false, false);
        let before = trace.hash();
        trace.mark("batch lands late");
        trace.mark("batch lands late");
        assert_eq!(trace.marks().get("batch lands late"), Some(&2));
        assert_eq!(trace.hash(), before);
    }
}
