//! The program `conformance`: runs cases against one backend and notes what was found, or puts what was noted into a table.
//! People start it by `ci/conformance`.

use clap::{Parser, Subcommand, ValueEnum};
use conformance::case::{self, Case};
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
}

#[derive(clap::Args)]
struct Run {
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
    /// A command that takes `kill|freeze|resume|revive N`, for real nodes.
    #[arg(long, value_name = "COMMAND")]
    node_control: Option<String>,
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

    /// The column of the table.
    fn label(&self) -> String {
        match self.backend {
            Backend::Sim => format!("sim/{}", self.flavor.flavor().name()),
            Backend::ScyllaSim => format!("scylla-sim/{}", self.flavor.flavor().name()),
            Backend::Server => format!("real {}", self.flavor.flavor().name()),
        }
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
        if self.backend != Backend::Sim {
            return Err("this is the simulated build; build it without --cfg madsim for the other backends".into());
        }
        let flavor = self.flavor.flavor();
        Ok(conformance::backend::sim::run_all(cases, flavor, &self.label(), &|o| {
            self.tell(o)
        }))
    }

    #[cfg(not(madsim))]
    fn on_backend(&self, cases: &[Case]) -> Result<Vec<Outcome>, String> {
        use conformance::backend::{scylla_sim, server};
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("the runtime cannot be started: {e}"))?;
        let (label, flavor) = (self.label(), self.flavor.flavor());
        let tell = |o: &Outcome| self.tell(o);
        match self.backend {
            Backend::Sim => Err("build it with --cfg madsim for the simulator: cargo sim-run -p conformance".into()),
            Backend::ScyllaSim => Ok(runtime.block_on(scylla_sim::run_all(cases, flavor, &label, &tell))),
            Backend::Server => {
                let server = server::Server {
                    contact: self.contact,
                    nodes: self.nodes,
                    flavor,
                    control: self.node_control.clone(),
                };
                runtime.block_on(server::run_all(cases, &server, &label, &tell))
            }
        }
    }
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
