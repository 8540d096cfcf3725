//! Settlement and the engine in trouble that a person has to hear of: no database, the wrong keyspace, another stream's
//! WAL, a full disk, no engine. Each must say what happened, to what and what to do, and lose nothing. Everything here
//! is simulated; what needs no database is tested where it stands.
#![cfg(madsim)]

mod old_events;
mod plant;

use plant::{PATIENCE, PUBLISH, Plant, REPLAY, Serving, WAL, ddl, says, simulate, simulate_on, trading};
use schema::DesignName;
use settlement::Metrics;
use settlement_events::{Epoch, OutputSequence};
use sim_cluster::core::Flavor;
use sim_world::disk::DiskFault;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_database_that_cannot_be_reached() {
    simulate(trading(), |plant| async move {
        let mut config = plant.config.clone();
        config.contact_points = vec!["10.0.9.9:9042".into()];
        let began = tokio::time::Instant::now();
        let told = plant.refusal(&config).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(40), "{took:?}");
        says(
            &told,
            &[
                "10.0.9.9:9042",
                "attempts in",
                "contact_points",
                "start_patience_ms",
                "Nothing was lost",
            ],
        );
        assert_eq!(plant.files(), [], "nothing was touched");
        let status = settlement::status(&config).await.expect_err("no database").to_string();
        assert!(status.contains("no node of the database can be reached"), "{status}");
    });
}

#[test]
fn a_keyspace_that_is_not_the_one() {
    let with = |statements: Vec<String>, keyspace: &'static str, parts: &'static [&'static str]| {
        simulate(statements, move |plant| async move {
            let mut config = plant.config.clone();
            config.keyspace = Some(keyspace.into());
            let told = plant.refusal(&config).await;
            says(&told, parts);
            assert_eq!(plant.files(), [], "nothing was touched");
            let status = settlement::status(&config)
                .await
                .expect_err("refused as well")
                .to_string();
            assert_eq!(status, told);
            let skip = settlement::skip(&config, OutputSequence(1), "no").await;
            assert_eq!(skip.expect_err("refused as well").to_string(), told);
        });
    };
    with(
        trading(),
        "tradnig",
        &["keyspace tradnig does not exist", "settlement migrate"],
    );
    with(
        ddl(DesignName::LoggedRmw, "trading_logged_rmw"),
        "trading_logged_rmw",
        &["design ledger needs", "trading_logged_rmw", "its default is trading"],
    );
    let without_orders = trading()
        .into_iter()
        .filter(|statement| !statement.contains(".orders "));
    with(
        without_orders.collect(),
        "trading",
        &["has no table orders", "settlement migrate"],
    );
    let other_column = |from: &str, to: &str| trading().iter().map(|s| s.replace(from, to)).collect::<Vec<_>>();
    with(
        other_column("frozen bigint", "locked bigint"),
        "trading",
        &["column delta_frozen is missing", "nothing was changed"],
    );
    with(
        other_column("avail bigint", "avail int"),
        "trading",
        &["column delta_avail is int, not bigint", "nothing was changed"],
    );
}

#[test]
fn the_books_of_another_stream_and_rows_by_another_hand() {
    let with = |statement: &'static str, parts: &'static [&'static str]| {
        simulate(trading(), move |plant| async move {
            plant.execute(statement).await;
            let told = plant.refusal(&plant.config).await;
            says(&told, parts);
            assert_eq!(plant.files(), [], "nothing was touched");
            let resettle =
                settlement::resettle(plant.config.clone(), OutputSequence(1), Arc::new(Metrics::new())).await;
            let resettle = resettle.expect_err("refused as well").to_string();
            // Of the checkpoint row each speaks in its own words.
            assert!(
                resettle == told || resettle.contains("settlement_checkpoint was not written"),
                "{resettle}"
            );
        });
    };
    with(
        "INSERT INTO trading.settlement_checkpoint (stream, epoch, durable, digest) VALUES ('me-2', 1, 9, 0x00) USING \
         TIMESTAMP 36864",
        &[
            "holds the books of stream \"me-2\", not of stream \"me\"",
            "nothing was changed",
        ],
    );
    with(
        "INSERT INTO trading.user_balances (user_id, asset_id, version, avail) VALUES (1, 1, 5, 100)",
        &[
            "a row of table trading.user_balances was not written by settlement",
            "where version is 5",
        ],
    );
    with(
        "INSERT INTO trading.settlement_checkpoint (stream, epoch, durable, digest) VALUES ('me', 1, 9, 0x00)",
        &["checkpoint row of stream me was not written by settlement"],
    );
}

