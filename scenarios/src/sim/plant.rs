//! Builds the machines of a run and the programs on them: the database, the matching engine, settlement, and a machine
//! for the judge. Everything random about them is drawn here, from streams of their own, before anything runs.
use super::stops::Reason;
use crate::job::{Kindness, Resolved};
use crate::scenario::{CommitlogSync, Flavor};
use crate::setup::{self, Addresses, Preview};
use engine::source::Source;
use engine::{EngineConfig, LOG_FILE};
use faults::sim::feed::FeedPorts;
use schema::Generation;
use settlement::Metrics;
use settlement::config::OnDamage;
use settlement_events::Registry;
use sim_cluster::core;
use sim_cluster::host::sim::SimCluster;
use sim_world::trace::Kind;
use sim_world::{Host, HostState, World};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the engine publishes and answers.
const ENGINE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 1));
const SETTLEMENT_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 3, 1));
const JUDGE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 4, 1));
const PUBLISH_PORT: u16 = 5555;
const REPLAY_PORT: u16 = 5556;
/// How late a node's commit log is synced at most, ms: below settlement's slack (rule 8), with room for the disk.
const SYNC_LATE_MAX_MS: u64 = 1_900;
/// When settlement has stopped by itself it is started again after this.
const STARTED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// And so long after that where a person has to do something first.
const PERSON_COMES_AFTER: Duration = Duration::from_secs(5);
/// How many generations a row can have.
const GENERATIONS: u64 = 1 << 12;

/// The machines of a run, nothing started yet but the database.
pub struct Plant {
    /// The world they are in.
    pub world: World,
    /// The database.
    pub cluster: SimCluster,
    /// Runs the matching engine.
    pub engine: Host,
    /// Runs settlement.
    pub settlement: Host,
    /// The judge, the reader and the operator.
    pub judge: Host,
    /// What the engine is started with.
    pub engine_config: EngineConfig,
    /// What settlement is started with.
    pub settlement_config: settlement::Config,
    /// One entry per start of settlement, the last is the running one.
    pub instances: Instances,
}

/// The metrics of every start of settlement, and how each ended.
#[derive(Clone, Default)]
pub struct Instances {
    shared: Arc<Mutex<Vec<Instance>>>,
}

/// One start of settlement.
#[derive(Clone)]
pub struct Instance {
    /// Its metrics, live.
    pub metrics: Arc<Metrics>,
    /// Why it ended by itself, if it did.
    pub ended: Option<(Reason, String)>,
}

impl Instances {
    fn add(&self, metrics: Arc<Metrics>) -> usize {
        let mut all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Instance { metrics, ended: None });
        all.len() - 1
    }

    fn ended(&self, index: usize, why: (Reason, String)) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)[index].ended = Some(why);
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Instance> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The running one.
    pub fn last(&self) -> Option<Instance> {
        self.all().pop()
    }

    /// The largest acknowledged watermark that any instance has shown.
    pub fn acknowledged(&self) -> u64 {
        let shown = self.all().into_iter().map(|i| i.metrics.snapshot().acknowledged);
        shown.max().unwrap_or(0)
    }

    /// The largest durable watermark that any instance has shown.
    pub fn durable(&self) -> u64 {
        let shown = self.all().into_iter().map(|i| i.metrics.snapshot().durable);
        shown.max().unwrap_or(0)
    }
}

/// The engine and the disk of its machine.
pub struct EngineDisk {
    host: Host,
    log: PathBuf,
    status: Arc<engine::Status>,
}

impl EngineDisk {
    /// Whether no engine runs.
    pub fn is_left_alone(&self) -> bool {
        self.host.state() == HostState::Down
    }

    /// The last event that the engine has fsynced.
    pub fn published(&self) -> u64 {
        self.status.durable_sequence().0
    }

    /// Another number after every start and end of an engine.
    pub fn generation(&self) -> u32 {
        self.host.generation()
    }

