//! `settlement bench`: how many trades per second each design settles on whatever database it is given, side by side in
//! one run, and whose limit that is.
//!
//! What is measured is what runs in production: `settlement::serve` with feed, digests, WAL with its group fsync,
//! verification, the design with its limit in flight, probes of the nodes, checkpoints and truncation. The matching engine
//! is a stand-in within this process ([`engine`]) that publishes events made before the clock started ([`load`]); what
//! publishing them costs counts as settlement's. Designs take turns in rounds, so that noise of the machine hits all.
//!
//! | module | what it does |
//! |---|---|
//! | [`load`], [`engine`] | the events, and where settlement gets them from |
//! | [`service`] | a design in production, given events in rounds |
//! | [`keyspaces`] | created, and dropped in the end |
//! | [`usage`], [`wire`] | processor time and bytes, from the kernel |
//! | [`verify`] | reads everything back |
//! | [`report`] | table, ratio, whose limit |

mod engine;
mod error;
mod keyspaces;
mod load;
mod report;
mod service;
mod usage;
mod verify;
mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::cluster::NodeAddr;
use settlement::{Config, DesignName};
use settlement_events::{Envelope, Registry};
use tokio::signal::unix::{SignalKind, signal};

pub use error::BenchError;
use keyspaces::Keyspaces;
use load::Load;
use report::{Measured, Report};
use service::{Round, Service};
use usage::{Servers, Usage};
use verify::Expected;
use wire::Bytes;

/// Where there is no configuration file.
const DATA_DIR: &str = "settlement-data";

/// What cannot be compared.
const NO_RATIO: &str = "--ratio-min compares ledger with sequential-delta, and one of them is not measured";

/// Trades made for a round of which it is not known how many it will need: so much more than the round before had.
const MORE: f64 = 1.5;

/// And never fewer. Making them takes 20 us each, before the clock starts.
const STOCK_MIN: usize = 500;

/// What is to be measured.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Nodes of the database, instead of those that the file names. With it no file is needed: the example's symbols
    /// are used.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    contact_points: Vec<String>,

    /// The designs that take turns. Without it, all that the server has the tables for.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    designs: Vec<DesignName>,

    /// So many trades of each design, however long that takes.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    trades: Option<usize>,

    /// So many seconds for each design.
    #[arg(long, value_name = "S", default_value_t = 40)]
    seconds: u64,

    /// In so many rounds: A B A B … Short ones, so that what else the machine does hits all designs alike.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,

    /// Seconds for each design before the first round, which count for nothing: a server on a JVM has to compile itself
    /// first.
    #[arg(long, value_name = "S", default_value_t = 20)]
    warm_up: u64,

    /// The seed of the load.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// A process of the database on this machine, for its CPU. Found by itself when the node is on a loopback address.
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,

    /// Leave the keyspaces there.
    #[arg(long)]
    keep: bool,

    /// End with an error if the ratio ledger : sequential-delta is less.
    #[arg(long, value_name = "RATIO")]
    ratio_min: Option<f64>,

    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

/// A file, or else nodes named on the command line.
pub fn config(arguments: &BenchArgs, file: &Path, over: impl serde::Serialize) -> Result<Config, BenchError> {
    let nodes = &arguments.contact_points;
    if nodes.is_empty() {
        return Ok(Config::load(file, over)?);
    }
    let mut config = if file.is_file() {
        Config::load(file, over)?
    } else {
        let nobody = "tcp://127.0.0.1:0";
        let defaults = Config::new(nodes.clone(), nobody, nobody, DATA_DIR, Registry::example());
        Config::load_over(&defaults, over)?
    };
    config.contact_points.clone_from(nodes);
    Ok(config)
}

