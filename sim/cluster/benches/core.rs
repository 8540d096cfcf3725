//! How fast the core alone is: LOGGED batches of eleven rows on three nodes, everything real but the host (messages are
//! handed over at once, the disk swallows bytes). Prints batches per second of one core and where the bytes are.
//! `cargo bench -p sim-cluster --bench core [-- runs] [small]`.

use sim_cluster::core::{ClientRef, ClusterConfig, Effect, Flavor, Input, Node, Start};
use sim_cluster::model::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODES: u8 = 3;

fn bigint(name: &str, kind: ColumnKind) -> NewColumn {
    NewColumn {
        name: name.into(),
        kind,
        order: ClusteringOrder::Asc,
        ty: CqlType::Bigint,
    }
}

fn table(name: &str, partition: usize, clustering: usize, values: usize) -> NewTable {
    let kinds = std::iter::repeat_n(ColumnKind::PartitionKey, partition)
        .chain(std::iter::repeat_n(ColumnKind::Clustering, clustering))
        .chain(std::iter::repeat_n(ColumnKind::Regular, values));
    let columns = kinds.enumerate().map(|(i, k)| bigint(&format!("c{i}"), k)).collect();
    NewTable {
        keyspace: "ks".into(),
        name: name.into(),
        columns,
        options: TableOptions::default(),
    }
}

/// (partition columns, clustering columns, value columns) of trades, ledger, balances, orders.
const SHAPES: [(usize, usize, usize); 4] = [(1, 1, 18), (2, 1, 7), (1, 1, 3), (1, 1, 8)];

fn schema() -> Schema {
    let replication = Replication::NetworkTopology(BTreeMap::from([("dc1".to_owned(), 3)]));
    let ks = SchemaChange::CreateKeyspace {
        name: "ks".into(),
        replication,
        durable_writes: true,
        if_not_exists: false,
    };
    let mut s = Schema::default().apply(&ks, 0).expect("new keyspace").0;
    for (i, (p, c, v)) in SHAPES.iter().enumerate() {
        let change = SchemaChange::CreateTable {
            table: table(&format!("t{i}"), *p, *c, *v),
            if_not_exists: false,
        };
        s = s.apply(&change, 0).expect("new table").0;
    }
    s
}

fn row(set: &mut WriteSet, scratch: &mut Vec<u8>, shape: usize, key: &[i64], value: i64) {
    let (partition, clustering, values) = SHAPES[shape];
    let bytes: Vec<[u8; 8]> = key.iter().map(|k| k.to_be_bytes()).collect();
    let parts: Vec<&[u8]> = bytes[..partition].iter().map(|b| &b[..]).collect();
    scratch.clear();
    partition_key_bytes(&parts, scratch);
    set.begin(OpKind::Row, TableId(shape as u16), scratch, Some(value << 12))
        .marker();
    for c in &bytes[partition..partition + clustering] {
        set.clustering(c);
    }
    for v in 0..values {
        set.cell(ColumnId((partition + clustering + v) as u16), &value.to_be_bytes());
    }
    set.end();
}

fn batch(n: i64, scratch: &mut Vec<u8>) -> WriteSet {
    let mut set = WriteSet::with_capacity(4096, 11);
    let (a, b) = (n * 7919 % 997, n * 104_729 % 997);
    row(&mut set, scratch, 0, &[n, n], n);
    for (user, asset) in [(a, 1), (a, 2), (b, 1), (b, 2)] {
        row(&mut set, scratch, 1, &[user, asset, n], n);
        row(&mut set, scratch, 2, &[user, asset], n);
    }
    row(&mut set, scratch, 3, &[a, n * 2], n);
    row(&mut set, scratch, 3, &[b, n * 2 + 1], n);
    set
}

/// CPU seconds of this thread so far: a loaded machine does not count.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux accounts for CPU time");
    stat.split_whitespace()
        .next()
        .and_then(|ns| ns.parse::<f64>().ok())
        .expect("nanoseconds come first")
        / 1e9
}

struct Cluster {
    nodes: Vec<Node>,
    inbox: VecDeque<(NodeIdx, Input)>,
    replies: u64,
    log_bytes: u64,
    now_us: u64,
}

impl Cluster {
    fn step(&mut self, at: NodeIdx, input: Input, fx: &mut Vec<Effect>) {
        self.nodes[usize::from(at.0)].step(self.now_us, input, None, fx);
        self.perform(at, fx);
    }

    fn perform(&mut self, at: NodeIdx, fx: &mut Vec<Effect>) {
        for e in fx.drain(..) {
            match e {
                Effect::Send { to, msg } => self.inbox.push_back((to, Input::Peer { from: at, msg })),
                Effect::Reply { response, .. } => {
                    assert!(
                        matches!(response, Response::Done { .. } | Response::Rows(_)),
                        "{response:?}"
                    );
                    self.replies += 1;
                }
                Effect::LogAppend { pieces } => self.log_bytes += pieces.iter().map(|p| p.len() as u64).sum::<u64>(),
                Effect::LogSync { token } => self.inbox.push_back((at, Input::LogSynced { token })),
                _ => {}
            }
        }
    }

