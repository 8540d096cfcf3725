//! `tokio::fs` on the simulated disk of the calling task's machine.
//!
//! As in tokio, a write is reported done once it is on its way to the file; an error of it is reported by the *next*
//! write or flush, and `sync_all` alone does not report it. Only syncs take simulated time. A directory is synced by
//! opening it with [`File::open`] and calling [`File::sync_all`].

use sim_world::disk::{DiskFile, OpenFlags, here};
use std::ffi::OsString;
use std::fmt;
use std::future::{Ready, ready};
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

/// What tokio moves in one operation at most.
const BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// How to open a file.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    flags: OpenFlags,
}

impl OpenOptions {
    /// Nothing set.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// For reading.
    pub fn read(&mut self, read: bool) -> &mut OpenOptions {
        self.flags.read = read;
        self
    }

    /// For writing.
    pub fn write(&mut self, write: bool) -> &mut OpenOptions {
        self.flags.write = write;
        self
    }

    /// For writing at the end.
    pub fn append(&mut self, append: bool) -> &mut OpenOptions {
        self.flags.append = append;
        self
    }

    /// Empties the file.
    pub fn truncate(&mut self, truncate: bool) -> &mut OpenOptions {
        self.flags.truncate = truncate;
        self
    }

    /// Creates the file where it is missing.
    pub fn create(&mut self, create: bool) -> &mut OpenOptions {
        self.flags.create = create;
        self
    }

    /// Creates the file, which must be missing.
    pub fn create_new(&mut self, create_new: bool) -> &mut OpenOptions {
        self.flags.create_new = create_new;
        self
    }

    /// No effect: the simulated disk has no owners.
    pub fn mode(&mut self, _: u32) -> &mut OpenOptions {
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// As `open(2)`.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        here().open(path, self.flags).map(File::new)
    }
}

/// An open file or directory.
pub struct File {
    inner: DiskFile,
    /// Shared by the clones of a handle, as the kernel does.
    position: Arc<AtomicU64>,
    /// The error of a write that was reported done.
    write_error: Option<io::Error>,
    buffer_bytes: usize,
}

impl File {
    fn new(inner: DiskFile) -> File {
        File {
            inner,
            position: Arc::default(),
            write_error: None,
            buffer_bytes: BUFFER_BYTES,
        }
    }

    /// Opens for reading; directories too.
    ///
    /// # Errors
    /// As `open(2)`.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens for writing, created or emptied.
    ///
    /// # Errors
    /// As `open(2)`.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .await
    }

    /// Creates a file that must be missing, for reading and writing.
    ///
    /// # Errors
    /// As `open(2)`.
    pub async fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .await
    }

    /// As [`OpenOptions::new`].
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Makes data and length safe from a power loss; of a directory, its names.
    ///
    /// # Errors
    /// EIO by a fault: what was not written then is gone.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.inner.sync().await
    }

    /// As [`File::sync_all`]: the simulated disk keeps no times.
    ///
    /// # Errors
    /// As [`File::sync_all`].
    pub async fn sync_data(&self) -> io::Result<()> {
        self.inner.sync().await
    }

    /// Truncates or extends with zeros.
    ///
    /// # Errors
    /// EIO by a fault, ENOSPC, EINVAL when not opened for writing.
    pub async fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes)
    }

    /// Kind and length.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        Ok(Metadata(sim_world::disk::Metadata {
            is_dir: self.inner.is_dir(),
            len: self.inner.len()?,
        }))
    }

    /// Another handle to the same file and position.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn try_clone(&self) -> io::Result<File> {
        Ok(File {
            position: self.position.clone(),
            ..File::new(self.inner.try_clone()?)
        })
    }

    /// The most that one read or write moves.
    pub fn set_max_buf_size(&mut self, bytes: usize) {
        assert!(bytes > 0, "`max_buf_size` must be greater than 0");
        self.buffer_bytes = bytes;
    }

    fn position(&self) -> u64 {
        self.position.load(Relaxed)
    }

    fn write_out(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            let n = self.inner.write_at(self.position(), &bytes[written..])?;
            written += n;
            self.position.fetch_add(n as u64, Relaxed);
        }
        Ok(())
    }
}

impl AsyncRead for File {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let limit = buf.remaining().min(self.buffer_bytes);
        let read = self.inner.read_at(self.position(), buf.initialize_unfilled_to(limit))?;
        buf.advance(read);
        self.position.fetch_add(read as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for File {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.write_error.take() {
            return Poll::Ready(Err(error));
        }
        let bytes = &bytes[..bytes.len().min(self.buffer_bytes)];
        self.write_error = self.write_out(bytes).err();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.write_error.take().map_or(Ok(()), Err))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl AsyncSeek for File {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "invalid seek to a negative or overflowing position",
            )
        };
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.inner.len()?.checked_add_signed(by),
            SeekFrom::Current(by) => self.position().checked_add_signed(by),
        };
        self.position.store(position.ok_or_else(invalid)?, Relaxed);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position()))
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("tokio::fs::File")
            .field("path", &self.inner.path())
            .finish()
    }
}

