//! The transplanted zeromq between two simulated machines: what a feed over PUB/SUB and a replay over REQ/REP meet when
//! the other side is killed, loses power, or is cut off. Upstream's own semantics are shown, not judged: PUB loses what
//! nobody is connected for, SUB comes back by itself, REQ does not. In an ordinary build there is nothing here to run.
#![cfg(madsim)]

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use madsim_zeromq::{PubSocket, RepSocket, ReqSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqError, ZmqMessage};
use sim_world::{Host, RunSummary, Seed, World, WorldConfig};
use tokio::time::{sleep, timeout, Instant};

const FEED: &str = "tcp://10.0.0.1:5555";
const REPLAY: &str = "tcp://10.0.0.1:5556";
const TOPIC: &str = "me";

/// One message received: the publisher's process (it counts its starts), the number in it, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Received {
    start: u64,
    number: u64,
    at_ms: u64,
}

type Log = Arc<Mutex<Vec<Received>>>;

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn run<F, Fut>(seed: u64, f: F) -> RunSummary
where
    F: FnOnce(World) -> Fut,
    Fut: Future<Output = ()>,
{
    let ((), summary) = World::run(Seed(seed), WorldConfig::default(), f).expect("the run comes to its end");
    summary
}

fn text(message: &ZmqMessage, frame: usize) -> String {
    String::from_utf8_lossy(message.get(frame).expect("the frame is there")).into_owned()
}

fn message(frames: [&str; 2]) -> ZmqMessage {
    let mut message = ZmqMessage::from(frames[0]);
    message.push_back(frames[1].to_owned().into());
    message
}

/// A machine that publishes.
fn publisher(world: &World) -> Host {
    let host = world.host("engine", ip(1));
    publish_on(&host);
    host
}

/// Publishes `start:number` every 10 ms, each number once under the topic and once under another.
fn publish_on(host: &Host) {
    let starts = Arc::new(Mutex::new(0_u64));
    host.start(move || {
        let starts = Arc::clone(&starts);
        Box::pin(async move {
            let start = {
                let mut starts = starts.lock().expect("not poisoned");
                *starts += 1;
                *starts
            };
            let mut socket = PubSocket::new();
            socket.bind("tcp://0.0.0.0:5555").await.expect("bind");
            for number in 1_u64.. {
                let body = format!("{start}:{number}");
                socket.send(message([TOPIC, &body])).await.expect("PUB never fails");
                socket.send(message(["other", &body])).await.expect("PUB never fails");
                sleep(Duration::from_millis(10)).await;
            }
        })
    });
}

/// A machine that subscribes to the topic and keeps what it receives.
fn subscriber(world: &World) -> (Host, Log) {
    let host = world.host("settlement", ip(2));
    let log = Log::default();
    let kept = Arc::clone(&log);
    host.start(move || {
        let kept = Arc::clone(&kept);
        Box::pin(async move {
            let begun = Instant::now();
            let mut socket = SubSocket::new();
            socket.connect(FEED).await.expect("connect");
            socket.subscribe(TOPIC).await.expect("subscribe");
            loop {
                // A lost connection shows as an error now and again; the socket goes on.
                let Ok(message) = socket.recv().await else { continue };
                assert_eq!(text(&message, 0), TOPIC, "a subscription filters");
                let body = text(&message, 1);
                let (start, number) = body.split_once(':').expect("start:number");
                kept.lock().expect("not poisoned").push(Received {
                    start: start.parse().expect("a number"),
                    number: number.parse().expect("a number"),
                    at_ms: u64::try_from(begun.elapsed().as_millis()).expect("a short run"),
                });
            }
        })
    });
    (host, log)
}

fn of_start(log: &Log, start: u64) -> Vec<Received> {
    log.lock()
        .expect("not poisoned")
        .iter()
        .filter(|received| received.start == start)
        .copied()
        .collect()
}