    fn settle(&mut self, fx: &mut Vec<Effect>) {
        while let Some((at, input)) = self.inbox.pop_front() {
            self.step(at, input, fx);
        }
        for n in 0..NODES {
            while self.nodes[usize::from(n)]
                .next_deadline_us()
                .is_some_and(|t| t <= self.now_us)
            {
                self.step(NodeIdx(n), Input::Tick, fx);
            }
        }
    }
}

fn cluster() -> (Cluster, Vec<Effect>) {
    let mut config = ClusterConfig::new(usize::from(NODES), Flavor::Scylla);
    config.schema = Arc::new(schema());
    let config = Arc::new(config);
    let mut c = Cluster {
        nodes: vec![],
        inbox: VecDeque::new(),
        replies: 0,
        log_bytes: 0,
        now_us: 0,
    };
    let mut fx = vec![];
    for n in 0..NODES {
        let mut node = Node::new(config.clone(), NodeIdx(n), u64::from(n));
        node.boot(0, &[], Start::Together, &mut fx);
        c.nodes.push(node);
        c.perform(NodeIdx(n), &mut fx);
    }
    (c, fx)
}

/// One seed: `batches` batches, a millisecond apart, sixteen at a time.
fn seed(batches: i64, build: bool) -> (f64, u64, u64) {
    let (mut c, mut fx) = cluster();
    let mut scratch = vec![];
    let started = cpu_s();
    for n in 1..=batches {
        let writes = batch(n, &mut scratch);
        if build {
            continue;
        }
        let write = WriteRequest {
            kind: WriteKind::Logged,
            consistency: Consistency::Quorum,
            writes,
            timestamp_us: None,
            timeout_ms: None,
        };
        let from = ClientRef {
            conn: 1,
            request: n as u64,
        };
        c.step(
            NodeIdx((n % 3) as u8),
            Input::Client {
                from,
                request: Request::Write(write),
            },
            &mut fx,
        );
        if n % 16 == 0 {
            c.now_us += 16_000;
            c.settle(&mut fx);
        }
    }
    c.settle(&mut fx);
    (cpu_s() - started, c.replies, c.log_bytes)
}

fn reads(count: i64) -> f64 {
    let (mut c, mut fx) = cluster();
    let mut scratch = vec![];
    for n in 1..=500 {
        let writes = batch(n, &mut scratch);
        let write = WriteRequest {
            kind: WriteKind::Logged,
            consistency: Consistency::All,
            writes,
            timestamp_us: None,
            timeout_ms: None,
        };
        c.step(
            NodeIdx(0),
            Input::Client {
                from: ClientRef { conn: 1, request: 0 },
                request: Request::Write(write),
            },
            &mut fx,
        );
        c.settle(&mut fx);
    }
    let started = cpu_s();
    for n in 0..count {
        let key = PartitionKey::new((n * 7919 % 997).to_be_bytes().to_vec());
        let command = ReadCommand::row(TableId(2), key, ClusteringKey::of(&[&1i64.to_be_bytes()]));
        let read = ReadRequest {
            command,
            consistency: Consistency::Quorum,
            timeout_ms: None,
        };
        c.now_us += 100;
        c.step(
            NodeIdx(0),
            Input::Client {
                from: ClientRef { conn: 1, request: 0 },
                request: Request::Read(read),
            },
            &mut fx,
        );
        c.settle(&mut fx);
    }
    (cpu_s() - started) / count as f64
}

fn main() {
    let runs: u32 = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(200);
    let small_only = std::env::args().any(|a| a == "small");
    for (name, batches) in [("seeds of 500", 500i64), ("seeds of 20000", 20_000)] {
        if small_only && batches > 500 {
            return;
        }
        let runs = if batches > 500 { runs.div_ceil(40) } else { runs };
        // The kernel may account in ticks of milliseconds: only the sum over all runs means anything.
        let total: f64 = (0..runs).map(|_| seed(batches, false).0).sum();
        let (_, replies, log_bytes) = seed(batches, false);
        let per = total / f64::from(runs) / batches as f64;
        println!(
            "{name}: {:.2} us a batch, {:.0} batches/s, {replies} answered, {} log bytes a batch a node",
            per * 1e6,
            1.0 / per,
            log_bytes / 3 / batches as u64
        );
    }
    println!(
        "building the batches alone: {:.2} us each",
        seed(20_000, true).0 / 20_000.0 * 1e6
    );
    println!("a row read at QUORUM: {:.2} us", reads(100_000) * 1e6);
}
