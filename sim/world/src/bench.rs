//! Speed of the simulated network and disk beside madsim's own, measured in the same process by CPU time.
//!
//! The figures are floors for everything built on them: 64 connections that exchange messages of 200 bytes, and records
//! of 200 bytes appended with a sync each.

use crate::cpu::cpu_time_us;
use crate::disk::{DiskConfig, OpenFlags, here};
use crate::net::{NetConfig, TcpListener, TcpStream, connect_from};
use crate::{Seed, World, WorldConfig, task};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a message or record.
const MESSAGE_BYTES: usize = 200;
/// Connections at once.
const CONNECTIONS: u64 = 64;
/// Round trips of one connection in one run.
const ROUNDS: u64 = 500;
/// Appends of one run.
const APPENDS: u64 = 20_000;

const SERVER: &str = "10.0.0.1:7000";

/// Whose network carries the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// This crate's, with arrivals on a grid of so many nanoseconds.
    Ours {
        /// See [`NetConfig::grid_ns`].
        grid_ns: u64,
    },
    /// madsim's own.
    Madsim,
}

/// Everything this module measures: name and rate per CPU second, each measured for at least this much CPU time.
pub fn measure(each: Duration) -> Vec<(&'static str, u64)> {
    let exact = NetConfig::default().grid_ns;
    vec![
        (
            "simulated round trips",
            round_trips(Network::Ours { grid_ns: exact }, each),
        ),
        (
            "simulated round trips, 50 us grid",
            round_trips(Network::Ours { grid_ns: 50_000 }, each),
        ),
        (
            "simulated round trips, madsim's network",
            round_trips(Network::Madsim, each),
        ),
        ("simulated synced appends", synced_appends(DiskConfig::instant(), each)),
        (
            "simulated synced appends, syncs take time",
            synced_appends(DiskConfig::default(), each),
        ),
        ("appends, madsim's fs (its sync does nothing)", madsim_appends(each)),
    ]
}

/// Repeats `run`, which does `work` units, for at least this much CPU time; returns units per CPU second.
fn rate(each: Duration, work: u64, mut run: impl FnMut(u64)) -> u64 {
    run(0); // the first run pays for pages and caches
    let (start_us, mut done, mut seed) = (cpu_time_us(), 0, 1);
    loop {
        run(seed);
        (done, seed) = (done + work, seed + 1);
        let used_us = cpu_time_us() - start_us;
        if used_us >= each.as_micros() as u64 && used_us > 0 {
            return done * 1_000_000 / used_us;
        }
    }
}

/// Round trips per CPU second.
pub fn round_trips(network: Network, each: Duration) -> u64 {
    rate(each, CONNECTIONS * ROUNDS, |seed| match network {
        Network::Ours { grid_ns } => our_round_trips(seed, grid_ns),
        Network::Madsim => madsim_round_trips(seed),
    })
}

fn our_round_trips(seed: u64, grid_ns: u64) {
    let config = WorldConfig {
        net: NetConfig {
            grid_ns,
            ..NetConfig::default()
        },
        ..WorldConfig::default()
    };
    let run = World::run(Seed(seed), config, |world| async move {
        let server = world.host("server", [10, 0, 0, 1].into());
        let client = world.host("client", [10, 0, 0, 2].into());
        server.start(|| {
            Box::pin(async {
                let listener = TcpListener::bind("0.0.0.0:7000").await.expect("a free port");
                while let Ok((stream, _)) = listener.accept().await {
                    drop(task::spawn(serve(stream)));
                }
            })
        });
        world.until(1_000_000).await;
        let addr: SocketAddr = SERVER.parse().expect("an address");
        let drivers: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                client
                    .spawn(async move { drive::<TcpStream>(connect_from(None, addr).await.expect("it listens")).await })
            })
            .collect();
        for driver in drivers {
            driver.await.expect("no driver panics");
        }
    });
    run.expect("a benchmark runs to its end");
}

fn madsim_round_trips(seed: u64) {
    let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
    let server = runtime.create_node().ip([10, 0, 0, 1].into()).build();
    let client = runtime.create_node().ip([10, 0, 0, 2].into()).build();
    runtime.block_on(async move {
        server.spawn(async {
            let listener = madsim::net::TcpListener::bind("0.0.0.0:7000")
                .await
                .expect("a free port");
            while let Ok((stream, _)) = listener.accept().await {
                madsim::task::spawn(serve(stream));
            }
        });
        madsim::time::sleep(Duration::from_millis(10)).await;
        let drivers: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                client.spawn(async { drive(madsim::net::TcpStream::connect(SERVER).await.expect("it listens")).await })
            })
            .collect();
        for driver in drivers {
            driver.await.expect("no driver panics");
        }
        madsim::runtime::Handle::current().kill(server.id());
        madsim::runtime::Handle::current().kill(client.id());
        madsim::time::sleep(Duration::from_millis(1)).await;
    });
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut message = [0; MESSAGE_BYTES];
    while stream.read_exact(&mut message).await.is_ok() {
        if stream.write_all(&message).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut message = [7; MESSAGE_BYTES];
    for _ in 0..ROUNDS {
        stream.write_all(&message).await.expect("the server lives");
        stream.flush().await.expect("the server lives");
        stream.read_exact(&mut message).await.expect("the server answers");
    }
}

/// Appends with a sync each, per CPU second.
pub fn synced_appends(disk: DiskConfig, each: Duration) -> u64 {
    rate(each, APPENDS, |seed| {
        let config = WorldConfig {
            disk,
            ..WorldConfig::default()
        };
        let run = World::run(Seed(seed), config, |_| async {
            let file = here()
                .open("/tmp/log", OpenFlags::read_write_create())
                .expect("a fresh disk");
            for _ in 0..APPENDS {
                file.append(&[7; MESSAGE_BYTES]).expect("room");
                file.sync().await.expect("no fault is set");
            }
        });
        run.expect("a benchmark runs to its end");
    })
}

fn madsim_appends(each: Duration) -> u64 {
    rate(each, APPENDS, |seed| {
        let runtime = madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
        let node = runtime.create_node().build();
        let writer = node.spawn(async {
            let file = madsim::fs::File::create("log").await.expect("a fresh disk");
            for n in 0..APPENDS {
                file.write_all_at(&[7; MESSAGE_BYTES], n * MESSAGE_BYTES as u64)
                    .await
                    .expect("room");
                file.sync_all().await.expect("it does nothing");
            }
        });
        runtime.block_on(writer).expect("the writer ends");
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured() {
        let figures = measure(Duration::from_millis(1));
        assert_eq!(figures.len(), 6);
        assert!(figures.iter().all(|(_, rate)| *rate > 0), "{figures:?}");
    }
}
