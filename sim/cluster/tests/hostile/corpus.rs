//! The fuzzer's corpus as a list: each input by name, and what it is made of.

use sim_cluster::cql::bind::statement_id;
use sim_cluster::cql::frame::Opcode;
use sim_cluster::host::hostile::{
    ALL_VERSIONS, OPEN, PASSWORDS, SCYLLA, frame, frame_of, login, query, segments, startup, startup_of,
};

/// Flavour scylla, the connection open.
const OPEN_SCYLLA: u8 = OPEN | SCYLLA;

const INSERT: &str = "INSERT INTO ks.t (k, c, v) VALUES (?, ?, ?)";

fn long_string(text: &str) -> Vec<u8> {
    [&(text.len() as i32).to_be_bytes()[..], text.as_bytes()].concat()
}

fn prepare(stream: i16, text: &str) -> Vec<u8> {
    frame(Opcode::Prepare, stream, &long_string(text))
}

fn value(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes()[..], bytes].concat()
}

fn insert_values() -> Vec<u8> {
    [
        vec![0, 3],
        value(&7i64.to_be_bytes()),
        value(&1i32.to_be_bytes()),
        value(b"text"),
    ]
    .concat()
}

fn id() -> Vec<u8> {
    let id = statement_id(None, INSERT);
    [&(id.len() as u16).to_be_bytes()[..], &id[..]].concat()
}

fn execute(stream: i16) -> Vec<u8> {
    frame(
        Opcode::Execute,
        stream,
        &[id(), vec![0, 1, 1], insert_values()].concat(),
    )
}

/// A batch of this kind and these statements, at ONE.
fn batch(kind: u8, count: u16, statements: &[u8]) -> Vec<u8> {
    let body = [&[kind][..], &count.to_be_bytes(), statements, &[0, 1, 0]].concat();
    frame(Opcode::Batch, 5, &body)
}

fn prepared_statement() -> Vec<u8> {
    [vec![1], id(), insert_values()].concat()
}

fn text_statement(text: &str) -> Vec<u8> {
    [vec![0], long_string(text), vec![0, 0]].concat()
}

/// QUERY of protocol 5 or 6.
fn query_of(version: u8, stream: i16, text: &str) -> Vec<u8> {
    let body = [long_string(text), vec![0, 1, 0, 0, 0, 0]].concat();
    frame_of(version, Opcode::Query, stream, &body)
}

/// A client of protocol 5: its STARTUP, and then bytes that should be segments.
fn newest(rest: &[Vec<u8>]) -> Vec<u8> {
    [&[ALL_VERSIONS][..], &startup_of(5, 0), &rest.concat()].concat()
}

/// A frame of a client that knows that its version is not finished.
fn beta(mut frame: Vec<u8>) -> Vec<u8> {
    frame[1] |= 0x10;
    frame
}

/// An AUTH_RESPONSE with these bytes.
fn credentials(token: &[u8]) -> Vec<u8> {
    frame(Opcode::AuthResponse, 1, &value(token))
}

