//! What leaves settlement for the database, seen on the wire: how many batches, of which kind, at which consistency, and
//! how many different contents its events have in them. It reads the CQL v4 frames itself, so that neither the driver nor
//! the cluster is asked about itself. What it cannot read it counts; it judges nothing.
//!
//! Several events may share a batch. Which event a statement belongs to is told by the digest that every row carries: the
//! answer to a PREPARE names the markers of its statement. What one batch has of one event is a content; an event that was
//! always sent whole and alike has one.
use super::frames::{self, Frame, Statement};
use super::plant::Plant;
use crate::evidence::Requests;
use faults::plan::BatchPoint;
use faults::{Action, Plan};
use sim_cluster::host::sim::CQL_PORT;
use sim_world::trace::Fold;
use sim_world::{ConnInfo, TapGuard, TapVerdict, TcpTap};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

const OPCODE_BATCH: u8 = 0x0D;
const OPCODE_RESULT: u8 = 0x08;
const LOGGED: u8 = 0;
/// The column that says whose row it is: the event's digest, or its first bytes.
const IDENTITY: &str = "digest";
const IDENTITY_BYTES: usize = 8;
/// The event of a statement of which nobody knows whose it is.
const NOBODY: u64 = 0;
/// How a warning about a batch's size begins.
const SIZE_WARNING: &str = "Batch for ";
/// ONE, TWO, THREE, ANY and LOCAL_ONE: below a quorum of three, or not known to be one.
const BELOW_QUORUM: [u16; 5] = [0x0000, 0x0001, 0x0002, 0x0003, 0x000A];

/// A watch over settlement's connections to the database.
pub struct RequestWatch {
    seen: Arc<Mutex<Seen>>,
    tap: TapGuard,
}

#[derive(Default)]
struct Seen {
    requests: Requests,
    /// Of each event (0: of nobody knows which) what a batch had of it.
    contents: BTreeSet<(u64, u64)>,
    /// The statements that were prepared.
    identities: Vec<Identity>,
    /// Of the batch that is being read; kept for its memory.
    events: Vec<(u64, Fold)>,
    /// Events in the batches since everything is being settled again.
    again: Option<BTreeSet<u64>>,
}

/// Where a prepared statement has the event's identity.
struct Identity {
    /// The statement's id, and how it begins: which tells nearly all apart, in one comparison.
    id: Vec<u8>,
    begins: Option<[u8; IDENTITY_BYTES]>,
    /// The place of its marker for [`IDENTITY`].
    place: usize,
}

impl RequestWatch {
    /// Starts looking; None where the plan has a tap of its own on these connections, which only one can have.
    pub fn start(plant: &Plant, plan: &Plan) -> Option<RequestWatch> {
        let leaving = |action: &Action| {
            matches!(
                action,
                Action::CrashSettlement {
                    point: BatchPoint::Leaving,
                    ..
                }
            )
        };
        if plan.faults.iter().any(|fault| leaving(&fault.action)) {
            return None;
        }
        let seen = Arc::new(Mutex::new(Seen::default()));
        let tap = Tap {
            seen: seen.clone(),
            connections: BTreeMap::new(),
        };
        let tap = plant.world.tap(plant.settlement.id(), CQL_PORT, Box::new(tap));
        Some(RequestWatch { seen, tap })
    }

    /// Says that everything is being settled again from now on.
    pub fn begin_again(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.again = Some(BTreeSet::new());
    }

    /// Looks no more.
    pub fn stop(self) -> Requests {
        drop(self.tap);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Requests {
            contents: seen.contents.len() as u64,
            again: seen.again.as_ref().map(|events| events.len() as u64),
            ..seen.requests.clone()
        }
    }
}

struct Tap {
    seen: Arc<Mutex<Seen>>,
    /// What one side of a connection has begun to send and not finished.
    connections: BTreeMap<(u64, bool), Vec<u8>>,
}