    /// The log as the next start will find it.
    fn log(&self) -> Option<Vec<u8>> {
        self.host.disk().read_live(&self.log)
    }

    /// The last event that the next start will know.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn last_event(&self) -> Result<u64, String> {
        let facts = engine::log::read_facts(&self.log().unwrap_or_default()).map_err(|error| error.to_string())?;
        Ok(facts.last().map_or(0, |fact| fact.event.output_sequence.0))
    }
}

impl Plant {
    /// What the workload will be. What lies on purpose is not yet known, and comes on top.
    pub fn preview(&self) -> Result<Preview, String> {
        setup::preview(&self.engine_config, self.cluster.nodes().count() as u16)
    }

    /// The last event that the engine has fsynced.
    pub fn published(&self) -> u64 {
        self.engine_config.controls.status.durable_sequence().0
    }

    /// Where the feed is, for faults on it.
    pub fn feed_ports(&self) -> FeedPorts {
        FeedPorts {
            publish: PUBLISH_PORT,
            replay: REPLAY_PORT,
            codec: Arc::new(super::feed::Codec),
        }
    }

    /// The engine's disk.
    pub fn engine_disk(&self) -> EngineDisk {
        EngineDisk {
            host: self.engine.clone(),
            log: self.engine_config.data_dir.join(LOG_FILE),
            status: self.engine_config.controls.status.clone(),
        }
    }

    /// The engine's log as it lies on its disk.
    pub fn engine_log(&self) -> Option<Vec<u8>> {
        self.engine_disk().log()
    }

    /// Whether the engine has published all that its source gives.
    pub fn source_ended(&self) -> bool {
        self.engine_config.controls.status.source_ended()
    }

    /// Settlement's counters that tests and reports look at, summed over its starts.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for instance in self.instances.all() {
            let m = instance.metrics.snapshot();
            for (name, value) in [
                ("batches_sent", m.batches_sent),
                ("retries", m.retries),
                ("indeterminate", m.indeterminate),
                ("duplicates", m.duplicates),
                ("gaps", m.gaps),
                ("replays_requested", m.replays_requested),
                ("dead_letters", m.dead_letters),
                ("failed_trades", m.failed_trades),
                ("checkpoints", m.checkpoints),
                ("wal_syncs", m.wal_syncs),
                ("windows_sent_again", m.windows_sent_again),
            ] {
                *sums.entry(name.to_string()).or_insert(0) += value;
            }
        }
        sums
    }

    /// Builds everything. The engine's contradictions are set later, once the plan is known.
    pub fn build(world: &World, job: &Resolved, seed: u64) -> Result<Plant, String> {
        let (registry, source) = setup::source(job, seed)?;
        let cluster = cluster(world, job, &registry)?;
        let engine = world.host("engine", ENGINE_IP);
        let settlement = world.host("settlement", SETTLEMENT_IP);
        let judge = world.host("judge", JUDGE_IP);
        let engine_config = engine_config(job, &registry, source);
        let mut settlement_config = settlement_config(job, &registry, &cluster);
        let generation = world.stream("settlement/generation").below(GENERATIONS);
        settlement_config.generation = Generation::new(generation as u16).map_err(|error| error.to_string())?;
        let world = world.clone();
        let instances = Instances::default();
        Ok(Plant {
            world,
            cluster,
            engine,
            settlement,
            judge,
            engine_config,
            settlement_config,
            instances,
        })
    }

    /// Starts settlement; every restart of its machine starts it again, as an init system would, and also after it has
    /// stopped by itself, a second later, or when a person has come who sets the damage of its WAL aside.
    pub fn start_settlement(&self) {
        let (config, instances) = (self.settlement_config.clone(), self.instances.clone());
        self.settlement.start(move || {
            let (mut config, instances) = (config.clone(), instances.clone());
            Box::pin(async move {
                let refuse = config.wal.on_damage;
                loop {
                    let metrics = Arc::new(Metrics::new());
                    let index = instances.add(metrics.clone());
                    let exit = settlement::serve(config.clone(), metrics, std::future::pending::<()>()).await;
                    let (reason, why) = match exit {
                        Ok(exit) => (Reason::Other, format!("{exit:?}")),
                        Err(error) => (Reason::of(&error), error.to_string()),
                    };
                    tracing::warn!(target: "settlement", "stopped by itself: {why}");
                    World::current().trace().emit(None, Kind::Note { text: reason.note() });
                    instances.ended(index, (reason, why));
                    // What a person does who reads that the WAL is damaged, once; everything else is started again as it is.
                    let (pause, on_damage) = match reason {
                        Reason::Damage => (PERSON_COMES_AFTER, OnDamage::SetAside),
                        _ => (STARTED_AGAIN_AFTER, refuse),
                    };
                    config.wal.on_damage = on_damage;
                    tokio::time::sleep(pause).await;
                }
            })
        });
    }

    /// Starts the engine; every restart of its machine starts it again.
    pub fn start_engine(&self) {
        let config = self.engine_config.clone();
        self.engine.start(move || {
            let config = config.clone();
            Box::pin(async move {
                if let Err(error) = engine::serve(config).await {
                    tracing::warn!(target: "engine", "stopped: {error}");
                }
            })
        });
    }
}

