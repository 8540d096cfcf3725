//! Command line, start-up text, signals and exit codes of `scylla-sim`.

use clap::{Parser, ValueEnum};
use sim_cluster::core::knobs::names;
use sim_cluster::core::{CommitlogSync, Flavor, Knob};
use sim_cluster::host::tcp::{Credentials, Notice, Options, TcpCluster, Tell, faults};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// It could not start, or could not go on.
const EXIT_FAILED: u8 = 1;
/// Ended by a second signal before it had stopped in good order.
const EXIT_CUT_SHORT: u8 = 130;

#[derive(Parser)]
#[command(
    name = "scylla-sim",
    version,
    about = "A simulated ScyllaDB or Cassandra cluster on real TCP and real files, in one process",
    after_help = "\
A first run:
    scylla-sim --data scylla-data
    cqlsh 127.0.0.1 9042

The nodes listen on addresses in a row (127.0.0.1, 127.0.0.2, 127.0.0.3) and one port. Started again with the same
directory the cluster goes on with what its logs hold. As with the real servers, a write is acknowledged before it is
on the disk unless --commitlog-sync batch is given: kill -9 loses up to 10 s of writes (flavour scylla), or about 0.1 s
(flavour cassandra).

Faults on command, from a file and while it runs:
    scylla-sim --plan plan.toml --control 127.0.0.1:9180
    curl 127.0.0.1:9180/                       # every fault and field that can be written
    curl 127.0.0.1:9180/status                 # nodes, rows, log bytes
    curl 127.0.0.1:9180/trace                  # what happened, as JSON lines
    curl 127.0.0.1:9180/faults -d '{\"do\": \"pause\", \"node\": 2, \"for\": \"12s\"}'
    curl 127.0.0.1:9180/faults                 # the list; -X DELETE 127.0.0.1:9180/faults/1 takes one back
In plan.toml:
    [[fault]]
    do = \"write-timeout\"
    table = \"ks.trades\"
    statements = \"batch\"
    applied = \"late\"
    after = \"60s\"

