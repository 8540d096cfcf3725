//! The fault budget: which faults may coexist and still be survivable by a correct settlement at replication factor 3.
//!
//! | what | budget | why |
//! |---|---|---|
//! | database nodes impaired at once (down, paused, cut off) | 1 of 3 | a quorum must remain, or nothing can be acknowledged |
//! | rest between two nodes' impairments | 1 s | a node that just came back must be seen as up again before the next goes |
//! | all nodes at once | only as a power loss of all of them | nothing answers, so nothing is promised; recovery is what is tested |
//! | a node's outage | 3 h at most | past the hint window only repair heals a replica |
//! | a node's commit-log sync lag | below settlement's durable slack | `durable` is computed from it |
//! | engine and settlement | any number of outages, each at most 10 min | the WAL's bound covers the longest budgeted outage |
//! | settlement's disk | errors and full spells at most 60 s each | a disk that never works again is a replaced host |
//! | settlement's WAL lost or damaged | only where the engine keeps every event (the scenario says so) | what nobody has cannot be settled |
//!
//! A plan drawn from a seed stays within it; a plan edited by hand may not. Beyond it a failure proves nothing, so the
//! verdict is `inconclusive`, never pass.
use crate::plan::{Action, Fault, Plan, Target, When};

/// Time between the end of one node's impairment and the start of another's.
pub const REST_MS: u64 = 1_000;
/// The hint window: the longest outage of a node from which hints still heal it.
pub const NODE_OUTAGE_MAX_MS: u64 = 3 * 3_600_000;
/// Longest outage of settlement or the engine.
pub const PROGRAM_OUTAGE_MAX_MS: u64 = 600_000;
/// Longest full spell of settlement's disk.
pub const DISK_SPELL_MAX_MS: u64 = 60_000;

/// A span of simulated time in which a database node is impaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The node, from 0.
    pub node: u16,
    /// From, ms.
    pub from_ms: u64,
    /// To, ms.
    pub to_ms: u64,
}

impl Window {
    /// Whether the two impair different nodes closer together than the budget allows.
    pub fn clashes(&self, other: &Window) -> bool {
        self.node != other.node && self.from_ms < other.to_ms + REST_MS && other.from_ms < self.to_ms + REST_MS
    }
}

/// Why a run is beyond the budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Beyond {
    /// Two nodes were impaired at once.
    #[error("nodes {0} and {1} were impaired at the same time ({2} ms): no quorum is promised then")]
    TwoNodes(u16, u16, u64),
    /// A node was away for longer than hints are kept.
    #[error("node {node} was away for {ms} ms, longer than the hint window of {NODE_OUTAGE_MAX_MS} ms")]
    NodeOutage {
        /// The node, from 0.
        node: u16,
        /// For how long.
        ms: u64,
    },
    /// Settlement or the engine was away for longer than its buffers are sized for.
    #[error("fault {id} keeps a program away for {ms} ms, longer than {PROGRAM_OUTAGE_MAX_MS} ms")]
    ProgramOutage {
        /// The fault.
        id: u32,
        /// For how long.
        ms: u64,
    },
    /// The disk was full for longer than budgeted.
    #[error("fault {id} fills the disk for {ms} ms, longer than {DISK_SPELL_MAX_MS} ms")]
    DiskSpell {
        /// The fault.
        id: u32,
        /// For how long.
        ms: u64,
    },
}

/// For how long `fault` impairs a database node, and which; None where it impairs none or its node is not known
/// before it fires (the coordinator of a batch).
pub fn impairs(fault: &Fault) -> Option<(u16, u64)> {
    match fault.action {
        Action::Kill {
            target: Target::Node(node),
            restart_after_ms,
        } => Some((node, restart_after_ms)),
        Action::PowerLoss {
            target: Target::Node(node),
            restart_after_ms,
        } => Some((node, restart_after_ms)),
        Action::Pause {
            target: Target::Node(node),
            for_ms,
        } => Some((node, for_ms)),
        Action::CutClient { node, for_ms, .. } | Action::CutPeer { node, for_ms, .. } => Some((node, for_ms)),
        _ => None,
    }
}

