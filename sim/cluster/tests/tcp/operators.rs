//! What operators do, on real sockets: a repair, a node replaced, a node that learns of no change to the schema, a node that
//! cannot be added.

use super::control::connect_to;
use super::{connect, create, inject, start, start_with, within};
use scylla::client::session::Session;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::{Consistency, Statement};
use sim_cluster::core::{Flavor, Knob};
use sim_cluster::host::tcp::TcpCluster;
use sim_cluster::host::tcp::faults::{Fault, FaultSpec, FaultState};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

const FLAVORS: [Flavor; 2] = [Flavor::Scylla, Flavor::Cassandra];

/// A fault that is over.
async fn over(cluster: &TcpCluster, id: u32) -> Fault {
    let mut found = None;
    within(30, "a fault is over", async || {
        let fault = cluster.faults().into_iter().find(|f| f.id == id).expect("listed");
        let is_over = fault.state == FaultState::Done;
        found = Some(fault).filter(|_| is_over);
        is_over
    })
    .await;
    found.expect("over")
}

async fn write(session: &Session, k: i64, level: Consistency) -> Result<(), String> {
    let mut statement = Statement::new(format!("INSERT INTO ks.u (k, v) VALUES ({k}, 1)"));
    statement.set_consistency(level);
    let done = session.query_unpaged(statement, ()).await;
    done.map(drop).map_err(|e| e.to_string())
}

/// Rows of `ks.u` on a node.
fn rows(cluster: &TcpCluster, node: usize) -> usize {
    cluster.nodes()[node].rows.get("ks.u").copied().unwrap_or(0)
}

