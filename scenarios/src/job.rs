//! From what the command asks for to what the runner can run: names resolved, files read, mistakes named. Everything
//! here happens before the simulated world exists.
use crate::invariants;
use crate::protocol::{Catalog, Checked, InvariantInfo, NamedInfo, ScenarioInfo, ScenarioSource, SeedJob};
use crate::scenario::{self, Scenario};
use crate::setup::{self, Addresses};
use engine::tape::{Tape, TapeSpec};
use faults::{Class, Plan};
use settlement::config::{ConfigError, DesignName};
use settlement::wal::Position;
use settlement_events::Registry;

/// The scenario that a tape runs in when none is named.
pub const TAPE_SCENARIO: &str = "everything";
/// The scenario that `quench bench` measures when none is named.
pub const BENCH_SCENARIO: &str = "steady";

/// A way in which the simulated cluster can be kinder than a real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kindness {
    /// A batch that fails leaves nothing behind.
    RollbackFailedBatch,
    /// Every write is on disk before it is acknowledged.
    FsyncEveryWrite,
}

const KINDNESS: [(Kindness, &str, &str); 2] = [
    (
        Kindness::RollbackFailedBatch,
        "rollback-failed-batch",
        "a batch that times out or fails is rolled back on every replica",
    ),
    (
        Kindness::FsyncEveryWrite,
        "fsync-every-write",
        "every write is on the node's disk before it is acknowledged",
    ),
];

/// A job with everything resolved.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The scenario, with the job's overrides in it.
    pub scenario: Scenario,
    /// The settlement design.
    pub design: DesignName,
    /// A plan given explicitly.
    pub plan: Option<Plan>,
    /// Classes switched off.
    pub without: Vec<Class>,
    /// Kindnesses of the cluster.
    pub kindness: Vec<Kindness>,
    /// The tape's bytes and its path.
    pub tape: Option<(String, Vec<u8>)>,
}

/// Resolves a job, or says what is wrong with it.
pub fn resolve(job: &SeedJob) -> Result<Resolved, String> {
    let mut scenario = match &job.scenario {
        ScenarioSource::Named(name) => scenario::by_name(name).map_err(|e| e.to_string())?,
        ScenarioSource::Inline { origin, toml } => Scenario::from_toml(toml, origin).map_err(|e| e.to_string())?,
    };
    if let Some(trades) = job.trades {
        scenario.workload.trades = trades;
        scenario.check(&scenario.name).map_err(|e| e.to_string())?;
    }
    let design = if job.design.is_empty() {
        DesignName::default()
    } else {
        job.design.parse().map_err(|e| {
            let known = DesignName::ALL.iter().map(|design| design.as_str());
            format!("{e}{}", scenario::meant(&job.design, known))
        })?
    };
    if design.needs_counters() {
        return Err(format!(
            "design {design} needs a real server: the simulator's judge does not read its counters. `settlement bench` compares it with the \
             others on one; `cargo quench list` names the designs that the simulated cluster can run"
        ));
    }
    let plan = match &job.plan {
        None => None,
        Some(value) => Some(Plan::from_json(&value.to_string()).map_err(|e| e.to_string())?),
    };
    let without = job.without.iter().map(|name| class(name)).collect::<Result<_, _>>()?;
    let kindness = job
        .kindness
        .iter()
        .map(|name| kindness(name))
        .collect::<Result<_, _>>()?;
    let tape = match &job.tape {
        None => None,
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| {
                format!("the tape {path} cannot be read: {e}. Name a LOBSTER message file, .csv or .csv.gz")
            })?;
            Some((path.clone(), bytes))
        }
    };
    Ok(Resolved {
        scenario,
        design,
        plan,
        without,
        kindness,
        tape,
    })
}

fn class(name: &str) -> Result<Class, String> {
    Class::parse(name).map_err(|error| {
        let known: Vec<String> = faults::class::ALL.iter().map(|info| info.class.name()).collect();
        let meant = scenario::meant(name, known.iter().map(String::as_str));
        format!("{error}{meant}")
    })
}

fn kindness(name: &str) -> Result<Kindness, String> {
    let known = || KINDNESS.map(|(_, name, _)| name).join(", ");
    let entry = KINDNESS.iter().find(|(_, known, _)| *known == name);
    entry
        .map(|(kindness, _, _)| *kindness)
        .ok_or_else(|| format!("unknown kindness `{name}`; there are: {}", known()))
}

