//! Anomalies on record, shown by the database while a fault lasts. A node that is restarted meanwhile shows none any more, but
//! for its clock.
use super::{Machines, index};
use crate::plan::Lie;
use sim_cluster::core::{self, ViewFault};

/// Has the database show `lie`, or not any more.
pub(super) fn show(machines: &Machines, lie: Lie, on: bool) {
    let everywhere = |lie: core::Lie| {
        for node in machines.cluster.nodes() {
            machines.cluster.lie(node, lie, on);
        }
    };
    match lie {
        Lie::KeepBatchlog => everywhere(core::Lie::KeepBatchlog),
        Lie::HoldReplay => everywhere(core::Lie::HoldReplay),
        Lie::TearPartitions => everywhere(core::Lie::TearPartitions),
        Lie::ForgetPaxos { node } => machines.cluster.lie(index(node), core::Lie::ForgetPaxos, on),
        Lie::LoseViewUpdates => {
            let fault = if on { ViewFault::Lose } else { ViewFault::None };
            for node in machines.cluster.nodes() {
                machines.cluster.view_updates(node, fault);
            }
        }
        Lie::ClockAhead { node, by_ms } => {
            let by_us = i64::try_from(by_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
            let was_us = machines.cluster.config().nodes[usize::from(node)].clock.skew_us;
            let skew_us = if on { was_us.saturating_add(by_us) } else { was_us };
            machines.cluster.set_clock_skew(index(node), skew_us);
        }
    }
}
