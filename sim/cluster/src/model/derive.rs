//! Writes that depend on what is there: setting, deleting and discarding elements of a list by their index or value. The
//! coordinator reads, then writes what comes of it; between the two others may write, as on real servers (C
//! `ModificationStatement.readRequiredLists`). In a conditional request nobody writes between: the round has read.

use super::{Consistency, ReadCommand, ReadResult, WriteKind, WriteSet};
use std::fmt::Debug;
use std::sync::Arc;

/// What a write becomes once the rows are known.
pub trait Derive: Debug + Send + Sync {
    /// Adds the operations, given what each read returned.
    ///
    /// # Errors
    /// Why they cannot be made of it, in the words of real servers.
    fn write(&self, read: &[ReadResult], out: &mut WriteSet) -> Result<(), String>;
}

/// A write that needs reads first.
#[derive(Debug, Clone)]
pub struct DerivedWrite {
    /// The reads, at the write's level.
    pub reads: Vec<ReadCommand>,
    /// What the write becomes.
    pub derive: Arc<dyn Derive>,
    /// One statement, or a batch and which.
    pub kind: WriteKind,
    /// Level of the reads and of the write.
    pub consistency: Consistency,
    /// Default timestamp of the request.
    pub timestamp_us: Option<i64>,
    /// `USING TIMEOUT` of the write.
    pub timeout_ms: Option<u32>,
}
