//! Nodes that die, freeze, lose power or come back, as clients and replicas see it.

use super::*;
use scylla::errors::WriteType;

#[test]
fn a_dead_node_of_three_is_survived_at_quorum_and_caught_up_by_hints() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect_to(&cluster, &[DB1]).await;
        let batch = two_table_batch(&session, BatchType::Logged).await;
        cluster.kill(DB3);
        sleep_ms(25_000).await;
        assert_eq!(cluster.sees_up(DB1, DB3), Some(false), "convicted");
        for k in 0..20 {
            session.batch(&batch, values(k)).await.expect("quorum");
        }
        cluster.restart(DB3);
        sleep_ms(30_000).await;
        assert_eq!(cluster.sees_up(DB1, DB3), Some(true));
        let live = cluster.live(DB3).expect("runs");
        assert_eq!(
            live.table("ks", "u").expect("u").rows.len(),
            20,
            "hints brought every row"
        );
        assert!(cluster.is_quiet());
    });
}

#[test]
fn too_few_replicas_alive_is_unavailable_and_writes_nothing() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        let session = connect_to(&cluster, &[DB1]).await;
        let mut insert = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared");
        insert.set_execution_profile_handle(Some(only(&session, &cluster, DB1)));
        cluster.power_off(DB2);
        cluster.power_off(DB3);
        sleep_ms(40_000).await;
        let error = session
            .execute_unpaged(&insert, (1i64, 1i64))
            .await
            .expect_err("one of three");
        let (code, text) = db_error(error);
        assert_eq!(
            code,
            DbError::Unavailable {
                consistency: Consistency::Quorum,
                required: 2,
                alive: 1
            }
        );
        assert_eq!(text, "Cannot achieve consistency level QUORUM");
        assert_eq!(
            cluster.live(DB1).expect("runs").table("ks", "u").expect("u").rows.len(),
            0
        );
    });
}

/// Freezes the two other nodes and sends a batch to the first.
async fn batch_with_frozen_peers(cluster: &SimCluster) -> (Session, DbError, String) {
    let session = connect_to(cluster, &[DB1]).await;
    let mut batch = two_table_batch(&session, BatchType::Logged).await;
    batch.set_execution_profile_handle(Some(only(&session, cluster, DB1)));
    session.batch(&batch, values(0)).await.expect("healthy");
    cluster.pause(DB2);
    cluster.pause(DB3);
    let (code, text) = db_error(session.batch(&batch, values(1)).await.expect_err("frozen"));
    (session, code, text)
}

#[test]
fn frozen_batchlog_holders_are_a_write_timeout_of_type_batch_log() {
    simulate(Flavor::Scylla, DDL, |world, cluster| async move {
        let before = world.now_ns();
        let (session, code, text) = batch_with_frozen_peers(&cluster).await;
        let write_type = WriteType::BatchLog;
        assert_eq!(
            code,
            DbError::WriteTimeout {
                consistency: Consistency::One,
                received: 0,
                required: 1,
                write_type
            }
        );
        assert_eq!(
            text,
            "Operation timed out for system.batchlog - received only 0 responses from 1 CL=ONE."
        );
        assert!(world.now_ns() - before >= 2_000_000_000, "after the write timeout");
        cluster.resume(DB2);
        cluster.resume(DB3);
        sleep_ms(100_000).await;
        // The holders dropped a request older than its deadline, or kept it: all or nothing either way.
        assert_ne!(rows_of(&session, 1).await, 1);
    });
}

#[test]
fn cassandra_wants_two_holders_and_says_so() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        let (_, code, text) = batch_with_frozen_peers(&cluster).await;
        let write_type = WriteType::BatchLog;
        assert_eq!(
            code,
            DbError::WriteTimeout {
                consistency: Consistency::Two,
                received: 0,
                required: 2,
                write_type
            }
        );
        assert_eq!(text, "Operation timed out - received only 0 responses.");
    });
}

#[test]
fn a_restarted_node_has_its_rows_a_new_generation_and_no_prepared_statements() {
    simulate(Flavor::Cassandra, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        let insert = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared");
        for k in 0..10i64 {
            session.execute_unpaged(&insert, (k, k)).await.expect("inserted");
        }
        // Longer than Cassandra keeps the log from the kernel: kill -9 loses nothing now.
        sleep_ms(1_000).await;
        let generations: Vec<_> = cluster.nodes().map(|n| cluster.generation(n)).collect();
        for node in cluster.nodes() {
            cluster.kill(node);
        }
        sleep_ms(2_000).await;
        for node in cluster.nodes() {
            cluster.restart(node);
        }
        sleep_ms(20_000).await;
        for node in cluster.nodes() {
            assert!(cluster.generation(node) > generations[usize::from(node.0)], "{node}");
            assert_eq!(
                cluster
                    .live(node)
                    .expect("runs")
                    .table("ks", "u")
                    .expect("u")
                    .rows
                    .len(),
                10,
                "{node}"
            );
        }
        for k in 10..20i64 {
            session
                .execute_unpaged(&insert, (k, k))
                .await
                .expect("prepared again by the driver");
        }
    });
}

