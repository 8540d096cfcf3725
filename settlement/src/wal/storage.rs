//! The few file operations the log needs, each with its error. What to write, and what a failure means, is decided by
//! the callers.
//!
//! tokio's `File` reports a failed write at the *next* operation that looks: `sync_all` does not look. So every write
//! here is followed by a `flush`, or a write error would be taken for a successful fsync.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::WalError;
use super::header::Header;

const HEADER_NAME: &str = "HEADER";
const SEGMENT_SUFFIX: &str = ".wal";
/// What carries this suffix was never finished and means nothing.
const TEMPORARY_SUFFIX: &str = ".tmp";

pub(super) fn header_path(dir: &Path) -> PathBuf {
    dir.join(HEADER_NAME)
}

pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}{SEGMENT_SUFFIX}"))
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    name.into()
}

/// What lies in the log's directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Segment numbers, ascending.
    pub segments: Vec<u32>,
    /// Files that were never finished.
    pub temporary: Vec<PathBuf>,
}

/// Reads the directory, creating it if there is none.
pub(super) async fn list_or_create(dir: &Path) -> Result<Listing, WalError> {
    fs::create_dir_all(dir)
        .await
        .map_err(|error| WalError::io("creating the directory", dir, error))?;
    let failed = |error| WalError::io("listing", dir, error);
    let mut entries = fs::read_dir(dir).await.map_err(failed)?;
    let mut listing = Listing::default();
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(TEMPORARY_SUFFIX) {
            listing.temporary.push(dir.join(name));
        } else if let Some(number) = name.strip_suffix(SEGMENT_SUFFIX).and_then(|number| number.parse().ok()) {
            listing.segments.push(number);
        }
    }
    // The order of a directory is not defined.
    listing.segments.sort_unstable();
    listing.temporary.sort_unstable();
    Ok(listing)
}

/// The whole file; `None` when there is none.
pub(super) async fn read_file(path: &Path) -> Result<Option<Vec<u8>>, WalError> {
    match fs::read(path).await {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(WalError::io("reading", path, error)),
    }
}

/// Up to `bytes_max` bytes from the beginning.
pub(super) async fn read_head(path: &Path, bytes_max: usize) -> Result<Vec<u8>, WalError> {
    let failed = |error| WalError::io("reading", path, error);
    let file = File::open(path).await.map_err(failed)?;
    let mut image = Vec::with_capacity(bytes_max);
    file.take(bytes_max as u64)
        .read_to_end(&mut image)
        .await
        .map_err(failed)?;
    Ok(image)
}

/// Exactly `bytes` bytes from `offset` on.
pub(super) async fn read_span(path: &Path, offset: u32, bytes: usize) -> Result<Vec<u8>, WalError> {
    let failed = |error| WalError::io("reading", path, error);
    let mut file = File::open(path).await.map_err(failed)?;
    file.seek(SeekFrom::Start(u64::from(offset))).await.map_err(failed)?;
    let mut image = vec![0; bytes];
    file.read_exact(&mut image).await.map_err(failed)?;
    Ok(image)
}

/// Makes the names in a directory durable.
pub(super) async fn sync_dir(dir: &Path) -> Result<(), WalError> {
    let failed = |error| WalError::io("syncing the directory", dir, error);
    File::open(dir).await.map_err(failed)?.sync_all().await.map_err(failed)
}

/// Makes the directory's own name durable, and those of all above it, any of which may have been created just now. Done
/// before there is a header, so that a header proves that it was done.
pub(super) async fn sync_names_above(dir: &Path) -> Result<(), WalError> {
    for ancestor in dir.ancestors().skip(1) {
        let ancestor = if ancestor.as_os_str().is_empty() {
            Path::new(".")
        } else {
            ancestor
        };
        match sync_dir(ancestor).await {
            // Whoever may not read a directory has not created anything in it.
            Err(WalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Replaces the header file; afterwards either the old or the new one is there, whole, and the new one is durable.
pub(super) async fn write_header(dir: &Path, header: &Header) -> Result<(), WalError> {
    create_whole(dir, &header_path(dir), &[&header.encode()])
        .await
        .map(drop)
}

/// Creates a file with this content under a temporary name, fsyncs it, gives it its name and fsyncs the directory.
/// Returns it open, positioned behind the content.
pub(super) async fn create_whole(dir: &Path, path: &Path, content: &[&[u8]]) -> Result<File, WalError> {
    let temporary = temporary_path(path);
    let file = write_temporary(&temporary, content).await;
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            // Best effort: it may hold the space that is missing. What stays behind is removed when the log is opened.
            let _ = fs::remove_file(&temporary).await;
            return Err(error);
        }
    };
    fs::rename(&temporary, path)
        .await
        .map_err(|error| WalError::io("renaming to", path, error))?;
    sync_dir(dir).await?;
    Ok(file)
}

async fn write_temporary(path: &Path, content: &[&[u8]]) -> Result<File, WalError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .await;
    let mut file = opened.map_err(|error| WalError::io("creating", path, error))?;
    for part in content {
        file.write_all(part)
            .await
            .map_err(|error| WalError::io("writing", path, error))?;
    }
    file.flush()
        .await
        .map_err(|error| WalError::io("writing", path, error))?;
    file.sync_all()
        .await
        .map_err(|error| WalError::io("syncing", path, error))?;
    Ok(file)
}

/// Writes at the file's position and waits until the kernel has it.
pub(super) async fn append(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), WalError> {
    file.write_all(bytes)
        .await
        .map_err(|error| WalError::io("writing", path, error))?;
    file.flush().await.map_err(|error| WalError::io("writing", path, error))
}

/// Cuts a file back and positions it there.
pub(super) async fn rewind(file: &mut File, path: &Path, bytes: u32) -> Result<(), WalError> {
    let failed = |error| WalError::io("cutting back", path, error);
    file.set_len(u64::from(bytes)).await.map_err(failed)?;
    file.seek(SeekFrom::Start(u64::from(bytes))).await.map_err(failed)?;
    Ok(())
}

/// Cuts a closed file back, durably.
pub(super) async fn cut(path: &Path, bytes: u32) -> Result<(), WalError> {
    let failed = |error| WalError::io("cutting off the torn tail of", path, error);
    let file = OpenOptions::new().write(true).open(path).await.map_err(failed)?;
    file.set_len(u64::from(bytes)).await.map_err(failed)?;
    file.sync_all().await.map_err(failed)
}

/// Removes a file; one that is gone already is fine.
pub(super) async fn remove(path: &Path) -> Result<(), WalError> {
    match fs::remove_file(path).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(WalError::io("removing", path, error)),
    }
}
