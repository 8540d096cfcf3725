//! Boundary hooks through the real driver: the four worlds of a timed-out batch; and taps on the client's bytes.

use super::*;
use scylla::errors::WriteType;
use scylla::statement::Statement;
use sim_cluster::core::{Boundary, BoundaryHook, Knob, Point, Then, Verdict};
use sim_cluster::host::sim::CQL_PORT;
use sim_cluster::host::tap::WriteReader;
use sim_cluster::model::WriteType as ModelWriteType;
use sim_world::trace::{ClusterRecord, Kind};
use sim_world::{ConnInfo, TapVerdict, TcpTap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Answers a write timeout to the first batch of number 1.
struct TimeOut {
    point: Point,
    then: Then,
    done: bool,
}

impl BoundaryHook for TimeOut {
    fn at(&mut self, b: &Boundary<'_>) -> Verdict {
        let row = b.batch.and_then(|batch| batch.row_of("u"));
        let is_ours = row.is_some_and(|r| r.number("k") == Some(1001) && r.number("v") == Some(10));
        if !is_ours || b.point != self.point || std::mem::replace(&mut self.done, true) {
            return Verdict::Continue;
        }
        Verdict::Timeout {
            write_type: ModelWriteType::Batch,
            received: 1,
            required: 2,
            then: self.then,
        }
    }
}

async fn timed_out(cluster: &SimCluster, point: Point, then: Then) -> Session {
    let session = connect(cluster).await;
    let batch = two_table_batch(&session, BatchType::Logged).await;
    cluster.hook(Box::new(TimeOut {
        point,
        then,
        done: false,
    }));
    let (code, _) = db_error(session.batch(&batch, values(1)).await.expect_err("the hook says so"));
    let consistency = Consistency::Quorum;
    assert_eq!(
        code,
        DbError::WriteTimeout {
            consistency,
            received: 1,
            required: 2,
            write_type: WriteType::Batch
        }
    );
    session
}

#[test]
fn a_timed_out_batch_is_never_applied() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = timed_out(&cluster, Point::RequestArrived, Then::NeverApply).await;
        sleep_ms(150_000).await;
        assert_eq!(rows_of(&session, 1).await, 0);
    });
}

#[test]
fn a_timed_out_batch_is_applied_at_once() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = timed_out(&cluster, Point::RequestArrived, Then::ApplyNow).await;
        sleep_ms(100).await;
        assert_eq!(rows_of(&session, 1).await, 2);
    });
}

#[test]
fn a_timed_out_batch_is_applied_by_the_replay() {
    simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = timed_out(&cluster, Point::BatchlogWritten, Then::ByReplay).await;
        sleep_ms(1_000).await;
        assert_eq!(rows_of(&session, 1).await, 0, "not yet");
        sleep_ms(150_000).await;
        assert_eq!(rows_of(&session, 1).await, 2, "by replay");
        assert!(cluster.is_quiet());
    });
}

#[test]
fn a_timed_out_batch_is_executed_late_with_a_new_timestamp() {
    let summary = simulate(Flavor::Scylla, DDL, |_, cluster| async move {
        let session = timed_out(&cluster, Point::RequestArrived, Then::ExecuteLate { after_ms: 10_000 }).await;
        session
            .query_unpaged("INSERT INTO ks.u (k, v) VALUES (1001, 77)", ())
            .await
            .expect("a later write of somebody else");
        sleep_ms(5_000).await;
        let read = "SELECT v FROM ks.u WHERE k = 1001";
        let v = async || {
            let rows = session
                .query_unpaged(read, ())
                .await
                .expect("read")
                .into_rows_result()
                .expect("rows");
            rows.single_row::<(i64,)>().expect("a row").0
        };
        assert_eq!(v().await, 77);
        sleep_ms(10_000).await;
        assert_eq!(v().await, 10, "the late one has the newer server timestamp and wins");
    });
    let late = summary.records.iter().find_map(|r| match &r.kind {
        Kind::Cluster(ClusterRecord::ExecutedLate { delay_ms, .. }) => Some(*delay_ms),
        _ => None,
    });
    assert_eq!(late, Some(10_000), "the trace tells");
}

/// Freezes the coordinator of the first batch of number 1 when it arrives; the machine of another node dies with it.
struct Freeze {
    done: bool,
    world: World,
}

impl BoundaryHook for Freeze {
    fn at(&mut self, b: &Boundary<'_>) -> Verdict {
        let is_ours = b
            .batch
            .is_some_and(|batch| batch.row_of("u").is_some_and(|r| r.number("k") == Some(1001)));
        if !is_ours || std::mem::replace(&mut self.done, true) {
            return Verdict::Continue;
        }
        // A hook may kill machines: here one that is not the coordinator.
        let other = if b.node == DB3 { "db-2" } else { "db-3" };
        self.world.host_by_name(other).expect("a machine").kill();
        Verdict::PauseNode { ms: 1_000 }
    }
}

