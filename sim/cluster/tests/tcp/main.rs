//! `scylla-sim` as a process, and its host inside a test: the published driver over real TCP, kill -9, SIGTERM, damaged
//! logs, and what a person is told when it cannot start. Production world only.
#![cfg(not(madsim))]

mod auth;
mod control;
mod faults;
mod operators;
#[path = "../../examples/own_test.rs"]
mod own_test;
mod program;
mod recovery;
mod refusals;
mod v5;

use futures::TryStreamExt;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::{Consistency, Statement};
use sim_cluster::core::{CommitlogSync, Flavor, Knob};
use sim_cluster::host::tcp::faults::FaultSpec;
use sim_cluster::host::tcp::{Options, TcpCluster};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const DDL: [&str; 3] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k bigint, c int, v text, PRIMARY KEY (k, c))",
    "CREATE TABLE ks.u (k bigint PRIMARY KEY, v bigint)",
];

/// Three nodes inside this test.
async fn start(directory: &tempfile::TempDir, flavor: Flavor) -> TcpCluster {
    start_with(directory, flavor, &[]).await
}

async fn start_with(directory: &tempfile::TempDir, flavor: Flavor, knobs: &[Knob]) -> TcpCluster {
    let options = Options {
        nodes: 3,
        listen: program::ANY_PORT.parse().expect("an address"),
        knobs: knobs.iter().copied().collect(),
        data_dir: directory.path().join("data"),
        flavor,
        // No period ends while a test runs, however slow the machine.
        commitlog_sync: CommitlogSync::Periodic { period_ms: 600_000 },
        auth: None,
    };
    TcpCluster::start(options, Arc::new(|_| {})).await.expect("started")
}

fn inject(cluster: &TcpCluster, json: &str) -> u32 {
    let spec: FaultSpec = serde_json::from_str(json).expect("a fault");
    cluster.inject(spec).expect("a right one")
}

async fn within(seconds: u64, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(seconds);
    while !is_so().await {
        assert!(Instant::now() < give_up, "not within {seconds} s: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A session at QUORUM.
async fn connect(node: SocketAddr) -> Session {
    let profile = ExecutionProfile::builder().consistency(Consistency::Quorum).build();
    SessionBuilder::new()
        .known_node_addr(node)
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await
        .expect("a session")
}

async fn create(session: &Session) {
    for text in DDL {
        session.query_unpaged(text, ()).await.expect("a schema change");
    }
}

/// Writes rows `from..to` of partition 1, each with its row of the other table, in one LOGGED batch.
async fn write_batch(session: &Session, from: i32, to: i32) {
    let mut batch = Batch::new(BatchType::Logged);
    let mut values = Vec::new();
    for c in from..to {
        batch.append_statement("INSERT INTO ks.t (k, c, v) VALUES (?, ?, ?)");
        batch.append_statement("INSERT INTO ks.u (k, v) VALUES (?, ?)");
        values.push((c, i64::from(c)));
    }
    let texts: Vec<String> = values.iter().map(|(c, _)| format!("v{c}")).collect();
    let rows: Vec<Row<'_>> = values
        .iter()
        .zip(&texts)
        .flat_map(|((c, k), v)| [Row::T(1, *c, v), Row::U(*k, 7)])
        .collect();
    let batch = session.prepare_batch(&batch).await.expect("prepared");
    session.batch(&batch, rows).await.expect("a batch");
}

/// A row of either table, since the values of a batch are of one type here.
enum Row<'a> {
    T(i64, i32, &'a str),
    U(i64, i64),
}

impl scylla::serialize::row::SerializeRow for Row<'_> {
    fn serialize(
        &self,
        context: &scylla::serialize::row::RowSerializationContext<'_>,
        writer: &mut scylla::serialize::writers::RowWriter<'_>,
    ) -> Result<(), scylla::errors::SerializationError> {
        match self {
            Row::T(k, c, v) => (k, c, v).serialize(context, writer),
            Row::U(k, v) => (k, v).serialize(context, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// The clustering keys of partition 1, read in pages of three rows.
async fn read_pages(session: &Session) -> Vec<i32> {
    let statement = Statement::new("SELECT c, v FROM ks.t WHERE k = 1").with_page_size(3);
    let rows = session.query_iter(statement, ()).await.expect("a first page");
    let rows: Vec<(i32, String)> = rows
        .rows_stream()
        .expect("rows of these types")
        .try_collect()
        .await
        .expect("pages");
    assert!(rows.iter().all(|(c, v)| *v == format!("v{c}")));
    rows.into_iter().map(|(c, _)| c).collect()
}

async fn count(session: &Session) -> i64 {
    let result = session
        .query_unpaged("SELECT count(*) FROM ks.u", ())
        .await
        .expect("a count");
    let rows = result.into_rows_result().expect("rows");
    rows.single_row::<(i64,)>().expect("one row").0
}

/// What the documentation shows compiles and holds.
#[test]
fn the_example_of_the_documentation_holds() {
    own_test::main();
}
