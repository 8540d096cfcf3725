//! Disks: per machine, keyed by the machine of the calling task, since tasks are spawned anywhere.
//!
//! - `inode`: one file; what a power loss leaves of it.
//! - `names`: directories and their journal.
//! - `volume`: files, names, space, faults and syncs of one disk.
//! - `file`: an open file.
//! - here: settings, faults, and the operations on paths.
//!
//! Everything but a sync is immediate. Unsynced writes survive the death of a process and are lost, torn at sector size
//! or reordered when the power goes; names need a sync of their directory.

mod file;
mod image;
mod inode;
#[cfg(test)]
mod model_tests;
mod names;
mod volume;

pub use crate::summary::DiskStats;
pub use file::{DiskFile, OpenFlags};

use crate::host::{Gate, HostCell};
use crate::task;
use crate::trace::{DiskOpKind, Fold, HostChange, HostId, Kind, code};
use crate::world::{Shared, World, lock};
use file::Target;
use names::{Entry, errno, normal, os_error};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use volume::Volume;

/// The settings of every disk. Times in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskConfig {
    /// The least time of a sync.
    pub fsync_base_ns: u64,
    /// Uniform addition to it, exclusive.
    pub fsync_jitter_ns: u64,
    /// How many of 2^32 syncs are slow.
    pub fsync_tail: u32,
    /// Uniform addition for slow ones, exclusive.
    pub fsync_tail_extra_ns: u64,
    /// A power loss tears and reorders unsynced writes; otherwise it takes all of them.
    pub torn_on_power_loss: bool,
}

impl Default for DiskConfig {
    /// A data-centre SSD: 60 to 100 microseconds, now and then up to 2 ms more.
    fn default() -> Self {
        DiskConfig {
            fsync_base_ns: 60_000,
            fsync_jitter_ns: 40_000,
            fsync_tail: u32::MAX / 200,
            fsync_tail_extra_ns: 2_000_000,
            torn_on_power_loss: true,
        }
    }
}

impl DiskConfig {
    /// Syncs that take no time.
    pub fn instant() -> Self {
        DiskConfig {
            fsync_base_ns: 0,
            fsync_jitter_ns: 0,
            fsync_tail: 0,
            fsync_tail_extra_ns: 0,
            torn_on_power_loss: true,
        }
    }
}

/// What the next operations of a disk suffer.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct DiskFault {
    /// So many reads fail with EIO.
    pub fail_reads: u32,
    /// So many writes and truncations fail with EIO.
    pub fail_writes: u32,
    /// So many syncs fail with EIO, and what they did not write is gone.
    pub fail_fsyncs: u32,
    /// Total size of all files; what does not fit fails with ENOSPC.
    pub capacity_bytes: Option<u64>,
    /// Every sync takes this much longer.
    pub slow_fsync_ns: u64,
    /// Failures strike only paths that begin with this.
    pub path_prefix: Option<String>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// A directory, otherwise a file.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
}

/// An error for the destructors of a process that has died.
pub(crate) fn gone() -> io::Error {
    io::Error::other("the process that used this file is gone")
}

pub(super) fn trace(shared: &Shared, host: HostId, op: DiskOpKind, path: &str, offset: u64, bytes: u64) {
    // Whose, what, where and when: everything that the record of it would say.
    let mut fold = Fold::resume(Fold::START);
    fold.add(u64::from(host.0) << 8 | op as u64, offset);
    fold.add(shared.clock.now_ns(), bytes);
    fold.add_bytes(path.as_bytes());
    shared
        .trace
        .emit_rated(code::DISK, fold.value(), bytes, Some(host), || Kind::DiskOp {
            op,
            path: path.to_owned(),
            offset,
            bytes,
        });
}

/// The disk of one machine. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    shared: Weak<Shared>,
    cell: Arc<HostCell>,
    volume: Arc<Mutex<Volume>>,
}

/// The disk of the machine on which the calling code runs.
pub fn here() -> Disk {
    World::with_current(|world| world.shared().hosts.get(task::place().host).disk)
}

impl Disk {
    pub(crate) fn new(world: &World, cell: Arc<HostCell>) -> Self {
        let source = world.source(&format!("world/disk/{}", cell.name));
        let volume = Volume::new(world.config().disk, source);
        Disk {
            shared: Arc::downgrade(world.shared()),
            cell,
            volume: Arc::new(Mutex::new(volume)),
        }
    }