#[test]
fn a_hook_freezes_its_node_and_kills_another() {
    simulate(Flavor::Scylla, DDL, |world, cluster| async move {
        let session = connect(&cluster).await;
        let batch = two_table_batch(&session, BatchType::Logged).await;
        cluster.hook(Box::new(Freeze {
            done: false,
            world: world.clone(),
        }));
        let before_ns = world.now_ns();
        session.batch(&batch, values(1)).await.expect("two of three suffice");
        assert!(world.now_ns() - before_ns >= 1_000_000_000, "not before it went on");
        assert_eq!(cluster.nodes().filter(|n| cluster.is_serving(*n)).count(), 2);
        cluster.unhook();
        let dead = cluster.nodes().find(|n| !cluster.is_serving(*n)).expect("one");
        cluster.restart(dead);
        sleep_ms(20_000).await;
        assert_eq!(rows_of(&session, 1).await, 2);
    });
}

/// Freezes the coordinator of every write once all its mutations have been sent.
struct FreezeOnceSent;

impl BoundaryHook for FreezeOnceSent {
    fn at(&mut self, b: &Boundary<'_>) -> Verdict {
        match b.point {
            Point::MutationsSent { k, of } if k == of => Verdict::PauseNode { ms: 50 },
            _ => Verdict::Continue,
        }
    }
}

/// Of so many writes through the first node, frozen when it has sent them, those that the second node got.
const WRITES: usize = 40;

fn arrived_of_writes_of_a_node_frozen_as_it_sent(cluster: ClusterConfig) -> usize {
    let arrived = Arc::new(AtomicUsize::new(0));
    let counted = arrived.clone();
    simulate_with(cluster, DDL, |_, cluster| async move {
        let session = connect(&cluster).await;
        let mut insert = Statement::new("INSERT INTO ks.u (k, v) VALUES (?, 1)");
        insert.set_execution_profile_handle(Some(only(&session, &cluster, DB1)));
        let insert = session.prepare(insert).await.expect("prepared");
        cluster.hook(Box::new(FreezeOnceSent));
        for k in 0..i64::try_from(WRITES).expect("a few") {
            // Whether enough nodes got it is not asked: hints would bring it to the others later than this looks.
            let _ = tokio::time::timeout(Duration::from_millis(100), session.execute_unpaged(&insert, (k,))).await;
        }
        counted.store(
            cluster.live(DB2).expect("runs").table("ks", "u").expect("u").rows.len(),
            Relaxed,
        );
    });
    arrived.load(Relaxed)
}

#[test]
fn half_of_what_a_cassandra_was_sending_as_it_stopped_has_not_left_it() {
    let cassandra = ClusterConfig::new(3, Flavor::Cassandra);
    let scylla = ClusterConfig::new(3, Flavor::Scylla);
    let mut turned = scylla.clone();
    turned.knobs.insert(Knob::Unsent);
    for config in [cassandra, turned] {
        let arrived = arrived_of_writes_of_a_node_frozen_as_it_sent(config);
        assert!(
            (WRITES / 4..=WRITES * 3 / 4).contains(&arrived),
            "{arrived} of {WRITES} arrived"
        );
    }
    assert_eq!(arrived_of_writes_of_a_node_frozen_as_it_sent(scylla), WRITES);
}

/// Kills the client before the batch of number 5 leaves.
struct KillBefore {
    reader: WriteReader,
    seen: Arc<std::sync::Mutex<Vec<i64>>>,
}

impl TcpTap for KillBefore {
    fn on_write(&mut self, conn: &ConnInfo, bytes: &[u8]) -> TapVerdict {
        if !conn.to_server {
            return TapVerdict::Pass;
        }
        let mut verdict = TapVerdict::Pass;
        let seen = &self.seen;
        self.reader.requests(conn.id, bytes, |write| {
            assert!(write.is_whole && write.info().is_logged());
            let k = write
                .info()
                .row_of("u")
                .and_then(|r| r.number("k"))
                .expect("a row of u");
            seen.lock().expect("one thread").push(k);
            if k == 1005 {
                verdict = TapVerdict::KillSender;
            }
        });
        verdict
    }
}

#[test]
fn a_tap_kills_the_client_before_one_batch_leaves() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let theirs = seen.clone();
    let config = WorldConfig {
        time_limit_ns: Some(60_000_000_000),
        ..WorldConfig::default()
    };
    let outcome = World::run(Seed(1), config, |world| async move {
        let cluster =
            SimCluster::start_with(&world, ClusterConfig::new(3, Flavor::Scylla), DDL).expect("a schema image");
        cluster.ready().await;
        let client = world.host("settlement", "10.0.2.1".parse().expect("an address"));
        let tap = KillBefore {
            reader: WriteReader::new(cluster.registry()),
            seen: theirs,
        };
        world.tap(client.id(), CQL_PORT, Box::new(tap)).forget();
        let of_client = cluster.clone();
        let work = client.spawn(async move {
            let session = connect(&of_client).await;
            let batch = two_table_batch(&session, BatchType::Logged).await;
            for k in 0..10 {
                session.batch(&batch, values(k)).await.expect("settled");
            }
        });
        assert!(work.await.is_err(), "killed");
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.live(DB1).expect("runs").table("ks", "u").expect("u").rows.len()
    });
    match outcome {
        Ok((rows, _)) => assert_eq!(
            (rows, seen.lock().expect("one thread").clone()),
            (5, vec![1000, 1001, 1002, 1003, 1004, 1005])
        ),
        Err(error) => panic!("{error}"),
    }
}