impl TcpTap for Tap {
    fn on_write(&mut self, conn: &ConnInfo, bytes: &[u8]) -> TapVerdict {
        let rest = self.connections.entry((conn.id, conn.to_server)).or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let each = |frame: Frame<'_>| seen.frame(conn.to_server, frame);
        // Nearly every write ends with a frame: then nothing has to be kept, and nothing copied.
        if rest.is_empty() {
            rest.extend_from_slice(&bytes[frames::each(bytes, each)..]);
        } else {
            rest.extend_from_slice(bytes);
            let taken = frames::each(rest, each);
            rest.drain(..taken);
        }
        TapVerdict::Pass
    }
}

impl Seen {
    fn frame(&mut self, to_server: bool, frame: Frame<'_>) {
        let read = match (to_server, frame.opcode) {
            (true, OPCODE_BATCH) => self.batch(frame),
            (false, OPCODE_RESULT) => self.result(frame),
            _ => Some(()),
        };
        self.requests.unread_frames += u64::from(read.is_none());
    }

    /// An answer: of a PREPARE it is remembered where the statement has the identity. None if it cannot be read.
    fn result(&mut self, frame: Frame<'_>) -> Option<()> {
        let (warnings, body) = frame.body()?;
        let oversized = warnings.iter().filter(|text| text.starts_with(SIZE_WARNING));
        self.requests.oversized += oversized.count() as u64;
        if let Some(prepared) = frames::prepared(body)?
            && let Some(place) = prepared.markers.iter().position(|name| *name == IDENTITY)
        {
            // Every node answers for every statement; there are about ten.
            if place_in(&self.identities, prepared.id).is_none() {
                self.identities.push(Identity {
                    id: prepared.id.to_vec(),
                    begins: prepared.id.first_chunk().copied(),
                    place,
                });
            }
        }
        Some(())
    }

    /// A batch; None if it cannot be read.
    fn batch(&mut self, frame: Frame<'_>) -> Option<()> {
        let (_, body) = frame.body()?;
        let batch = frames::batch(body, |id| place_in(&self.identities, id))?;
        self.requests.batches += 1;
        self.requests.not_logged += u64::from(batch.kind != LOGGED);
        self.requests.below_quorum += u64::from(BELOW_QUORUM.contains(&batch.consistency));
        self.events.clear();
        // The statements of an event stand together, as a rule.
        for together in batch.statements.chunk_by(|a, b| event_of(a) == event_of(b)) {
            let (event, bytes) = (event_of(&together[0]), span(together));
            let at = self.events.iter().rposition(|(other, _)| *other == event);
            let at = at.unwrap_or_else(|| {
                self.events.push((event, Fold::resume(Fold::START)));
                self.events.len() - 1
            });
            // As with the trace, nobody here tries to make two contents look alike.
            self.events[at].1.add_bytes(&body[bytes]);
        }
        let contents = self.events.iter().map(|(event, hash)| (*event, hash.value()));
        self.contents.extend(contents);
        if let Some(again) = &mut self.again {
            again.extend(
                self.events
                    .iter()
                    .map(|(event, _)| *event)
                    .filter(|event| *event != NOBODY),
            );
        }
        Some(())
    }
}

/// The place of the identity among a prepared statement's values, if it was seen to be prepared.
fn place_in(identities: &[Identity], id: &[u8]) -> Option<usize> {
    let begins = id.first_chunk().copied();
    let known = identities.iter().find(|known| known.begins == begins && known.id == id);
    known.map(|known| known.place)
}

/// The first bytes of the digest that a statement's row carries; [`NOBODY`] if that is not known.
fn event_of(statement: &Statement<'_>) -> u64 {
    let first = statement.value.and_then(|value| value.first_chunk::<IDENTITY_BYTES>());
    first.map_or(NOBODY, |bytes| u64::from_be_bytes(*bytes))
}

