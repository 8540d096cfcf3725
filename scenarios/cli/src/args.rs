//! The command line: what can be asked, and the help that teaches it. It parses and explains; it does nothing.
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const LONG_ABOUT: &str = "\
Runs your settlement service, with its own database driver, in a simulated world where every fault is drawn from a seed,
and checks the books afterwards. The same seed gives the same run, down to the byte.";

const EXAMPLES: &str = "\
Examples:
  cargo quench run                                     every scenario, some seeds each
  cargo quench run --scenario mid-batch-timeout --seeds 200
  cargo quench run --design logged-rmw                 a design that loses money: see how
  cargo quench run --seed $(git rev-parse HEAD)        other seeds with every commit
  cargo quench replay target/quench/failures/FILE      the same failure again, checked by its trace hash
  cargo quench list                                    scenarios, designs, invariants, faults, planted bugs
  cargo quench live --contact 10.0.0.1:9042            real processes against your own database

Exit codes:
  0 pass   1 usage or breakdown   10 safety   11 liveness   12 non-determinism   13 inconclusive   14 hung";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "quench",
    bin_name = "cargo quench",
    version,
    about = "Can any crash, timeout, duplicate, gap or lying disk make our books wrong?",
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    max_term_width = 120
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios over many seeds and judge the books
    Run(RunArgs),
    /// Run the plan of a saved failure again and check that it fails identically
    Replay(ReplayArgs),
    /// Run a scenario with real processes against a real database, and judge it by the same books
    Live(LiveArgs),
    /// Show scenarios, designs, invariants, fault classes and planted bugs
    List(ListArgs),
    /// Prove that a seed decides everything: run it under perturbations and compare whole traces
    Determinism(DeterminismArgs),
    /// Measure the speed of whole seeds, and of the simulated network and disk
    Bench(BenchArgs),
    /// Plant known bugs into a copy of the tree and show which invariant catches each
    Canary(CanaryArgs),
}

/// How work is done, for every command that runs seeds.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Worker processes; each runs one seed at a time [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Use a debug build of the worker (ten times slower, overflow checks, quick to build)
    #[arg(long)]
    pub debug_build: bool,
    /// Wall-clock bound of one seed, in seconds; a seed that takes longer is killed and reported as hung
    /// [default: 120, ten times as much for a tape and for a debug build]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub limit: Option<u64>,
}

impl WorkerArgs {
    /// The wall-clock bound of one seed, ms. A tape has thousands of trades and a debug build is ten times slower.
    pub fn limit_ms(&self, tape: bool, debug: bool) -> u64 {
        const PLAIN_S: u64 = 120;
        let factor = |slow| if slow { 10 } else { 1 };
        self.limit
            .unwrap_or(PLAIN_S * factor(tape) * factor(debug))
            .saturating_mul(1_000)
    }
}

/// What of a world is changed, for every command that runs seeds.
#[derive(Clone, Debug, Default, Args)]
pub struct WorldArgs {
    /// Switch a fault class off (repeatable; `cargo quench list` shows them)
    #[arg(long, value_name = "CLASS")]
    pub without: Vec<String>,
    /// Make the simulated cluster kinder than a real one, to see what the harness then misses (repeatable)
    #[arg(long, value_name = "KIND")]
    pub kindness: Vec<String>,
    /// Drive the engine by a LOBSTER message file (.csv or .csv.gz) instead of a generated workload
    #[arg(long, value_name = "FILE")]
    pub tape: Option<PathBuf>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  cargo quench run --scenario power-loss-all --seeds 500 --workers 8
  cargo quench run --scenario my-scenario.toml         a file of your own
  cargo quench run --scenario mid-batch-timeout --design logged-rmw --seeds 200
  cargo quench run --scenario mid-batch-timeout --design logged-rmw --without timeout-executed-late
  cargo quench run --tape messages.csv.gz              real order flow instead of a generated one
  cargo quench run --plan target/quench/failures/FILE --scenario everything --seed 7 --seeds 1

A failure prints seed, plan, the violated invariant with its accounts and the timeline that explains it. It is saved as
JSON, and the very last line of the output is the command that shows it again.";

/// `run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// A scenario by name, or a .toml file (repeatable) [default: the whole catalog]
    #[arg(long, value_name = "S")]
    pub scenario: Vec<String>,
    /// The settlement design [default: ledger]
    #[arg(long, value_name = "D", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub design: Option<String>,
    /// Seeds per scenario [default: as the scenario says, 5 with --tape]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: Option<u64>,
    /// The first seed: decimal, 0x and hex digits, or a git commit hash; the others follow it
    #[arg(long, value_name = "X", default_value = "1")]
    pub seed: String,
    /// Run this fault plan instead of what the seed draws (a plan, or a saved failure that holds one)
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// What to change in the world.
    #[command(flatten)]
    pub world: WorldArgs,
    /// How to run.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Write a JUnit XML report
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Where failures are saved [default: target/quench]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Share of inconclusive seeds that is tolerated, in percent [default: as the scenario says]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    pub max_inconclusive: Option<u32>,
}

