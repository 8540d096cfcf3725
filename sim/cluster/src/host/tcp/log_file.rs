//! The commit log of one node on the real disk: appended, synced, read at the start, and compacted.
//!
//! It is one file. Compacting writes a snapshot of what the node knows into another file beside it, syncs that, and gives it
//! the log's name; what the node appends from then on is the snapshot's tail. The name is at every moment that of a whole
//! log: of the old one until the rename, of the new one after it. A file left beside it by a process that died is removed
//! at the next start. While it compacts the node does nothing else: about a second for a gigabyte.

use crate::core::Node;
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the log in its folder.
pub(super) const NAME: &str = "commitlog";
/// Name of the snapshot that will take its place.
const NEW: &str = "commitlog.new";
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Logs of fewer bytes than these are left alone.
const COMPACT_MIN_BYTES: u64 = 64 << 20;

/// How far a compaction is: between any two of these the process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A piece of the snapshot is written.
    Piece,
    /// All of it is.
    Written,
    /// It is on the disk.
    Synced,
    /// It has the log's name.
    Renamed,
}

/// A node's commit log.
#[derive(Debug)]
pub(super) struct LogFile {
    folder: PathBuf,
    file: Arc<File>,
    /// Bytes that the kernel has.
    length: u64,
    /// Bytes that the disk has.
    synced: u64,
    /// Bytes of it that were needed when somebody looked last: it is compacted at twice as many.
    needed: u64,
}

/// The bytes of a log, piece by piece.
#[derive(Debug)]
pub(super) struct Pieces {
    file: Arc<File>,
    /// Why reading stopped before the end, if so.
    pub(super) failed: Option<io::Error>,
}

impl Iterator for Pieces {
    type Item = Bytes;
    fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        match (&*self.file).take(PIECE_BYTES as u64).read_to_end(&mut piece) {
            Ok(0) => None,
            Ok(_) => Some(piece.into()),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }
}

impl LogFile {
    /// Opens the log in a folder, or makes it.
    pub(super) fn open(folder: &Path) -> io::Result<LogFile> {
        match fs::remove_file(folder.join(NEW)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let path = folder.join(NAME);
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(LogFile {
            folder: folder.to_path_buf(),
            file: Arc::new(file),
            length,
            // What of it is on the disk is not known; it was there at the start.
            synced: length,
            needed: 0,
        })
    }

    /// Its bytes, from the start; once.
    pub(super) fn pieces(&self) -> Pieces {
        Pieces {
            file: self.file.clone(),
            failed: None,
        }
    }

    /// Gives bytes to the kernel: from here they survive the death of the process.
    pub(super) fn append(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|p| IoSlice::new(p)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match (&*self.file).write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.length += n as u64;
                    IoSlice::advance_slices(&mut left, n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Cuts the log.
    pub(super) fn truncate(&mut self, length_bytes: u64) -> io::Result<()> {
        self.file.set_len(length_bytes)?;
        self.length = length_bytes;
        self.synced = self.synced.min(length_bytes);
        Ok(())
    }

    /// Loses what the disk does not have, as a machine does that loses power.
    pub(super) fn lose_unsynced(&mut self) -> io::Result<()> {
        self.truncate(self.synced)
    }

    /// A sync that began when the log had this length is done.
    pub(super) fn synced_to(&mut self, length: u64) {
        self.synced = self.synced.max(length);
    }

    /// Bytes of the log.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The file, to be synced by another thread.
    pub(super) fn shared(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Says how many bytes of it are needed.
    pub(super) fn set_needed(&mut self, bytes: u64) {
        self.needed = bytes;
    }

    /// Whether enough of it is needed no more.
    pub(super) fn wants_compaction(&self) -> bool {
        self.length >= COMPACT_MIN_BYTES && self.length >= self.needed.saturating_mul(2)
    }

    /// Puts a snapshot of the node in the log's place; everything the node appended is in the log. `at` is told of each
    /// step. After an error the old log goes on.
    pub(super) fn compact(&mut self, node: &Node, at: &mut dyn FnMut(Step)) -> io::Result<()> {
        let path = self.folder.join(NEW);
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path)?;
        file.set_len(0)?;
        let mut length = 0;
        node.write_snapshot(&mut |piece: &[u8]| {
            length += piece.len() as u64;
            (&file).write_all(piece)?;
            at(Step::Piece);
            Ok::<(), io::Error>(())
        })?;
        at(Step::Written);
        file.sync_all()?;
        at(Step::Synced);
        fs::rename(&path, self.folder.join(NAME))?;
        at(Step::Renamed);
        (self.file, self.length, self.synced, self.needed) = (Arc::new(file), length, length, length);
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{ClusterConfig, Effect, Flavor, Start};
    use crate::model::NodeIdx;

    /// A node that was started so often, and its log.
    fn node(folder: &Path, starts: u64) -> (Node, LogFile) {
        let mut log = LogFile::open(folder).expect("opened");
        let config = Arc::new(ClusterConfig::new(1, Flavor::Cassandra));
        let mut node = Node::new(config, NodeIdx(0), 1);
        let mut effects = Vec::new();
        node.boot_from(starts, &mut log.pieces(), Start::Together, &mut effects);
        for effect in effects {
            match effect {
                Effect::LogAppend { pieces } => log.append(&pieces).expect("appended"),
                Effect::LogTruncate { length_bytes } => log.truncate(length_bytes).expect("cut"),
                _ => {}
            }
        }
        (node, log)
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("made");
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }

    #[test]
    fn whenever_the_process_dies_the_log_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let folder = directory.path().join("node");
        fs::create_dir_all(&folder).expect("made");
        for starts in 1..5 {
            drop(node(&folder, starts));
        }
        let (mut known, mut log) = node(&folder, 5);
        let generation = known.generation();
        let mut deaths = Vec::new();
        log.compact(&known, &mut |step| {
            let to = directory.path().join(format!("{}-{step:?}", deaths.len()));
            copy(&folder, &to);
            deaths.push((step, to));
        })
        .expect("compacted");
        let steps: Vec<Step> = deaths.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [Step::Piece, Step::Written, Step::Synced, Step::Renamed]);
        for (step, death) in deaths {
            // Of a snapshot that is not synced the disk may have any part, with or without its end.
            let snapshot = death.join(NEW);
            let whole = fs::read(&snapshot).unwrap_or_default();
            let tears = if step == Step::Renamed { 0..1 } else { 0..whole.len() };
            for tear in tears {
                if step != Step::Renamed {
                    fs::write(&snapshot, &whole[..tear]).expect("torn");
                }
                let (found, _) = node(&death, 6 + tear as u64);
                assert!(
                    found.generation() > generation,
                    "{step:?}, {tear} bytes: it knows of every start"
                );
                assert!(!snapshot.exists(), "{step:?}: what was left is removed");
            }
        }
        // What is appended from then on is the tail, and a torn tail is cut.
        let mut effects = Vec::new();
        known.flush_all(&mut effects);
        let whole = log.length();
        log.append(&[Bytes::from_static(&[40, 0, 0, 0, 1, 2, 3])])
            .expect("appended");
        let (found, log) = node(&folder, 100_000);
        assert_eq!(found.generation(), generation + 1);
        assert!(log.length() > whole && fs::read(folder.join(NAME)).expect("a log").len() as u64 == log.length());
    }
}
