//! What `quench` and `quench-worker` say to each other: one JSON object per line, versioned. Plain data and serde only,
//! because the command includes this very file (it must start fast and therefore does not depend on the scenarios).
//! It runs nothing and formats nothing for people.
//!
//! The command writes [`ToWorker`] lines to the worker's standard input; each line is answered by exactly one
//! [`FromWorker`] line on its standard output, in order. The worker's standard error is for people.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this protocol. Both sides are built from one tree, so another version means a stale worker.
pub const VERSION: u32 = 1;

/// A line to the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToWorker {
    /// The greeting, answered by [`FromWorker::Ready`].
    Hello {
        /// The command's [`VERSION`].
        version: u32,
    },
    /// One piece of work, done in a child forked from the pristine worker.
    Job(Box<Job>),
}

/// One piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Chosen by the command, repeated in the answer. Never seen by the simulation.
    pub id: u64,
    /// Wall-clock bound, ms: a child that takes longer is killed and answered as [`Failed::Hung`].
    pub limit_ms: u64,
    /// What to do.
    pub work: Work,
}

/// What a job asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Work {
    /// What there is to run: answered by [`Answer::Catalog`].
    Catalog,
    /// Whether this could be run (scenario, design, plan, tape): answered by [`Answer::Checked`].
    Check(SeedJob),
    /// Run one seed: answered by [`Answer::Seed`].
    Seed(SeedJob),
    /// Run a scenario with real processes: answered by [`Answer::Seed`]. Only in the production build of the worker.
    Live(LiveJob),
    /// The worker's own determinism probes: answered by [`Answer::Probe`].
    Probe(ProbeJob),
    /// The worker's own micro-benchmarks: answered by [`Answer::Bench`].
    Bench {
        /// CPU time to spend on each measurement, ms.
        each_ms: u64,
    },
}

/// Everything that decides a run. The same `SeedJob` gives the same trace, wherever and whenever it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedJob {
    /// The seed.
    #[serde(with = "text_u64")]
    pub seed: u64,
    /// What to run.
    pub scenario: ScenarioSource,
    /// The settlement design; empty for the default one.
    pub design: String,
    /// Run this fault plan instead of the one that the seed draws.
    pub plan: Option<serde_json::Value>,
    /// Fault classes switched off.
    pub without: Vec<String>,
    /// Ways in which the simulated cluster is kinder than a real one (mutants of the cluster, not options of a product).
    pub kindness: Vec<String>,
    /// Absolute path of a tape that drives the engine instead of the generated workload.
    pub tape: Option<String>,
    /// Trades of the generated workload instead of what the scenario says.
    pub trades: Option<u32>,
    /// Keep every record of the trace, the high-rate kinds too, instead of hashing those only.
    pub record_all: bool,
    /// Write the kept records, one JSON line each, to this absolute path after the run.
    pub trace_file: Option<String>,
    /// The negative control of the determinism proof: draw once more than needed. The hash must change.
    pub extra_draw: bool,
}

/// A scenario with real processes against a real database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveJob {
    /// What is run; kindness and traces have no meaning here.
    pub run: SeedJob,
    /// Nodes of the database, `host:port`.
    pub contact: Vec<String>,
    /// The command that strikes database nodes, called with `kill|freeze|resume|revive N`, N from 1.
    pub node_control: Option<String>,
    /// Path of the `engine` program.
    pub engine: String,
    /// Path of the `settlement` program.
    pub settlement: String,
    /// Where configurations, logs, the engine's log and the WAL are.
    pub directory: String,
    /// Leave the keyspace and the directory as they are.
    pub keep: bool,
    /// Drop a keyspace that an earlier run of the same seed left.
    pub replace: bool,
}

/// Where a scenario comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScenarioSource {
    /// A name in the catalog.
    Named(String),
    /// The text of a scenario file, and what errors call it.
    Inline {
        /// The path that was given.
        origin: String,
        /// TOML.
        toml: String,
    },
}

impl Default for ScenarioSource {
    fn default() -> Self {
        ScenarioSource::Named(String::new())
    }
}

/// Which probes to run, and how often to draw in each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeJob {
    /// The simulation's seed.
    #[serde(with = "text_u64")]
    pub seed: u64,
    /// What the child does.
    pub behave: Behave,
    /// Ballast: a job of another size must not change what a run sees.
    #[serde(default)]
    pub ballast: String,
}

