//! What a case is: data, read from the TOML files in `cases/` (one file is one group). Nothing here runs anything.
//!
//! A case is a list of steps. A step is a request and the answer that is expected of it, or something done to a node, or a
//! wait. Answers are written as the lines that [`crate::answer`] renders, so that what is compared is text against text.
//! `cases/README.md` explains the format to who writes cases.

use serde::Deserialize;
use sim_cluster::core::Flavor;
use std::collections::BTreeSet;

/// The groups, in the order in which they run: name and text.
const FILES: [(&str, &str); 20] = [
    ("timestamps", include_str!("../cases/timestamps.toml")),
    ("compared", include_str!("../cases/compared.toml")),
    ("tombstones", include_str!("../cases/tombstones.toml")),
    ("batches", include_str!("../cases/batches.toml")),
    ("lwt", include_str!("../cases/lwt.toml")),
    ("coll", include_str!("../cases/coll.toml")),
    ("sel", include_str!("../cases/sel.toml")),
    ("types", include_str!("../cases/types.toml")),
    ("counters", include_str!("../cases/counters.toml")),
    ("indexes", include_str!("../cases/indexes.toml")),
    ("refusals", include_str!("../cases/refusals.toml")),
    ("unusual", include_str!("../cases/unusual.toml")),
    ("paging", include_str!("../cases/paging.toml")),
    ("writetime", include_str!("../cases/writetime.toml")),
    ("prepared", include_str!("../cases/prepared.toml")),
    ("levels", include_str!("../cases/levels.toml")),
    ("driver", include_str!("../cases/driver.toml")),
    ("faults", include_str!("../cases/faults.toml")),
    ("views", include_str!("../cases/views.toml")),
    ("scylla", include_str!("../cases/scylla.toml")),
];

/// The tables that all cases share; statements end with a semicolon at the end of a line.
const SCHEMA: &str = include_str!("../cases/schema.cql");

/// One file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// A case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, in a few words; unique.
    pub name: String,
    /// Its file.
    #[serde(skip)]
    pub group: String,
    /// How many nodes the cluster must have; any number if it is not said.
    pub nodes: Option<usize>,
    /// The flavours it is for. What it expects of `cassandra` was answered by a real server; what it expects of `scylla`
    /// stands in its source and is vouched for by nobody here.
    #[serde(default = "only_cassandra")]
    pub flavors: Vec<Flavor>,
    /// Where the expectations for flavour `scylla` come from, if there are any of its own.
    pub scylla_source: Option<String>,
    /// Why a case is as it is, for readers.
    pub why: Option<String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

fn only_cassandra() -> Vec<Flavor> {
    vec![Flavor::Cassandra]
}

/// The lines of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// One line.
    Line(String),
    /// Several, the first says what kind of answer it is.
    Lines(Vec<String>),
}

impl Answer {
    /// The lines.
    pub fn lines(&self) -> &[String] {
        match self {
            Answer::Line(line) => std::slice::from_ref(line),
            Answer::Lines(lines) => lines,
        }
    }
}

/// A statement of a batch.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum BatchItem {
    /// A text without values.
    Text(String),
    /// A statement with values.
    #[serde(rename_all = "snake_case")]
    Bound {
        /// The statement.
        cql: String,
        /// Whether it was prepared in this case, and is sent by its id.
        #[serde(default)]
        prepared: bool,
        /// Its values.
        #[serde(default)]
        bind: Vec<String>,
    },
}

/// The type of a batch, as it is sent.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchKind {
    /// With a batchlog.
    #[default]
    Logged,
    /// Without.
    Unlogged,
    /// Of counters.
    Counter,
    /// A type that does not exist (7).
    Unknown,
}

