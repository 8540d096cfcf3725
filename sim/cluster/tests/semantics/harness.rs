//! A cluster in memory, stepped by hand: messages with programmable delays and losses, log files with a kernel and a
//! platter, kill, power loss, pause. No executor, no sockets; time jumps from event to event.

use sim_cluster::core::{
    BoundaryHook, ClientRef, ClusterConfig, Effect, Event, Flavor, Input, Knob, Msg, Node, Start, snapshot,
};
use sim_cluster::model::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub const MS: u64 = 1_000;
pub const S: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Up,
    Paused,
    Killed,
    Off,
}

pub struct Host {
    pub node: Option<Node>,
    pub state: State,
    pub ready: bool,
    pub stopped: bool,
    /// The log file as the kernel has it, and how much of it is on the platter.
    pub file: Vec<u8>,
    pub synced: usize,
    inbox: VecDeque<Input>,
    lives: u64,
}

enum Delivery {
    Peer {
        from: NodeIdx,
        to: NodeIdx,
        life: u64,
        msg: Msg,
    },
    Reset {
        at: NodeIdx,
        peer: NodeIdx,
    },
    Synced {
        at: NodeIdx,
        life: u64,
        token: u64,
        length: usize,
    },
    Resume(NodeIdx),
}

/// What a cluster behaves like: a flavour, or a flavour with one of its knobs turned.
pub trait Behaviour: Copy + std::fmt::Debug {
    fn config(self, nodes: usize) -> ClusterConfig;
}

impl Behaviour for Flavor {
    fn config(self, nodes: usize) -> ClusterConfig {
        ClusterConfig::new(nodes, self)
    }
}

impl Behaviour for Knob {
    fn config(self, nodes: usize) -> ClusterConfig {
        let mut config = ClusterConfig::new(nodes, self.flavor());
        config.knobs.insert(self);
        config
    }
}

pub type Route = Box<dyn FnMut(NodeIdx, NodeIdx, &Msg) -> Option<u64>>;

pub struct Cluster {
    pub config: Arc<ClusterConfig>,
    pub now: u64,
    pub hosts: Vec<Host>,
    queue: BTreeMap<(u64, u64), Delivery>,
    count: u64,
    pub replies: BTreeMap<u64, (u64, Response)>,
    pub events: Vec<(u64, NodeIdx, Event)>,
    pub statuses: Vec<(u64, NodeIdx, NodeIdx, bool)>,
    /// Delay of a message in microseconds; `None` loses it.
    pub route: Route,
    pub hook: Option<Box<dyn BoundaryHook>>,
    pub sync_us: u64,
    pub sync_stuck: bool,
    requests: u64,
}

/// 300 microseconds whatever it is.
pub fn healthy() -> Route {
    Box::new(|_, _, _| Some(300))
}

impl Cluster {
    pub fn new(nodes: usize, like: impl Behaviour) -> Cluster {
        Cluster::with(like.config(nodes))
    }

    pub fn with(mut config: ClusterConfig) -> Cluster {
        if config.schema.keyspaces.is_empty() {
            config.schema = Arc::new(schema(3));
        }
        let config = Arc::new(config);
        let mut c = Cluster {
            now: 0,
            hosts: vec![],
            queue: BTreeMap::new(),
            count: 0,
            replies: BTreeMap::new(),
            events: vec![],
            statuses: vec![],
            route: healthy(),
            hook: None,
            sync_us: 200,
            sync_stuck: false,
            requests: 0,
            config,
        };
        for n in c.config.clone().node_indices() {
            let host = Host {
                node: None,
                state: State::Off,
                ready: false,
                stopped: false,
                file: vec![],
                synced: 0,
                inbox: VecDeque::new(),
                lives: 0,
            };
            c.hosts.push(host);
            c.boot(n.0, Start::Together);
        }
        c
    }

    fn boot(&mut self, n: u8, start: Start) {
        let i = NodeIdx(n);
        let host = &mut self.hosts[usize::from(n)];
        host.lives += 1;
        host.state = State::Up;
        host.ready = false;
        host.inbox.clear();
        let seed = u64::from(n) * 1000 + host.lives;
        let mut node = Node::new(self.config.clone(), i, seed);
        let mut fx = vec![];
        node.boot(self.now, &host.file.clone(), start, &mut fx);
        host.node = Some(node);
        self.perform(i, fx);
    }

    pub fn node(&self, n: u8) -> &Node {
        self.hosts[usize::from(n)].node.as_ref().expect("the node runs")
    }