/// Measures, prints, and leaves nothing behind.
pub async fn bench(config: Config, arguments: BenchArgs) -> Result<(), BenchError> {
    if arguments.trades == Some(0) || (arguments.trades.is_none() && arguments.seconds == 0) {
        return Err(BenchError::Usage(
            "--trades 0 and --seconds 0 measure nothing".to_owned(),
        ));
    }
    let compared = [DesignName::Ledger, DesignName::SequentialDelta];
    let designs = &arguments.designs;
    if arguments.ratio_min.is_some() && !designs.is_empty() && compared.iter().any(|design| !designs.contains(design)) {
        return Err(BenchError::Usage(NO_RATIO.to_owned()));
    }
    if arguments
        .ratio_min
        .is_some_and(|ratio| !(ratio.is_finite() && ratio > 0.0))
    {
        return Err(BenchError::Usage("--ratio-min takes a number above 0".to_owned()));
    }
    if let Some(twice) = designs
        .iter()
        .enumerate()
        .find(|(n, design)| designs[..*n].contains(design))
    {
        return Err(BenchError::Usage(format!("--designs names {} twice", twice.1)));
    }
    let session = Arc::new(settlement::session::connect(&config).await?);
    let is_our_data_dir = !tokio::fs::try_exists(&config.data_dir).await.unwrap_or(true);
    let mut keyspaces = Keyspaces::new(session.clone());
    let directory = config.data_dir.join(format!("bench-{}", std::process::id()));
    let run = Run {
        config: &config,
        arguments: &arguments,
        session,
        directory: directory.clone(),
    };
    let outcome = tokio::select! {
        outcome = run.measure(&mut keyspaces) => outcome,
        () = interrupted() => Err(BenchError::Interrupted),
    };
    clean_up(&mut keyspaces, &directory, arguments.keep).await;
    if is_our_data_dir {
        // Unless something else is in it by now.
        let _ = tokio::fs::remove_dir(&config.data_dir).await;
    }
    let report = outcome?;
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.text());
    }
    judge(&report, arguments.ratio_min)
}

/// Drops what was created, and says what could not be. A second interruption ends that too.
async fn clean_up(keyspaces: &mut Keyspaces, directory: &Path, keep: bool) {
    if let Err(error) = tokio::fs::remove_dir_all(directory).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("settlement: {} remains: {error}", directory.display());
    }
    if keep {
        eprintln!("settlement: kept: {}", keyspaces.names().join(", "));
        return;
    }
    let names = keyspaces.names().join(", ");
    let remaining = tokio::select! {
        remaining = keyspaces.drop_all() => remaining,
        () = interrupted() => vec![format!("interrupted again; of {names} some may remain: drop them by hand")],
    };
    for line in remaining {
        eprintln!("settlement: {line}");
    }
}

/// SIGINT or SIGTERM. If neither can be listened to, they end the process, and what remains is not said.
async fn interrupted() {
    let mut terminated = signal(SignalKind::terminate()).ok();
    let termination = async {
        match &mut terminated {
            Some(terminated) => terminated.recv().await.is_some(),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        asked = tokio::signal::ctrl_c() => if asked.is_err() { std::future::pending::<()>().await },
        _ = termination => {}
    }
}

fn judge(report: &Report, ratio_min: Option<f64>) -> Result<(), BenchError> {
    let differences = report.differences();
    if !differences.is_empty() {
        return Err(BenchError::Differs(differences));
    }
    match (ratio_min, report.ratio()) {
        (Some(min), Some(ratio)) if ratio < min => Err(BenchError::Ratio { ratio, min }),
        (Some(_), None) => Err(BenchError::Usage(NO_RATIO.to_owned())),
        _ => Ok(()),
    }
}

struct Run<'a> {
    config: &'a Config,
    arguments: &'a BenchArgs,
    session: Arc<Session>,
    directory: PathBuf,
}

/// A design, and what it was given so far.
struct Contender {
    service: Service,
    keyspace: String,
    load: Load,
    /// Made and not published.
    stock: VecDeque<Envelope>,
    expected: Expected,
    /// Trades per second of its last round.
    rate: f64,
    measured: Measured,
}

