//! What a cluster still knows after it was killed, stopped, or found its log damaged.

use super::program::Program;
use super::{DDL, connect, count, create, read_pages, write_batch};
use sim_cluster::core::{CommitlogSync, Flavor};
use sim_cluster::host::tcp::{Options, TcpCluster};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn what_was_acknowledged_in_batch_mode_survives_kill_9() {
    for flavor in ["scylla", "cassandra"] {
        let directory = tempfile::tempdir().expect("a directory");
        let arguments = ["--flavor", flavor, "--commitlog-sync", "batch"];
        let program = Program::start(directory.path(), &arguments);
        assert_eq!(program.addresses.len(), 3);
        let session = connect(program.addresses[0]).await;
        create(&session).await;
        for i in 0..10 {
            write_batch(&session, i * 10, i * 10 + 10).await;
        }
        assert_eq!(read_pages(&session).await, (0..100).collect::<Vec<_>>());
        let generations = program.generations.clone();
        program.kill();
        drop(session);

        let program = Program::start(directory.path(), &arguments);
        let grown = program.generations.iter().zip(&generations).all(|(new, old)| new > old);
        assert!(grown, "{generations:?} then {:?}", program.generations);
        // Through another node, so that it is not one log that knows everything.
        let session = connect(program.addresses[2]).await;
        assert_eq!(read_pages(&session).await, (0..100).collect::<Vec<_>>(), "{flavor}");
        assert_eq!(count(&session).await, 100);
        write_batch(&session, 100, 110).await;
        assert_eq!(read_pages(&session).await.len(), 110);
    }
}

#[tokio::test]
async fn in_periodic_mode_what_was_synced_survives_and_the_rest_may_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["--commitlog-sync-period-ms", "100"];
    let program = Program::start(directory.path(), &arguments);
    let session = connect(program.addresses[0]).await;
    create(&session).await;
    write_batch(&session, 0, 20).await;
    // Thirty periods, so that a busy machine has had a few.
    tokio::time::sleep(Duration::from_secs(3)).await;
    program.kill();
    // A period of which none ends while this test runs, however slow the machine: what is acknowledged sits in the
    // process, and goes with it.
    let arguments = ["--commitlog-sync-period-ms", "600000"];
    let program = Program::start(directory.path(), &arguments);
    let session = connect(program.addresses[0]).await;
    assert_eq!(read_pages(&session).await.len(), 20);
    write_batch(&session, 20, 40).await;
    assert_eq!(read_pages(&session).await.len(), 40);
    program.kill();
    let program = Program::start(directory.path(), &arguments);
    let session = connect(program.addresses[0]).await;
    assert_eq!(
        read_pages(&session).await.len(),
        20,
        "scylla acknowledges before it writes"
    );
}

#[tokio::test]
async fn a_stop_in_good_order_loses_nothing() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().expect("a directory");
        let program = Program::start(directory.path(), &[]);
        let session = connect(program.addresses[1]).await;
        create(&session).await;
        write_batch(&session, 0, 20).await;
        let (code, said) = program.signal(signal);
        assert_eq!(
            said,
            format!("SIG{signal}: stopping (again: at once)\nstopped; everything acknowledged is on the disk\n")
        );
        assert_eq!(code, Some(0));
        let program = Program::start(directory.path(), &[]);
        let session = connect(program.addresses[0]).await;
        assert_eq!(read_pages(&session).await.len(), 20);
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["--commitlog-sync", "batch"];
    let program = Program::start(directory.path(), &arguments);
    let session = connect(program.addresses[0]).await;
    create(&session).await;
    write_batch(&session, 0, 20).await;
    program.kill();
    let log = directory.path().join("node-2/commitlog");
    let whole = std::fs::metadata(&log).expect("a log").len();
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).expect("opened");
    file.write_all(&[40, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0]).expect("written");

    let program = Program::start(directory.path(), &arguments);
    let session = connect(program.addresses[1]).await;
    write_batch(&session, 20, 40).await;
    assert_eq!(read_pages(&session).await.len(), 40);
    let said = program.kill();
    let told = format!("{whole} bytes; 11 bytes behind them were torn or damaged, and cut off");
    assert!(said.contains("node 2: ") && said.contains(&told), "{said}");

    let program = Program::start(directory.path(), &arguments);
    let session = connect(program.addresses[1]).await;
    assert_eq!(read_pages(&session).await.len(), 40);
    assert!(!program.kill().contains("torn"));
}

#[tokio::test]
async fn a_cluster_inside_a_test_is_stopped_or_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        nodes: 2,
        listen: super::program::ANY_PORT.parse().expect("an address"),
        knobs: Default::default(),
        data_dir: directory.path().join("data"),
        flavor: Flavor::Scylla,
        commitlog_sync: CommitlogSync::Periodic { period_ms: 10_000 },
        auth: None,
    };
    let start = || TcpCluster::start(options.clone(), Arc::new(|_| {}));
    let cluster = start().await.expect("started");
    assert!(cluster.is_new() && cluster.contact_points().len() == 2);
    let session = connect(cluster.contact_points()[1]).await;
    create(&session).await;
    let error = session
        .query_unpaged("INSERT INTO ks.u (k, v) VALUES (1, 1)", ())
        .await
        .map(drop);
    error.expect("a quorum of three copies on two nodes is two");
    assert!(cluster.stop().await);

    let cluster = start().await.expect("its directory and addresses are free again");
    assert!(!cluster.is_new());
    let session = connect(cluster.contact_points()[0]).await;
    assert_eq!(count(&session).await, 1);
    session
        .query_unpaged("INSERT INTO ks.u (k, v) VALUES (2, 2)", ())
        .await
        .expect("written");
    drop(cluster);

    let cluster = start().await.expect("started");
    let session = connect(cluster.contact_points()[0]).await;
    assert_eq!(count(&session).await, 1, "dropped is killed: nothing was synced");
}

#[tokio::test]
async fn a_log_of_overwritten_rows_is_compacted_and_survives_kill_9() {
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["--nodes", "1", "--verbose", "--commitlog-sync", "batch"];
    let program = Program::start(directory.path(), &arguments);
    let session = connect(program.addresses[0]).await;
    let create = DDL.map(|text| text.replace("'replication_factor': 3", "'replication_factor': 1"));
    for text in create {
        session.query_unpaged(text, ()).await.expect("a schema change");
    }
    let insert = session
        .prepare("INSERT INTO ks.t (k, c, v) VALUES (1, ?, ?)")
        .await
        .expect("prepared");
    let long = "x".repeat(1 << 20);
    let log = directory.path().join("node-1/commitlog");
    let mut most = 0;
    for i in 0..150 {
        let value = format!("{i}{long}");
        session
            .execute_unpaged(&insert, (i % 3, &value))
            .await
            .expect("written");
        most = most.max(std::fs::metadata(&log).expect("a log").len());
    }
    assert!(most < 70 << 20, "three rows need no log of {most} bytes");
    drop(session);
    let said = program.kill();
    assert!(said.contains("bytes was compacted to"), "{said}");
    let program = Program::start(directory.path(), &arguments);
    let session = connect(program.addresses[0]).await;
    for c in 0..3 {
        let text = format!("SELECT v FROM ks.t WHERE k = 1 AND c = {c}");
        let found = session
            .query_unpaged(text, ())
            .await
            .expect("read")
            .into_rows_result()
            .expect("rows");
        let (value,) = found.single_row::<(String,)>().expect("one row");
        assert!(
            value == format!("{}{long}", 147 + c),
            "row {c} begins with {}",
            &value[..5]
        );
    }
}