    fn perform(&mut self, me: NodeIdx, fx: Vec<Effect>) {
        let life = self.hosts[usize::from(me.0)].lives;
        for effect in fx {
            match effect {
                Effect::Send { to, msg } => self.transmit(me, to, msg),
                Effect::Reply { to, response } => {
                    self.replies.insert(to.request, (self.now, response));
                }
                Effect::LogAppend { pieces } => self.hosts[usize::from(me.0)].file.extend(pieces.into_iter().flatten()),
                Effect::LogSync { token } => {
                    if !self.sync_stuck {
                        let length = self.hosts[usize::from(me.0)].file.len();
                        self.push(
                            self.now + self.sync_us,
                            Delivery::Synced {
                                at: me,
                                life,
                                token,
                                length,
                            },
                        );
                    }
                }
                Effect::LogTruncate { length_bytes } => {
                    let h = &mut self.hosts[usize::from(me.0)];
                    h.file.truncate(length_bytes as usize);
                    h.synced = h.synced.min(h.file.len());
                }
                Effect::Ready => self.hosts[usize::from(me.0)].ready = true,
                Effect::Status { peer, up } => self.statuses.push((self.now, me, peer, up)),
                Effect::KillSelf => {
                    self.kill(me.0);
                    return;
                }
                Effect::PauseSelf { ms } => {
                    self.pause(me.0);
                    self.push(self.now + ms * MS, Delivery::Resume(me));
                }
                Effect::Stopped | Effect::Halted { .. } => {
                    self.hosts[usize::from(me.0)].stopped = true;
                    self.hosts[usize::from(me.0)].state = State::Killed;
                    self.hosts[usize::from(me.0)].node = None;
                    return;
                }
                Effect::Event(e) => self.events.push((self.now, me, e)),
                Effect::SchemaChanged { .. } | Effect::RepairEnded { .. } | Effect::Replaced { .. } => {}
            }
        }
    }

    fn push(&mut self, at: u64, d: Delivery) {
        self.count += 1;
        self.queue.insert((at, self.count), d);
    }

    fn transmit(&mut self, from: NodeIdx, to: NodeIdx, msg: Msg) {
        let Some(delay) = (self.route)(from, to, &msg) else {
            return;
        };
        let target = &self.hosts[usize::from(to.0)];
        let life = target.lives;
        match target.state {
            State::Up | State::Paused => self.push(self.now + delay, Delivery::Peer { from, to, life, msg }),
            State::Killed => self.push(self.now + 2 * delay, Delivery::Reset { at: from, peer: to }),
            State::Off => {}
        }
    }

    pub fn input(&mut self, n: u8, input: Input) {
        let host = &mut self.hosts[usize::from(n)];
        match host.state {
            State::Paused => host.inbox.push_back(input),
            State::Up => {
                let mut fx = vec![];
                let mut hook = self.hook.take();
                let node = host.node.as_mut().expect("an up host has its node");
                match hook.as_deref_mut() {
                    Some(h) => node.step(self.now, input, Some(h), &mut fx),
                    None => node.step(self.now, input, None, &mut fx),
                }
                self.hook = hook;
                self.perform(NodeIdx(n), fx);
            }
            State::Killed | State::Off => {}
        }
    }

