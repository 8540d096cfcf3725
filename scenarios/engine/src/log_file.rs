//! The log on disk: opened and recovered at start-up, appended to in groups, fsynced before anything is published.
//!
//! An error of a write or of an fsync ends the engine: after a failed fsync nobody knows what is on the disk, and trying
//! again would be told a lie. What was not fsynced was not published, so the next start cuts it off and makes it again.

use std::path::{Path, PathBuf};

use settlement_events::{Digest, Epoch};
use tokio::fs::{File, OpenOptions, create_dir_all};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::log::{self, LogError, Record};
use crate::serve::EngineError;

/// The log's name in the engine's data directory.
pub const LOG_FILE: &str = "engine.log";

/// The open log.
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    /// Everything before this is fsynced.
    synced_bytes: u64,
    /// Records not written yet.
    buffer: Vec<u8>,
}

impl LogFile {
    /// Opens the log of a data directory, creating both if they are not there, and reads it.
    pub(crate) async fn open(data_dir: &Path) -> Result<(Self, Vec<u8>), EngineError> {
        let path = data_dir.join(LOG_FILE);
        create_dir_all(data_dir)
            .await
            .map_err(|error| EngineError::io("creating", data_dir, error))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .await
            .map_err(|error| EngineError::io("opening", &path, error))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .await
            .map_err(|error| EngineError::io("reading", &path, error))?;
        Ok((
            Self {
                path,
                file,
                synced_bytes: 0,
                buffer: Vec::new(),
            },
            bytes,
        ))
    }

    /// Makes the file end after its good part: a torn tail is cut off, an empty log gets its header. `scan` is of the
    /// bytes that [`LogFile::open`] read.
    pub(crate) async fn settle(
        &mut self,
        scan: &log::Scan<'_>,
        identity: Digest,
        data_dir: &Path,
    ) -> Result<(), EngineError> {
        if let Some(found) = scan.identity.filter(|found| *found != identity) {
            let source = LogError::OtherIdentity {
                found,
                expected: identity,
            };
            return Err(EngineError::Log {
                path: self.path.clone(),
                source,
            });
        }
        if scan.torn_bytes > 0 {
            tracing::info!(target: "engine", bytes = scan.torn_bytes, "torn tail cut off");
        }
        self.try_settle(scan, identity, data_dir)
            .await
            .map_err(|error| EngineError::io("recovering", &self.path, error))
    }

    async fn try_settle(&mut self, scan: &log::Scan<'_>, identity: Digest, data_dir: &Path) -> std::io::Result<()> {
        self.file.set_len(scan.valid_bytes).await?;
        self.file.seek(std::io::SeekFrom::Start(scan.valid_bytes)).await?;
        self.synced_bytes = scan.valid_bytes;
        if scan.identity.is_none() {
            let header = log::header(Epoch(1), identity);
            self.file.write_all(&header).await?;
            self.file.flush().await?;
            self.synced_bytes = header.len() as u64;
        }
        self.file.sync_all().await?;
        if scan.identity.is_none() {
            // The file's name must survive a power loss too.
            File::open(data_dir).await?.sync_all().await?;
        }
        Ok(())
    }

    /// Adds a record to the group.
    pub(crate) fn append(&mut self, record: &Record) {
        record.frame(self.synced_bytes, &mut self.buffer);
    }

    /// Writes and fsyncs the group. On an error the log must not be used any more.
    pub(crate) async fn commit(&mut self) -> Result<(), EngineError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.try_commit()
            .await
            .map_err(|error| EngineError::io("writing", &self.path, error))
    }

    async fn try_commit(&mut self) -> std::io::Result<()> {
        self.file.write_all(&self.buffer).await?;
        self.file.flush().await?;
        self.file.sync_data().await?;
        self.synced_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