/// The first event of another stream is settled here, and no checkpoint says whose it is.
#[test]
fn an_event_that_is_settled_with_another_content_stops_everything() {
    simulate(trading(), |plant| async move {
        let digest = "ab".repeat(32);
        plant
            .execute(&format!(
                "INSERT INTO trading.settled_events (bucket, output_sequence, epoch, kind, digest, prev_digest) VALUES \
                 (0, 3, 1, 'deposit', 0x{digest}, 0x{digest}) USING TIMESTAMP 12288"
            ))
            .await;
        let _engine = plant.start_engine(&plant.engine_config(1, 20));
        let told = plant.refusal(&plant.config).await;
        assert!(
            told.contains("the stream has forked: event 3 is here with digest abababababababab"),
            "{told}"
        );
        // Its WAL holds the first two events, the next start says the same, and so does settling again.
        let again = plant.refusal(&plant.config).await;
        assert!(again.contains("event 3"), "{again}");
        let resettle = settlement::resettle(plant.config.clone(), OutputSequence(1), Arc::new(Metrics::new())).await;
        let resettle = resettle.expect_err("refused as well").to_string();
        assert!(
            resettle.contains("event 3 is here with digest abababababababab"),
            "{resettle}"
        );
    });
}

#[test]
fn the_wal_of_another_stream_is_refused_and_not_touched() {
    let both = [trading(), ddl(DesignName::Ledger, "trading_2")].concat();
    simulate(both, |plant| async move {
        let _engine = plant.start_engine(&plant.engine_config(1, 40));
        let serving = plant.serve(&plant.config);
        serving.until("some events", |m| m.received > 20).await;
        serving.task.abort();
        // A file that was never finished is the other stream's too.
        let unfinished = format!("{WAL}/HEADER.tmp");
        plant
            .settlement
            .spawn(async move { tokio::fs::write(unfinished, b"half a header").await.expect("written") })
            .await
            .expect("done");
        let before = plant.files();
        assert!(before.len() > 2, "{before:?}");
        let mut other = plant.config.clone();
        other.keyspace = Some("trading_2".into());
        let told = plant.refusal(&other).await;
        says(
            &told,
            &[
                "/var/lib/settlement/HEADER is the WAL of stream \"me\"",
                "/trading\"",
                "trading_2",
                "data_dir",
            ],
        );
        assert!(plant.files() == before, "nothing was touched");
        // Its owner goes on.
        let serving = plant.serve(&plant.config);
        serving
            .until("everything", |m| m.head > 0 && m.acknowledged == m.head)
            .await;
    });
}