impl Run<'_> {
    async fn measure(&self, keyspaces: &mut Keyspaces) -> Result<Report, BenchError> {
        let nodes = self.nodes();
        let servers = match self.arguments.server_pid.as_slice() {
            [] => usage::find_servers(&nodes).await,
            processes => Servers::Known(processes.to_vec()),
        };
        let ports: BTreeSet<u16> = nodes.iter().map(SocketAddr::port).collect();
        let copies = usize::from(self.config.replication_factor).min(nodes.len().max(1));
        let copies = u8::try_from(copies).unwrap_or(self.config.replication_factor);
        let mut contenders = self.contenders(keyspaces, copies).await?;
        for contender in &mut contenders {
            self.prepare(contender).await?;
        }
        for number in 1..=self.arguments.rounds {
            for contender in &mut contenders {
                let (usage, bytes) = (Usage::now(&servers).await, Bytes::now(&ports).await);
                let round = contender.round(self.time(), self.of_a_round(number)).await?;
                let used = Usage::now(&servers).await.since(&usage);
                let bytes = Bytes::now(&ports)
                    .await
                    .zip(bytes)
                    .map(|(after, before)| after.since(before));
                contender.note(&round, used, bytes);
                self.say(&format!(
                    "round {number}, {}: {:.0} trades/s",
                    contender.service.design, contender.rate
                ));
            }
        }
        self.say("reading back");
        let mut designs = Vec::new();
        for contender in contenders {
            designs.push(self.finish(contender).await?);
        }
        Ok(Report {
            designs,
            servers,
            setup: self.setup(nodes.len(), copies),
        })
    }

    /// Where the nodes are, as far as this program is told.
    fn nodes(&self) -> Vec<SocketAddr> {
        let state = self.session.get_cluster_state();
        let addresses = state.get_nodes_info().iter().map(|node| match node.address {
            NodeAddr::Translatable(address) | NodeAddr::Untranslatable(address) => Some(address),
            _ => None,
        });
        addresses.flatten().collect()
    }

    async fn contenders(&self, keyspaces: &mut Keyspaces, copies: u8) -> Result<Vec<Contender>, BenchError> {
        let (designs, asked_for) = match self.arguments.designs.as_slice() {
            [] => (DesignName::ALL, false),
            designs => (designs, true),
        };
        let directory = &self.directory;
        let unusable = |source| BenchError::Directory {
            path: directory.clone(),
            source,
        };
        tokio::fs::create_dir_all(directory).await.map_err(unusable)?;
        let mut contenders: Vec<Contender> = Vec::new();
        for design in designs {
            let keyspace = match keyspaces.create(self.config, *design, copies).await {
                Ok(keyspace) => keyspace,
                Err(error @ BenchError::Unsupported { .. }) if !asked_for => {
                    eprintln!("settlement: {error}; the other designs are measured");
                    continue;
                }
                Err(error) => return Err(error),
            };
            contenders.push(Contender {
                service: Service::start(self.config, *design, &keyspace, directory).await?,
                keyspace,
                load: Load::new(&self.config.registry, self.arguments.seed),
                stock: VecDeque::new(),
                expected: Expected::default(),
                rate: 0.0,
                measured: Measured::nothing(*design),
            });
        }
        Ok(contenders)
    }

    /// Deposits and orders, then trades that count for nothing.
    async fn prepare(&self, contender: &mut Contender) -> Result<(), BenchError> {
        self.say(&format!("{}: deposits, orders and warm-up", contender.service.design));
        contender.stock = contender.load.prologue()?.into();
        let prologue = contender.stock.len();
        contender.give(prologue, None).await?;
        // A second of it says how many it will need.
        let warm_up = Duration::from_secs(self.arguments.warm_up);
        let first = warm_up.min(Duration::from_secs(1));
        contender.rate = 20_000.0;
        for time in [first, warm_up.saturating_sub(first)] {
            if !time.is_zero() {
                contender.round(Some(time), None).await?;
            }
        }
        Ok(())
    }

    /// How long a round is, unless its trades are counted.
    fn time(&self) -> Option<Duration> {
        let whole = Duration::from_secs(self.arguments.seconds);
        self.arguments.trades.is_none().then(|| whole / self.arguments.rounds)
    }

    /// The trades of a round, where they are counted; the first ones have the remainder.
    fn of_a_round(&self, number: u32) -> Option<usize> {
        let trades = self.arguments.trades?;
        let rounds = usize::try_from(self.arguments.rounds).unwrap_or(1);
        let more = usize::try_from(number).unwrap_or(1) <= trades % rounds;
        Some(trades / rounds + usize::from(more))
    }

    async fn finish(&self, contender: Contender) -> Result<Measured, BenchError> {
        let Contender {
            service,
            keyspace,
            expected,
            mut measured,
            ..
        } = contender;
        service.stop().await;
        let design = measured.design;
        let readback = expected
            .compare(&self.session, &self.config.registry, design, &keyspace)
            .await?;
        measured.readback = Some(readback);
        Ok(measured)
    }

    fn setup(&self, nodes: usize, copies: u8) -> String {
        let copies = if copies == 1 {
            "1 copy".to_owned()
        } else {
            format!("{copies} copies")
        };
        let nodes = if nodes == 1 {
            "1 node".to_owned()
        } else {
            format!("{nodes} nodes")
        };
        let (rounds, seed) = (self.arguments.rounds, self.arguments.seed);
        let each = match self.arguments.trades {
            Some(trades) => format!("{trades} trades"),
            None => format!("{} s", self.arguments.seconds),
        };
        format!(
            "{nodes}, {copies}; {each} of each design in {rounds} rounds after {} s of warm-up; seed {seed}",
            self.arguments.warm_up
        )
    }

    fn say(&self, text: &str) {
        if !self.arguments.json {
            eprintln!("settlement: {text}");
        }
    }
}

