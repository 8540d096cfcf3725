//! Conditional writes (lightweight transactions) and reads at a serial level, as the edge hands them to a coordinator.
//!
//! The core runs Paxos and knows nothing of CQL's conditions: it reads the rows, asks [`Condition::holds`], and writes or
//! does not.

use super::{Consistency, Derive, ReadCommand, ReadResult, WriteSet};
use std::fmt::Debug;
use std::sync::Arc;

/// What must be true of the rows for the writes to be made.
pub trait Condition: Debug + Send + Sync {
    /// Whether it is true of what was read.
    fn holds(&self, current: &ReadResult) -> bool;
}

/// What is done once a round of Paxos has read.
#[derive(Debug, Clone)]
pub enum CasAction {
    /// Nothing: it is a read at a serial level, answered with [`super::Response::Rows`].
    Read,
    /// These writes, if the condition holds; answered with [`super::Response::Cas`]. Operations without a timestamp get
    /// the ballot's.
    Write {
        /// The condition.
        condition: Arc<dyn Condition>,
        /// The writes, all of the partition that is read.
        writes: WriteSet,
        /// More of them, which depend on what was read (its only result).
        derived: Option<Arc<dyn Derive>>,
    },
}

/// A linearizable operation on one partition.
#[derive(Debug, Clone)]
pub struct CasRequest {
    /// What is read, at a quorum, before anything is decided. Exactly one partition.
    pub read: ReadCommand,
    /// And then.
    pub action: CasAction,
    /// SERIAL or LOCAL_SERIAL: among whom the order is agreed.
    pub serial: Consistency,
    /// At which level the outcome is learnt by replicas before the answer.
    pub commit: Consistency,
}
