//! What a run is given besides its seed. Numbers only; nothing here is drawn.

use crate::disk::DiskConfig;
use crate::net::NetConfig;

/// The settings of one run.
#[derive(Clone, Debug, Default)]
pub struct WorldConfig {
    /// Keep every delivery, disk operation and draw as a record. The hash is the same either way.
    pub record_all: bool,
    /// The network.
    pub net: NetConfig,
    /// Every disk.
    pub disk: DiskConfig,
    /// A run that simulates more than this many nanoseconds ends with an error. None: no limit.
    pub time_limit_ns: Option<u64>,
    /// A task that panics does not fail the run; its panic is reported in the summary only.
    pub tolerate_panics: bool,
    /// The world is not taken down at the end: for a process that ends with its run, where freeing every row and message
    /// one by one is time for nothing. A panic in a destructor at the very end goes unseen then.
    pub leave_standing: bool,
}
