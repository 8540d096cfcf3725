//! The course of a run with real processes. The database is looked at, the run's own keyspace is made; engine and
//! settlement are started, the plan strikes, a reader reads beside them; when everything is published and the last fault
//! has ended, every event must settle within the bound. Then replicas are read one by one, the tables as a client reads
//! them, and everything is settled again. However it ends, processes are gone, nodes are back and the keyspace is dropped,
//! unless it is to be kept.
use super::control::Control;
use super::database::{self, Database};
use super::health::number;
use super::node_local::{self, Held, Level, Node};
use super::process::Process;
use super::report::{self, Found};
use super::site::{Parts, Site, say};
use crate::client::Client;
use crate::evidence::{BalanceRead, Ending, Resettled};
use crate::job::{self, Resolved};
use crate::protocol::{LiveJob, SeedReport, Verdict};
use crate::reader;
use crate::rows;
use crate::setup::{self, Addresses, LIVENESS_BOUND_MS, Preview};
use crate::verdict::promises;
use engine::{ConfigFile, EngineConfig, LOG_FILE, Pacing, Source};
use faults::Plan;
use faults::live::{self as faults_live, AFTERMATH};
use faults::plan::Target;
use futures::FutureExt;
use scylla::statement::Consistency;
use settlement::Config;
use sim_world::seed::{Seed, Stream};
use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// From the engine's start to its first event: settlement has connected by then.
const START_AFTER: Duration = Duration::from_secs(3);
/// How often the end of something is looked for.
const POLL: Duration = Duration::from_millis(250);
/// How much longer than planned publishing may take: outages of the engine lengthen it.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(300);
/// A migration creates a dozen tables, and each waits until all nodes agree.
const MIGRATE_LIMIT: Duration = Duration::from_secs(180);
/// Settling everything again is as much work as settling it.
const RESETTLE_LIMIT: Duration = Duration::from_secs(600);
/// An orderly end waits for what is on its way.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Before replicas are compared: the batchlog replays what is 10 s old every 10 s, and a node that came back has its hints
/// within 10 s of it (19 s were seen once).
const QUIET: Duration = Duration::from_secs(25);
/// Replicas of a keyspace where there are as many nodes.
const REPLICATION_MAX: usize = 3;

/// Runs it, whatever comes. `interrupted` completes when somebody wants it to end early.
pub async fn run(job: &LiveJob, interrupted: impl Future<Output = ()>) -> SeedReport {
    let resolved = match job::resolve(&job.run) {
        Ok(resolved) => resolved,
        Err(message) => return report::broken(job, "", message),
    };
    const INTERRUPTED: &str = "it was interrupted; nothing was found out";
    let mut interrupted = std::pin::pin!(interrupted);
    let prepared = tokio::select! {
        prepared = Prepared::new(job, &resolved) => prepared,
        () = &mut interrupted => Err(INTERRUPTED.into()),
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(message) => return report::broken(job, &resolved.scenario.name, message),
    };
    let site = prepared.site.clone();
    let found = tokio::select! {
        found = AssertUnwindSafe(prepared.course(&resolved)).catch_unwind() => {
            found.unwrap_or_else(|_| Err("the run broke down; the worker's words are above".into()))
        }
        why = site.hopeless() => Err(why),
        () = &mut interrupted => Err(INTERRUPTED.into()),
    };
    site.settlement().kill();
    site.engine().kill();
    site.restore().await;
    let mut report = match found {
        Ok(found) => report::judge(job, &resolved, found),
        Err(message) => report::broken(job, &resolved.scenario.name, message),
    };
    report.timeline = site.told();
    let is_kept = job.keep || report.verdict != Verdict::Pass;
    prepared.clean_up(is_kept, &mut report.notes).await;
    report
}

/// Everything that stands before the first process is started.
struct Prepared {
    config: Config,
    database: Database,
    nodes: Vec<SocketAddr>,
    /// Database nodes that can be struck.
    struck_nodes: u16,
    plan: Plan,
    preview: Preview,
    reader: Stream,
    directory: PathBuf,
    settlement: PathBuf,
    site: Site,
    /// Held for as long as the run goes on.
    _lock: File,
}

