//! What a fault does, worked out from how it is written: either something done to nodes at a time ([`Deed`]), or a verdict
//! on statements at a boundary point of the core.

use super::spec::{Action, Applied, Direction, FaultSpec, PointName, SpecError, Statements, WriteTypeName};
use super::values::row_holds;
use crate::core::{BatchInfo, Boundary, Point, RepairScope, Then, Told, Verdict, ViewFault};
use crate::model::{Consistency, NodeIdx, Replication, Schema, Table, WriteKind, WriteType};

/// Something done to nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::tcp) enum Deed {
    /// kill -9; with `power` what is not synced is lost too.
    Kill { node: NodeIdx, power: bool },
    /// The port of a node that died by a verdict is closed.
    Bury(NodeIdx),
    /// Started again.
    Start(NodeIdx),
    /// SIGSTOP.
    Freeze(NodeIdx),
    /// SIGCONT.
    Resume(NodeIdx),
    /// What the first sends to the second is lost from now on.
    Cut(Vec<(NodeIdx, NodeIdx)>),
    /// The links that this fault cut are whole again.
    Heal,
    /// Hints are gone, and no new ones are kept.
    LoseHints { nodes: Vec<NodeIdx>, off: bool },
    /// Hints are kept again.
    KeepHints(Vec<NodeIdx>),
    /// Updates for views are lost or held back, or go their way again.
    ViewUpdates { nodes: Vec<NodeIdx>, fault: ViewFault },
    /// A clock is wrong by so many milliseconds.
    Clock { node: NodeIdx, skew_ms: i64 },
    /// The log cannot be written.
    FailDisk(NodeIdx),
    /// A node is lost, and another one takes its place.
    Replace(NodeIdx),
    /// A node does not learn of changes to the schema, or learns of them again.
    HoldSchema { node: NodeIdx, on: bool },
    /// A repair is made.
    Repair { by: Option<NodeIdx>, scope: RepairScope },
    /// A major compaction is made.
    Compact {
        node: NodeIdx,
        keyspace: String,
        table: Option<String>,
    },
}

/// What a fault aims at.
#[derive(Debug, Clone)]
pub(super) enum Aim {
    /// At nodes: when it begins after it was armed, what is done, and what ends it so much later.
    Nodes {
        at_ms: u64,
        begin: Deed,
        end: Option<(u64, Deed)>,
    },
    /// At statements.
    Statements,
}

fn node_of(n: u16, field: &'static str, nodes: usize) -> Result<NodeIdx, SpecError> {
    match usize::from(n) {
        i if (1..=nodes).contains(&i) => Ok(NodeIdx((i - 1) as u8)),
        _ => Err(SpecError::of(
            field,
            format!("there is no node {n}: this cluster has 1 to {nodes}"),
        )),
    }
}

impl Aim {
    /// What a fault as written aims at in a cluster of so many nodes.
    pub(super) fn of(spec: &FaultSpec, nodes: usize) -> Result<Aim, SpecError> {
        spec.check()?;
        let node = spec.node.map(|n| node_of(n, "node", nodes)).transpose()?;
        if let Some(table) = &spec.table
            && (table.is_empty() || table.split('.').count() > 2)
        {
            return Err(SpecError::of(
                "table",
                format!("`{table}` is no table: write \"ks.t\" or \"t\""),
            ));
        }
        if spec.action.is_on_statements() {
            return Ok(Aim::Statements);
        }
        let (begin, end) = deeds(spec, node, nodes)?;
        let (at_ms, lasting) = (spec.at.map_or(0, |at| at.0), spec.lasting.or(spec.restart_after));
        Ok(Aim::Nodes {
            at_ms,
            begin,
            end: lasting.map(|ms| ms.0).zip(end),
        })
    }
}