/// Whether a job could run, and what it would be.
pub fn check(job: &SeedJob) -> Checked {
    match checked(job) {
        Ok(resolved) => Checked::Fine {
            scenario: info(&resolved.scenario),
            design: resolved.design.to_string(),
        },
        Err(message) => Checked::Bad { message },
    }
}

fn checked(job: &SeedJob) -> Result<Resolved, String> {
    let resolved = resolve(job)?;
    let registry = match &resolved.tape {
        None => Registry::example(),
        Some((path, bytes)) => {
            let tape = Tape::import(path, bytes, &TapeSpec::default()).map_err(|error| format!("{path}: {error}"))?;
            tape.registry.clone()
        }
    };
    let origin = match &job.scenario {
        ScenarioSource::Named(name) => name,
        ScenarioSource::Inline { origin, .. } => origin,
    };
    check_settlement(&resolved, &registry).map_err(|problem| format!("scenario {origin}: {problem}"))?;
    Ok(resolved)
}

/// Settlement's keys that a scenario sets, and what they are called there.
const KEYS: [(&str, &str); 3] = [
    ("limits.in_flight_max", "programs.in_flight_max"),
    ("limits.ready_max", "programs.ready_max"),
    ("durable.sync_period_ms", "cluster.commitlog_period_ms"),
];

/// Whether settlement would take its part of the scenario: what it refuses at its start would look like a settlement that
/// never gets on.
fn check_settlement(resolved: &Resolved, registry: &Registry) -> Result<(), String> {
    let anywhere = || "tcp://127.0.0.1:1".to_string();
    let addresses = Addresses {
        publish: anywhere(),
        replay: anywhere(),
    };
    let config = setup::settlement_config(resolved, registry, vec![anywhere()], "wal".as_ref(), &addresses);
    // Settlement says this too, in its own names.
    let wal = config.wal_config(Position::start_of(config.epoch));
    wal.check().map_err(|error| {
        format!(
            "programs.wal_segment_bytes is {} and programs.wal_max_bytes is {}, of which settlement's WAL cannot be made \
             ({error})",
            config.wal.segment_bytes, config.wal.max_bytes
        )
    })?;
    config.validate().map_err(|error| {
        let problems = match error {
            ConfigError::Invalid(problems) => problems.join("; "),
            other => other.to_string(),
        };
        KEYS.iter()
            .fold(problems, |text, (theirs, ours)| text.replace(theirs, ours))
    })
}

fn info(scenario: &Scenario) -> ScenarioInfo {
    ScenarioInfo {
        name: scenario.name.clone(),
        about: scenario.about.clone(),
        faults: scenario.classes().into_iter().map(Class::name).collect(),
        seeds: scenario.seeds,
        inconclusive_max_percent: scenario.inconclusive_max_percent,
    }
}

