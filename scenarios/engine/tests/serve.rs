//! The engine as a program, over real sockets and files: the feed, heartbeats, replay, the intake, and a
//! crash in the middle. The tests mean the same in both worlds: files and addresses come from `tokio`.

use std::path::Path;
use std::time::Duration;

use engine::command::{Command, Matching};
use engine::intake::IntakeReply;
use engine::{Controls, EngineConfig, LOG_FILE, Pacing, Source, WorkloadSpec, log, run, serve, serve_until};
use settlement_events::{
    Amount, AssetId, Digest, Envelope, EventId, FeedMessage, OrderId, OutputSequence, Price, Quantity, Registry,
    ReplayRefusal, ReplayReply, ReplayRequest, Side, SymbolId, UserId,
};
use tokio::net::TcpListener;
use tokio::time::timeout;
use zeromq::{ReqSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("tcp://{}", listener.local_addr().expect("bound"))
}

async fn config(data_dir: &Path, trades: u64) -> EngineConfig {
    let source = Source::Workload(WorkloadSpec {
        seed: 21,
        trades,
        ..WorkloadSpec::default()
    });
    let mut config = EngineConfig::new(
        Registry::example(),
        source,
        data_dir.to_owned(),
        &free_address().await,
        &free_address().await,
    );
    config.heartbeat_ms = 20;
    config.pacing = Pacing {
        events_per_s: 4_000,
        start_after_ms: 1_000,
        ..Pacing::default()
    };
    config
}

fn expected(config: &EngineConfig) -> Vec<Digest> {
    let stream = run(config.registry.clone(), &config.source, &config.contradictions).expect("a good spec");
    stream.into_iter().map(|(envelope, _)| envelope.digest).collect()
}

async fn read_log(data_dir: &Path) -> Vec<u8> {
    tokio::fs::read(data_dir.join(LOG_FILE)).await.expect("the log")
}

async fn subscribe(config: &EngineConfig) -> SubSocket {
    let mut socket = SubSocket::new();
    timeout(PATIENCE, async {
        while socket.connect(&config.publish_addr).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the engine is there");
    socket.subscribe("me").await.expect("subscribed");
    socket
}

async fn receive(socket: &mut SubSocket) -> FeedMessage {
    let frames = timeout(PATIENCE, socket.recv())
        .await
        .expect("in time")
        .expect("a message")
        .into_vec();
    assert_eq!(frames[0].as_ref(), b"me");
    FeedMessage::decode(&frames[1]).expect("understood")
}

/// Sequences of the events up to a heartbeat that says the source's end is reached.
async fn events_until(socket: &mut SubSocket, head: u64) -> Vec<u64> {
    let mut sequences = Vec::new();
    loop {
        match receive(socket).await {
            FeedMessage::Event(envelope) => sequences.push(envelope.header().expect("a head").output_sequence.0),
            FeedMessage::Heartbeat(heartbeat) if heartbeat.head_sequence.0 == head => return sequences,
            FeedMessage::Heartbeat(_) => {}
        }
    }
}

async fn ask(address: &str, request: &ReplayRequest) -> ReplayReply {
    let mut socket = ReqSocket::new();
    socket.connect(address).await.expect("connected");
    socket.send(ZmqMessage::from(request.encode())).await.expect("sent");
    let reply = timeout(PATIENCE, socket.recv())
        .await
        .expect("in time")
        .expect("a reply")
        .into_vec();
    ReplayReply::decode(&reply[0]).expect("understood")
}

fn range(start: u64, end: u64) -> ReplayRequest {
    ReplayRequest::Range {
        start_seq: OutputSequence(start),
        end_seq: OutputSequence(end),
    }
}

#[tokio::test]
async fn everything_is_published_in_order_and_replayed_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path(), 100).await;
    let (digests, replay) = (expected(&config), config.replay_addr.clone());
    let controls = config.controls.clone();
    let head = digests.len() as u64;
    let engine = tokio::spawn(serve(config.clone()));
    let mut feed = subscribe(&config).await;
    let sequences = events_until(&mut feed, head).await;
    assert_eq!(sequences, (1..=head).collect::<Vec<_>>());
    // The last event is published a moment before the source is asked for another one and has none.
    let ended = async {
        while !controls.status.source_ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the source has ended");
    assert_eq!(controls.status.published_sequence(), OutputSequence(head));

    let ReplayReply::Head {
        heartbeat,
        first_retained,
    } = ask(&replay, &ReplayRequest::Head).await
    else {
        panic!("a head was asked for");
    };
    assert_eq!(
        (heartbeat.head_sequence.0, heartbeat.head_digest),
        (head, digests[digests.len() - 1])
    );
    assert_eq!(first_retained, OutputSequence(1));
    let ReplayReply::Events {
        entries, end_of_log, ..
    } = ask(&replay, &range(3, head)).await
    else {
        panic!("a range was asked for");
    };
    assert!(end_of_log);
    assert!(entries.iter().all(|entry| entry.verify().is_ok()));
    assert_eq!(
        entries.iter().map(|entry| entry.digest).collect::<Vec<_>>(),
        digests[2..]
    );
    engine.abort();
}

#[tokio::test]
async fn replay_keeps_so_many_and_answers_in_parts() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path(), 20).await;
    config.retention_events = 10;
    let (head, replay) = (expected(&config).len() as u64, config.replay_addr.clone());
    let engine = tokio::spawn(serve(config.clone()));
    events_until(&mut subscribe(&config).await, head).await;

    let first_retained = OutputSequence(head - 9);
    let passed = ReplayReply::Refused {
        reason: ReplayRefusal::RetentionPassed { first_retained },
    };
    assert_eq!(ask(&replay, &range(1, 5)).await, passed);

    config.reply_entries_max = 2;
    engine.abort();
    drop(engine.await);
    let engine = tokio::spawn(serve(config.clone()));
    subscribe(&config).await;
    let ReplayReply::Events {
        entries, end_of_log, ..
    } = ask(&replay, &range(head - 4, head)).await
    else {
        panic!("a range was asked for");
    };
    assert_eq!((entries.len(), end_of_log), (2, false));
    engine.abort();
}