/// The planned window of a fault that strikes at a time.
pub fn window(fault: &Fault) -> Option<Window> {
    let (node, ms) = impairs(fault)?;
    match fault.when {
        When::AtMs(from_ms) => Some(Window {
            node,
            from_ms,
            to_ms: from_ms + ms,
        }),
        When::Batch { .. } | When::Published { .. } => None,
    }
}

/// Judges what was planned: outages and spells.
pub fn judge_plan(plan: &Plan) -> Result<(), Beyond> {
    for fault in &plan.faults {
        match fault.action {
            Action::CrashSettlement {
                restart_after_ms: ms, ..
            }
            | Action::TornTail { restart_after_ms: ms }
            | Action::DiskLost { restart_after_ms: ms }
            | Action::DiskRot {
                restart_after_ms: ms, ..
            }
            | Action::DiskUnreadable {
                restart_after_ms: ms, ..
            }
            | Action::Kill {
                target: Target::Settlement | Target::Engine,
                restart_after_ms: ms,
            }
            | Action::PowerLoss {
                target: Target::Settlement | Target::Engine,
                restart_after_ms: ms,
            }
            | Action::KillAll { restart_after_ms: ms }
            | Action::PowerLossAll { restart_after_ms: ms }
            | Action::PowerLossDatabase {
                restart_after_ms: ms, ..
            }
            | Action::Pause {
                target: Target::Settlement | Target::Engine,
                for_ms: ms,
            } if ms > PROGRAM_OUTAGE_MAX_MS => {
                return Err(Beyond::ProgramOutage { id: fault.id, ms });
            }
            Action::DiskFull { for_ms } if for_ms > DISK_SPELL_MAX_MS => {
                return Err(Beyond::DiskSpell {
                    id: fault.id,
                    ms: for_ms,
                });
            }
            _ => {}
        }
    }
    judge_windows(&plan.faults.iter().filter_map(window).collect::<Vec<_>>())
}

/// Judges what happened: the spans in which nodes really were impaired.
pub fn judge_windows(windows: &[Window]) -> Result<(), Beyond> {
    for (index, a) in windows.iter().enumerate() {
        let ms = a.to_ms.saturating_sub(a.from_ms);
        if ms > NODE_OUTAGE_MAX_MS {
            return Err(Beyond::NodeOutage { node: a.node, ms });
        }
        for b in &windows[index + 1..] {
            let overlap = a.to_ms.min(b.to_ms).saturating_sub(a.from_ms.max(b.from_ms));
            if a.node != b.node && overlap > 0 {
                return Err(Beyond::TwoNodes(a.node, b.node, overlap));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;

    fn kill(id: u32, node: u16, at_ms: u64, ms: u64) -> Fault {
        Fault {
            id,
            class: Class::ProcessKill,
            when: When::AtMs(at_ms),
            action: Action::Kill {
                target: Target::Node(node),
                restart_after_ms: ms,
            },
        }
    }

    #[test]
    fn two_nodes_at_once_are_beyond_one_after_the_other_is_within() {
        let mut plan = Plan::empty();
        plan.faults = vec![kill(0, 0, 1_000, 5_000), kill(1, 1, 4_000, 5_000)];
        assert_eq!(judge_plan(&plan), Err(Beyond::TwoNodes(0, 1, 2_000)));
        plan.faults[1].when = When::AtMs(7_000);
        assert_eq!(judge_plan(&plan), Ok(()));
        plan.faults[1] = kill(1, 0, 4_000, 5_000);
        assert_eq!(judge_plan(&plan), Ok(()), "the same node twice is still one node");
    }

    #[test]
    fn endless_outages_are_beyond() {
        let mut plan = Plan::empty();
        plan.faults = vec![kill(0, 0, 0, NODE_OUTAGE_MAX_MS + 1)];
        assert!(matches!(judge_plan(&plan), Err(Beyond::NodeOutage { node: 0, .. })));
        plan.faults[0].action = Action::DiskFull {
            for_ms: DISK_SPELL_MAX_MS + 1,
        };
        assert!(matches!(judge_plan(&plan), Err(Beyond::DiskSpell { id: 0, .. })));
    }
}
