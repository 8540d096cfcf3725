//! What a person at the terminal is told while a cluster runs.

use crate::core::message::{BatchId, Event};
use crate::model::NodeIdx;
use std::fmt;
use std::sync::Arc;

/// Something that happened on a node.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Something worth a line.
    Event {
        /// On which node.
        node: NodeIdx,
        /// What.
        event: Event,
    },
    /// The node cannot go on: it answers nobody until the program is started again.
    Halted {
        /// Which.
        node: NodeIdx,
        /// Why.
        reason: String,
    },
    /// The node's log was compacted.
    Compacted {
        /// Whose.
        node: NodeIdx,
        /// Its bytes before.
        before: u64,
        /// Its bytes now.
        after: u64,
    },
    /// The node's log could not be compacted; it goes on as it is.
    NotCompacted {
        /// Whose.
        node: NodeIdx,
        /// Why.
        reason: String,
    },
    /// New connections cannot be taken at the moment.
    Accept {
        /// By which node.
        node: NodeIdx,
        /// Why.
        reason: String,
    },
}

/// Who is told. Called with the cluster locked: it must not ask the cluster for anything.
pub type Tell = Arc<dyn Fn(Notice) + Send + Sync>;

impl Notice {
    /// Whether it happens all the time in a cluster that is well, or for every request of one that is not.
    pub fn is_detail(&self) -> bool {
        match self {
            Notice::Event { event, .. } => !matches!(
                event,
                Event::BatchReplayed { .. }
                    | Event::HintRefused { .. }
                    | Event::Recovered { .. }
                    | Event::Joining { .. }
                    | Event::Joined { .. }
                    | Event::Purged { .. }
                    | Event::RepairBegun { .. }
                    | Event::RepairEnded { .. }
            ),
            Notice::Compacted { .. } => true,
            Notice::Halted { .. } | Notice::Accept { .. } | Notice::NotCompacted { .. } => false,
        }
    }
}

fn number(node: NodeIdx) -> u16 {
    u16::from(node.0) + 1
}

fn name(batch: &BatchId) -> String {
    format!(
        "{} of node {}, generation {}",
        batch.number,
        number(batch.coordinator),
        batch.generation
    )
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Halted { node, reason } => {
                write!(f, "node {} has stopped and answers nobody: {reason}", number(*node))
            }
            Notice::Accept { node, reason } => {
                write!(f, "node {} cannot take a new connection: {reason}", number(*node))
            }
            Notice::Compacted { node, before, after } => {
                let node = number(*node);
                write!(
                    f,
                    "node {node}: its log of {before} bytes was compacted to {after} bytes"
                )
            }
            Notice::NotCompacted { node, reason } => {
                write!(f, "node {}: its log could not be compacted: {reason}", number(*node))
            }
            Notice::Event { node, event } => {
                write!(f, "node {}: ", number(*node))?;
                told(event, f)
            }
        }
    }
}

fn told(event: &Event, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match event {
        Event::Recovered {
            entries,
            valid_bytes,
            lost_bytes,
            ..
        } => {
            write!(f, "{entries} entries read from the commit log, {valid_bytes} bytes")?;
            match lost_bytes {
                0 => Ok(()),
                n => write!(f, "; {n} bytes behind them were torn or damaged, and cut off"),
            }
        }
        Event::BatchReplayed {
            batch,
            complete: true,
            age_us,
        } => write!(f, "batch {} applied by replay, {} ms old", name(batch), age_us / 1000),
        Event::BatchReplayed { batch, age_us, .. } => write!(
            f,
            "batch {} could not be replayed whole yet, {} ms old",
            name(batch),
            age_us / 1000
        ),
        Event::Status { peer, up } => {
            write!(f, "sees node {} {}", number(*peer), if *up { "up" } else { "down" })
        }
        Event::HintRefused { peer } => write!(f, "keeps no more hints for node {}", number(*peer)),
        Event::Schema { change, version } => write!(f, "schema change {change}, version {version}"),
        Event::Truncated { table } => write!(f, "emptied table number {}", table.0),
        Event::SchemaUnknown { from } => {
            let from = number(*from);
            write!(
                f,
                "was asked by node {from} about something that its schema does not have"
            )
        }
        Event::Joining { host_id } => write!(f, "takes the place of a lost node, as {host_id}"),
        Event::Joined { mutations } => write!(f, "has joined with {mutations} mutations of others"),
        Event::Purged { table, rows } => write!(
            f,
            "compacted table number {}: {rows} rows and partitions lost what was too old",
            table.0
        ),
        Event::RepairBegun { number, what, ranges } => {
            write!(f, "begins repair {number} of {what}, {ranges} ranges")
        }
        Event::RepairEnded {
            number,
            mutations,
            failed: None,
        } => write!(
            f,
            "repair {number} is done, {mutations} mutations were lacking on replicas"
        ),
        Event::RepairEnded {
            number,
            failed: Some(reason),
            ..
        } => write!(f, "repair {number} failed: {reason}"),
        Event::ViewBuilt { view } => write!(f, "has built its part of the view with table number {}", view.0),
        other => write!(f, "{other:?}"),
    }
}
