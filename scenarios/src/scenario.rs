//! A scenario as data: a TOML file in `scenarios/catalog/` (or any path) that says which workload runs on which cluster
//! under which faults. It holds no code; the runner does the same for every scenario. Unknown keys are errors, so that
//! a misspelt knob is never silently ignored.
use crate::knobs::Knobs;
use faults::Class;
use faults::draw::{Shape, Wish};
use serde::{Deserialize, Serialize};
use settlement_events::Registry;

/// The version of the file format that this build reads.
pub const SCENARIO_VERSION: u32 = 1;
/// The longest name of a scenario.
const NAME_LEN_MAX: usize = 64;
/// Simulated seconds that publishing may take; a run as a whole is bounded by four hours.
pub const PUBLISH_S_MAX: u64 = 3_600;
/// Events of a workload per trade, about: its orders, its cancels and itself.
const EVENTS_PER_TRADE: u64 = 4;
/// Faults of one class in one seed. Beyond it every draw is outside the budget, and a misplaced zero would draw for hours.
const FAULTS_MAX: u64 = 1_000;
/// The longest period of a commit log, ms. What is acknowledged last must be durable within the bound of liveness: two
/// rounds of waiting for a period (a node that went down with the last fault has everything sent again), and the database's
/// coming back before them.
const COMMITLOG_PERIOD_MS_MAX: u64 = 60_000;
/// The longest fault, ms: an hour.
const FAULT_MS_MAX: u64 = 3_600_000;

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
    /// Bounds of the programs.
    #[serde(default)]
    pub programs: Programs,
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
    /// Which rules that no source decides turn out the other way: `drawn`, `none`, or names.
    pub knobs: Knobs,
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
            knobs: Knobs::Drawn,
        }
    }
}