impl Prepared {
    async fn new(job: &LiveJob, resolved: &Resolved) -> Result<Prepared, String> {
        let directory = PathBuf::from(&job.directory);
        let seed = job.run.seed;
        let keyspace = database::keyspace(resolved.design, seed);
        let lock = alone(&directory, &keyspace)?;
        // What an earlier run has left is evidence until it is known that this one may take its place.
        let first = directory.with_extension("first");
        std::fs::create_dir_all(&first).map_err(|error| format!("{}: {error}", first.display()))?;
        let addresses = Addresses {
            publish: format!("tcp://{}", free_address()?),
            replay: format!("tcp://{}", free_address()?),
        };
        let (registry, source) = setup::source(resolved, seed)?;
        let engine = setup::engine_config(resolved, &registry, source, &directory.join("engine"), &addresses);
        let contact = job.contact.clone();
        let mut config =
            setup::settlement_config(resolved, &registry, contact, &directory.join("settlement"), &addresses);
        config.keyspace = Some(keyspace);
        config.metrics_addr = Some(free_address()?.to_string());
        let written = written(&first, config);
        std::fs::remove_dir_all(&first).map_err(|error| format!("{}: {error}", first.display()))?;
        let mut config = written?;
        let database = Database::connect(&config).await?;
        let nodes = database.nodes();
        config.replication_factor = copies(&nodes);
        let struck_nodes = if job.node_control.is_some() {
            nodes.len() as u16
        } else {
            0
        };
        let preview = setup::preview(&engine, nodes.len() as u16)?;
        let plan = plan(resolved, &preview, seed)?;
        announce(&plan, &nodes, struck_nodes, &config)?;
        // Only now is it known that this run takes place.
        make_room(&database, config.keyspace(), job.replace).await?;
        emptied(&directory)?;
        let config = for_nodes(&directory, config, &nodes)?;
        write_engine_config(&directory, resolved, &engine, seed)?;
        let settlement = PathBuf::from(&job.settlement);
        let arguments = ["-c", "settlement.toml", "serve"];
        let site = Site::new(Parts {
            settlement: Process::new("settlement", &settlement, &arguments, &directory),
            engine: Process::new(
                "engine",
                Path::new(&job.engine),
                &["serve", "--config", "engine.toml"],
                &directory,
            ),
            control: job
                .node_control
                .as_ref()
                .map(|command| Control::new(command, &directory)),
            health: config.metrics_addr.clone().unwrap_or_default(),
            events: preview.shape.events,
            engine_log: directory.join("engine").join(LOG_FILE),
            nodes: nodes.clone(),
        });
        Ok(Prepared {
            config,
            database,
            nodes,
            struck_nodes,
            plan,
            preview,
            reader: Seed(seed).stream("reader"),
            directory,
            settlement,
            site,
            _lock: lock,
        })
    }

    async fn course(&self, job: &Resolved) -> Result<Found, String> {
        let site = &self.site;
        let migrate = Process::new(
            "migrate",
            &self.settlement,
            &["-c", "settlement.toml", "migrate"],
            &self.directory,
        );
        let migrated = migrate.run_to_end(MIGRATE_LIMIT).await;
        migrated.map_err(|why| format!("the keyspace {} could not be made: {why}", self.config.keyspace()))?;
        site.begin(START_AFTER);
        site.engine().start()?;
        site.settlement().start()?;
        site.tell("engine and settlement are started");
        let watch = Aborted(tokio::spawn(site.clone().watch()));
        let reader = self.start_reader().await?;
        let outcomes = faults_live::carry_out(site, &self.plan, self.struck_nodes, site.began(), AFTERMATH).await;
        if let Some(trouble) = outcomes.iter().find_map(|outcome| outcome.trouble.clone()) {
            return Err(format!("a fault could not be carried out: {trouble}"));
        }
        self.published().await;
        let (head, events) = (site.head()?, self.preview.shape.events);
        if head != events {
            return Err(format!(
                "the engine has published {head} of {events} events; its words are in {}",
                site.engine().log().display()
            ));
        }
        site.tell("everything is published and the last fault has ended");
        let ending = self.settle(job, head).await;
        let reads = reader.stop();
        if reads.is_empty() {
            return Err("the reader beside the workload has read nothing, so reads cannot be judged".into());
        }
        let told = format!(
            "acknowledged {}, durable {} of {} events",
            ending.acknowledged, ending.durable, ending.head
        );
        site.tell(&told);
        drop(watch);
        let mut notes = Vec::new();
        // A bad end is among the ends that are judged.
        let _ = site.settlement().stop(STOP_LIMIT).await;
        let level = self.level(&mut notes).await?;
        sleep(QUIET).await;
        let replicas = self.replicas(level).await?;
        let found = self.read_as_client().await?;
        let is_settled = ending.acknowledged >= ending.head && ending.durable >= ending.head;
        let is_kept = job.scenario.programs.retention_events.is_none();
        let resettled = if promises(job.design).idempotent && is_settled && is_kept {
            Some(self.resettle(level).await?)
        } else {
            notes.push("nothing was settled again, so invariant 12 was not looked at".into());
            None
        };
        let _ = site.engine().stop(STOP_LIMIT).await;
        let ends = [site.settlement().ended(), site.engine().ended()].concat();
        // What ended by itself is told even where everything was right in the end.
        notes.extend(ends.iter().map(|end| end.text.clone()));
        Ok(Found {
            plan: self.plan.clone(),
            outcomes,
            engine_log: self.engine_log()?,
            registry: self.config.registry.clone(),
            found,
            replicas,
            reads,
            resettled,
            ending,
            crashes: ends
                .into_iter()
                .filter(|end| end.is_crash)
                .map(|end| end.text)
                .collect(),
            notes,
            counts: self.counts(),
        })
    }