    /// Runs until simulated time `until`.
    pub fn run_until(&mut self, until: u64) {
        while let Some(at) = self.next_event().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.one_event();
        }
        self.now = self.now.max(until);
    }

    pub fn run_for(&mut self, us: u64) {
        self.run_until(self.now + us);
    }

    fn next_event(&mut self) -> Option<u64> {
        let queued = self.queue.keys().next().map(|k| k.0);
        let timers = self.hosts.iter_mut().filter(|h| h.state == State::Up);
        timers
            .filter_map(|h| h.node.as_mut()?.next_deadline_us())
            .chain(queued)
            .min()
    }

    fn one_event(&mut self) {
        if let Some(key) = self.queue.keys().next().copied().filter(|k| k.0 <= self.now) {
            let d = self.queue.remove(&key).expect("just seen");
            return self.deliver(d);
        }
        for n in 0..self.hosts.len() {
            let h = &mut self.hosts[n];
            let due = h.state == State::Up
                && h.node
                    .as_mut()
                    .and_then(Node::next_deadline_us)
                    .is_some_and(|t| t <= self.now);
            if due {
                return self.input(n as u8, Input::Tick);
            }
        }
    }

    fn deliver(&mut self, d: Delivery) {
        match d {
            Delivery::Peer { from, to, life, msg } => {
                let h = &self.hosts[usize::from(to.0)];
                match h.state {
                    State::Killed => self.push(self.now + 300, Delivery::Reset { at: from, peer: to }),
                    _ if h.lives == life => self.input(to.0, Input::Peer { from, msg }),
                    _ => {}
                }
            }
            Delivery::Reset { at, peer } => self.input(at.0, Input::PeerReset { peer }),
            Delivery::Synced {
                at,
                life,
                token,
                length,
            } => {
                let h = &mut self.hosts[usize::from(at.0)];
                if h.lives == life {
                    h.synced = h.synced.max(length.min(h.file.len()));
                    self.input(at.0, Input::LogSynced { token });
                }
            }
            Delivery::Resume(n) => self.resume(n.0),
        }
    }

    pub fn kill(&mut self, n: u8) {
        let h = &mut self.hosts[usize::from(n)];
        h.node = None;
        h.state = State::Killed;
        for peer in 0..self.hosts.len() as u8 {
            if peer != n {
                self.push(
                    self.now + 300,
                    Delivery::Reset {
                        at: NodeIdx(peer),
                        peer: NodeIdx(n),
                    },
                );
            }
        }
    }

    pub fn power_off(&mut self, n: u8) {
        let h = &mut self.hosts[usize::from(n)];
        h.node = None;
        h.state = State::Off;
        h.file.truncate(h.synced);
    }

    pub fn restart(&mut self, n: u8) {
        self.boot(n, Start::Alone);
    }

    /// The node's machine and disk are lost, and another one is started in its place.
    pub fn replace(&mut self, n: u8) {
        let heard = |h: &Host| h.node.as_ref().map(|node| node.peer_generation(NodeIdx(n)));
        let generation = self.hosts.iter().filter_map(heard).max().unwrap_or(0);
        self.kill(n);
        let h = &mut self.hosts[usize::from(n)];
        h.file.clear();
        (h.synced, h.stopped) = (0, false);
        self.boot(n, Start::InPlaceOf { generation });
    }

    pub fn pause(&mut self, n: u8) {
        self.hosts[usize::from(n)].state = State::Paused;
    }

    pub fn resume(&mut self, n: u8) {
        let h = &mut self.hosts[usize::from(n)];
        if h.state != State::Paused {
            return;
        }
        h.state = State::Up;
        for input in std::mem::take(&mut h.inbox) {
            self.input(n, input);
        }
    }

    // ---- clients ----

    pub fn ask(&mut self, n: u8, request: Request) -> u64 {
        self.ask_on(n, 1, request)
    }

    pub fn ask_on(&mut self, n: u8, conn: u64, request: Request) -> u64 {
        self.requests += 1;
        let id = self.requests;
        self.input(
            n,
            Input::Client {
                from: ClientRef { conn, request: id },
                request,
            },
        );
        id
    }

    /// Runs until the request is answered, at most `limit` microseconds.
    pub fn answer_within(&mut self, id: u64, limit: u64) -> Option<(u64, Response)> {
        let until = self.now + limit;
        while !self.replies.contains_key(&id) {
            match self.next_event().filter(|at| *at <= until) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.one_event();
                }
                None => {
                    self.now = until;
                    break;
                }
            }
        }
        self.replies.remove(&id)
    }

    pub fn call(&mut self, n: u8, request: Request) -> Response {
        let id = self.ask(n, request);
        self.answer_within(id, 30 * S)
            .expect("every request is answered in 30 s")
            .1
    }

    pub fn write(&mut self, n: u8, kind: WriteKind, consistency: Consistency, writes: WriteSet) -> Response {
        self.call(n, write_request(kind, consistency, writes))
    }

    pub fn ok(&mut self, n: u8, kind: WriteKind, consistency: Consistency, writes: WriteSet) {
        match self.write(n, kind, consistency, writes) {
            Response::Done { .. } => {}
            other => panic!("expected success, got {other:?}"),
        }
    }

    pub fn read(&mut self, n: u8, consistency: Consistency, command: ReadCommand) -> ReadResult {
        match self.call(
            n,
            Request::Read(ReadRequest {
                command,
                consistency,
                timeout_ms: None,
            }),
        ) {
            Response::Rows(rows) => rows,
            other => panic!("expected rows, got {other:?}"),
        }
    }

    /// `v` of row (p, c) of table `rows` as a client reads it.
    pub fn value(&mut self, n: u8, consistency: Consistency, p: i64, c: i64) -> Option<i64> {
        let r = self.read(n, consistency, ReadCommand::row(ROWS, pk(p), ck(c)));
        r.rows()
            .next()
            .and_then(|(_, row)| row.cell(V))
            .map(|cell| number(cell.value))
    }

    /// `v` of row (p, c) of table `rows` on one replica's own storage, with its timestamp.
    pub fn stored(&self, n: u8, p: i64, c: i64) -> Option<(i64, i64)> {
        let snap = snapshot::live(self.node(n), self.now);
        find(&snap, "rows", p, c)
    }

    /// The same after a restart from what the platter has.
    pub fn on_platter(&self, n: u8, p: i64, c: i64) -> Option<(i64, i64)> {
        let h = &self.hosts[usize::from(n)];
        let snap = snapshot::recoverable(&self.config, &h.file[..h.synced], self.now);
        find(&snap, "rows", p, c)
    }

    pub fn saw(&self, mut what: impl FnMut(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, _, e)| what(e)).count()
    }

    pub fn kept_batches(&self) -> usize {
        self.hosts
            .iter()
            .filter_map(|h| h.node.as_ref())
            .map(|n| n.kept_batches().count())
            .sum()
    }

    pub fn pending_hints(&self) -> usize {
        self.hosts
            .iter()
            .filter_map(|h| h.node.as_ref())
            .map(|n| n.pending_hints())
            .sum()
    }
}