/// What a probing child does: the honest answer, or one of the ways in which a child goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behave {
    /// Draws from every source of process randomness inside a simulation and answers with what it saw.
    Honest,
    /// Loops for ever: the watchdog must end it.
    Hang,
    /// Panics in the seed's thread.
    Panic,
    /// Dies by a signal.
    Abort,
}

/// A line from the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromWorker {
    /// The answer to a greeting.
    Ready(Ready),
    /// The answer to a job.
    Result {
        /// The job's.
        id: u64,
        /// What came out.
        answer: Box<Answer>,
    },
    /// The child gave no answer.
    Failed {
        /// The job's; 0 if the child died before it had read its job.
        id: u64,
        /// How.
        failed: Failed,
    },
    /// The line was not understood.
    Refused {
        /// Why, and what to do.
        message: String,
    },
}

/// How a child ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Failed {
    /// Took longer than its limit and was killed.
    Hung {
        /// The limit that passed, ms.
        limit_ms: u64,
    },
    /// Died by a signal.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Exited without answering.
    Exit {
        /// Its code.
        code: i32,
    },
}

/// What a worker is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// The worker's [`VERSION`].
    pub version: u32,
    /// `sim` or `live`, as it was built.
    pub world: String,
    /// `release` or `debug`.
    pub profile: String,
    /// Versions of what decides a trace: quench, madsim, tokio, scylla, zeromq.
    pub versions: BTreeMap<String, String>,
    /// `off`, or why address randomisation is on.
    pub address_randomisation: String,
}

/// The answer to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant, reason = "built once per job and boxed at once")]
pub enum Answer {
    /// To [`Work::Seed`].
    Seed(SeedReport),
    /// To [`Work::Catalog`].
    Catalog(Catalog),
    /// To [`Work::Check`].
    Checked(Checked),
    /// To [`Work::Probe`].
    Probe {
        /// What each source of process randomness gave, in hex.
        drawn: BTreeMap<String, String>,
    },
    /// To [`Work::Bench`].
    Bench {
        /// Rates per CPU-second, by name.
        per_cpu_s: BTreeMap<String, u64>,
    },
    /// The work panicked or could not be done.
    Error {
        /// What happened, to what, and what to do.
        message: String,
    },
}

/// Whether a seed job could run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// It can; this is what it would be.
    Fine {
        /// The scenario as the catalog would list it.
        scenario: ScenarioInfo,
        /// The design that it would run, named.
        design: String,
    },
    /// It cannot.
    Bad {
        /// What is wrong and what would be right.
        message: String,
    },
}

/// What a worker can run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// In the order in which `quench run` goes through them.
    pub scenarios: Vec<ScenarioInfo>,
    /// Settlement designs, the default first.
    pub designs: Vec<NamedInfo>,
    /// The invariants, by number.
    pub invariants: Vec<InvariantInfo>,
    /// Fault classes.
    pub faults: Vec<NamedInfo>,
    /// Ways in which the simulated cluster can be made kinder than a real one.
    pub kindness: Vec<NamedInfo>,
    /// The scenario that a tape runs in when none is named.
    pub tape_scenario: String,
    /// The scenario that `quench bench` measures when none is named.
    pub bench_scenario: String,
}

/// A name and one sentence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedInfo {
    /// As the command line takes it.
    pub name: String,
    /// One sentence.
    pub about: String,
}

/// A scenario as people see it listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScenarioInfo {
    /// As the command line takes it.
    pub name: String,
    /// One sentence.
    pub about: String,
    /// The fault classes that it draws from.
    pub faults: Vec<String>,
    /// Seeds that a run gives it by default.
    pub seeds: u32,
    /// Share of inconclusive seeds that it tolerates, percent.
    pub inconclusive_max_percent: u32,
}

/// An invariant as people see it listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InvariantInfo {
    /// Its number.
    pub number: u32,
    /// A short name.
    pub name: String,
    /// What it says.
    pub about: String,
}

