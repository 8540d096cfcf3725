//! The directory of a cluster on real files: whose it is, who uses it, and the commit log of each node.
//!
//! ```text
//! DIR/scylla-sim.toml      what the directory holds: written once, when it is made
//! DIR/lock                 locked by the process that uses it, for as long as it lives
//! DIR/node-1/commitlog     everything that node 1 knows (`log_file`)
//! ```
//!
//! What is refused here is not touched: the checks come before the first change.

use super::error::StartError;
use super::log_file::{self, LogFile};
use crate::core::flavor::Flavor;
use crate::model::NodeIdx;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Of the layout above and of the entries in the logs.
const VERSION: u32 = 2;
const IDENTITY: &str = "scylla-sim.toml";
const LOCK: &str = "lock";

/// What a directory says it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    version: u32,
    flavor: Flavor,
    nodes: usize,
}

/// A directory that this process uses, and no other.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    /// Whether it was made just now.
    pub(super) is_new: bool,
    /// The lock goes with the file.
    _lock: File,
}

impl DataDir {
    /// Opens the directory of a cluster, or makes it.
    pub(super) fn open(path: &Path, flavor: Flavor, nodes: usize) -> Result<DataDir, StartError> {
        let failed = |what: &'static str, source: io::Error| StartError::Directory {
            what,
            path: path.to_path_buf(),
            source,
        };
        fs::create_dir_all(path).map_err(|e| failed("made", e))?;
        let is_empty = fs::read_dir(path).map_err(|e| failed("read", e))?.next().is_none();
        let wanted = Identity {
            version: VERSION,
            flavor,
            nodes,
        };
        if let Some(there) = read_identity(path)? {
            there.matches(&wanted, path)?;
        } else if !is_empty && !only_lock(path) {
            // A start that was cut short may have left the lock and nothing else.
            return Err(StartError::NotOurs {
                path: path.to_path_buf(),
            });
        }
        let lock = lock(path)?;
        // Another process may have made it meanwhile, and gone.
        let there = read_identity(path)?;
        match &there {
            Some(there) => there.matches(&wanted, path)?,
            None => write_identity(path, &wanted).map_err(|e| failed("written", e))?,
        }
        Ok(DataDir {
            path: path.to_path_buf(),
            is_new: there.is_none(),
            _lock: lock,
        })
    }

    fn folder(&self, node: NodeIdx) -> PathBuf {
        self.path.join(format!("node-{}", node.0 + 1))
    }

    /// A node's log could not be read.
    pub(super) fn unreadable(&self, node: NodeIdx, source: io::Error) -> StartError {
        StartError::Log {
            path: self.folder(node).join(log_file::NAME),
            source,
        }
    }

    /// Opens a node's log.
    pub(super) fn open_log(&self, node: NodeIdx) -> Result<LogFile, StartError> {
        let folder = self.folder(node);
        let open = || -> io::Result<LogFile> {
            fs::create_dir_all(&folder)?;
            let log = LogFile::open(&folder)?;
            if log.length() == 0 {
                // The names have to survive a power loss, or what is synced under them would not.
                File::open(&folder)?.sync_all()?;
                File::open(&self.path)?.sync_all()?;
            }
            Ok(log)
        };
        open().map_err(|source| self.unreadable(node, source))
    }
}

impl Identity {
    fn matches(&self, wanted: &Identity, path: &Path) -> Result<(), StartError> {
        if self.version != wanted.version {
            return Err(StartError::OtherVersion {
                path: path.to_path_buf(),
                there: self.version,
                ours: wanted.version,
            });
        }
        if self == wanted {
            return Ok(());
        }
        Err(StartError::OtherCluster {
            path: path.to_path_buf(),
            nodes: self.nodes,
            flavor: self.flavor.name(),
            asked_nodes: wanted.nodes,
            asked_flavor: wanted.flavor.name(),
        })
    }
}

fn read_identity(path: &Path) -> Result<Option<Identity>, StartError> {
    let file = path.join(IDENTITY);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(StartError::Directory {
                what: "read",
                path: file,
                source,
            });
        }
    };
    match toml::from_str(&text) {
        Ok(identity) => Ok(Some(identity)),
        Err(error) => Err(StartError::Identity {
            path: file,
            reason: error.message().to_owned(),
        }),
    }
}

/// Whole or not at all: a temporary file, synced, then renamed.
fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    let text = format!(
        "# What this directory holds. Written by scylla-sim when it made the directory; not to be changed.\n{}",
        toml::to_string(identity).map_err(io::Error::other)?
    );
    let temporary = path.join(format!("{LOCK}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path.join(IDENTITY))?;
    File::open(path)?.sync_all()
}

/// Whether nothing but files of a lock is there.
fn only_lock(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|e| e.file_name().to_string_lossy().starts_with(LOCK)))
    })
}

fn lock(path: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::Directory {
        what: "locked",
        path: path.to_path_buf(),
        source,
    };
    let name = path.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            // Who it is helps, but is not known for sure.
            let _unread = file.read_to_string(&mut process);
            return Err(StartError::InUse {
                path: path.to_path_buf(),
                process: process.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    file.write_all(std::process::id().to_string().as_bytes())
        .map_err(failed)?;
    Ok(file)
}
