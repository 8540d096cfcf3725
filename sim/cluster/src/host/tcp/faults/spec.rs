//! A fault as people write it: the same words in a plan (TOML) and at the control endpoint (JSON), what each of them takes,
//! and what is told when one is wrong. What a fault does is `aim`'s.

use super::values::{Millis, RowValue, Skew};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "ACTIONS says what each of them is")]
pub enum Action {
    WriteTimeout,
    Unavailable,
    Overloaded,
    ReadTimeout,
    Slow,
    Silence,
    KillCoordinator,
    PauseCoordinator,
    Kill,
    PowerLoss,
    Start,
    Pause,
    Resume,
    Cut,
    LoseHints,
    LoseViewUpdates,
    HoldViewUpdates,
    Clock,
    FailDisk,
    HoldSchema,
    Repair,
    Compact,
    Replace,
    AddNode,
}

/// Which statements a fault looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statements {
    /// All of them.
    Any,
    /// SELECT, except at SERIAL.
    Read,
    /// INSERT, UPDATE, DELETE and batches, without conditions; additions to counters too.
    Write,
    /// Batches only, LOGGED or not, without conditions.
    Batch,
    /// Conditional writes, and reads at SERIAL.
    Conditional,
}

/// What becomes of a statement whose client is told something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Applied {
    /// Nothing, ever.
    Never,
    /// It is applied at once; only the answer says otherwise.
    Now,
    /// It stays in the batchlog, whose replay applies it with its original timestamps. Without a batchlog: never.
    Replay,
    /// The coordinator executes it `after` that time, with a new server timestamp where none was given.
    Late,
}

/// Where in the life of a write its coordinator is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointName {
    /// The request is read, nothing is done.
    Arrived,
    /// The batchlog has it, no mutation is out (LOGGED batches of several partitions only).
    BatchlogWritten,
    /// So many `mutations` are out.
    MutationsSent,
    /// Everything is done, the answer is about to leave.
    Answering,
}

/// The write type that a write timeout names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "CQL's own names")]
pub enum WriteTypeName {
    Simple,
    Batch,
    UnloggedBatch,
    BatchLog,
    Counter,
    Cas,
}

/// Which way a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both ways.
    Both,
    /// What the node sends is lost.
    Out,
    /// What is sent to the node is lost.
    In,
}

/// One fault as it is written. Nodes count from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "FIELDS says what each of them is")]
pub struct FaultSpec {
    #[serde(rename = "do")]
    pub action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyspace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statements: Option<Statements>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<BTreeMap<String, RowValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutations: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_type: Option<WriteTypeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Millis>,
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew: Option<Skew>,
}

/// An action by name: what it does, the fields it needs, and those it takes besides `name`.
struct About {
    action: Action,
    name: &'static str,
    what: &'static str,
    needs: &'static [&'static str],
    takes: &'static [&'static str],
}

/// The fields that say which statements are struck.
const WHICH: [&str; 6] = ["table", "statements", "row", "node", "skip", "count"];

