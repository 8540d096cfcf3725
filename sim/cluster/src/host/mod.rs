//! Where a cluster runs: the I/O around `crate::core` and `crate::cql`.
//!
//! - `sim`: in the simulated world, on its machines, links and disks;
//! - `tcp`: on real TCP and real files, all nodes in one process (what `scylla-sim` runs);
//! - `asked`, `changes`: what both need: requests under way, and what the schema's changes are told as;
//! - [`hostile`]: a node without I/O that is given whatever bytes, for the fuzzer;
//! - [`tap`]: reading the batches of a client out of raw bytes, so that a fault can strike before one leaves.
//!
//! The core and the front know nothing of either host.

mod asked;
mod changes;
pub mod hostile;
#[cfg(madsim)]
pub mod sim;
pub mod tap;
#[cfg(not(madsim))]
pub mod tcp;

/// Why a node cannot be added to a running cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "adding a node is not supported: the ring of a simulated cluster is fixed when it starts. Start it with all nodes \
     (`scylla-sim --nodes N` with an empty directory, `ClusterConfig::new(N, …)`), or have a lost node replaced (`replace`)"
)]
pub struct NoNewNodes;
