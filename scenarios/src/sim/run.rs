//! The course of a run. Everything is started; the plan strikes; when the engine has published everything and the last
//! timed fault has come, replicas are looked at, the network is healed and nothing else; then every event must settle
//! within the bound. What is found is [`crate::evidence::Evidence`]; judging it is not done here.
use super::plant::{Instances, Plant};
use super::requests::RequestWatch;
use super::storage::Storage;
use super::watch::Watch;
use super::{collect, feed, operator, report, stops, timestamps};
use crate::client::Client;
use crate::evidence::{BalanceRead, Decision, Ending, Requests, Resettled};
use crate::job::{self, Resolved};
use crate::protocol::{SeedJob, SeedReport, Verdict};
use crate::reader::{self, Seen};
use crate::rows::{self, Tables};
use crate::setup::{LIVENESS_BOUND_MS, Preview};
use crate::verdict;
use engine::source::Source;
use faults::sim::{Executor, Machines};
use faults::{Action, Plan};
use scylla::statement::Consistency;
use settlement_events::{OutputSequence, Registry};
use sim_cluster::core::Knob;
use sim_cluster::host::sim::SimCluster;
use sim_world::net::NetConfig;
use sim_world::seed::{Seed, Stream};
use sim_world::trace::Level;
use sim_world::{HostState, World, WorldConfig, log};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

/// How often the runner looks whether something has come to its end.
const POLL: Duration = Duration::from_millis(100);
/// A run that simulates more than this is stuck: the longest plan, the liveness bound and the judge's patience fit twice.
const TIME_LIMIT: Duration = Duration::from_secs(4 * 3_600);
/// Arrivals are rounded up to this, the shortest delay of a link: those of one instant share a wake-up, which makes
/// a seed a fifth cheaper.
const ARRIVAL_GRID_NS: u64 = 50_000;
/// How much longer than its undisturbed time the workload may take: outages of the engine lengthen it.
const PUBLISH_PATIENCE_MS: u64 = 900_000;
/// What the judge waits for the last checkpoint, after everything is durable: settlement's patience with a request that is
/// not answered, and its longest pause before the next.
const CHECKPOINT_MAX_MS: u64 = 10_000;
/// A run of this length that comes to its end has reads in it.
const READS_BY_MS: u64 = 15_000;
/// What the judge waits for hints and replays after everything has settled, before it compares replicas.
const QUIET_MAX_MS: u64 = 120_000;

/// Everything a run leaves for judging, besides the world's own summary.
pub struct Outcome {
    /// The plan that was run.
    pub plan: Plan,
    /// Ids of faults that fired.
    pub fired: Vec<u32>,
    /// Spans in which a node was impaired.
    pub windows: Vec<faults::budget::Window>,
    /// The engine's log, as it lies on its disk.
    pub engine_log: Vec<u8>,
    /// What a client reads at the end.
    pub found: Tables,
    /// What the replicas held before the heal.
    pub before_heal: Vec<Arc<Tables>>,
    /// What money they held after it.
    pub after_heal: Vec<Arc<Tables>>,
    /// What the reader saw.
    pub reads: Vec<BalanceRead>,
    /// Durability, bounds, losses.
    pub watch: super::watch::Watched,
    /// The operator's decisions, by the event that is to be skipped.
    pub decisions: BTreeMap<u64, Decision>,
    /// The batches that settlement sent.
    pub requests: Option<Requests>,
    /// Rows under a timestamp that is not theirs, in words.
    pub untimely: Vec<String>,
    /// What settling again changed.
    pub resettled: Option<Resettled>,
    /// How it ended.
    pub ending: Ending,
    /// Something the judge could not do, which makes the run worthless rather than passed.
    pub trouble: Option<String>,
    /// Counters of settlement, summed over its instances.
    pub counters: BTreeMap<String, u64>,
    /// When the course ended, before the world was taken down.
    pub ended_ns: u64,
    /// Rules of the database that turned out the other way.
    pub knobs: BTreeSet<Knob>,
    /// Assets and symbols of the run.
    pub registry: Registry,
    /// What the importer made of the tape, where one drives the engine.
    pub tape: Option<engine::tape::TapeReport>,
    /// CPU time by stage.
    pub stages_us: BTreeMap<String, u64>,
}