#[tokio::test]
async fn an_engine_killed_in_the_middle_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path(), 200).await;
    let digests = expected(&config);
    let status = config.controls.status.clone();
    let mut killed_at = Vec::new();
    for upto in [100, 250] {
        let engine = tokio::spawn(serve(config.clone()));
        timeout(PATIENCE, async {
            while status.durable_sequence().0 < upto {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("it gets there");
        engine.abort();
        assert!(engine.await.expect_err("aborted").is_cancelled());
        killed_at.push(status.durable_sequence().0);
    }
    let mut last = config.clone();
    last.exit_when_done = true;
    let exit = timeout(PATIENCE, serve(last))
        .await
        .expect("in time")
        .expect("it goes on");
    assert_eq!(
        (exit.head.head_sequence.0, exit.head.head_digest),
        (digests.len() as u64, digests[digests.len() - 1])
    );
    assert!(
        killed_at[0] < killed_at[1] && killed_at[1] < exit.head.head_sequence.0,
        "{killed_at:?}"
    );
    assert_eq!(status.starts(), 3);
    let facts = log::read_facts(&read_log(dir.path()).await).expect("a good log");
    assert_eq!(
        facts.iter().map(|fact| fact.event.digest()).collect::<Vec<_>>(),
        digests
    );
}

async fn submit(address: &str, text: String) -> IntakeReply {
    let mut socket = ReqSocket::new();
    socket.connect(address).await.expect("connected");
    socket.send(ZmqMessage::from(text)).await.expect("sent");
    let reply = timeout(PATIENCE, socket.recv())
        .await
        .expect("in time")
        .expect("a reply")
        .into_vec();
    serde_json::from_slice(&reply[0]).expect("understood")
}

#[tokio::test]
async fn commands_from_outside_are_durable_when_they_are_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path(), 0).await;
    let intake = free_address().await;
    config.source = Source::None;
    config.intake_addr = Some(intake.clone());
    config.clock_base_ms = 1_700_000_000_000;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let engine = tokio::spawn(serve_until(config.clone(), async {
        let _ = stopped.await;
    }));
    subscribe(&config).await;
    let send = |command: Command| submit(&intake, serde_json::to_string(&command).expect("plain data"));
    let accepted = |seq, order| IntakeReply::Accepted {
        first_seq: OutputSequence(seq),
        last_seq: OutputSequence(seq),
        order,
    };

    let deposit = Command::Deposit {
        event_id: EventId(1),
        user: UserId(7),
        asset: AssetId(3),
        amount: Amount(5_000),
    };
    assert_eq!(send(deposit).await, accepted(1, None));
    let place = Command::Place {
        user: UserId(7),
        symbol: SymbolId(1),
        side: Side::Buy,
        price: Price(100_000_000),
        quantity: Quantity(4_000),
        matching: Matching::Limit,
    };
    assert_eq!(send(place).await, accepted(2, Some(OrderId(1))));
    assert!(matches!(send(place).await, IntakeReply::Rejected { reason } if reason.contains("user 7 has 1000")));
    let by_hand = r#"{"cancel":{"user":"7","order":1}}"#.to_owned();
    assert_eq!(submit(&intake, by_hand).await, accepted(3, None));
    assert!(matches!(
        submit(&intake, "{\"deposit\":{}}".to_owned()).await,
        IntakeReply::Invalid { .. }
    ));

    let facts = log::read_facts(&read_log(dir.path()).await).expect("a good log");
    assert_eq!(facts.len(), 3);
    assert!(facts.iter().all(|fact| fact.event.event_time_ms.0 >= 1_700_000_000_000));
    stop.send(()).expect("still running");
    let exit = engine.await.expect("no panic").expect("a clean stop");
    assert_eq!(exit.head.head_sequence, OutputSequence(3));

    // Started again it knows what it was told.
    let again = tokio::spawn(serve(config.clone()));
    let mut feed = subscribe(&config).await;
    assert_eq!(
        events_until(&mut feed, 3).await,
        Vec::<u64>::new(),
        "what was published is not published again"
    );
    let ReplayReply::Events { entries, .. } = ask(&config.replay_addr, &range(1, 3)).await else {
        panic!("a range was asked for");
    };
    assert_eq!(
        entries,
        facts.iter().map(|fact| Envelope::seal(&fact.event)).collect::<Vec<_>>()
    );
    again.abort();
}