/// Each number follows the one before it: nothing lost, doubled or reordered in between.
fn assert_contiguous(received: &[Received]) {
    for pair in received.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1, "after {:?}", pair[0]);
    }
}

#[test]
fn a_subscriber_comes_back_to_a_killed_publisher_and_has_lost_what_went_between() {
    run(1, |world| async move {
        let engine = publisher(&world);
        let (_settlement, log) = subscriber(&world);
        sleep(Duration::from_secs(1)).await;
        engine.kill();
        sleep(Duration::from_secs(1)).await;
        let first = of_start(&log, 1);
        assert!(first.len() > 80, "a message every 10 ms for a second: {}", first.len());
        assert_contiguous(&first);
        assert!(
            first.iter().all(|received| received.at_ms <= 1_001),
            "a dead process sends nothing"
        );

        engine.restart();
        sleep(Duration::from_secs(5)).await;
        let second = of_start(&log, 2);
        assert!(second.len() > 100, "connected again by itself: {}", second.len());
        assert_contiguous(&second);
        assert!(
            second[0].number > 1,
            "what was published before the subscription came is lost: {:?}",
            second[0]
        );
    });
}

#[test]
fn a_subscriber_started_first_waits_for_its_publisher() {
    run(2, |world| async move {
        let engine = world.host("engine", ip(1));
        let (_settlement, log) = subscriber(&world);
        sleep(Duration::from_secs(1)).await;
        assert!(of_start(&log, 1).is_empty());
        publish_on(&engine);
        sleep(Duration::from_secs(5)).await;
        assert!(of_start(&log, 1).len() > 100);
    });
}

#[test]
fn a_cut_link_delays_what_was_published_and_loses_nothing() {
    run(3, |world| async move {
        let engine = publisher(&world);
        let (settlement, log) = subscriber(&world);
        sleep(Duration::from_secs(1)).await;
        world.links().cut(engine.id(), settlement.id(), true);
        let before = of_start(&log, 1).len();
        sleep(Duration::from_secs(1)).await;
        assert!(of_start(&log, 1).len() <= before + 1, "nothing passes a cut link");
        world.links().cut(engine.id(), settlement.id(), false);
        sleep(Duration::from_secs(5)).await;
        let received = of_start(&log, 1);
        assert!(received.len() > before + 300, "{} after {before}", received.len());
        assert_contiguous(&received);
    });
}

/// A machine that answers each request with the same text, in capitals, and notes the process that answers.
fn replier(world: &World) -> Host {
    let host = world.host("engine", ip(1));
    host.start(|| {
        Box::pin(async {
            let mut socket = RepSocket::new();
            socket.bind("tcp://0.0.0.0:5556").await.expect("bind");
            loop {
                let Ok(request) = socket.recv().await else { continue };
                let text = text(&request, 0);
                if text == "never" {
                    std::future::pending::<()>().await;
                }
                sleep(Duration::from_millis(5)).await;
                // The one who asked may be gone by now.
                let _ = socket.send(ZmqMessage::from(text.to_uppercase())).await;
            }
        })
    });
    host
}

async fn ask(socket: &mut ReqSocket, question: &str) -> Result<String, ZmqError> {
    socket.send(ZmqMessage::from(question)).await?;
    Ok(text(&socket.recv().await?, 0))
}

async fn requester() -> ReqSocket {
    let mut socket = ReqSocket::new();
    socket.connect(REPLAY).await.expect("connect");
    socket
}

/// Runs `program` once on the machine of settlement and waits for it.
async fn on_settlement<Fut>(world: &World, program: Fut)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    world
        .host("settlement", ip(2))
        .spawn(program)
        .await
        .expect("the program of the test");
}

