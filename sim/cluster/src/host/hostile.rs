//! One node without sockets or files that is given the bytes of one client, whatever they are: what the fuzz target
//! (`fuzz/`) and its test on stable Rust both run.
//!
//! It insists that every whole request is answered once and on its stream, that answers are whole frames of a bounded
//! size, that nothing is left under way, and that the node serves the next client as if nothing had happened.

use super::asked::{Asked, AskedList};
use crate::core::{ClusterConfig, CommitlogSync, Effect, Flavor, Input, Node, Start};
use crate::cql::frame::v5::{self, Segment};
use crate::cql::frame::{Front as Bytes, HEADER_BYTES, Opcode, VERSION, peek};
use crate::cql::front::{Connection, Front, Outcome};
use crate::cql::roles::Roles;
use crate::cql::system::NodeView;
use crate::model::NodeIdx;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a client that are looked at; what is behind them is left out.
pub const INPUT_BYTES_MAX: usize = 256 << 10;
/// Bytes of answers to them at most: a table of `system` is some kilobytes, and a request has at least nine bytes.
const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// Deadlines that the node gets after the last byte: enough for every timeout there is.
const TICKS_MAX: usize = 1_000;
/// Simulated time in which everything is answered, microseconds: `USING TIMEOUT` may be long.
const PATIENCE_US: u64 = 400 * 24 * 3600 * 1_000_000;

/// A bit of the first byte of an input: flavour Scylla.
pub const SCYLLA: u8 = 1;
/// Another: the connection is open already.
pub const OPEN: u8 = 2;
/// Another: the server speaks every version of the protocol that it can.
pub const ALL_VERSIONS: u8 = 4;
/// Another: it asks for a password.
pub const PASSWORDS: u8 = 8;
/// Who may log in there, as an AUTH_RESPONSE says it.
const TOKEN: &[u8] = b"\0\0\0\x0b\0ops\0secret";

/// What became of a client's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fed {
    /// Requests that were answered.
    pub answers: usize,
    /// Of those, with an error.
    pub errors: usize,
}

/// A frame with this opcode and body.
pub fn frame(opcode: Opcode, stream: i16, body: &[u8]) -> Vec<u8> {
    frame_of(VERSION, opcode, stream, body)
}

