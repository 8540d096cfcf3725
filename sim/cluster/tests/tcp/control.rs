//! One node of a cluster inside a test is frozen, resumed, killed and started again, while the others go on.

use super::create;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::host_filter::AllowListHostFilter;
use scylla::statement::{Consistency, Statement};
use sim_cluster::core::{CommitlogSync, Flavor};
use sim_cluster::host::tcp::{Options, TcpCluster};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A session that knows only this node: a frozen coordinator never answers, and a request to it says nothing about the others.
pub async fn connect_to(node: SocketAddr) -> Session {
    let only = AllowListHostFilter::new([node]).expect("an address");
    let builder = SessionBuilder::new().known_node_addr(node).host_filter(Arc::new(only));
    builder.build().await.expect("a session")
}

async fn write(session: &Session, k: i64, level: Consistency) -> Result<(), String> {
    let mut statement = Statement::new(format!("INSERT INTO ks.u (k, v) VALUES ({k}, 1)"));
    statement.set_consistency(level);
    let done = session.query_unpaged(statement, ()).await;
    done.map(drop).map_err(|e| e.to_string())
}

/// The write at ALL goes through within a few seconds: gossip needs a moment to see a node again.
async fn goes_through(session: &Session, k: i64) {
    for _ in 0..40 {
        if write(session, k, Consistency::All).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("no write at ALL goes through");
}

#[tokio::test]
async fn one_node_freezes_goes_on_dies_and_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        nodes: 3,
        listen: super::program::ANY_PORT.parse().expect("an address"),
        knobs: Default::default(),
        data_dir: directory.path().join("data"),
        flavor: Flavor::Cassandra,
        commitlog_sync: CommitlogSync::Batch,
        auth: None,
    };
    let cluster = TcpCluster::start(options, Arc::new(|_| {})).await.expect("started");
    let third = cluster.contact_points()[2];
    let session = connect_to(cluster.contact_points()[0]).await;
    create(&session).await;
    write(&session, 1, Consistency::All).await.expect("all three");

    cluster.freeze(2);
    write(&session, 2, Consistency::Quorum).await.expect("two of three");
    let error = write(&session, 3, Consistency::All).await.expect_err("one is frozen");
    assert!(error.contains("received: 2, required: 3"), "{error}");
    // Its kernel accepts connections all the same.
    drop(std::net::TcpStream::connect(third).expect("accepted"));
    cluster.resume(2);
    goes_through(&session, 4).await;

    let before = cluster.nodes()[2].generation;
    cluster.kill(2);
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::net::TcpStream::connect(third).expect_err("nobody listens");
    write(&session, 5, Consistency::Quorum).await.expect("two of three");
    cluster.revive(2).await.expect("its address is free again");
    assert!(cluster.nodes()[2].generation > before);
    goes_through(&session, 6).await;

    for node in 0..3 {
        cluster.kill(node);
    }
    let ended = tokio::time::timeout(Duration::from_millis(300), cluster.ended()).await;
    assert!(ended.is_err(), "all nodes are down, and can be started again");
    for node in 0..3 {
        cluster.revive(node).await.expect("its address is free again");
    }
    goes_through(&session, 7).await;
    assert!(cluster.stop().await, "in good order");
}
