//! The program `conformance`: runs cases against one backend and notes what was found, or puts what was noted into a table.
//! People start it by `ci/conformance`.

use clap::{Parser, Subcommand, ValueEnum};
use conformance::case::{self, Case};
use conformance::frequency::summary::{Group, Observation, Summary, count};
use conformance::frequency::{self, Experiment, compare};
use conformance::report::{self, Outcome, Verdict};
use sim_cluster::core::Flavor;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Something differs.
const EXIT_DIFFERS: u8 = 10;
/// It could not be found out.
const EXIT_FAILED: u8 = 1;

/// Injections of each experiment on nodes that take real time for it.
const REAL_INJECTIONS: u64 = 10;

/// The same CQL cases against the simulated cluster, scylla-sim on TCP, and a real server.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Todo,
}

#[derive(Subcommand)]
enum Todo {
    /// List the cases.
    List,
    /// Run cases against one backend.
    Run(Run),
    /// Put what was found into one table; exit code 10 if anything differs.
    Table {
        /// Files of `run --out`.
        files: Vec<PathBuf>,
        /// A backend that is not there, and why: NAME=WHY.
        #[arg(long, value_name = "NAME=WHY")]
        absent: Vec<String>,
    },
    /// Strike nodes under load again and again, and count the outcomes.
    Measure(Measure),
    /// Put the counts of a real server and of ours side by side; exit code 10 if they differ and it is not explained.
    Compare {
        /// A file of `measure --out`, to which the recorded runs of Cassandra 5.0.5 are added; `recorded` for those alone.
        real: PathBuf,
        /// Another.
        ours: PathBuf,
    },
}

#[derive(clap::Args)]
struct Place {
    /// What to run against.
    #[arg(long)]
    backend: Backend,
    /// Which server it is, or is to behave like.
    #[arg(long, default_value = "cassandra")]
    flavor: FlavorArg,
    /// Address of the first node of a real server; the others have the addresses after it.
    #[arg(long, default_value = "127.0.0.1:9042", value_name = "ADDRESS:PORT")]
    contact: std::net::SocketAddr,
    /// How many nodes the real server has.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// A command that takes `kill|freeze|resume|revive|cut|join N`, for real nodes.
    #[arg(long, value_name = "COMMAND")]
    node_control: Option<String>,
}

#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    place: Place,
    /// Only cases whose group or name contains this.
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// Only cases that want exactly so many nodes (0: those that do not care).
    #[arg(long, value_name = "N")]
    only_nodes: Option<usize>,
    /// Write what was found there, as JSON lines.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print every question and answer.
    #[arg(long)]
    transcript: bool,
}

#[derive(clap::Args)]
struct Measure {
    #[command(flatten)]
    place: Place,
    /// Only experiments whose name contains this.
    #[arg(long, value_name = "TEXT")]
    experiment: Option<String>,
    /// How often each is done; 10, and in the simulator what the experiment says, if it is not said.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    injections: Option<u64>,
    /// Write the counts there, as JSON.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// The simulator (this program built with --cfg madsim).
    Sim,
    /// The cluster of scylla-sim, on TCP.
    ScyllaSim,
    /// A real server.
    Server,
}

#[derive(Clone, Copy, ValueEnum)]
enum FlavorArg {
    /// ScyllaDB.
    Scylla,
    /// Apache Cassandra.
    Cassandra,
}