/// A frame of this version of the protocol.
pub fn frame_of(version: u8, opcode: Opcode, stream: i16, body: &[u8]) -> Vec<u8> {
    let [s0, s1] = stream.to_be_bytes();
    let mut frame = vec![version, 0, s0, s1, opcode as u8];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// STARTUP as drivers send it.
pub fn startup(stream: i16) -> Vec<u8> {
    startup_of(VERSION, stream)
}

/// STARTUP of this version of the protocol.
pub fn startup_of(version: u8, stream: i16) -> Vec<u8> {
    let body = b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0";
    frame_of(version, Opcode::Startup, stream, body)
}

/// AUTH_RESPONSE of who may log in.
pub fn login(stream: i16) -> Vec<u8> {
    frame(Opcode::AuthResponse, stream, TOKEN)
}

/// Bytes, which should be frames, as segments of protocol 5.
pub fn segments(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let is_whole = bytes.len() <= v5::PAYLOAD_BYTES_MAX;
    for part in bytes.chunks(v5::PAYLOAD_BYTES_MAX) {
        v5::put_segment(&mut out, part, is_whole);
    }
    out
}

/// QUERY at ONE without values.
pub fn query(stream: i16, text: &str) -> Vec<u8> {
    let mut body = (text.len() as i32).to_be_bytes().to_vec();
    body.extend_from_slice(text.as_bytes());
    body.extend([0, 1, 0]);
    frame(Opcode::Query, stream, &body)
}

/// The node, its front, and what is under way.
struct Target {
    node: Node,
    front: Front,
    asked: AskedList,
    out: Vec<u8>,
    now_us: u64,
    waiting: usize,
}

impl Target {
    fn new(flavor: Flavor) -> Target {
        let mut config = ClusterConfig::new(1, flavor);
        config.commitlog_sync = CommitlogSync::Batch;
        let node = Node::new(Arc::new(config), NodeIdx(0), 7);
        let front = Front::new(&view(&node), None);
        let mut target = Target {
            node,
            front,
            asked: AskedList::default(),
            out: Vec::new(),
            now_us: 1_000_000,
            waiting: 0,
        };
        let mut effects = Vec::new();
        target.node.boot(target.now_us, &[], Start::Together, &mut effects);
        target.carry_out(effects);
        target
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.node.step(self.now_us, input, None, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::LogSync { token } => self.step(Input::LogSynced { token }),
                Effect::Reply { to, response } => {
                    let asked = self.asked.take(to.request).expect("nothing is answered twice");
                    self.waiting -= 1;
                    self.front
                        .complete(&view(&self.node), asked.pending, response, &mut self.out);
                }
                Effect::Halted { reason } => panic!("the node went down: {reason}"),
                _ => {}
            }
        }
    }

    /// Gives it bytes of a connection to the end; returns the streams of the requests in them.
    fn client(&mut self, connection: &mut Connection, input: &[u8]) -> Vec<i16> {
        let (mut rest, mut streams, mut idle) = (input, Vec::new(), 0);
        loop {
            let asks = match peek(rest) {
                // The rest of a refused frame is skipped without an answer.
                _ if connection.is_skipping() => None,
                Bytes::Frame(h) | Bytes::OtherVersion(h) | Bytes::TooLong(h) => Some(h.stream),
                Bytes::AncientVersion(_) => Some(0),
                Bytes::Incomplete => None,
            };
            let view = view(&self.node);
            let (taken, outcome) = self.front.next(&view, connection, rest, &mut self.out);
            assert!(taken <= rest.len(), "more was taken than there was");
            rest = &rest[taken..];
            match outcome {
                Outcome::Incomplete => return streams,
                Outcome::Answered => {
                    // What is in a segment is taken from it, frame by frame, while nothing more is taken of the bytes.
                    idle = if taken > 0 { 0 } else { idle + 1 };
                    assert!(idle <= input.len() / HEADER_BYTES, "it would never end");
                    streams.extend(asks);
                }
                Outcome::Submit(submission) => {
                    streams.extend(asks);
                    self.waiting += 1;
                    let pending = submission.pending;
                    let from = self.asked.keep(Asked { client: 1, pending });
                    let request = submission.request;
                    self.step(Input::Client { from, request });
                }
                Outcome::Close => {
                    streams.extend(asks);
                    return streams;
                }
            }
            assert!(
                self.out.len() <= OUTPUT_BYTES_MAX,
                "{} bytes of answers",
                self.out.len()
            );
        }
    }

    /// Lets time pass until everything is answered.
    fn settle(&mut self) {
        let give_up_us = self.now_us + PATIENCE_US;
        for _ in 0..TICKS_MAX {
            if self.waiting == 0 {
                return;
            }
            let next_us = self.node.next_deadline_us().expect("whoever waits has a deadline");
            assert!(next_us < give_up_us, "a request is never answered");
            self.now_us = self.now_us.max(next_us);
            self.step(Input::Tick);
        }
        panic!("{} requests are never answered", self.waiting);
    }
}

fn view(node: &Node) -> NodeView<'_> {
    NodeView {
        config: node.config(),
        ring: node.ring(),
        me: node.index(),
        generation: 1,
        port: 9042,
        schema: node.schema(),
        lists_own_tables: true,
        facts: node.facts(),
        view_builds: node.view_builds(),
        wall_us: 0,
    }
}

/// Cuts answers into frames: how many of each stream, and how many errors.
fn read_answers(mut out: &[u8]) -> (BTreeMap<i16, usize>, usize) {
    let (mut streams, mut errors) = (BTreeMap::new(), 0);
    while !out.is_empty() {
        assert!(
            out.len() >= HEADER_BYTES && out[0] == 0x80 | VERSION,
            "an answer that is no frame"
        );
        let length = HEADER_BYTES + u32::from_be_bytes([out[5], out[6], out[7], out[8]]) as usize;
        assert!(out.len() >= length, "an answer is cut short");
        assert!(Opcode::from_byte(out[4]).is_some(), "an answer of no kind");
        errors += usize::from(out[4] == Opcode::Error as u8);
        *streams.entry(i16::from_be_bytes([out[2], out[3]])).or_insert(0) += 1;
        out = &out[length..];
    }
    (streams, errors)
}

