//! Any interleaving of appends, syncs, compactions, restarts and power losses against a reference of two maps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use settlement_events::{Digest, Envelope};

use super::super::{Appended, Position, Wal};
use super::{EPOCH, all, config, open, segment_files, seq, sized_event};

/// Now and then a large one, so that segments fill up within few steps.
fn mixed_event(value: u64) -> Envelope {
    sized_event(value, if value.is_multiple_of(3) { 30_000 } else { 300 })
}

#[derive(Clone, Debug)]
enum Step {
    /// Append the event this far beyond the next one that was never appended (0 is in order).
    Append(u64),
    Sync,
    /// Compact up to this share (of 8) of what is received.
    Truncate(u64),
    Reopen,
    /// Lose power while a sync is under way: its bytes reach the disk in part, by sectors, or not at all.
    PowerLoss {
        kept_share: u64,
        sectors: Vec<bool>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sectors = prop::collection::vec(any::<bool>(), 8);
    let step = prop_oneof![
        12 => prop_oneof![3 => Just(0_u64), 1 => 1_u64..4].prop_map(Step::Append),
        5 => Just(Step::Sync),
        2 => (0_u64..=8).prop_map(Step::Truncate),
        1 => Just(Step::Reopen),
        1 => (0_u64..=8, sectors).prop_map(|(kept_share, sectors)| Step::PowerLoss { kept_share, sectors }),
    ];
    prop::collection::vec(step, 1..80)
}

/// What the steps came across: a model test that never reaches a corner says nothing about it.
#[derive(Debug, Default)]
struct Reached {
    backpressure: u64,
    compactions: u64,
    torn: u64,
    segments_max: usize,
}

/// What a log has to hold, said with two maps.
#[derive(Default)]
struct Reference {
    durable: BTreeMap<u64, Digest>,
    buffered: BTreeMap<u64, Digest>,
    low_water: u64,
}

impl Reference {
    fn received(&self) -> u64 {
        (self.low_water..)
            .find(|value| !self.durable.contains_key(&(value + 1)))
            .unwrap_or(u64::MAX)
    }

    fn next_unknown(&self) -> u64 {
        let known = |value: &u64| self.durable.contains_key(value) || self.buffered.contains_key(value);
        (self.received() + 1..).find(|value| !known(value)).unwrap_or(u64::MAX)
    }