const ACTIONS: [About; 24] = [
    About {
        action: Action::WriteTimeout,
        name: "write-timeout",
        what: "writes are answered WriteTimeout",
        needs: &[],
        takes: &["applied", "after", "write-type", "received", "required"],
    },
    About {
        action: Action::Unavailable,
        name: "unavailable",
        what: "statements are answered Unavailable",
        needs: &[],
        takes: &["applied", "after", "required", "alive"],
    },
    About {
        action: Action::Overloaded,
        name: "overloaded",
        what: "statements are answered Overloaded",
        needs: &[],
        takes: &["applied", "after"],
    },
    About {
        action: Action::ReadTimeout,
        name: "read-timeout",
        what: "reads are answered ReadTimeout",
        needs: &[],
        takes: &["received", "required"],
    },
    About {
        action: Action::Slow,
        name: "slow",
        what: "the coordinator gets to statements so much later",
        needs: &["by"],
        takes: &[],
    },
    About {
        action: Action::Silence,
        name: "silence",
        what: "statements are never answered; `applied` is now (the default) or never",
        needs: &[],
        takes: &["applied"],
    },
    About {
        action: Action::KillCoordinator,
        name: "kill-coordinator",
        what: "kill -9 of the node that works on a write",
        needs: &["point"],
        takes: &["mutations", "restart-after"],
    },
    About {
        action: Action::PauseCoordinator,
        name: "pause-coordinator",
        what: "the node that works on a write stands still",
        needs: &["point", "for"],
        takes: &["mutations"],
    },
    About {
        action: Action::Kill,
        name: "kill",
        what: "kill -9 of a node: what it did not give to the kernel is lost",
        needs: &["node"],
        takes: &["at", "restart-after"],
    },
    About {
        action: Action::PowerLoss,
        name: "power-loss",
        what: "a node dies and loses what it had not synced",
        needs: &["node"],
        takes: &["at", "restart-after"],
    },
    About {
        action: Action::Start,
        name: "start",
        what: "a node that was killed is started again",
        needs: &["node"],
        takes: &["at"],
    },
    About {
        action: Action::Pause,
        name: "pause",
        what: "SIGSTOP of a node; without `for`, until it is resumed",
        needs: &["node"],
        takes: &["at", "for"],
    },
    About {
        action: Action::Resume,
        name: "resume",
        what: "SIGCONT of a node",
        needs: &["node"],
        takes: &["at"],
    },
    About {
        action: Action::Cut,
        name: "cut",
        what: "links are cut between a node and one peer, or all; without `for`, until it is cancelled",
        needs: &["node"],
        takes: &["at", "for", "peer", "direction"],
    },
    About {
        action: Action::LoseHints,
        name: "lose-hints",
        what: "the hints that a node keeps (or all nodes keep) are gone, and none are kept `for` so long",
        needs: &[],
        takes: &["node", "at", "for"],
    },
    About {
        action: Action::LoseViewUpdates,
        name: "lose-view-updates",
        what: "what a node (or every node) has for materialized views is lost; without `for`, until it is cancelled",
        needs: &[],
        takes: &["node", "at", "for"],
    },
    About {
        action: Action::HoldViewUpdates,
        name: "hold-view-updates",
        what: "the same is held back, and goes its way when the fault ends",
        needs: &[],
        takes: &["node", "at", "for"],
    },
    About {
        action: Action::Clock,
        name: "clock",
        what: "a node's clock is wrong by `skew`; \"0s\" puts it right",
        needs: &["node", "skew"],
        takes: &["at"],
    },
    About {
        action: Action::FailDisk,
        name: "fail-disk",
        what: "a node cannot write its log any more and stops; `start` brings it back",
        needs: &["node"],
        takes: &["at"],
    },
    About {
        action: Action::HoldSchema,
        name: "hold-schema",
        what: "a node does not learn of changes to the schema made through others; without `for`, until it is cancelled",
        needs: &["node"],
        takes: &["at", "for"],
    },
    About {
        action: Action::Repair,
        name: "repair",
        what: "nodetool repair --full of a keyspace or table, by a node for its ranges, or for all of them",
        needs: &[],
        takes: &["keyspace", "table", "node", "at"],
    },
    About {
        action: Action::Compact,
        name: "compact",
        what: "nodetool compact of a keyspace or table on a node: deletions older than gc_grace_seconds are gone",
        needs: &["node"],
        takes: &["keyspace", "table", "at"],
    },
    About {
        action: Action::Replace,
        name: "replace",
        what: "a node and its disk are lost, and a new one in its place gets its data from the other replicas",
        needs: &["node"],
        takes: &["at"],
    },
    About {
        action: Action::AddNode,
        name: "add-node",
        what: "refused: start with --nodes N",
        needs: &[],
        takes: &[],
    },
];

