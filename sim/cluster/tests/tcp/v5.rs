//! Protocols 5 and 3 byte by byte: segments, keyspaces of single requests, metadata that changed, who may have version 6, and
//! what version 3 does not get. What drivers do with it is tried by `ci/strangers`.

use super::program::Program;
use sim_cluster::cql::frame::v5::{self, Segment};
use sim_cluster::cql::frame::{HEADER_BYTES, Opcode, flag};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const DDL: [&str; 3] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v text)",
    "CREATE KEYSPACE other WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
];
/// Consistency level ONE and no flags.
const PARAMS: &[u8] = &[0, 1, 0, 0, 0, 0];

fn frame(version: u8, flags: u8, opcode: Opcode, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![version, flags, 0, 7, opcode as u8];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

fn long_string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

fn short_bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// A connection of protocol 5 by hand.
struct Talk {
    socket: TcpStream,
    version: u8,
    /// Bytes of segments that were not looked at.
    input: Vec<u8>,
    /// Frames of segments that were not looked at.
    frames: Vec<u8>,
}

impl Talk {
    fn begin(node: SocketAddr, version: u8, flags: u8) -> (Talk, u8, Vec<u8>) {
        let mut socket = TcpStream::connect(node).expect("connected");
        let startup = frame(version, flags, Opcode::Startup, b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0");
        socket.write_all(&startup).expect("sent");
        let mut header = [0; HEADER_BYTES];
        socket
            .read_exact(&mut header)
            .expect("a header without a segment around it");
        let mut body = vec![0; header[8] as usize + header[7] as usize * 256];
        socket.read_exact(&mut body).expect("a body");
        let talk = Talk {
            socket,
            version,
            input: Vec::new(),
            frames: Vec::new(),
        };
        (talk, header[4], body)
    }

    fn open(node: SocketAddr) -> Talk {
        let (talk, opcode, _) = Talk::begin(node, v5::VERSION, 0);
        assert_eq!(opcode, Opcode::Ready as u8);
        talk
    }

    fn send(&mut self, opcode: Opcode, body: &[u8]) {
        let mut segments = Vec::new();
        v5::put_segments(&mut segments, &frame(self.version, 0, opcode, body));
        self.socket.write_all(&segments).expect("sent");
    }

    /// The opcode and the body of the next answer.
    fn answer(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(length) = v5::frame_length(&self.frames).filter(|n| *n <= self.frames.len()) {
                let frame: Vec<u8> = self.frames.drain(..length).collect();
                assert_eq!(frame[0], 0x80 | self.version);
                return (frame[4], frame[HEADER_BYTES..].to_vec());
            }
            match v5::segment(&self.input) {
                Segment::Payload(payload) => {
                    self.frames.extend_from_slice(payload);
                    let length = payload.len() + Segment::AROUND_BYTES;
                    self.input.drain(..length);
                }
                Segment::Incomplete => {
                    let mut bytes = [0; 4096];
                    let n = self.socket.read(&mut bytes).expect("read");
                    assert!(n > 0, "the connection is closed");
                    self.input.extend_from_slice(&bytes[..n]);
                }
                Segment::Corrupt(what) => panic!("{what}"),
            }
        }
    }

    fn ask(&mut self, opcode: Opcode, body: &[u8]) -> (u8, Vec<u8>) {
        self.send(opcode, body);
        self.answer()
    }

    fn query(&mut self, text: &str) -> (u8, Vec<u8>) {
        self.ask(Opcode::Query, &[&long_string(text)[..], PARAMS].concat())
    }

    /// The ids of a statement and of its result's metadata.
    fn prepare(&mut self, text: &str) -> (Vec<u8>, Vec<u8>) {
        let (opcode, body) = self.ask(Opcode::Prepare, &[&long_string(text)[..], &[0; 4]].concat());
        assert_eq!((opcode, body[3]), (Opcode::Result as u8, 4));
        (body[6..22].to_vec(), body[24..40].to_vec())
    }

    /// The body of what a statement without markers returns to a client that has metadata of this id.
    fn execute(&mut self, id: &[u8], metadata: &[u8]) -> Vec<u8> {
        const SKIP_METADATA: &[u8] = &[0, 1, 0, 0, 0, 2];
        let body = [&short_bytes(id)[..], &short_bytes(metadata), SKIP_METADATA].concat();
        let (opcode, body) = self.ask(Opcode::Execute, &body);
        assert_eq!(opcode, Opcode::Result as u8, "{}", String::from_utf8_lossy(&body));
        body
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|w| w == text.as_bytes())
}

fn start(directory: &tempfile::TempDir, flavor: &str) -> Program {
    let data = directory.path().join(flavor);
    Program::start(&data, &["--nodes", "1", "--flavor", flavor])
}

#[test]
fn requests_and_answers_travel_in_segments() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(&directory, "cassandra");
    let mut talk = Talk::open(program.addresses[0]);
    for text in DDL {
        assert_eq!(talk.query(text).0, Opcode::Result as u8, "{text}");
    }
    // Larger than a segment can be, there and back.
    let long = "x".repeat(300_000);
    let (opcode, _) = talk.query(&format!("INSERT INTO ks.t (k, v) VALUES (1, '{long}')"));
    assert_eq!(opcode, Opcode::Result as u8);
    let (_, body) = talk.query("SELECT v FROM ks.t WHERE k = 1");
    assert!(contains(&body, &long));
    // Two requests in one segment.
    let two = [PARAMS, PARAMS].map(|p| {
        let text = long_string("SELECT k FROM ks.t WHERE k = 1");
        frame(v5::VERSION, 0, Opcode::Query, &[&text[..], p].concat())
    });
    let mut segment = Vec::new();
    v5::put_segments(&mut segment, &two.concat());
    talk.socket.write_all(&segment).expect("sent");
    assert_eq!(talk.answer(), talk.answer());
    // Many in one segment, more than fit into a turn of the connection.
    let mut many = Vec::new();
    let slow = long_string("SELECT * FROM system_schema.columns");
    let frames = (0..60).map(|_| frame(v5::VERSION, 0, Opcode::Query, &[&slow[..], PARAMS].concat()));
    v5::put_segments(&mut many, &frames.collect::<Vec<_>>().concat());
    talk.socket.write_all(&many).expect("sent");
    for _ in 0..60 {
        assert_eq!(talk.answer().0, Opcode::Result as u8);
    }
    // A wrong checksum is the end.
    let last = segment.len() - 1;
    segment[last] ^= 1;
    talk.socket.write_all(&segment).expect("sent");
    let (opcode, body) = talk.answer();
    assert_eq!(opcode, Opcode::Error as u8);
    assert!(contains(&body, "CRC mismatch"));
    assert_eq!(talk.socket.read(&mut [0]).expect("the end"), 0);
}

