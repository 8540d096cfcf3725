//! Events that come again when the WAL has long dropped them: what there is to compare them with is their row (rule 4).

use crate::plant::{PUBLISH, Plant, simulate, trading};
use engine::LOG_FILE;
use engine::contradiction::{Contradiction, Falsehood};
use engine::log::Fact;
use settlement::Metrics;
use settlement_events::{Envelope, FEED_TOPIC, FeedMessage, OutputSequence};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

/// More than a test publishes at once.
const WAITING_MAX: usize = 64;

/// Publishes on the engine's address, in the engine's place, whatever is sent here.
fn publisher(plant: &Plant) -> mpsc::Sender<Envelope> {
    let (events, mut wanted) = mpsc::channel(WAITING_MAX);
    plant.engine.spawn(async move {
        let mut socket = PubSocket::new();
        // What the engine has left listening ends a moment after it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        socket.bind(PUBLISH).await.expect("the engine is gone");
        while let Some(envelope) = wanted.recv().await {
            let mut frames = ZmqMessage::from(FEED_TOPIC.to_vec());
            frames.push_back(FeedMessage::Event(envelope).encode());
            socket.send(frames).await.expect("published");
        }
    });
    events
}

/// The engine's log.
fn facts(plant: &Plant) -> Vec<Fact> {
    let log = plant.engine.disk().read_live(format!("/var/lib/engine/{LOG_FILE}"));
    engine::log::read_facts(&log.expect("a log")).expect("a good log")
}

#[test]
fn an_old_event_is_compared_with_its_row() {
    simulate(trading(), |plant| async move {
        let mut config = plant.config.clone();
        config.wal.segment_bytes = 70_000;
        config.wal.group_bytes_max = 70_000;
        config.limits.lookups_max = 2;
        let mut engine = plant.engine_config(1, 400);
        engine.pacing.events_per_s = 400;
        let engine = plant.start_engine(&engine);
        let serving = plant.serve(&config);
        let old = serving
            .until("everything is durable and the WAL has dropped the first events", |m| {
                m.wal_low_water > 30 && m.head == plant.logged() && m.durable == m.head
            })
            .await;
        assert_eq!((old.duplicates_looked_up, old.lookups_peak), (0, 0));

        engine.abort();
        let _ended = engine.await;
        let events = publisher(&plant);
        let facts = facts(&plant);
        let send = |index: usize| events.try_send(Envelope::seal(&facts[index].event)).expect("published");
        // The subscriber comes when it comes: until then a publisher's messages are lost.
        let again = async |index: usize| {
            for _ in 0..100 {
                send(index);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        again(0).await;
        let same = serving.until("it is looked up", |m| m.duplicates_looked_up > 0).await;
        assert_eq!((same.duplicates_settled, same.forks), (0, 0), "it is the same");

        // More at once than may be compared at once: the others are dropped, and counted.
        (0..30).for_each(send);
        let many = serving
            .until("30 of them", |m| m.duplicates >= same.duplicates + 30 && m.lookups == 0)
            .await;
        let looked_up = many.duplicates_looked_up - same.duplicates_looked_up;
        let unchecked = many.duplicates_unchecked - same.duplicates_unchecked;
        assert_eq!(looked_up + unchecked, 30);
        assert!(looked_up >= 2 && unchecked > 0, "{looked_up} and {unchecked}");
        assert_eq!(many.lookups_peak, 2);
        assert_eq!((many.duplicates_settled, many.forks), (0, 0));

        // Somebody has emptied the table: settled again.
        plant.execute("TRUNCATE trading.settled_events").await;
        send(1);
        serving.until("it is settled", |m| m.duplicates_settled == 1).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(plant.rows("settled_events").await, 1);

        // And one with another content ends it all.
        let mut forged = facts[1].event.clone();
        forged.event_time_ms.0 += 1;
        events.try_send(Envelope::seal(&forged)).expect("published");
        let told = tokio::time::timeout(Duration::from_secs(30), serving.task).await;
        let told = told.expect("it ends").expect("it does not panic");
        assert!(
            told.contains("the stream has forked: event 2 is here with digest"),
            "{told}"
        );
    });
}

/// What is refused stays refused, also for whoever has forgotten what it contradicted.
#[test]
fn an_old_event_that_was_refused_is_not_settled() {
    simulate(trading(), |plant| async move {
        let mut config = plant.config.clone();
        config.wal.segment_bytes = 70_000;
        config.wal.group_bytes_max = 70_000;
        let mut engine = plant.engine_config(1, 400);
        engine.pacing.events_per_s = 400;
        engine.contradictions = vec![Contradiction {
            before_command: 30,
            falsehood: Falsehood::Discontinuity,
        }];
        let engine = plant.start_engine(&engine);
        let serving = plant.serve(&config);
        serving.until("one is refused", |m| m.refused_pending == 1).await;
        let facts_so_far = facts(&plant);
        let refused = facts_so_far.iter().position(|fact| fact.contradictory.is_some());
        let refused = refused.expect("the engine lied");
        let sequence = OutputSequence(refused as u64 + 1);
        let skipped = settlement::skip(&config, sequence, "the engine was wrong").await;
        skipped.expect("recorded");
        let low_water = refused as u64 + 30;
        let settled = serving
            .until("everything is durable and the WAL has dropped it", |m| {
                m.head == plant.logged() && m.durable == m.head && m.wal_low_water > low_water
            })
            .await;
        // From itself on: what it contradicts is not among these.
        let again = settlement::resettle(plant.config.clone(), sequence, Arc::new(Metrics::new())).await;
        let told = again.expect("it can be").to_string();
        assert!(told.contains("1 left out because they are refused"), "{told}");
        assert_eq!(plant.rows("settled_events").await, settled.head - 1);

        engine.abort();
        let _ended = engine.await;
        let events = publisher(&plant);
        for _ in 0..100 {
            let again = Envelope::seal(&facts_so_far[refused].event);
            events.try_send(again).expect("published");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let again = serving
            .until("it is looked up", |m| m.duplicates_looked_up > 0 && m.lookups == 0)
            .await;
        assert_eq!((again.duplicates_settled, again.forks), (0, 0));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(plant.rows("settled_events").await, settled.head - 1);
    });
}