/// Events share batches. When somebody has dropped the table of one symbol, only what belongs into that table waits for it:
/// fewer events here than places in flight, which is where they wait.
#[test]
fn a_table_that_is_gone_keeps_only_its_own_events_back() {
    simulate(trading(), |plant| async move {
        let create = trading().into_iter().find(|ddl| ddl.contains("settled_trades_btc"));
        let create = create.expect("a table of trades");
        let name = create
            .split_whitespace()
            .find(|word| word.contains("settled_trades_btc"));
        let drop = format!("DROP TABLE {}", name.expect("its name"));
        let mut engine = plant.engine_config(1, 30);
        engine.pacing.events_per_s = 2_000;
        let serving = plant.serve(&plant.config);
        serving.until("it runs", |m| m.in_flight_limit > 0).await;
        plant.execute(&drop).await;
        let _engine = plant.start_engine(&engine);
        let stalled = serving.until("the rest is settled", |m| {
            m.stalled > 0 && m.events_acknowledged + m.stalled == m.received
        });
        let stalled = stalled.await;
        assert!(stalled.groups_taken_apart > 0, "{stalled:?}");
        assert!(stalled.events_acknowledged > 3 * stalled.stalled, "{stalled:?}");
        let head = plant.logged();
        assert!(stalled.acknowledged < head && stalled.received == head, "{stalled:?}");
        plant.execute(&create).await;
        let settled = serving.until("everything is settled", |m| m.acknowledged == head).await;
        assert_eq!(
            (settled.stalled, settled.dead_letters, settled.events_acknowledged),
            (0, 0, head)
        );
    });
}

#[test]
fn a_wal_directory_that_cannot_be_one() {
    simulate(trading(), |plant| async move {
        let file = "/var/lib/file";
        plant
            .settlement
            .spawn(async move {
                tokio::fs::create_dir_all("/var/lib").await.expect("made");
                tokio::fs::write(file, b"x").await.expect("written");
            })
            .await
            .expect("done");
        let mut config = plant.config.clone();
        config.data_dir = file.into();
        let told = plant.refusal(&config).await;
        assert!(
            told.contains("/var/lib/file failed") && told.contains("data_dir must be a directory"),
            "{told}"
        );
    });
}

#[test]
fn a_full_disk_stops_the_intake_and_loses_nothing() {
    simulate(trading(), |plant| async move {
        let _engine = plant.start_engine(&plant.engine_config(1, 200));
        let serving = plant.serve(&plant.config);
        serving.until("some events", |m| m.acknowledged > 50).await;
        Plant::fill(&plant.settlement);
        let full = serving.until("the disk is full", |m| m.wal_blocked == 1).await;
        assert!(full.wal_sync_failures > 0);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let later = serving.until("it is said still", |m| m.wal_blocked == 1).await;
        assert_eq!(later.received, full.received, "nothing was taken");
        assert!(
            later.acknowledged <= later.received,
            "what is not on disk was not settled"
        );

        // A start on a full disk ends and says so, and the one after it goes on.
        serving.task.abort();
        let _ended = serving.task.await;
        let mut elsewhere = plant.config.clone();
        elsewhere.data_dir = "/var/lib/settlement-2".into();
        let told = plant.refusal(&elsewhere).await;
        assert!(
            told.contains("no space for the WAL") && told.contains("free some"),
            "{told}"
        );
        let told = plant.refusal(&plant.config).await;
        assert!(told.contains("no space for the WAL"), "{told}");
        plant.settlement.disk().set_fault(DiskFault::default());
        let serving = plant.serve(&plant.config);
        let healed = serving
            .until("everything", |m| m.head == plant.logged() && m.durable == m.head)
            .await;
        assert_eq!((healed.wal_blocked, healed.missing, healed.stalled), (0, 0, 0));
        assert_eq!(healed.received, plant.logged());
    });
}