#[tokio::test]
async fn a_repair_is_made_on_command_and_says_how_it_ended() {
    for flavor in FLAVORS {
        let directory = tempfile::tempdir().expect("a directory");
        let cluster = start(&directory, flavor).await;
        let session = connect_to(cluster.contact_points()[0]).await;
        create(&session).await;
        let no_hints = inject(&cluster, r#"{"do": "lose-hints", "for": "60s"}"#);
        let cut = inject(&cluster, r#"{"do": "cut", "node": 3}"#);
        within(5, "the links are cut", async || {
            cluster.faults().iter().all(|f| f.state == FaultState::Active)
        })
        .await;
        for k in 0..20 {
            write(&session, k, Consistency::One).await.expect("one of three");
        }
        // Until the writes are given up, whose hints nobody keeps.
        sleep(Duration::from_millis(2_500)).await;
        cluster.cancel(cut);
        sleep(Duration::from_millis(200)).await;
        assert_eq!([rows(&cluster, 0), rows(&cluster, 2)], [20, 0], "{flavor:?}");

        let wrong = inject(&cluster, r#"{"do": "repair", "keyspace": "nope"}"#);
        let failed = over(&cluster, wrong).await.failed;
        assert_eq!(failed.as_deref(), Some("Keyspace [nope] does not exist."));

        let repair = inject(&cluster, r#"{"do": "repair", "table": "ks.u", "node": 2}"#);
        let done = over(&cluster, repair).await;
        assert_eq!((done.struck, done.failed), (1, None));
        assert_eq!(rows(&cluster, 2), 20, "{flavor:?}");
        let trace = cluster.trace(0, 10_000);
        let told = serde_json::to_string(&trace).expect("lines");
        for line in [
            "repair of ks.u by node 2: done, 20 mutations were lacking",
            "\"repair-begun\"",
            "\"repair-ended\"",
        ] {
            assert!(told.contains(line), "{line}");
        }
        assert_eq!(
            cluster.repair(None, "ks", None).await,
            Ok(0),
            "nothing is lacking any more"
        );
        cluster.cancel(no_hints);
        assert!(cluster.stop().await, "in good order");
    }
}

#[tokio::test]
async fn a_compaction_forgets_what_is_older_than_gc_grace_and_a_restart_does_not_bring_it_back() {
    for flavor in FLAVORS {
        let directory = tempfile::tempdir().expect("a directory");
        let cluster = start(&directory, flavor).await;
        let session = connect_to(cluster.contact_points()[0]).await;
        create(&session).await;
        let run = async |text: &str| drop(session.query_unpaged(text, ()).await.expect(text));
        run("ALTER TABLE ks.u WITH gc_grace_seconds = 1").await;
        for k in 0..10 {
            write(&session, k, Consistency::All).await.expect("all of three");
        }
        for k in 0..6 {
            run(&format!("DELETE FROM ks.u WHERE k = {k}")).await;
        }
        sleep(Duration::from_millis(2_500)).await;
        let [wrong, compact] = [
            r#"{"do": "compact", "table": "ks.nope", "node": 2}"#,
            r#"{"do": "compact", "table": "ks.u", "node": 2}"#,
        ]
        .map(|fault| inject(&cluster, fault));
        let failed = over(&cluster, wrong).await.failed;
        assert_eq!(failed.as_deref(), Some("Unknown keyspace/cf pair (ks.nope)"));
        assert_eq!(over(&cluster, compact).await.failed, None);
        assert_eq!([0, 1, 2].map(|n| rows(&cluster, n)), [10, 4, 10], "{flavor:?}");
        let told = serde_json::to_string(&cluster.trace(0, 10_000)).expect("lines");
        for line in ["compaction of ks.u on node 2", "\"purged\"", "\"table\":1,\"rows\":12"] {
            assert!(told.contains(line), "{line}: {told}");
        }
        cluster.kill(1);
        cluster.revive(1).await.expect("its port is free");
        within(10, "it is back", async || rows(&cluster, 1) > 0).await;
        assert_eq!(rows(&cluster, 1), 4, "{flavor:?}");
        cluster.kill(0);
        let dead = cluster.compact(0, "ks", None);
        assert_eq!(dead, Err("node 1 is dead".to_owned()));
    }
}

/// The host id of the third node, as another one tells it.
async fn host_id(session: &Session, cluster: &TcpCluster) -> Uuid {
    let third = cluster.contact_points()[2].ip();
    let text = "SELECT peer, host_id FROM system.peers";
    let result = session.query_unpaged(text, ()).await.expect("peers");
    let rows = result.into_rows_result().expect("rows");
    let mut rows = rows
        .rows::<(std::net::IpAddr, Uuid)>()
        .expect("of these types")
        .flatten();
    rows.find(|(peer, _)| *peer == third).expect("a row of it").1
}

#[tokio::test]
async fn a_node_is_replaced_and_has_what_the_others_have() {
    for flavor in FLAVORS {
        let directory = tempfile::tempdir().expect("a directory");
        let cluster = start(&directory, flavor).await;
        let third = cluster.contact_points()[2];
        let session = connect_to(cluster.contact_points()[0]).await;
        create(&session).await;
        for k in 0..50 {
            write(&session, k, Consistency::All).await.expect("all");
        }
        let (generation, before) = (cluster.nodes()[2].generation, host_id(&session, &cluster).await);
        let fault = inject(&cluster, r#"{"do": "replace", "node": 3}"#);
        within(5, "it joins", async || cluster.nodes()[2].state == "joining").await;
        assert_eq!(rows(&cluster, 2), 0, "{flavor:?}: an empty disk");
        std::net::TcpStream::connect(third).expect_err("nobody can connect yet");
        write(&session, 100, Consistency::Quorum).await.expect("two of three");
        let done = over(&cluster, fault).await;
        assert_eq!(done.failed, None, "{flavor:?}");
        assert!(rows(&cluster, 2) >= 50, "{flavor:?}");
        within(15, "what was written meanwhile comes", async || rows(&cluster, 2) == 51).await;
        let status = &cluster.nodes()[2];
        assert!(status.generation > generation);
        assert_eq!(status.state, "up");
        let after = host_id(&session, &cluster).await;
        assert_eq!(after == before, flavor == Flavor::Cassandra, "another host in ScyllaDB");
        // A driver finds all three and works with them.
        let all = connect(third).await;
        assert_eq!(all.get_cluster_state().get_nodes_info().len(), 3);
        within(10, "a write at ALL goes through", async || {
            write(&all, 101, Consistency::All).await.is_ok()
        })
        .await;
        assert!(cluster.stop().await, "in good order");

        let again = start(&directory, flavor).await;
        let session = connect_to(again.contact_points()[0]).await;
        assert_eq!(host_id(&session, &again).await, after, "{flavor:?}: it stays who it is");
    }
}

#[tokio::test]
async fn without_sources_a_node_is_not_replaced_until_they_are_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Cassandra).await;
    let session = connect_to(cluster.contact_points()[0]).await;
    create(&session).await;
    write(&session, 1, Consistency::All).await.expect("all");
    // The others stand still: it hears nobody.
    [0, 1].into_iter().for_each(|n| cluster.freeze(n));
    let reason = cluster.replace(2).await.expect_err("no sources");
    assert!(reason.contains("Unable to gossip with any peers"), "{reason}");
    assert_eq!(cluster.nodes()[2].state, "halted");
    [0, 1].into_iter().for_each(|n| cluster.resume(n));
    cluster.replace(2).await.expect("replaced");
    assert_eq!(rows(&cluster, 2), 1);
}

#[tokio::test]
async fn a_node_that_learns_of_no_change_does_not_know_the_table() {
    for flavor in FLAVORS {
        let directory = tempfile::tempdir().expect("a directory");
        let cluster = start(&directory, flavor).await;
        let first = connect_to(cluster.contact_points()[0]).await;
        let third = connect_to(cluster.contact_points()[2]).await;
        create(&first).await;
        third.await_schema_agreement().await.expect("agreed");
        let hold = inject(&cluster, r#"{"do": "hold-schema", "node": 3}"#);
        within(5, "it is held", async || {
            cluster.faults()[0].state == FaultState::Active
        })
        .await;
        let begun = Instant::now();
        let text = "CREATE TABLE ks.late (k bigint PRIMARY KEY, v bigint)";
        first.query_unpaged(text, ()).await.expect("made");
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{flavor:?}: it is not waited for"
        );
        let error = third
            .query_unpaged("SELECT k FROM ks.late", ())
            .await
            .expect_err("unknown");
        let told = error.to_string();
        assert!(told.contains("late"), "{flavor:?}: {told}");
        // A driver that knows both waits for agreement, and gives up.
        let both = connect(cluster.contact_points()[0]).await;
        let agreed = tokio::time::timeout(Duration::from_secs(2), both.await_schema_agreement()).await;
        assert!(
            agreed.is_err() || agreed.is_ok_and(|a| a.is_err()),
            "{flavor:?}: no agreement"
        );
        cluster.cancel(hold);
        within(5, "it learns", async || {
            third.query_unpaged("SELECT k FROM ks.late", ()).await.is_ok()
        })
        .await;
        both.await_schema_agreement().await.expect("agreed");
    }
}

#[tokio::test]
async fn a_node_cannot_be_added_and_that_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let cluster = start(&directory, Flavor::Scylla).await;
    let spec: FaultSpec = serde_json::from_str(r#"{"do": "add-node", "node": 4}"#).expect("a fault");
    let refused = cluster.inject(spec).expect_err("refused").to_string();
    assert!(
        refused.contains("--nodes N") && refused.contains("replace"),
        "{refused}"
    );
    assert_eq!(cluster.add_node().expect_err("refused").to_string(), refused);
}

#[tokio::test]
async fn a_turned_knob_turns_its_rule() {
    for (knobs, is_written) in [(&[][..], false), (&[Knob::SerialBatches][..], true)] {
        let directory = tempfile::tempdir().expect("a directory");
        let cluster = start_with(&directory, Flavor::Scylla, knobs).await;
        let session = connect(cluster.nodes()[0].address).await;
        create(&session).await;
        let mut batch = Batch::new(BatchType::Unlogged);
        for k in [1, 2] {
            batch.append_statement(format!("INSERT INTO ks.u (k, v) VALUES ({k}, 1)").as_str());
        }
        batch.set_consistency(Consistency::Serial);
        let answer = session.batch(&batch, ((), ())).await;
        assert_eq!(answer.is_ok(), is_written, "{answer:?}");
        cluster.stop().await;
    }
}
