//! Networks and machines as only a simulator can have them: cuts, half-open connections, resets from restarted machines,
//! silence, slow and lossy links.
#![cfg(madsim)]

extern crate sim_tokio as tokio;

mod common;

use common::{Pair, SERVER, echo, kind, ms, ping, secs};
use sim_world::{Class, HostState, Link, NetConfig, WorldConfig};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

#[test]
fn a_link_without_delay_takes_no_time() {
    let still = Link {
        base_ns: 0,
        jitter_ns: 0,
        ..Link::default()
    };
    let net = NetConfig {
        grid_ns: 1,
        link: still,
        ..NetConfig::default()
    };
    Pair::run_with(
        WorldConfig {
            net,
            ..WorldConfig::default()
        },
        |_| async move {
            let mut stream = TcpStream::connect(SERVER).await.expect("connect");
            let start = Instant::now();
            for _ in 0..1000 {
                ping(&mut stream).await.expect("ping");
            }
            assert!(start.elapsed() < ms(1), "{:?}", start.elapsed());
        },
    );
}

#[test]
fn connecting_over_a_cut_link_times_out() {
    Pair::run(|pair| async move {
        pair.cut_to_server(true);
        let start = Instant::now();
        assert_eq!(kind(TcpStream::connect(SERVER).await), ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 127);
        pair.cut_to_server(false);
        pair.cut_to_client(true);
        // the answer vanishes: the same for the client
        assert_eq!(kind(TcpStream::connect(SERVER).await), ErrorKind::TimedOut);
    });
}

#[test]
fn connecting_survives_a_short_cut() {
    Pair::run(|pair| async move {
        pair.cut_to_server(true);
        let start = Instant::now();
        tokio::spawn(async move {
            sleep(secs(2)).await;
            pair.cut_to_server(false);
        });
        ping(&mut TcpStream::connect(SERVER).await.expect("connect"))
            .await
            .expect("ping");
        assert_eq!(start.elapsed().as_secs(), 3, "SYNs leave after 0, 1 and 3 s");
    });
}

#[test]
fn an_address_that_nobody_has_is_silent() {
    Pair::run(|_| async move {
        assert!(timeout(secs(5), TcpStream::connect("10.9.9.9:1")).await.is_err());
    });
}

#[test]
fn a_closed_port_refuses_within_a_round_trip() {
    Pair::run(|_| async move {
        let start = Instant::now();
        assert_eq!(
            kind(TcpStream::connect("10.0.0.1:1").await),
            ErrorKind::ConnectionRefused
        );
        assert!(start.elapsed() < ms(1));
    });
}

#[test]
fn machines_are_reached_by_name_and_loopback_only_by_themselves() {
    Pair::run(|pair| async move {
        ping(&mut TcpStream::connect("server:7000").await.expect("by name"))
            .await
            .expect("ping");
        assert!(tokio::net::lookup_host("nobody:1").await.is_err());
        assert_eq!(
            kind(TcpStream::connect("127.0.0.1:7000").await),
            ErrorKind::ConnectionRefused,
            "that is this machine"
        );
        drop(pair.server.spawn(async {
            let _inside = TcpListener::bind("127.0.0.1:7001").await.expect("bind");
            std::future::pending::<()>().await;
        }));
        sleep(ms(2)).await;
        assert_eq!(
            kind(TcpStream::connect("10.0.0.1:7001").await),
            ErrorKind::ConnectionRefused,
            "bound to the loopback address"
        );
    });
}

#[test]
fn an_asymmetric_cut_lets_the_request_through_and_holds_the_answer_until_it_heals() {
    Pair::run(|pair| async move {
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        ping(&mut stream).await.expect("ping");
        let before = pair.world.net_stats().bytes;
        pair.cut_to_client(true);
        stream.write_all(b"ping").await.expect("write");
        let mut answer = [0; 4];
        assert!(timeout(secs(60), stream.read_exact(&mut answer)).await.is_err());
        assert_eq!(pair.world.net_stats().bytes - before, 8, "the server did answer");
        pair.cut_to_client(false);
        let start = Instant::now();
        stream.read_exact(&mut answer).await.expect("read");
        assert!(
            start.elapsed() > secs(1) && start.elapsed() < secs(120),
            "at the next step of the backoff, not {:?}",
            start.elapsed()
        );
    });
}