    async fn start_reader(&self) -> Result<Reading, String> {
        let client = self.client().await?;
        let beside = Beside {
            site: self.site.clone(),
            stream: self.reader.clone(),
        };
        let seen = reader::Seen::default();
        let task = tokio::spawn(reader::run(client, self.preview.users.clone(), seen.clone(), beside));
        Ok(Reading {
            seen,
            _task: Aborted(task),
        })
    }

    async fn client(&self) -> Result<Client, String> {
        let credentials = self.config.credentials.as_ref();
        let credentials = credentials.map(|known| (known.user.as_str(), known.password.as_str()));
        let client = Client::connect(&self.nodes, self.config.keyspace(), credentials).await;
        client.map_err(|error| error.to_string())
    }

    fn engine_log(&self) -> Result<Vec<u8>, String> {
        let path = self.directory.join("engine").join(LOG_FILE);
        std::fs::read(&path).map_err(|error| format!("the engine's log {}: {error}", path.display()))
    }

    async fn published(&self) {
        let planned = Duration::from_millis(self.preview.shape.last_event_ms);
        let until = self.site.began() + planned + PUBLISH_PATIENCE;
        while self.site.head().unwrap_or(0) < self.preview.shape.events && Instant::now() < until {
            sleep(POLL).await;
        }
    }

    async fn settle(&self, job: &Resolved, head: u64) -> Ending {
        let began = Instant::now();
        let is_durable = promises(job.design).durable;
        loop {
            let numbers = self.site.numbers().unwrap_or_default();
            let waited = began.elapsed();
            let mut ending = Ending {
                head,
                acknowledged: number(&numbers, "acknowledged"),
                durable: number(&numbers, "durable"),
                waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
                bound_ms: LIVENESS_BOUND_MS,
                stopped: None,
                stops: Vec::new(),
            };
            if ending.acknowledged >= head && (ending.durable >= head || !is_durable) {
                return ending;
            }
            if ending.waited_ms >= LIVENESS_BOUND_MS {
                ending.stopped = self.site.settlement().ended().pop().map(|end| end.text);
                return ending;
            }
            sleep(POLL).await;
        }
    }

    /// Whether nodes show their own storage. If not, a person is told what that leaves out.
    async fn level(&self, notes: &mut Vec<String>) -> Result<Level, String> {
        for address in &self.nodes {
            let mut node = Node::connect(*address, self.config.credentials.as_ref()).await?;
            if !node.allows_node_local().await? {
                notes.push(
                    "replicas were not looked at one by one (invariants 2, 6 and 12): the server does not allow reads at \
                     NODE_LOCAL; what settling again changes was looked at with reads at ALL"
                        .into(),
                );
                return Ok(Level::All);
            }
        }
        Ok(Level::NodeLocal)
    }

    /// What each replica holds; nothing where it cannot be asked.
    async fn replicas(&self, level: Level) -> Result<Vec<Arc<rows::Tables>>, String> {
        let mut replicas = Vec::new();
        if level == Level::NodeLocal {
            let symbols = rows::trade_tables(&self.config.registry);
            for address in &self.nodes {
                let mut node = Node::connect(*address, self.config.credentials.as_ref()).await?;
                let tables = node.tables(self.config.keyspace(), &symbols, level).await?;
                replicas.push(Arc::new(tables));
            }
        }
        Ok(replicas)
    }

    async fn read_as_client(&self) -> Result<rows::Tables, String> {
        let symbols = rows::trade_tables(&self.config.registry);
        let read = self.client().await?.everything(&symbols, Consistency::Quorum).await;
        read.map_err(|error| error.to_string())
    }

