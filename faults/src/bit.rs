//! When has a fault bitten? One predicate over the trace per class, as [`crate::class`] states it in words. The records
//! looked at come from the world, the database and the runner's samples of settlement's metrics, never from whoever
//! carried the fault out.
use crate::class::Class;
use crate::plan::{Action, Fault, Target, TimeoutWorld};
use sim_world::trace::{ClusterRecord, CqlOp, FaultStage, HostChange, Kind, Record};
use std::collections::BTreeMap;

/// How a note with settlement's metrics begins; the runner writes `metrics name=value name=value …` whenever one of them
/// has changed, summed over all starts of settlement.
pub const METRICS_NOTE: &str = "metrics ";
/// How a note about bytes that a power loss took from a program's disk begins.
pub const DISK_LOST_NOTE: &str = "disk lost ";
/// How a note that settlement has stopped by itself begins; the kind of its reason follows.
pub const STOPPED_NOTE: &str = "stopped by itself: ";
/// The kind of reason: a file operation failed.
pub const STOP_DISK: &str = "disk";
/// The kind of reason: what was durable in the WAL is not readable.
pub const STOP_DAMAGE: &str = "damage";
const MS: u64 = 1_000_000;
/// What belongs to the moment of a fault is at most this far from it: a batchlog is written a little before what follows it
/// is struck, and a node that was busy or frozen comes a little late.
const SAME_MOMENT_MS: u64 = 50;
/// A watermark that stands still for this long while events wait is held up.
const HELD_UP_MS: u64 = 500;

/// Whether the fault changed an outcome. False for one that did not fire.
pub fn has_bitten(fault: &Fault, records: &[Record]) -> bool {
    let fired = records.iter().position(|record| is_fired(record, fault.id));
    let Some(fired) = fired else { return false };
    let story = Story {
        fault,
        before: &records[..fired],
        after: &records[fired..],
    };
    story.bitten()
}

fn is_fired(record: &Record, id: u32) -> bool {
    matches!(&record.kind, Kind::Fault(f) if f.id == id && f.stage == FaultStage::Fired)
}

/// The trace around the moment of a fault.
struct Story<'a> {
    fault: &'a Fault,
    before: &'a [Record],
    after: &'a [Record],
}