#[test]
fn a_stalled_connection_gives_up() {
    Pair::run(|pair| async move {
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        pair.cut_to_server(true);
        let start = Instant::now();
        assert_eq!(kind(ping(&mut stream).await), ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 924);
    });
}

#[test]
fn a_killed_process_resets_its_connections() {
    Pair::run(|pair| async move {
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        ping(&mut stream).await.expect("ping");
        let server = pair.server.clone();
        tokio::spawn(async move {
            sleep(ms(100)).await;
            server.kill();
        });
        let start = Instant::now();
        assert_eq!(kind(stream.read_u8().await), ErrorKind::ConnectionReset);
        assert_eq!(start.elapsed().as_millis(), 100);
        assert_eq!(pair.server.state(), HostState::Down);
        assert_eq!(kind(TcpStream::connect(SERVER).await), ErrorKind::ConnectionRefused);
        pair.server.restart();
        sleep(ms(1)).await;
        ping(&mut TcpStream::connect(SERVER).await.expect("connect"))
            .await
            .expect("ping");
    });
}

#[test]
fn a_kill_behind_a_cut_leaves_a_half_open_connection() {
    Pair::run(|pair| async move {
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        ping(&mut stream).await.expect("ping");
        pair.cut_to_client(true);
        pair.server.restart();
        assert!(timeout(secs(600), stream.read_u8()).await.is_err());
        pair.cut_to_client(false);
        assert!(
            timeout(secs(600), stream.read_u8()).await.is_err(),
            "nobody has anything to say"
        );
        assert_eq!(
            kind(ping(&mut stream).await),
            ErrorKind::ConnectionReset,
            "the first write meets a new process"
        );
    });
}