    fn shared(&self) -> io::Result<Arc<Shared>> {
        self.shared.upgrade().ok_or_else(gone)
    }

    /// The process in whose name the calling code uses this disk: its own, or the present one of the machine when the
    /// caller runs elsewhere.
    fn gate(&self) -> io::Result<Gate> {
        let place = task::place();
        let gate = if place.host == self.cell.id {
            Gate::of(self.cell.clone(), place.generation)
        } else {
            Gate::of(self.cell.clone(), self.cell.generation())
        };
        if gate.is_open() { Ok(gate) } else { Err(gone()) }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Volume, u64) -> io::Result<R>) -> io::Result<R> {
        let now_ns = self.shared()?.clock.now_ns();
        let mut volume = lock(&self.volume);
        volume.settle(now_ns);
        f(&mut volume, now_ns)
    }

    fn change(&self, op: DiskOpKind, path: &str, f: impl FnOnce(&mut Volume) -> io::Result<()>) -> io::Result<()> {
        self.gate()?;
        self.with(|volume, _| f(volume))?;
        trace(&*self.shared()?, self.cell.id, op, path, path.len() as u64, 0);
        Ok(())
    }

    // ---- paths ----------------------------------------------------------------------------------------------------

    /// Opens a file, or a directory for reading (which can only be synced).
    ///
    /// # Errors
    /// ENOENT, EEXIST, EISDIR, ENOTDIR, EINVAL as `open(2)`.
    pub fn open(&self, path: impl AsRef<Path>, flags: OpenFlags) -> io::Result<DiskFile> {
        flags.check()?;
        let path = normal(path.as_ref())?;
        let gate = self.gate()?;
        let (target, epoch) = self.with(|volume, _| {
            let dir = volume.names.get(&path) == Some(Entry::Dir) && !flags.writes();
            let target = if dir {
                Target::Dir
            } else {
                Target::File(volume.open(&path, flags)?)
            };
            Ok((target, volume.epoch))
        })?;
        let shared = self.shared()?;
        trace(&shared, self.cell.id, DiskOpKind::Open, &path, path.len() as u64, 0);
        Ok(DiskFile {
            shared,
            volume: self.volume.clone(),
            gate,
            epoch,
            target,
            flags,
            path: path.into(),
        })
    }

    /// Gives a file or directory another name, replacing what has it.
    ///
    /// # Errors
    /// ENOENT, EISDIR, ENOTDIR, ENOTEMPTY, EINVAL as `rename(2)`.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (normal(from.as_ref())?, normal(to.as_ref())?);
        self.change(DiskOpKind::Rename, &from, |volume| volume.rename(&from, &to))
    }

    /// Removes a file's name.
    ///
    /// # Errors
    /// ENOENT, EISDIR.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = normal(path.as_ref())?;
        self.change(DiskOpKind::Remove, &path, |volume| volume.remove_file(&path))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ENOTEMPTY.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = normal(path.as_ref())?;
        self.change(DiskOpKind::Remove, &path, |volume| volume.names.unlink_dir(&path))
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// ENOENT when its parent is missing, EEXIST.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = normal(path.as_ref())?;
        self.change(DiskOpKind::CreateDir, &path, |volume| {
            volume.names.link(&path, Entry::Dir)
        })
    }

    /// Creates a directory and the missing ones above it.
    ///
    /// # Errors
    /// EEXIST or ENOTDIR when a file is in the way.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = normal(path.as_ref())?;
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for dir in ends.map(|end| &path[..end]) {
            match self.with(|volume, _| Ok(volume.names.get(dir)))? {
                Some(Entry::Dir) => {}
                Some(Entry::File(_)) => return Err(os_error(if dir == path { errno::EEXIST } else { errno::ENOTDIR })),
                None => self.create_dir(dir)?,
            }
        }
        Ok(())
    }

    /// Names directly in a directory, in order, with what they stand for.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> io::Result<Vec<(String, Metadata)>> {
        let path = normal(path.as_ref())?;
        self.gate()?;
        self.with(|volume, _| {
            match volume.names.get(&path) {
                Some(Entry::Dir) => {}
                Some(Entry::File(_)) => return Err(os_error(errno::ENOTDIR)),
                None => return Err(os_error(errno::ENOENT)),
            }
            Ok(volume
                .names
                .children(&path)
                .map(|(name, entry)| (name.to_owned(), metadata(volume, entry)))
                .collect())
        })
    }

    /// What a name stands for.
    ///
    /// # Errors
    /// ENOENT.
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = normal(path.as_ref())?;
        self.gate()?;
        self.with(|volume, _| {
            let entry = volume.names.get(&path).ok_or_else(|| os_error(errno::ENOENT))?;
            Ok(metadata(volume, entry))
        })
    }

    /// Makes the names in a directory safe from a power loss. Takes simulated time.
    ///
    /// # Errors
    /// EIO by a fault, ENOENT, ENOTDIR.
    pub async fn sync_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let dir = self.open(path, OpenFlags::read_only())?;
        if !dir.is_dir() {
            return Err(os_error(errno::ENOTDIR));
        }
        dir.sync().await
    }

    // ---- faults and checks ----------------------------------------------------------------------------------------

    /// Sets what the next operations suffer, in place of what was set before.
    pub fn set_fault(&self, fault: DiskFault) {
        lock(&self.volume).fault = fault;
    }

    /// What is left of the faults that were set.
    pub fn fault(&self) -> DiskFault {
        lock(&self.volume).fault.clone()
    }

    /// Whether a power loss tears and reorders unsynced writes, or takes all of them.
    pub fn set_torn_on_power_loss(&self, torn: bool) {
        lock(&self.volume).torn = torn;
    }

    /// Flips one bit of a file, on the platter and in the page cache. False when there is no such byte.
    pub fn bit_rot(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> bool {
        let Ok(path) = normal(path.as_ref()) else { return false };
        let flipped = self.with(|volume, _| match volume.names.get(&path) {
            Some(Entry::File(file)) => Ok(volume.flip_bit(file, offset, bit)),
            _ => Ok(false),
        });
        if let (Ok(true), Ok(shared)) = (&flipped, self.shared()) {
            trace(&shared, self.cell.id, DiskOpKind::BitRot, &path, offset, 1);
        }
        flipped.unwrap_or(false)
    }

    /// Puts an empty disk in place of this one. Open files are dead.
    pub fn replace(&self) {
        lock(&self.volume).replace();
        if let Ok(shared) = self.shared() {
            shared.trace.emit(
                Some(self.cell.id),
                Kind::Host {
                    name: self.cell.name.clone(),
                    change: HostChange::DiskReplaced,
                },
            );
        }
    }

    /// The power goes.
    pub(crate) fn power_loss(&self) {
        let Ok(shared) = self.shared() else { return };
        let lost_before = self.stats().lost_bytes;
        lock(&self.volume).power_loss(shared.clock.now_ns());
        let lost = self.stats().lost_bytes - lost_before;
        trace(&shared, self.cell.id, DiskOpKind::PowerLoss, "", 0, lost);
    }

    /// Counters so far.
    pub fn stats(&self) -> DiskStats {
        lock(&self.volume).stats
    }

    /// Total size of all files.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.volume).used_bytes()
    }

    /// All files with their lengths, in the order of their paths.
    pub fn files(&self) -> Vec<(String, u64)> {
        let files = self.with(|volume, _| {
            Ok(volume
                .names
                .files()
                .map(|(path, file)| (path.to_owned(), volume.inode(file).len() as u64))
                .collect())
        });
        files.unwrap_or_default()
    }

    /// The content that a program would read. For checks, whatever the state of the machine.
    pub fn read_live(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let path = normal(path.as_ref()).ok()?;
        self.with(|volume, _| match volume.names.get(&path) {
            Some(Entry::File(file)) => Ok(Some(volume.inode(file).live().to_vec())),
            _ => Ok(None),
        })
        .ok()?
    }

    /// The content that is certain to survive a power loss now; None when the name itself is not. For checks.
    pub fn read_durable(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let path = normal(path.as_ref()).ok()?;
        self.with(|volume, _| match volume.names.get_durable(&path) {
            Some(Entry::File(file)) => Ok(Some(volume.inode(file).durable_image())),
            _ => Ok(None),
        })
        .ok()?
    }
}

fn metadata(volume: &Volume, entry: Entry) -> Metadata {
    match entry {
        Entry::File(file) => Metadata {
            is_dir: false,
            len: volume.inode(file).len() as u64,
        },
        Entry::Dir => Metadata { is_dir: true, len: 0 },
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("host", &self.cell.name)
            .finish_non_exhaustive()
    }
}
