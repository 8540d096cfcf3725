//! What the hash over a trace covers, each shown by changing exactly that and nothing else: a draw, the time of a
//! delivery, what is delivered, an operation of a disk. Every run here ends at the same simulated time and does the same
//! otherwise, so that no other difference can be what was noticed.
#![cfg(madsim)]

use sim_cluster::core::{ClusterConfig, Flavor};
use sim_cluster::host::sim::SimCluster;
use sim_world::net::{Link, NetConfig};
use sim_world::{RunSummary, Seed, World, WorldConfig};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// When every run here ends.
const END: Duration = Duration::from_secs(9);

fn run<F, Fut>(test: F) -> RunSummary
where
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let net = NetConfig {
        // Nothing is drawn and everything arrives exactly when it should.
        link: exactly(50_000),
        grid_ns: 1,
        hash_bytes: true,
        ..NetConfig::default()
    };
    let config = WorldConfig {
        net,
        ..WorldConfig::default()
    };
    let outcome = World::run(Seed(5), config, |world| async move {
        let end = tokio::time::Instant::now() + END;
        test(world).await;
        tokio::time::sleep_until(end).await;
    });
    match outcome {
        Ok(((), summary)) => summary,
        Err(error) => panic!("{error}"),
    }
}

fn exactly(base_ns: u64) -> Link {
    Link {
        base_ns,
        jitter_ns: 0,
        ..Link::default()
    }
}

/// Runs that differ in one thing have another hash; the same run has the same.
fn assert_noticed(what: &str, plain: &RunSummary, again: &RunSummary, changed: &RunSummary) {
    assert_eq!(plain.trace_hash, again.trace_hash, "{what}: the same run twice");
    // The executor adds some nanoseconds of its own to a poll.
    let apart_ns = plain.sim_time_ns.abs_diff(changed.sim_time_ns);
    assert!(apart_ns < 1_000, "{what}: ends {apart_ns} ns apart");
    assert_ne!(plain.trace_hash, changed.trace_hash, "{what} is not noticed");
}

fn draws(labels: &'static [&'static str]) -> RunSummary {
    run(move |world| async move {
        // Every stream is there in every run, in the same order.
        let streams = ["a", "b"].map(|label| world.stream(label));
        for label in labels {
            streams[usize::from(*label == "b")].bits();
        }
    })
}

#[test]
fn every_draw_of_every_stream_is_in_the_hash() {
    let plain = draws(&["a", "b", "a"]);
    for changed in [
        &["a", "b"][..],
        &["a", "b", "a", "a"],
        &["a", "b", "b"],
        &["b", "a", "a"],
    ] {
        assert_noticed(
            &format!("draws {changed:?}"),
            &plain,
            &draws(&["a", "b", "a"]),
            &draws(changed),
        );
    }
    let summary = draws(&["a", "b", "a"]);
    assert_eq!((summary.draws["a"], summary.draws["b"]), (2, 1));
}

/// One message to a machine that reads it and does nothing more, over a link of this delay from then on.
fn delivery(delay_ns: u64, message: &'static [u8]) -> RunSummary {
    run(move |world| async move {
        let (server, client) = (
            world.host("server", [10, 0, 0, 1].into()),
            world.host("client", [10, 0, 0, 2].into()),
        );
        let serving = server.spawn(async {
            let listener = TcpListener::bind("0.0.0.0:7000").await.expect("bound");
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut buffer = [0; 64];
            while stream.read(&mut buffer).await.expect("read") > 0 {}
        });
        let links = world.links();
        let (from, to) = (client.id(), server.id());
        let asking = client.spawn(async move {
            let mut stream = TcpStream::connect("10.0.0.1:7000").await.expect("connected");
            sleep(Duration::from_secs(1)).await;
            links.set(from, to, exactly(delay_ns));
            stream.write_all(message).await.expect("sent");
            sleep(Duration::from_secs(3)).await;
            links.set(from, to, exactly(50_000));
            sleep(Duration::from_secs(1)).await;
        });
        asking.await.expect("asked");
        serving.await.expect("served");
    })
}

#[test]
fn the_time_and_the_content_of_every_delivery_are_in_the_hash() {
    let plain = || delivery(50_000, b"hello");
    assert_noticed(
        "a delivery a nanosecond later",
        &plain(),
        &plain(),
        &delivery(50_001, b"hello"),
    );
    assert_noticed("a byte of a delivery", &plain(), &plain(), &delivery(50_000, b"hellp"));
    assert_noticed(
        "the size of a delivery",
        &plain(),
        &plain(),
        &delivery(50_000, b"hello!"),
    );
}

/// An idle cluster whose nodes send each other heartbeats; from the sixth second on those of one node take this long.
fn heartbeats(delay_ns: u64) -> RunSummary {
    run(move |world| async move {
        let cluster =
            SimCluster::start_with::<&str>(&world, ClusterConfig::new(3, Flavor::Scylla), &[]).expect("no schema");
        cluster.ready().await;
        sleep(Duration::from_secs(4)).await;
        let hosts = world.hosts();
        world.links().set(hosts[0].id(), hosts[1].id(), exactly(delay_ns));
    })
}

#[test]
fn the_time_of_every_message_between_database_nodes_is_in_the_hash() {
    let (plain, changed) = (heartbeats(50_000), heartbeats(50_001));
    assert!(plain.net.messages > 0, "the nodes are silent");
    assert_eq!(
        (plain.net.messages, plain.events),
        (changed.net.messages, changed.events)
    );
    assert_noticed("a heartbeat a nanosecond later", &plain, &heartbeats(50_000), &changed);
}

/// What is done to a file.
#[derive(Clone, Copy)]
struct File {
    path: &'static str,
    at_ms: u64,
    bytes: usize,
    writes: u32,
    sync: bool,
}

const FILE: File = File {
    path: "/var/lib/a",
    at_ms: 1_000,
    bytes: 100,
    writes: 2,
    sync: true,
};

fn disk(file: File) -> RunSummary {
    run(move |world| async move {
        let host = world.host("a", [10, 0, 0, 1].into());
        let writing = host.spawn(async move {
            tokio::fs::create_dir_all("/var/lib").await.expect("created");
            sleep(Duration::from_millis(file.at_ms)).await;
            let mut open = tokio::fs::File::create(file.path).await.expect("created");
            for _ in 0..file.writes {
                open.write_all(&vec![7; file.bytes]).await.expect("written");
            }
            if file.sync {
                open.sync_all().await.expect("synced");
            }
        });
        writing.await.expect("wrote");
    })
}

#[test]
fn every_operation_of_a_disk_is_in_the_hash() {
    let changes = [
        (
            "another file of the same length of name",
            File {
                path: "/var/lib/b",
                ..FILE
            },
        ),
        ("another time", File { at_ms: 1_001, ..FILE }),
        ("a byte more", File { bytes: 101, ..FILE }),
        ("a write more", File { writes: 3, ..FILE }),
        ("no sync", File { sync: false, ..FILE }),
    ];
    for (what, changed) in changes {
        assert_noticed(what, &disk(FILE), &disk(FILE), &disk(changed));
    }
}