/// Bounds of settlement and of the engine that are tighter than their defaults, so that a run of seconds reaches them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Programs {
    /// Settlement's batches in flight.
    pub in_flight_max: Option<u32>,
    /// Settlement's events that wait in memory.
    pub ready_max: Option<u32>,
    /// Events beyond a gap that settlement takes.
    pub ahead_max: Option<u32>,
    /// Users, orders and trades that settlement's verification remembers.
    pub verify_entries_max: Option<u32>,
    /// Bytes of a file of settlement's WAL: only whole files are forgotten.
    pub wal_segment_bytes: Option<u32>,
    /// Bytes of all of them: what does not fit waits outside.
    pub wal_max_bytes: Option<u32>,
    /// Events that the engine keeps for replay; older ones are refused.
    pub retention_events: Option<u32>,
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
    #[error("scenario {origin} cannot be read, nothing was run: {reason}")]
    Unreadable {
        /// File or name.
        origin: String,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// Written for another version.
    #[error(
        "scenario {origin} has version {found}, this build reads version {SCENARIO_VERSION}: run it with the build it \
         was written for, or bring it to this version (README.md has a scenario in ten lines)"
    )]
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
        must: String,
    },
    /// A knob that would turn nothing.
    #[error(
        "scenario {origin}: cluster.knobs names {knob}, a rule of flavour {of}, and cluster.flavor is {flavor}: \
         `scylla-sim --knobs` lists them by flavour"
    )]
    Knob {
        /// File or name.
        origin: String,
        /// The knob.
        knob: &'static str,
        /// Its flavour.
        of: &'static str,
        /// The scenario's.
        flavor: &'static str,
    },
    /// A name that cannot be one.
    #[error(
        "scenario {origin}: name is {found:?}, it must be 1 to {NAME_LEN_MAX} letters, digits, `-` and `_`: reports and saved \
         failures are named after it"
    )]
    Name {
        /// File or name.
        origin: String,
        /// What the file says.
        found: String,
    },
    /// A workload that takes longer than a run may.
    #[error(
        "scenario {origin}: workload.trades {trades} at workload.events_per_s {events_per_s} publish for about {seconds} \
         simulated seconds, and a run may take {PUBLISH_S_MAX}: fewer trades, or more events per second"
    )]
    TooLong {
        /// File or name.
        origin: String,
        /// Trades asked for.
        trades: u32,
        /// Their pace.
        events_per_s: u32,
        /// What that makes.
        seconds: u64,
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
    #[error(
        "there is no scenario `{name}`{meant}; `cargo quench list` shows them: {known}. A path to a .toml file works too"
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// What may have been meant, in words.
        meant: String,
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

    /// Whether it can be run; `origin` is what errors call it.
    pub(crate) fn check(&self, origin: &str) -> Result<(), ScenarioError> {
        if self.version != SCENARIO_VERSION {
            return Err(ScenarioError::Version {
                origin: origin.into(),
                found: self.version,
            });
        }
        let range = |what, found: u64, low: u64, high: u64, must: &str| {
            if (low..=high).contains(&found) {
                Ok(())
            } else {
                Err(ScenarioError::Range {
                    origin: origin.into(),
                    what,
                    found,
                    must: must.into(),
                })
            }
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > NAME_LEN_MAX || !self.name.chars().all(legal) {
            return Err(ScenarioError::Name {
                origin: origin.into(),
                found: self.name.clone(),
            });
        }
        range("seeds", self.seeds.into(), 1, 1_000_000, "1 to 1,000,000")?;
        range(
            "workload.trades",
            self.workload.trades.into(),
            1,
            1_000_000,
            "1 to 1,000,000",
        )?;
        range("workload.users", self.workload.users.into(), 2, 100_000, "2 to 100,000")?;
        let symbols = Registry::example().symbols().len() as u64;
        range(
            "workload.symbols",
            self.workload.symbols.into(),
            1,
            symbols,
            &format!("1 to {symbols}, as many as there are"),
        )?;
        range(
            "workload.events_per_s",
            self.workload.events_per_s.into(),
            1,
            1_000_000,
            "1 to 1,000,000",
        )?;
        self.check_duration(origin)?;
        let programs = [
            ("programs.in_flight_max", self.programs.in_flight_max),
            ("programs.ready_max", self.programs.ready_max),
            ("programs.ahead_max", self.programs.ahead_max),
            ("programs.verify_entries_max", self.programs.verify_entries_max),
            ("programs.wal_segment_bytes", self.programs.wal_segment_bytes),
            ("programs.wal_max_bytes", self.programs.wal_max_bytes),
            ("programs.retention_events", self.programs.retention_events),
        ];
        for (what, value) in programs {
            range(what, value.unwrap_or(1).into(), 1, 1 << 30, "1 to 1,073,741,824")?;
        }
        let takes = [Class::DiskLost, Class::DiskRot];
        if let Some(found) = self.programs.retention_events
            && self.classes().iter().any(|class| takes.contains(class))
        {
            return Err(ScenarioError::Range {
                origin: origin.into(),
                what: "programs.retention_events",
                found: found.into(),
                must:
                    "left out beside disk-lost and disk-rot: what both the WAL and the engine have forgotten nobody has"
                        .into(),
            });
        }
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
            COMMITLOG_PERIOD_MS_MAX,
            "1 to 60,000, so that everything can become durable within the 180 s that a run waits for it",
        )?;
        range(
            "inconclusive_max_percent",
            self.inconclusive_max_percent.into(),
            0,
            100,
            "0 to 100",
        )?;
        let flavor = match self.cluster.flavor {
            Flavor::Scylla => sim_cluster::core::Flavor::Scylla,
            Flavor::Cassandra => sim_cluster::core::Flavor::Cassandra,
        };
        if let Some(knob) = self.cluster.knobs.foreign(flavor) {
            return Err(ScenarioError::Knob {
                origin: origin.into(),
                knob: knob.name(),
                of: knob.flavor().name(),
                flavor: flavor.name(),
            });
        }
        range(
            "cluster.clock_skew_max_us",
            self.cluster.clock_skew_max_us,
            0,
            3_600_000_000,
            "at most an hour",
        )?;
        for wish in &self.faults {
            range("faults.count", wish.count[1].into(), 0, FAULTS_MAX, "at most 1,000")?;
            let longest = wish.duration_ms.map_or(0, |[_, longest]| longest);
            range(
                "faults.duration_ms",
                longest,
                0,
                FAULT_MS_MAX,
                "at most 3,600,000, an hour",
            )?;
        }
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

    /// Whether publishing ends within what a run may take.
    fn check_duration(&self, origin: &str) -> Result<(), ScenarioError> {
        let Workload {
            trades,
            users,
            events_per_s,
            ..
        } = self.workload;
        // Every user begins with a deposit per asset or so.
        let events = u64::from(trades) * EVENTS_PER_TRADE + u64::from(users) * 2;
        let seconds = events / u64::from(events_per_s);
        if seconds <= PUBLISH_S_MAX {
            return Ok(());
        }
        Err(ScenarioError::TooLong {
            origin: origin.into(),
            trades,
            events_per_s,
            seconds,
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
    "damaged-delivery",
    "forged-delivery",
    "crash-after-batch",
    "coordinator-loss",
    "refused-event",
    "engine-crash",
    "process-kill",
    "power-loss",
    "power-loss-all",
    "power-loss-database",
    "long-outage",
    "pause",
    "partition",
    "disk-trouble",
    "disk-loss",
    "catch-up",
    "retention",
    "missing-events",
    "full-wal",
    "killed-under-load",
    "frozen-node",
    "rejected-batch",
    "lying-database",
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
        meant: meant(name, CATALOG.iter().map(|(name, _)| *name)),
        known: known(),
    })?;
    Scenario::from_toml(text, name)
}

/// ", did you mean `…`?" for names that are nearly the one asked for; nothing if none is.
pub fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near: Vec<String> = known
        .filter(|known| is_near(name, known))
        .map(|known| format!("`{known}`"))
        .collect();
    if near.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", near.join(" or "))
    }
}

/// Whether a few typing errors lie between the two, or one begins with the other.
fn is_near(name: &str, known: &str) -> bool {
    let begins = name.len() >= 3 && (known.starts_with(name) || name.starts_with(known));
    begins || (!name.is_empty() && distance(&name.to_lowercase(), known) <= 1 + known.len() / 6)
}

