//! Taps on TCP connections: every verdict, at the boundary where it is given.
#![cfg(madsim)]

extern crate sim_tokio as tokio;

mod common;

use common::{Pair, SERVER, kind, ms, ping, secs};
use sim_world::{ConnInfo, DeliverVerdict, HostState, TapFilter, TapVerdict, TcpTap};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

type Seen = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

/// Gives one verdict for what one side writes, and notes what it saw.
struct OnWrite {
    to_server: bool,
    verdict: TapVerdict,
    seen: Seen,
}

impl TcpTap for OnWrite {
    fn on_write(&mut self, conn: &ConnInfo, bytes: &[u8]) -> TapVerdict {
        self.seen
            .lock()
            .expect("one thread")
            .push((conn.to_server, bytes.to_vec()));
        if conn.to_server == self.to_server {
            self.verdict.clone()
        } else {
            TapVerdict::Pass
        }
    }
}

/// Gives one verdict for what one side reads.
struct OnDeliver {
    to_server: bool,
    verdict: DeliverVerdict,
}

impl TcpTap for OnDeliver {
    fn watches_deliveries(&self) -> bool {
        true
    }

    fn on_deliver(&mut self, conn: &ConnInfo, _: &[u8]) -> DeliverVerdict {
        if conn.to_server == self.to_server {
            self.verdict
        } else {
            DeliverVerdict::Pass
        }
    }
}

fn on_write(to_server: bool, verdict: TapVerdict) -> (Box<OnWrite>, Seen) {
    let seen = Seen::default();
    (
        Box::new(OnWrite {
            to_server,
            verdict,
            seen: seen.clone(),
        }),
        seen,
    )
}

async fn connect() -> TcpStream {
    TcpStream::connect(SERVER).await.expect("connect")
}

#[test]
fn a_tap_sees_both_directions_and_is_removed_with_its_guard() {
    Pair::run(|pair| async move {
        let mut before = connect().await;
        let (tap, seen) = on_write(true, TapVerdict::Pass);
        let guard = pair.world.tap(pair.client.id(), 7000, tap);
        ping(&mut before).await.expect("ping");
        let mut after = connect().await;
        ping(&mut after).await.expect("ping");
        let ping_and_answer = [(true, b"ping".to_vec()), (false, b"ping".to_vec())];
        assert_eq!(
            *seen.lock().expect("one thread"),
            [ping_and_answer.clone(), ping_and_answer].concat()
        );
        drop(guard);
        ping(&mut before).await.expect("ping");
        assert_eq!(seen.lock().expect("one thread").len(), 4);
    });
}

#[test]
fn swallowed_bytes_count_as_written() {
    Pair::run(|pair| async move {
        let mut stream = connect().await;
        let (tap, _) = on_write(true, TapVerdict::Swallow);
        let guard = pair.world.tap(pair.client.id(), 7000, tap);
        assert!(timeout(secs(5), ping(&mut stream)).await.is_err());
        drop(guard);
        ping(&mut stream).await.expect("the stream goes on without them");
    });
}

#[test]
fn replaced_bytes_travel_instead() {
    Pair::run(|pair| async move {
        let mut stream = connect().await;
        let (tap, _) = on_write(false, TapVerdict::Replace(b"pingpong".to_vec()));
        let _guard = pair.world.tap(pair.client.id(), 7000, tap);
        ping(&mut stream).await.expect("ping");
        let mut more = [0; 4];
        stream.read_exact(&mut more).await.expect("twice as much");
        assert_eq!(&more, b"pong");
    });
}

#[test]
fn held_bytes_and_what_follows_come_later() {
    Pair::run(|pair| async move {
        let mut stream = connect().await;
        let (tap, _) = on_write(true, TapVerdict::Hold { extra_ns: 500_000_000 });
        let guard = pair.world.tap(pair.client.id(), 7000, tap);
        let start = Instant::now();
        stream.write_all(b"pi").await.expect("write");
        drop(guard);
        stream.write_all(b"ng").await.expect("write");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.expect("read");
        assert_eq!((&answer, start.elapsed().as_millis()), (b"ping", 500));
    });
}