    async fn check(&self, wal: &Wal) {
        assert_eq!(wal.received().seq, seq(self.received()));
        let received = self.received();
        assert!(received == 0 || wal.received().digest == mixed_event(received).digest);
        let read: BTreeMap<u64, Digest> = all(wal)
            .await
            .into_iter()
            .map(|(seq, envelope)| (seq.0, envelope.digest))
            .collect();
        let above = |events: &BTreeMap<u64, Digest>| events.clone().split_off(&(wal.low_water().seq.0 + 1));
        assert_eq!(above(&read), above(&self.durable));
        assert!(
            read.iter()
                .all(|(value, digest)| self.durable.get(value) == Some(digest)),
            "nothing is invented"
        );
        assert!(wal.bytes() <= config().max_bytes);
    }
}

async fn take_step(step: &Step, dir: &Path, wal: &mut Wal, reference: &mut Reference, reached: &mut Reached) {
    match step {
        Step::Append(ahead) => {
            let value = reference.next_unknown() + ahead;
            let envelope = mixed_event(value);
            match wal.append(seq(value), &envelope) {
                Ok(Appended::Buffered) => {
                    let known = reference.durable.contains_key(&value) || reference.buffered.contains_key(&value);
                    assert!(!known, "{value} was there already");
                    reference.buffered.insert(value, envelope.digest);
                }
                Ok(Appended::Kept) => {
                    assert!(reference.durable.contains_key(&value) || reference.buffered.contains_key(&value));
                }
                Err(error) if error.is_backpressure() => reached.backpressure += 1,
                other => panic!("{other:?}"),
            }
        }
        Step::Sync => {
            if let Some(sync) = wal.begin_sync() {
                let done = sync.await;
                let synced = wal.finish_sync(done).expect("the disk is fine");
                assert_eq!(synced.len(), reference.buffered.len());
                reference.durable.append(&mut reference.buffered);
            }
        }
        Step::Truncate(share) => {
            let durable = reference.low_water + (reference.received() - reference.low_water) * share / 8;
            let digest = mixed_event(durable).digest;
            if let Some(truncate) = wal.begin_truncate(Position {
                epoch: EPOCH,
                seq: seq(durable),
                digest,
            }) {
                let done = truncate.await;
                let truncated = wal.finish_truncate(done).expect("the compaction succeeds");
                assert_eq!(truncated.low_water.seq, seq(durable));
                reached.compactions += 1;
                reference.low_water = durable;
            }
        }
        Step::Reopen => {
            reference.buffered.clear();
            *wal = open(dir).await.0;
        }
        Step::PowerLoss { kept_share, sectors } => {
            let torn_bytes = lose_power(dir, wal, reference, *kept_share, sectors).await;
            reached.torn += u64::from(torn_bytes > 0);
        }
    }
}

/// Runs a sync to its end without telling the owner, then takes back part of what it wrote.
async fn lose_power(dir: &Path, wal: &mut Wal, reference: &mut Reference, kept_share: u64, sectors: &[bool]) -> u64 {
    let before: BTreeMap<PathBuf, usize> = file_sizes(dir);
    if let Some(sync) = wal.begin_sync() {
        drop(sync.await);
    }
    for (path, size) in file_sizes(dir) {
        match before.get(&path) {
            Some(&durable) if size > durable => spoil(&path, durable, size, kept_share, sectors),
            Some(_) => {}
            None if kept_share < 4 => {
                let mut temporary = path.clone().into_os_string();
                temporary.push(".tmp");
                std::fs::rename(&path, temporary).expect("renamed");
            }
            None => {}
        }
    }
    let (reopened, recovered) = open(dir).await;
    assert_eq!(recovered.damaged, vec![], "a crash is never taken for damage");
    for (read_seq, envelope) in all(&reopened).await {
        // What nobody was told of may be there, if it is what was appended.
        if let Some(digest) = reference.buffered.remove(&read_seq.0) {
            assert_eq!(digest, envelope.digest);
            reference.durable.insert(read_seq.0, digest);
        }
    }
    reference.buffered.clear();
    *wal = reopened;
    recovered.torn_bytes
}

fn file_sizes(dir: &Path) -> BTreeMap<PathBuf, usize> {
    let size = |path: &PathBuf| std::fs::metadata(path).expect("the file is there").len() as usize;
    segment_files(dir)
        .into_iter()
        .map(|path| (path.clone(), size(&path)))
        .collect()
}

fn spoil(path: &Path, durable: usize, size: usize, kept_share: u64, sectors: &[bool]) {
    let mut image = std::fs::read(path).expect("the segment");
    image.truncate(durable + (size - durable) * kept_share as usize / 8);
    for (index, sector) in image[durable..].chunks_mut(512).enumerate() {
        if !sectors[index % sectors.len()] {
            sector.fill(0);
        }
    }
    std::fs::write(path, image).expect("written");
}

/// Not a `proptest!`, because the log wants an executor: the same generators, a fixed seed, no shrinking.
#[tokio::test]
async fn any_interleaving_of_appends_syncs_compactions_and_crashes_agrees_with_the_reference() {
    let config = Config::default();
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let mut reached = Reached::default();
    for case in 0..100 {
        let steps = steps().new_tree(&mut runner).expect("steps").current();
        let dir = tempfile::tempdir().expect("a directory");
        let (mut wal, _) = open(dir.path()).await;
        let mut reference = Reference::default();
        for (index, step) in steps.iter().enumerate() {
            take_step(step, dir.path(), &mut wal, &mut reference, &mut reached).await;
            if !matches!(step, Step::Append(_)) {
                reference.check(&wal).await;
            }
            assert!(wal.segments() <= index + 1, "case {case}, step {index}: {steps:?}");
            reached.segments_max = reached.segments_max.max(wal.segments());
        }
    }
    assert!(
        reached.backpressure > 10 && reached.compactions > 10 && reached.torn > 10 && reached.segments_max > 3,
        "the generator no longer reaches the corners: {reached:?}"
    );
}
