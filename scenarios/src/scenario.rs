//! A scenario as data: a TOML file in `scenarios/catalog/` (or any path) that says which workload runs on which cluster
//! under which faults. It holds no code; the runner does the same for every scenario. Unknown keys are errors, so that
//! a misspelt knob is never silently ignored.
use faults::Class;
use faults::draw::{Shape, Wish};
use serde::{Deserialize, Serialize};

/// The version of the file format that this build reads.
pub const SCENARIO_VERSION: u32 = 1;

/// One scenario file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Format version, [`SCENARIO_VERSION`].
    pub version: u32,
    /// Kebab-case, the file's own name.
    pub name: String,
    /// What it shows, for `quench list`.
    pub about: String,
    /// Seeds that `cargo quench run` gives it without `--seeds`.
    #[serde(default = "default_seeds")]
    pub seeds: u32,
    /// Share of inconclusive runs above which the scenario fails, in percent.
    #[serde(default = "default_inconclusive_percent")]
    pub inconclusive_max_percent: u32,
    /// What the matching engine is driven by.
    #[serde(default)]
    pub workload: Workload,
    /// The simulated cluster.
    #[serde(default)]
    pub cluster: Cluster,
    /// The faults, by class.
    #[serde(default)]
    pub faults: Vec<Wish>,
}

fn default_seeds() -> u32 {
    20
}

fn default_inconclusive_percent() -> u32 {
    5
}

/// The generated order flow. A tape on the command line takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Trades to produce.
    pub trades: u32,
    /// Users that trade.
    pub users: u32,
    /// Symbols traded.
    pub symbols: u32,
    /// Events published per simulated second.
    pub events_per_s: u32,
}

impl Default for Workload {
    fn default() -> Self {
        Workload {
            trades: 80,
            users: 12,
            symbols: 2,
            events_per_s: 20,
        }
    }
}

/// The simulated cluster of a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Database nodes, at least 3.
    pub nodes: u16,
    /// Replication factor of the keyspaces.
    pub replication_factor: u16,
    /// Which database it behaves like.
    pub flavor: Flavor,
    /// Commit log mode.
    pub commitlog_sync: CommitlogSync,
    /// Period of the periodic mode, ms (10,000 is the servers' default).
    pub commitlog_period_ms: u64,
    /// Each node's clock is off by up to this much, drawn, microseconds.
    pub clock_skew_max_us: u64,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            nodes: 3,
            replication_factor: 3,
            flavor: Flavor::Scylla,
            commitlog_sync: CommitlogSync::Periodic,
            commitlog_period_ms: 10_000,
            clock_skew_max_us: 500,
        }
    }
}

/// Which database the simulated cluster behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavor {
    /// ScyllaDB.
    Scylla,
    /// Apache Cassandra.
    Cassandra,
}

/// When a write is on the node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitlogSync {
    /// Every so often; an acknowledgement promises nothing about the disk.
    Periodic,
    /// Before the acknowledgement.
    Batch,
}