pub fn find(snap: &snapshot::ReplicaSnapshot, table: &str, p: i64, c: i64) -> Option<(i64, i64)> {
    let t = snap.table("k", table)?;
    let row = t
        .rows
        .iter()
        .find(|r| r.partition == pk(p) && r.row.clustering() == ck(c).0)?;
    row.row.cell(V).map(|cell| (number(cell.value), cell.timestamp_us))
}

pub fn number(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("a bigint"))
}

/// `k.rows (p bigint, c bigint, v bigint, w bigint, primary key (p, c))`, `k.other` alike, `k.stat` with a static `s`.
pub fn schema(rf: u8) -> Schema {
    let replication = Replication::NetworkTopology(BTreeMap::from([("dc1".to_owned(), rf)]));
    let ks = SchemaChange::CreateKeyspace {
        name: "k".into(),
        replication,
        durable_writes: true,
        if_not_exists: false,
    };
    let mut schema = Schema::default().apply(&ks, 0).expect("a new keyspace").0;
    for name in ["rows", "other"] {
        schema = schema
            .apply(
                &SchemaChange::CreateTable {
                    table: table(name),
                    if_not_exists: false,
                },
                0,
            )
            .expect("a new table")
            .0;
    }
    schema
}

pub fn table(name: &str) -> NewTable {
    let column = |name: &str, kind| NewColumn {
        name: name.into(),
        kind,
        order: ClusteringOrder::Asc,
        ty: CqlType::Bigint,
    };
    let columns = vec![
        column("p", ColumnKind::PartitionKey),
        column("c", ColumnKind::Clustering),
        column("v", ColumnKind::Regular),
        column("w", ColumnKind::Regular),
        column("s", ColumnKind::Static),
    ];
    NewTable {
        keyspace: "k".into(),
        name: name.into(),
        columns,
        options: TableOptions::default(),
    }
}

pub const ROWS: TableId = TableId(0);
pub const OTHER: TableId = TableId(1);
pub const V: ColumnId = ColumnId(2);
pub const W: ColumnId = ColumnId(3);
pub const ST: ColumnId = ColumnId(4);

pub fn pk(p: i64) -> PartitionKey {
    PartitionKey::new(p.to_be_bytes().to_vec())
}

pub fn ck(c: i64) -> ClusteringKey {
    ClusteringKey::of(&[&c.to_be_bytes()])
}

/// Partitions 1 to `n` in the order in which a batch's mutations leave: that of hashed keys, not of the statements.
pub fn leaving(n: i64) -> Vec<i64> {
    let mut partitions: Vec<i64> = (1..=n).collect();
    partitions.sort_by_key(|p| pk(*p).token);
    partitions
}

/// INSERT INTO table (p, c, v) with an optional USING TIMESTAMP.
pub fn insert(set: &mut WriteSet, table: TableId, p: i64, c: i64, v: i64, ts: Option<i64>) {
    set.begin(OpKind::Row, table, &p.to_be_bytes(), ts)
        .marker()
        .clustering(&c.to_be_bytes())
        .cell(V, &v.to_be_bytes())
        .end();
}

pub fn one(p: i64, v: i64) -> WriteSet {
    let mut set = WriteSet::new();
    insert(&mut set, ROWS, p, 0, v, None);
    set
}

/// A batch over `n` partitions of `rows`: p = 1..=n, c = 0, v.
pub fn batch(n: i64, v: i64) -> WriteSet {
    let mut set = WriteSet::new();
    for p in 1..=n {
        insert(&mut set, ROWS, p, 0, v, None);
    }
    set
}

pub fn write_request(kind: WriteKind, consistency: Consistency, writes: WriteSet) -> Request {
    Request::Write(WriteRequest {
        kind,
        consistency,
        writes,
        timestamp_us: None,
        timeout_ms: None,
    })
}

pub fn error(r: Response) -> CoordinatorError {
    match r {
        Response::Error(e) => e,
        other => panic!("expected an error, got {other:?}"),
    }
}

/// Which kind of message it is, for routes.
pub fn is_mutate(msg: &Msg) -> bool {
    matches!(msg, Msg::Mutate { .. })
}

/// A read at QUORUM of the first row of partition 1.
pub fn quorum_read() -> Request {
    Request::Read(ReadRequest {
        command: ReadCommand::row(ROWS, pk(1), ck(0)),
        consistency: Consistency::Quorum,
        timeout_ms: None,
    })
}
