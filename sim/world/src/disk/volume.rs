//! One disk: files, names, space, faults, and syncs that take time. No tasks: a sync that is due is completed by whatever
//! looks at the volume next, so that a program that stops waiting for a sync does not stop the sync.

use super::DiskFault;
use super::image::Content;
use super::inode::Inode;
use super::names::{Entry, Names, errno, os_error};
use super::{DiskConfig, OpenFlags};
use crate::seed::Source;
use crate::summary::DiskStats;
use std::collections::BTreeMap;
use std::io;

struct Slot {
    inode: Inode,
    /// Open handles.
    opens: u32,
    /// A name leads to it.
    linked: bool,
    /// Neither named nor open: its data is kept only because a power loss may bring its name back, and takes no room.
    dead: bool,
    /// When its last sync ends: syncs of one file end in order.
    last_sync_ns: u64,
}

/// What ends at an instant.
enum Sync {
    File { file: usize, fails: bool },
    Dir { point: u64 },
}

/// A sync that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) done_ns: u64,
    pub(super) fails: bool,
}

pub(super) struct Volume {
    config: DiskConfig,
    source: Source,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    pub(super) names: Names,
    used: u64,
    /// Files that are neither named nor open.
    dead: usize,
    pub(super) fault: DiskFault,
    /// Bumped when the disk is replaced: older handles are dead.
    pub(super) epoch: u32,
    syncs: BTreeMap<(u64, u64), Sync>,
    begun: u64,
    pub(super) torn: bool,
    pub(super) stats: DiskStats,
}

impl Volume {
    pub(super) fn new(config: DiskConfig, source: Source) -> Self {
        Volume {
            torn: config.torn_on_power_loss,
            config,
            source,
            slots: Vec::new(),
            free: Vec::new(),
            names: Names::new(),
            used: 0,
            dead: 0,
            fault: DiskFault::default(),
            epoch: 0,
            syncs: BTreeMap::new(),
            begun: 0,
            stats: DiskStats::default(),
        }
    }

    fn slot(&mut self, file: usize) -> &mut Slot {
        self.slots[file].as_mut().expect("an open or named file has its data")
    }

    pub(super) fn inode(&self, file: usize) -> &Inode {
        &self.slots[file]
            .as_ref()
            .expect("an open or named file has its data")
            .inode
    }

    /// Completes the syncs that are due.
    pub(super) fn settle(&mut self, now_ns: u64) {
        while let Some(entry) = self.syncs.first_entry() {
            if entry.key().0 > now_ns {
                return;
            }
            match entry.remove() {
                Sync::File { file, fails } => {
                    self.slot(file).inode.end_sync();
                    self.stats.syncs += u64::from(!fails);
                    self.collect(file);
                }
                Sync::Dir { point } => {
                    self.names.commit(point);
                    self.stats.dir_syncs += 1;
                    self.collect_dead();
                }
            }
        }
    }

    /// Opens a file, creating or emptying it as asked. Returns its number.
    pub(super) fn open(&mut self, path: &str, flags: OpenFlags) -> io::Result<usize> {
        let file = match self.names.get(path) {
            Some(Entry::File(_)) if flags.create_new => return Err(os_error(errno::EEXIST)),
            Some(Entry::File(file)) => file,
            Some(Entry::Dir) => return Err(os_error(errno::EISDIR)),
            None if flags.create || flags.create_new => self.create(path)?,
            None => return Err(os_error(errno::ENOENT)),
        };
        if flags.truncate {
            self.set_len(file, path, 0)?;
        }
        self.slot(file).opens += 1;
        Ok(file)
    }

    fn create(&mut self, path: &str) -> io::Result<usize> {
        self.names.check_parent(path)?;
        let slot = Slot {
            inode: Inode::default(),
            opens: 0,
            linked: true,
            dead: false,
            last_sync_ns: 0,
        };
        let file = match self.free.pop() {
            Some(file) => {
                self.slots[file] = Some(slot);
                file
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() - 1
            }
        };
        self.names.link(path, Entry::File(file))?;
        Ok(file)
    }

