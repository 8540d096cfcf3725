//! Where a cluster runs: the I/O around `crate::core` and `crate::cql`.
//!
//! - `sim`: in the simulated world, on its machines, links and disks;
//! - [`tap`]: reading the batches of a client out of raw bytes, so that a fault can strike before one leaves.
//!
//! A host on real TCP and real files would stand beside `sim`: the core and the front know nothing of either.

#[cfg(madsim)]
pub mod sim;
pub mod tap;