#[test]
fn the_sender_dies_before_its_bytes_leave() {
    Pair::run(|pair| async move {
        let mut stream = connect().await;
        let (tap, _) = on_write(false, TapVerdict::KillSender);
        let _guard = pair.world.tap(pair.client.id(), 7000, tap);
        assert_eq!(kind(ping(&mut stream).await), ErrorKind::ConnectionReset);
        assert_eq!(pair.server.state(), HostState::Down);
    });
}

#[test]
fn the_sender_dies_after_its_bytes_have_left() {
    Pair::run(|pair| async move {
        let mut stream = connect().await;
        let (tap, _) = on_write(false, TapVerdict::PassThenKillSender);
        let _guard = pair.world.tap(pair.client.id(), 7000, tap);
        ping(&mut stream).await.expect("the answer was on its way");
        assert_eq!(pair.server.state(), HostState::Down);
        assert_eq!(kind(stream.read_u8().await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn delivered_bytes_can_be_swallowed() {
    Pair::run(|pair| async move {
        let mut stream = connect().await;
        let tap = OnDeliver {
            to_server: false,
            verdict: DeliverVerdict::Swallow,
        };
        let guard = pair.world.tap(pair.client.id(), 7000, Box::new(tap));
        assert!(timeout(secs(5), ping(&mut stream)).await.is_err());
        drop(guard);
        ping(&mut stream).await.expect("the stream goes on without them");
    });
}

#[test]
fn the_receiver_dies_before_it_has_seen_the_bytes() {
    Pair::run(|pair| async move {
        let mut stream = connect().await;
        let tap = OnDeliver {
            to_server: true,
            verdict: DeliverVerdict::KillReceiver,
        };
        let _guard = pair.world.tap(pair.client.id(), 7000, Box::new(tap));
        let before = pair.world.net_stats().bytes;
        assert_eq!(kind(ping(&mut stream).await), ErrorKind::ConnectionReset);
        assert_eq!(pair.server.state(), HostState::Down);
        assert_eq!(pair.world.net_stats().bytes - before, 4, "only the request was written");
    });
}

#[test]
fn a_tap_may_use_the_world() {
    struct Cutter(sim_world::World);
    impl TcpTap for Cutter {
        fn on_write(&mut self, conn: &ConnInfo, _: &[u8]) -> TapVerdict {
            self.0.links().cut(conn.to(), conn.from(), true);
            self.0.host_by_id(conn.to()).pause();
            TapVerdict::Pass
        }
    }
    Pair::run(|pair| async move {
        let mut stream = connect().await;
        let guard = pair
            .world
            .tap(pair.client.id(), 7000, Box::new(Cutter(pair.world.clone())));
        stream.write_all(b"ping").await.expect("write");
        drop(guard);
        assert_eq!(pair.server.state(), HostState::Paused);
        pair.server.resume();
        let mut answer = [0; 4];
        assert!(timeout(secs(5), stream.read_exact(&mut answer)).await.is_err());
        pair.cut_to_client(false);
        stream.read_exact(&mut answer).await.expect("read");
    });
}

#[test]
fn filters_choose_connections() {
    Pair::run(|pair| async move {
        let (tap, seen) = on_write(true, TapVerdict::Pass);
        let by_server = TapFilter {
            server: Some(pair.server.id()),
            ..TapFilter::default()
        };
        pair.world.tap_where(by_server, tap).forget();
        let (other, unseen) = on_write(true, TapVerdict::Swallow);
        let wrong_port = TapFilter {
            port: Some(7001),
            ..TapFilter::default()
        };
        let _guard = pair.world.tap_where(wrong_port, other);
        ping(&mut connect().await).await.expect("ping");
        assert_eq!(
            (
                seen.lock().expect("one thread").len(),
                unseen.lock().expect("one thread").len()
            ),
            (2, 0)
        );
        sleep(ms(1)).await;
    });
}