/// Something done to nodes; nodes count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// kill -9.
    Kill,
    /// SIGSTOP.
    Freeze,
    /// SIGCONT.
    Resume,
    /// Start it again after it was killed.
    Revive,
    /// Its peers and it do not hear each other; clients reach it.
    Cut,
    /// They do again.
    Join,
    /// `nodetool repair --full` of `keyspace` by it.
    Repair,
    /// `nodetool flush` and `nodetool compact` of `keyspace` on it.
    Compact,
}

/// One step. Exactly one of `cql`, `prepare`, `execute`, `execute_id`, `batch`, `driver`, `fault` and `wait_ms` is said.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// QUERY.
    pub cql: Option<String>,
    /// PREPARE.
    pub prepare: Option<String>,
    /// EXECUTE of a text prepared in this case.
    pub execute: Option<String>,
    /// EXECUTE of this id, hexadecimal.
    pub execute_id: Option<String>,
    /// BATCH.
    pub batch: Option<Vec<BatchItem>>,
    /// The same by the driver: prepared (once in a case) and executed, all pages of it.
    pub driver: Option<String>,
    /// Something done to `nodes`.
    pub fault: Option<Fault>,
    /// The nodes it is done to.
    pub nodes: Vec<usize>,
    /// The keyspace that is repaired or compacted; `conf` if it is not said.
    pub keyspace: Option<String>,
    /// Nothing is done for so long, milliseconds.
    pub wait_ms: Option<u64>,

    /// Type of the batch.
    pub kind: BatchKind,
    /// Values: a type and a literal, or `null`, `unset`, `bytes 00ff`.
    pub bind: Vec<String>,
    /// Consistency level; QUORUM if it is not said.
    pub level: Option<String>,
    /// After a schema change the case goes on before all nodes know of it.
    pub apart: bool,
    /// Serial consistency level.
    pub serial: Option<String>,
    /// The protocol's default timestamp, microseconds.
    pub timestamp: Option<i64>,
    /// Rows of a page.
    pub page: Option<i32>,
    /// Go on where the last page of this case ended.
    pub next_page: bool,
    /// Go on at this paging state, hexadecimal.
    pub paging_state: Option<String>,
    /// The coordinator; node 1 if it is not said.
    pub node: Option<usize>,
    /// How long the client waits, milliseconds; [`crate::run::PATIENCE`] if it is not said.
    pub give_up_ms: Option<u64>,

    /// The answer.
    pub answer: Option<Answer>,
    /// The answers that are allowed, where a fault leaves a choice.
    pub one_of: Vec<Answer>,
    /// The answer of flavour `scylla`, where it is another one.
    pub scylla: Option<Answer>,
    /// What our cluster answers today where it differs from the real server: a listed difference.
    pub ours: Option<Answer>,
    /// Asked again until the answer is as expected, for so long, milliseconds.
    pub within_ms: Option<u64>,
    /// How long the answer takes, at least and at most, milliseconds.
    pub took_ms: Option<(u64, u64)>,
}

impl Case {
    /// Whether our cluster is known to answer otherwise than the real server.
    pub fn is_listed(&self) -> bool {
        self.steps.iter().any(|s| s.ours.is_some())
    }

    /// The nodes that its steps do something to.
    pub fn disturbed(&self) -> BTreeSet<usize> {
        self.steps.iter().flat_map(|s| s.nodes.iter().copied()).collect()
    }

    fn check(&self) -> Result<(), String> {
        let has_own = self.steps.iter().any(|s| s.scylla.is_some());
        let is_only_scylla = !self.flavors.contains(&Flavor::Cassandra);
        if (has_own || is_only_scylla) && self.scylla_source.is_none() {
            return Err("it expects something of scylla alone and does not say from which source".into());
        }
        if has_own && !self.flavors.contains(&Flavor::Scylla) {
            return Err("it expects something of scylla and is not for that flavour".into());
        }
        if self.steps.is_empty() {
            return Err("it has no steps".into());
        }
        for (i, step) in self.steps.iter().enumerate() {
            step.check().map_err(|e| format!("step {}: {e}", i + 1))?;
        }
        Ok(())
    }
}