#[test]
fn power_loss_takes_what_was_not_synced_and_batch_mode_loses_nothing() {
    use sim_cluster::core::CommitlogSync;
    for (sync, expected) in [
        (CommitlogSync::Periodic { period_ms: 10_000 }, 0),
        (CommitlogSync::Batch, 10),
    ] {
        let mut config = ClusterConfig::new(3, Flavor::Scylla);
        config.commitlog_sync = sync;
        simulate_with(config, DDL, move |_, cluster| async move {
            let session = connect(&cluster).await;
            sleep_ms(15_000).await;
            let mut insert = session
                .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
                .await
                .expect("prepared");
            insert.set_consistency(Consistency::All);
            for k in 0..10i64 {
                session
                    .execute_unpaged(&insert, (k, k))
                    .await
                    .expect("acknowledged by all");
            }
            let durable = cluster.durable(DB1).table("ks", "u").expect("u").rows.len();
            for node in cluster.nodes() {
                cluster.power_off(node);
            }
            sleep_ms(1_000).await;
            for node in cluster.nodes() {
                cluster.restart(node);
            }
            cluster.ready().await;
            for node in cluster.nodes() {
                let rows = cluster
                    .live(node)
                    .expect("runs")
                    .table("ks", "u")
                    .expect("u")
                    .rows
                    .len();
                assert_eq!((rows, durable), (expected, expected), "{node}, {sync:?}");
            }
        });
    }
}

#[test]
fn kill_of_a_scylla_node_loses_its_buffer_but_not_the_quorum() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect_to(&cluster, &[DB1]).await;
        sleep_ms(15_000).await;
        let mut insert = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared");
        insert.set_consistency(Consistency::All);
        for k in 0..10i64 {
            session
                .execute_unpaged(&insert, (k, k))
                .await
                .expect("acknowledged by all");
        }
        cluster.kill(DB3);
        cluster.restart(DB3);
        sleep_ms(1_000).await;
        let lost = cluster.live(DB3).expect("runs");
        assert_eq!(lost.table("ks", "u").expect("u").rows.len(), 0, "acknowledged and gone");
        for k in 0..10 {
            let result = session
                .query_unpaged(format!("SELECT v FROM ks.u WHERE k = {k}"), ())
                .await
                .expect("quorum");
            assert_eq!(result.into_rows_result().expect("rows").rows_num(), 1);
        }
    });
}

#[test]
fn a_coordinator_that_dies_leaves_its_batch_to_the_replay() {
    use sim_cluster::core::{Boundary, BoundaryHook, Point, Verdict};
    struct KillOnce(bool);
    impl BoundaryHook for KillOnce {
        fn at(&mut self, b: &Boundary<'_>) -> Verdict {
            let here = b.point == Point::MutationsSent { k: 1, of: 2 } && b.batch.is_some_and(|i| i.is_logged());
            if here && !std::mem::replace(&mut self.0, true) {
                Verdict::KillNode
            } else {
                Verdict::Continue
            }
        }
    }
    let summary = simulate(Flavor::Scylla, DDL, |world, cluster| async move {
        let session = connect(&cluster).await;
        let batch = two_table_batch(&session, BatchType::Logged).await;
        cluster.hook(Box::new(KillOnce(false)));
        session
            .batch(&batch, values(1))
            .await
            .expect_err("the coordinator died");
        let dead: Vec<_> = cluster.nodes().filter(|n| !cluster.is_serving(*n)).collect();
        assert_eq!(dead.len(), 1);
        assert_eq!(cluster.batchlog_entries().len(), 2, "two holders have it");
        cluster.restart(dead[0]);
        let started = world.now_ns();
        while !cluster.batchlog_entries().is_empty() {
            sleep_ms(1_000).await;
            assert!(world.now_ns() - started < 200_000_000_000, "replayed in bounded time");
        }
        assert_eq!(rows_of(&session, 1).await, 2, "rolled forward");
    });
    assert!(summary.marks.contains_key("batchlog replayed"), "{:?}", summary.marks);
}