/// What there is to run.
pub fn catalog() -> Catalog {
    let scenarios = scenario::catalog().unwrap_or_default();
    Catalog {
        scenarios: scenarios.iter().map(info).collect(),
        designs: DesignName::ALL
            .iter()
            .map(|d| NamedInfo {
                name: d.to_string(),
                about: d.about().into(),
            })
            .collect(),
        invariants: invariants::ALL
            .iter()
            .map(|i| InvariantInfo {
                number: i.number,
                name: i.name.into(),
                about: i.about.into(),
            })
            .chain([crate::tape::info()])
            .collect(),
        faults: faults::class::ALL
            .iter()
            .map(|i| NamedInfo {
                name: i.class.name(),
                about: format!("{}; it has bitten when {}", i.about, i.bit_when),
            })
            .collect(),
        kindness: KINDNESS
            .iter()
            .map(|(_, name, about)| NamedInfo {
                name: (*name).into(),
                about: (*about).into(),
            })
            .collect(),
        tape_scenario: TAPE_SCENARIO.into(),
        bench_scenario: BENCH_SCENARIO.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::Path;

    fn told(job: SeedJob) -> String {
        match check(&job) {
            Checked::Bad { message } => message,
            Checked::Fine { scenario, design } => panic!("{design} in {} is fine", scenario.name),
        }
    }

    fn job() -> SeedJob {
        SeedJob {
            scenario: ScenarioSource::Named("steady".into()),
            ..SeedJob::default()
        }
    }

    #[test]
    fn unknown_names_list_what_there_is_and_suggest_what_was_meant() {
        let design = |name: &str| {
            told(SeedJob {
                design: name.into(),
                ..job()
            })
        };
        let without = |name: &str| {
            told(SeedJob {
                without: vec![name.into()],
                ..job()
            })
        };
        let kindness = |name: &str| {
            told(SeedJob {
                kindness: vec![name.into()],
                ..job()
            })
        };
        let trades = told(SeedJob {
            trades: Some(0),
            ..job()
        });
        let texts = [
            design("ledgr"),
            design("x"),
            design("sequential-delta"),
            without("proces-kill"),
            without(""),
            kindness("x"),
            trades,
        ];
        insta::assert_snapshot!("unknown_names", texts.join("\n\n"));
    }

    /// Bounds that a scenario may not give settlement, as a person reads it.
    #[test]
    fn what_settlement_would_refuse_is_told_before_the_first_seed() {
        let job = |programs: &str| SeedJob {
            scenario: ScenarioSource::Inline {
                origin: "mine.toml".into(),
                toml: format!("version = 1\nname = \"mine\"\nabout = \"Mine.\"\n[programs]\n{programs}\n"),
            },
            ..SeedJob::default()
        };
        let cases = [
            "in_flight_max = 1000000",
            "ready_max = 1000001",
            "in_flight_max = 4097\nready_max = 1000001",
            "wal_segment_bytes = 1000",
            "wal_segment_bytes = 1073741824",
            "wal_segment_bytes = 70000\nwal_max_bytes = 100000",
        ];
        let texts = cases.map(|programs| told(job(programs)));
        insta::assert_snapshot!("unfit_programs", texts.join("\n\n"));
        let fine = job("in_flight_max = 4096\nready_max = 1000000\nwal_segment_bytes = 70000");
        assert!(matches!(check(&fine), Checked::Fine { .. }));
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    /// Every tape that is none, as a person reads it. A tape is used whole or not at all.
    #[test]
    fn a_bad_tape_is_told_what_is_wrong_with_it() {
        const LINES: &str = "34200.1,1,77,10,33578400,-1\n34200.5,4,77,10,33578400,-1\n";
        let directory = tempfile::tempdir().expect("a directory");
        let told = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            told_of(&path)
        };
        let packed = gzip(LINES.repeat(500).as_bytes());
        let mut damaged = packed.clone();
        let last = damaged.len() - 6;
        damaged[last] ^= 0xff;
        let cut_line = LINES.trim_end().trim_end_matches(",-1").as_bytes();
        let cases = [
            ("empty.csv", told("empty.csv", b"")),
            ("empty.csv.gz", told("empty.csv.gz", b"")),
            ("empty text in gzip", told("empty-2.csv.gz", &gzip(b""))),
            (
                "only a header",
                told("header.csv", b"time,type,order id,size,price,direction\n"),
            ),
            (
                "gzip cut in the middle",
                told("cut.csv.gz", &packed[..packed.len() / 2]),
            ),
            (
                "gzip without its last byte",
                told("cut-2.csv.gz", &packed[..packed.len() - 1]),
            ),
            ("damaged gzip", told("damaged.csv.gz", &damaged)),
            ("a last line that is cut off", told("line.csv", cut_line)),
            ("not a text", told("garbage.csv", &[0x80, 7, 0, 10, 200, 13, 10, 0])),
            (
                "other columns",
                told(
                    "prices.csv.gz",
                    &gzip(b"date,open,high,low,close,volume\n2020-01-02,1,2,3,4,5\n"),
                ),
            ),
            ("no executions", told("quiet.csv", &LINES.as_bytes()[..28])),
            ("not there", told_of(&directory.path().join("missing.csv"))),
            ("a directory", told_of(directory.path())),
        ];
        let here = directory.path().to_str().expect("UTF-8");
        let texts: Vec<String> = cases
            .iter()
            .map(|(what, text)| format!("{what}:\n{}\n", text.replace(here, "DIR")))
            .collect();
        insta::assert_snapshot!("bad_tapes", texts.join("\n"));
        std::fs::write(directory.path().join("good.csv"), LINES).expect("written");
        let good = SeedJob {
            tape: Some(format!("{here}/good.csv")),
            ..job()
        };
        assert!(matches!(check(&good), Checked::Fine { .. }));
    }

    fn told_of(path: &Path) -> String {
        let tape = Some(path.to_str().expect("UTF-8").to_owned());
        told(SeedJob { tape, ..job() })
    }
}
