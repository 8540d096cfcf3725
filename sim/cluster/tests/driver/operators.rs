//! What operators do, in the simulated world: repairs, a node replaced, a node that learns of no change to the schema.

use super::*;

async fn write(session: &Session, k: i64) -> Result<(), String> {
    let text = format!("INSERT INTO ks.u (k, v) VALUES ({k}, 1)");
    session
        .query_unpaged(text, ())
        .await
        .map(drop)
        .map_err(|e| e.to_string())
}

fn rows(cluster: &SimCluster, node: NodeIdx) -> usize {
    let live = cluster.live(node).expect("it runs");
    live.table("ks", "u").map_or(0, |t| t.rows.len())
}

#[test]
fn a_repair_brings_what_a_dead_node_missed_and_is_refused_while_it_is_down() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        simulate(flavor, DDL, move |_, cluster| async move {
            let session = connect_to(&cluster, &[DB1]).await;
            cluster.power_off(DB3);
            sleep_ms(25_000).await;
            let mut insert = session
                .prepare("INSERT INTO ks.u (k, v) VALUES (?, 1)")
                .await
                .expect("prepared");
            insert.set_execution_profile_handle(Some(only(&session, &cluster, DB1)));
            for k in 0..20i64 {
                session.execute_unpaged(&insert, (k,)).await.expect("two of three");
            }
            let refused = cluster.repair(Some(DB1), "ks", None).await.expect_err("one is down");
            match flavor {
                Flavor::Cassandra => assert_eq!(refused, "Endpoint not alive: node 3"),
                Flavor::Scylla => assert!(refused.contains("ranges failed"), "{refused}"),
            }
            // Hints that were not in its log yet die with the coordinator.
            cluster.restart(DB1);
            sleep_ms(3_000).await;
            cluster.restart(DB3);
            sleep_ms(3_000).await;
            let lacking = cluster.repair(None, "ks", Some("u")).await.expect("all are up");
            let all = [DB1, DB2, DB3].map(|n| rows(&cluster, n));
            assert!(all.iter().all(|n| *n == all[0]), "{flavor:?}: {all:?} after {lacking}");
            assert_eq!(cluster.repair(Some(DB2), "ks", None).await, Ok(0));
        });
    }
}

#[test]
fn a_repair_whose_coordinator_dies_ends() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        cluster.pause(DB2);
        let other = cluster.clone();
        let killer = tokio::spawn(async move {
            sleep_ms(3_000).await;
            other.kill(DB1);
        });
        let reason = cluster.repair(Some(DB1), "ks", None).await.expect_err("it died");
        assert_eq!(reason, "db-1, which coordinated it, is dead");
        killer.await.expect("killed");
    });
}

#[test]
fn a_compaction_after_gc_grace_brings_back_what_a_dead_node_missed() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect_to(&cluster, &[DB1]).await;
        let run = async |text: &str| drop(session.query_unpaged(text, ()).await.expect(text));
        run("ALTER TABLE ks.u WITH gc_grace_seconds = 30").await;
        write(&session, 1).await.expect("written");
        sleep_ms(12_000).await;
        cluster.kill(DB3);
        run("DELETE FROM ks.u WHERE k = 1").await;
        sleep_ms(32_000).await;
        cluster.restart(DB3);
        sleep_ms(3_000).await;
        // Its hint is as old, and not delivered.
        assert_eq!([DB1, DB3].map(|n| rows(&cluster, n)), [0, 1]);
        for node in [DB1, DB2] {
            assert_eq!(cluster.compact(node, "ks", Some("u")).await, Ok(()));
        }
        let unknown = cluster.compact(DB1, "nope", None).await;
        assert_eq!(unknown, Err("Keyspace [nope] does not exist.".to_owned()));
        cluster.repair(None, "ks", None).await.expect("all are up");
        assert_eq!([DB1, DB2, DB3].map(|n| rows(&cluster, n)), [1, 1, 1], "it is back");
        cluster.kill(DB2);
        assert_eq!(cluster.compact(DB2, "ks", None).await, Err("db-2 is dead".to_owned()));
    });
}

#[test]
fn a_node_is_replaced_and_the_driver_goes_on() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        simulate(flavor, DDL, move |_, cluster| async move {
            let session = connect(&cluster).await;
            for k in 0..50 {
                write(&session, k).await.expect("written");
            }
            cluster.replace(DB3);
            cluster.replaced(DB3).await.expect("it has sources");
            assert_eq!(rows(&cluster, DB3), 50, "{flavor:?}");
            sleep_ms(70_000).await;
            let known = session.get_cluster_state().get_nodes_info().len();
            assert_eq!(known, 3, "{flavor:?}: the driver knows three nodes");
            for k in 50..80 {
                write(&session, k).await.expect("written");
            }
            // Its sources are lost in the middle: it gives up, and is replaced when they are back.
            cluster.replace(DB3);
            cluster.kill(DB1);
            cluster.kill(DB2);
            let reason = cluster.replaced(DB3).await.expect_err("no sources");
            assert!(reason.contains("cannot take the place"), "{reason}");
            cluster.restart(DB1);
            cluster.restart(DB2);
            sleep_ms(5_000).await;
            cluster.replace(DB3);
            cluster.replaced(DB3).await.expect("they are back");
            assert!(rows(&cluster, DB3) >= 50, "{flavor:?}");
            let refused = cluster.add_node().expect_err("the ring does not change");
            assert!(refused.to_string().contains("fixed when it starts"));
        });
    }
}

#[test]
fn a_driver_waits_for_agreement_with_a_node_that_does_not_learn() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        cluster.hold_schema(DB3, true);
        let text = "CREATE TABLE ks.late (k bigint PRIMARY KEY, v bigint)";
        let first = connect_to(&cluster, &[DB1]).await;
        let made = tokio::time::timeout(Duration::from_secs(5), first.query_unpaged(text, ())).await;
        assert!(made.is_err(), "the driver waits for agreement after it was made");
        let version = |n| cluster.schema(n).expect("it runs").version;
        assert!(version(DB1) == version(DB2) && version(DB1) != version(DB3));
        cluster.hold_schema(DB3, false);
        session.await_schema_agreement().await.expect("agreed");
    });
}
