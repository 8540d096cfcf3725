//! The feed against a scripted engine over real sockets: what is lost, damaged, late, refused or restarted, and that
//! every event comes in the end. The bookkeeping without sockets is tested in `tracker`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use settlement_events::{
    DecodeError, Digest, Envelope, Epoch, FEED_TOPIC, FeedMessage, Heartbeat, OutputSequence, ReplayRefusal,
    ReplayReply, ReplayRequest, samples,
};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeromq::{PubSocket, RepSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use super::*;

const EPOCH: Epoch = Epoch(1);
/// Long enough for a loaded machine; a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn seq(value: u64) -> OutputSequence {
    OutputSequence(value)
}

/// How the engine treats one replay request; by default as it should.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Partial(usize),
    Empty,
    Refuse(ReplayRefusal),
    /// The reply is lost.
    Swallow,
    Late(Duration),
    DamageFirst,
    MalformFirst,
    Misplaced,
    Garbage,
}

/// What a test says to the replay side, and what it was asked.
#[derive(Debug, Default)]
struct Script {
    ranges: VecDeque<Answer>,
    always: Option<ReplayRefusal>,
    asked: Vec<(u64, u64)>,
}

struct Engine {
    log: Vec<Envelope>,
    publisher: PubSocket,
    publish_addr: String,
    replay_addr: String,
    script: Arc<Mutex<Script>>,
    replay: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.replay.abort();
    }
}

/// A chained log of deposits.
fn log_of(events: u64) -> Vec<Envelope> {
    let deposit = samples::stream()[0].body.clone();
    samples::chain(vec![deposit; events as usize])
        .iter()
        .map(Envelope::seal)
        .collect()
}

impl Engine {
    async fn start(events: u64) -> Self {
        let mut publisher = PubSocket::new();
        let publish_addr = publisher.bind("tcp://127.0.0.1:0").await.expect("bound").to_string();
        let mut responder = RepSocket::new();
        let replay_addr = responder.bind("tcp://127.0.0.1:0").await.expect("bound").to_string();
        let script = Arc::new(Mutex::new(Script::default()));
        let log = log_of(events);
        let replay = tokio::spawn(serve(responder, log.clone(), script.clone()));
        Self {
            log,
            publisher,
            publish_addr,
            replay_addr,
            script,
            replay,
        }
    }

    fn config(&self) -> FeedConfig {
        FeedConfig {
            replay_timeout_ms: 150,
            replay_timeout_max_ms: 2_000,
            silence_ms: 400,
            backoff_min_ms: 5,
            backoff_max_ms: 50,
            reorder_patience_ms: 1,
            ..FeedConfig::new(&self.publish_addr, &self.replay_addr, EPOCH, seq(1))
        }
    }

    fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().expect("no panic").ranges.extend(answers);
    }

    fn asked(&self) -> Vec<(u64, u64)> {
        self.script.lock().expect("no panic").asked.clone()
    }

    /// A feed whose subscription is known to work, positioned behind `from - 1`; the head is not told by replay.
    async fn subscribed(&mut self, from: u64) -> Feed {
        self.subscribed_with(FeedConfig {
            next: seq(from),
            ..self.config()
        })
        .await
    }

    async fn subscribed_with(&mut self, config: FeedConfig) -> Feed {
        let from = config.next.0;
        let mut feed = Feed::connect(config);
        // PUB drops what is published before the subscription arrives: say harmless heartbeats until one is heard.
        loop {
            self.say_head(from - 1).await;
            let heard = timeout(Duration::from_millis(20), async {
                loop {
                    if let FeedItem::Head(_) = feed.next().await
                        && feed.counters().heads > 1
                    {
                        return;
                    }
                }
            });
            if heard.await.is_ok() {
                return feed;
            }
        }
    }

    async fn say(&mut self, payload: FeedMessage) {
        self.say_frame(payload.encode()).await;
    }

    async fn say_frame(&mut self, payload: bytes::Bytes) {
        let mut message = ZmqMessage::from(bytes::Bytes::from_static(FEED_TOPIC));
        message.push_back(payload);
        self.publisher.send(message).await.expect("published");
    }

    async fn publish(&mut self, values: impl IntoIterator<Item = u64>) {
        for value in values {
            self.say(FeedMessage::Event(self.log[value as usize - 1].clone())).await;
        }
    }

    async fn say_head(&mut self, value: u64) {
        let head_digest = if value == 0 {
            Digest::ZERO
        } else {
            self.log[value as usize - 1].digest
        };
        self.say(FeedMessage::Heartbeat(Heartbeat {
            epoch: EPOCH,
            head_sequence: seq(value),
            head_digest,
        }))
        .await;
    }
}

