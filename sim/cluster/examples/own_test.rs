//! A test of somebody's own service against a cluster of which a node dies: `main` is the body of a `#[test]`.
use scylla::{client::session_builder::SessionBuilder, statement::Statement};
use sim_cluster::{core::Flavor, testing};

const DDL: [&str; 2] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}",
    "CREATE TABLE ks.t (k int PRIMARY KEY, v text)",
];

/// What stands in the test.
pub fn main() {
    testing::run(7, Flavor::Scylla, &DDL, |cluster| async move {
        let session = SessionBuilder::new().known_nodes_addr(cluster.contact_points());
        let session = session.build().await.expect("a session");
        let mut insert = Statement::new("INSERT INTO ks.t (k, v) VALUES (1, 'a')");
        insert.set_is_idempotent(true);
        cluster.kill(2);
        session
            .query_unpaged(insert, ())
            .await
            .expect("two of three are a quorum");
        cluster.restart(2).await;
    });
}
