//! Property tests of the disk against simple reference models: a plain byte vector for what programs see, and a record of
//! every byte ever written for what a power loss may leave.

use super::image::Content;
use super::inode::{Inode, SECTOR};
use super::names::{Entry, Names};
use crate::seed::Seed;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    Append(Vec<u8>),
    SetLen(usize),
    BeginSync { fails: bool },
    EndSync,
}

fn op(failures: bool) -> impl Strategy<Value = Op> {
    let bytes = || (1u8..=255, 1usize..900).prop_map(|(byte, len)| vec![byte; len]);
    prop_oneof![
        3 => (0usize..3000, bytes()).prop_map(|(at, bytes)| Op::Write(at, bytes)),
        3 => bytes().prop_map(Op::Append),
        1 => (0usize..3000).prop_map(Op::SetLen),
        2 => any::<bool>().prop_map(move |fails| Op::BeginSync { fails: fails && failures }),
        2 => Just(Op::EndSync),
    ]
}

/// What the reference knows: the live bytes, the durable ones, and all values a byte may have on the platter.
#[derive(Default)]
struct Reference {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Images taken by syncs in flight.
    syncing: Vec<Vec<u8>>,
    /// Every value that each offset had since the last durable image, that one included.
    possible: BTreeMap<usize, BTreeSet<u8>>,
    shortest: usize,
}

impl Reference {
    fn changed(&mut self) {
        for (at, byte) in self.live.iter().enumerate() {
            self.possible.entry(at).or_default().insert(*byte);
        }
        self.shortest = self.shortest.min(self.live.len());
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(at, bytes) => {
                let end = at + bytes.len();
                self.live.resize(self.live.len().max(end), 0);
                self.live[*at..end].copy_from_slice(bytes);
            }
            Op::Append(bytes) => self.live.extend_from_slice(bytes),
            Op::SetLen(len) => self.live.resize(*len, 0),
            Op::BeginSync { .. } => self.syncing.push(self.live.clone()),
            Op::EndSync => {
                if !self.syncing.is_empty() {
                    self.durable = self.syncing.remove(0);
                    self.forget_older();
                }
            }
        }
        self.changed();
    }

    /// What was overwritten before the image that is durable now cannot come back.
    fn forget_older(&mut self) {
        if self.syncing.is_empty() && self.durable == self.live {
            self.possible.clear();
            self.shortest = self.live.len();
        }
    }
}

fn apply(inode: &mut Inode, op: &Op) {
    match op {
        Op::Write(at, bytes) => inode.write(*at, Content::Copied(bytes)),
        Op::Append(bytes) => inode.write(inode.len(), Content::Copied(bytes)),
        Op::SetLen(len) => inode.set_len(*len),
        Op::BeginSync { fails } => inode.begin_sync(*fails),
        Op::EndSync => inode.end_sync(),
    }
}

