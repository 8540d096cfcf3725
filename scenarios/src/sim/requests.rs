//! What leaves settlement for the database, seen on the wire: how many batches, of which kind, at which consistency, and
//! how many different contents among them. It reads the CQL v4 frames itself, so that neither the driver nor the cluster
//! is asked about itself. A connection that it cannot follow is left alone; it judges nothing.
use super::plant::Plant;
use crate::evidence::Requests;
use faults::plan::BatchPoint;
use faults::{Action, Plan};
use sim_cluster::host::sim::CQL_PORT;
use sim_world::trace::Fold;
use sim_world::{ConnInfo, TapGuard, TapVerdict, TcpTap};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

const HEADER_BYTES: usize = 9;
const OPCODE_BATCH: u8 = 0x0D;
const LOGGED: u8 = 0;
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
    contents: BTreeSet<u64>,
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

    /// Looks no more.
    pub fn stop(self) -> Requests {
        drop(self.tap);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Requests {
            contents: seen.contents.len() as u64,
            ..seen.requests.clone()
        }
    }
}

struct Tap {
    seen: Arc<Mutex<Seen>>,
    /// What a connection has begun to send and not finished.
    connections: BTreeMap<u64, Vec<u8>>,
}

impl TcpTap for Tap {
    fn on_write(&mut self, conn: &ConnInfo, bytes: &[u8]) -> TapVerdict {
        if conn.to_server {
            let rest = self.connections.entry(conn.id).or_default();
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let each = |opcode, body: &[u8]| {
                if opcode == OPCODE_BATCH {
                    seen.batch(body);
                }
            };
            // Nearly every write ends with a frame: then nothing has to be kept, and nothing copied.
            if rest.is_empty() {
                rest.extend_from_slice(&bytes[frames(bytes, each)..]);
            } else {
                rest.extend_from_slice(bytes);
                let taken = frames(rest, each);
                rest.drain(..taken);
            }
        }
        TapVerdict::Pass
    }
}

/// Calls `f` with opcode and body of each whole frame; how many bytes they were.
fn frames(bytes: &[u8], mut f: impl FnMut(u8, &[u8])) -> usize {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER_BYTES) {
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        let Some(body) = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + length) else {
            break;
        };
        f(header[4], body);
        at += HEADER_BYTES + length;
    }
    at
}

impl Seen {
    fn batch(&mut self, body: &[u8]) {
        let Some((kind, consistency, content)) = parts(body) else {
            return;
        };
        self.requests.batches += 1;
        self.requests.not_logged += u64::from(kind != LOGGED);
        self.requests.below_quorum += u64::from(BELOW_QUORUM.contains(&consistency));
        // As with the trace, nobody here tries to make two contents look alike.
        let mut hash = Fold::resume(Fold::START);
        hash.add_bytes(content);
        self.contents.insert(hash.value());
    }
}

/// Kind, consistency, and the statements with their values.
fn parts(body: &[u8]) -> Option<(u8, u16, &[u8])> {
    let mut at = 3;
    for _ in 0..short(body, 1)? {
        let (is_id, head) = (body.get(at)? == &1, at + 1);
        at = match is_id {
            true => head + 2 + usize::from(short(body, head)?),
            false => head + 4 + long(body, head)?,
        };
        let values = short(body, at)?;
        at += 2;
        for _ in 0..values {
            // A null or an unset value has a negative length and no bytes.
            at += 4 + long(body, at).unwrap_or(0);
        }
    }
    Some((*body.first()?, short(body, at)?, body.get(..at)?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(kind: u8, value: &[u8], consistency: u16) -> Vec<u8> {
        let mut body = vec![kind, 0, 1, 1, 0, 2, 7, 7, 0, 2];
        body.extend((value.len() as i32).to_be_bytes());
        body.extend(value);
        body.extend((-1i32).to_be_bytes());
        body.extend(consistency.to_be_bytes());
        body.push(0);
        let mut frame = vec![4, 0, 0, 1, OPCODE_BATCH];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        frame
    }

    #[test]
    fn batches_are_counted_by_kind_level_and_content_however_the_bytes_are_cut() {
        let sent = [
            batch(0, b"a", 4),
            batch(0, b"a", 6),
            batch(1, b"b", 4),
            batch(0, b"c", 1),
        ]
        .concat();
        for cut in 0..=sent.len() {
            let (mut seen, mut rest) = (Seen::default(), Vec::new());
            for part in [&sent[..cut], &sent[cut..]] {
                rest.extend_from_slice(part);
                let taken = frames(&rest, |_, body| seen.batch(body));
                rest.drain(..taken);
            }
            let expected = Requests {
                batches: 4,
                contents: 0,
                not_logged: 1,
                below_quorum: 1,
            };
            assert_eq!(
                (seen.requests, seen.contents.len(), rest.len()),
                (expected, 3, 0),
                "cut at {cut}"
            );
        }
    }
}