It is for tests and development: without --auth nobody is asked for a password, and everything is kept in memory (a million rows of some
200 bytes take about 350 MB). Logs are compacted when half of them is needed no more. What it does not carry out (functions of users, JSON) is refused by name."
)]
struct Cli {
    /// Number of nodes, 1 to 64.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Address and port of the first node; the others have the addresses after it and the same port.
    #[arg(long, default_value = "127.0.0.1:9042", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The directory with the commit logs; made if it is not there.
    #[arg(long, default_value = "scylla-data", value_name = "DIR")]
    data: PathBuf,
    /// Which server the cluster behaves like.
    #[arg(long, default_value = "scylla")]
    flavor: FlavorArg,
    /// Turn a rule of that server which no source decides: it does as the other server does. Can be given several times;
    /// --knobs lists them.
    #[arg(long, value_name = "NAME")]
    knob: Vec<Knob>,
    /// Print every --knob with what it does, and end.
    #[arg(long)]
    knobs: bool,
    /// When a write reaches the disk: before it is acknowledged (batch), or every so often (periodic).
    #[arg(long, default_value = "periodic", value_name = "MODE")]
    commitlog_sync: SyncArg,
    /// How often, in milliseconds (periodic only).
    #[arg(long, default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    commitlog_sync_period_ms: u64,
    /// Faults to inject, in TOML; their times count from when the nodes serve. --faults lists what can be written.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Serve the control endpoint there (HTTP, without a password: keep it on this machine); port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    control: Option<SocketAddr>,
    /// Print every fault and field that a plan or the control endpoint takes, and end.
    #[arg(long)]
    faults: bool,
    /// Clients have to log in (PasswordAuthenticator). The first user is cassandra with password cassandra unless
    /// --auth-user, or SCYLLA_SIM_AUTH=USER:PASSWORD in the environment, or --auth-file says otherwise.
    #[arg(long)]
    auth: bool,
    /// The first user and its password (implies --auth).
    #[arg(long, value_name = "USER:PASSWORD", value_parser = credentials, conflicts_with = "auth_file")]
    auth_user: Option<Credentials>,
    /// A file with USER:PASSWORD in its first line, which other people on this machine need not see (implies --auth).
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Say everything that happens between the nodes, on standard error.
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum FlavorArg {
    /// ScyllaDB 2025.4.
    Scylla,
    /// Apache Cassandra 5.0.
    Cassandra,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum SyncArg {
    /// The default of both servers.
    Periodic,
    /// Nothing acknowledged is lost.
    Batch,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a terminal that is gone.
            let _unprinted = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_FAILED } else { 0 });
        }
    };
    if cli.faults {
        say(&faults::help());
        return ExitCode::SUCCESS;
    }
    if cli.knobs {
        say(&knobs());
        return ExitCode::SUCCESS;
    }
    // One thread runs all nodes; the disk's syncs have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&cli)),
        Err(error) => Err(format!("the runtime cannot be started: {error}")),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("scylla-sim: {message}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn run(cli: &Cli) -> Result<u8, String> {
    let mut signals = Signals::new().map_err(|error| format!("signals cannot be caught: {error}"))?;
    // Read first: a wrong plan starts nothing.
    let plan = cli.plan.as_deref().map(|path| faults::read_plan(path, cli.nodes));
    let plan = plan.transpose().map_err(|error| error.to_string())?.unwrap_or_default();
    let mut options = options(cli);
    check_knobs(&options)?;
    options.auth = auth(cli)?;
    let has_passwords = options.auth.is_some();
    let cluster = TcpCluster::start(options, tell(cli.verbose))
        .await
        .map_err(|error| error.to_string())?;
    let control = match cli.control {
        Some(address) => Some(cluster.control(address).await.map_err(|error| {
            format!("the control endpoint cannot listen on {address}: {error}. Give another address with --control")
        })?),
        None => None,
    };
    say(&started(cli, &cluster, control, plan.len(), has_passwords));
    for fault in plan {
        cluster.inject(fault).map_err(|error| error.to_string())?;
    }
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = cluster.ended() => return Err(no_node_left(&cluster)),
    };
    say(&format!("{signal}: stopping (again: at once)\n"));
    tokio::select! {
        in_order = cluster.stop() => {
            if in_order {
                say("stopped; everything acknowledged is on the disk\n");
                return Ok(0);
            }
            Err("it did not stop in good order: the next start finds what is on the disk, as after a kill".into())
        }
        _ = signals.next() => Ok(EXIT_CUT_SHORT),
    }
}

/// Reads USER:PASSWORD.
fn credentials(text: &str) -> Result<Credentials, String> {
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => Ok(Credentials {
            user: user.to_owned(),
            password: password.to_owned(),
        }),
        _ => Err("write USER:PASSWORD, such as cassandra:cassandra".to_owned()),
    }
}

/// The environment's way to say who the first user is.
const AUTH_VARIABLE: &str = "SCYLLA_SIM_AUTH";

/// Who may log in at first, if anybody has to.
fn auth(cli: &Cli) -> Result<Option<Credentials>, String> {
    if let Some(given) = &cli.auth_user {
        return Ok(Some(given.clone()));
    }
    if let Some(path) = &cli.auth_file {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let first = text.lines().next().unwrap_or_default();
        return credentials(first.trim())
            .map(Some)
            .map_err(|e| format!("{}:1: {e}", path.display()));
    }
    match std::env::var(AUTH_VARIABLE) {
        Ok(text) => credentials(&text)
            .map(Some)
            .map_err(|e| format!("{AUTH_VARIABLE}: {e}")),
        Err(_) if cli.auth => credentials("cassandra:cassandra").map(Some),
        Err(_) => Ok(None),
    }
}

/// The knobs, by flavour.
fn knobs() -> String {
    let of = |flavor: Flavor| {
        let lines: String = Knob::of(flavor)
            .map(|knob| format!("    {:<32}{}\n", knob.name(), knob.turned()))
            .collect();
        format!("Flavour {}; with the knob turned:\n{lines}", flavor.name())
    };
    of(Flavor::Scylla) + &of(Flavor::Cassandra)
}