impl FlavorArg {
    fn flavor(self) -> Flavor {
        match self {
            FlavorArg::Scylla => Flavor::Scylla,
            FlavorArg::Cassandra => Flavor::Cassandra,
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Todo::List => list(),
        Todo::Run(run) => run.run(),
        Todo::Table { files, absent } => table(&files, &absent),
        Todo::Measure(measure) => measure.run(),
        Todo::Compare { real, ours } => compare(&real, &ours),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_DIFFERS),
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn list() -> Result<bool, String> {
    let cases = case::all()?;
    for case in &cases {
        let flavors: Vec<&str> = case.flavors.iter().map(|f| f.name()).collect();
        let nodes = case.nodes.map_or("any".to_owned(), |n| n.to_string());
        say(&format!(
            "{:<11} nodes {nodes:<4} {:<19} {}\n",
            case.group,
            flavors.join(","),
            case.name
        ));
    }
    say(&format!("{} cases\n", cases.len()));
    Ok(true)
}

impl Place {
    /// The column of the table.
    fn label(&self) -> String {
        match self.backend {
            Backend::Sim => format!("sim/{}", self.flavor.flavor().name()),
            Backend::ScyllaSim => format!("scylla-sim/{}", self.flavor.flavor().name()),
            Backend::Server => format!("real {}", self.flavor.flavor().name()),
        }
    }
}

impl Run {
    fn run(&self) -> Result<bool, String> {
        let cases: Vec<Case> = case::all()?.into_iter().filter(|c| self.wants(c)).collect();
        if cases.is_empty() {
            return Err("no case is called so; see: conformance list".into());
        }
        let outcomes = self.on_backend(&cases)?;
        if let Some(path) = &self.out {
            write(path, &outcomes).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        Ok(!outcomes.iter().any(|o| matches!(o.verdict, Verdict::Differs(_))))
    }

    fn wants(&self, case: &Case) -> bool {
        let named = self
            .case
            .as_ref()
            .is_none_or(|text| case.name.contains(text) || case.group.contains(text));
        named && self.only_nodes.is_none_or(|n| case.nodes.unwrap_or(0) == n)
    }

    fn tell(&self, outcome: &Outcome) {
        let (verdict, lines): (&str, &[String]) = match &outcome.verdict {
            Verdict::Ok => ("ok", &[]),
            Verdict::Listed => ("differs (listed)", &[]),
            Verdict::Differs(lines) => ("DIFFERS", lines),
            Verdict::NotRun(_) => return,
        };
        say(&format!(
            "[{}] {verdict:<8} {:>6} ms  {}: {}\n",
            outcome.backend, outcome.took_ms, outcome.group, outcome.case
        ));
        let details = if self.transcript { &outcome.transcript } else { lines };
        details.iter().for_each(|l| say(&format!("    {l}\n")));
    }

    #[cfg(madsim)]
    fn on_backend(&self, cases: &[Case]) -> Result<Vec<Outcome>, String> {
        let place = &self.place;
        place.only_simulated()?;
        let label = place.label();
        let tell = |o: &Outcome| self.tell(o);
        Ok(conformance::backend::sim::run_all(
            cases,
            place.flavor.flavor(),
            &label,
            &tell,
        ))
    }

    #[cfg(not(madsim))]
    fn on_backend(&self, cases: &[Case]) -> Result<Vec<Outcome>, String> {
        use conformance::backend::{scylla_sim, server};
        let place = &self.place;
        let (runtime, label, flavor) = (place.runtime()?, place.label(), place.flavor.flavor());
        let tell = |o: &Outcome| self.tell(o);
        match place.backend {
            Backend::ScyllaSim => Ok(runtime.block_on(scylla_sim::run_all(cases, flavor, &label, &tell))),
            Backend::Sim | Backend::Server => runtime.block_on(server::run_all(cases, &place.server(), &label, &tell)),
        }
    }
}

impl Place {
    #[cfg(madsim)]
    fn only_simulated(&self) -> Result<(), String> {
        match self.backend {
            Backend::Sim => Ok(()),
            _ => Err("this is the simulated build; build it without --cfg madsim for the other backends".into()),
        }
    }

    #[cfg(not(madsim))]
    fn runtime(&self) -> Result<tokio::runtime::Runtime, String> {
        if self.backend == Backend::Sim {
            return Err("build it with --cfg madsim for the simulator: cargo sim-run -p conformance".into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(|e| format!("the runtime cannot be started: {e}"))
    }

    #[cfg(not(madsim))]
    fn server(&self) -> conformance::backend::server::Server {
        conformance::backend::server::Server {
            contact: self.contact,
            nodes: self.nodes,
            flavor: self.flavor.flavor(),
            control: self.node_control.clone(),
        }
    }
}

impl Measure {
    fn run(&self) -> Result<bool, String> {
        let (experiments, _) = frequency::all()?;
        let named = |e: &Experiment| self.experiment.as_ref().is_none_or(|text| e.name.contains(text));
        let chosen: Vec<Experiment> = experiments.into_iter().filter(named).collect();
        if chosen.is_empty() {
            return Err("no experiment is called so; see cases/frequencies.toml".into());
        }
        let mut groups = Vec::new();
        for experiment in &chosen {
            let injections = self.injections_of(experiment);
            let tell = |n: u64| {
                say(&format!(
                    "[{}] {}: {n} of {}\n",
                    self.place.label(),
                    experiment.name,
                    injections
                ));
            };
            let seen = self.on_backend(experiment, &tell)?;
            groups.extend(count(&experiment.name, injections, &seen));
            // What was measured is there even if a later experiment cannot be done: half an hour of a real server.
            self.write(&groups)?;
        }
        Ok(true)
    }

    fn injections_of(&self, experiment: &Experiment) -> u64 {
        let usual = match self.place.backend {
            Backend::Sim => experiment.simulated,
            Backend::ScyllaSim | Backend::Server => REAL_INJECTIONS,
        };
        self.injections.unwrap_or(usual)
    }

    fn write(&self, groups: &[Group]) -> Result<(), String> {
        let summary = Summary {
            server: self.place.label(),
            groups: groups.to_vec(),
        };
        let text = serde_json::to_string(&summary).map_err(|e| e.to_string())?;
        std::fs::write(&self.out, text + "\n").map_err(|e| format!("{}: {e}", self.out.display()))
    }

    #[cfg(madsim)]
    fn on_backend(&self, experiment: &Experiment, tell: &dyn Fn(u64)) -> Result<Vec<Observation>, String> {
        let place = &self.place;
        place.only_simulated()?;
        let (label, flavor) = (place.label(), place.flavor.flavor());
        conformance::backend::sim::measure(experiment, self.injections_of(experiment), flavor, &label, tell)
    }

    #[cfg(not(madsim))]
    fn on_backend(&self, experiment: &Experiment, tell: &(dyn Fn(u64) + Sync)) -> Result<Vec<Observation>, String> {
        use conformance::backend::{scylla_sim, server};
        let place = &self.place;
        let (runtime, label, flavor) = (place.runtime()?, place.label(), place.flavor.flavor());
        match place.backend {
            Backend::ScyllaSim => runtime.block_on(scylla_sim::measure(
                experiment,
                self.injections_of(experiment),
                flavor,
                &label,
                tell,
            )),
            Backend::Sim | Backend::Server => runtime.block_on(server::measure(
                experiment,
                self.injections_of(experiment),
                &place.server(),
                &label,
                tell,
            )),
        }
    }
}

fn compare(real: &Path, ours: &Path) -> Result<bool, String> {
    let (_, explained) = frequency::all()?;
    let mut runs = frequency::recorded()?;
    if real.to_str() != Some("recorded") {
        runs.insert(0, summary(real)?);
    }
    let (shown, others) = runs.split_first().ok_or("no run of a real server is recorded")?;
    let compared = compare::compare(shown, others, &summary(ours)?, &explained);
    say(&compared.text);
    for line in &compared.idle {
        say(&format!("\nexplained, and no difference this time: {line}"));
    }
    let (outcomes, explained, differences) = (compared.outcomes, compared.explained, compared.differences);
    let (there, here) = compared.statements;
    say(&format!(
        "\n{there} statements on the real server, {here} on ours; {} runs of the real server together\n\
         {outcomes} outcomes compared, {explained} differences explained, {differences} DIFFER\n",
        runs.len()
    ));
    Ok(differences == 0 && outcomes > 0)
}

fn summary(path: &Path) -> Result<Summary, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{} is not what `conformance measure` writes: {e}", path.display()))
}

fn write(path: &Path, outcomes: &[Outcome]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    for outcome in outcomes {
        serde_json::to_writer(&mut file, outcome)?;
        file.write_all(b"\n")?;
    }
    Ok(())
}

fn table(files: &[PathBuf], absent: &[String]) -> Result<bool, String> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for path in files {
        let bad = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| bad(&e))?;
        for line in text.lines() {
            outcomes.push(serde_json::from_str(line).map_err(|e| bad(&e))?);
        }
    }
    let absent: BTreeMap<String, String> = absent
        .iter()
        .map(|a| a.split_once('=').unwrap_or((a, "not there")))
        .map(|(name, why)| (name.to_owned(), why.to_owned()))
        .collect();
    let report = report::report(&outcomes, &absent);
    say(&report.text);
    Ok(report.is_good)
}

/// Text for standard output, which may be closed: nobody reads it then.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _unread = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