async fn serve(mut socket: RepSocket, log: Vec<Envelope>, script: Arc<Mutex<Script>>) {
    loop {
        let Ok(message) = socket.recv().await else { continue };
        let request = message
            .get(0)
            .and_then(|frame| ReplayRequest::decode(frame).ok())
            .expect("a request");
        let (frame, late) = match request {
            // Position 0: heads come by heartbeat in these tests unless they say otherwise.
            ReplayRequest::Head => (head_reply().encode(), None),
            ReplayRequest::Range { start_seq, end_seq } => {
                let (answer, always) = {
                    let mut script = script.lock().expect("no panic");
                    script.asked.push((start_seq.0, end_seq.0));
                    (script.ranges.pop_front(), script.always)
                };
                match answer.or(always.map(Answer::Refuse)) {
                    Some(Answer::Swallow) => continue,
                    Some(Answer::Garbage) => (bytes::Bytes::from_static(b"\xff\xff"), None),
                    Some(Answer::Late(pause)) => (range_reply(&log, start_seq, end_seq, None).encode(), Some(pause)),
                    answer => (range_reply(&log, start_seq, end_seq, answer).encode(), None),
                }
            }
        };
        if let Some(pause) = late {
            tokio::time::sleep(pause).await;
        }
        // The asker may have given up and closed.
        let _ = socket.send(ZmqMessage::from(frame)).await;
    }
}

fn head_reply() -> ReplayReply {
    let heartbeat = Heartbeat {
        epoch: EPOCH,
        head_sequence: seq(0),
        head_digest: Digest::ZERO,
    };
    ReplayReply::Head {
        heartbeat,
        first_retained: seq(1),
    }
}

fn range_reply(log: &[Envelope], first: OutputSequence, last: OutputSequence, answer: Option<Answer>) -> ReplayReply {
    let end = (last.0 as usize).min(log.len());
    let mut entries = log[(first.0 as usize - 1).min(end)..end].to_vec();
    match answer {
        Some(Answer::Partial(count)) => entries.truncate(count),
        Some(Answer::Empty) => entries.clear(),
        Some(Answer::Refuse(reason)) => return ReplayReply::Refused { reason },
        Some(Answer::DamageFirst) => entries[0].bytes = bytes::Bytes::from_static(b"not what was signed"),
        Some(Answer::MalformFirst) => {
            let bytes = bytes::Bytes::from_static(b"\x01 signed nonsense");
            entries[0] = Envelope {
                digest: Digest::of(&bytes),
                bytes,
            };
        }
        Some(Answer::Misplaced) => {
            return ReplayReply::Events {
                start_seq: seq(1),
                entries,
                end_of_log: false,
            };
        }
        _ => {}
    }
    let end_of_log = first.0 as usize - 1 + entries.len() == log.len();
    ReplayReply::Events {
        start_seq: first,
        entries,
        end_of_log,
    }
}

/// What a feed said until `done` was content.
async fn until(feed: &mut Feed, mut done: impl FnMut(&FeedItem) -> bool) -> Vec<FeedItem> {
    let mut items = Vec::new();
    let all = async {
        loop {
            let item = feed.next().await;
            let is_done = done(&item);
            items.push(item);
            if is_done {
                return;
            }
        }
    };
    let ended = timeout(PATIENCE, all).await;
    assert!(ended.is_ok(), "still waiting after {items:?}");
    items
}

/// Polls until every one of these was delivered, and returns the order in which they were.
async fn delivered(feed: &mut Feed, values: impl IntoIterator<Item = u64>) -> (Vec<u64>, Vec<FeedItem>) {
    let mut wanted: BTreeSet<u64> = values.into_iter().collect();
    let items = until(feed, |item| {
        if let FeedItem::Event { event, .. } = item {
            wanted.remove(&event.output_sequence.0);
        }
        wanted.is_empty()
    })
    .await;
    (sequences(&items), items)
}

fn sequences(items: &[FeedItem]) -> Vec<u64> {
    let seq_of = |item: &FeedItem| match item {
        FeedItem::Event { event, .. } => Some(event.output_sequence.0),
        _ => None,
    };
    items.iter().filter_map(seq_of).collect()
}