/// A scenario that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, or not a scenario.
    #[error("scenario {origin} is not readable: {reason}")]
    Unreadable {
        /// File or name.
        origin: String,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// Written for another version.
    #[error("scenario {origin} has version {found}, this build reads version {SCENARIO_VERSION}")]
    Version {
        /// File or name.
        origin: String,
        /// What the file says.
        found: u32,
    },
    /// A value out of its range.
    #[error("scenario {origin}: {what} is {found}, it must be {must}")]
    Range {
        /// File or name.
        origin: String,
        /// The key.
        what: &'static str,
        /// What the file says.
        found: u64,
        /// What is allowed.
        must: &'static str,
    },
    /// Its faults cannot be drawn.
    #[error("scenario {origin}: {source}")]
    Faults {
        /// File or name.
        origin: String,
        /// Why.
        source: faults::draw::DrawError,
    },
    /// No such name in the catalog.
    #[error("there is no scenario `{name}`; `cargo quench list` shows them: {known}. A path to a .toml file works too")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Scenario {
    /// Parses and checks a scenario; `origin` is what errors call it.
    pub fn from_toml(text: &str, origin: &str) -> Result<Scenario, ScenarioError> {
        let unreadable = |e: toml::de::Error| ScenarioError::Unreadable {
            origin: origin.into(),
            reason: e.to_string(),
        };
        let scenario: Scenario = toml::from_str(text).map_err(unreadable)?;
        scenario.check(origin)?;
        Ok(scenario)
    }

    fn check(&self, origin: &str) -> Result<(), ScenarioError> {
        if self.version != SCENARIO_VERSION {
            return Err(ScenarioError::Version {
                origin: origin.into(),
                found: self.version,
            });
        }
        let range = |what, found: u64, low: u64, high: u64, must| {
            if (low..=high).contains(&found) {
                Ok(())
            } else {
                Err(ScenarioError::Range {
                    origin: origin.into(),
                    what,
                    found,
                    must,
                })
            }
        };
        range(
            "workload.trades",
            self.workload.trades.into(),
            1,
            1_000_000,
            "1 to 1,000,000",
        )?;
        range("workload.users", self.workload.users.into(), 2, 100_000, "2 to 100,000")?;
        range("workload.symbols", self.workload.symbols.into(), 1, 16, "1 to 16")?;
        range(
            "workload.events_per_s",
            self.workload.events_per_s.into(),
            1,
            1_000_000,
            "1 to 1,000,000",
        )?;
        range("cluster.nodes", self.cluster.nodes.into(), 3, 9, "3 to 9")?;
        let nodes = self.cluster.nodes.into();
        range(
            "cluster.replication_factor",
            self.cluster.replication_factor.into(),
            3,
            nodes,
            "3 to cluster.nodes",
        )?;
        range(
            "cluster.commitlog_period_ms",
            self.cluster.commitlog_period_ms,
            1,
            600_000,
            "1 to 600,000",
        )?;
        range(
            "inconclusive_max_percent",
            self.inconclusive_max_percent.into(),
            0,
            100,
            "0 to 100",
        )?;
        range(
            "cluster.clock_skew_max_us",
            self.cluster.clock_skew_max_us,
            0,
            3_600_000_000,
            "at most an hour",
        )?;
        let shape = Shape {
            events: 1_000,
            first_event_ms: 0,
            last_event_ms: 1_000,
            nodes: self.cluster.nodes,
        };
        let probe = &mut sim_world::seed::Seed(0).stream("check");
        faults::draw::draw(&self.faults, shape, probe)
            .map(drop)
            .map_err(|source| ScenarioError::Faults {
                origin: origin.into(),
                source,
            })
    }

    /// The classes it asks for, without repeats, in the file's order.
    pub fn classes(&self) -> Vec<Class> {
        let mut classes = Vec::new();
        for wish in &self.faults {
            if !classes.contains(&wish.class) {
                classes.push(wish.class);
            }
        }
        classes
    }
}

macro_rules! catalog {
    ($($name:literal),* $(,)?) => {
        /// The catalog's files, in the order in which `quench run` goes through them.
        const CATALOG: &[(&str, &str)] = &[$(($name, include_str!(concat!("../catalog/", $name, ".toml")))),*];
    };
}
// One line per scenario: the only place to touch besides the file itself.
catalog![
    "crash-before-batch",
    "mid-batch-timeout",
    "duplicate-delivery",
    "sequence-gap",
    "crash-after-batch",
    "coordinator-loss",
    "refused-event",
    "engine-crash",
    "process-kill",
    "power-loss",
    "power-loss-all",
    "pause",
    "partition",
    "disk-trouble",
    "everything",
    "steady",
];

/// Every scenario of the catalog, checked.
pub fn catalog() -> Result<Vec<Scenario>, ScenarioError> {
    CATALOG
        .iter()
        .map(|(name, text)| Scenario::from_toml(text, name))
        .collect()
}

/// The scenario of that name.
pub fn by_name(name: &str) -> Result<Scenario, ScenarioError> {
    let known = || CATALOG.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let entry = CATALOG.iter().find(|(known, _)| *known == name);
    let (_, text) = entry.ok_or_else(|| ScenarioError::Unknown {
        name: name.into(),
        known: known(),
    })?;
    Scenario::from_toml(text, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_scenario_named_as_its_file_and_the_four_of_the_source_come_first() {
        let all = catalog().unwrap();
        for ((file, _), scenario) in CATALOG.iter().zip(&all) {
            assert_eq!(*file, scenario.name);
        }
        let first: Vec<_> = all[..4].iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            first,
            [
                "crash-before-batch",
                "mid-batch-timeout",
                "duplicate-delivery",
                "sequence-gap"
            ]
        );
        assert!(all[..4].iter().all(|s| s.inconclusive_max_percent == 0));
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/catalog"))
            .unwrap()
            .count();
        assert_eq!(
            files,
            CATALOG.len(),
            "a file in the catalog without its line, or the other way round"
        );
    }

    #[test]
    fn every_fault_class_is_in_some_scenario() {
        let all = catalog().unwrap();
        for info in faults::class::ALL {
            assert!(
                all.iter().any(|s| s.classes().contains(&info.class)),
                "{} is in none",
                info.class.name()
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        let base = CATALOG[0].1;
        let text = |s: &str| Scenario::from_toml(s, "mine.toml").unwrap_err().to_string();
        assert!(text(&base.replace("trades", "tradez")).contains("tradez"));
        assert!(text(&base.replace("crash-before-batch\"\n", "gremlins\"\n")).contains("gremlins"));
        assert!(text(&format!("{base}\n[cluster]\nnodes = 2\n")).contains("cluster.nodes is 2, it must be 3 to 9"));
        assert!(by_name("nope").unwrap_err().to_string().contains("mid-batch-timeout"));
    }
}