impl Contender {
    /// Makes the events of a round, before any clock starts, and has them settled.
    async fn round(&mut self, time: Option<Duration>, trades: Option<usize>) -> Result<Round, BenchError> {
        let wanted = trades.unwrap_or_else(|| {
            let seconds = time.unwrap_or_default().as_secs_f64();
            ((self.rate * seconds * MORE) as usize).max(STOCK_MIN)
        });
        let missing = wanted.saturating_sub(self.stock.len());
        self.stock.extend(self.load.trades(missing)?);
        let round = self.give(wanted, if trades.is_some() { None } else { time }).await?;
        self.rate = rate(&round);
        Ok(round)
    }

    /// Gives the first so many events of the stock to the service. What it has no time for goes back.
    async fn give(&mut self, count: usize, time: Option<Duration>) -> Result<Round, BenchError> {
        let events: VecDeque<Envelope> = self.stock.drain(..count.min(self.stock.len())).collect();
        let mut round = self.service.round(events.clone(), time).await?;
        if round.after.windows_sent_again > round.before.windows_sent_again {
            return Err(BenchError::Restarted {
                design: self.service.design,
            });
        }
        let published = events.len() - round.left.len();
        for event in std::mem::take(&mut round.left).into_iter().rev() {
            self.stock.push_front(event);
        }
        events
            .iter()
            .take(published)
            .for_each(|event| self.expected.note(event));
        Ok(round)
    }

    fn note(&mut self, round: &Round, usage: Usage, bytes: Option<Bytes>) {
        let (before, after) = (&round.before, &round.after);
        let measured = &mut self.measured;
        let is_first = measured.rounds.is_empty();
        measured.trades += round.settled - round.given_up;
        measured.elapsed += round.elapsed;
        measured.rounds.push(rate(round));
        // Both have the same bounds.
        let _ = measured.latencies.add(&round.latencies);
        measured.requests += after.requests - before.requests;
        measured.failed_attempts +=
            (after.indeterminate + after.not_applied) - (before.indeterminate + before.not_applied);
        measured.retries += after.retries - before.retries;
        measured.given_up += round.given_up;
        measured.in_flight_limit = after.in_flight_limit;
        measured.in_flight_peak = after.in_flight_peak;
        measured.usage = if is_first { usage } else { measured.usage.plus(&usage) };
        measured.bytes = match (is_first, measured.bytes, bytes) {
            (true, _, bytes) => bytes,
            (false, sum, bytes) => sum.zip(bytes).map(|(sum, bytes)| sum.plus(bytes)),
        };
    }
}

/// Trades per second.
fn rate(round: &Round) -> f64 {
    (round.settled - round.given_up) as f64 / round.elapsed.as_secs_f64().max(f64::EPSILON)
}
