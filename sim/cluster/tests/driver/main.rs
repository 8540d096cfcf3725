//! The real driver against the simulated cluster: connections, schema, statements, batches, paging, and what clients are
//! told when nodes fail. Everything here is simulated; without `--cfg madsim` there is nothing to run.
#![cfg(madsim)]

mod basics;
mod failures;
mod hooks;
mod operators;
#[path = "../../examples/own_test.rs"]
mod own_test;
mod raw;

use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use sim_cluster::core::{ClusterConfig, Flavor};
use sim_cluster::host::sim::SimCluster;
use sim_cluster::model::NodeIdx;
use sim_world::{RunSummary, Seed, World, WorldConfig};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const DB1: NodeIdx = NodeIdx(0);
const DB2: NodeIdx = NodeIdx(1);
const DB3: NodeIdx = NodeIdx(2);

/// Two tables, so that a batch over both has more than one mutation and uses the batchlog.
const DDL: &[&str] = &[
    "CREATE KEYSPACE ks WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k bigint, c int, v text, PRIMARY KEY (k, c))",
    "CREATE TABLE ks.u (k bigint PRIMARY KEY, v bigint)",
];

/// Runs a test in a new world with three nodes, on a client machine.
fn simulate<F, Fut>(flavor: Flavor, ddl: &'static [&'static str], test: F) -> RunSummary
where
    F: FnOnce(World, SimCluster) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    simulate_with(ClusterConfig::new(3, flavor), ddl, test)
}

fn simulate_with<F, Fut>(cluster: ClusterConfig, ddl: &'static [&'static str], test: F) -> RunSummary
where
    F: FnOnce(World, SimCluster) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let config = WorldConfig {
        time_limit_ns: Some(900_000_000_000),
        ..WorldConfig::default()
    };
    let outcome = World::run(Seed(1), config, |world| async move {
        let cluster = SimCluster::start_with(&world, cluster, ddl).expect("a schema image");
        cluster.ready().await;
        let client = world.host("client", "10.0.2.1".parse().expect("an address"));
        client.spawn(test(world.clone(), cluster)).await.expect("the test ends");
    });
    match outcome {
        Ok(((), summary)) => summary,
        Err(error) => panic!("{error}"),
    }
}

/// A session that retries nothing, at QUORUM, with all nodes known.
async fn connect(cluster: &SimCluster) -> Session {
    connect_to(cluster, &[DB1, DB2, DB3]).await
}

async fn connect_to(cluster: &SimCluster, nodes: &[NodeIdx]) -> Session {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::Quorum)
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .build();
    let points = cluster.contact_points();
    SessionBuilder::new()
        .known_nodes_addr(nodes.iter().map(|n| points[usize::from(n.0)]))
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await
        .expect("a session")
}

/// A batch over two tables, prepared.
async fn two_table_batch(session: &Session, kind: BatchType) -> Batch {
    let mut batch = Batch::new(kind);
    batch.append_statement(
        session
            .prepare("INSERT INTO ks.t (k, c, v) VALUES (?, ?, ?)")
            .await
            .expect("prepared"),
    );
    batch.append_statement(
        session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared"),
    );
    batch
}

/// The values of [`two_table_batch`] for number `k`. The partition keys differ: Cassandra makes one mutation of the same
/// key in two tables, and uses no batchlog for it.
fn values(k: i64) -> ((i64, i32, &'static str), (i64, i64)) {
    ((k, 1, "v"), (k + 1000, k * 10))
}

/// A profile whose requests all go to one node, at QUORUM, once.
fn only(session: &Session, cluster: &SimCluster, node: NodeIdx) -> ExecutionProfileHandle {
    let ip = cluster.host(node).ip();
    let state = session.get_cluster_state();
    let host = state
        .get_nodes_info()
        .iter()
        .find(|n| n.address.ip() == ip)
        .expect("a known node")
        .host_id;
    let target = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(host), None);
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::Quorum)
        .load_balancing_policy(target)
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()));
    profile.build().into_handle()
}

async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// The error the database sent.
fn db_error(error: ExecutionError) -> (DbError, String) {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(code, text)) => (code, text),
        other => panic!("not an error of the database: {other:?}"),
    }
}

/// How many of the two rows of [`values`] a read at QUORUM finds.
async fn rows_of(session: &Session, k: i64) -> usize {
    let mut found = 0;
    for (table, key) in [("ks.t", k), ("ks.u", k + 1000)] {
        let text = format!("SELECT k FROM {table} WHERE k = {key}");
        let result = session
            .query_unpaged(text, ())
            .await
            .expect("a read")
            .into_rows_result()
            .expect("rows");
        found += result.rows_num();
    }
    found
}

/// What the documentation shows compiles and holds.
#[test]
fn the_example_of_the_documentation_holds() {
    own_test::main();
}