/// Kind and length of a file.
#[derive(Clone, Copy, Debug)]
pub struct Metadata(sim_world::disk::Metadata);

impl Metadata {
    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "std's metadata has no is_empty either")]
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        !self.0.is_dir
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.0.is_dir
    }

    /// Whether it is a symbolic link, of which there are none.
    pub fn is_symlink(&self) -> bool {
        false
    }

    /// Its kind.
    pub fn file_type(&self) -> FileType {
        FileType { is_dir: self.0.is_dir }
    }
}

/// Kind of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileType {
    is_dir: bool,
}

impl FileType {
    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        !self.is_dir
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.is_dir
    }

    /// Whether it is a symbolic link, of which there are none.
    pub fn is_symlink(&self) -> bool {
        false
    }
}

/// The entries of a directory, ordered by name (on a real disk in no order).
#[derive(Debug)]
pub struct ReadDir {
    dir: PathBuf,
    entries: std::vec::IntoIter<(String, sim_world::disk::Metadata)>,
}

/// Reads a directory.
///
/// # Errors
/// ENOENT, ENOTDIR.
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let entries = here().read_dir(path.as_ref())?.into_iter();
    Ok(ReadDir {
        dir: path.as_ref().to_owned(),
        entries,
    })
}

impl ReadDir {
    /// The next entry.
    ///
    /// # Errors
    /// None in the simulator.
    pub async fn next_entry(&mut self) -> io::Result<Option<DirEntry>> {
        Ok(self.entries.next().map(|(name, metadata)| DirEntry {
            path: self.dir.join(&name),
            name,
            metadata: Metadata(metadata),
        }))
    }
}

/// An entry of a directory.
#[derive(Debug)]
pub struct DirEntry {
    path: PathBuf,
    name: String,
    metadata: Metadata,
}

impl DirEntry {
    /// The directory's path and the name.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The name.
    pub fn file_name(&self) -> OsString {
        OsString::from(&self.name)
    }

    /// Kind and length when the directory was read.
    ///
    /// # Errors
    /// None in the simulator.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        Ok(self.metadata)
    }

    /// Its kind.
    ///
    /// # Errors
    /// None in the simulator.
    pub async fn file_type(&self) -> io::Result<FileType> {
        Ok(self.metadata.file_type())
    }
}

/// Creates a directory.
///
/// # Errors
/// ENOENT, EEXIST.
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    here().create_dir(path)
}

/// Creates a directory and the missing ones above it.
///
/// # Errors
/// EEXIST or ENOTDIR when a file is in the way.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    here().create_dir_all(path)
}

/// Removes an empty directory.
///
/// # Errors
/// ENOENT, ENOTDIR, ENOTEMPTY.
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    here().remove_dir(path)
}

/// Removes a directory and everything in it.
///
/// # Errors
/// ENOENT, ENOTDIR.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let disk = here();
    let mut dirs = vec![path.as_ref().to_owned()];
    let mut at = 0;
    while at < dirs.len() {
        let dir = dirs[at].clone();
        for (name, metadata) in disk.read_dir(&dir)? {
            if metadata.is_dir {
                dirs.push(dir.join(name))
            } else {
                disk.remove_file(dir.join(name))?
            }
        }
        at += 1;
    }
    dirs.iter().rev().try_for_each(|dir| disk.remove_dir(dir))
}

/// Removes a file.
///
/// # Errors
/// ENOENT, EISDIR.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    here().remove_file(path)
}

/// Renames, replacing what has the name.
///
/// # Errors
/// As `rename(2)`.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    here().rename(from, to)
}

/// Kind and length.
///
/// # Errors
/// ENOENT.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    here().metadata(path).map(Metadata)
}

/// As [`metadata`]: there are no symbolic links.
///
/// # Errors
/// ENOENT.
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    here().metadata(path).map(Metadata)
}

/// Whether something has this name.
///
/// # Errors
/// When the process is gone.
pub async fn try_exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match here().metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_now(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    here().open(path, OpenFlags::read_only())?.read_all()
}

/// Reads a whole file.
///
/// # Errors
/// As opening and reading.
pub fn read(path: impl AsRef<Path>) -> Ready<io::Result<Vec<u8>>> {
    ready(read_now(path))
}

/// Reads a whole file as text.
///
/// # Errors
/// As [`read`]; `InvalidData` when it is not UTF-8.
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read_now(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

/// Writes a whole file, created or emptied. Nothing is synced.
///
/// # Errors
/// As opening and writing.
pub async fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let mut file = File::create(path).await?;
    file.write_out(contents.as_ref())
}

/// Copies a file; returns its length.
///
/// # Errors
/// As reading and writing.
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let bytes = read_now(from)?;
    write(to, &bytes).await?;
    Ok(bytes.len() as u64)
}