/// What is done, and what undoes it.
fn deeds(spec: &FaultSpec, node: Option<NodeIdx>, nodes: usize) -> Result<(Deed, Option<Deed>), SpecError> {
    let all = || (0..nodes as u8).map(NodeIdx).collect::<Vec<_>>();
    let of_views = |fault| {
        let nodes = node.map_or_else(all, |n| vec![n]);
        let end = Deed::ViewUpdates {
            nodes: nodes.clone(),
            fault: ViewFault::None,
        };
        (Deed::ViewUpdates { nodes, fault }, Some(end))
    };
    match spec.action {
        Action::LoseViewUpdates => return Ok(of_views(ViewFault::Lose)),
        Action::HoldViewUpdates => return Ok(of_views(ViewFault::Hold)),
        Action::Repair => {
            let (keyspace, table) = tables(spec, "repair", "nodetool repair --full")?;
            let scope = RepairScope {
                keyspace,
                table,
                whole_ring: spec.node.is_none(),
            };
            return Ok((Deed::Repair { by: node, scope }, None));
        }
        _ => {}
    }
    let Some(node) = node else {
        // Only hints can be lost everywhere.
        let off = spec.lasting.is_some();
        return Ok((Deed::LoseHints { nodes: all(), off }, Some(Deed::KeepHints(all()))));
    };
    Ok(match spec.action {
        Action::Kill => (Deed::Kill { node, power: false }, Some(Deed::Start(node))),
        Action::PowerLoss => (Deed::Kill { node, power: true }, Some(Deed::Start(node))),
        Action::Start => (Deed::Start(node), None),
        Action::Pause => (Deed::Freeze(node), Some(Deed::Resume(node))),
        Action::Resume => (Deed::Resume(node), None),
        Action::Cut => (Deed::Cut(links(spec, node, nodes)?), Some(Deed::Heal)),
        Action::LoseHints => {
            let (nodes, off) = (vec![node], spec.lasting.is_some());
            (
                Deed::LoseHints {
                    nodes: nodes.clone(),
                    off,
                },
                Some(Deed::KeepHints(nodes)),
            )
        }
        Action::HoldSchema => {
            let hold = |on| Deed::HoldSchema { node, on };
            (hold(true), Some(hold(false)))
        }
        Action::Compact => {
            let (keyspace, table) = tables(spec, "compact", "nodetool compact")?;
            (Deed::Compact { node, keyspace, table }, None)
        }
        Action::Replace => (Deed::Replace(node), None),
        Action::Clock => {
            let skew_ms = spec.skew.map_or(0, |s| s.0);
            (Deed::Clock { node, skew_ms }, None)
        }
        _ => (Deed::FailDisk(node), None),
    })
}

/// `keyspace`, or `table = "ks.t"`, or both with `table = "t"`.
fn tables(spec: &FaultSpec, action: &str, command: &str) -> Result<(String, Option<String>), SpecError> {
    let (of_table, table) = match spec.table.as_deref() {
        Some(name) => match name.split_once('.') {
            Some((keyspace, table)) => (Some(keyspace), Some(table)),
            None => (None, Some(name)),
        },
        None => (None, None),
    };
    let keyspace = spec.keyspace.as_deref().or(of_table);
    let Some(keyspace) = keyspace.filter(|k| of_table.is_none_or(|of| of == *k)) else {
        let what =
            format!("`{action}` needs `keyspace = \"ks\"` or `table = \"ks.t\"`: {command} of a keyspace or table");
        return Err(SpecError::of("keyspace", what));
    };
    Ok((keyspace.to_owned(), table.map(str::to_owned)))
}

fn links(spec: &FaultSpec, node: NodeIdx, nodes: usize) -> Result<Vec<(NodeIdx, NodeIdx)>, SpecError> {
    let peers = match spec.peer {
        Some(peer) => vec![node_of(peer, "peer", nodes)?],
        None => (0..nodes as u8).map(NodeIdx).filter(|n| *n != node).collect(),
    };
    if peers.contains(&node) {
        return Err(SpecError::of("peer", "a node has no link to itself"));
    }
    let direction = spec.direction.unwrap_or(Direction::Both);
    let mut cut = Vec::new();
    for peer in peers {
        if direction != Direction::In {
            cut.push((node, peer));
        }
        if direction != Direction::Out {
            cut.push((peer, node));
        }
    }
    Ok(cut)
}

/// Whether a table is the one named, with its keyspace or without.
fn is_named(table: &Table, name: &str) -> bool {
    match name.split_once('.') {
        Some((keyspace, name)) => table.keyspace == keyspace && table.name == name,
        None => table.name == name,
    }
}

/// Whether a write is one that a fault looks at, its coordinator aside.
pub(super) fn strikes_write(spec: &FaultSpec, write: &BatchInfo<'_>) -> bool {
    let statements = spec.statements.unwrap_or(spec.action.strikes()[0]);
    match statements {
        Statements::Any | Statements::Write => {}
        Statements::Batch if write.kind().is_batch() => {}
        _ => return false,
    }
    if spec.applied == Some(Applied::Replay) && !write.is_logged() {
        // Nothing would replay it.
        return false;
    }
    if spec.table.is_none() && spec.row.is_none() {
        return true;
    }
    write.rows().any(|row| {
        spec.table.as_ref().is_none_or(|name| is_named(row.table, name))
            && spec.row.as_ref().is_none_or(|wanted| row_holds(&row, wanted))
    })
}

