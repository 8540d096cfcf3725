//! From what the command asks for to what the runner can run: names resolved, files read, mistakes named. Everything
//! here happens before the simulated world exists.
use crate::invariants;
use crate::protocol::{Catalog, Checked, InvariantInfo, NamedInfo, ScenarioInfo, ScenarioSource, SeedJob};
use crate::scenario::{self, Scenario};
use engine::tape::{Tape, TapeSpec};
use faults::{Class, Plan};
use settlement::config::DesignName;

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
        scenario.workload.trades = trades.max(1);
    }
    let design = if job.design.is_empty() {
        DesignName::default()
    } else {
        job.design.parse().map_err(|e| format!("{e}"))?
    };
    let plan = match &job.plan {
        None => None,
        Some(value) => Some(Plan::from_json(&value.to_string()).map_err(|e| e.to_string())?),
    };
    let without = job
        .without
        .iter()
        .map(|name| Class::parse(name))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let kindness = job
        .kindness
        .iter()
        .map(|name| kindness(name))
        .collect::<Result<_, _>>()?;
    let tape = match &job.tape {
        None => None,
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| format!("the tape {path} cannot be read: {e}"))?;
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

fn kindness(name: &str) -> Result<Kindness, String> {
    let known = || KINDNESS.map(|(_, name, _)| name).join(", ");
    let entry = KINDNESS.iter().find(|(_, known, _)| *known == name);
    entry
        .map(|(kindness, _, _)| *kindness)
        .ok_or_else(|| format!("unknown kindness `{name}`; there are: {}", known()))
}

/// Whether a job could run, and what it would be.
pub fn check(job: &SeedJob) -> Checked {
    let resolved = match resolve(job) {
        Ok(resolved) => resolved,
        Err(message) => return Checked::Bad { message },
    };
    if let Some((path, bytes)) = &resolved.tape
        && let Err(error) = Tape::import(path, bytes, &TapeSpec::default())
    {
        return Checked::Bad {
            message: format!("the tape {path}: {error}"),
        };
    }
    Checked::Fine {
        scenario: info(&resolved.scenario),
        design: resolved.design.to_string(),
    }
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
