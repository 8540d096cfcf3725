//! Names: directories, and the journal of changes to them. A name is safe only once its directory was synced.
//!
//! The journal is ordered, as those of ext4 and XFS are: syncing a directory commits it up to the last change there, and
//! a power loss keeps a prefix of the rest.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Component, Path};

/// Linux's numbers, so that errors have the kind and the text that programs see in production.
pub(super) mod errno {
    pub const ENOENT: i32 = 2;
    pub const EIO: i32 = 5;
    pub const EBADF: i32 = 9;
    pub const EEXIST: i32 = 17;
    pub const ENOTDIR: i32 = 20;
    pub const EISDIR: i32 = 21;
    pub const EINVAL: i32 = 22;
    pub const ENOSPC: i32 = 28;
    pub const ENOTEMPTY: i32 = 39;
}

pub(super) fn os_error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// A file, by number.
    File(usize),
    Dir,
}

enum Change {
    Link(String, Entry),
    Unlink(String),
    Rename(String, String),
}

type Map = BTreeMap<String, Entry>;

pub(super) struct Names {
    live: Map,
    durable: Map,
    journal: VecDeque<Change>,
    /// Changes committed so far: the number of the journal's first.
    committed: u64,
}

/// The absolute form of a path without `.`, `..` and double slashes. Relative paths begin at the root.
pub(super) fn normal(path: &Path) -> io::Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| os_error(errno::EINVAL))?),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

fn below(dir: &str) -> String {
    if dir == "/" { dir.to_owned() } else { format!("{dir}/") }
}

fn apply(map: &mut Map, change: &Change) {
    match change {
        Change::Link(path, entry) => {
            map.insert(path.clone(), *entry);
        }
        Change::Unlink(path) => {
            map.remove(path);
        }
        Change::Rename(from, to) => {
            let Some(entry) = map.remove(from) else { return };
            if entry == Entry::Dir {
                let prefix = below(from);
                let inside: Vec<String> = map
                    .range(prefix.clone()..)
                    .map(|(path, _)| path)
                    .take_while(|path| path.starts_with(&prefix))
                    .cloned()
                    .collect();
                for path in inside {
                    if let Some(moved) = map.remove(&path) {
                        map.insert(format!("{}{}", below(to), &path[prefix.len()..]), moved);
                    }
                }
            }
            map.insert(to.clone(), entry);
        }
    }
}

impl Change {
    fn touches(&self, dir: &str) -> bool {
        match self {
            Change::Link(path, _) | Change::Unlink(path) => parent(path) == dir,
            Change::Rename(from, to) => parent(from) == dir || parent(to) == dir,
        }
    }
}