/// What one seed came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeedReport {
    /// The seed.
    #[serde(with = "text_u64")]
    pub seed: u64,
    /// The scenario's name.
    pub scenario: String,
    /// The design's name.
    pub design: String,
    /// What was found.
    pub verdict: Verdict,
    /// Which invariants were violated, the most telling first.
    pub violations: Vec<Violation>,
    /// The shortest timeline that explains the first violation, one line each, in simulated time.
    pub timeline: Vec<String>,
    /// What became of the money or the events, counted over the effects found wrong.
    pub causes: Causes,
    /// Every fault of the plan.
    pub faults: Vec<FaultOutcome>,
    /// The hash over the whole trace, 16 hex digits.
    pub trace_hash: String,
    /// Draws per labelled stream.
    pub draws: BTreeMap<String, u64>,
    /// What happened how often: `events`, `settled_trades`, `deliveries`, `disk_ops`, … (the first two always).
    pub counts: BTreeMap<String, u64>,
    /// Simulated time of the run, ms.
    pub sim_time_ms: u64,
    /// What a person should know besides.
    pub notes: Vec<String>,
    /// What became of the tape, where one drove the engine.
    #[serde(default)]
    pub tape: Option<TapeOutcome>,
    /// The plan that was run.
    pub plan: serde_json::Value,
    /// What it cost; the only part that may differ between two runs of one seed.
    pub cost: Cost,
}

/// What an importer made of a tape, and whether the settled rows say what its file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapeOutcome {
    /// The file's path.
    pub file: String,
    /// What is traded.
    pub symbol: String,
    /// How many messages the file has.
    pub messages: u64,
    /// What became of them, by type.
    pub types: Vec<TapeType>,
    /// Trades that the importer made.
    pub trades: u64,
    /// Commands that the engine accepted.
    pub commands: u64,
    /// Events that those cause.
    pub events: u64,
    /// Deposits that were made up, so that everybody can pay.
    pub deposits: u64,
    /// Orders that were placed because the file executes them and does not place them.
    pub orders_unplaced: u64,
    /// Orders taken back because executions passed them and the file never names them again.
    pub taken_back_unseen: u64,
    /// Resting orders made up because an execution found less than its size.
    pub restated: u64,
    /// Aggressors that were made up.
    pub aggressors: u64,
    /// Executions that price-time priority gave by itself.
    pub by_priority: u64,
    /// Executions that had to name their maker.
    pub by_name: u64,
    /// Messages with a time before the one of the message before them.
    pub out_of_order: u64,
    /// Messages of types 4 and 5 in the file, as the judge's own reader counts them.
    pub executions: u64,
    /// How many of them stand in the settled trades, at their place, with equal size and price.
    pub settled_equal: u64,
}

/// What became of the messages of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapeType {
    /// The type's number in the file.
    pub number: u8,
    /// What it is.
    pub name: String,
    /// How many there are.
    pub messages: u64,
    /// How many were carried out.
    pub replayed: u64,
    /// How many became a trade.
    pub trades: u64,
    /// How many were skipped, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// What a run cost. Never part of a trace or of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// CPU time of the child, microseconds.
    pub cpu_us: u64,
    /// Wall time of the child, microseconds.
    pub wall_us: u64,
    /// CPU time by stage (`setup`, `run`, `judge`, …), microseconds.
    pub stages_us: BTreeMap<String, u64>,
    /// Largest resident size of the child, KiB.
    pub peak_rss_kib: u64,
}

/// What was found about a seed. Ordered from best to worst for nothing: see the command's exit codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Verdict {
    /// Every invariant held.
    Pass,
    /// An invariant about the books was violated.
    Safety,
    /// Something did not come to its end within its bound.
    Liveness,
    /// The faults went beyond the budget: nothing can be said.
    #[default]
    Inconclusive,
    /// Two runs of one seed differed.
    NonDeterminism,
    /// The child did not end and was killed.
    Hung,
    /// The run broke down: a panic outside the programs under test, a crash of the child, a file that is not there.
    Error {
        /// What happened.
        message: String,
    },
}

/// One violated invariant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The invariant's number.
    pub invariant: u32,
    /// Its short name.
    pub name: String,
    /// What is wrong, in one sentence with names and amounts.
    pub text: String,
    /// The accounts concerned, expected against found.
    pub accounts: Vec<TAccount>,
}

