//! The front by itself: what PREPARE tells, against what a real Cassandra 5.0.5 told for the same statements; what
//! batches become; and exact refusals that no driver provokes. No core and no connection: requests are looked at.

use super::bind::write::Scratch;
use super::bind::{self, Context, Plan, Prepared};
use super::error::CqlError;
use super::frame::response::{self, put_string};
use super::frame::{HEADER_BYTES, Value, Values};
use super::front::{Connection, Front, Outcome, server};
use super::parse::parse;
use super::system::NodeView;
use super::{functions, types, values};
use crate::core::config::ClusterConfig;
use crate::core::flavor::Flavor;
use crate::core::ring::Ring;
use crate::model::{
    Consistency, CoordinatorError, CqlType, NodeIdx, OpKind, Request, Response, Schema, WriteKind, WriteSet, WriteType,
};
use std::sync::Arc;

const DDL: &[&str] = &[
    "CREATE KEYSPACE hprobe WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}",
    "USE hprobe",
    "CREATE TABLE t (p1 int, p2 text, c int, s int static, v int, l list<int>, f frozen<list<int>>, PRIMARY KEY ((p1, p2), c))",
    "CREATE TABLE d (p int, a int, b int, v blob, PRIMARY KEY (p, a, b)) WITH CLUSTERING ORDER BY (a DESC, b ASC)",
    "CREATE TABLE x (p int PRIMARY KEY, v int) WITH default_time_to_live = 60",
];

static NO_BUILDS: crate::core::ViewBuilds = crate::core::ViewBuilds::new();

struct Node {
    config: ClusterConfig,
    ring: Ring,
    schema: Arc<Schema>,
    front: Option<Front>,
    connection: Connection,
}

impl Node {
    fn new(flavor: Flavor) -> Node {
        let config = ClusterConfig::new(3, flavor);
        let schema = Arc::new(bind::ddl::schema_image(&server(&config), DDL).expect("the schema"));
        let ring = Ring::new(&config);
        let mut node = Node {
            config,
            ring,
            schema,
            front: None,
            connection: Connection::default(),
        };
        node.front = Some(Front::new(&node.view(), None));
        let (opcode, _) = node.answered(1, b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0");
        assert_eq!(opcode, 2, "READY");
        node
    }

    fn view(&self) -> NodeView<'_> {
        let (config, ring, schema) = (&self.config, &self.ring, &self.schema);
        NodeView {
            wall_us: 0,
            config,
            ring,
            me: NodeIdx(0),
            generation: 1_735_689_600,
            port: 9042,
            schema,
            lists_own_tables: false,
            facts: &[],
            view_builds: &NO_BUILDS,
        }
    }

    /// Sends one frame; returns what it became and the bytes answered.
    fn send(&mut self, opcode: u8, body: &[u8]) -> (Outcome, Vec<u8>) {
        let mut frame = vec![4, 0, 0, 1, opcode];
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend_from_slice(body);
        let (mut out, mut front, mut connection) =
            (Vec::new(), self.front.take(), std::mem::take(&mut self.connection));
        let taken = front
            .as_mut()
            .map(|f| f.next(&self.view(), &mut connection, &frame, &mut out));
        (self.front, self.connection) = (front, connection);
        let (bytes, outcome) = taken.expect("a front");
        assert_eq!(bytes, frame.len(), "the whole frame is taken");
        (outcome, out)
    }

    /// Sends one frame that is answered at once: opcode and body of the answer.
    fn answered(&mut self, opcode: u8, body: &[u8]) -> (u8, Vec<u8>) {
        let (outcome, out) = self.send(opcode, body);
        assert!(matches!(outcome, Outcome::Answered), "{outcome:?}");
        (out[4], out[HEADER_BYTES..].to_vec())
    }

