//! Lightweight transactions: Paxos per partition, as Cassandra's `StorageProxy.legacyCas` (variant v1, the default of 5.0)
//! and ScyllaDB's `storage_proxy::cas` do it.
//!
//! | module | what |
//! |---|---|
//! | `acceptor` | a replica's part: promises, acceptances, commits |
//! | `turns` | how long a replica takes to come to a message of a round |
//! | `proposer` | a coordinator's part: prepare, finish what others left, read, propose, commit |
//!
//! An operation whose proposal was accepted by some but not by a quorum has an *unknown* outcome: a later operation on the
//! partition finishes it or supersedes it.

mod acceptor;
mod proposer;
mod turns;

use super::seal::Sealed;
use crate::model::TableId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) use acceptor::PaxosRow;
pub(super) use proposer::CasOp;
pub(super) use turns::Turns;

/// The number of a proposal: microseconds of the proposer's clock, unique on its node, and the node. Its time is the
/// timestamp of what the proposal writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Unix microseconds.
    pub time_us: i64,
    /// Index of the node, which breaks ties.
    pub node: u8,
}

/// The partition that is agreed about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PaxosKey {
    /// Table.
    pub table: TableId,
    /// Serialized partition key.
    pub partition: Vec<u8>,
}

/// A proposal: its ballot and what it writes. Reads, and conditions that do not hold, propose nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its number.
    pub ballot: Ballot,
    /// Its mutations; `None` writes nothing.
    pub update: Option<Arc<Sealed>>,
}

/// What a replica answers to a prepare.
#[derive(Debug, Clone)]
pub struct Promise {
    /// Whether it promises to accept nothing older.
    pub granted: bool,
    /// The newest ballot that it has promised.
    pub promised: Ballot,
    /// What it has accepted and not seen committed.
    pub accepted: Option<Proposal>,
    /// The newest proposal that it knows to be committed.
    pub committed: Option<Proposal>,
}