/// Does what every seed would do and none changes, for a process that runs each seed in a fork of itself.
pub fn warm_up() {
    engine::warm_up();
}

/// Runs one seed and judges it.
pub fn run_seed(job: &SeedJob) -> SeedReport {
    let started_us = sim_world::cpu_time_us();
    let resolved = match job::resolve(job) {
        Ok(resolved) => resolved,
        Err(message) => return report::broken(job, message),
    };
    let config = WorldConfig {
        record_all: job.record_all,
        time_limit_ns: u64::try_from(TIME_LIMIT.as_nanos()).ok(),
        net: NetConfig {
            grid_ns: ARRIVAL_GRID_NS,
            // The same sizes at the same times with other content would be another run.
            hash_bytes: true,
            ..NetConfig::default()
        },
        // A worker's child runs one seed and exits.
        leave_standing: true,
        ..WorldConfig::default()
    };
    let course = World::run(Seed(job.seed), config, |world| {
        let resolved = resolved.clone();
        let extra_draw = job.extra_draw;
        let seed = job.seed;
        let told = job.record_all;
        async move {
            // What programs say is told, not run: it takes no ordinal and does not enter the hash.
            let _told = told.then(|| log::capture(&["settlement", "engine"], Level::Debug));
            if extra_draw {
                world.stream("negative-control").bits();
            }
            course(world, &resolved, seed).await
        }
    });
    if let Some(path) = &job.trace_file {
        let records = match &course {
            Ok((_, summary)) => &summary.records,
            Err(error) => &error.summary().records,
        };
        if let Err(error) = report::write_trace(path, records) {
            return report::broken(job, format!("the trace cannot be written to {path}: {error}"));
        }
    }
    match course {
        Ok((Ok(outcome), summary)) => report::judge(job, &resolved, outcome, summary, started_us),
        Ok((Err(message), _)) => report::broken(job, message),
        Err(error) => report::failed_run(job, &resolved, &error),
    }
}

struct Stages {
    at_us: u64,
    us: BTreeMap<String, u64>,
}

impl Stages {
    fn end(&mut self, name: &str) {
        let now = sim_world::cpu_time_us();
        *self.us.entry(name.into()).or_default() += now.saturating_sub(self.at_us);
        self.at_us = now;
    }
}

