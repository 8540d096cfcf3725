//! Faults of settlement's disk: what is unsynced is torn, operations fail, room ends, bits turn over, everything is gone.
use super::{Blow, Executor, MS};
use crate::plan::{Fault, RotPlace, Target};
use sim_world::{Disk, DiskFault};

/// How long a sync of settlement's disk takes before a power loss that is to tear its tail: long enough for a few events
/// to be appended meanwhile at every workload's rate.
const SLOW_FSYNC_MS: u64 = 400;
/// So much of a segment's beginning was durable before the file had its name: its head (76 bytes) and, of the first record,
/// what every record has.
const LAST_HEAD_BYTES: u64 = 100;

/// Which bit turns over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rot {
    pub place: RotPlace,
    pub at_permille: u16,
    pub bit: u8,
}

impl Executor {
    /// A power loss tears only what is unsynced, so the disk is made slow first and power goes while it syncs.
    pub(super) fn torn_tail(&self, fault: Fault, restart_after_ms: u64) {
        self.change_disk(|disk| disk.slow_fsync_ns = SLOW_FSYNC_MS * MS);
        let weak = self.weak();
        self.state().waiting.push(fault.clone());
        self.later(self.now_ms() + SLOW_FSYNC_MS - 1, move || {
            let Some(executor) = weak.upgrade() else { return };
            let Some(fault) = executor.take(fault.id) else { return };
            executor.change_disk(|disk| disk.slow_fsync_ns = 0);
            executor.outage(&fault, Target::Settlement, restart_after_ms, Blow::Power);
        });
    }

    pub(super) fn disk_eio(&self, fault: &Fault, writes: u32, fsyncs: u32) {
        self.change_disk(|disk| (disk.fail_writes, disk.fail_fsyncs) = (writes, fsyncs));
        let detail = format!("the next {writes} writes and {fsyncs} fsyncs of settlement's disk fail");
        self.fired_until(fault, self.now_ms(), detail);
    }

    pub(super) fn disk_full(&self, fault: Fault, for_ms: u64) {
        let used_bytes = self.disk().used_bytes();
        self.change_disk(|disk| disk.capacity_bytes = Some(used_bytes));
        let until_ms = self.now_ms() + for_ms;
        self.fired_until(&fault, until_ms, format!("settlement's disk is full for {for_ms} ms"));
        self.undo(until_ms, fault, |e| e.change_disk(|disk| disk.capacity_bytes = None));
    }

    pub(super) fn disk_lost(&self, fault: &Fault, restart_after_ms: u64) {
        self.outage(fault, Target::Settlement, restart_after_ms, Blow::Kill);
        self.disk().replace();
    }

    pub(super) fn disk_unreadable(&self, fault: &Fault, reads: u32, restart_after_ms: u64) {
        self.outage(fault, Target::Settlement, restart_after_ms, Blow::Kill);
        self.change_disk(|disk| disk.fail_reads = reads);
    }

    /// The process is killed, not the machine, so that everything it wrote is there and only the bit is wrong.
    pub(super) fn disk_rot(&self, fault: &Fault, rot: Rot, restart_after_ms: u64) {
        let Some((path, offset)) = spot(&self.disk(), rot) else {
            return self.left_out(fault, "settlement has no WAL yet".into());
        };
        self.outage(fault, Target::Settlement, restart_after_ms, Blow::Kill);
        self.disk().bit_rot(path, offset, rot.bit);
    }

    fn disk(&self) -> Disk {
        self.machines().settlement.disk()
    }

    /// Faults of other kinds stay as they are.
    fn change_disk(&self, change: impl FnOnce(&mut DiskFault)) {
        let disk = self.disk();
        let mut fault = disk.fault();
        change(&mut fault);
        disk.set_fault(fault);
    }
}

/// The file and the byte in it.
fn spot(disk: &Disk, rot: Rot) -> Option<(String, u64)> {
    let files: Vec<(String, u64)> = disk.files();
    let at = |bytes: u64| bytes * u64::from(rot.at_permille.min(999)) / 1_000;
    // Numbered with leading zeros, so that the last name is the newest.
    let segments = || files.iter().filter(|(path, _)| path.ends_with(".wal"));
    match rot.place {
        RotPlace::Header => {
            let (path, bytes) = files.iter().find(|(path, _)| path.ends_with("/HEADER"))?;
            Some((path.clone(), at(*bytes)))
        }
        RotPlace::LastHead => {
            let (path, bytes) = segments().next_back()?;
            Some((path.clone(), at(LAST_HEAD_BYTES.min(*bytes))))
        }
        RotPlace::Anywhere => {
            let mut left = at(segments().map(|(_, bytes)| bytes).sum());
            for (path, bytes) in segments() {
                if left < *bytes {
                    return Some((path.clone(), left));
                }
                left -= bytes;
            }
            None
        }
    }
}