    pub(super) fn reopen(&mut self, file: usize) {
        self.slot(file).opens += 1;
    }

    /// A handle was dropped.
    pub(super) fn close(&mut self, file: usize) {
        self.slot(file).opens -= 1;
        self.collect(file);
    }

    /// Frees the room of a file that is neither named nor open, and its data once nothing can bring it back.
    fn collect(&mut self, file: usize) {
        let slot = self.slot(file);
        if slot.linked || slot.opens > 0 {
            return;
        }
        if !std::mem::replace(&mut slot.dead, true) {
            self.dead += 1;
            self.used -= self.inode(file).len() as u64;
        }
        let syncing = self
            .syncs
            .values()
            .any(|sync| matches!(sync, Sync::File { file: other, .. } if *other == file));
        if !syncing && !self.names.mentions(file) {
            self.slots[file] = None;
            self.free.push(file);
            self.dead -= 1;
        }
    }

    /// Frees what became unreachable when names were committed.
    fn collect_dead(&mut self) {
        for file in 0..self.slots.len() {
            if self.dead > 0 && self.slots[file].as_ref().is_some_and(|slot| slot.dead) {
                self.collect(file);
            }
        }
    }

    fn unlinked(&mut self, file: usize) {
        self.slot(file).linked = false;
        self.collect(file);
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        let file = self.names.unlink_file(path)?;
        self.unlinked(file);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if let Some(replaced) = self.names.rename(from, to)? {
            self.unlinked(replaced);
        }
        Ok(())
    }

    /// Whether a fault of this kind strikes this file now.
    fn strikes(&mut self, path: &str, count: impl FnOnce(&mut DiskFault) -> &mut u32) -> bool {
        if self
            .fault
            .path_prefix
            .as_ref()
            .is_some_and(|prefix| !path.starts_with(prefix.as_str()))
        {
            return false;
        }
        let left = count(&mut self.fault);
        let strikes = *left > 0;
        *left -= u32::from(strikes);
        self.stats.faults += u64::from(strikes);
        strikes
    }

    pub(super) fn read(&mut self, file: usize, path: &str, at: u64, out: &mut [u8]) -> io::Result<usize> {
        if self.strikes(path, |fault| &mut fault.fail_reads) {
            return Err(os_error(errno::EIO));
        }
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = self.inode(file).live().read(from, out);
        self.stats.reads += 1;
        Ok(bytes)
    }

