//! One file: the live image (the page cache) and what is needed to undo it. Appends cost a copy, a sync is O(dirty), a
//! process kill changes nothing, a power loss rolls back. No names, no time, no faults: those are the volume's.
//!
//! Between the platter and the live image lie *epochs*, one per sync in flight and the newest on top. Each holds the old
//! content of the sectors that were overwritten in it, so that the image below it can be rebuilt. When a sync completes,
//! the lowest epoch is dropped: the platter has caught up with it.

use super::image::{Content, Image};
use crate::seed::Source;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a disk writes as a whole, or not at all.
pub(crate) const SECTOR: usize = 512;

type Sectors = BTreeMap<usize, Box<[u8]>>;

/// Changes since a point in time.
#[derive(Default)]
struct Epoch {
    /// Content of overwritten sectors at the start of the epoch, by offset.
    undo: Sectors,
    /// The least length during the epoch: below the length at its start, the file was truncated.
    floor: usize,
}

/// An epoch that a sync is writing out.
struct Syncing {
    epoch: Epoch,
    /// Length of the file when the sync began.
    len: usize,
    fails: bool,
}

#[derive(Default)]
pub(super) struct Inode {
    live: Image,
    /// Length on the platter.
    durable_len: usize,
    newest: Epoch,
    syncing: VecDeque<Syncing>,
    /// Platter content of sectors whose write failed: the page cache shows the new content, and no sync will write it.
    lost: Sectors,
}

fn sector_of(at: usize) -> usize {
    at / SECTOR * SECTOR
}

/// Copies `old` over `image` at `at`, as far as the image reaches.
fn patch(image: &mut [u8], at: usize, old: &[u8]) {
    let end = (at + old.len()).min(image.len());
    if at < end {
        image[at..end].copy_from_slice(&old[..end - at]);
    }
}

