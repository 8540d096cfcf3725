//! Reading a client's writes out of the raw bytes of its connections, so that a fault can strike at a boundary that only
//! bytes mark: the client dies before the BATCH of one event leaves. Prepared statements are known by their ids, through
//! the registry that the nodes fill when they prepare.
//!
//! Nothing here owns a socket or decides a fault: whoever taps a connection feeds the bytes in and looks at the writes.

use crate::core::boundary::BatchInfo;
use crate::cql::bind::write::Scratch;
use crate::cql::bind::{Plan, Prepared, StatementId};
use crate::cql::frame::{BatchKind, Front as Bytes, HEADER_BYTES, Header, Opcode, Request, StatementRef, Value, peek};
use crate::cql::front::Registry;
use crate::model::{Schema, WriteKind, WriteSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A write that a client sends.
#[derive(Debug)]
pub struct ClientWrite {
    /// Stream of the request on its connection.
    pub stream: i16,
    /// A single statement, or a batch and which.
    pub kind: WriteKind,
    /// Whether every statement of it was understood: texts and ids that no node prepared are left out.
    pub is_whole: bool,
    writes: WriteSet,
    schema: Arc<Schema>,
}

impl ClientWrite {
    /// Its rows by table and column, as a boundary hook sees them.
    pub fn info(&self) -> BatchInfo<'_> {
        BatchInfo::asked(self.kind, &self.schema, &self.writes)
    }
}

/// The head of an answer that a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Stream of the request it answers.
    pub stream: i16,
    /// The code of an ERROR; `None` for anything else.
    pub error: Option<i32>,
}

/// Cuts one direction of a connection into frames.
#[derive(Debug, Default)]
struct Cutter {
    rest: Vec<u8>,
}

impl Cutter {
    /// Calls `f` for every frame that ends within `bytes`; keeps what is left. Bytes that are no frames are dropped.
    fn frames(&mut self, bytes: &[u8], mut f: impl FnMut(&Header, &[u8])) {
        let joined;
        let mut input = bytes;
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.rest);
            input = &joined;
        }
        loop {
            match front(input) {
                Some(Some((header, length))) => {
                    f(&header, &input[HEADER_BYTES..length]);
                    input = &input[length..];
                }
                Some(None) => break,
                None => return,
            }
        }
        self.rest = input.to_vec();
    }
}

/// The frame at the front, whichever way it travels: its header and its length; the inner `None` when it is not whole.
fn front(input: &[u8]) -> Option<Option<(Header, usize)>> {
    match peek(input) {
        Bytes::Incomplete => Some(None),
        Bytes::Frame(header) | Bytes::OtherVersion(header) | Bytes::TooLong(header) => {
            let length = HEADER_BYTES + header.length as usize;
            Some((input.len() >= length).then_some((header, length)))
        }
        Bytes::AncientVersion(_) => None,
    }
}

/// Reads the writes of a client, connection by connection.
#[derive(Debug)]
pub struct WriteReader {
    registry: Registry,
    requests: BTreeMap<u64, Cutter>,
    answers: BTreeMap<u64, Cutter>,
}

impl WriteReader {
    /// A reader for clients of the cluster that fills this registry.
    pub fn new(registry: Registry) -> Self {
        WriteReader {
            registry,
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    /// Takes the bytes that a client writes to connection `conn` (any number that tells connections apart) and calls `f`
    /// for each write whose frame ends in them. Connections must be fed from their first byte.
    pub fn requests(&mut self, conn: u64, bytes: &[u8], mut f: impl FnMut(&ClientWrite)) {
        let registry = &self.registry;
        self.requests.entry(conn).or_default().frames(bytes, |header, body| {
            if let Some(write) = decode(registry, header, body) {
                f(&write);
            }
        });
    }

    /// Takes the bytes that arrive at the client on connection `conn` and calls `f` for each answer that ends in them.
    pub fn answers(&mut self, conn: u64, bytes: &[u8], mut f: impl FnMut(Answer)) {
        self.answers.entry(conn).or_default().frames(bytes, |header, body| {
            let code = body.first_chunk::<4>().map(|b| i32::from_be_bytes(*b));
            let error = if header.opcode == Opcode::Error as u8 {
                code
            } else {
                None
            };
            if header.stream >= 0 {
                f(Answer {
                    stream: header.stream,
                    error,
                });
            }
        });
    }

    /// Forgets a connection that is gone.
    pub fn closed(&mut self, conn: u64) {
        self.requests.remove(&conn);
        self.answers.remove(&conn);
    }
}

fn decode(registry: &Registry, header: &Header, body: &[u8]) -> Option<ClientWrite> {
    // Most frames of a client are neither; the check costs one byte.
    if header.opcode != Opcode::Batch as u8 && header.opcode != Opcode::Execute as u8 {
        return None;
    }
    let request = Request::parse(header, body).ok()?;
    let mut reading = Reading::default();
    let mut bound: Vec<Value<'_>> = Vec::new();
    let kind = match request {
        Request::Batch(mut batch) => {
            let kind = if batch.kind == BatchKind::Logged {
                WriteKind::Logged
            } else {
                WriteKind::Unlogged
            };
            while let Some(statement) = batch.next_statement(&mut bound).ok()? {
                match statement {
                    StatementRef::Prepared(id) => {
                        let statement = find(registry, id);
                        let fits = statement
                            .as_ref()
                            .is_some_and(|s| s.check(&bound, |_, _| String::new()).is_ok());
                        reading.add(statement.as_deref(), fits.then_some(&bound));
                    }
                    StatementRef::Text(_) => reading.is_whole = false,
                }
            }
            batch.finish().ok()?;
            kind
        }
        Request::Execute { id, params, .. } => {
            let statement = find(registry, id);
            let fits = statement
                .as_ref()
                .is_some_and(|s| s.bind(params.values, &mut bound, |_, _| String::new()).is_ok());
            reading.add(statement.as_deref(), fits.then_some(&bound));
            WriteKind::Single
        }
        _ => return None,
    };
    if reading.writes.is_empty() {
        return None;
    }
    let Reading { writes, is_whole, .. } = reading;
    Some(ClientWrite {
        stream: header.stream,
        kind,
        is_whole,
        writes,
        schema: registry.schema(),
    })
}

fn find(registry: &Registry, id: &[u8]) -> Option<Arc<Prepared>> {
    StatementId::try_from(id).ok().and_then(|id| registry.statement(&id))
}

/// A write being put together.
struct Reading {
    writes: WriteSet,
    scratch: Scratch,
    is_whole: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            writes: WriteSet::new(),
            scratch: Scratch::default(),
            is_whole: true,
        }
    }
}

impl Reading {
    /// Adds a statement with its values, if both are known.
    fn add(&mut self, statement: Option<&Prepared>, bound: Option<&Vec<Value<'_>>>) {
        let understood = statement.zip(bound).is_some_and(|(s, bound)| self.execute(s, bound));
        self.is_whole &= understood;
    }

    fn execute(&mut self, statement: &Prepared, bound: &[Value<'_>]) -> bool {
        match &statement.plan {
            Plan::Write(write) => write.execute(bound, &mut self.scratch, &mut self.writes).is_ok(),
            Plan::Batch(batch) => batch
                .statements
                .iter()
                .all(|w| w.execute(bound, &mut self.scratch, &mut self.writes).is_ok()),
            // A read is no write: nothing is missing.
            _ => true,
        }
    }
}