#[test]
fn a_request_may_name_its_keyspace() {
    const WITH_KEYSPACE: &[u8] = &[0, 1, 0, 0, 0, 0x80, 0, 2, b'k', b's'];
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(&directory, "cassandra");
    let mut talk = Talk::open(program.addresses[0]);
    for text in DDL {
        talk.query(text);
    }
    talk.query("USE other");
    let insert = long_string("INSERT INTO t (k, v) VALUES (1, 'a')");
    assert_eq!(talk.ask(Opcode::Query, &[&insert[..], PARAMS].concat()).0, 0);
    let named = talk.ask(Opcode::Query, &[&insert[..], WITH_KEYSPACE].concat());
    assert_eq!(named.0, Opcode::Result as u8);
    // A logged batch of one statement without values.
    let batch = [&[0, 0, 1, 0][..], &insert, &[0, 0], WITH_KEYSPACE].concat();
    assert_eq!(talk.ask(Opcode::Batch, &batch).0, Opcode::Result as u8);
    let select = long_string("SELECT v FROM t");
    let prepare = [&select[..], &[0, 0, 0, 1, 0, 2, b'k', b's']].concat();
    assert_eq!(talk.ask(Opcode::Prepare, &prepare).0, Opcode::Result as u8);
}

#[test]
fn a_client_is_told_of_columns_it_does_not_know() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(&directory, "cassandra");
    let mut talk = Talk::open(program.addresses[0]);
    for text in DDL {
        talk.query(text);
    }
    let (id, known) = talk.prepare("SELECT * FROM ks.t");
    // Flags: the columns are of one table, and left out.
    assert_eq!(talk.execute(&id, &known)[4..8], [0, 0, 0, 5]);
    talk.query("ALTER TABLE ks.t ADD w int");
    let (again, now) = talk.prepare("SELECT * FROM ks.t");
    assert_eq!(again, id);
    assert_ne!(now, known);
    let told = talk.execute(&id, &known);
    assert_eq!(told[4..12], [0, 0, 0, 9, 0, 0, 0, 3], "changed, three columns");
    assert_eq!(told[14..30], now[..]);
    assert_eq!(talk.execute(&id, &now)[4..8], [0, 0, 0, 5]);
}