fn cluster(world: &World, job: &Resolved, registry: &Registry) -> Result<SimCluster, String> {
    let settings = &job.scenario.cluster;
    let skews = world.stream("cluster/skew");
    let skew_max = settings.clock_skew_max_us;
    let keyspace = job.design.default_keyspace();
    let replication = u8::try_from(settings.replication_factor).unwrap_or(3);
    let ddl = schema::ddl(job.design, keyspace, replication, registry).map_err(|error| error.to_string())?;
    let flavor = match settings.flavor {
        Flavor::Scylla => core::Flavor::Scylla,
        Flavor::Cassandra => core::Flavor::Cassandra,
    };
    let mut config = core::ClusterConfig::new(settings.nodes.into(), flavor);
    config.commitlog_sync = match settings.commitlog_sync {
        CommitlogSync::Periodic => core::CommitlogSync::Periodic {
            period_ms: settings.commitlog_period_ms,
        },
        CommitlogSync::Batch => core::CommitlogSync::Batch,
    };
    config.sync_late_max_ms = SYNC_LATE_MAX_MS;
    for node in &mut config.nodes {
        node.clock.skew_us = skews.below(2 * skew_max + 1) as i64 - skew_max as i64;
    }
    let knobs = world.stream("cluster/knobs");
    config.knobs = settings.knobs.turned(flavor, |n| knobs.below(n));
    config.kindness.rollback_failed_batch = job.kindness.contains(&Kindness::RollbackFailedBatch);
    config.kindness.fsync_every_write = job.kindness.contains(&Kindness::FsyncEveryWrite);
    SimCluster::start_with(world, config, &ddl).map_err(|error| error.to_string())
}

fn engine_config(job: &Resolved, registry: &Registry, source: Source) -> EngineConfig {
    setup::engine_config(job, registry, source, "/var/lib/engine".as_ref(), &addresses())
}

fn settlement_config(job: &Resolved, registry: &Registry, cluster: &SimCluster) -> settlement::Config {
    let contact_points = cluster.contact_points().iter().map(ToString::to_string).collect();
    setup::settlement_config(
        job,
        registry,
        contact_points,
        "/var/lib/settlement".as_ref(),
        &addresses(),
    )
}

fn addresses() -> Addresses {
    Addresses {
        publish: format!("tcp://{ENGINE_IP}:{PUBLISH_PORT}"),
        replay: format!("tcp://{ENGINE_IP}:{REPLAY_PORT}"),
    }
}