#[test]
fn an_engine_on_a_full_disk_ends_and_has_published_nothing_that_it_does_not_have() {
    simulate(trading(), |plant| async move {
        let mut engine_config = plant.engine_config(1, 200);
        engine_config.exit_when_done = true;
        let engine = plant.start_engine(&engine_config);
        let serving = plant.serve(&plant.config);
        serving.until("some events", |m| m.acknowledged > 50).await;
        Plant::fill(&plant.engine);
        let ended = tokio::time::timeout(PATIENCE, engine).await.expect("it ends");
        let told = ended.expect("it does not panic").expect_err("the disk is full");
        says(
            &told,
            &[
                "writing /var/lib/engine/engine.log failed",
                "has room",
                "goes on where its log ends",
            ],
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
        let cut = serving.metrics.snapshot();
        assert!(cut.received <= plant.logged(), "{} of {}", cut.received, plant.logged());
        assert_eq!(cut.feed_connected, 0, "and settlement says that its feed is gone");

        plant.engine.disk().set_fault(DiskFault::default());
        engine_config.exit_when_done = false;
        let _engine = plant.start_engine(&engine_config);
        let done = serving.until("the rest", |m| m.received > cut.received && m.acknowledged == m.head);
        assert_eq!(done.await.forks, 0);
    });
}

/// Settling again from somewhere in the middle sends what lies behind that, and ends.
#[test]
fn a_part_of_the_stream_is_settled_again() {
    simulate(trading(), |plant| async move {
        let _engine = plant.start_engine(&plant.engine_config(1, 20));
        let serving = plant.serve(&plant.config);
        let done = serving.until("everything", |m| m.head > 0 && m.durable == m.head);
        let head = done.await.head;
        plant.execute("TRUNCATE trading.settled_events").await;
        let config = plant.config.clone();
        let again = plant.settlement.spawn(async move {
            settlement::resettle(config, OutputSequence(head - 4), Arc::new(Metrics::new())).await
        });
        let again = again.await.expect("it ends").expect("settled again");
        assert_eq!((again.from.0, again.upto.0, again.events), (head - 4, head, 5));
        assert_eq!(plant.rows("settled_events").await, 5);
    });
}

#[test]
fn a_keyspace_with_fewer_copies_than_meant() {
    simulate(trading(), |plant| async move {
        let mut config = plant.config.clone();
        config.replication_factor = 5;
        let told = plant.refusal(&config).await;
        says(
            &told,
            &[
                "replication factor of keyspace trading",
                "is 3",
                "= 5",
                "ALTER KEYSPACE",
            ],
        );
        assert_eq!(plant.files(), [], "nothing was touched");
        let migrated = schema::migrate(&plant.session().await, &config.target()).await;
        assert_eq!(migrated.expect_err("refused as well").to_string(), told);
        let resettle = settlement::resettle(config, OutputSequence(1), Arc::new(Metrics::new())).await;
        assert_eq!(resettle.expect_err("refused as well").to_string(), told);
    });
}

#[test]
fn an_engine_that_cannot_be_reached() {
    simulate(trading(), |plant| async move {
        // Settling again is a command that somebody waits for: it ends and says why.
        let config = plant.config.clone();
        let resettling = plant.settlement.spawn(async move {
            let began = tokio::time::Instant::now();
            let error = settlement::resettle(config, OutputSequence(1), Arc::new(Metrics::new())).await;
            (error.expect_err("no engine").to_string(), began.elapsed())
        });
        let (told, took) = resettling.await.expect("it ends");
        says(
            &told,
            &["has not answered for 30 s", REPLAY, PUBLISH, "0 events were settled"],
        );
        assert!(took < Duration::from_secs(60), "{took:?}");
        // The service waits, and says that it does.
        let serving = plant.serve(&plant.config);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(serving.metrics.snapshot().feed_connected, 0);
        let _engine = plant.start_engine(&plant.engine_config(1, 20));
        let done = serving.until("everything", |m| m.head > 0 && m.durable == m.head).await;
        assert_eq!(done.feed_connected, 1);
        drop(plant.world);
    });
}

/// One of three nodes is frozen, and the others will not notice for nearly twenty seconds: a start must not wait for that.
#[test]
fn a_frozen_node_does_not_hold_up_a_start() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        simulate_on(flavor, trading(), move |plant| async move {
            let _engine = plant.start_engine(&plant.engine_config(1, 400));
            let serving = plant.serve(&plant.config);
            serving.until("some events", |m| m.acknowledged > 20).await;
            serving.task.abort();
            plant.cluster.pause(sim_cluster::model::NodeIdx(1));
            let began = tokio::time::Instant::now();
            let serving = plant.serve(&plant.config);
            serving.until("started", |m| m.received > 0).await;
            let took = began.elapsed();
            // Twice `keepalive_ms` for the pool's connection to it; as long again if the driver asked it for the topology.
            // And a Cassandra asks it now and then for a read and no third node: then that read takes its timeout, once.
            let read_timeout_s = if flavor == Flavor::Cassandra { 5 } else { 0 };
            assert!(took < Duration::from_secs(9 + read_timeout_s), "{flavor:?}: {took:?}");
        });
    }
}

