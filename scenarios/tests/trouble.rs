//! Settlement and the engine in trouble that a person has to hear of: no database, the wrong keyspace, another stream's
//! WAL, a full disk, no engine. Each must say what happened, to what and what to do, and lose nothing. Everything here
//! is simulated; what needs no database is tested where it stands.
#![cfg(madsim)]

use engine::source::Source;
use engine::workload::WorkloadSpec;
use engine::{EngineConfig, LOG_FILE};
use schema::DesignName;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use settlement::{Config, Metrics, MetricsSnapshot};
use settlement_events::{Epoch, OutputSequence, Registry};
use sim_cluster::core::{ClusterConfig, Flavor};
use sim_cluster::host::sim::SimCluster;
use sim_world::disk::DiskFault;
use sim_world::task::JoinHandle;
use sim_world::{Host, Seed, World, WorldConfig};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const PUBLISH: &str = "tcp://10.0.2.1:5555";
const REPLAY: &str = "tcp://10.0.2.1:5556";
const WAL: &str = "/var/lib/settlement";
/// Longer than anything here takes; simulated time costs nothing.
const PATIENCE: Duration = Duration::from_secs(300);

/// The machines of a test.
struct Plant {
    world: World,
    cluster: SimCluster,
    engine: Host,
    settlement: Host,
    config: Config,
}

/// Runs a test in a new world whose database has this schema.
fn simulate<F, Fut>(ddl: Vec<String>, test: F)
where
    F: FnOnce(Plant) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    simulate_on(Flavor::Scylla, ddl, test);
}

/// The same, on a database of this flavour.
fn simulate_on<F, Fut>(flavor: Flavor, ddl: Vec<String>, test: F)
where
    F: FnOnce(Plant) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let limits = WorldConfig {
        time_limit_ns: Some(3_600_000_000_000),
        ..WorldConfig::default()
    };
    let outcome = World::run(Seed(8), limits, |world| async move {
        let cluster = SimCluster::start_with(&world, ClusterConfig::new(3, flavor), &ddl).expect("a schema");
        cluster.ready().await;
        let host = |name: &str, ip: &str| world.host(name, ip.parse().expect("an address"));
        let contact_points = cluster.contact_points().iter().map(ToString::to_string).collect();
        let mut config = Config::new(contact_points, PUBLISH, REPLAY, WAL, Registry::example());
        // So that a durable checkpoint is there soon.
        config.durable.sync_period_ms = 1_000;
        config.durable.slack_ms = 500;
        let plant = Plant {
            engine: host("engine", "10.0.2.1"),
            settlement: host("settlement", "10.0.3.1"),
            world: world.clone(),
            cluster,
            config,
        };
        let judge = host("judge", "10.0.4.1");
        judge.spawn(test(plant)).await.expect("the test ends");
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

fn ddl(design: DesignName, keyspace: &str) -> Vec<String> {
    schema::ddl(design, keyspace, 3, &Registry::example()).expect("is in shape")
}

fn trading() -> Vec<String> {
    ddl(DesignName::Ledger, "trading")
}

impl Plant {
    fn engine_config(&self, seed: u64, trades: u64) -> EngineConfig {
        let source = Source::Workload(WorkloadSpec {
            seed,
            trades,
            ..WorkloadSpec::default()
        });
        let mut config = EngineConfig::new(Registry::example(), source, "/var/lib/engine".into(), PUBLISH, REPLAY);
        config.pacing.events_per_s = 200;
        config
    }

    fn start_engine(&self, config: &EngineConfig) -> JoinHandle<Result<engine::serve::EngineExit, String>> {
        let config = config.clone();
        self.engine
            .spawn(async move { engine::serve(config).await.map_err(|error| error.to_string()) })
    }

    fn serve(&self, config: &Config) -> Serving {
        let metrics = Arc::new(Metrics::new());
        let (config, counted) = (config.clone(), metrics.clone());
        let task = self.settlement.spawn(async move {
            match settlement::serve(config, counted, std::future::pending()).await {
                Ok(exit) => panic!("nobody asked it to end: {exit:?}"),
                Err(error) => error.to_string(),
            }
        });
        Serving { metrics, task }
    }

    /// What serving ends with, which it must.
    async fn refusal(&self, config: &Config) -> String {
        let ended = tokio::time::timeout(PATIENCE, self.serve(config).task).await;
        ended.expect("it ends by itself").expect("it does not panic")
    }

    async fn session(&self) -> Session {
        let nodes = self.cluster.contact_points();
        let builder = SessionBuilder::new().known_nodes_addr(nodes);
        builder.build().await.expect("connected")
    }

    async fn execute(&self, statement: &str) {
        let session = self.session().await;
        session.query_unpaged(statement, ()).await.expect(statement);
    }

    /// The names and the content of everything on settlement's disk.
    fn files(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let disk = self.settlement.disk();
        let names = disk.files().into_iter().map(|(name, _)| name);
        names.map(|name| (name.clone(), disk.read_live(&name))).collect()
    }

    fn fill(host: &Host) {
        let full = DiskFault {
            capacity_bytes: Some(host.disk().used_bytes()),
            ..DiskFault::default()
        };
        host.disk().set_fault(full);
    }

    /// Every event of the engine's log, as it lies on its disk.
    fn logged(&self) -> u64 {
        let log = self.engine.disk().read_live(format!("/var/lib/engine/{LOG_FILE}"));
        engine::log::read_facts(&log.expect("a log")).expect("a good log").len() as u64
    }
}

/// Settlement as it runs.
struct Serving {
    metrics: Arc<Metrics>,
    task: JoinHandle<String>,
}

impl Serving {
    async fn until(&self, what: &str, holds: impl Fn(&MetricsSnapshot) -> bool) -> MetricsSnapshot {
        for _ in 0..PATIENCE.as_millis() / 50 {
            let snapshot = self.metrics.snapshot();
            if holds(&snapshot) {
                return snapshot;
            }
            assert!(!self.task.is_finished(), "{what}: it ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {:?}", self.metrics.snapshot());
    }
}

#[test]
fn a_database_that_cannot_be_reached() {
    simulate(trading(), |plant| async move {
        let mut config = plant.config.clone();
        config.contact_points = vec!["10.0.9.9:9042".into()];
        let began = tokio::time::Instant::now();
        let told = plant.refusal(&config).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(40), "{took:?}");
        for part in [
            "10.0.9.9:9042",
            "attempts in",
            "contact_points",
            "start_patience_ms",
            "Nothing was lost",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
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
            for part in parts {
                assert!(told.contains(part), "{part}: {told}");
            }
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
            for part in parts {
                assert!(told.contains(part), "{part}: {told}");
            }
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
        for part in [
            "/var/lib/settlement/HEADER is the WAL of stream \"me\"",
            "/trading\"",
            "trading_2",
            "data_dir",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
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
        for part in [
            "writing /var/lib/engine/engine.log failed",
            "has room",
            "goes on where its log ends",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
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
        for part in ["has not answered for 30 s", REPLAY, PUBLISH, "0 events were settled"] {
            assert!(told.contains(part), "{part}: {told}");
        }
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