/// `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cargo quench replay target/quench/failures/mid-batch-timeout-logged-rmw-137.json

It ends with the exit code of the failure when the failure is there again, with 12 when the same build runs differently,
and with 0 when another build no longer fails.")]
pub struct ReplayArgs {
    /// The saved failure
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// How to run.
    #[command(flatten)]
    pub worker: WorkerArgs,
}

const LIVE_EXAMPLES: &str = "\
The production builds of the engine and of settlement run as processes on this machine, against a database that is
already there. Settlement is killed with -9 and stopped under load; database nodes too, if --node-control says how:
it is called as `COMMAND kill|freeze|resume|revive N`, N from 1 in the order of addresses.

It makes a keyspace of its own, quench_live_<design>_<seed>, never touches another, and drops it when all is well.
A user and a password come from SETTLEMENT_CREDENTIALS__USER and SETTLEMENT_CREDENTIALS__PASSWORD.

Examples:
  cargo quench live --contact 127.0.0.1:9042
  cargo quench live --contact 127.0.0.1:9042 --node-control ci/cassandra
  cargo quench live --contact 10.0.0.1,10.0.0.2 --scenario process-kill --seed 7 --trades 500
  cargo quench live --contact 127.0.0.1:9042 --node-control ci/cassandra --design logged-rmw";

/// `live`.
#[derive(Debug, Args)]
#[command(after_help = LIVE_EXAMPLES)]
pub struct LiveArgs {
    /// Nodes of the database; port 9042 if none is given (repeatable, or with commas)
    #[arg(long, value_name = "HOST[:PORT]", required = true, value_delimiter = ',')]
    pub contact: Vec<String>,
    /// The command that strikes database nodes; without it they are left alone
    #[arg(long, value_name = "COMMAND")]
    pub node_control: Option<String>,
    /// A scenario by name, or a .toml file
    #[arg(long, value_name = "S", default_value = "killed-under-load")]
    pub scenario: String,
    /// The settlement design [default: ledger]
    #[arg(long, value_name = "D", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub design: Option<String>,
    /// The seed that workload and plan are drawn from: decimal, 0x and hex digits, or a git commit hash
    #[arg(long, value_name = "X", default_value = "1")]
    pub seed: String,
    /// Trades of the workload [default: as the scenario says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub trades: Option<u32>,
    /// Switch a fault class off (repeatable)
    #[arg(long, value_name = "CLASS")]
    pub without: Vec<String>,
    /// Run this fault plan instead of what the seed draws (a plan, or a saved failure that holds one)
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Leave the keyspace, the logs and the WAL as they are, whatever comes out
    #[arg(long)]
    pub keep: bool,
    /// Drop the keyspace that an earlier run of this seed has left
    #[arg(long)]
    pub replace: bool,
    /// Use debug builds of the programs (quick to build)
    #[arg(long)]
    pub debug_build: bool,
    /// Wall-clock bound of the run, in seconds
    #[arg(long, value_name = "S", default_value_t = 1_800, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub limit: u64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where failures are saved [default: target/quench]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Use a debug build of the worker
    #[arg(long)]
    pub debug_build: bool,
}