/// The fields, for people.
const FIELDS: &str =
    "  when        at = \"30s\"                 so long after the plan is loaded or the fault is injected; else at once
  which       table = \"ks.t\" or \"t\"      statements that touch this table; else any
              statements = \"any\"         any, read, write (counters too), batch, conditional (reads at SERIAL too); what a
                                         fault can strike if not given. Never DDL, TRUNCATE or system tables
              keyspace = \"ks\"            what is to be repaired or compacted, with or without a table
              row = { k = 7, s = \"a\" }   writes with a row of these values (integers and texts)
              node = 2                   through this coordinator; else any. Nodes count from 1
              skip = 0, count = 1        let so many pass, then strike so many
  what        applied = \"never\"          never, now, replay (strikes LOGGED batches only; one that is a single mutation has
                                         no batchlog and is never applied), late (then after = \"60s\")
              write-type = \"BATCH_LOG\"   SIMPLE, BATCH, UNLOGGED_BATCH, BATCH_LOG, COUNTER, CAS
              received, required, alive  the numbers that the error names
              point = \"arrived\"          arrived, batchlog-written, mutations-sent (then mutations = 1), answering
              direction = \"both\"         both, out, in, as seen from the node
  durations   \"250ms\", \"12s\", \"5m\", \"1h\"; a skew may be negative: \"-1500ms\"
  any         name = \"...\"               shown in lists and in the trace
";

/// Everything that can be written, for people.
pub fn help() -> String {
    let mut text = "faults (do = ...):\n".to_owned();
    for about in &ACTIONS {
        text += &format!("  {:<18} {}\n", about.name, about.what);
        let statement = if about.action.is_on_statements() {
            &WHICH[..]
        } else {
            &[]
        };
        let takes: Vec<&str> = about.takes.iter().chain(statement).copied().collect();
        if !about.needs.is_empty() {
            text += &format!("  {:<18}   needs {}\n", "", about.needs.join(", "));
        }
        if !takes.is_empty() {
            text += &format!("  {:<18}   takes {}\n", "", takes.join(", "));
        }
    }
    text + "\nfields:\n" + FIELDS
}

impl Action {
    fn about(self) -> &'static About {
        let mut all = ACTIONS.iter();
        all.find(|a| a.action == self).expect("every action is in the table")
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// Whether it waits for statements, not for a time.
    pub fn is_on_statements(self) -> bool {
        use Action::*;
        matches!(
            self,
            WriteTimeout | Unavailable | Overloaded | ReadTimeout | Slow | Silence | KillCoordinator | PauseCoordinator
        )
    }
}

/// What is wrong with a fault: where in it, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct SpecError {
    /// The field, if it is one field's fault.
    pub field: Option<&'static str>,
    /// What is wrong, and what is allowed.
    pub what: String,
}

impl SpecError {
    pub(super) fn of(field: &'static str, what: impl Into<String>) -> SpecError {
        SpecError {
            field: Some(field),
            what: what.into(),
        }
    }
}

impl FaultSpec {
    /// Which fields are given.
    fn given(&self) -> Vec<String> {
        let value = serde_json::to_value(self).unwrap_or_default();
        let fields = value.as_object().cloned().unwrap_or_default();
        fields.into_iter().map(|(name, _)| name).collect()
    }