fn gaps(items: &[FeedItem]) -> Vec<(u64, u64, RefetchReason)> {
    let gap_of = |item: &FeedItem| match item {
        FeedItem::Gap { from, to, reason } => Some((from.0, to.0, *reason)),
        _ => None,
    };
    items.iter().filter_map(gap_of).collect()
}

#[test]
fn a_feed_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Feed>();
}

#[tokio::test]
async fn live_events_come_in_order_and_duplicates_and_reordered_ones_as_they_come() {
    let mut engine = Engine::start(6).await;
    let mut feed = engine
        .subscribed_with(FeedConfig {
            reorder_patience_ms: 5_000,
            ..engine.config()
        })
        .await;
    engine.publish([1, 2, 2, 4]).await;
    let (order, _) = delivered(&mut feed, [4]).await;
    assert_eq!(order, vec![1, 2, 2, 4]);
    let items = until(&mut feed, |item| matches!(item, FeedItem::Gap { .. })).await;
    assert_eq!(gaps(&items), vec![(3, 3, RefetchReason::Hole)]);
    engine.publish([3, 1, 5]).await;
    let (order, items) = delivered(&mut feed, [5]).await;
    assert_eq!((order, gaps(&items)), (vec![3, 1, 5], vec![]));
    let counters = feed.counters();
    assert_eq!(
        (counters.live_events, counters.repeated_events, counters.replays_asked),
        (7, 2, 0)
    );
    assert_eq!(feed.progress(), (seq(6), seq(5)));
}

#[tokio::test]
async fn a_hole_is_replayed_while_later_events_go_on() {
    let mut engine = Engine::start(10).await;
    let mut feed = engine.subscribed(1).await;
    engine.publish([1, 2, 6, 7]).await;
    let (order, items) = delivered(&mut feed, 1..=7).await;
    assert_eq!(order, vec![1, 2, 6, 7, 3, 4, 5]);
    assert_eq!(gaps(&items), vec![(3, 5, RefetchReason::Hole)]);
    assert_eq!(engine.asked(), vec![(3, 5)]);
    assert!(items.iter().any(
        |item| matches!(item, FeedItem::Event { event, from: Origin::Replay, .. } if event.output_sequence == seq(4))
    ));
    assert_eq!((feed.counters().gaps, feed.counters().tail_losses), (1, 0));
}

#[tokio::test]
async fn a_lost_tail_is_noticed_by_the_heartbeat() {
    let mut engine = Engine::start(10).await;
    let mut feed = engine.subscribed(1).await;
    engine.publish([1, 2]).await;
    engine.say_head(4).await;
    let (order, items) = delivered(&mut feed, 1..=4).await;
    assert_eq!(order, vec![1, 2, 3, 4]);
    assert_eq!(gaps(&items), vec![(3, 4, RefetchReason::Tail)]);
    assert_eq!((feed.counters().gaps, feed.counters().tail_losses), (0, 1));
}

#[tokio::test]
async fn a_reader_that_is_far_behind_catches_up_in_chunks() {
    let mut engine = Engine::start(400).await;
    let config = FeedConfig {
        replay_chunk: 50,
        ahead_max: 60,
        next: seq(11),
        ..engine.config()
    };
    let mut feed = engine.subscribed_with(config).await;
    engine.publish([400]).await;
    let (order, _) = delivered(&mut feed, 11..=400).await;
    assert_eq!(
        order,
        (11..=400).collect::<Vec<u64>>(),
        "what lay too far ahead was dropped and came in its turn"
    );
    assert_eq!(feed.counters().beyond_window, 1);
    assert_eq!(engine.asked()[..2], [(11, 60), (61, 110)]);
}