proptest! {
    #[test]
    fn programs_see_a_plain_file_and_syncs_make_it_durable(ops in prop::collection::vec(op(false), 0..40)) {
        let (mut inode, mut reference) = (Inode::default(), Reference::default());
        for op in &ops {
            apply(&mut inode, op);
            reference.apply(op);
            prop_assert_eq!(inode.live().to_vec(), reference.live.as_slice());
            prop_assert_eq!(inode.durable_image(), reference.durable.clone(), "after {:?}", op);
        }
    }

    #[test]
    fn a_power_loss_leaves_only_bytes_that_were_there_and_everything_durable(ops in prop::collection::vec(op(false), 0..40), seed: u64) {
        let (mut inode, mut reference) = (Inode::default(), Reference::default());
        for op in &ops {
            apply(&mut inode, op);
            reference.apply(op);
        }
        let untouched: BTreeSet<usize> = reference.possible.iter().filter(|(_, values)| values.len() == 1).map(|(at, _)| *at).collect();
        inode.power_loss(true, &mut Seed(seed).source("power", None));
        let left = inode.live().to_vec();
        let most = reference.live.len().max(reference.durable.len());
        prop_assert!(left.len() <= most && left.len() >= reference.shortest.min(reference.durable.len()));
        for (at, byte) in left.iter().enumerate() {
            let durable = reference.durable.get(at);
            let known = reference.possible.get(&at).is_some_and(|values| values.contains(byte));
            prop_assert!(known || durable == Some(byte) || *byte == 0, "{byte} at {at} was never written");
            // a durable byte that nothing has changed or cut away since stays
            if untouched.contains(&at) && at < reference.shortest.min(reference.durable.len()) {
                prop_assert_eq!(Some(byte), durable, "at {}", at);
            }
        }
        prop_assert_eq!(inode.durable_image(), left);
    }

    #[test]
    fn without_tearing_a_power_loss_leaves_exactly_the_durable_image(ops in prop::collection::vec(op(true), 0..40), seed: u64) {
        let mut inode = Inode::default();
        for op in &ops {
            apply(&mut inode, op);
        }
        let durable = inode.durable_image();
        inode.power_loss(false, &mut Seed(seed).source("power", None));
        prop_assert_eq!(inode.live().to_vec(), durable.as_slice());
    }

    #[test]
    fn a_failed_sync_never_makes_its_bytes_durable(old in 1u8..128, new in 128u8..=255, at in 0usize..2000, len in 1usize..1500, more in 0usize..1500) {
        let mut inode = Inode::default();
        inode.write(0, Content::Copied(&[old; 2000]));
        inode.begin_sync(false);
        inode.end_sync();
        inode.write(at, Content::Copied(&vec![new; len]));
        inode.write(inode.len(), Content::Copied(&vec![new; more]));
        inode.begin_sync(true);
        inode.end_sync();
        inode.begin_sync(false);
        inode.end_sync();
        let platter = inode.durable_image();
        prop_assert!(!platter.contains(&new), "the next sync wrote what was lost");
        prop_assert!(platter[..2000].iter().all(|byte| *byte == old));
        prop_assert_eq!(inode.live().to_vec()[at], new, "the page cache still shows it");
        // what the program writes again becomes durable, in whole sectors
        inode.write(at, Content::Copied(&vec![new; len]));
        inode.begin_sync(false);
        inode.end_sync();
        prop_assert!(inode.durable_image()[at..at + len].iter().all(|byte| *byte == new));
    }

    #[test]
    fn appended_sectors_are_whole_or_zero(appends in prop::collection::vec((1u8..=255, 1usize..700), 1..20), seed: u64) {
        let (mut inode, mut written) = (Inode::default(), Vec::new());
        for (byte, len) in &appends {
            inode.write(inode.len(), Content::Copied(&vec![*byte; *len]));
            written.resize(written.len() + len, *byte);
        }
        inode.power_loss(true, &mut Seed(seed).source("power", None));
        for (left, was) in inode.live().to_vec().chunks(SECTOR).zip(written.chunks(SECTOR)) {
            prop_assert!(left == &was[..left.len()] || left.iter().all(|byte| *byte == 0));
        }
    }
}

#[derive(Clone, Debug)]
enum NameOp {
    Link(u8),
    Unlink(u8),
    Rename(u8, u8),
    Sync(u8),
}

fn name_op() -> impl Strategy<Value = NameOp> {
    prop_oneof![
        (0u8..6).prop_map(NameOp::Link),
        (0u8..6).prop_map(NameOp::Unlink),
        (0u8..6, 0u8..6).prop_map(|(from, to)| NameOp::Rename(from, to)),
        (0u8..2).prop_map(NameOp::Sync),
    ]
}

/// Six names in two directories.
fn path(name: u8) -> String {
    format!("/{}/{name}", dir(name % 2))
}

fn dir(n: u8) -> &'static str {
    ["x", "y"][usize::from(n)]
}

fn listing(names: &Names) -> BTreeMap<String, usize> {
    names.files().map(|(path, file)| (path.to_owned(), file)).collect()
}

proptest! {
    /// The reference: the list of all listings that the directory went through. A power loss leaves one of those since
    /// the last sync.
    #[test]
    fn names_after_a_power_loss_are_a_state_that_was(ops in prop::collection::vec(name_op(), 0..40), kept: prop::sample::Index) {
        let mut names = Names::new();
        for n in 0..2 {
            names.link(&format!("/{}", dir(n)), Entry::Dir).expect("a fresh disk");
        }
        names.commit(names.sync_point("/"));
        let mut history = vec![listing(&names)];
        let mut safe = 0;
        for (file, op) in ops.iter().enumerate() {
            let before = names.uncommitted();
            let changed = match op {
                NameOp::Link(n) => names.link(&path(*n), Entry::File(file)).is_ok(),
                NameOp::Unlink(n) => names.unlink_file(&path(*n)).is_ok(),
                NameOp::Rename(a, b) => names.rename(&path(*a), &path(*b)).is_ok() && a != b,
                NameOp::Sync(n) => {
                    names.commit(names.sync_point(&format!("/{}", dir(*n))));
                    safe = history.len() - 1 - names.uncommitted();
                    false
                }
            };
            if changed {
                history.push(listing(&names));
                prop_assert_eq!(names.uncommitted(), before + 1);
            }
        }
        let kept = kept.index(names.uncommitted() + 1);
        names.power_loss(kept);
        prop_assert_eq!(listing(&names), history[safe + kept].clone());
        prop_assert_eq!(names.uncommitted(), 0);
    }
}