/// Whether a boundary is where a fault strikes.
pub(super) fn strikes_at(spec: &FaultSpec, boundary: &Boundary<'_>) -> bool {
    if spec.node.is_some_and(|n| n != u16::from(boundary.node.0) + 1) {
        return false;
    }
    let is_point = match (spec.point.unwrap_or(PointName::Arrived), boundary.point) {
        (PointName::Arrived, Point::RequestArrived)
        | (PointName::BatchlogWritten, Point::BatchlogWritten)
        | (PointName::Answering, Point::ResponseLeaving) => true,
        (PointName::MutationsSent, Point::MutationsSent { k, of }) => k == spec.mutations.unwrap_or(0).min(of),
        _ => false,
    };
    if !is_point {
        return false;
    }
    if let Some(write) = boundary.batch {
        return strikes_write(spec, write);
    }
    let statements = spec.statements.unwrap_or(spec.action.strikes()[0]);
    let (table, fits) = match (boundary.read, boundary.conditional) {
        (Some(read), _) => (read, matches!(statements, Statements::Any | Statements::Read)),
        (_, Some(table)) => (table, matches!(statements, Statements::Any | Statements::Conditional)),
        _ => return false,
    };
    let named = |name: &String| boundary.schema.table(table).is_some_and(|t| is_named(t, name));
    fits && spec.row.is_none() && spec.table.as_ref().is_none_or(named)
}

/// What a fault does to the statement that it strikes.
pub(super) fn verdict(spec: &FaultSpec, boundary: &Boundary<'_>) -> Verdict {
    let required = spec.required.unwrap_or_else(|| required(boundary));
    let fewer = required.saturating_sub(1);
    let received = spec.received.unwrap_or(fewer);
    let then = match (spec.applied, spec.after) {
        (Some(Applied::Now), _) => Then::ApplyNow,
        (Some(Applied::Replay), _) => Then::ByReplay,
        (Some(Applied::Late), Some(after)) => Then::ExecuteLate { after_ms: after.0 },
        _ => Then::NeverApply,
    };
    match spec.action {
        Action::WriteTimeout => {
            let write_type = spec
                .write_type
                .map_or_else(|| write_type(boundary), WriteTypeName::model);
            let (received, required) = match write_type {
                // The batchlog waits for one or two holders, whatever the write's own level.
                WriteType::BatchLog => (spec.received.unwrap_or(0), spec.required.unwrap_or(1)),
                _ => (received, required),
            };
            Verdict::Timeout {
                write_type,
                received,
                required,
                then,
            }
        }
        Action::Unavailable => {
            let alive = spec.alive.unwrap_or(fewer);
            let told = Told::Unavailable { required, alive };
            Verdict::Refuse { told, then }
        }
        Action::Overloaded => Verdict::Refuse {
            told: Told::Overloaded,
            then,
        },
        Action::ReadTimeout => Verdict::Refuse {
            told: Told::ReadTimeout { received, required },
            then,
        },
        Action::Slow => Verdict::Slow {
            ms: spec.by.map_or(0, |by| by.0),
        },
        Action::Silence if spec.applied == Some(Applied::Never) => Verdict::Drop,
        Action::Silence => Verdict::SwallowResponse,
        Action::KillCoordinator => Verdict::KillNode,
        Action::PauseCoordinator => Verdict::PauseNode {
            ms: spec.lasting.map_or(0, |ms| ms.0),
        },
        // The others strike nodes.
        _ => Verdict::Continue,
    }
}

impl WriteTypeName {
    fn model(self) -> WriteType {
        match self {
            WriteTypeName::Simple => WriteType::Simple,
            WriteTypeName::Batch => WriteType::Batch,
            WriteTypeName::UnloggedBatch => WriteType::UnloggedBatch,
            WriteTypeName::BatchLog => WriteType::BatchLog,
            WriteTypeName::Counter => WriteType::Counter,
            WriteTypeName::Cas => WriteType::Cas,
        }
    }
}

/// The write type that a real coordinator would name.
fn write_type(boundary: &Boundary<'_>) -> WriteType {
    match boundary.batch.map(BatchInfo::kind) {
        Some(WriteKind::Single) => WriteType::Simple,
        Some(WriteKind::Unlogged) => WriteType::UnloggedBatch,
        Some(WriteKind::Logged) => WriteType::Batch,
        Some(WriteKind::Counter | WriteKind::CounterBatch) => WriteType::Counter,
        None => WriteType::Cas,
    }
}

/// The answers that the level asks for, in one data centre.
fn required(boundary: &Boundary<'_>) -> u32 {
    let table = match (boundary.batch, boundary.read.or(boundary.conditional)) {
        (Some(write), _) => write.rows().next().map(|row| row.table.keyspace.clone()),
        (None, Some(table)) => boundary.schema.table(table).map(|t| t.keyspace.clone()),
        _ => None,
    };
    let copies = table.map_or(1, |keyspace| copies(boundary.schema, &keyspace));
    match boundary.consistency {
        Consistency::Any | Consistency::One | Consistency::LocalOne => 1,
        Consistency::Two => 2,
        Consistency::Three => 3,
        Consistency::All => copies,
        _ => copies / 2 + 1,
    }
}

fn copies(schema: &Schema, keyspace: &str) -> u32 {
    match schema.keyspaces.get(keyspace).map(|k| &k.replication) {
        Some(Replication::Simple { factor }) => u32::from(*factor),
        Some(Replication::NetworkTopology(of)) => of.values().map(|n| u32::from(*n)).sum(),
        None => 1,
    }
}