/// Where statements that follow each other stand.
fn span(together: &[Statement<'_>]) -> Range<usize> {
    let (first, last) = (&together[0], &together[together.len() - 1]);
    first.at.start..last.at.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::frames::samples::{batch, compressed, done, prepared};

    /// A statement with a value and the identity of an event.
    fn row<'a>(id: &'a [u8], value: &'a [u8], event: &'a [u8]) -> (&'a [u8], Vec<&'a [u8]>) {
        (id, vec![value, event])
    }

    /// What was seen of these frames when they come cut in two at this place.
    fn seen(answers: &[u8], sent: &[u8], cut: usize) -> (Requests, usize) {
        let (mut seen, mut rest) = (Seen::default(), Vec::new());
        frames::each(answers, |frame| seen.frame(false, frame));
        for part in [&sent[..cut], &sent[cut..]] {
            rest.extend_from_slice(part);
            let taken = frames::each(&rest, |frame| seen.frame(true, frame));
            rest.drain(..taken);
        }
        assert!(rest.is_empty(), "cut at {cut}");
        (seen.requests, seen.contents.len())
    }

    const A: &[u8] = b"digest-of-a and the rest of it";
    const B: &[u8] = b"b-digest";

    #[test]
    fn batches_are_counted_by_kind_level_and_content_however_the_bytes_are_cut() {
        let sent = [
            batch(0, &[row(b"x", b"a", A)], 4),
            batch(0, &[row(b"x", b"a", A)], 6),
            batch(1, &[row(b"x", b"b", B)], 4),
            batch(0, &[row(b"x", b"c", B)], 1),
        ]
        .concat();
        for cut in 0..=sent.len() {
            let expected = Requests {
                batches: 4,
                not_logged: 1,
                below_quorum: 1,
                ..Requests::default()
            };
            assert_eq!(seen(&prepared(b"x", &["v", "digest"]), &sent, cut), (expected, 3));
        }
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_so_is_what_the_database_warned_of() {
        let answers = [
            prepared(b"x", &["v", "digest"]),
            done(&["Batch for [ks.t] is of size 6000, exceeding specified threshold of 5120 by 880."]),
            done(&["Read 1001 live rows and 5 tombstone cells"]),
        ]
        .concat();
        // Without the flags at the end and half of the level, and with a header that says so.
        let mut cut = batch(0, &[row(b"x", b"a", A)], 4);
        cut.truncate(cut.len() - 2);
        cut[8] -= 2;
        // One that ends too early, one that is compressed, and a good one, which is found all the same.
        let sent = [cut, compressed(), batch(0, &[row(b"x", b"a", A)], 4)].concat();
        let expected = Requests {
            batches: 1,
            unread_frames: 2,
            oversized: 1,
            ..Requests::default()
        };
        assert_eq!(seen(&answers, &sent, sent.len()), (expected, 1));
    }

    #[test]
    fn an_event_has_one_content_in_whichever_company_it_is_sent_and_more_when_it_is_torn_or_changed() {
        let answers = [prepared(b"x", &["v", "digest"]), prepared(b"y", &["w", "digest"])].concat();
        let (a, b) = ([row(b"x", b"1", A), row(b"y", b"2", &A[..8])], [row(b"x", b"3", B)]);
        let together = batch(0, &[a.as_slice(), b.as_slice()].concat(), 4);
        let apart = [batch(0, &b, 4), batch(0, &a, 4)].concat();
        let contents = |sent: &[Vec<u8>]| {
            let sent = sent.concat();
            seen(&answers, &sent, sent.len()).1
        };
        assert_eq!(contents(&[together.clone(), apart, together.clone()]), 2);
        let torn = batch(0, &a[..1], 4);
        assert_eq!(contents(&[together.clone(), torn]), 3);
        let changed = batch(0, &[row(b"x", b"4", B)], 4);
        assert_eq!(contents(&[together, changed]), 3);
    }
}