async fn course(world: World, job: &Resolved, seed: u64) -> Result<Outcome, String> {
    let mut stages = Stages {
        at_us: sim_world::cpu_time_us(),
        us: BTreeMap::new(),
    };
    let mut plant = Plant::build(&world, job, seed)?;
    let preview = plant.preview()?;
    let plan = plan(&world, job, &preview)?;
    plant.engine_config.contradictions = feed::contradictions(&plan, &preview);
    let machines = Machines {
        settlement: plant.settlement.clone(),
        engine: plant.engine.clone(),
        cluster: plant.cluster.clone(),
        nodes: job.scenario.cluster.nodes,
    };
    let executor = Executor::arm(&world, machines, &plan, &plant.feed_ports());
    // Behind the plan's own taps, which have their connections to themselves.
    let requests = RequestWatch::start(&plant, &plan);
    stages.end("setup");

    plant.start_engine();
    plant.start_settlement();
    let watch = Watch::start(&plant, job.design, wal_losses(&plan, &executor));
    let helpers = Helpers::start(&plant, &preview, &world, &plan);
    publish(&plant, &executor, &preview).await;
    stages.end("run");
    let mut collector = collect::Collector::new(&plant);
    let before_heal = collector.replicas();
    executor.heal_network();
    let mut ending = settle(&plant, &executor, job).await;
    let stopped = || plant.instances.all().into_iter().filter_map(|instance| instance.ended);
    ending.stops = stops::unwarranted(&plan, stopped());
    let unnoticed = stops::unnoticed(&plan, &executor.fired(), stopped().map(|(reason, _)| reason));
    stages.end("settle");

    let after_heal = collector.money();
    let Helped {
        reads,
        decisions,
        complaints,
        client,
    } = helpers.stop();
    let mut watch = watch.stop(&ending, &stops::forks(&plan, &executor.fired()));
    watch.untrue_metrics.extend(unnoticed.into_iter().chain(complaints));
    let mut trouble = nothing_read(&world, job, &ending, &reads);
    if is_settled(&ending) && verdict::promises(job.design).durable {
        checkpointed(&plant, ending.durable).await;
    }
    let found = match read_everything(&plant, client).await {
        Ok(found) => found,
        Err(error) => {
            trouble = Some(error);
            Tables::default()
        }
    };
    let untimely = match verdict::promises(job.design).idempotent {
        true => timestamps::untimely(&plant),
        false => Vec::new(),
    };
    stages.end("read");
    // An engine that keeps only the last events cannot give the first ones again.
    let is_kept = job.scenario.programs.retention_events.is_none();
    let promised = verdict::promises(job.design).idempotent;
    let resettled = if trouble.is_none() && promised && is_kept && is_settled(&ending) {
        requests.iter().for_each(RequestWatch::begin_again);
        match resettle(&plant).await {
            Ok(resettled) => Some(resettled),
            Err(error) => {
                trouble = Some(format!("settling again could not be judged: {error}"));
                None
            }
        }
    } else {
        None
    };
    let requests = requests.map(RequestWatch::stop);
    stages.end("resettle");
    let engine_log = plant.engine_log().ok_or("the engine has no log on its disk")?;
    Ok(Outcome {
        fired: executor.fired(),
        windows: executor.windows(),
        engine_log,
        found,
        before_heal,
        after_heal,
        reads,
        watch,
        decisions,
        requests,
        untimely,
        resettled,
        ending,
        trouble,
        counters: plant.counters(),
        ended_ns: world.now_ns(),
        knobs: plant.cluster.config().knobs.clone(),
        registry: plant.settlement_config.registry.clone(),
        tape: imported(&plant.engine_config.source),
        plan,
        stages_us: stages.us,
    })
}

/// How often the plan has taken something of the WAL away.
fn wal_losses(plan: &Plan, executor: &Executor) -> impl Fn() -> usize + Send + 'static {
    let takes = |action: &Action| matches!(action, Action::DiskLost { .. } | Action::DiskRot { .. });
    let taking = plan.faults.iter().filter(|fault| takes(&fault.action));
    let (ids, executor) = (taking.map(|fault| fault.id).collect::<Vec<_>>(), executor.clone());
    move || match ids.is_empty() {
        true => 0,
        false => executor.fired().iter().filter(|id| ids.contains(id)).count(),
    }
}

/// The plan: the job's own, or drawn; the draw is made in either case, so that a plan given gives the trace of the same
/// plan drawn.
fn plan(world: &World, job: &Resolved, preview: &Preview) -> Result<Plan, String> {
    let mut stream = world.stream("faults/plan");
    let drawn = faults::draw::draw(&job.scenario.faults, preview.shape, &mut stream).map_err(|e| e.to_string())?;
    Ok(job.plan.clone().unwrap_or(drawn).without(&job.without))
}

fn imported(source: &Source) -> Option<engine::tape::TapeReport> {
    match source {
        Source::Tape(tape) => Some(tape.report.clone()),
        _ => None,
    }
}

fn is_settled(ending: &Ending) -> bool {
    ending.stopped.is_none() && ending.acknowledged >= ending.head && ending.durable >= ending.head
}

/// A reader that has read nothing in a run that was long enough, and in which the database was there in the end.
fn nothing_read(world: &World, job: &Resolved, ending: &Ending, reads: &[BalanceRead]) -> Option<String> {
    let run_ms = world.now_ns() / 1_000_000;
    let is_due = verdict::promises(job.design).ledger && is_settled(ending) && run_ms >= READS_BY_MS;
    (is_due && reads.is_empty())
        .then(|| format!("the reader beside the workload has read nothing in {run_ms} ms, so reads cannot be judged"))
}