    /// Writes as much as there is room for, as Linux does; an error when there is none.
    pub(super) fn write(&mut self, file: usize, path: &str, at: u64, content: Content<'_>) -> io::Result<usize> {
        if self.strikes(path, |fault| &mut fault.fail_writes) {
            return Err(os_error(errno::EIO));
        }
        let at = usize::try_from(at).map_err(|_| os_error(errno::EINVAL))?;
        let len = self.inode(file).len();
        let room = self
            .fault
            .capacity_bytes
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used));
        let end_max = len.saturating_add(usize::try_from(room).unwrap_or(usize::MAX));
        let fits = content.len().min(end_max.saturating_sub(at));
        if fits == 0 && content.len() > 0 {
            self.stats.faults += 1;
            return Err(os_error(errno::ENOSPC));
        }
        self.slot(file).inode.write(at, content.cut(fits));
        self.used += (self.inode(file).len() - len) as u64;
        self.stats.writes += 1;
        self.stats.written_bytes += fits as u64;
        Ok(fits)
    }

    pub(super) fn set_len(&mut self, file: usize, path: &str, len: u64) -> io::Result<()> {
        if self.strikes(path, |fault| &mut fault.fail_writes) {
            return Err(os_error(errno::EIO));
        }
        let len = usize::try_from(len).map_err(|_| os_error(errno::EINVAL))?;
        let before = self.inode(file).len();
        let grow = len.saturating_sub(before) as u64;
        if self
            .fault
            .capacity_bytes
            .is_some_and(|capacity| self.used + grow > capacity && grow > 0)
        {
            self.stats.faults += 1;
            return Err(os_error(errno::ENOSPC));
        }
        self.slot(file).inode.set_len(len);
        self.used = self.used + len as u64 - before as u64;
        Ok(())
    }

    fn latency_ns(&mut self) -> u64 {
        let DiskConfig {
            fsync_base_ns,
            fsync_jitter_ns,
            fsync_tail,
            fsync_tail_extra_ns,
            ..
        } = self.config;
        let mut latency_ns = fsync_base_ns + self.source.below(fsync_jitter_ns);
        if self.source.hit(fsync_tail) {
            latency_ns += self.source.below(fsync_tail_extra_ns);
        }
        latency_ns + self.fault.slow_fsync_ns
    }

    pub(super) fn begin_sync(&mut self, file: usize, path: &str, now_ns: u64) -> Begun {
        let fails = self.strikes(path, |fault| &mut fault.fail_fsyncs);
        let latency_ns = self.latency_ns();
        let slot = self.slot(file);
        let done_ns = (now_ns + latency_ns).max(slot.last_sync_ns);
        slot.last_sync_ns = done_ns;
        slot.inode.begin_sync(fails);
        self.schedule(done_ns, Sync::File { file, fails }, now_ns);
        Begun { done_ns, fails }
    }

    pub(super) fn begin_dir_sync(&mut self, dir: &str, now_ns: u64) -> io::Result<Begun> {
        match self.names.get(dir) {
            Some(Entry::Dir) => {}
            Some(Entry::File(_)) => return Err(os_error(errno::ENOTDIR)),
            None => return Err(os_error(errno::ENOENT)),
        }
        let fails = self.strikes(dir, |fault| &mut fault.fail_fsyncs);
        let done_ns = now_ns + self.latency_ns();
        if !fails {
            let point = self.names.sync_point(dir);
            self.schedule(done_ns, Sync::Dir { point }, now_ns);
        }
        Ok(Begun { done_ns, fails })
    }

    fn schedule(&mut self, done_ns: u64, sync: Sync, now_ns: u64) {
        self.begun += 1;
        self.syncs.insert((done_ns, self.begun), sync);
        self.settle(now_ns); // a disk without latency is done at once
    }

    /// The power goes; syncs that had not ended did not necessarily happen.
    pub(super) fn power_loss(&mut self, now_ns: u64) {
        self.settle(now_ns);
        self.syncs.clear();
        let uncommitted = self.names.uncommitted() as u64;
        let kept = if self.torn {
            self.source.below(uncommitted + 1)
        } else {
            0
        };
        self.names.power_loss(kept as usize);
        let torn = self.torn;
        for slot in self.slots.iter_mut().flatten() {
            self.stats.lost_bytes += slot.inode.power_loss(torn, &mut self.source) as u64;
            (slot.last_sync_ns, slot.linked, slot.dead) = (0, false, false);
        }
        let named: Vec<usize> = self.names.files().map(|(_, file)| file).collect();
        for file in named {
            self.slot(file).linked = true;
        }
        self.dead = 0;
        self.used = self.slots.iter().flatten().map(|slot| slot.inode.len() as u64).sum();
        for file in 0..self.slots.len() {
            if self.slots[file].is_some() {
                self.collect(file);
            }
        }
    }

    /// A new, empty disk. Handles of the old one are dead; statistics go on.
    pub(super) fn replace(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.syncs.clear();
        self.names = Names::new();
        (self.used, self.dead) = (0, 0);
        self.epoch += 1;
    }

    pub(super) fn flip_bit(&mut self, file: usize, at: u64, bit: u8) -> bool {
        usize::try_from(at).is_ok_and(|at| self.slot(file).inode.flip_bit(at, bit))
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used
    }
}