#[test]
fn another_epoch_of_the_stream_is_refused_and_nothing_of_it_is_settled() {
    simulate(trading(), |plant| async move {
        let _engine = plant.start_engine(&plant.engine_config(1, 20));
        let mut config = plant.config.clone();
        config.epoch = Epoch(config.epoch.0 + 1);
        let told = plant.refusal(&config).await;
        assert!(told.contains("epoch"), "{told}");
        let session = plant.session().await;
        let rows = session
            .query_unpaged("SELECT output_sequence FROM trading.settled_events", ())
            .await;
        let rows = rows.expect("a scan").into_rows_result().expect("rows");
        assert_eq!(rows.rows_num(), 0);
    });
}

#[test]
fn a_migration_makes_what_is_missing_once_and_two_at_once_do_no_harm() {
    simulate(Vec::new(), |plant| async move {
        let session = plant.session().await;
        let target = plant.config.target();
        assert!(schema::check(&session, &target).await.is_err(), "nothing is there");
        let first = schema::migrate(&session, &target).await.expect("migrated");
        assert!(first.tables > 5 && first.created.len() == first.tables, "{first}");
        let again = schema::migrate(&session, &target).await.expect("again");
        assert!(again.created.is_empty() && again.tables == first.tables, "{again}");
        schema::check(&session, &target).await.expect("what was meant");
        plant.execute("DROP TABLE trading.orders").await;
        let mended = schema::migrate(&session, &target).await.expect("mended");
        assert_eq!(mended.created, ["orders"]);
        plant.execute("DROP KEYSPACE trading").await;
        let other = plant.session().await;
        let (one, two) = tokio::join!(schema::migrate(&session, &target), schema::migrate(&other, &target));
        assert!(one.is_ok() || two.is_ok(), "{one:?}, {two:?}");
        schema::check(&session, &target).await.expect("what was meant");
    });
}

/// Rule 10: whoever loses the WAL fetches what is behind the durable watermark again.
#[test]
fn a_lost_wal_is_fetched_again_from_the_durable_watermark() {
    simulate(trading(), |plant| async move {
        let _engine = plant.start_engine(&plant.engine_config(1, 200));
        let serving = plant.serve(&plant.config);
        let before = serving
            .until("something is durable and more is not", |m| {
                m.durable > 40 && m.checkpoints > 0 && m.received > m.durable + 40
            })
            .await;
        serving.task.abort();
        let _ended = serving.task.await;
        plant.settlement.disk().replace();
        let serving = plant.serve(&plant.config);
        let after = serving
            .until("everything", |m| m.head == plant.logged() && m.durable == m.head)
            .await;
        let fetched = after.events_received;
        assert!(
            fetched + before.durable >= after.head && fetched < after.head,
            "{fetched} fetched of {}, of which {} were durable",
            after.head,
            before.durable
        );
        assert_eq!((after.missing, after.forks, after.refused), (0, 0, 0));
        assert_eq!(plant.rows("settled_events").await, after.head);
    });
}