#[test]
fn what_was_sent_before_a_kill_can_still_be_read() {
    Pair::run(|pair| async move {
        let listener = TcpListener::bind("0.0.0.0:9").await.expect("bind");
        drop(pair.server.spawn(async {
            let mut stream = TcpStream::connect("10.0.0.2:9").await.expect("connect");
            stream.write_all(b"last words").await.expect("write");
            std::future::pending::<()>().await;
        }));
        let (mut stream, _) = listener.accept().await.expect("accept");
        sleep(ms(1)).await;
        pair.server.kill();
        sleep(ms(1)).await;
        let mut words = [0; 10];
        stream.read_exact(&mut words).await.expect("read");
        assert_eq!(kind(stream.read_u8().await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn bytes_of_an_old_socket_never_reach_the_new_process() {
    Pair::run(|pair| async move {
        let slow = Link {
            base_ns: 50_000_000,
            ..Link::default()
        };
        pair.world.links().set(pair.client.id(), pair.server.id(), slow);
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        sleep(ms(60)).await;
        stream.write_all(b"ping").await.expect("write");
        pair.server.restart();
        sleep(ms(20)).await;
        // the reset of the old connection arrives first; the bytes are still on their way
        assert_eq!(kind(stream.read_u8().await), ErrorKind::ConnectionReset);
        let before = pair.world.net_stats().bytes;
        sleep(secs(1)).await;
        assert_eq!(pair.world.net_stats().bytes, before, "nobody echoed them");
    });
}

#[test]
fn a_program_that_returns_closes_its_connections_in_order() {
    Pair::run(|pair| async move {
        let listener = TcpListener::bind("0.0.0.0:9").await.expect("bind");
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = visits.clone();
        let visitor = pair.world.host("visitor", [10, 0, 0, 9].into());
        visitor.start(move || {
            counted.fetch_add(1, SeqCst);
            Box::pin(async {
                let mut stream = TcpStream::connect("10.0.0.2:9").await.expect("connect");
                stream.write_all(b"done").await.expect("write");
                // another task still holds the connection when the program returns
                tokio::spawn(async move {
                    let _held = stream;
                    std::future::pending::<()>().await;
                });
            })
        });
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("an end, not a reset");
        assert_eq!(all, b"done");
        assert_eq!(visitor.state(), HostState::Down);
        visitor.restart();
        listener.accept().await.expect("it runs again");
        assert_eq!(visits.load(SeqCst), 2);
    });
}

#[test]
fn a_power_loss_is_silent_until_the_machine_is_back() {
    Pair::run(|pair| async move {
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        ping(&mut stream).await.expect("ping");
        pair.server.power_off();
        assert!(timeout(secs(60), ping(&mut stream)).await.is_err());
        assert!(timeout(secs(5), TcpStream::connect(SERVER)).await.is_err());
        pair.server.restart();
        assert_eq!(
            kind(stream.read_u8().await),
            ErrorKind::ConnectionReset,
            "our retransmission meets a new kernel"
        );
        ping(&mut TcpStream::connect(SERVER).await.expect("connect"))
            .await
            .expect("ping");
    });
}

#[test]
fn a_slow_link_takes_its_time_and_a_full_window_blocks() {
    let net = NetConfig {
        window_bytes: 10_000,
        ..NetConfig::default()
    };
    Pair::run_with(
        WorldConfig {
            net,
            ..WorldConfig::default()
        },
        |pair| async move {
            let listener = TcpListener::bind("0.0.0.0:9").await.expect("bind");
            let sent = Arc::new(AtomicUsize::new(0));
            let counted = sent.clone();
            drop(pair.server.spawn(async move {
                let mut stream = TcpStream::connect("10.0.0.2:9").await.expect("connect");
                for _ in 0..100 {
                    stream.write_all(&[1; 1000]).await.expect("write");
                    counted.fetch_add(1000, SeqCst);
                }
            }));
            let (mut stream, _) = listener.accept().await.expect("accept");
            sleep(secs(5)).await;
            assert_eq!(sent.load(SeqCst), 10_000);
            let slow = Link {
                rate: 10_000,
                ..Link::default()
            };
            pair.world.links().set(pair.server.id(), pair.client.id(), slow);
            let start = Instant::now();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("read");
            assert_eq!(all.len(), 100_000);
            assert_eq!(start.elapsed().as_secs(), 9);
        },
    );
}

#[test]
fn loss_is_delay() {
    Pair::run(|pair| async move {
        pair.world.links().set_default(Link {
            loss: Link::share(1, 10),
            ..Link::default()
        });
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        let start = Instant::now();
        for _ in 0..100 {
            ping(&mut stream).await.expect("ping");
        }
        assert!(
            start.elapsed() > secs(1) && start.elapsed() < secs(20),
            "{:?}",
            start.elapsed()
        );
    });
}

#[test]
fn the_kernel_of_a_paused_machine_still_accepts() {
    Pair::run(|pair| async move {
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        ping(&mut stream).await.expect("ping");
        pair.server.pause();
        assert_eq!(pair.server.state(), HostState::Paused);
        stream.write_all(b"ping").await.expect("write");
        let mut answer = [0; 4];
        assert!(timeout(secs(5), stream.read_exact(&mut answer)).await.is_err());
        let _waiting = TcpStream::connect(SERVER).await.expect("the backlog takes it");
        pair.server.resume();
        stream.read_exact(&mut answer).await.expect("read");
    });
}

#[test]
fn a_paused_machine_can_be_killed_and_comes_back() {
    Pair::run(|pair| async move {
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        ping(&mut stream).await.expect("ping");
        pair.server.pause();
        pair.server.kill();
        assert_eq!(kind(stream.read_u8().await), ErrorKind::ConnectionReset);
        pair.server.resume();
        assert_eq!(pair.server.state(), HostState::Down, "only a restart brings it back");
        pair.server.restart();
        sleep(ms(1)).await;
        ping(&mut TcpStream::connect(SERVER).await.expect("connect"))
            .await
            .expect("ping");
    });
}

#[test]
fn classes_are_cut_apart() {
    Pair::run(|pair| async move {
        let links = pair.world.links();
        let (client, server) = (pair.client.id(), pair.server.id());
        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
        links.cut_class(Class::Peer, client, server, true);
        assert_eq!(links.travel(client, server, 100, Class::Peer), None);
        assert!(
            links.travel(server, client, 100, Class::Peer).is_some(),
            "the other direction is open"
        );
        ping(&mut stream).await.expect("TCP is not concerned");
        links.cut_class(Class::Client, client, server, true);
        links.cut_class(Class::Peer, client, server, false);
        assert!(links.travel(client, server, 100, Class::Peer).is_some());
        assert!(timeout(secs(1), ping(&mut stream)).await.is_err());
        assert!(links.is_cut(Class::Client, client, server));
        links.heal_all();
        assert!(!links.is_cut(Class::Client, client, server));
    });
}

#[test]
fn messages_need_a_process_at_the_other_end() {
    Pair::run(|pair| async move {
        let links = pair.world.links();
        let travel = || links.travel(pair.client.id(), pair.server.id(), 100, Class::Peer);
        let now = pair.world.now_ns();
        let at = travel().expect("up");
        assert!((now + 50_000..now + 71_000).contains(&at));
        pair.server.pause();
        assert!(travel().is_some(), "the kernel of a paused machine takes it");
        pair.server.kill();
        assert_eq!(travel(), None);
        pair.server.restart();
        assert!(travel().is_some());
        pair.server.power_off();
        assert_eq!(travel(), None);
    });
}

#[test]
fn cuts_between_groups_work_both_ways() {
    Pair::run(|pair| async move {
        let links = pair.world.links();
        let (a, b) = (vec![pair.client.id()], vec![pair.server.id(), pair.client.id()]);
        links.cut_between(&a, &b, true);
        assert!(
            links.is_cut(Class::Peer, pair.client.id(), pair.server.id())
                && links.is_cut(Class::Client, pair.server.id(), pair.client.id())
        );
        assert!(
            !links.is_cut(Class::Client, pair.client.id(), pair.client.id()),
            "nobody is cut from itself"
        );
        assert!(timeout(secs(1), TcpStream::connect(SERVER)).await.is_err());
        links.cut_between(&a, &b, false);
        ping(&mut TcpStream::connect(SERVER).await.expect("connect"))
            .await
            .expect("ping");
    });
}

#[test]
fn a_full_backlog_makes_clients_wait() {
    let net = NetConfig {
        backlog: 2,
        ..NetConfig::default()
    };
    Pair::run_with(
        WorldConfig {
            net,
            ..WorldConfig::default()
        },
        |pair| async move {
            pair.server.pause();
            let _first = TcpStream::connect(SERVER).await.expect("connect");
            let _second = TcpStream::connect(SERVER).await.expect("connect");
            sleep(ms(1)).await;
            assert!(timeout(ms(500), TcpStream::connect(SERVER)).await.is_err());
            let third = tokio::spawn(TcpStream::connect(SERVER));
            sleep(ms(100)).await;
            pair.server.resume();
            let start = Instant::now();
            ping(&mut third.await.expect("joined").expect("connect"))
                .await
                .expect("ping");
            assert!(
                start.elapsed() > ms(500),
                "with the second SYN, after {:?}",
                start.elapsed()
            );
        },
    );
}

#[test]
fn a_client_that_gives_up_half_way_leaves_nothing_behind() {
    let net = NetConfig {
        backlog: 1,
        ..NetConfig::default()
    };
    Pair::run_with(
        WorldConfig {
            net,
            ..WorldConfig::default()
        },
        |pair| async move {
            let slow = Link {
                base_ns: 100_000_000,
                ..Link::default()
            };
            pair.world.links().set(pair.server.id(), pair.client.id(), slow);
            for _ in 0..5 {
                assert!(timeout(ms(50), TcpStream::connect(SERVER)).await.is_err());
                sleep(ms(300)).await;
            }
            ping(
                &mut TcpStream::connect(SERVER)
                    .await
                    .expect("the backlog is not full of ghosts"),
            )
            .await
            .expect("ping");
        },
    );
}

#[test]
fn many_connections_come_and_go() {
    Pair::run(|pair| async move {
        for round in 0..50 {
            let tasks: Vec<_> = (0..20)
                .map(|_| {
                    tokio::spawn(async move {
                        let mut stream = TcpStream::connect(SERVER).await.expect("connect");
                        for _ in 0..3 {
                            ping(&mut stream).await.expect("ping");
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("joined");
            }
            assert_eq!(pair.world.net_stats().connects, (round + 1) * 20);
        }
    });
}

#[test]
fn a_second_program_takes_the_place_of_the_first() {
    Pair::run(|pair| async move {
        pair.server.kill();
        pair.server.start(|| Box::pin(echo(7777)));
        sleep(ms(1)).await;
        assert_eq!(kind(TcpStream::connect(SERVER).await), ErrorKind::ConnectionRefused);
        ping(&mut TcpStream::connect("10.0.0.1:7777").await.expect("connect"))
            .await
            .expect("ping");
    });
}