impl Inode {
    /// What programs see.
    pub(super) fn live(&self) -> &Image {
        &self.live
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Length of the image below the newest epoch.
    fn len_below(&self) -> usize {
        self.syncing.back().map_or(self.durable_len, |sync| sync.len)
    }

    /// Saves the sectors of a range before it changes, as far as they belong to the image below.
    fn save(&mut self, from: usize, to: usize) {
        let below = self.len_below().min(self.live.len());
        let mut at = sector_of(from);
        while at < to.min(below) {
            let stop = (at + SECTOR).min(below);
            if !self.newest.undo.contains_key(&at) {
                let old = self.lost.remove(&at).unwrap_or_else(|| self.live.slice(at, stop));
                self.newest.undo.insert(at, old);
            }
            at += SECTOR;
        }
    }

    pub(super) fn write(&mut self, at: usize, content: Content<'_>) {
        if at == self.live.len() && at >= self.len_below() {
            self.live.append(content);
            return;
        }
        let bytes = content.bytes();
        let end = at + bytes.len();
        self.save(at, end);
        if end > self.live.len() {
            self.live.resize(end);
        }
        self.live.overwrite(at, bytes);
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len < self.live.len() {
            self.save(len, self.live.len());
            self.newest.floor = self.newest.floor.min(len);
        }
        self.live.resize(len);
    }

    /// A sync takes what is there now. Whether it fails is decided already.
    pub(super) fn begin_sync(&mut self, fails: bool) {
        let len = self.live.len();
        let epoch = std::mem::replace(
            &mut self.newest,
            Epoch {
                undo: Sectors::new(),
                floor: len,
            },
        );
        self.syncing.push_back(Syncing { epoch, len, fails });
    }

    /// The oldest sync in flight ends.
    pub(super) fn end_sync(&mut self) {
        let Some(sync) = self.syncing.pop_front() else { return };
        if sync.fails {
            self.lose(&sync);
        }
        self.durable_len = sync.len;
    }

    /// What a failed sync did not write will never be written, unless it is written again by the program.
    fn lose(&mut self, sync: &Syncing) {
        let appended = (sector_of(self.durable_len)..sync.len)
            .step_by(SECTOR)
            .filter(|at| at + SECTOR > self.durable_len);
        let sectors: BTreeSet<usize> = sync
            .epoch
            .undo
            .keys()
            .copied()
            .chain(appended)
            .filter(|at| *at < sync.len)
            .collect();
        for at in sectors {
            let stop = (at + SECTOR).min(sync.len);
            let mut platter = self.content_after(at, stop);
            if let Some(old) = sync.epoch.undo.get(&at) {
                patch(&mut platter, 0, old);
            }
            let unwritten = self.durable_len.clamp(at, stop) - at;
            platter[unwritten..].fill(0);
            match self.oldest_undo(at) {
                // Dirty again since: a later sync may still write it.
                Some(undo) => patch(undo, 0, &platter),
                None => {
                    self.lost.entry(at).or_insert(platter);
                }
            }
        }
    }

    /// Content of a sector just above the epoch that is ending.
    fn content_after(&self, at: usize, stop: usize) -> Box<[u8]> {
        let mut content = vec![0; stop - at];
        self.live.read(at, &mut content);
        let epochs = self.syncing.iter().map(|sync| &sync.epoch).chain([&self.newest]);
        if let Some(undo) = epochs.filter_map(|epoch| epoch.undo.get(&at)).next() {
            patch(&mut content, 0, undo);
        }
        content.into()
    }

    fn oldest_undo(&mut self, at: usize) -> Option<&mut Box<[u8]>> {
        let epochs = self
            .syncing
            .iter_mut()
            .map(|sync| &mut sync.epoch)
            .chain([&mut self.newest]);
        epochs.filter_map(|epoch| epoch.undo.get_mut(&at)).next()
    }

    /// Epochs from the newest down.
    fn epochs_down(&self) -> impl Iterator<Item = &Epoch> {
        [&self.newest]
            .into_iter()
            .chain(self.syncing.iter().rev().map(|sync| &sync.epoch))
    }

    /// What is on the platter for certain: the image after a power loss in which nothing unsynced got through.
    pub(super) fn durable_image(&self) -> Vec<u8> {
        let mut image = self.live.to_vec();
        image.resize(image.len().max(self.durable_len), 0);
        for epoch in self.epochs_down() {
            for (at, old) in &epoch.undo {
                patch(&mut image, *at, old);
            }
        }
        for (at, old) in &self.lost {
            patch(&mut image, *at, old);
        }
        image.truncate(self.durable_len);
        image
    }

    /// Bytes that a power loss may take: a bound for statistics, not exact for overlapping epochs.
    fn at_risk(&self) -> usize {
        let overwritten: usize = self
            .epochs_down()
            .flat_map(|epoch| epoch.undo.values())
            .map(|old| old.len())
            .sum();
        overwritten + self.live.len().saturating_sub(self.durable_len)
    }

    /// The power goes. Torn: every dirty sector keeps its newest or one of its older contents on its own, so that writes
    /// are torn and reordered; the length lands anywhere between; sectors that were never written read as zeros.
    /// Otherwise nothing unsynced got through. Returns how many bytes were at risk.
    pub(super) fn power_loss(&mut self, torn: bool, source: &mut Source) -> usize {
        let at_risk = self.at_risk();
        let floor = self.epochs_down().map(|epoch| epoch.floor).min().unwrap_or(0);
        let truncated = floor < self.durable_len;
        if at_risk > 0 || truncated || !self.lost.is_empty() {
            // A truncation is one record of the file system's journal: it got through, or not.
            if !torn || (truncated && source.below(2) == 0) {
                self.live = self.durable_image().into();
            } else {
                self.tear(if truncated { floor } else { self.durable_len }, source);
            }
        }
        self.durable_len = self.live.len();
        self.newest = Epoch {
            undo: Sectors::new(),
            floor: self.live.len(),
        };
        self.syncing.clear();
        self.lost.clear();
        at_risk
    }

    fn tear(&mut self, certain_len: usize, source: &mut Source) {
        let dirty: BTreeSet<usize> = self
            .epochs_down()
            .flat_map(|epoch| epoch.undo.keys().copied())
            .collect();
        for at in dirty {
            let depth = self.epochs_down().filter(|epoch| epoch.undo.contains_key(&at)).count();
            // How many of the overwrites of this sector did not get through, the newest first.
            let undone = source.below(depth as u64 + 1) as usize;
            let contents = self.epochs_down().filter_map(|epoch| epoch.undo.get(&at)).take(undone);
            if let Some(old) = contents.last().cloned() {
                self.live.overwrite(at, &old);
            }
        }
        if self.live.len() > certain_len {
            let len = certain_len + source.below((self.live.len() - certain_len) as u64 + 1) as usize;
            self.live.resize(len);
            let mut at = certain_len;
            while at < len {
                let stop = (sector_of(at) + SECTOR).min(len);
                if source.below(4) == 0 {
                    self.live.clear(at, stop);
                }
                at = stop;
            }
        }
        for (at, old) in std::mem::take(&mut self.lost) {
            self.live.overwrite(at, &old);
        }
    }

    /// A bit flips, on the platter and in the page cache alike. False when the file is shorter.
    pub(super) fn flip_bit(&mut self, at: usize, bit: u8) -> bool {
        let mask = 1 << (bit % 8);
        let key = sector_of(at);
        let undos = self
            .syncing
            .iter_mut()
            .map(|sync| &mut sync.epoch)
            .chain([&mut self.newest])
            .map(|epoch| &mut epoch.undo);
        for undo in undos.chain([&mut self.lost]) {
            if let Some(byte) = undo.get_mut(&key).and_then(|old| old.get_mut(at - key)) {
                *byte ^= mask;
            }
        }
        match self.live.byte_mut(at) {
            Some(byte) => {
                *byte ^= mask;
                true
            }
            None => false,
        }
    }
}