    /// Whether its fields belong together.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        if self.action == Action::AddNode {
            return Err(SpecError::of("do", crate::host::NoNewNodes.to_string()));
        }
        let about = self.action.about();
        let given = self.given();
        let statement = if self.action.is_on_statements() {
            &WHICH[..]
        } else {
            &[]
        };
        let allowed = || about.needs.iter().chain(about.takes).chain(statement);
        for field in &given {
            if field != "do" && field != "name" && !allowed().any(|a| a == field) {
                let list: Vec<&str> = allowed().copied().chain(["name"]).collect();
                return Err(SpecError {
                    field: FIELD_NAMES.iter().find(|f| *f == field).copied(),
                    what: format!(
                        "`{field}` means nothing to `{}`: it takes {}",
                        about.name,
                        list.join(", ")
                    ),
                });
            }
        }
        if let Some(missing) = about.needs.iter().find(|n| !given.iter().any(|g| g == *n)) {
            return Err(SpecError {
                field: None,
                what: format!("`{}` needs `{missing}`: {}", about.name, about.what),
            });
        }
        self.check_values()
    }

    fn check_values(&self) -> Result<(), SpecError> {
        let is = |applied| self.applied == Some(applied);
        if is(Applied::Late) != self.after.is_some() {
            return Err(SpecError::of(
                "applied",
                "`applied = \"late\"` and `after` go together: how much later",
            ));
        }
        if self.action == Action::Silence && (is(Applied::Late) || is(Applied::Replay)) {
            return Err(SpecError::of("applied", "`silence` takes `applied` now or never"));
        }
        if (self.point == Some(PointName::MutationsSent)) != self.mutations.is_some() {
            return Err(SpecError::of(
                "point",
                "`point = \"mutations-sent\"` and `mutations` go together: after how many",
            ));
        }
        if self.count == Some(0) {
            return Err(SpecError::of("count", "`count` is 1 at least"));
        }
        self.check_statements()
    }

    /// Whether the fault can strike the statements that it is to look at.
    fn check_statements(&self) -> Result<(), SpecError> {
        let can = self.action.strikes();
        match self.statements {
            Some(asked) if !can.contains(&asked) => {
                let names: Vec<String> = can.iter().map(|s| format!("{s:?}").to_lowercase()).collect();
                Err(SpecError::of(
                    "statements",
                    format!("`{}` can strike {}", self.action.name(), names.join(", ")),
                ))
            }
            Some(Statements::Read | Statements::Conditional) if self.row.is_some() => {
                Err(SpecError::of("row", "`row` is seen of plain writes only"))
            }
            _ => Ok(()),
        }
    }
}

impl Action {
    /// What it can strike; the first is what it strikes if nothing is said.
    pub(super) fn strikes(self) -> &'static [Statements] {
        use Statements::*;
        match self {
            Action::ReadTimeout => &[Read],
            Action::WriteTimeout => &[Write, Batch, Conditional],
            Action::KillCoordinator | Action::PauseCoordinator => &[Write, Batch],
            _ => &[Any, Read, Write, Batch, Conditional],
        }
    }
}

/// Names of fields as they are written, to point at them.
const FIELD_NAMES: [&str; 24] = [
    "do",
    "name",
    "at",
    "node",
    "peer",
    "keyspace",
    "table",
    "statements",
    "row",
    "skip",
    "count",
    "point",
    "mutations",
    "applied",
    "after",
    "write-type",
    "received",
    "required",
    "alive",
    "by",
    "for",
    "restart-after",
    "direction",
    "skew",
];

/// A plan that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// It cannot be read.
    #[error("the plan {} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is wrong somewhere.
    #[error("{}:{line}: {what}", path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong, and what is allowed.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    #[serde(default)]
    fault: Vec<toml::Spanned<FaultSpec>>,
}

fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// The line of a field in the table that begins at an offset, or of the table itself.
fn line_of(text: &str, start: usize, field: Option<&str>) -> usize {
    let own = text.get(start..).unwrap_or_default();
    let end = own
        .get(1..)
        .and_then(|rest| rest.find("\n[["))
        .map_or(own.len(), |e| e + 1);
    let mut offset = start;
    for line in own[..end].split_inclusive('\n') {
        let key = line.split('=').next().unwrap_or_default().trim();
        if field.is_some_and(|f| f == key || key.strip_prefix(f).is_some_and(|rest| rest.starts_with('.'))) {
            return line_at(text, offset);
        }
        offset += line.len();
    }
    line_at(text, start)
}