    async fn held(&self, level: Level) -> Result<Vec<(String, Held)>, String> {
        // At ALL every node gives the same answer.
        let asked = if level == Level::NodeLocal { self.nodes.len() } else { 1 };
        let mut held = Vec::new();
        for address in &self.nodes[..asked] {
            let mut node = Node::connect(*address, self.config.credentials.as_ref()).await?;
            held.push((address.to_string(), node.held(self.config.keyspace(), level).await?));
        }
        Ok(held)
    }

    async fn resettle(&self, level: Level) -> Result<Resettled, String> {
        self.site.tell("settling everything again");
        let before = self.held(level).await?;
        let arguments = ["-c", "settlement.toml", "resettle", "--from", "1"];
        let again = Process::new("resettle", &self.settlement, &arguments, &self.directory);
        let failed = again.run_to_end(RESETTLE_LIMIT).await.err();
        let differences = node_local::differences(&before, &self.held(level).await?);
        Ok(Resettled { failed, differences })
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        const NAMES: [&str; 9] = [
            "batches_sent",
            "retries",
            "indeterminate",
            "duplicates",
            "gaps",
            "replays_requested",
            "failed_trades",
            "checkpoints",
            "windows_sent_again",
        ];
        let seen = self.site.seen();
        NAMES.iter().map(|name| (*name, seen.total(name))).collect()
    }

    async fn clean_up(&self, is_kept: bool, notes: &mut Vec<String>) {
        let keyspace = self.config.keyspace();
        if is_kept {
            notes.push(format!(
                "kept: the keyspace {keyspace}, and logs, WAL and configuration in {}; the same seed again needs `--replace`",
                self.directory.display()
            ));
            return;
        }
        if let Err(why) = self.database.drop_keyspace(keyspace).await {
            notes.push(format!("{why}; drop it by hand"));
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            notes.push(format!("{} stays: {error}", self.directory.display()));
        }
    }
}

/// A task that ends with whoever holds this.
struct Aborted(tokio::task::JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Reading {
    seen: reader::Seen,
    _task: Aborted,
}

impl Reading {
    fn stop(self) -> Vec<BalanceRead> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Beside {
    site: Site,
    stream: Stream,
}

impl reader::Beside for Beside {
    fn now_ms(&self) -> u64 {
        self.site.now_ms()
    }

    fn acknowledged(&self) -> u64 {
        self.site.seen().acknowledged()
    }

    fn durable(&self) -> u64 {
        self.site.seen().durable()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.stream.below(bound)
    }
}

/// An address of this machine on which nobody listens just now.
fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port on 127.0.0.1: {error}"))?;
    listener.local_addr().map_err(|error| error.to_string())
}

fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = directory.join(name);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// The configuration as settlement will read it, credentials and all of the environment included.
fn written(directory: &Path, config: Config) -> Result<Config, String> {
    let text = toml::to_string(&config).map_err(|error| format!("settlement's configuration: {error}"))?;
    let path = write(directory, "settlement.toml", &text)?;
    let read = Config::load(&path, toml::Table::new()).map_err(|error| error.to_string())?;
    let expected = Config {
        credentials: read.credentials.clone(),
        ..config
    };
    if read != expected {
        let names: Vec<String> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| name.starts_with("SETTLEMENT_") && !name.starts_with("SETTLEMENT_CREDENTIALS__"))
            .collect();
        return Err(format!(
            "the environment would change the run ({}): of settlement's variables only SETTLEMENT_CREDENTIALS__USER and \
             SETTLEMENT_CREDENTIALS__PASSWORD may be set here; unset the others",
            names.join(", ")
        ));
    }
    Ok(read)
}

/// Copies of everything, on so many nodes.
fn copies(nodes: &[SocketAddr]) -> u8 {
    nodes.len().clamp(1, REPLICATION_MAX) as u8
}

/// The configuration for the nodes that there are: any of them may be away when settlement starts.
fn for_nodes(directory: &Path, mut config: Config, nodes: &[SocketAddr]) -> Result<Config, String> {
    config.replication_factor = copies(nodes);
    config.contact_points = nodes.iter().map(ToString::to_string).collect();
    // Passwords belong into the environment and not into a file that is kept.
    let credentials = config.credentials.take();
    let mut config = written(directory, config)?;
    config.credentials = credentials;
    Ok(config)
}