/// What the reader knows of the simulated run.
struct Beside {
    world: World,
    stream: Stream,
    instances: Instances,
}

impl reader::Beside for Beside {
    fn now_ms(&self) -> u64 {
        self.world.now_ns() / 1_000_000
    }

    fn acknowledged(&self) -> u64 {
        self.instances.acknowledged()
    }

    fn durable(&self) -> u64 {
        self.instances.durable()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.stream.below(bound)
    }
}

/// The reader and the operator, on the judge's machine.
struct Helpers {
    seen: Seen,
    /// The reader's, once it is connected.
    client: Arc<OnceLock<Client>>,
    decisions: operator::Decisions,
    complaints: operator::Complaints,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Helpers {
    fn start(plant: &Plant, preview: &Preview, world: &World, plan: &Plan) -> Helpers {
        let seen = Seen::default();
        let client = Arc::new(OnceLock::new());
        let contact = plant.cluster.contact_points();
        let keyspace = plant.settlement_config.keyspace().to_string();
        let (users, stream) = (preview.users.clone(), world.stream("reader"));
        let (instances, log) = (plant.instances.clone(), seen.clone());
        let reader = plant.judge.spawn({
            let (contact, keyspace, connected) = (contact.clone(), keyspace.clone(), client.clone());
            async move {
                let client = loop {
                    if let Ok(client) = Client::connect(&contact, &keyspace, None).await {
                        break client;
                    }
                };
                let _ = connected.set(client.clone());
                let beside = Beside {
                    world: World::current(),
                    stream,
                    instances,
                };
                reader::run(client, users, log, beside).await;
            }
        });
        let mut tasks = vec![reader];
        let decisions = operator::Decisions::default();
        let complaints = operator::Complaints::default();
        if !plant.engine_config.contradictions.is_empty() {
            // Not where faults strike settlement's machine as well: each of them has it back in its own time.
            let restarts = feed::is_only_refused(plan).then(|| plant.settlement.clone());
            let mut operator = operator::Operator {
                config: plant.settlement_config.clone(),
                decisions: decisions.clone(),
                complaints: complaints.clone(),
                restarts,
                stream: world.stream("operator"),
            };
            tasks.push(plant.judge.spawn(async move {
                if let Ok(client) = Client::connect(&contact, &keyspace, None).await {
                    operator.run(client).await;
                }
            }));
        }
        Helpers {
            seen,
            client,
            decisions,
            complaints,
            tasks,
        }
    }

    fn stop(self) -> Helped {
        for task in &self.tasks {
            task.abort();
        }
        Helped {
            reads: std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)),
            decisions: std::mem::take(&mut *self.decisions.lock().unwrap_or_else(PoisonError::into_inner)),
            complaints: std::mem::take(&mut *self.complaints.lock().unwrap_or_else(PoisonError::into_inner)),
            client: self.client.get().cloned(),
        }
    }
}

/// What they read, decided and were told.
struct Helped {
    reads: Vec<BalanceRead>,
    decisions: BTreeMap<u64, Decision>,
    complaints: Vec<String>,
    /// The reader's.
    client: Option<Client>,
}

/// Waits until the engine has published everything and every timed fault has come.
async fn publish(plant: &Plant, executor: &Executor, preview: &Preview) {
    loop {
        tokio::time::sleep(POLL).await;
        let given_up = executor.now_ms() >= preview.shape.last_event_ms + PUBLISH_PATIENCE_MS;
        if (plant.source_ended() && !executor.timed_pending()) || given_up {
            return;
        }
    }
}