/// A frame that says it is of this length.
fn lying(length: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = frame(Opcode::Query, 3, body);
    bytes[5..9].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// All inputs.
pub fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let open = |frames: &[Vec<u8>]| [&[OPEN][..], &frames.concat()].concat();
    let scylla = |frames: &[Vec<u8>]| [&[OPEN_SCYLLA][..], &frames.concat()].concat();
    let queries = |texts: &[&str]| -> Vec<Vec<u8>> {
        texts
            .iter()
            .enumerate()
            .map(|(i, text)| query(i as i16, text))
            .collect()
    };
    let deep = |open_with: &str, n: usize| {
        query(
            1,
            &format!("INSERT INTO ks.t (k, c, l) VALUES (1, 1, {}", open_with.repeat(n)),
        )
    };
    vec![
        (
            "handshake",
            [
                vec![0],
                frame(Opcode::Options, 0, b""),
                startup(1),
                frame(Opcode::Register, 2, b"\0\x01\0\x0dSTATUS_CHANGE"),
            ]
            .concat(),
        ),
        (
            "handshake-missing",
            [vec![0], query(1, "SELECT key FROM system.local")].concat(),
        ),
        (
            "handshake-compressed",
            [
                vec![1],
                frame(
                    Opcode::Startup,
                    1,
                    b"\0\x02\0\x0bCQL_VERSION\0\x053.0.0\0\x0bCOMPRESSION\0\x03lz4",
                ),
            ]
            .concat(),
        ),
        ("version-ancient", vec![0, 1, 0, 0, 1, 0, 0, 0, 0]),
        (
            "version-5",
            open(&[
                vec![5, 0, 0, 1, 7, 0, 0, 0, 3, 1, 2, 3],
                query(2, "SELECT key FROM system.local"),
            ]),
        ),
        (
            "version-response",
            open(&[
                vec![0x84, 0, 0, 1, 7, 0, 0, 0, 0],
                query(2, "SELECT key FROM system.local"),
            ]),
        ),
        ("length-too-long", open(&[lying(u32::MAX, b"abc")])),
        ("length-short", open(&[lying(2, b"abcdefghi")])),
        (
            "opcode-unknown",
            open(&[vec![4, 0, 0, 9, 0x77, 0, 0, 0, 0], vec![4, 0, 0, 9, 0x08, 0, 0, 0, 0]]),
        ),
        (
            "flags-all",
            open(&[
                vec![4, 0xff, 0, 9, 7, 0, 0, 0, 0],
                vec![4, 0x04, 0, 8, 5, 0, 0, 0, 2, 0xff, 0xff],
            ]),
        ),
        (
            "query-read",
            open(&queries(&[
                "SELECT * FROM ks.t",
                "SELECT count(*) FROM ks.t WHERE k = 1",
                "SELECT k, WRITETIME(v) FROM ks.t WHERE k IN (1, 2) LIMIT 3",
                "SELECT * FROM system.peers",
            ])),
        ),
        (
            "query-write",
            open(&queries(&[
                "INSERT INTO ks.t (k, c, v, m, l) VALUES (1, 2, 'x', {'a': 1}, [1, 2]) USING TTL 100",
                "UPDATE ks.t SET v = 'y' WHERE k = 1 AND c = 2",
                "DELETE FROM ks.t WHERE k = 1 AND c > 0",
                "SELECT * FROM ks.t",
            ])),
        ),
        (
            "query-types",
            open(&queries(&[
                "INSERT INTO ks.u (k, v, d, t, i, du) VALUES ('a', 0xff, 1.5e-7, 50554d6e-29bb-11e5-b345-feff819cdc9f, '::1', 1mo2d3h)",
                "SELECT * FROM ks.u",
                "SELECT * FROM ks.u WHERE TOKEN(k) > -5",
            ])),
        ),
        (
            "query-conditional",
            scylla(&queries(&[
                "INSERT INTO ks.t (k, c) VALUES (1, 1) IF NOT EXISTS",
                "UPDATE ks.t SET v = 'a' WHERE k = 1 AND c = 1 IF v = null",
                "DELETE FROM ks.t WHERE k = 1 AND c = 1 IF EXISTS",
            ])),
        ),
        (
            "query-schema",
            scylla(&queries(&[
                "CREATE TABLE ks.w (a frozen<map<text, frozen<list<int>>>> PRIMARY KEY)",
                "ALTER TABLE ks.t ADD x int",
                "TRUNCATE ks.t",
                "DROP TABLE ks.w",
                "DESCRIBE KEYSPACES",
                "USE ks",
            ])),
        ),
        (
            "query-batch-text",
            open(&queries(&[
                "BEGIN BATCH INSERT INTO ks.t (k, c) VALUES (1, 1); DELETE FROM ks.u WHERE k = 'a'; APPLY BATCH",
            ])),
        ),
        (
            "query-no-cql",
            open(&queries(&[
                "",
                ";",
                "\u{0}",
                "SELECT",
                "💥 ' \" $$ /* ",
                "INSERT INTO ks.t (k, c) VALUES (99999999999999999999999999, 1e999)",
            ])),
        ),
        (
            "query-paged",
            open(&[frame(
                Opcode::Query,
                4,
                &[
                    long_string("SELECT * FROM ks.t"),
                    vec![0, 1, 0x0c, 0, 0, 0, 1, 0, 0, 0, 4, 1, 2, 3, 4],
                ]
                .concat(),
            )]),
        ),
        (
            "query-named-values",
            open(&[frame(
                Opcode::Query,
                4,
                &[
                    long_string("SELECT * FROM ks.t WHERE k = :k"),
                    vec![0, 1, 0x41, 0, 1, 0, 1, b'k'],
                    value(&1i64.to_be_bytes()),
                ]
                .concat(),
            )]),
        ),
        (
            "query-values-missing",
            open(&[frame(
                Opcode::Query,
                4,
                &[long_string("SELECT * FROM ks.t WHERE k = ?"), vec![0, 1, 1, 0xff, 0xff]].concat(),
            )]),
        ),
        ("nesting-lists", open(&[deep("[", 5_000)])),
        ("nesting-maps", open(&[deep("{1: ", 1_000), deep("(", 1_000)])),
        (
            "nesting-selections",
            open(&[
                query(1, &format!("SELECT {}k FROM ks.t", "token(".repeat(10_000))),
                query(2, &format!("SELECT k{} FROM ks.t", ".f".repeat(30_000))),
                query(
                    3,
                    &format!("SELECT {}k{} FROM ks.t", "ttl(".repeat(60), ".f".repeat(60)),
                ),
            ]),
        ),
        (
            "nesting-types",
            open(&[query(
                1,
                &format!(
                    "CREATE TABLE ks.x (k int PRIMARY KEY, v {}int",
                    "frozen<list<".repeat(1_000)
                ),
            )]),
        ),
        (
            "nesting-relations",
            open(&[query(
                1,
                &format!("SELECT * FROM ks.t WHERE {}k = 1", "(".repeat(2_000)),
            )]),
        ),
        (
            "many-keys",
            open(&[query(
                1,
                &format!("SELECT * FROM ks.t WHERE k IN ({})", vec!["1"; 2_000].join(",")),
            )]),
        ),
        (
            "many-products",
            open(&[query(
                1,
                &format!(
                    "DELETE FROM ks.t WHERE k IN ({0}) AND c IN ({0})",
                    (0..150).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
                ),
            )]),
        ),
        (
            "many-columns",
            open(&[query(1, &format!("SELECT {} FROM ks.t", vec!["v"; 1_500].join(",")))]),
        ),
        (
            "prepare-execute",
            open(&[prepare(1, INSERT), execute(2), query(3, "SELECT * FROM ks.t")]),
        ),
        ("execute-unknown", open(&[execute(1)])),
        (
            "batch-prepared",
            open(&[
                prepare(1, INSERT),
                batch(0, 2, &[prepared_statement(), prepared_statement()].concat()),
            ]),
        ),
        (
            "batch-texts",
            scylla(&[batch(
                1,
                2,
                &[
                    text_statement("INSERT INTO ks.t (k, c) VALUES (1, 1)"),
                    text_statement("INSERT INTO ks.u (k) VALUES ('a')"),
                ]
                .concat(),
            )]),
        ),
        (
            "batch-count-lies",
            open(&[prepare(1, INSERT), batch(0, u16::MAX, &prepared_statement())]),
        ),
        (
            "batch-many",
            open(&[prepare(1, INSERT), batch(1, 2_000, &prepared_statement().repeat(2_000))]),
        ),
        ("batch-kind-unknown", open(&[batch(9, 0, b"")])),
        (
            "batch-counter",
            open(&[batch(
                2,
                1,
                &text_statement("UPDATE ks.t SET v = 'a' WHERE k = 1 AND c = 1"),
            )]),
        ),
        (
            "batch-timestamp-lowest",
            open(&[frame(
                Opcode::Batch,
                1,
                &[0, 0, 0, 0, 1, 0x20, 0x80, 0, 0, 0, 0, 0, 0, 0],
            )]),
        ),
        (
            "auth-response",
            open(&[frame(Opcode::AuthResponse, 1, &value(b"\0cassandra\0cassandra"))]),
        ),
        (
            "login",
            [
                vec![PASSWORDS],
                startup(1),
                login(2),
                query(3, "SELECT * FROM ks.t"),
                query(4, "CREATE ROLE x WITH PASSWORD = 'y' AND LOGIN = true"),
                query(5, "LIST ROLES"),
            ]
            .concat(),
        ),
        (
            "login-wrong",
            [
                vec![PASSWORDS | SCYLLA],
                startup(1),
                query(2, "SELECT * FROM ks.t"),
                credentials(b"\0ops\0wrong"),
                credentials(b""),
                credentials(b"ops"),
                credentials(b"\0\0\0\0"),
                credentials(&[0xff; 300]),
                frame(Opcode::AuthResponse, 1, &[0xff; 4]),
                frame(Opcode::AuthResponse, 1, b""),
                login(9),
                query(3, "SELECT * FROM ks.t"),
            ]
            .concat(),
        ),
        (
            "login-again",
            [
                vec![PASSWORDS | OPEN],
                login(1),
                startup(2),
                query(3, "ALTER ROLE ops WITH PASSWORD = 'secret' AND NOLOGIN = 1"),
                query(4, "GRANT ALL ON ALL KEYSPACES TO ops"),
                query(5, "DROP ROLE nobody"),
            ]
            .concat(),
        ),
        (
            "version-3",
            [
                vec![ALL_VERSIONS],
                startup_of(3, 1),
                frame_of(
                    3,
                    Opcode::Query,
                    2,
                    &[long_string("SELECT * FROM system.local"), vec![0, 1, 0]].concat(),
                ),
            ]
            .concat(),
        ),
        (
            "segments",
            newest(&[segments(
                &[
                    query_of(5, 1, "SELECT * FROM ks.t"),
                    query_of(5, 2, "INSERT INTO ks.t (k, c, v) VALUES (1, 2, 'x')"),
                    query_of(5, 3, "nonsense"),
                    frame_of(5, Opcode::Prepare, 4, &[long_string(INSERT), vec![0, 0, 0, 0]].concat()),
                ]
                .concat(),
            )]),
        ),
        (
            "segments-beta",
            [
                vec![ALL_VERSIONS],
                beta(startup_of(6, 1)),
                segments(&beta(query_of(6, 2, "SELECT * FROM system.peers"))),
                segments(&query_of(6, 3, "SELECT * FROM system.peers")),
            ]
            .concat(),
        ),
        (
            "segments-large",
            newest(&[
                segments(&query_of(5, 1, &format!("SELECT '{}'", "x".repeat(150_000)))),
                segments(&query_of(5, 2, "SELECT key FROM system.local")),
            ]),
        ),
        (
            "segments-corrupt",
            newest(&[
                segments(&query_of(5, 1, "SELECT key FROM system.local")),
                {
                    let mut torn = segments(&query_of(5, 2, "SELECT key FROM system.local"));
                    torn[9] ^= 1;
                    torn
                },
                segments(&query_of(5, 3, "SELECT key FROM system.local")),
            ]),
        ),
        (
            "segments-missing",
            newest(&[query_of(5, 1, "SELECT key FROM system.local")]),
        ),
        (
            "segments-empty-and-lying",
            newest(&[
                segments(&lying(100, b"abc")),
                segments(b"\x05\0\0\x01\x07\xff\xff\xff\xff"),
                segments(&frame_of(4, Opcode::Query, 1, b"")),
                segments(&frame_of(5, Opcode::Query, 2, b"\0\0\0\x01x\0\x01\xff\xff\xff\xff")),
            ]),
        ),
        (
            "segments-login",
            [
                vec![ALL_VERSIONS | PASSWORDS],
                startup_of(5, 1),
                segments(&frame_of(5, Opcode::AuthResponse, 2, &value(b"\0ops\0secret"))),
                segments(&query_of(5, 3, "SELECT * FROM ks.t")),
            ]
            .concat(),
        ),
    ]
}