impl Step {
    /// Whether it asks a server something.
    pub fn is_request(&self) -> bool {
        self.fault.is_none() && self.wait_ms.is_none()
    }

    /// The answers that are right under a flavour.
    pub fn expected(&self, flavor: Flavor) -> Vec<&Answer> {
        match (&self.scylla, flavor) {
            (Some(own), Flavor::Scylla) => vec![own],
            _ => self.answer.iter().chain(&self.one_of).collect(),
        }
    }

    /// The step in a few words, for reports.
    pub fn title(&self) -> String {
        if let Some(fault) = self.fault {
            return format!("{fault:?} {:?}", self.nodes).to_lowercase();
        }
        if let Some(ms) = self.wait_ms {
            return format!("wait {ms} ms");
        }
        let texts = [
            ("", &self.cql),
            ("prepare ", &self.prepare),
            ("execute ", &self.execute),
            ("execute id ", &self.execute_id),
            ("driver ", &self.driver),
        ];
        let text = texts
            .iter()
            .find_map(|(what, t)| t.as_ref().map(|t| format!("{what}{t}")));
        text.unwrap_or_else(|| format!("{:?} batch of {}", self.kind, self.batch.as_ref().map_or(0, Vec::len)))
    }

    fn check(&self) -> Result<(), String> {
        let verbs = [
            self.cql.is_some(),
            self.prepare.is_some(),
            self.execute.is_some(),
            self.execute_id.is_some(),
            self.batch.is_some(),
            self.driver.is_some(),
            self.fault.is_some(),
            self.wait_ms.is_some(),
        ];
        if verbs.iter().filter(|v| **v).count() != 1 {
            return Err("it must do exactly one thing".into());
        }
        if self.fault.is_some() == self.nodes.is_empty() {
            return Err("`fault` and `nodes` belong together".into());
        }
        if self.is_request() == (self.answer.is_none() && self.one_of.is_empty()) {
            return Err("a request needs `answer` or `one_of`, and nothing else has one".into());
        }
        if self.answer.is_some() && !self.one_of.is_empty() {
            return Err("it has both `answer` and `one_of`".into());
        }
        if self.ours.is_some() && self.ours == self.answer {
            return Err("`ours` is what the real server answers: no difference".into());
        }
        Ok(())
    }
}

/// All cases, checked.
///
/// # Errors
/// The file, and what is wrong in it.
pub fn all() -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for (group, text) in FILES {
        cases.extend(parse(group, text)?);
    }
    let mut names = BTreeSet::new();
    match cases.iter().find(|c| !names.insert(c.name.clone())) {
        Some(twice) => Err(format!("two cases are called '{}'", twice.name)),
        None => Ok(cases),
    }
}

/// The cases of one file.
///
/// # Errors
/// What is wrong in it.
pub fn parse(group: &str, text: &str) -> Result<Vec<Case>, String> {
    let file: File = toml::from_str(text).map_err(|e| format!("cases/{group}.toml: {e}"))?;
    let mut cases = file.case;
    for case in &mut cases {
        group.clone_into(&mut case.group);
        case.check()
            .map_err(|e| format!("cases/{group}.toml, case '{}': {e}", case.name))?;
    }
    Ok(cases)
}

/// The statements that make the schema, for so many copies of each row.
pub fn schema(replicas: usize) -> Vec<String> {
    statements(SCHEMA, replicas)
}

/// The statements of a file, for so many copies of each row.
pub(crate) fn statements(text: &str, replicas: usize) -> Vec<String> {
    let lines = text.lines().filter(|l| !l.starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let statements = text.split(";\n").map(str::trim).filter(|s| !s.is_empty());
    let replicas = replicas.to_string();
    statements
        .map(|s| s.trim_end_matches(';').replace("$REPLICAS", &replicas))
        .collect()
}