#[tokio::test]
async fn what_the_reader_has_already_is_not_asked_for() {
    let mut engine = Engine::start(10).await;
    let config = FeedConfig {
        next: seq(3),
        have: vec![seq(5), seq(6)],
        ..engine.config()
    };
    let mut feed = Feed::connect(config);
    let (order, _) = delivered(&mut feed, [3, 4]).await;
    assert_eq!((order, engine.asked()), (vec![3, 4], vec![(3, 4)]));
    let saying = async {
        loop {
            engine.say_head(8).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        (order, _) = delivered(&mut feed, [7, 8]) => assert_eq!(order, vec![7, 8]),
        () = saying => {}
    }
    assert_eq!(engine.asked(), vec![(3, 4), (7, 8)]);
}

#[tokio::test]
async fn a_partial_replay_is_never_taken_for_the_whole() {
    let mut engine = Engine::start(10).await;
    engine.script([Answer::Partial(2), Answer::Partial(1)]);
    let mut feed = engine.subscribed(1).await;
    engine.say_head(9).await;
    let (order, _) = delivered(&mut feed, 1..=9).await;
    assert_eq!(order, (1..=9).collect::<Vec<u64>>());
    assert_eq!(engine.asked(), vec![(1, 9), (3, 9), (4, 9)]);
    assert_eq!(feed.counters().replays_partial, 2);
}

#[tokio::test]
async fn a_lost_reply_a_late_one_and_nonsense_are_asked_for_again() {
    let mut engine = Engine::start(10).await;
    let late = Answer::Late(Duration::from_millis(400));
    engine.script([
        Answer::Swallow,
        late,
        late,
        Answer::Garbage,
        Answer::Misplaced,
        Answer::Empty,
    ]);
    let mut feed = engine.subscribed(4).await;
    engine.say_head(9).await;
    let (order, _) = delivered(&mut feed, 4..=9).await;
    assert_eq!(order, (4..=9).collect::<Vec<u64>>());
    let counters = feed.counters();
    assert!(counters.replays_timed_out >= 2, "{counters:?}");
    assert_eq!(counters.unreadable, 2, "{counters:?}");
}

#[tokio::test]
async fn a_busy_engine_is_asked_again_with_pauses() {
    let mut engine = Engine::start(10).await;
    engine.script([Answer::Refuse(ReplayRefusal::Busy); 4]);
    let mut feed = engine.subscribed(1).await;
    let begun = tokio::time::Instant::now();
    engine.say_head(2).await;
    delivered(&mut feed, 1..=2).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(5 + 10 + 20 + 40),
        "pauses double"
    );
    assert_eq!((feed.counters().replays_busy, feed.counters().replays_refused), (4, 0));
}

#[tokio::test]
async fn a_refused_range_is_told_once_asked_for_on_and_holds_nothing_else_up() {
    let mut engine = Engine::start(20).await;
    engine.script.lock().expect("no panic").always = Some(ReplayRefusal::RetentionPassed { first_retained: seq(6) });
    engine.script([
        Answer::Refuse(ReplayRefusal::RetentionPassed { first_retained: seq(6) }),
        Answer::Partial(5),
    ]);
    let mut feed = engine.subscribed(3).await;
    engine.say_head(10).await;
    let (order, items) = delivered(&mut feed, 6..=10).await;
    assert_eq!(order, vec![6, 7, 8, 9, 10]);
    let refused = |items: &[FeedItem]| {
        items
            .iter()
            .filter(|item| matches!(item, FeedItem::ReplayRefused { .. }))
            .count()
    };
    assert!(
        items
            .iter()
            .any(|item| matches!(item, FeedItem::ReplayRefused { from, to, .. } if (from.0, to.0) == (3, 5)))
    );
    assert_eq!(refused(&items), 1);

    // It is asked for again, at the stated rate, and comes when the engine serves it.
    let more = until(&mut feed, |item| matches!(item, FeedItem::ReplayRequested { .. })).await;
    assert_eq!(refused(&more), 0, "told once");
    engine.script.lock().expect("no panic").always = None;
    let (order, _) = delivered(&mut feed, 3..=5).await;
    assert_eq!(order, vec![3, 4, 5]);
    assert!(feed.counters().replays_refused >= 1);
}

#[tokio::test]
async fn damage_is_fetched_again_live_and_replayed() {
    let mut engine = Engine::start(10).await;
    engine.script([Answer::DamageFirst]);
    let mut feed = engine.subscribed(1).await;
    engine.publish([1]).await;
    let mut damaged = engine.log[1].clone();
    damaged.bytes = bytes::Bytes::from_static(b"something else");
    engine.say(FeedMessage::Event(damaged)).await;
    engine.publish([3]).await;
    let (order, items) = delivered(&mut feed, 1..=3).await;
    assert_eq!(order, vec![1, 3, 2]);
    let damaged = items.iter().filter_map(|item| match item {
        FeedItem::Damaged { seq } => Some(*seq),
        _ => None,
    });
    assert_eq!(damaged.collect::<Vec<_>>(), vec![None, Some(seq(2))]);
    assert_eq!(engine.asked(), vec![(2, 2), (2, 2)]);
}