    fn prepared(&self, text: &str) -> Prepared {
        self.try_prepared(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn try_prepared(&self, text: &str) -> Result<Prepared, CqlError> {
        let server = server(&self.config);
        let context = Context {
            schema: &self.schema,
            keyspace: Some("hprobe"),
            server: &server,
        };
        bind::prepare(&context, text, parse(text)?)
    }

    fn refusal(&self, text: &str) -> String {
        match self.try_prepared(text) {
            Ok(p) => panic!("{text} was prepared: {p:?}"),
            Err(e) => e.message,
        }
    }

    /// Answers ERROR to a frame: code and text.
    fn error(&mut self, opcode: u8, body: &[u8]) -> (i32, String) {
        let (answer, body) = self.answered(opcode, body);
        assert_eq!(answer, 0, "ERROR");
        let code = i32::from_be_bytes([body[0], body[1], body[2], body[3]]);
        let length = usize::from(u16::from_be_bytes([body[4], body[5]]));
        (code, String::from_utf8_lossy(&body[6..6 + length]).into_owned())
    }
}

/// Names and types of a statement's markers, as the observations print them.
fn binds(p: &Prepared) -> Vec<String> {
    p.bind_specs
        .iter()
        .map(|(name, ty)| format!("{name}:{}", types::name(ty)))
        .collect()
}

/// Columns encoded for table `t` of the observations.
fn columns(specs: &[(&str, CqlType)]) -> response::Columns {
    types::columns("hprobe", "t", specs.iter().map(|(n, t)| (*n, t)))
}

fn long_string(text: &str) -> Vec<u8> {
    let mut body = (text.len() as i32).to_be_bytes().to_vec();
    body.extend_from_slice(text.as_bytes());
    body
}

/// The id of a prepared statement and its values.
type Bound<'a> = (&'a [u8], &'a [Option<&'a [u8]>]);