impl Story<'_> {
    fn bitten(&self) -> bool {
        use Class::*;
        match self.fault.class {
            CrashBeforeBatch => {
                self.went_down("settlement")
                    && !self.batch_in(self.before)
                    && self.batch_in(self.after_restart("settlement"))
            }
            CrashAfterBatch => self.went_down("settlement") && self.batch_in(self.after_restart("settlement")),
            CoordinatorKillAfterBatchlog | CoordinatorKillMidBatch => {
                self.a_node_went_down_then()
                    && (self.batch_in(&self.after[1..])
                        || self.cluster(|c| matches!(c, ClusterRecord::BatchlogReplayed { .. })))
            }
            TimeoutNeverApplied | TimeoutAppliedAtOnce => self.timed_out(),
            TimeoutAppliedByReplay => self.timed_out() && self.replayed_what_was_written_then(),
            TimeoutExecutedLate => self.timed_out() && self.executed_late(),
            DuplicateDelivery => self.rose("duplicates") >= 1,
            ReorderedDelivery => self.rose("gaps") >= 1 || self.rose("replays_requested") >= 1,
            SequenceGap | TailLoss | GapSlowReplay => self.rose("replays_requested") >= 1,
            GapPartialReplay => self.rose("replays_requested") >= 2,
            GapRefusedReplay => self.rose("replays_refused") >= 1,
            DamagedDelivery => self.rose("damaged") >= 1,
            ForgedDelivery => self.rose("forks") >= 1,
            RefusedEvent => self.rose("dead_letters") >= 1,
            EngineCrash | EnginePowerLoss => self.came_back("engine"),
            ProcessKill | PowerLoss => self.struck_machine(),
            ProcessKillAll | PowerLossAll => ["settlement", "engine", "db-1"].iter().all(|name| self.came_back(name)),
            PowerLossDatabase => ["db-1", "db-2", "db-3"].iter().all(|name| self.came_back(name)),
            Pause => self.paused(),
            PartitionClient => self.held_up() || self.rose("retries") >= 1,
            PartitionPeer => self.nodes_noticed(),
            DiskTornTail => self.came_back("settlement") && self.disk_lost_bytes(),
            UnavailableYetApplied => {
                let told = self.cluster(|c| matches!(c, ClusterRecord::Unavailable { .. }));
                let lie = "unavailable-yet-applied";
                told && match self.fault.action {
                    // A batch without a batchlog is not applied then.
                    Action::RefuseYetApply { by_replay: true } => self.lied_and_replayed(lie),
                    _ => self.lied(lie),
                }
            }
            BatchlogKept => self.lied_and_replayed("keep-batchlog"),
            ReplayHeld => self.lied_and_replayed("hold-replay"),
            PartitionTorn => self.lied("tear-partitions"),
            PaxosForgotten => self.lied("forget-paxos"),
            ViewUpdatesLost => self.lied("lose-view-updates"),
            ClockAhead => self.lied("wrong-clock"),
            DiskLost => self.came_back("settlement") && self.disk_was_replaced() && self.rose("replays_requested") >= 1,
            DiskRot => self.came_back("settlement") && self.stopped(STOP_DAMAGE),
            DiskUnreadable => self.came_back("settlement") && self.stopped(STOP_DISK),
            BatchRejected => self.rose("groups_taken_apart") + self.rose("retries") >= 1,
            DiskEio | DiskFull => {
                self.rose("wal_sync_failures") + self.rose("wal_files_abandoned") + self.rose("wal_full") >= 1
            }
        }
    }

    /// The batch that the fault struck, as its record names it.
    fn batch(&self) -> Option<String> {
        let Kind::Fault(fired) = &self.after.first()?.kind else {
            return None;
        };
        let from = fired.detail.find("batch of event ")?;
        let digits = fired.detail[from + 15..]
            .chars()
            .take_while(char::is_ascii_digit)
            .count();
        Some(fired.detail[from..from + 15 + digits].to_string())
    }

    fn batch_in(&self, records: &[Record]) -> bool {
        let Some(batch) = self.batch() else { return false };
        records
            .iter()
            .any(|r| matches!(&r.kind, Kind::Cql(c) if c.label == batch && matches!(c.op, CqlOp::Request { .. })))
    }

    fn host(records: &[Record], name: &str, wanted: &[HostChange]) -> Option<usize> {
        records
            .iter()
            .position(|r| matches!(&r.kind, Kind::Host { name: n, change } if n == name && wanted.contains(change)))
    }

    fn went_down(&self, name: &str) -> bool {
        Self::host(self.after, name, &[HostChange::Killed, HostChange::PoweredOff]).is_some()
    }

    fn after_restart(&self, name: &str) -> &[Record] {
        let index = Self::host(self.after, name, &[HostChange::Restarted]);
        index.map_or(&[], |index| &self.after[index..])
    }

    fn came_back(&self, name: &str) -> bool {
        self.went_down(name) && !self.after_restart(name).is_empty()
    }

    /// When the fault struck.
    fn fired_ns(&self) -> u64 {
        self.after.first().map_or(0, |record| record.at_ns)
    }

    /// Records of the moment of the fault.
    fn then(&self) -> impl Iterator<Item = &Record> {
        let fired_ns = self.fired_ns();
        self.after.iter().take_while(move |record| record.at_ns == fired_ns)
    }

    fn a_node_went_down_then(&self) -> bool {
        self.then().any(|r| {
            matches!(&r.kind, Kind::Host { name, change: HostChange::Killed | HostChange::PoweredOff } if name.starts_with("db-"))
        })
    }

    /// A holder replayed an entry that is as old as the fault.
    fn replayed_what_was_written_then(&self) -> bool {
        let fired_ns = self.fired_ns();
        self.after.iter().any(|r| match &r.kind {
            Kind::Cluster(ClusterRecord::BatchlogReplayed { age_ms, .. }) => {
                let written_ns = r.at_ns.saturating_sub(age_ms * MS);
                written_ns.abs_diff(fired_ns) <= SAME_MOMENT_MS * MS
            }
            _ => false,
        })
    }

    /// A coordinator executed something as late as the fault says.
    fn executed_late(&self) -> bool {
        let Action::TimeOutBatch(TimeoutWorld::ExecutedLate { after_ms }) = self.fault.action else {
            return false;
        };
        let due_ns = self.fired_ns() + after_ms * MS;
        self.after.iter().any(|r| {
            matches!(r.kind, Kind::Cluster(ClusterRecord::ExecutedLate { .. }))
                && r.at_ns.abs_diff(due_ns) <= SAME_MOMENT_MS * MS
        })
    }

    fn cluster(&self, wanted: impl Fn(&ClusterRecord) -> bool) -> bool {
        self.after
            .iter()
            .any(|r| matches!(&r.kind, Kind::Cluster(c) if wanted(c)))
    }

    /// The database showed the anomaly of this name.
    fn lied(&self, wanted: &str) -> bool {
        self.cluster(|c| matches!(c, ClusterRecord::Lied { lie } if lie == wanted))
    }

    /// It did, and after that entries of a batchlog were replayed.
    fn lied_and_replayed(&self, wanted: &str) -> bool {
        let lied = |r: &Record| matches!(&r.kind, Kind::Cluster(ClusterRecord::Lied { lie }) if lie == wanted);
        let replayed = |r: &Record| matches!(&r.kind, Kind::Cluster(ClusterRecord::BatchlogReplayed { .. }));
        let first = self.after.iter().position(lied);
        first.is_some_and(|first| self.after[first..].iter().any(replayed))
    }

    /// A coordinator answered a write timeout, then.
    fn timed_out(&self) -> bool {
        self.then()
            .any(|r| matches!(&r.kind, Kind::Cluster(ClusterRecord::WriteTimeout { .. })))
    }

    /// The database noticed that something was amiss between its nodes.
    fn nodes_noticed(&self) -> bool {
        self.cluster(|c| {
            matches!(
                c,
                ClusterRecord::WriteTimeout { .. }
                    | ClusterRecord::ReadTimeout { .. }
                    | ClusterRecord::Unavailable { .. }
                    | ClusterRecord::HintStored { .. }
                    | ClusterRecord::HintDelivered { .. }
                    | ClusterRecord::NodeDown { .. }
                    | ClusterRecord::ReadRepair { .. }
                    | ClusterRecord::BatchlogReplayed { .. }
            )
        })
    }

    fn target(&self) -> Option<Target> {
        match self.fault.action {
            Action::Kill { target, .. } | Action::PowerLoss { target, .. } | Action::Pause { target, .. } => {
                Some(target)
            }
            _ => None,
        }
    }

    fn struck_machine(&self) -> bool {
        match self.target() {
            Some(Target::Settlement) => self.came_back("settlement"),
            Some(Target::Engine) => self.came_back("engine"),
            Some(Target::Node(node)) => {
                let recovered =
                    self.cluster(|c| matches!(c, ClusterRecord::LogRecovered { .. } | ClusterRecord::LogLost { .. }));
                self.came_back(&format!("db-{}", node + 1)) && (recovered || self.nodes_noticed())
            }
            None => false,
        }
    }

    fn paused(&self) -> bool {
        let name = match self.target() {
            Some(Target::Settlement) => "settlement".to_string(),
            Some(Target::Engine) => "engine".to_string(),
            Some(Target::Node(node)) => format!("db-{}", node + 1),
            None => return false,
        };
        let stood = Self::host(self.after, &name, &[HostChange::Paused]).is_some()
            && Self::host(self.after, &name, &[HostChange::Resumed]).is_some();
        stood && (!name.starts_with("db-") || self.nodes_noticed() || self.held_up() || self.rose("retries") >= 1)
    }

    fn disk_lost_bytes(&self) -> bool {
        self.after
            .iter()
            .any(|r| matches!(&r.kind, Kind::Note { text } if text.starts_with(DISK_LOST_NOTE)))
    }

    fn disk_was_replaced(&self) -> bool {
        Self::host(self.after, "settlement", &[HostChange::DiskReplaced]).is_some()
    }

    /// Settlement stopped by itself and named a reason of this kind.
    fn stopped(&self, kind: &str) -> bool {
        let told = |text: &str| text.strip_prefix(STOPPED_NOTE) == Some(kind);
        self.after
            .iter()
            .any(|r| matches!(&r.kind, Kind::Note { text } if told(text)))
    }

    /// By how much a metric rose after the fault, up to its highest value.
    fn rose(&self, name: &str) -> u64 {
        let before = self
            .before
            .iter()
            .rev()
            .find_map(metrics)
            .and_then(|m| m.get(name).copied())
            .unwrap_or(0);
        let after = self
            .after
            .iter()
            .filter_map(metrics)
            .filter_map(|m| m.get(name).copied())
            .max()
            .unwrap_or(0);
        after.saturating_sub(before)
    }

    /// The acknowledged watermark stood still for a while although events waited.
    fn held_up(&self) -> bool {
        let samples: Vec<(u64, u64, u64)> = self
            .after
            .iter()
            .filter_map(|r| {
                let m = metrics(r)?;
                Some((r.at_ns / 1_000_000, *m.get("acknowledged")?, *m.get("received")?))
            })
            .collect();
        let mut since: Option<(u64, u64)> = None;
        for (at_ms, acknowledged, received) in samples {
            match since {
                Some((from, stuck)) if stuck == acknowledged => {
                    if at_ms - from >= HELD_UP_MS {
                        return true;
                    }
                }
                _ => since = (acknowledged < received).then_some((at_ms, acknowledged)),
            }
        }
        false
    }
}

/// The metrics of a note, by name.
fn metrics(record: &Record) -> Option<BTreeMap<&str, u64>> {
    let Kind::Note { text } = &record.kind else { return None };
    let pairs = text.strip_prefix(METRICS_NOTE)?;
    Some(
        pairs
            .split(' ')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(k, v)| Some((k, v.parse().ok()?)))
            .collect(),
    )
}

#[cfg(test)]
mod tests;