#[tokio::test]
async fn signed_nonsense_is_told_with_its_place_and_not_asked_for_again() {
    let mut engine = Engine::start(10).await;
    engine.script([Answer::MalformFirst]);
    let mut feed = engine.subscribed(5).await;
    engine.say_head(6).await;
    let items = until(&mut feed, |item| matches!(item, FeedItem::Event { .. })).await;
    assert_eq!(sequences(&items), vec![6]);
    assert!(items.iter().any(|item| matches!(
        item,
        FeedItem::Malformed {
            seq: OutputSequence(5),
            error: DecodeError::Malformed { .. },
            ..
        }
    )));
    assert_eq!((engine.asked(), feed.progress().0), (vec![(5, 6)], seq(7)));
}

#[tokio::test]
async fn another_epoch_is_told_and_not_delivered() {
    let mut engine = Engine::start(3).await;
    let mut feed = engine.subscribed(1).await;
    let stranger = samples::stream().pop().expect("the last one starts epoch 2");
    engine.say(FeedMessage::Event(Envelope::seal(&stranger))).await;
    engine.publish([1]).await;
    let (order, items) = delivered(&mut feed, [1]).await;
    assert_eq!(order, vec![1]);
    assert!(items.iter().any(|item| matches!(
        item,
        FeedItem::OtherEpoch {
            ours: EPOCH,
            theirs: Epoch(2),
            ..
        }
    )));
}

#[tokio::test]
async fn unreadable_messages_are_counted_and_harmless() {
    let mut engine = Engine::start(3).await;
    let mut feed = engine.subscribed(1).await;
    engine.say_frame(bytes::Bytes::from_static(b"\x07\x07")).await;
    engine.say_frame(bytes::Bytes::new()).await;
    engine.publish([1]).await;
    delivered(&mut feed, [1]).await;
    assert_eq!(feed.counters().unreadable, 2);
}

#[tokio::test]
async fn the_reader_may_ask_for_anything_again() {
    let mut engine = Engine::start(10).await;
    let mut feed = engine.subscribed(8).await;
    feed.refetch(seq(2), seq(4));
    let (order, items) = delivered(&mut feed, 2..=4).await;
    assert_eq!(order, vec![2, 3, 4]);
    assert_eq!(gaps(&items), vec![(2, 4, RefetchReason::Asked)]);
}

#[tokio::test]
async fn a_restarted_publisher_is_found_again_and_what_was_missed_is_fetched() {
    let mut engine = Engine::start(12).await;
    let mut feed = engine.subscribed(1).await;
    engine.publish([1, 2]).await;
    delivered(&mut feed, [1, 2]).await;

    let publish_addr = engine.publish_addr.clone();
    drop(std::mem::replace(&mut engine.publisher, PubSocket::new()));
    until(&mut feed, |item| matches!(item, FeedItem::Disconnected { .. })).await;
    engine
        .publisher
        .bind(&publish_addr)
        .await
        .expect("the address is free again");
    engine.publish([3, 4]).await;
    let reconnected = until(&mut feed, |item| matches!(item, FeedItem::Connected)).await;
    assert_eq!(sequences(&reconnected), Vec::<u64>::new(), "published to nobody");

    // The new publisher has to hear the subscription before it sends anything.
    let saying = async {
        loop {
            engine.say_head(5).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        (order, _) = delivered(&mut feed, 3..=5) => assert_eq!(order, vec![3, 4, 5]),
        () = saying => {}
    }
}

#[tokio::test]
async fn a_silent_publisher_is_given_up_and_the_head_asked_for() {
    let mut engine = Engine::start(3).await;
    let mut feed = engine.subscribed(1).await;
    let items = until(&mut feed, |item| {
        matches!(item, FeedItem::Disconnected { silent: true })
    })
    .await;
    assert_eq!(sequences(&items), Vec::<u64>::new());
    let heads = feed.counters().heads;
    until(&mut feed, |item| matches!(item, FeedItem::Head(_))).await;
    assert_eq!(feed.counters().heads, heads + 1);
    assert_eq!(feed.counters().silences, 1);
}

#[tokio::test]
async fn dropping_a_wait_loses_nothing() {
    let mut engine = Engine::start(60).await;
    let mut feed = engine.subscribed(1).await;
    engine.publish([1, 2, 30]).await;
    engine.say_head(60).await;
    let mut seen = Vec::new();
    let all = async {
        while seen.len() < 60 {
            // Polled once and dropped, over and over, as a biased select does.
            match futures::FutureExt::now_or_never(feed.next()) {
                Some(FeedItem::Event { event, .. }) => seen.push(event.output_sequence.0),
                Some(_) => {}
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    timeout(PATIENCE, all).await.expect("everything comes");
    seen.sort_unstable();
    assert_eq!(seen, (1..=60).collect::<Vec<u64>>());
}