/// Tables that hostile statements can be about.
const SETUP: [&str; 3] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE ks.t (k bigint, c int, v text, s text static, m map<text, int>, l list<int>, PRIMARY KEY (k, c))",
    "CREATE TABLE ks.u (k text PRIMARY KEY, v blob, d decimal, t timeuuid, i inet, du duration)",
];

/// Insists that what goes to a socket is made of whole segments, if the connection has them: behind the last frame without.
fn check_outgoing(connection: &mut Connection, answers: &[u8]) {
    let bytes = connection.outgoing(answers.to_vec());
    let mut rest = &bytes[..];
    while let Some(length) = v5::frame_length(rest).filter(|n| rest[0] & 0x80 != 0 && *n <= rest.len()) {
        rest = &rest[length..];
    }
    while !rest.is_empty() {
        let Segment::Payload(payload) = v5::segment(rest) else {
            panic!("{} bytes to a client that are no segment", rest.len());
        };
        rest = &rest[payload.len() + Segment::AROUND_BYTES..];
    }
}

/// Feeds a node with the bytes of a client. The first byte chooses what kind of server it is ([`SCYLLA`] and its like).
///
/// # Panics
/// What this file insists on does not hold: that is what the fuzzer looks for.
pub fn feed(input: &[u8]) -> Fed {
    let Some((choice, bytes)) = input.split_first() else {
        return Fed::default();
    };
    let chosen = |bit: u8| choice & bit != 0;
    let flavor = if chosen(SCYLLA) {
        Flavor::Scylla
    } else {
        Flavor::Cassandra
    };
    let mut target = Target::new(flavor);
    let mut setup = Connection::default();
    target.client(&mut setup, &startup(0));
    for text in SETUP {
        target.client(&mut setup, &query(0, text));
    }
    target.settle();
    let (answers, errors) = read_answers(&std::mem::take(&mut target.out));
    assert_eq!((answers.get(&0), errors), (Some(&4), 0), "the tables are made");

    let all_versions = chosen(ALL_VERSIONS);
    let greatest = if all_versions { v5::BETA_VERSION } else { VERSION };
    let roles = chosen(PASSWORDS).then(|| Arc::new(Roles::new("ops", "secret")));
    target.front = Front::new(&view(&target.node), None)
        .speaking_up_to(greatest)
        .asking_for(roles);
    let mut connection = Connection::default();
    if chosen(OPEN) {
        target.client(&mut connection, &startup(0));
        if chosen(PASSWORDS) {
            target.client(&mut connection, &login(0));
        }
        check_outgoing(&mut connection, &std::mem::take(&mut target.out));
    }
    let streams = target.client(&mut connection, &bytes[..bytes.len().min(INPUT_BYTES_MAX)]);
    target.settle();
    check_outgoing(&mut connection, &target.out);
    let mut asked: BTreeMap<i16, usize> = BTreeMap::new();
    streams.into_iter().for_each(|s| *asked.entry(s).or_insert(0) += 1);
    let (answers, errors) = read_answers(&std::mem::take(&mut target.out));
    // Which requests there are in segments only the front could say.
    assert!(
        all_versions || answers == asked,
        "every request has one answer: {answers:?} of {asked:?}"
    );

    let mut next = Connection::default();
    target.client(&mut next, &startup(1));
    if chosen(PASSWORDS) {
        target.client(&mut next, &login(1));
    }
    target.client(&mut next, &query(2, "SELECT key FROM system.local"));
    target.settle();
    let served = read_answers(&target.out);
    let greetings = if chosen(PASSWORDS) { 2 } else { 1 };
    assert_eq!(
        served,
        (BTreeMap::from([(1, greetings), (2, 1)]), 0),
        "the next client is served"
    );
    Fed {
        answers: answers.values().sum(),
        errors,
    }
}
