//! An open file of a machine: what `tokio::fs::File` and the database's commit log write through.

use super::image::Content;
use super::names::{errno, os_error};
use super::volume::{Begun, Volume};
use crate::host::Gate;
use crate::time::Timer;
use crate::trace::DiskOpKind;
use crate::world::{Shared, World, lock};
use bytes::{Buf, Bytes};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

/// How a file is opened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Its content is dropped.
    pub truncate: bool,
    /// It is created where it is missing.
    pub create: bool,
    /// It is created, and must be missing.
    pub create_new: bool,
}

impl OpenFlags {
    /// Reading and writing, created where it is missing.
    pub fn read_write_create() -> Self {
        OpenFlags {
            read: true,
            write: true,
            create: true,
            ..OpenFlags::default()
        }
    }

    /// Reading what is there.
    pub fn read_only() -> Self {
        OpenFlags {
            read: true,
            ..OpenFlags::default()
        }
    }

    pub(super) fn writes(&self) -> bool {
        self.write || self.append
    }

    /// The combinations that `open(2)` and std refuse.
    pub(super) fn check(&self) -> io::Result<()> {
        let readable_or_writable = self.read || self.writes();
        let creating = self.create || self.create_new || self.truncate;
        if !readable_or_writable || (creating && !self.writes()) || (self.truncate && self.append && !self.create_new) {
            return Err(os_error(errno::EINVAL));
        }
        Ok(())
    }
}

/// What a handle leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    File(usize),
    Dir,
}

/// Returns how many bytes found room, and why not all did.
fn append_pieces(volume: &mut Volume, file: usize, path: &str, at: u64, pieces: Vec<Bytes>) -> (u64, io::Result<()>) {
    let mut written = 0;
    for mut piece in pieces {
        while !piece.is_empty() {
            match volume.write(file, path, at + written, Content::Shared(piece.clone())) {
                Ok(bytes) => {
                    piece.advance(bytes);
                    written += bytes as u64;
                }
                Err(error) => return (written, Err(error)),
            }
        }
    }
    (written, Ok(()))
}

/// An open file or directory. Its operations fail once the process that opened it is gone.
pub struct DiskFile {
    pub(super) shared: Arc<Shared>,
    pub(super) volume: Arc<Mutex<Volume>>,
    pub(super) gate: Gate,
    pub(super) epoch: u32,
    pub(super) target: Target,
    pub(super) flags: OpenFlags,
    pub(super) path: Arc<str>,
}

impl DiskFile {
    /// Runs `f` on the volume while the process lives and the disk is the one that the file was opened on.
    fn with<R>(&self, f: impl FnOnce(&mut Volume, u64) -> io::Result<R>) -> io::Result<R> {
        if !self.gate.is_open() {
            return Err(super::gone());
        }
        let now_ns = self.shared.clock.now_ns();
        let mut volume = lock(&self.volume);
        if volume.epoch != self.epoch {
            return Err(os_error(errno::EIO));
        }
        volume.settle(now_ns);
        f(&mut volume, now_ns)
    }

    fn file(&self) -> io::Result<usize> {
        match self.target {
            Target::File(file) => Ok(file),
            Target::Dir => Err(os_error(errno::EISDIR)),
        }
    }

    fn trace(&self, op: DiskOpKind, offset: u64, bytes: u64) {
        super::trace(&self.shared, self.gate.cell.id, op, &self.path, offset, bytes);
    }