impl Names {
    /// The root and `/tmp`, durably.
    pub(super) fn new() -> Self {
        let live = Map::from([("/".to_owned(), Entry::Dir), ("/tmp".to_owned(), Entry::Dir)]);
        Names {
            durable: live.clone(),
            live,
            journal: VecDeque::new(),
            committed: 0,
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<Entry> {
        self.live.get(path).copied()
    }

    pub(super) fn get_durable(&self, path: &str) -> Option<Entry> {
        self.durable.get(path).copied()
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.journal.push_back(change);
    }

    /// Checks that a path's directory is there.
    pub(super) fn check_parent(&self, path: &str) -> io::Result<()> {
        match self.get(parent(path)) {
            Some(Entry::Dir) => Ok(()),
            Some(Entry::File(_)) => Err(os_error(errno::ENOTDIR)),
            None => Err(os_error(errno::ENOENT)),
        }
    }

    pub(super) fn link(&mut self, path: &str, entry: Entry) -> io::Result<()> {
        self.check_parent(path)?;
        if self.live.contains_key(path) {
            return Err(os_error(errno::EEXIST));
        }
        self.change(Change::Link(path.to_owned(), entry));
        Ok(())
    }

    /// Returns the number of the file that lost its name.
    pub(super) fn unlink_file(&mut self, path: &str) -> io::Result<usize> {
        match self.get(path) {
            Some(Entry::File(file)) => {
                self.change(Change::Unlink(path.to_owned()));
                Ok(file)
            }
            Some(Entry::Dir) => Err(os_error(errno::EISDIR)),
            None => Err(os_error(errno::ENOENT)),
        }
    }

    pub(super) fn unlink_dir(&mut self, path: &str) -> io::Result<()> {
        match self.get(path) {
            Some(Entry::Dir) if path == "/" => Err(os_error(errno::EINVAL)),
            Some(Entry::Dir) if self.children(path).next().is_some() => Err(os_error(errno::ENOTEMPTY)),
            Some(Entry::Dir) => {
                self.change(Change::Unlink(path.to_owned()));
                Ok(())
            }
            Some(Entry::File(_)) => Err(os_error(errno::ENOTDIR)),
            None => Err(os_error(errno::ENOENT)),
        }
    }

    /// Returns the number of the file that was replaced, if one was.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<Option<usize>> {
        let moved = self.get(from).ok_or_else(|| os_error(errno::ENOENT))?;
        self.check_parent(to)?;
        if from == to {
            return Ok(None);
        }
        let replaced = match (moved, self.get(to)) {
            (Entry::Dir, _) if to.starts_with(&below(from)) => return Err(os_error(errno::EINVAL)),
            (_, None) => None,
            (Entry::File(_), Some(Entry::File(file))) => Some(file),
            (Entry::File(_), Some(Entry::Dir)) => return Err(os_error(errno::EISDIR)),
            (Entry::Dir, Some(Entry::File(_))) => return Err(os_error(errno::ENOTDIR)),
            (Entry::Dir, Some(Entry::Dir)) if self.children(to).next().is_some() => {
                return Err(os_error(errno::ENOTEMPTY));
            }
            (Entry::Dir, Some(Entry::Dir)) => None,
        };
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(replaced)
    }

    /// Names and entries directly in a directory, in order.
    pub(super) fn children<'a>(&'a self, dir: &str) -> impl Iterator<Item = (&'a str, Entry)> {
        let prefix = below(dir);
        let from = prefix.clone();
        let inside = self.live.range(from..).take_while({
            let prefix = prefix.clone();
            move |(path, _)| path.starts_with(&prefix)
        });
        inside.filter_map(move |(path, entry)| {
            let name = &path[prefix.len()..];
            (!name.is_empty() && !name.contains('/')).then_some((name, *entry))
        })
    }

    /// All files with their paths, in order.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.live.iter().filter_map(|(path, entry)| match entry {
            Entry::File(file) => Some((path.as_str(), *file)),
            Entry::Dir => None,
        })
    }

    /// Whether anything, durable or not, still leads to this file.
    pub(super) fn mentions(&self, file: usize) -> bool {
        let entry = Entry::File(file);
        let named = |map: &Map| map.values().any(|other| *other == entry);
        let journalled = self
            .journal
            .iter()
            .any(|change| matches!(change, Change::Link(_, other) if *other == entry));
        named(&self.live) || named(&self.durable) || journalled
    }

    /// Up to which change a sync of this directory commits, begun now.
    pub(super) fn sync_point(&self, dir: &str) -> u64 {
        let last = self.journal.iter().rposition(|change| change.touches(dir));
        last.map_or(self.committed, |at| self.committed + at as u64 + 1)
    }

    /// Commits every change up to a sync point.
    pub(super) fn commit(&mut self, point: u64) {
        while self.committed < point {
            let Some(change) = self.journal.pop_front() else { return };
            apply(&mut self.durable, &change);
            self.committed += 1;
        }
    }

    /// Changes that a power loss may take.
    pub(super) fn uncommitted(&self) -> usize {
        self.journal.len()
    }

    /// The power goes: the first `kept` changes of the journal got through.
    pub(super) fn power_loss(&mut self, kept: usize) {
        self.commit(self.committed + kept as u64);
        self.committed += self.journal.len() as u64;
        self.journal.clear();
        self.live = self.durable.clone();
    }
}