#[test]
fn version_6_is_for_those_who_know_that_it_is_not_finished() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(&directory, "cassandra");
    let node = program.addresses[0];
    let (mut talk, opcode, _) = Talk::begin(node, v5::BETA_VERSION, flag::USE_BETA);
    assert_eq!(opcode, Opcode::Ready as u8);
    let text = [&long_string("SELECT key FROM system.local")[..], PARAMS].concat();
    let mut segments = Vec::new();
    let request = frame(v5::BETA_VERSION, flag::USE_BETA, Opcode::Query, &text);
    v5::put_segments(&mut segments, &request);
    talk.socket.write_all(&segments).expect("sent");
    assert_eq!(talk.answer().0, Opcode::Result as u8);
    let (_, opcode, body) = Talk::begin(node, v5::BETA_VERSION, 0);
    assert_eq!(opcode, Opcode::Error as u8);
    assert!(contains(&body, "USE_BETA flag is unset"));
}

#[test]
fn scylla_speaks_version_4_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(&directory, "scylla");
    let (_, opcode, body) = Talk::begin(program.addresses[0], v5::VERSION, 0);
    assert_eq!(opcode, Opcode::Error as u8);
    assert!(contains(&body, "Invalid or unsupported protocol version (5)"));
}

#[test]
fn version_3_gets_no_warnings_and_no_markers_of_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(&directory, "cassandra");
    let (mut talk, opcode, _) = Talk::begin(program.addresses[0], 3, 0);
    assert_eq!(opcode, Opcode::Ready as u8);
    let mut ask = |opcode: Opcode, body: &[u8]| -> (u8, Vec<u8>) {
        talk.socket.write_all(&frame(3, 0, opcode, body)).expect("sent");
        let mut header = [0; HEADER_BYTES];
        talk.socket.read_exact(&mut header).expect("a header");
        assert_eq!(header[0], 0x83);
        let mut body = vec![0; u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize];
        talk.socket.read_exact(&mut body).expect("a body");
        (header[1], body)
    };
    let query = |text: &str| [&long_string(text)[..], &[0, 1, 0]].concat();
    for text in DDL {
        ask(Opcode::Query, &query(text));
    }
    let (flags, body) = ask(Opcode::Query, &query("SELECT count(*) FROM ks.t"));
    assert_eq!((flags, body[3]), (0, 2), "rows, and no word of a scan");
    let (_, body) = ask(Opcode::Prepare, &long_string("SELECT v FROM ks.t WHERE k = ?"));
    // Kind, id, flags, one marker, and its keyspace at once.
    assert_eq!(body[22..32], [0, 0, 0, 1, 0, 0, 0, 1, 0, 2]);
}

#[test]
fn rows_of_a_trace_can_be_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = start(&directory, "cassandra");
    let mut talk = Talk::open(program.addresses[0]);
    let text = [&long_string("SELECT key FROM system.local")[..], PARAMS].concat();
    let mut segments = Vec::new();
    v5::put_segments(&mut segments, &frame(v5::VERSION, flag::TRACING, Opcode::Query, &text));
    talk.socket.write_all(&segments).expect("sent");
    let (_, body) = talk.answer();
    let hex: String = body[..16].iter().map(|b| format!("{b:02x}")).collect();
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    let read = format!("SELECT duration FROM system_traces.sessions WHERE session_id = {id}");
    // The last bytes of the rows: one row, and a duration of four bytes or none.
    let duration = |talk: &mut Talk| talk.query(&read).1;
    assert!(!duration(&mut talk).ends_with(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]));
    talk.query(&format!(
        "DELETE duration FROM system_traces.sessions WHERE session_id = {id}"
    ));
    assert!(duration(&mut talk).ends_with(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]));
    talk.query(&format!("DELETE FROM system_traces.sessions WHERE session_id = {id}"));
    assert!(duration(&mut talk).ends_with(&[0, 0, 0, 0]));
    // Nobody stores traces: they cannot be part of a batch.
    let batch = format!("BEGIN BATCH DELETE FROM system_traces.sessions WHERE session_id = {id} APPLY BATCH");
    assert_eq!(talk.query(&batch).0, Opcode::Error as u8);
}
