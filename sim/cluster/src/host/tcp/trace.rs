//! The trace of a running cluster: what happened between its nodes and which faults struck, the newest lines of it.

use super::notice::Notice;
use crate::core::message::Event;
use crate::model::NodeIdx;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines that are kept; the oldest go first. A line takes about 200 bytes.
pub const TRACE_LINES_MAX: usize = 20_000;

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct TraceLine {
    /// Its number, from 1 since the cluster's start; a gap tells of lines that are gone.
    pub n: u64,
    /// When, microseconds since the Unix epoch.
    pub at_us: u64,
    /// On which node, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<u16>,
    /// The fault that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<u32>,
    /// What.
    #[serde(flatten)]
    pub what: TraceEvent,
}

/// What a line is about.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum TraceEvent {
    /// Something that a node tells of itself.
    Core(Event),
    /// Something done to nodes, or said of them.
    Host {
        /// What it is.
        event: &'static str,
        /// For people.
        text: String,
    },
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<TraceLine>,
    last: u64,
}

/// The newest lines.
#[derive(Debug, Default)]
pub(super) struct Trace {
    ring: Mutex<Ring>,
}

impl Trace {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, at_us: u64, node: Option<NodeIdx>, fault: Option<u32>, what: TraceEvent) {
        let mut ring = self.lock();
        ring.last += 1;
        let n = ring.last;
        if ring.lines.len() == TRACE_LINES_MAX {
            ring.lines.pop_front();
        }
        let node = node.map(|n| u16::from(n.0) + 1);
        ring.lines.push_back(TraceLine {
            n,
            at_us,
            node,
            fault,
            what,
        });
    }

    /// Something done to nodes, or said of them.
    pub(super) fn note(
        &self,
        at_us: u64,
        node: Option<NodeIdx>,
        event: &'static str,
        fault: Option<u32>,
        text: String,
    ) {
        self.push(at_us, node, fault, TraceEvent::Host { event, text });
    }

    /// What a node tells. Each mutation that is applied is not worth a line.
    pub(super) fn notice(&self, at_us: u64, notice: &Notice) {
        match notice {
            Notice::Event {
                event: Event::Applied { .. },
                ..
            } => {}
            Notice::Event { node, event } => self.push(at_us, Some(*node), None, TraceEvent::Core(event.clone())),
            Notice::Compacted { node, .. } => self.note(at_us, Some(*node), "compacted", None, notice.to_string()),
            Notice::NotCompacted { node, reason } => {
                self.note(at_us, Some(*node), "not-compacted", None, reason.clone());
            }
            Notice::Halted { node, reason } => self.note(at_us, Some(*node), "halted", None, reason.clone()),
            Notice::Accept { node, reason } => self.note(at_us, Some(*node), "accept-failed", None, reason.clone()),
        }
    }

    /// At most `limit` lines whose number is greater than `after`.
    pub(super) fn lines(&self, after: u64, limit: usize) -> Vec<TraceLine> {
        let ring = self.lock();
        let first = ring.lines.partition_point(|line| line.n <= after);
        ring.lines.range(first..).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_go() {
        let trace = Trace::default();
        for n in 0..TRACE_LINES_MAX as u64 + 5 {
            trace.note(n, Some(NodeIdx(1)), "killed", None, String::new());
        }
        let lines = trace.lines(0, usize::MAX);
        assert_eq!((lines.len(), lines[0].n), (TRACE_LINES_MAX, 6));
        assert_eq!(trace.lines(10, 2).iter().map(|l| l.n).collect::<Vec<_>>(), [11, 12]);
        assert_eq!(
            serde_json::to_string(&lines[0]).unwrap(),
            r#"{"n":6,"at_us":5,"node":2,"event":"killed","text":""}"#
        );
        trace.notice(
            7,
            &Notice::Event {
                node: NodeIdx(0),
                event: Event::HintStored { peer: NodeIdx(2) },
            },
        );
        let last = trace.lines(TRACE_LINES_MAX as u64 + 5, 9);
        assert_eq!(
            serde_json::to_string(&last).unwrap(),
            r#"[{"n":20006,"at_us":7,"node":1,"event":"hint-stored","peer":2}]"#
        );
    }
}