/// And if the matching engine has forgotten some of it, which those are is listed, and nothing is called durable that
/// stands behind them.
#[test]
fn a_lost_wal_that_nobody_has_is_told_event_by_event() {
    simulate(trading(), |plant| async move {
        let mut engine = plant.engine_config(1, 200);
        engine.retention_events = 20;
        let _engine = plant.start_engine(&engine);
        // Long enough for nothing to be durable.
        let mut config = plant.config.clone();
        config.durable.sync_period_ms = 60_000;
        let serving = plant.serve(&config);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = serving
            .until("everything", |m| m.head == plant.logged() && m.received == m.head)
            .await;
        assert!(before.durable == 0 && before.head > 100, "{before:?}");
        serving.task.abort();
        let _ended = serving.task.await;
        plant.settlement.disk().replace();
        let serving = plant.serve(&config);
        let after = serving
            .until("some are missing", |m| m.missing > 0 && m.events_received == 20)
            .await;
        let last = OutputSequence(before.head - 20);
        assert_eq!(serving.metrics.missing_events.list(), [(OutputSequence(1), last)]);
        assert_eq!((after.missing, after.received), (last.0, 0));
        tokio::time::sleep(Duration::from_secs(120)).await;
        let later = serving.until("still", |m| m.missing > 0).await;
        assert_eq!(
            (later.received, later.durable),
            (0, 0),
            "the watermarks stay before them"
        );
    });
}

/// What an operator does about a refused event, and what he is told.
#[test]
fn a_refused_event_is_listed_and_skipped_by_an_operator() {
    let both = [trading(), ddl(DesignName::LoggedRmw, "trading_logged_rmw")].concat();
    simulate(both, |plant| async move {
        let mut engine = plant.engine_config(1, 60);
        let falsehood = engine::contradiction::Falsehood::Arithmetic;
        engine.contradictions = vec![engine::contradiction::Contradiction {
            before_command: 30,
            falsehood,
        }];
        let _engine = plant.start_engine(&engine);
        let serving = plant.serve(&plant.config);
        let held = serving
            .until("it is refused", |m| m.dead_letters > 0 && m.refused_pending == 1)
            .await;
        let status = settlement::status(&plant.config).await.expect("a database");
        let refused = &status.refused[..];
        assert_eq!(refused.len(), 1, "{status}");
        let sequence = refused[0].sequence;
        assert!(held.acknowledged < sequence.0, "the watermark stays before it");
        let text = status.to_string();
        for part in [
            "stream      me -> keyspace trading (design ledger)",
            "3 of 3 answer",
            "refused     1",
            &format!("waits: settlement skip {sequence} --reason"),
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }

        let skip = async |sequence: OutputSequence, reason: &str| {
            let done = settlement::skip(&plant.config, sequence, reason).await;
            done.map(|done| done.to_string()).map_err(|error| error.to_string())
        };
        let other = skip(OutputSequence(sequence.0 - 1), "why not")
            .await
            .expect_err("it is not refused");
        assert!(
            other.contains("is not refused: only an event in dead_letters can be skipped"),
            "{other}"
        );
        let recorded = skip(sequence, "the engine was wrong").await.expect("recorded");
        assert!(recorded.contains("is recorded"), "{recorded}");
        let again = skip(sequence, " the engine was wrong ").await.expect("the same");
        assert!(again.contains("stood already"), "{again}");
        let otherwise = skip(sequence, "no").await.expect_err("decided");
        assert!(
            otherwise.contains("for another reason: \"the engine was wrong\""),
            "{otherwise}"
        );

        let done = serving
            .until("everything", |m| m.head == plant.logged() && m.durable == m.head)
            .await;
        assert_eq!((done.refused_pending, done.skipped), (0, 1));
        let text = settlement::status(&plant.config).await.expect("a database").to_string();
        assert!(text.contains("durable     event"), "{text}");

        let again = settlement::resettle(plant.config.clone(), OutputSequence(1), Arc::new(Metrics::new())).await;
        let again = again.expect("it can be").to_string();
        let told = format!("{} settled again, 1 left out because they are refused", done.head - 1);
        assert!(again.contains(&told), "{again}");
        let mut unsafe_design = plant.config.clone();
        unsafe_design.design = DesignName::LoggedRmw;
        let refused = settlement::resettle(unsafe_design, OutputSequence(1), Arc::new(Metrics::new())).await;
        let refused = refused.expect_err("it adds").to_string();
        assert!(refused.contains("cannot settle an event twice"), "{refused}");
    });
}

