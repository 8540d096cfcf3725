//! Faults that are measured: what happens to statements of all kinds while nodes are struck, as sets of outcomes with their
//! shares and delays, on real servers and on ours.
//!
//! A case of [`crate::case`] says what must be answered, step by step. What a fault makes of statements under way is not
//! like that: it depends on the moment. So an [`Experiment`] repeats one fault under an even load, and counts.
//!
//! - here: what an experiment is (data, from `cases/frequencies.toml`),
//! - [`statement`]: the kinds of statements, and how to find out whether one took effect,
//! - [`load`]: strikes, asks and watches,
//! - [`summary`]: what was seen, counted,
//! - [`compare`]: two such counts side by side, and what differs.

pub mod compare;
pub mod load;
pub mod statement;
pub mod summary;

use crate::case::Fault;
use crate::target::Target;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use summary::{Observation, Summary};
use tokio::time::{Duration, sleep};

const EXPERIMENTS: &str = include_str!("../../cases/frequencies.toml");
/// What Apache Cassandra 5.0.5 did, in three runs, the oldest first: three nodes, measured by `ci/conformance --nodes 3`.
const RECORDED: [&str; 3] = [
    include_str!("../../cases/frequencies.cassandra-5.0.5.json"),
    include_str!("../../cases/frequencies.cassandra-5.0.5.second.json"),
    include_str!("../../cases/frequencies.cassandra-5.0.5.third.json"),
];
const SCHEMA: &str = include_str!("../../cases/frequencies.cql");

/// Views are built by then: a real server takes two seconds for it, more under load.
const VIEWS_BUILT: Duration = Duration::from_secs(10);

/// Nodes of every experiment: two that are left are a quorum.
pub const NODES: usize = 3;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    experiment: Vec<Experiment>,
    #[serde(default)]
    explained: Vec<Explained>,
}

/// A fault that is repeated under load. Times are milliseconds and count from the strike.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What it is called; unique.
    pub name: String,
    /// What is done to the nodes: `kill`, `freeze` or `cut`.
    pub fault: Fault,
    /// To which; never to node 1, which watches.
    pub nodes: Vec<usize>,
    /// When it is undone.
    pub undo_ms: u64,
    /// How long before the strike the load begins.
    #[serde(default = "second")]
    pub before_ms: u64,
    /// When the load ends.
    pub until_ms: u64,
    /// Between two statements of one kind through one coordinator.
    pub every_ms: u64,
    /// How long after the end of fault and load it is watched what takes effect.
    pub settle_ms: u64,
    /// Clients that send batches without a pause through a node that is struck, until the strike: what becomes of those
    /// that are under way then.
    #[serde(default)]
    pub in_flight: usize,
    /// How often it is done in the simulator: what a real server shows once in a hundred has to show.
    #[serde(default = "some")]
    pub simulated: u64,
}

fn some() -> u64 {
    60
}

fn second() -> u64 {
    1000
}

/// A difference between a real server and ours that is known, and why it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explained {
    /// The experiment; all of them if it is not said.
    pub experiment: Option<String>,
    /// The kind of statement, by its name; all of them if it is not said.
    pub kind: Option<String>,
    /// A part of the line of the table that differs.
    pub line: String,
    /// In what: a line that differs in anything else is a difference.
    pub what: Vec<compare::Difference>,
    /// Why.
    pub why: String,
}

/// The experiments, and the differences that are explained.
///
/// # Errors
/// What is wrong in the file.
pub fn all() -> Result<(Vec<Experiment>, Vec<Explained>), String> {
    let file: File = toml::from_str(EXPERIMENTS).map_err(|e| format!("cases/frequencies.toml: {e}"))?;
    let mut names = BTreeSet::new();
    for experiment in &file.experiment {
        let wrong = |what: &str| format!("cases/frequencies.toml, '{}': {what}", experiment.name);
        if !names.insert(&experiment.name) {
            return Err(wrong("there are two of this name"));
        }
        experiment.check().map_err(|e| wrong(&e))?;
    }
    Ok((file.experiment, file.explained))
}

/// What a real server was seen to do: its runs, the oldest first.
///
/// # Errors
/// The files cannot be read.
pub fn recorded() -> Result<Vec<Summary>, String> {
    let read =
        |text: &&str| serde_json::from_str(text).map_err(|e| format!("cases/frequencies.cassandra-5.0.5*.json: {e}"));
    RECORDED.iter().map(read).collect()
}

/// The statements that make the schema.
pub fn schema() -> Vec<String> {
    crate::case::statements(SCHEMA, NODES)
}

/// Makes the schema anew and does an experiment once for each of these numbers, which say at what moments statements are sent.
/// `tell` hears of every injection.
///
/// # Errors
/// The schema is refused, nodes cannot be disturbed, or the cluster does not come back.
pub async fn measure(
    target: &Target,
    experiment: &Experiment,
    numbers: RangeInclusive<u64>,
    tell: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Observation>, String> {
    target.prepare().await?;
    target.drop_keyspaces(&["freq", "freq1"]).await?;
    target.say(&schema()).await?;
    target
        .say(&["INSERT INTO freq.fixed (k, v) VALUES (1, 1)".to_owned()])
        .await?;
    // Views of new tables are built at once, but not that soon; nothing here is about that.
    sleep(VIEWS_BUILT).await;
    let mut seen = Vec::new();
    for number in numbers {
        seen.extend(load::inject(target, experiment, number as i64).await?);
        tell(number);
    }
    Ok(seen)
}

impl Experiment {
    fn check(&self) -> Result<(), String> {
        if !matches!(self.fault, Fault::Kill | Fault::Freeze | Fault::Cut) {
            return Err("`fault` is kill, freeze or cut".into());
        }
        if self.nodes.is_empty() || self.nodes.iter().any(|n| !(2..=NODES).contains(n)) {
            return Err(format!("`nodes` are some of 2 to {NODES}: node 1 watches"));
        }
        if self.every_ms == 0 {
            return Err("`every_ms` must be more than 0".into());
        }
        Ok(())
    }

    /// What undoes the fault.
    pub fn undo(&self) -> Fault {
        match self.fault {
            Fault::Kill | Fault::Revive => Fault::Revive,
            Fault::Freeze | Fault::Resume => Fault::Resume,
            // Nothing else is an experiment's fault: see `check`.
            Fault::Cut | Fault::Join | Fault::Repair | Fault::Compact => Fault::Join,
        }
    }

    /// The coordinators, each with its part: one that is struck, one that is not.
    pub fn coordinators(&self) -> [(Part, usize); 2] {
        [(Part::Other, 1), (Part::Struck, self.nodes[0])]
    }
}

/// Which coordinator a statement was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// One that is not struck.
    Other,
    /// One that is.
    Struck,
    /// One that is, and it was under way at the strike.
    #[serde(rename = "in-flight")]
    InFlight,
}

impl Part {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Part::Other => "through another node",
            Part::Struck => "through the struck node",
            Part::InFlight => "in flight through the struck node",
        }
    }
}