    /// The path it was opened under.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.target == Target::Dir
    }

    /// Its length in bytes; 0 for a directory.
    ///
    /// # Errors
    /// When the process is gone or the disk was replaced, as for every operation.
    pub fn len(&self) -> io::Result<u64> {
        self.with(|volume, _| match self.target {
            Target::File(file) => Ok(volume.inode(file).len() as u64),
            Target::Dir => Ok(0),
        })
    }

    /// Whether it is empty.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at an offset; returns how many bytes, 0 at the end.
    ///
    /// # Errors
    /// EIO by a fault, EBADF when not opened for reading, EISDIR.
    pub fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let file = self.file()?;
        if !self.flags.read {
            return Err(os_error(errno::EBADF));
        }
        let read = self.with(|volume, _| volume.read(file, &self.path, at, out))?;
        self.trace(DiskOpKind::Read, at, read as u64);
        Ok(read)
    }

    /// The whole content.
    ///
    /// # Errors
    /// As [`DiskFile::read_at`].
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len()?).map_err(|_| os_error(errno::EINVAL))?];
        let read = self.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Writes at an offset (at the end, for a file opened to append); returns how many bytes found room.
    ///
    /// # Errors
    /// EIO by a fault, ENOSPC when the disk is full, EBADF when not opened for writing, EISDIR.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file()?;
        if !self.flags.writes() {
            return Err(os_error(errno::EBADF));
        }
        let (at, written) = self.with(|volume, _| {
            let at = if self.flags.append {
                volume.inode(file).len() as u64
            } else {
                at
            };
            Ok((at, volume.write(file, &self.path, at, Content::Copied(bytes))?))
        })?;
        self.trace(DiskOpKind::Write, at, written as u64);
        Ok(written)
    }

    /// Writes all bytes at the end; returns the offset at which they begin.
    ///
    /// # Errors
    /// As [`DiskFile::write_at`]; on a full disk, a part may have been written.
    pub fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let start = self.len()?;
        let mut written = 0;
        while written < bytes.len() {
            written += self.write_at(start + written as u64, &bytes[written..])?;
        }
        Ok(start)
    }

    /// Writes pieces one after the other at the end, as one operation; the disk and their owner share them from now on.
    /// Returns the offset at which they begin.
    ///
    /// # Errors
    /// As [`DiskFile::append`].
    pub fn append_shared(&self, pieces: Vec<Bytes>) -> io::Result<u64> {
        let file = self.file()?;
        if !self.flags.writes() {
            return Err(os_error(errno::EBADF));
        }
        let (start, written, ended) = self.with(|volume, _| {
            let start = volume.inode(file).len() as u64;
            let (written, ended) = append_pieces(volume, file, &self.path, start, pieces);
            Ok((start, written, ended))
        })?;
        self.trace(DiskOpKind::Write, start, written);
        ended.map(|()| start)
    }

    /// Truncates or extends with zeros.
    ///
    /// # Errors
    /// As [`DiskFile::write_at`].
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.file()?;
        if !self.flags.writes() {
            return Err(os_error(errno::EINVAL));
        }
        self.with(|volume, _| volume.set_len(file, &self.path, len))?;
        self.trace(DiskOpKind::SetLen, len, 0);
        Ok(())
    }

    /// Makes what has been written so far safe from a power loss; of a directory, the names in it. Takes simulated time.
    /// A sync goes on when its future is dropped.
    ///
    /// # Errors
    /// EIO by a fault: the pages are gone, as on Linux, and a later sync succeeds without writing them.
    pub async fn sync(&self) -> io::Result<()> {
        let begun = self.begin_sync()?;
        if begun.done_ns > self.shared.clock.now_ns() {
            Timer::in_world(&World::of(&self.shared), begun.done_ns).await;
        }
        self.with(|_, _| Ok(()))?;
        self.trace(
            if begun.fails {
                DiskOpKind::SyncFailed
            } else {
                DiskOpKind::Sync
            },
            0,
            0,
        );
        if begun.fails { Err(os_error(errno::EIO)) } else { Ok(()) }
    }

    fn begin_sync(&self) -> io::Result<Begun> {
        let begun = self.with(|volume, now_ns| match self.target {
            Target::File(file) => Ok(volume.begin_sync(file, &self.path, now_ns)),
            Target::Dir => volume.begin_dir_sync(&self.path, now_ns),
        })?;
        let op = if self.is_dir() {
            DiskOpKind::SyncDir
        } else {
            DiskOpKind::SyncStart
        };
        self.trace(op, begun.done_ns, 0);
        Ok(begun)
    }

    /// Another handle to the same file.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    pub fn try_clone(&self) -> io::Result<DiskFile> {
        self.with(|volume, _| {
            if let Target::File(file) = self.target {
                volume.reopen(file);
            }
            Ok(())
        })?;
        let DiskFile {
            shared,
            volume,
            gate,
            epoch,
            target,
            flags,
            path,
        } = self;
        Ok(DiskFile {
            shared: shared.clone(),
            volume: volume.clone(),
            gate: gate.clone(),
            epoch: *epoch,
            target: *target,
            flags: *flags,
            path: path.clone(),
        })
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let mut volume = lock(&self.volume);
        if let (Target::File(file), true) = (self.target, volume.epoch == self.epoch) {
            volume.close(file);
        }
    }
}

impl fmt::Debug for DiskFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