/// Reads and checks a plan for a cluster of so many nodes.
///
/// # Errors
/// It cannot be read; it is not TOML; a fault in it is wrong. The text says where and what is allowed.
pub fn read_plan(path: &Path, nodes: usize) -> Result<Vec<FaultSpec>, PlanError> {
    let text = std::fs::read_to_string(path).map_err(|source| PlanError::Unreadable {
        path: path.to_path_buf(),
        source,
    })?;
    parse_plan(&text, nodes).map_err(|(line, what)| PlanError::Wrong {
        path: path.to_path_buf(),
        line,
        what,
    })
}

fn parse_plan(text: &str, nodes: usize) -> Result<Vec<FaultSpec>, (usize, String)> {
    let file: PlanFile = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |span| line_at(text, span.start));
        (line, e.message().to_owned())
    })?;
    let check = |spec: &toml::Spanned<FaultSpec>| {
        let start = spec.span().start;
        let checked = super::aim::Aim::of(spec.get_ref(), nodes);
        checked.map_err(|error| (line_of(text, start, error.field), error.what))
    };
    for spec in &file.fault {
        check(spec)?;
    }
    Ok(file.fault.into_iter().map(toml::Spanned::into_inner).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_action_and_field() {
        for about in &ACTIONS {
            assert_eq!(serde_json::to_value(about.action).unwrap(), about.name);
            for field in about.needs.iter().chain(about.takes).chain(&WHICH) {
                assert!(FIELD_NAMES.contains(field), "{field}");
            }
        }
        let unknown = serde_json::from_str::<FaultSpec>(r#"{"do": "kill", "nope": 1}"#).unwrap_err();
        for field in FIELD_NAMES {
            assert!(
                unknown.to_string().contains(&format!("`{field}`")),
                "{field}: {unknown}"
            );
        }
    }

    #[test]
    fn a_plan_is_read() {
        let plan = "
            [[fault]]
            do = \"write-timeout\"
            table = \"ks.t\"
            statements = \"batch\"
            applied = \"late\"
            after = \"60s\"
            row = { k = 7 }

            [[fault]]
            do = \"pause\"
            node = 2
            at = \"30s\"
            for = \"12s\"
        ";
        let faults = parse_plan(plan, 3).unwrap();
        assert_eq!(faults.len(), 2);
        assert_eq!(faults[0].after, Some(Millis(60_000)));
        assert_eq!(faults[1].lasting, Some(Millis(12_000)));
        assert_eq!(parse_plan("", 3).unwrap(), vec![]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let head = "[[fault]]\ndo = \"kill\"\nnode = 1\n\n[[fault]]\n";
        let wrong = |fault: &str| {
            let (line, what) = parse_plan(&format!("{head}{fault}"), 3).unwrap_err();
            format!("{line}: {what}")
        };
        let told: Vec<String> = [
            "do = \"kil\"\nnode = 1",
            "node = 1",
            "do = \"kill\"\nnod = 1",
            "do = \"kill\"",
            "do = \"kill\"\nnode = 4",
            "do = \"kill\"\nnode = 0",
            "do = \"kill\"\nnode = \"two\"",
            "do = \"pause\"\nnode = 1\nfor = \"12\"",
            "do = \"pause\"\nnode = 1\nfor = 12",
            "do = \"pause\"\nnode = 1\ntable = \"t\"",
            "do = \"slow\"",
            "do = \"write-timeout\"\nstatements = \"read\"",
            "do = \"write-timeout\"\napplied = \"late\"",
            "do = \"write-timeout\"\nafter = \"1s\"",
            "do = \"write-timeout\"\ncount = 0",
            "do = \"write-timeout\"\ntable = \"a.b.c\"",
            "do = \"silence\"\nstatements = \"read\"\nrow.k = 1",
            "do = \"kill-coordinator\"\npoint = \"mutations-sent\"",
            "do = \"cut\"\nnode = 2\npeer = 2",
            "do = \"clock\"\nnode = 2\nskew = \"fast\"",
            "do = [",
        ]
        .into_iter()
        .map(wrong)
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn the_help_is_for_people() {
        insta::assert_snapshot!(help());
    }
}