/// A knob of the other flavour would turn nothing, nor would one of what is on its way between nodes.
fn check_knobs(options: &Options) -> Result<(), String> {
    if options.knobs.contains(&Knob::Unsent) {
        return Err(format!(
            "--knob {} turns nothing here: messages between these nodes take no time, so none is on its way when a node is struck",
            Knob::Unsent
        ));
    }
    match options.knobs.iter().find(|knob| knob.flavor() != options.flavor) {
        None => Ok(()),
        Some(knob) => Err(format!(
            "--knob {knob} is one of flavour {}, this is flavour {}; --knobs lists them",
            knob.flavor().name(),
            options.flavor.name()
        )),
    }
}

fn options(cli: &Cli) -> Options {
    Options {
        nodes: cli.nodes,
        listen: cli.listen,
        data_dir: cli.data.clone(),
        flavor: match cli.flavor {
            FlavorArg::Scylla => Flavor::Scylla,
            FlavorArg::Cassandra => Flavor::Cassandra,
        },
        knobs: cli.knob.iter().copied().collect(),
        commitlog_sync: match cli.commitlog_sync {
            SyncArg::Batch => CommitlogSync::Batch,
            SyncArg::Periodic => CommitlogSync::Periodic {
                period_ms: cli.commitlog_sync_period_ms,
            },
        },
        auth: None,
    }
}

/// Tells the person at the terminal.
fn tell(verbose: bool) -> Tell {
    Arc::new(move |notice: Notice| {
        if verbose || !notice.is_detail() {
            // Nobody reads it where standard error is closed.
            let _unread = writeln!(io::stderr(), "scylla-sim: {notice}");
        }
    })
}

/// Text for standard output, which may be closed: nobody reads it then.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _unread = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn started(cli: &Cli, cluster: &TcpCluster, control: Option<SocketAddr>, faults: usize, has_passwords: bool) -> String {
    let nodes = cluster.nodes();
    let first = nodes[0].address;
    let (ip, port) = (first.ip(), first.port());
    let sync = match cli.commitlog_sync {
        SyncArg::Batch => "before they are acknowledged".to_owned(),
        SyncArg::Periodic => format!("every {} ms", cli.commitlog_sync_period_ms),
    };
    let mut text = format!(
        "scylla-sim {}: {} of flavour {}\n    data in {}{}; writes reach the disk {sync}\n",
        env!("CARGO_PKG_VERSION"),
        match nodes.len() {
            1 => "1 node".to_owned(),
            n => format!("{n} nodes"),
        },
        options(cli).flavor.name(),
        cli.data.display(),
        if cluster.is_new() { " (new)" } else { "" },
    );
    for (i, node) in nodes.iter().enumerate() {
        text += &format!("    node {}: {}, generation {}\n", i + 1, node.address, node.generation);
    }
    if !cli.knob.is_empty() {
        let names = names(&options(cli).knobs);
        text += &format!("    undecided rules turned the other way: {names}\n");
    }
    if let Some(path) = &cli.plan {
        text += &format!("    {faults} faults from {}\n", path.display());
    }
    if let Some(address) = control {
        text += &format!("    control endpoint at http://{address}/\n");
    }
    text += &format!(
        "
Rust (scylla = \"1.9\"):
    let session = SessionBuilder::new().known_node(\"{first}\").build().await?;
Python (pip install cassandra-driver):
    from cassandra.cluster import Cluster
    session = Cluster([\"{ip}\"], port={port}).connect()
Java (org.apache.cassandra:java-driver-core:4.19.0):
    CqlSession.builder().addContactPoint(new InetSocketAddress(\"{ip}\", {port})).withLocalDatacenter(\"datacenter1\").build()
cqlsh (pip install cqlsh):
    cqlsh {ip} {port}
settlement.toml:
    contact_points = [\"{first}\"]

"
    );
    if !has_passwords && nodes.iter().any(|n| !n.address.ip().is_loopback()) {
        text += "Anyone who can reach these addresses can read and write everything: there is no authentication.\n";
    }
    text + "serving; Ctrl-C stops it in good order\n"
}

fn no_node_left(cluster: &TcpCluster) -> String {
    let reasons = cluster.nodes().into_iter().enumerate();
    let reasons: Vec<String> = reasons
        .filter_map(|(i, n)| n.halted.map(|why| format!("node {}: {why}", i + 1)))
        .collect();
    format!(
        "no node can go on ({}). Once the cause is gone, start it again: what is on the disk is kept",
        reasons.join("; ")
    )
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