/// A stream whose 30th command is refused, held there.
async fn held_at_a_refusal(plant: &Plant) -> (Serving, OutputSequence) {
    let mut engine = plant.engine_config(1, 60);
    engine.contradictions = vec![engine::contradiction::Contradiction {
        before_command: 30,
        falsehood: engine::contradiction::Falsehood::Arithmetic,
    }];
    let _engine = plant.start_engine(&engine);
    let serving = plant.serve(&plant.config);
    serving
        .until("it is refused", |m| m.dead_letters > 0 && m.refused_pending == 1)
        .await;
    let status = settlement::status(&plant.config).await.expect("a database");
    (serving, status.refused[0].sequence)
}

/// Somebody's decision about an event with digest ab…ab.
async fn decide_otherwise(plant: &Plant, sequence: OutputSequence, timestamp: u64) {
    let digest = "ab".repeat(32);
    plant
        .execute(&format!(
            "INSERT INTO trading.skips (bucket, output_sequence, reason, digest) VALUES (0, {sequence}, 'by hand', \
             0x{digest}) USING TIMESTAMP {timestamp}"
        ))
        .await;
}

/// A decision names the content that it is about: one about another content, however it came there, passes nothing over.
#[test]
fn a_skip_of_another_content_is_not_followed() {
    simulate(trading(), |plant| async move {
        let (serving, sequence) = held_at_a_refusal(&plant).await;
        // A little older than settlement's own row of that event would be.
        let timestamp = (sequence.0 << 12) - 1;
        decide_otherwise(&plant, sequence, timestamp).await;
        tokio::time::sleep(Duration::from_millis(3 * plant.config.retry.skip_poll_ms)).await;
        let held = serving.metrics.snapshot();
        assert_eq!((held.refused_pending, held.skipped), (1, 0), "{held:?}");
        assert_eq!(held.acknowledged + 1, sequence.0, "the watermark stays before it");
        assert_eq!(
            held.events_acknowledged + 1,
            plant.logged(),
            "everything else is settled"
        );

        let reason = "the engine was wrong";
        let refused = settlement::skip(&plant.config, sequence, reason).await;
        let refused = refused.expect_err("another decision is there").to_string();
        assert!(
            refused.contains("a row of table trading.skips was not written by settlement"),
            "{refused}"
        );
        plant
            .execute(&format!(
                "DELETE FROM trading.skips USING TIMESTAMP {timestamp} WHERE bucket = 0 AND output_sequence = {sequence}"
            ))
            .await;
        settlement::skip(&plant.config, sequence, reason)
            .await
            .expect("recorded");
        let done = serving
            .until("everything", |m| m.head == plant.logged() && m.durable == m.head)
            .await;
        assert_eq!((done.refused_pending, done.skipped), (0, 1));
    });
}

/// What looks like settlement's own decision stands, and is told when it is about something else.
#[test]
fn a_decision_about_another_content_stands_and_is_told() {
    simulate(trading(), |plant| async move {
        let (serving, sequence) = held_at_a_refusal(&plant).await;
        decide_otherwise(&plant, sequence, sequence.0 << 12).await;
        let refused = settlement::skip(&plant.config, sequence, "by hand").await;
        let refused = refused.expect_err("another decision stands").to_string();
        assert!(
            refused.contains("about another content (digest abababababababab…"),
            "{refused}"
        );
        tokio::time::sleep(Duration::from_millis(3 * plant.config.retry.skip_poll_ms)).await;
        let held = serving.metrics.snapshot();
        assert_eq!((held.refused_pending, held.skipped), (1, 0), "{held:?}");
    });
}