/// `determinism`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each seed of each scenario runs alone and as the n-th, with one worker and with two, with a large environment, in a
release build and in a debug build; the whole reports and the hashes over the whole traces must be identical. As a
negative control one draw is added on purpose, and must be noticed.

Example:
  cargo quench determinism --seeds 100 --scenario everything")]
pub struct DeterminismArgs {
    /// A scenario by name, or a .toml file (repeatable) [default: the whole catalog]
    #[arg(long, value_name = "S")]
    pub scenario: Vec<String>,
    /// The settlement design [default: ledger]
    #[arg(long, value_name = "D", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub design: Option<String>,
    /// Seeds per scenario
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed
    #[arg(long, value_name = "X", default_value = "1")]
    pub seed: String,
    /// Leave the debug build out (it has to be built, and is slow)
    #[arg(long)]
    pub no_debug: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Wall-clock bound of one seed, in seconds
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub limit: u64,
}

/// `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rates are per second of CPU time, forks, set-up, teardown and all invariants included.

Example:
  cargo quench bench --json | jq .settled_trades_per_cpu_s")]
pub struct BenchArgs {
    /// The scenario to measure [default: as the worker says]
    #[arg(long, value_name = "S")]
    pub scenario: Option<String>,
    /// The settlement design [default: ledger]
    #[arg(long, value_name = "D", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub design: Option<String>,
    /// Seeds to measure
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Trades per seed
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub trades: u32,
    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: u16,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `canary`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each file of scenarios/planted/ is a patch that plants one bug and names the invariant that must catch it. The tree is
copied to target/quench/canary/ first; yours is not touched. Seeds are run in rounds of 20, until the bug is caught.

Example:
  cargo quench canary --bug checkpoint-before-ack --seeds 50")]
pub struct CanaryArgs {
    /// A planted bug by name (repeatable) [default: all]
    #[arg(long, value_name = "NAME")]
    pub bug: Vec<String>,
    /// Seeds within which each bug must be caught
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed
    #[arg(long, value_name = "X", default_value = "1")]
    pub seed: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// How to run.
    #[command(flatten)]
    pub worker: WorkerArgs,
}

/// `5` and `5%` are both five percent.
fn parse_percent(text: &str) -> Result<u32, String> {
    match text.strip_suffix('%').unwrap_or(text).parse() {
        Ok(percent) if percent <= 100 => Ok(percent),
        _ => Err("a whole number of percent from 0 to 100".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn help_texts() {
        let mut command = CommandLine::command().term_width(120);
        command.build();
        insta::assert_snapshot!("help", command.render_long_help());
        for name in ["run", "replay", "live", "list", "determinism", "bench", "canary"] {
            let sub = command.find_subcommand_mut(name).unwrap();
            insta::assert_snapshot!(format!("help_{name}"), sub.render_long_help());
        }
    }

    #[test]
    fn what_is_slow_gets_more_time_unless_told_otherwise() {
        let arguments = |limit| WorkerArgs {
            workers: None,
            debug_build: false,
            limit,
        };
        assert_eq!(arguments(None).limit_ms(false, false), 120_000);
        assert_eq!(arguments(None).limit_ms(true, false), 1_200_000);
        assert_eq!(arguments(None).limit_ms(true, true), 12_000_000);
        assert_eq!(arguments(Some(7)).limit_ms(true, true), 7_000);
    }

    #[test]
    fn a_percentage_may_have_its_sign() {
        let parsed = |text| match CommandLine::try_parse_from(["quench", "run", "--max-inconclusive", text]) {
            Ok(CommandLine {
                command: Command::Run(run),
            }) => run.max_inconclusive,
            _ => None,
        };
        assert_eq!(parsed("5%"), Some(5));
        assert_eq!(parsed("5"), Some(5));
        assert_eq!(parsed("101"), None);
    }
}