/// An engine's log or a WAL of an earlier run would be gone on with, or refused.
fn emptied(directory: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{} cannot be emptied: {error}", directory.display());
    if directory.exists() {
        std::fs::remove_dir_all(directory).map_err(failed)?;
    }
    std::fs::create_dir_all(directory).map_err(failed)
}

/// Two runs of one design and seed would work in one keyspace. (Those of another machine are told by the keyspace, which is
/// there already.)
fn alone(directory: &Path, keyspace: &str) -> Result<File, String> {
    let path = directory.with_file_name(keyspace).with_extension("lock");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above).map_err(failed)?;
    }
    let lock = File::create(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(format!(
            "another run of this design and seed goes on, in the same keyspace ({} is locked): wait for it, or use another --seed",
            path.display()
        )),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

async fn make_room(database: &Database, keyspace: &str, replace: bool) -> Result<(), String> {
    if !database.has(keyspace).await? {
        return Ok(());
    }
    if !replace {
        return Err(format!(
            "the keyspace {keyspace} is there already: an earlier run of this seed was kept, or one is running. Another \
             --seed has a keyspace of its own; --replace drops this one"
        ));
    }
    database.drop_keyspace(keyspace).await
}

/// The plan that is given, or the one that the seed draws: the same as in the simulator, if the shape is the same.
fn plan(job: &Resolved, preview: &Preview, seed: u64) -> Result<Plan, String> {
    let mut stream = Seed(seed).stream("faults/plan");
    let drawn = faults::draw::draw(&job.scenario.faults, preview.shape, &mut stream).map_err(|e| e.to_string())?;
    Ok(job.plan.clone().unwrap_or(drawn).without(&job.without))
}

/// Says what will happen and what cannot, before anything does.
fn announce(plan: &Plan, nodes: &[SocketAddr], struck_nodes: u16, config: &Config) -> Result<(), String> {
    say(&format!(
        "database: {} node{}, keyspace {} with {} cop{} of everything",
        nodes.len(),
        if nodes.len() == 1 { "" } else { "s" },
        config.keyspace(),
        config.replication_factor,
        if config.replication_factor == 1 { "y" } else { "ies" },
    ));
    if struck_nodes > 0 {
        let named: Vec<String> = nodes
            .iter()
            .enumerate()
            .map(|(n, at)| format!("{} is {at}", n + 1))
            .collect();
        say(&format!("nodes are numbered by address: {}", named.join(", ")));
    }
    say(
        "not in this world: power loss, cut links, a lying disk, faults on the feed, timeouts on demand; durability is \
         judged by what is there in the end (of invariant 5 only the last checkpoint is looked at; 13, 14 and 16 are not)",
    );
    let mut left = 0;
    for fault in &plan.faults {
        match faults_live::cannot(fault, struck_nodes) {
            Some(why) => say(&format!("left out: {}: {why}", fault.class.name())),
            None => left += 1,
        }
    }
    let strikes = |target| {
        plan.faults
            .iter()
            .any(|fault| faults::budget::impairs(fault).map(|(node, _)| Target::Node(node)) == Some(target))
    };
    let is_node_struck = struck_nodes > 0 && (0..struck_nodes).any(|node| strikes(Target::Node(node)));
    if is_node_struck && nodes.len() < REPLICATION_MAX {
        return Err(format!(
            "the plan strikes a database node, and the database has {}: a quorum needs three. Use more nodes, or leave \
             the class out with --without",
            nodes.len()
        ));
    }
    if left == 0 && !plan.faults.is_empty() {
        return Err(
            "none of the plan's faults can be carried out here, so nothing would be tried: use another scenario".into(),
        );
    }
    Ok(())
}

fn write_engine_config(directory: &Path, job: &Resolved, engine: &EngineConfig, seed: u64) -> Result<(), String> {
    let mut file = ConfigFile {
        data_dir: engine.data_dir.clone(),
        publish_addr: engine.publish_addr.clone(),
        replay_addr: engine.replay_addr.clone(),
        retention_events: engine.retention_events,
        pacing: Pacing {
            start_after_ms: START_AFTER.as_millis() as u64,
            ..engine.pacing
        },
        ..ConfigFile::default()
    };
    match (&engine.source, &job.tape) {
        (Source::Workload(spec), _) => file.workload = Some(spec.clone()),
        (_, Some((path, _))) => {
            file.workload = None;
            file.tape = Some(engine::config::TapeFile {
                path: path.into(),
                options: engine::TapeSpec {
                    seed,
                    ..engine::TapeSpec::default()
                },
            });
        }
        _ => return Err("only a workload or a tape can drive a real engine".into()),
    }
    let text = toml::to_string(&file).map_err(|error| format!("the engine's configuration: {error}"))?;
    write(directory, "engine.toml", &text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ScenarioSource, SeedJob};
    use faults::class::Class;
    use faults::plan::{Action, Fault, PLAN_VERSION, When};

    fn job(trades: u32) -> Resolved {
        let job = SeedJob {
            scenario: ScenarioSource::Named("killed-under-load".into()),
            trades: Some(trades),
            ..SeedJob::default()
        };
        job::resolve(&job).expect("a scenario of the catalog")
    }

    fn addresses() -> Addresses {
        Addresses {
            publish: "tcp://127.0.0.1:1".into(),
            replay: "tcp://127.0.0.1:2".into(),
        }
    }

    #[test]
    fn both_programs_read_back_what_they_are_configured_with() {
        let directory = tempfile::tempdir().expect("a directory");
        let job = job(7);
        let (registry, source) = setup::source(&job, 3).expect("a workload");
        let engine = setup::engine_config(&job, &registry, source, &directory.path().join("engine"), &addresses());
        write_engine_config(directory.path(), &job, &engine, 3).expect("written");
        let text = std::fs::read_to_string(directory.path().join("engine.toml")).expect("a file");
        let file: ConfigFile = toml::from_str(&text).expect("the engine's configuration");
        let Source::Workload(spec) = engine.source else {
            panic!("a workload was asked for");
        };
        assert_eq!(Some(spec), file.workload);
        assert_eq!(file.pacing.events_per_s, engine.pacing.events_per_s);
        let contact = vec!["127.0.0.1:9042".to_string()];
        let config = setup::settlement_config(&job, &registry, contact, &directory.path().join("wal"), &addresses());
        let nodes: Vec<SocketAddr> = ["127.0.0.1:9042", "127.0.0.2:9042"]
            .map(|a| a.parse().expect("one"))
            .into();
        let read = for_nodes(directory.path(), config.clone(), &nodes).expect("settlement's configuration");
        let expected = Config {
            contact_points: nodes.iter().map(ToString::to_string).collect(),
            replication_factor: 2,
            ..config
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_password_is_not_left_in_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let job = job(7);
        let (registry, _) = setup::source(&job, 3).expect("a workload");
        let contact = vec!["127.0.0.1:9042".to_string()];
        let mut config =
            setup::settlement_config(&job, &registry, contact, &directory.path().join("wal"), &addresses());
        config.credentials = Some(settlement::config::Credentials {
            user: "trader".into(),
            password: "s3cret".into(),
        });
        let node = "127.0.0.1:9042".parse().expect("an address");
        let read = for_nodes(directory.path(), config.clone(), &[node]).expect("a configuration");
        assert_eq!(read.credentials, config.credentials);
        let text = std::fs::read_to_string(directory.path().join("settlement.toml")).expect("a file");
        assert!(!text.contains("s3cret") && !text.contains("trader"));
    }

    fn plan_of(action: Action) -> Plan {
        let fault = Fault {
            id: 0,
            class: Class::ProcessKill,
            when: When::AtMs(1),
            action,
        };
        Plan {
            version: PLAN_VERSION,
            faults: vec![fault],
        }
    }

    #[test]
    fn a_plan_that_tries_nothing_or_leaves_no_quorum_is_refused_before_it_runs() {
        let job = job(7);
        let (registry, _) = setup::source(&job, 3).expect("a workload");
        let config = setup::settlement_config(&job, &registry, Vec::new(), Path::new("wal"), &addresses());
        let nodes: Vec<SocketAddr> = ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"]
            .map(|a| a.parse().expect("one"))
            .into();
        let kill = |target| {
            plan_of(Action::Kill {
                target,
                restart_after_ms: 1,
            })
        };
        let refused = |plan: &Plan, nodes: &[SocketAddr], struck| announce(plan, nodes, struck, &config).err();
        assert_eq!(refused(&kill(Target::Settlement), &nodes[..1], 0), None);
        assert_eq!(refused(&kill(Target::Node(0)), &nodes, 3), None);
        assert_eq!(refused(&Plan::empty(), &nodes, 0), None);
        let why = refused(&kill(Target::Node(0)), &nodes[..1], 1).expect("no quorum");
        assert!(why.contains("a quorum needs three"), "{why}");
        let why = refused(&kill(Target::Node(0)), &nodes, 0).expect("nobody to strike");
        assert!(why.contains("nothing would be tried"), "{why}");
    }
}
