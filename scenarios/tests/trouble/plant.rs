//! The machines of a test: a database, the engine, settlement, and what a test asks of them.

use engine::source::Source;
use engine::workload::WorkloadSpec;
use engine::{EngineConfig, LOG_FILE};
use schema::DesignName;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use settlement::{Config, Metrics, MetricsSnapshot};
use settlement_events::Registry;
use sim_cluster::core::{ClusterConfig, Flavor};
use sim_cluster::host::sim::SimCluster;
use sim_world::disk::DiskFault;
use sim_world::task::JoinHandle;
use sim_world::{Host, Seed, World, WorldConfig};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub const PUBLISH: &str = "tcp://10.0.2.1:5555";
pub const REPLAY: &str = "tcp://10.0.2.1:5556";
pub const WAL: &str = "/var/lib/settlement";
/// Longer than anything here takes; simulated time costs nothing.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The machines of a test.
pub struct Plant {
    pub world: World,
    pub cluster: SimCluster,
    pub engine: Host,
    pub settlement: Host,
    pub config: Config,
}

/// Runs a test in a new world whose database has this schema.
pub fn simulate<F, Fut>(ddl: Vec<String>, test: F)
where
    F: FnOnce(Plant) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    simulate_on(Flavor::Scylla, ddl, test);
}

/// The same, on a database of this flavour.
pub fn simulate_on<F, Fut>(flavor: Flavor, ddl: Vec<String>, test: F)
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

/// The tables of a design.
pub fn ddl(design: DesignName, keyspace: &str) -> Vec<String> {
    schema::ddl(design, keyspace, 3, &Registry::example()).expect("is in shape")
}

/// Those of the ledger, in the keyspace that settlement writes to unless told otherwise.
pub fn trading() -> Vec<String> {
    ddl(DesignName::Ledger, "trading")
}

impl Plant {
    pub fn engine_config(&self, seed: u64, trades: u64) -> EngineConfig {
        let source = Source::Workload(WorkloadSpec {
            seed,
            trades,
            ..WorkloadSpec::default()
        });
        let mut config = EngineConfig::new(Registry::example(), source, "/var/lib/engine".into(), PUBLISH, REPLAY);
        config.pacing.events_per_s = 200;
        config
    }

    pub fn start_engine(&self, config: &EngineConfig) -> JoinHandle<Result<engine::serve::EngineExit, String>> {
        let config = config.clone();
        self.engine
            .spawn(async move { engine::serve(config).await.map_err(|error| error.to_string()) })
    }

    pub fn serve(&self, config: &Config) -> Serving {
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
    pub async fn refusal(&self, config: &Config) -> String {
        let ended = tokio::time::timeout(PATIENCE, self.serve(config).task).await;
        ended.expect("it ends by itself").expect("it does not panic")
    }

    pub async fn session(&self) -> Session {
        let nodes = self.cluster.contact_points();
        let builder = SessionBuilder::new().known_nodes_addr(nodes);
        builder.build().await.expect("connected")
    }

    /// How many rows a table has.
    pub async fn rows(&self, table: &str) -> u64 {
        let text = format!("SELECT COUNT(*) FROM trading.{table}");
        let result = self.session().await.query_unpaged(text, ()).await.expect("counted");
        let rows = result.into_rows_result().expect("rows");
        rows.single_row::<(i64,)>().expect("one").0 as u64
    }

    pub async fn execute(&self, statement: &str) {
        let session = self.session().await;
        session.query_unpaged(statement, ()).await.expect(statement);
    }

    /// The names and the content of everything on settlement's disk.
    pub fn files(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let disk = self.settlement.disk();
        let names = disk.files().into_iter().map(|(name, _)| name);
        names.map(|name| (name.clone(), disk.read_live(&name))).collect()
    }

    pub fn fill(host: &Host) {
        let full = DiskFault {
            capacity_bytes: Some(host.disk().used_bytes()),
            ..DiskFault::default()
        };
        host.disk().set_fault(full);
    }

    /// Every event of the engine's log, as it lies on its disk.
    pub fn logged(&self) -> u64 {
        let log = self.engine.disk().read_live(format!("/var/lib/engine/{LOG_FILE}"));
        engine::log::read_facts(&log.expect("a log")).expect("a good log").len() as u64
    }
}

/// Settlement as it runs.
pub struct Serving {
    pub metrics: Arc<Metrics>,
    pub task: JoinHandle<String>,
}

impl Serving {
    pub async fn until(&self, what: &str, holds: impl Fn(&MetricsSnapshot) -> bool) -> MetricsSnapshot {
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

/// Holds what a person is told against what has to be in it.
pub fn says(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "{part}: {told}");
    }
}