#[test]
fn clients_are_told_when_nodes_go_and_come() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect_to(&cluster, &[DB1]).await;
        cluster.stop(DB3);
        sleep_ms(2_000).await;
        assert!(!cluster.is_serving(DB3), "stopped in order");
        assert_eq!(cluster.sees_up(DB1, DB3), Some(false), "it announced itself");
        cluster.restart(DB3);
        sleep_ms(20_000).await;
        let insert = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared");
        for k in 0..10i64 {
            session.execute_unpaged(&insert, (k, k)).await.expect("inserted");
        }
        sleep_ms(1_000).await;
        assert_eq!(
            cluster.live(DB3).expect("runs").table("ks", "u").expect("u").rows.len(),
            10
        );
    });
}

#[test]
fn a_fast_clock_wins_until_the_others_pass_it() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        let insert = "INSERT INTO ks.u (k, v) VALUES (1, 1)";
        for node in cluster.nodes() {
            cluster.set_clock_skew(node, 3_600_000_000);
        }
        session.query_unpaged(insert, ()).await.expect("an hour ahead");
        for node in cluster.nodes() {
            cluster.set_clock_skew(node, 0);
        }
        session
            .query_unpaged("UPDATE ks.u SET v = 2 WHERE k = 1", ())
            .await
            .expect("acknowledged");
        let row = session
            .query_unpaged("SELECT v FROM ks.u WHERE k = 1", ())
            .await
            .expect("read");
        assert_eq!(
            row.into_rows_result()
                .expect("rows")
                .single_row::<(i64,)>()
                .expect("a row"),
            (1,)
        );
    });
}

#[test]
fn a_disk_that_fails_stops_its_node_and_nobody_else() {
    use sim_world::DiskFault;
    let faults: [fn() -> DiskFault; 3] = [
        || DiskFault {
            fail_fsyncs: 1,
            ..DiskFault::default()
        },
        || DiskFault {
            fail_writes: 1,
            ..DiskFault::default()
        },
        || DiskFault {
            capacity_bytes: Some(0),
            ..DiskFault::default()
        },
    ];
    for fault in faults {
        simulate(Flavor::Scylla, DDL, move |_, cluster| async move {
            let session = connect_to(&cluster, &[DB1]).await;
            let insert = session
                .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
                .await
                .expect("prepared");
            cluster.host(DB3).disk().set_fault(fault());
            for k in 0..10i64 {
                session.execute_unpaged(&insert, (k, k)).await.expect("quorum");
            }
            // Past the periodic sync.
            sleep_ms(15_000).await;
            assert!(!cluster.is_serving(DB3), "it cannot go on");
            cluster.host(DB3).disk().set_fault(DiskFault::default());
            cluster.restart(DB3);
            sleep_ms(20_000).await;
            assert!(cluster.is_serving(DB3));
            for k in 0..10 {
                let result = session
                    .query_unpaged(format!("SELECT v FROM ks.u WHERE k = {k}"), ())
                    .await
                    .expect("quorum");
                assert_eq!(result.into_rows_result().expect("rows").rows_num(), 1);
            }
        });
    }
}

#[test]
fn a_partition_between_nodes_is_not_one_between_client_and_nodes() {
    use sim_world::Class;
    simulate(Flavor::Scylla, DDL, |world, cluster| async move {
        let session = connect(&cluster).await;
        let mut insert = session
            .prepare("INSERT INTO ks.u (k, v) VALUES (?, ?)")
            .await
            .expect("prepared");
        insert.set_execution_profile_handle(Some(only(&session, &cluster, DB1)));
        let (one, two, three) = (cluster.host(DB1).id(), cluster.host(DB2).id(), cluster.host(DB3).id());
        let cut = |cut: bool| {
            for other in [two, three] {
                world.links().cut_class(Class::Peer, one, other, cut);
                world.links().cut_class(Class::Peer, other, one, cut);
            }
        };
        cut(true);
        let (code, _) = db_error(session.execute_unpaged(&insert, (1i64, 1i64)).await.expect_err("alone"));
        let (consistency, write_type) = (Consistency::Quorum, WriteType::Simple);
        assert_eq!(
            code,
            DbError::WriteTimeout {
                consistency,
                received: 1,
                required: 2,
                write_type
            }
        );
        insert.set_execution_profile_handle(Some(only(&session, &cluster, DB2)));
        session
            .execute_unpaged(&insert, (2i64, 2i64))
            .await
            .expect("the others are two");
        cut(false);
        sleep_ms(60_000).await;
        let live = cluster.live(DB1).expect("runs");
        assert_eq!(live.table("ks", "u").expect("u").rows.len(), 2, "hinted");
    });
}