/// Characters to insert, drop or replace to get from one to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::LIVENESS_BOUND_MS;

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
        // The ledger has no conditional write, no view and no timestamp of the server: `tests/lying.rs` shows these.
        let elsewhere = [Class::PaxosForgotten, Class::ViewUpdatesLost, Class::ClockAhead];
        for info in faults::class::ALL
            .iter()
            .filter(|info| !elsewhere.contains(&info.class))
        {
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

    /// Everything that can be wrong with a file, as a person reads it.
    #[test]
    fn a_bad_file_is_told_what_is_wrong_with_it() {
        const GOOD: &str = "version = 1\nname = \"mine\"\nabout = \"Mine.\"\n[workload]\ntrades = 10\n\
                            [[faults]]\nclass = \"process-kill\"\n";
        assert!(Scenario::from_toml(GOOD, "mine.toml").is_ok());
        let replaced = |from: &str, to: &str| {
            assert!(GOOD.contains(from), "{from}");
            GOOD.replace(from, to)
        };
        let trades = |to: &str| replaced("trades = 10", to);
        let cluster = |text: &str| format!("{GOOD}[cluster]\n{text}\n");
        let cases = [
            ("empty", String::new()),
            ("not TOML", replaced("\"mine\"", "\"mine")),
            ("unknown field", trades("tradez = 10")),
            ("unknown class", replaced("process-kill", "proces-kill")),
            ("another version", replaced("version = 1", "version = 2")),
            ("no name", replaced("\"mine\"", "\"\"")),
            ("a name that is a path", replaced("\"mine\"", "\"../../mine\"")),
            ("no seeds", replaced("version = 1", "version = 1\nseeds = 0")),
            ("no trades", trades("trades = 0")),
            ("too many trades", trades("trades = 1000001")),
            ("more trades than a number holds", trades("trades = 99999999999999")),
            ("negative trades", trades("trades = -5")),
            ("trades that take days", trades("trades = 1000000")),
            ("no pace", trades("trades = 10\nevents_per_s = 0")),
            ("no users", trades("trades = 10\nusers = 0")),
            ("more symbols than there are", trades("trades = 10\nsymbols = 4")),
            ("more replicas than nodes", cluster("nodes = 3\nreplication_factor = 5")),
            ("no replica", cluster("replication_factor = 0")),
            ("too few nodes", cluster("nodes = 2")),
            (
                "a knob of the other flavour",
                cluster("knobs = \"paxos_minds_truncation\""),
            ),
            ("an unknown knob", cluster("knobs = \"reset_is_failure, soon\"")),
            ("a commit log that is never synced", cluster("commitlog_period_ms = 0")),
            (
                "a commit log that is hardly synced",
                cluster("commitlog_period_ms = 60001"),
            ),
            ("a count upside down", format!("{GOOD}count = [5, 1]\n")),
            ("a count beyond reason", format!("{GOOD}count = [0, 4000000]\n")),
            ("a fault of days", format!("{GOOD}duration_ms = [0, 999999999]\n")),
            (
                "events that nobody has",
                replaced("process-kill", "disk-lost") + "[programs]\nretention_events = 10\n",
            ),
            ("an unknown target", format!("{GOOD}target = \"nod\"\n")),
        ];
        let told: Vec<String> = cases
            .iter()
            .map(|(what, text)| {
                let error = Scenario::from_toml(text, "mine.toml").expect_err(what);
                format!("{what}:\n{}\n", error.to_string().trim_end())
            })
            .collect();
        insta::assert_snapshot!("bad_scenarios", told.join("\n"));
    }

    #[test]
    fn everything_can_be_durable_in_time_with_the_longest_period() {
        /// After a node is back: noticed by the others and by the driver, and what waited is written.
        const RETURN_MS: u64 = 40_000;
        let durable = settlement::config::Durable::default();
        let settle_ms = COMMITLOG_PERIOD_MS_MAX + durable.slack_ms;
        // Acknowledgements within a twentieth of the time share a mark, which waits for the last of them.
        let round_ms = settle_ms + settle_ms / 20 + durable.probe_interval_ms + durable.probe_timeout_ms;
        assert!(RETURN_MS + 2 * round_ms <= LIVENESS_BOUND_MS, "{round_ms} ms twice");
        assert_eq!(LIVENESS_BOUND_MS, 180_000, "which the error says");
    }

    #[test]
    fn a_name_that_is_nearly_one_is_suggested() {
        let told = |name: &str| by_name(name).expect_err(name).to_string();
        for (name, meant) in [
            ("mid-batch-timeot", "(did you mean `mid-batch-timeout`?)"),
            (
                "power-los",
                "(did you mean `power-loss` or `power-loss-all` or `power-loss-database`?)",
            ),
            ("Steady", "(did you mean `steady`?)"),
            ("process", "(did you mean `process-kill`?)"),
        ] {
            assert!(told(name).contains(meant), "{}", told(name));
        }
        for name in ["", "xyz", "quite-another-thing"] {
            assert!(!told(name).contains("did you mean"), "{}", told(name));
        }
    }
}