/// Waits until everything has settled, or the bound has passed since the last effect of a fault.
async fn settle(plant: &Plant, executor: &Executor, job: &Resolved) -> Ending {
    let healed_ms = executor.now_ms();
    let promises = verdict::promises(job.design);
    loop {
        let last_ms = executor.last_effect_ms().max(healed_ms);
        let now_ms = executor.now_ms();
        let ending = Ending {
            head: plant.published(),
            acknowledged: plant.instances.last().map_or(0, |i| i.metrics.snapshot().acknowledged),
            durable: plant.instances.last().map_or(0, |i| i.metrics.snapshot().durable),
            waited_ms: now_ms.saturating_sub(last_ms),
            bound_ms: LIVENESS_BOUND_MS,
            stopped: None,
            stops: Vec::new(),
        };
        let durable = ending.durable >= ending.head || !promises.durable;
        let quiet = now_ms >= last_ms && everyone_up(plant);
        if ending.acknowledged >= ending.head && durable && quiet {
            return ending;
        }
        if ending.waited_ms >= LIVENESS_BOUND_MS {
            let stopped = plant.instances.last().and_then(|instance| Some(instance.ended?.1));
            return Ending { stopped, ..ending };
        }
        tokio::time::sleep(POLL).await;
    }
}

fn everyone_up(plant: &Plant) -> bool {
    plant.world.hosts().iter().all(|host| host.state() == HostState::Up)
}

/// Reads every table as a client would: at QUORUM, on the judge's machine. The reader's client goes on with it: a driver
/// that lived through the faults serves as well as a new one. Only where it does not, a new one is tried.
async fn read_everything(plant: &Plant, client: Option<Client>) -> Result<Tables, String> {
    let contact = plant.cluster.contact_points();
    let keyspace = plant.settlement_config.keyspace().to_string();
    let symbols = rows::trade_tables(&plant.settlement_config.registry);
    quiet(&plant.cluster).await;
    let read = async move {
        if let Some(client) = client
            && let Ok(tables) = client.everything(&symbols, Consistency::Quorum).await
        {
            return Ok(tables);
        }
        let client = Client::connect(&contact, &keyspace, None)
            .await
            .map_err(|e| e.to_string())?;
        client
            .everything(&symbols, Consistency::Quorum)
            .await
            .map_err(|e| e.to_string())
    };
    plant
        .judge
        .spawn(read)
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
}

/// Waits until a quorum of the nodes serves the checkpoint of this event, within a bound: it is written after the event has
/// become durable, and again if that fails.
async fn checkpointed(plant: &Plant, durable: u64) {
    let storage = Storage::new(plant);
    let quorum = usize::from(plant.settlement_config.replication_factor) / 2 + 1;
    let is_there = || {
        let served = storage.checkpoints(&plant.cluster);
        served.iter().filter(|(at, _)| *at >= durable).count() >= quorum
    };
    let mut waited = Duration::ZERO;
    while !is_there() && waited < Duration::from_millis(CHECKPOINT_MAX_MS) {
        tokio::time::sleep(POLL).await;
        waited += POLL;
    }
}

/// Waits until no batchlog entry and no hint is left, within a bound: until then replicas may still change.
async fn quiet(cluster: &SimCluster) {
    let mut waited = Duration::ZERO;
    while !cluster.is_quiet() && waited < Duration::from_millis(QUIET_MAX_MS) {
        tokio::time::sleep(POLL).await;
        waited += POLL;
    }
}

/// Settles everything again and compares every replica's cells with what they were. That it fails is a finding too:
/// what was settled once must settle again.
async fn resettle(plant: &Plant) -> Result<Resettled, String> {
    let before = collect::held(plant)?;
    let config = plant.settlement_config.clone();
    let again = plant.settlement.spawn(async move {
        let metrics = Arc::new(settlement::Metrics::new());
        settlement::resettle(config, OutputSequence(1), metrics)
            .await
            .map_err(|error| error.to_string())
    });
    let failed = match again.await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error),
        Err(error) => Some(format!("it did not end: {error}")),
    };
    quiet(&plant.cluster).await;
    let differences = collect::differences(plant, &before)?;
    Ok(Resettled { failed, differences })
}

/// The verdict when nothing could be judged.
pub fn trouble(message: String) -> Verdict {
    Verdict::Error { message }
}