/// One account of one asset: what the books should say against what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TAccount {
    /// For example `user 17`.
    pub owner: String,
    /// For example `USDT`.
    pub asset: String,
    /// Postings first, the balance last; amounts in units of the asset.
    pub lines: Vec<TLine>,
}

/// One line of a T-account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TLine {
    /// For example `trade 31 buys 0.5 BTC`, `available`.
    pub what: String,
    /// As the oracle says; empty where there should be nothing.
    pub expected: String,
    /// As the rows say; empty where there is nothing.
    pub found: String,
}

/// What became of effects that are wrong, as computed from the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Causes {
    /// Effects that are missing.
    pub lost: u64,
    /// Effects applied twice.
    pub doubled: u64,
    /// Effects overwritten by another's.
    pub clobbered: u64,
    /// Events of which only a part is there.
    pub partial: u64,
}

/// What became of one planned fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultOutcome {
    /// Its number in the plan.
    pub id: u32,
    /// Its class.
    pub class: String,
    /// Its moment came.
    pub fired: bool,
    /// It changed an outcome.
    pub bit: bool,
    /// What it did, to what, when.
    pub detail: String,
}

/// `u64` as decimal text: other people's JSON readers lose integers above 2^53. Numbers are accepted too.
pub mod text_u64 {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes decimal text.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads decimal text or a number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(n) => Ok(n),
            Either::Text(t) => t.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(value: &T) {
        let line = serde_json::to_string(value).unwrap();
        assert!(!line.contains('\n'), "one object per line");
        assert_eq!(&serde_json::from_str::<T>(&line).unwrap(), value, "{line}");
    }

    fn to_worker(work: Work) -> ToWorker {
        ToWorker::Job(Box::new(Job {
            id: 7,
            limit_ms: 60_000,
            work,
        }))
    }

    #[test]
    fn every_line_to_the_worker_survives_the_trip() {
        let seed = SeedJob {
            seed: u64::MAX,
            scenario: ScenarioSource::Inline {
                origin: "mine.toml".into(),
                toml: "a = 1\nb = 2\n".into(),
            },
            design: "ledger".into(),
            plan: Some(serde_json::json!({ "version": 1, "faults": [{ "id": u64::MAX }] })),
            without: vec!["pause".into()],
            extra_draw: true,
            ..SeedJob::default()
        };
        let probe = ProbeJob {
            seed: 1,
            behave: Behave::Hang,
            ballast: "x".repeat(9),
        };
        round_trip(&ToWorker::Hello { version: VERSION });
        for work in [
            Work::Catalog,
            Work::Check(seed.clone()),
            Work::Seed(seed),
            Work::Probe(probe),
            Work::Bench { each_ms: 1 },
        ] {
            round_trip(&to_worker(work));
        }
    }

    #[test]
    fn every_answer_survives_the_trip() {
        let report = SeedReport {
            seed: 1 << 60,
            verdict: Verdict::Error {
                message: "two\nlines".into(),
            },
            draws: BTreeMap::from([("links".into(), 3)]),
            ..SeedReport::default()
        };
        let bad = Checked::Bad {
            message: "no such design".into(),
        };
        for answer in [
            Answer::Seed(report),
            Answer::Catalog(Catalog::default()),
            Answer::Checked(bad),
            Answer::Error { message: String::new() },
        ] {
            round_trip(&FromWorker::Result {
                id: 1,
                answer: Box::new(answer),
            });
        }
        round_trip(&FromWorker::Ready(Ready::default()));
        round_trip(&FromWorker::Failed {
            id: 3,
            failed: Failed::Hung { limit_ms: 10 },
        });
        round_trip(&FromWorker::Refused {
            message: "stale".into(),
        });
    }

    #[test]
    fn a_seed_is_text_in_json_and_read_as_either() {
        let job = SeedJob {
            seed: u64::MAX,
            ..SeedJob::default()
        };
        let json = serde_json::to_value(&job).unwrap();
        assert_eq!(json["seed"], "18446744073709551615");
        let read: SeedJob = serde_json::from_str(r#"{"seed":12}"#).unwrap();
        assert_eq!(read.seed, 12);
        assert!(serde_json::from_str::<SeedJob>(r#"{"seed":"-1"}"#).is_err());
    }
}