#[test]
fn a_request_is_answered_and_a_killed_replier_is_an_error() {
    run(4, |world| async move {
        let engine = replier(&world);
        let killed = engine.clone();
        on_settlement(&world, async move {
            let mut socket = requester().await;
            assert_eq!(ask(&mut socket, "head").await.expect("answered"), "HEAD");
            assert_eq!(ask(&mut socket, "range 1 5").await.expect("answered"), "RANGE 1 5");

            let answer = tokio::spawn(async move { (ask(&mut socket, "never").await, socket) });
            sleep(Duration::from_millis(50)).await;
            killed.kill();
            let (answer, mut socket) = timeout(Duration::from_secs(1), answer)
                .await
                .expect("noticed")
                .expect("no panic");
            assert!(answer.is_err(), "the answer is lost: {answer:?}");
            killed.restart();
            sleep(Duration::from_secs(1)).await;
            // A REQ socket does not connect again by itself.
            let again = timeout(Duration::from_secs(5), ask(&mut socket, "head")).await;
            assert!(!matches!(again, Ok(Ok(_))), "{again:?}");
            let mut fresh = requester().await;
            assert_eq!(ask(&mut fresh, "head").await.expect("answered"), "HEAD");
        })
        .await;
    });
}

#[test]
fn a_request_whose_answer_was_lost_wedges_its_socket_and_a_new_one_serves() {
    run(5, |world| async move {
        let engine = replier(&world);
        let silent = engine.clone();
        on_settlement(&world, async move {
            let mut socket = requester().await;
            assert_eq!(ask(&mut socket, "head").await.expect("answered"), "HEAD");
            silent.power_off();
            let lost = timeout(Duration::from_secs(10), ask(&mut socket, "head")).await;
            assert!(lost.is_err(), "nobody says that the machine is gone: {lost:?}");
            let refused = socket
                .send(ZmqMessage::from("head"))
                .await
                .expect_err("a request is in progress");
            assert!(matches!(refused, ZmqError::ReturnToSender { .. }), "{refused:?}");

            silent.restart();
            sleep(Duration::from_millis(100)).await;
            let mut fresh = requester().await;
            assert_eq!(ask(&mut fresh, "head").await.expect("answered"), "HEAD");
        })
        .await;
    });
}

/// Feed and replay together, with a kill in between: enough of zeromq's own randomness (identities, back-off, the order
/// of its maps and of `select!`) to notice what leaks.
fn busy(seed: u64) -> RunSummary {
    run(seed, |world| async move {
        let engine = publisher(&world);
        let (_settlement, log) = subscriber(&world);
        for last in 3..8 {
            world.host(&format!("reader-{last}"), ip(last)).start(|| {
                Box::pin(async {
                    let mut socket = SubSocket::new();
                    socket.connect(FEED).await.expect("connect");
                    socket.subscribe(TOPIC).await.expect("subscribe");
                    loop {
                        let _ = socket.recv().await;
                    }
                })
            });
        }
        sleep(Duration::from_secs(1)).await;
        engine.kill();
        sleep(Duration::from_secs(1)).await;
        engine.restart();
        sleep(Duration::from_secs(3)).await;
        assert!(!of_start(&log, 2).is_empty());
    })
}

const CHILD: &str = "MADSIM_ZEROMQ_TEST_SEED";

/// In a process of its own, started by the next test: prints the hash of one busy run.
#[test]
fn busy_run_of_a_child() {
    let Ok(seed) = std::env::var(CHILD) else { return };
    let summary = busy(seed.parse().expect("a seed"));
    println!("hash {}", summary.trace_hash);
}

#[test]
fn the_same_seed_gives_the_same_run_in_two_processes() {
    let hash = |seed: &str| {
        let output = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "busy_run_of_a_child", "--nocapture", "--test-threads=1"])
            .env(CHILD, seed)
            .output()
            .expect("the child runs");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = stdout
            .lines()
            .find_map(|line| line.split_once("hash ").map(|(_, hash)| hash.to_owned()));
        line.unwrap_or_else(|| panic!("no hash: {stdout}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let first = hash("7");
    assert_eq!(hash("7"), first);
    assert_ne!(hash("8"), first);
}