/// The body of a BATCH frame of prepared statements.
fn batch_body(kind: u8, statements: &[Bound<'_>]) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend((statements.len() as u16).to_be_bytes());
    for (id, values) in statements {
        body.push(1);
        response::put_short_bytes(&mut body, id);
        body.extend((values.len() as u16).to_be_bytes());
        values.iter().for_each(|v| response::put_bytes(&mut body, *v));
    }
    body.extend([0, 4, 0]);
    body
}

#[test]
fn prepared_metadata_are_those_of_a_real_cassandra() {
    let node = Node::new(Flavor::Cassandra);
    for (text, names, key) in [
        (
            "SELECT * FROM t WHERE p2=? AND p1=? AND c=?",
            &["p2:text", "p1:int", "c:int"][..],
            &[1u16, 0][..],
        ),
        (
            "INSERT INTO t (c,p2,p1,v) VALUES (?,?,?,?) USING TIMESTAMP ? AND TTL ?",
            &["c:int", "p2:text", "p1:int", "v:int", "[timestamp]:bigint", "[ttl]:int"],
            &[2, 1],
        ),
        (
            "UPDATE t SET v=:x, s=:x WHERE p1=:a AND p2=:b AND c IN :cs",
            &["x:int", "x:int", "a:int", "b:text", "cs:list<int>"],
            &[2, 3],
        ),
        (
            "SELECT p1 FROM t WHERE token(p1,p2)>? LIMIT ?",
            &["partition key token:bigint", "[limit]:int"],
            &[],
        ),
        (
            "SELECT v FROM t WHERE p1=? AND p2 IN ? AND (c)>(?)",
            &["p1:int", "in(p2):list<text>", "c:int"],
            &[],
        ),
        (
            "BEGIN BATCH INSERT INTO t (p1,p2,c) VALUES (?,?,?); UPDATE t SET v=? WHERE p1=? AND p2=? AND c=?; APPLY BATCH",
            &["p1:int", "p2:text", "c:int", "v:int", "p1:int", "p2:text", "c:int"],
            &[4, 5],
        ),
        ("CREATE TABLE zz (p int primary key)", &[], &[]),
        ("USE hprobe", &[], &[]),
    ] {
        let p = node.prepared(text);
        assert_eq!(binds(&p), names, "{text}");
        assert_eq!(p.partition_key_indexes, key, "{text}");
    }
}

#[test]
fn result_columns_are_those_of_a_real_cassandra() {
    let node = Node::new(Flavor::Cassandra);
    let int = || CqlType::Int;
    let list = || CqlType::List(Box::new(CqlType::Int));
    let star = node.prepared("SELECT * FROM t WHERE p1=1 AND p2='a'");
    let expected = [
        ("p1", int()),
        ("p2", CqlType::Text),
        ("c", int()),
        ("s", int()),
        ("f", list()),
        ("l", list()),
        ("v", int()),
    ];
    assert_eq!(
        star.result,
        Some(columns(&expected)),
        "keys, then static, then regular by name"
    );
    let functions = node.prepared("SELECT p1, token(p1,p2), writetime(v), ttl(v), c AS x FROM t");
    let long = || CqlType::Bigint;
    let expected = [
        ("p1", int()),
        ("system.token(p1, p2)", long()),
        ("writetime(v)", long()),
        ("ttl(v)", int()),
        ("x", int()),
    ];
    assert_eq!(functions.result, Some(columns(&expected)));
    assert_eq!(
        node.prepared("SELECT count(*) FROM t").result,
        Some(columns(&[("count", long())]))
    );
    assert_eq!(
        node.prepared("INSERT INTO t (p1, p2, c) VALUES (1, 'a', 1)").result,
        None
    );
}

#[test]
fn ids_are_md5_of_keyspace_and_text() {
    let id = bind::statement_id(Some("ks"), "SELECT 1");
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    // The digest of `ksSELECT 1`, from md5sum.
    assert_eq!(hex, "00ec75d54329a81423983ca0b3add2ae");
    assert_ne!(id, bind::statement_id(None, "SELECT 1"));
}

#[test]
fn a_batch_becomes_one_write_set() {
    let mut node = Node::new(Flavor::Scylla);
    let (opcode, body) = node.answered(
        0x09,
        &long_string("INSERT INTO hprobe.t (c, p2, p1, v) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"),
    );
    assert_eq!(opcode, 8);
    let id = body[6..22].to_vec();
    let (one, stamp) = (1i32.to_be_bytes(), 77i64.to_be_bytes());
    let first: &[Option<&[u8]>] = &[Some(&one), Some(b"a"), Some(&one), Some(&one), Some(&stamp)];
    let second: &[Option<&[u8]>] = &[Some(&one), Some(b"b"), Some(&one), None, Some(&stamp)];
    let (outcome, out) = node.send(0x0D, &batch_body(0, &[(&id, first), (&id, second)]));
    assert!(out.is_empty(), "the core answers");
    let Outcome::Submit(submission) = outcome else {
        panic!("{outcome:?}")
    };
    let Request::Write(write) = submission.request else {
        panic!("not a write")
    };
    assert_eq!(
        (write.kind, write.consistency, write.timestamp_us),
        (WriteKind::Logged, Consistency::Quorum, None)
    );
    let table = node.schema.table_named("hprobe", "t").expect("t").clone();
    let v = table.column("v").expect("v").id;
    let ops: Vec<_> = write.writes.ops().collect();
    assert_eq!(ops[0].partition_key(), b"\x00\x04\x00\x00\x00\x01\x00\x00\x01a\x00");
    assert_eq!(ops[0].clustering(), b"\x00\x04\x00\x00\x00\x01");
    assert_eq!(ops[0].cells().collect::<Vec<_>>(), [(v, Some(&one[..]))]);
    assert_eq!(ops[1].cells().collect::<Vec<_>>(), [(v, None)], "null deletes");
    assert!(
        ops.iter()
            .all(|o| o.kind() == OpKind::Row && o.has_marker() && o.timestamp_us() == Some(77))
    );
}

#[test]
fn refusals_of_batches_and_executions() {
    let mut node = Node::new(Flavor::Cassandra);
    let (_, body) = node.answered(0x09, &long_string("INSERT INTO hprobe.x (p, v) VALUES (?, ?)"));
    let id = body[6..22].to_vec();
    let (_, body) = node.answered(0x09, &long_string("SELECT * FROM hprobe.x"));
    let select = body[6..22].to_vec();
    let one = 1i32.to_be_bytes();
    let short: &[Option<&[u8]>] = &[Some(&one)];
    let batch = batch_body(0, &[(&id, short)]);
    assert_eq!(
        node.error(0x0D, &batch),
        (0x2200, "There were 2 markers(?) in CQL but 1 bound variables".into())
    );
    let wrong = batch_body(0, &[(&id, &[Some(&one), Some(b"12345678")])]);
    assert_eq!(
        node.error(0x0D, &wrong),
        (0x2200, "Expected 4 or 0 byte int (8)".into())
    );
    let null = batch_body(0, &[(&id, &[None, Some(&one)])]);
    assert_eq!(
        node.error(0x0D, &null),
        (0x2200, "Invalid null value in condition for column p".into())
    );
    let read = batch_body(0, &[(&select, &[])]);
    assert_eq!(
        node.error(0x0D, &read).1,
        "Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed."
    );
    let counter = batch_body(2, &[(&id, &[Some(&one), Some(&one)])]);
    assert_eq!(
        node.error(0x0D, &counter).1,
        "Cannot include non-counter statement in a counter batch"
    );
    assert_eq!(
        node.answered(0x0D, &batch_body(0, &[])).1,
        [0, 0, 0, 1],
        "an empty batch is VOID"
    );
    let unknown = batch_body(0, &[(&[0x11; 16], &[])]);
    let (code, text) = node.error(0x0D, &unknown);
    assert_eq!(code, 0x2500);
    assert!(
        text.starts_with("Prepared query with ID 11111111111111111111111111111111 not found"),
        "{text}"
    );
    let mut serial = long_string("INSERT INTO hprobe.x (p, v) VALUES (1, 1)");
    serial.extend([0, 8, 0]);
    assert_eq!(
        node.error(0x07, &serial).1,
        "You must use conditional updates for serializable writes"
    );
    let mut any = long_string("SELECT * FROM hprobe.x");
    any.extend([0, 0, 0]);
    assert_eq!(
        node.error(0x07, &any).1,
        "ANY ConsistencyLevel is only supported for writes"
    );
    let mut state = long_string("SELECT * FROM hprobe.x");
    state.extend([0, 1, 0x0C, 0, 0, 0, 5, 0, 0, 0, 2, 1, 2]);
    assert_eq!(
        node.error(0x07, &state),
        (0x000A, "Invalid value for the paging state".into())
    );
    let mut unset = long_string("INSERT INTO hprobe.x (p, v) VALUES (?, ?)");
    unset.extend([0, 1, 1, 0, 2, 0xFF, 0xFF, 0xFF, 0xFE, 0, 0, 0, 0]);
    assert_eq!(node.error(0x07, &unset).1, "Invalid unset value for column p");
}

#[test]
fn restrictions_are_refused_in_the_words_of_a_real_cassandra() {
    let node = Node::new(Flavor::Cassandra);
    let filtering = "Cannot execute this query as it might involve data filtering and thus may have unpredictable \
                     performance. If you want to execute this query despite the performance unpredictability, use ALLOW FILTERING";
    for (text, expected) in [
        ("SELECT * FROM t WHERE p1=?", filtering),
        ("SELECT v FROM t WHERE v=1", filtering),
        ("SELECT v FROM t WHERE c=1", filtering),
        ("SELECT nope FROM t", "Undefined column name nope in table hprobe.t"),
        (
            "SELECT * FROM d WHERE p=1 AND b=1",
            "PRIMARY KEY column \"b\" cannot be restricted as preceding column \"a\" is not restricted",
        ),
        (
            "SELECT * FROM d WHERE p=1 AND a>1 AND b=1",
            "Clustering column \"b\" cannot be restricted (preceding column \"a\" is restricted by a non-EQ relation)",
        ),
        (
            "SELECT * FROM d WHERE p=1 AND p=2",
            "p cannot be restricted by more than one relation if it includes an Equal",
        ),
        (
            "SELECT * FROM d WHERE p=1 AND a>1 AND a>2",
            "More than one restriction was found for the start bound on a",
        ),
        (
            "SELECT * FROM d WHERE token(p, a) > 1",
            "The token() function must be applied to all partition key components or none of them",
        ),
        (
            "SELECT * FROM t WHERE token(p2, p1) > 1",
            "The token function arguments must be in the partition key order: p1, p2",
        ),
        (
            "SELECT writetime(p) FROM d",
            "Cannot use selection function writetime on PRIMARY KEY part p",
        ),
        (
            "SELECT * FROM d WHERE p=1 ORDER BY b",
            "Order by currently only supports the ordering of columns following their declared order in the PRIMARY KEY",
        ),
        (
            "SELECT * FROM d WHERE p=1 ORDER BY a DESC, b DESC",
            "Unsupported order by relation",
        ),
        (
            "SELECT DISTINCT v FROM t",
            "SELECT DISTINCT queries must only request partition key columns and/or static columns (not v)",
        ),
        (
            "UPDATE t SET v=1 WHERE p1=1 AND c=1",
            "Some partition key parts are missing: p2",
        ),
        (
            "UPDATE t SET v=1 WHERE p1=1 AND p2='a'",
            "Some clustering keys are missing: c",
        ),
        (
            "UPDATE d SET v=0x00 WHERE p=1 AND a=1 AND b>1",
            "Slice restrictions are not supported on the clustering columns in UPDATE statements: b",
        ),
        (
            "DELETE v FROM d WHERE p=1 AND a=1",
            "Range deletions are not supported for specific columns",
        ),
        (
            "DELETE FROM t WHERE p1=1 AND p2='a' AND v=1",
            "Non PRIMARY KEY columns found in where clause: v ",
        ),
        (
            "INSERT INTO t (p1, p2, c, v) VALUES (1, 'a', 1, 99999999999)",
            "Unable to make int from '99999999999'",
        ),
        (
            "INSERT INTO t (p1, p2, c, l) VALUES (1, 'a', 1, {1})",
            "Invalid set literal for l of type list<int>",
        ),
        ("TRUNCATE nope", "table nope does not exist"),
        (
            "SELECT * FROM t USING TIMEOUT 5ms",
            "USING TIMEOUT is not known to Cassandra",
        ),
    ] {
        assert_eq!(node.refusal(text), expected, "{text}");
    }
}

#[test]
fn scylla_has_words_of_its_own() {
    let node = Node::new(Flavor::Scylla);
    for (text, expected) in [
        ("SELECT * FROM nope", "unconfigured table nope"),
        ("SELECT * FROM nope.t", "Keyspace nope does not exist"),
        ("SELECT nope FROM t", "Unrecognized name nope"),
        ("SELECT * FROM system.peers_v2", "unconfigured table peers_v2"),
    ] {
        assert_eq!(node.refusal(text), expected, "{text}");
    }
}

/// The operations of a write without markers.
fn ops(node: &Node, text: &str) -> WriteSet {
    let Plan::Write(write) = node.prepared(text).plan else {
        panic!("not a write: {text}")
    };
    let mut set = WriteSet::new();
    write
        .execute(&[], &mut bind::write::Scratch::default(), &mut set)
        .unwrap_or_else(|e| panic!("{text}: {e}"));
    set
}

#[test]
fn deletes_become_the_narrowest_tombstones_in_storage_order() {
    let node = Node::new(Flavor::Scylla);
    let key = |n: i32| [&[0, 4], &n.to_be_bytes()[..]].concat();
    let kinds = |text: &str| ops(&node, text).ops().map(|o| o.kind()).collect::<Vec<_>>();
    assert_eq!(kinds("DELETE FROM d WHERE p = 1"), [OpKind::PartitionDelete]);
    assert_eq!(
        kinds("DELETE FROM d WHERE p = 1 AND a = 2 AND b = 3"),
        [OpKind::RowDelete]
    );
    assert_eq!(
        kinds("DELETE v FROM d WHERE p = 1 AND a = 2 AND b IN (3, 4)"),
        [OpKind::Row; 2]
    );
    assert_eq!(kinds("DELETE s FROM t WHERE p1 = 1 AND p2 = 'a'"), [OpKind::Static]);
    assert_eq!(
        kinds("DELETE FROM x WHERE p IN (1, 2, 2)"),
        [OpKind::PartitionDelete; 2]
    );
    // a is DESC: what CQL calls the upper bound comes first in storage.
    let set = ops(&node, "DELETE FROM d WHERE p = 1 AND a > 2 AND a <= 5");
    let range = set.op(0);
    assert_eq!(
        (range.kind(), range.clustering(), range.end_bound()),
        (OpKind::RangeDelete, &key(5)[..], &key(2)[..])
    );
    let prefix = ops(&node, "DELETE FROM d WHERE p = 1 AND a = 7");
    assert_eq!(
        (prefix.op(0).clustering(), prefix.op(0).end_bound()),
        (&key(7)[..], &key(7)[..])
    );
}

#[test]
fn static_and_regular_columns_are_two_operations() {
    let node = Node::new(Flavor::Scylla);
    let kinds = |text: &str| {
        ops(&node, text)
            .ops()
            .map(|o| (o.kind(), o.has_marker()))
            .collect::<Vec<_>>()
    };
    let insert = "INSERT INTO t (p1, p2, c, s, v) VALUES (1, 'a', 1, 2, 3)";
    assert_eq!(kinds(insert), [(OpKind::Static, false), (OpKind::Row, true)]);
    assert_eq!(
        kinds("UPDATE t SET s = 1 WHERE p1 = 1 AND p2 = 'a'"),
        [(OpKind::Static, false)]
    );
    assert_eq!(
        kinds("UPDATE t SET v = 1 WHERE p1 = 1 AND p2 = 'a' AND c = 1"),
        [(OpKind::Row, false)]
    );
    assert_eq!(
        kinds("INSERT INTO t (p1, p2, s) VALUES (1, 'a', 2)"),
        [(OpKind::Static, false)]
    );
}

#[test]
fn the_tables_default_ttl_holds_unless_the_statement_says_otherwise() {
    let node = Node::new(Flavor::Scylla);
    let ttl = |text: &str| ops(&node, text).op(0).ttl_s();
    assert_eq!(ttl("INSERT INTO x (p, v) VALUES (1, 1)"), 60);
    assert_eq!(ttl("INSERT INTO x (p, v) VALUES (1, 1) USING TTL 5"), 5);
    assert_eq!(ttl("INSERT INTO x (p, v) VALUES (1, 1) USING TTL 0"), 0);
    assert_eq!(ttl("DELETE v FROM x WHERE p = 1"), 0);
    let Plan::Write(bad) = node
        .prepared("INSERT INTO x (p, v) VALUES (1, 1) USING TTL 630720001")
        .plan
    else {
        panic!()
    };
    let refused = bad
        .execute(&[], &mut bind::write::Scratch::default(), &mut WriteSet::new())
        .expect_err("too long");
    assert_eq!(
        refused.message,
        "ttl is too large. requested (630720001) maximum (630720000)"
    );
}

#[test]
fn errors_of_the_core_have_the_words_of_the_flavour() {
    for (flavor, expected) in [
        (
            Flavor::Scylla,
            "Operation timed out for hprobe.x - received only 1 responses from 2 CL=QUORUM.",
        ),
        (Flavor::Cassandra, "Operation timed out - received only 1 responses."),
    ] {
        let mut node = Node::new(flavor);
        let mut body = long_string("INSERT INTO hprobe.x (p, v) VALUES (1, 1)");
        body.extend([0, 4, 0]);
        let (Outcome::Submit(submission), _) = node.send(0x07, &body) else {
            panic!("not for the core")
        };
        assert_eq!(submission.pending.label(), "write hprobe.x");
        let (consistency, received, required) = (Consistency::Quorum, 1, 2);
        let error = CoordinatorError::WriteTimeout {
            consistency,
            received,
            required,
            write_type: WriteType::Simple,
        };
        let mut out = Vec::new();
        let front = node.front.take().expect("a front");
        front.complete(&node.view(), submission.pending, Response::Error(error), &mut out);
        let mut wanted = Vec::new();
        put_string(&mut wanted, expected);
        wanted.extend([0, 4, 0, 0, 0, 1, 0, 0, 0, 2]);
        put_string(&mut wanted, "SIMPLE");
        assert_eq!(&out[HEADER_BYTES + 4..], wanted, "{}", String::from_utf8_lossy(&out));
    }
}

#[test]
fn system_tables_answer_what_drivers_ask() {
    let mut node = Node::new(Flavor::Scylla);
    for text in [
        "SELECT host_id, rpc_address, data_center, rack, tokens FROM system.peers USING TIMEOUT 30000ms",
        "SELECT host_id, rpc_address, data_center, rack, tokens, cluster_name FROM system.local WHERE key='local'",
        "SELECT keyspace_name, type_name, field_names, field_types FROM system_schema.types",
        "SELECT keyspace_name, initial_tablets FROM system_schema.scylla_keyspaces",
        "SELECT keyspace_name, table_name, column_name, kind, position, type FROM system_schema.columns",
        "SELECT keyspace_name, table_name, partitioner FROM system_schema.scylla_tables",
        "SELECT keyspace_name, table_name FROM system_schema.tables WHERE keyspace_name IN ('hprobe', 'nope')",
        "SELECT keyspace_name, view_name, base_table_name FROM system_schema.views",
        "SELECT keyspace_name, replication, durable_writes FROM system_schema.keyspaces",
        "SELECT * FROM system_schema.functions",
        "SELECT schema_version FROM system.local WHERE key='local'",
    ] {
        let mut body = long_string(text);
        body.extend([0, 1, 0]);
        let (opcode, answer) = node.answered(0x07, &body);
        assert_eq!(
            (opcode, &answer[..4]),
            (8, &[0, 0, 0, 2][..]),
            "{text}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    // Every column of t, with kinds, positions and orders.
    let mut body = long_string(
        "SELECT column_name, clustering_order, kind, position, type FROM system_schema.columns WHERE keyspace_name = 'hprobe' AND table_name = 'd'",
    );
    body.extend([0, 1, 0]);
    let (_, answer) = node.answered(0x07, &body);
    // The text in the answer: a position is four bytes that do not show.
    let shown = String::from_utf8_lossy(&answer).replace(|c: char| !c.is_ascii_graphic(), " ");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    insta::assert_snapshot!(words, @"system_schema columns column_name clustering_order kind position type a desc clustering int b asc clustering int p none partition_key int v none regular blob");
}

#[test]
fn named_values_find_their_markers() {
    let node = Node::new(Flavor::Scylla);
    let p = node.prepared("INSERT INTO x (p, v) VALUES (:a, :b)");
    let mut body = long_string("");
    body.extend([
        0, 1, 0x41, 0, 2, 0, 1, b'b', 0, 0, 0, 4, 0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 4, 0, 0, 0, 1,
    ]);
    let header = super::frame::Header {
        version: 4,
        flags: 0,
        stream: 0,
        opcode: 7,
        length: 0,
    };
    let Ok(super::frame::Request::Query { params, .. }) = super::frame::Request::parse(&header, &body) else {
        panic!("a QUERY")
    };
    let mut bound = Vec::new();
    p.bind(params.values, &mut bound, |_, _| String::new())
        .expect("both are there");
    let one = 1i32.to_be_bytes();
    assert_eq!(bound[0], super::frame::Value::Bytes(&one));
    assert!(p.bind(Values::none(), &mut bound, |m, g| format!("{m} {g}")).is_err());
}

#[test]
fn markers_inside_collections_are_computed_in_scylla_and_refused_in_cassandra() {
    let text = "INSERT INTO t (p1, p2, c, l, f) VALUES (1, 'a', 1, [?, 2], [?])";
    let node = Node::new(Flavor::Scylla);
    let prepared = node.prepared(text);
    assert_eq!(prepared.bind_specs.len(), 2);
    let moment = functions::Moment {
        wall_us: 0,
        node: 0,
        drawn: std::cell::Cell::new(0),
    };
    let seven = 7i32.to_be_bytes();
    let bound = [Value::Bytes(&seven), Value::Bytes(&seven)];
    let made = prepared.compute(&bound, &moment).expect("two lists");
    let list = |items: &[i32]| {
        let items: Vec<_> = items.iter().map(|n| n.to_be_bytes()).collect();
        Some(values::collection(items.len(), items.iter().map(|b| &b[..])))
    };
    assert_eq!(made, [list(&[7, 2]), list(&[7])]);
    let null = prepared.compute(&[Value::Null, Value::Bytes(&seven)], &moment);
    assert_eq!(
        null.expect_err("no null").message,
        "null is not supported inside collections"
    );
    assert_eq!(
        Node::new(Flavor::Cassandra).refusal(text),
        "Invalid list literal for l: bind variables are not supported inside collection literals"
    );
}

#[test]
fn only_lists_by_index_or_value_are_read_before_they_are_written() {
    let node = Node::new(Flavor::Cassandra);
    for (set, reads) in [
        ("l = l + [1]", None),
        ("l = [1] + l", None),
        ("l = [1, 2]", None),
        ("l[0] = 1", Some(1)),
        ("l = l - [1]", Some(1)),
    ] {
        let prepared = node.prepared(&format!("UPDATE t SET {set} WHERE p1 = 1 AND p2 = 'a' AND c IN (1, 2)"));
        let Plan::Write(write) = &prepared.plan else {
            panic!("{set}")
        };
        let found = write.needs_read().then(|| write.reads(&[]).expect("keys").len());
        assert_eq!(found, reads, "{set}");
    }
}

#[test]
fn what_does_not_change_parts_is_written_as_it_always_was() {
    let node = Node::new(Flavor::Scylla);
    let kinds = |text: &str| -> Vec<OpKind> {
        let prepared = node.prepared(text);
        let Plan::Write(write) = &prepared.plan else {
            panic!("{text}")
        };
        let mut set = WriteSet::new();
        write
            .execute(&[], &mut Scratch::default(), &mut set)
            .expect("constants");
        set.ops().map(|o| o.kind()).collect()
    };
    let of_row = "WHERE p1 = 1 AND p2 = 'a' AND c = 1";
    assert_eq!(kinds(&format!("UPDATE t SET v = 1, f = [1] {of_row}")), [OpKind::Row]);
    assert_eq!(kinds(&format!("UPDATE t SET v = 1, l = [1] {of_row}")), [OpKind::Parts]);
    assert_eq!(kinds(&format!("DELETE l FROM t {of_row}")), [OpKind::Parts]);
    assert_eq!(
        kinds(&format!("UPDATE t SET s = 1, l = [] {of_row}")),
        [OpKind::StaticParts, OpKind::Parts]
    );
    assert_eq!(
        kinds("INSERT INTO t (p1, p2, c, v, f) VALUES (1, 'a', 1, 1, [1])"),
        [OpKind::Row]
    );
}