#[tokio::test]
async fn configurations_that_cannot_work_say_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let plain = config(dir.path(), 1).await;
    let problem = |edit: fn(&mut EngineConfig)| {
        let mut config = plain.clone();
        edit(&mut config);
        async move { serve(config).await.expect_err("must be refused").to_string() }
    };
    assert!(problem(|c| c.heartbeat_ms = 0).await.contains("heartbeat_ms = 0"));
    assert!(problem(|c| c.retention_events = 0).await.contains("at least 1"));
    assert!(problem(|c| c.pacing.tick_ms = 0).await.contains("tick"));
    assert!(
        problem(|c| c.pacing.group_events_max = 0)
            .await
            .contains("group_events_max")
    );
    let text = "1.0,5,0,1,100,1\n";
    let tape = engine::Tape::import("x.csv", text.as_bytes(), &engine::TapeSpec::default()).expect("a tape");
    let mut with_tape = plain.clone();
    with_tape.source = Source::Tape(tape.clone());
    let error = serve(with_tape.clone())
        .await
        .expect_err("another registry")
        .to_string();
    assert!(error.contains("brings its own registry"), "{error}");
    with_tape.registry = tape.registry.clone();
    with_tape.intake_addr = Some(free_address().await);
    let error = serve(with_tape).await.expect_err("an intake").to_string();
    assert!(error.contains("cannot have an intake"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut config = config(dir.path(), 1).await;
    config.replay_addr = format!("tcp://{}", taken.local_addr().expect("bound"));
    config.controls = Controls::default();
    let error = serve(config.clone()).await.expect_err("taken").to_string();
    assert!(
        error.contains(&config.replay_addr) && error.contains("replay"),
        "{error}"
    );
}
