//! The log on real files: what it keeps over a crash at any point, what it refuses, what it forgets. The pure parts are
//! tested where they stand; faults of the disk itself (EIO, ENOSPC, lost sectors) are tested in the simulated world.

use std::path::{Path, PathBuf};

use settlement_events::{Digest, Envelope, Epoch, OutputSequence};

use super::segment::SEGMENT_HEADER_BYTES;
use super::sync::{self, SyncJob, Tail};
use super::*;

mod model;

const EPOCH: Epoch = Epoch(1);

fn seq(value: u64) -> OutputSequence {
    OutputSequence(value)
}

/// Event `value` of the test stream; `bytes` of it.
fn sized_event(value: u64, bytes: usize) -> Envelope {
    let bytes: Vec<u8> = value.to_le_bytes().into_iter().cycle().take(bytes.max(8)).collect();
    Envelope {
        digest: Digest::of(&bytes),
        bytes: bytes.into(),
    }
}

fn event(value: u64) -> Envelope {
    sized_event(value, 300)
}

fn position(value: u64) -> Position {
    let digest = if value == 0 { Digest::ZERO } else { event(value).digest };
    Position {
        epoch: EPOCH,
        seq: seq(value),
        digest,
    }
}

fn id() -> StreamId {
    StreamId {
        stream: "me".into(),
        cluster: "cluster-a/trading".into(),
    }
}

/// Small segments, so that a test has several.
fn config() -> WalConfig {
    WalConfig {
        segment_bytes: 66_000,
        group_bytes_max: 66_000,
        max_bytes: 400_000,
        ..WalConfig::starting_at(Position::start_of(EPOCH))
    }
}

async fn open(dir: &Path) -> (Wal, Recovered) {
    Wal::open(dir, id(), config()).await.expect("the log opens")
}

async fn sync(wal: &mut Wal) -> Vec<OutputSequence> {
    let done = wal.begin_sync().expect("something is buffered").await;
    wal.finish_sync(done).expect("the sync succeeds")
}

/// Appends and syncs events in groups.
async fn fill(wal: &mut Wal, values: impl IntoIterator<Item = u64>, group: usize) {
    let values: Vec<u64> = values.into_iter().collect();
    for chunk in values.chunks(group) {
        for &value in chunk {
            wal.append(seq(value), &event(value)).expect("there is room");
        }
        sync(wal).await;
    }
}

async fn truncate(wal: &mut Wal, durable: u64) -> Option<Truncated> {
    let done = wal.begin_truncate(position(durable))?.await;
    Some(wal.finish_truncate(done).expect("the compaction succeeds"))
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the directory is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    files.sort();
    files
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

fn flip(path: &Path, offset: usize) {
    let mut image = std::fs::read(path).expect("the file is there");
    image[offset] ^= 0x10;
    std::fs::write(path, image).expect("the file is written");
}

async fn all(wal: &Wal) -> Vec<(OutputSequence, Envelope)> {
    wal.read_from(seq(0), usize::MAX, usize::MAX)
        .await
        .expect("everything reads back")
}

#[tokio::test]
async fn what_was_synced_is_there_after_reopening_and_reads_back_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, recovered) = open(dir.path()).await;
    assert!(recovered.fresh);
    assert_eq!(wal.received(), position(0));
    fill(&mut wal, 1..=500, 7).await;
    assert_eq!(wal.received(), position(500));
    assert!(wal.segments() > 1, "the test needs more than one segment");
    drop(wal);

    let (wal, recovered) = open(dir.path()).await;
    assert_eq!(
        (recovered.received, recovered.torn_bytes, recovered.fresh),
        (position(500), 0, false)
    );
    assert_eq!(wal.received(), position(500));
    let read = all(&wal).await;
    assert_eq!(read.len(), 500);
    for (index, (read_seq, envelope)) in read.iter().enumerate() {
        let value = index as u64 + 1;
        assert_eq!((*read_seq, envelope), (seq(value), &event(value)));
    }
}

#[tokio::test]
async fn the_last_group_is_written_again_once_and_not_at_every_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=6, 2).await;
    drop(wal);
    let (wal, recovered) = open(dir.path()).await;
    assert_eq!(
        (recovered.rewritten_events, wal.segments()),
        (2, 2),
        "nothing proves the last group durable"
    );
    drop(wal);
    for _ in 0..3 {
        let (wal, recovered) = open(dir.path()).await;
        assert_eq!(
            (recovered.rewritten_events, wal.segments()),
            (0, 2),
            "a segment is born durable"
        );
        assert_eq!(wal.received(), position(6));
    }
}

#[tokio::test]
async fn one_fsync_covers_everything_appended_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    wal.append(seq(1), &event(1)).expect("room");
    let first = wal.begin_sync().expect("one event is buffered");
    for value in 2..=40 {
        wal.append(seq(value), &event(value)).expect("room");
    }
    assert!(wal.begin_sync().is_none(), "one sync at a time");
    assert_eq!(wal.received(), position(0), "nothing is received before its fsync");
    let done = first.await;
    assert_eq!(wal.received(), position(0), "nor before the owner was told");
    assert_eq!(wal.finish_sync(done).expect("synced"), vec![seq(1)]);
    assert_eq!(wal.received(), position(1));
    assert_eq!(sync(&mut wal).await.len(), 39);
    assert_eq!((wal.received(), wal.stats().syncs), (position(40), 2));
}

#[tokio::test]
async fn events_beyond_a_hole_are_kept_and_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, [1, 2, 5, 4, 9], 5).await;
    assert_eq!(wal.received(), position(2));
    assert_eq!(
        wal.missing(seq(1), seq(10)),
        vec![(seq(3), seq(3)), (seq(6), seq(8)), (seq(10), seq(10))]
    );
    drop(wal);
    let (mut wal, recovered) = open(dir.path()).await;
    assert_eq!(recovered.ahead, vec![seq(4), seq(5), seq(9)]);
    assert_eq!(recovered.missing, vec![(seq(3), seq(3)), (seq(6), seq(8))]);
    fill(&mut wal, [3], 1).await;
    assert_eq!(wal.received(), position(5));
    let read: Vec<u64> = all(&wal).await.iter().map(|(seq, _)| seq.0).collect();
    assert_eq!(read, vec![1, 2, 3, 4, 5, 9]);
}

#[tokio::test]
async fn reading_is_bounded_and_goes_on_from_any_event() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=100, 10).await;
    let record = record::record_bytes(300);
    for (from, events_max, bytes_max, expected) in [
        (1, 5, usize::MAX, 1..=5),
        (98, 50, usize::MAX, 98..=100),
        (20, 50, 3 * record, 20..=22),
        (20, 50, 1, 20..=20),
    ] {
        let read = wal.read_from(seq(from), events_max, bytes_max).await.expect("readable");
        let read: Vec<u64> = read.iter().map(|(seq, _)| seq.0).collect();
        assert_eq!(read, expected.collect::<Vec<u64>>());
    }
}

#[tokio::test]
async fn a_duplicate_is_no_op_and_another_content_is_a_fork() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    assert_eq!(wal.append(seq(1), &event(1)).expect("room"), Appended::Buffered);
    for _ in 0..2 {
        assert_eq!(wal.append(seq(1), &event(1)).expect("the same"), Appended::Kept);
        let fork = wal.append(seq(1), &event(99));
        assert!(
            matches!(fork, Err(WalError::Conflict { kept, came, .. }) if kept == event(1).digest && came == event(99).digest)
        );
        if wal.stats().buffered_events > 0 {
            sync(&mut wal).await;
        }
    }
    assert_eq!((wal.stats().events, wal.digest_at(seq(1))), (1, Some(event(1).digest)));
}

#[tokio::test]
async fn a_full_log_pushes_back_and_takes_events_again_after_compaction() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    let mut value = 0;
    let full = loop {
        value += 1;
        match wal.append(seq(value), &event(value)) {
            Ok(_) => {}
            Err(WalError::GroupFull { .. }) => {
                sync(&mut wal).await;
                value -= 1;
            }
            Err(error) => break error,
        }
    };
    assert!(
        matches!(full, WalError::Full { bytes, max_bytes: 400_000 } if bytes <= 400_000),
        "{full}"
    );
    assert!(full.is_transient() && full.is_backpressure());
    if wal.stats().buffered_events > 0 {
        sync(&mut wal).await;
    }
    assert_eq!(wal.received(), position(value - 1), "what was taken before is received");
    let truncated = truncate(&mut wal, value - 1).await.expect("whole segments can go");
    assert_eq!(truncated.low_water, position(value - 1));
    assert_eq!(
        wal.append(seq(value), &event(value)).expect("room again"),
        Appended::Buffered
    );
    assert_eq!(wal.append(seq(1), &event(1)).expect("known"), Appended::BelowLowWater);
}

/// Whatever is left when the log is full: opened again it begins a segment, whose header must have room, too.
#[tokio::test]
async fn the_headers_of_new_segments_have_room() {
    let record_bytes = record::record_bytes(event(1).bytes.len()) as u64;
    for max_bytes in (150_000..150_000 + record_bytes).step_by(40) {
        let dir = tempfile::tempdir().expect("a directory");
        let config = WalConfig { max_bytes, ..config() };
        let mut value = 0;
        // The second time little fits, and what does goes to a segment of its own.
        for kept_back in [3, 0] {
            let (mut wal, _) = Wal::open(dir.path(), id(), config).await.expect("the log opens");
            loop {
                match wal.append(seq(value + 1), &event(value + 1)) {
                    Ok(_) => value += 1,
                    Err(WalError::GroupFull { .. }) => drop(sync(&mut wal).await),
                    Err(WalError::Full { .. }) => break,
                    Err(other) => panic!("{other}"),
                }
                let left = (max_bytes - wal.bytes()) / record_bytes;
                if left <= kept_back {
                    break;
                }
            }
            if wal.stats().buffered_events > 0 {
                sync(&mut wal).await;
            }
            assert!(wal.bytes() <= max_bytes, "{} of {max_bytes}", wal.bytes());
        }
        assert!(value > 300, "the log was filled: {value}");
    }
}

#[tokio::test]
async fn one_absurd_event_is_refused_and_the_next_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    let refused = wal.append(seq(1), &sized_event(1, EVENT_BYTES_MAX + 1));
    assert!(matches!(refused, Err(WalError::TooLarge { .. })));
    wal.append(seq(1), &sized_event(1, EVENT_BYTES_MAX))
        .expect("the largest is taken");
    sync(&mut wal).await;
    assert_eq!(all(&wal).await[0].1, sized_event(1, EVENT_BYTES_MAX));
}

#[tokio::test]
async fn compaction_drops_whole_segments_below_the_mark_and_survives_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=600, 20).await;
    let files = segment_files(dir.path()).len();
    assert!(truncate(&mut wal, 10).await.is_none(), "no whole segment lies below 10");
    let truncated = truncate(&mut wal, 500).await.expect("some segments lie below 500");
    assert!(truncated.segments > 0);
    assert_eq!(segment_files(dir.path()).len(), files - truncated.segments);
    assert_eq!((wal.low_water(), wal.received()), (position(500), position(600)));
    drop(wal);

    let (wal, recovered) = open(dir.path()).await;
    assert_eq!(
        (recovered.low_water, recovered.received),
        (position(500), position(600))
    );
    assert_eq!(recovered.missing, vec![]);
    let kept = all(&wal).await;
    assert!(kept[0].0 <= seq(501), "everything above the mark is kept");
    assert_eq!(kept.last().map(|(seq, _)| *seq), Some(seq(600)));
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_compaction_leaves_a_log_that_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=600, 20).await;
    copy_dir(dir.path(), before.path());
    truncate(&mut wal, 500).await.expect("segments go");
    drop(wal);
    // The header is new and none of the files is gone yet; a half-written new header lies about as well.
    for file in segment_files(before.path()) {
        let name = file.file_name().expect("a name");
        if !dir.path().join(name).exists() {
            std::fs::copy(&file, dir.path().join(name)).expect("a copy");
        }
    }
    std::fs::write(dir.path().join("HEADER.tmp"), b"half").expect("written");
    let (wal, recovered) = open(dir.path()).await;
    assert_eq!((recovered.low_water, wal.received()), (position(500), position(600)));
    assert!(!dir.path().join("0000000001.wal").exists(), "leftovers go");
    assert!(!dir.path().join("HEADER.tmp").exists());
}

#[tokio::test]
async fn the_log_of_another_stream_cluster_epoch_or_format_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path()).await);
    let text = |refused: Result<(Wal, Recovered), WalError>| refused.map(drop).expect_err("refused").to_string();

    let stranger = StreamId {
        stream: "me-2".into(),
        ..id()
    };
    let refused = text(Wal::open(dir.path(), stranger, config()).await);
    assert!(
        refused.contains("is the WAL of stream \"me\"") && refused.contains("not of stream \"me-2\""),
        "{refused}"
    );
    let stranger = StreamId {
        cluster: "cluster-b/trading".into(),
        ..id()
    };
    let refused = text(Wal::open(dir.path(), stranger, config()).await);
    assert!(
        refused.contains("cluster-a/trading") && refused.contains("cluster-b/trading"),
        "{refused}"
    );
    let later = WalConfig {
        start: Position::start_of(Epoch(2)),
        ..config()
    };
    let refused = text(Wal::open(dir.path(), id(), later).await);
    assert!(refused.contains("epoch 1, not of epoch 2"), "{refused}");

    let header = dir.path().join("HEADER");
    let mut image = std::fs::read(&header).expect("a header");
    image[8] = 77;
    let end = image.len() - 4;
    let crc = crc32c::crc32c(&image[..end]).to_le_bytes();
    image[end..].copy_from_slice(&crc);
    std::fs::write(&header, image).expect("written");
    let refused = text(Wal::open(dir.path(), id(), config()).await);
    assert!(
        refused.contains("WAL format 77; this program reads format 1"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_segment_of_another_log_is_not_taken_for_ours() {
    let (dir, other) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=3, 3).await;
    let stranger = StreamId {
        stream: "other".into(),
        ..id()
    };
    let (mut theirs, _) = Wal::open(other.path(), stranger, config()).await.expect("opens");
    fill(&mut theirs, 1..=3, 3).await;
    std::fs::copy(&segment_files(other.path())[0], &segment_files(dir.path())[0]).expect("a copy");
    let refused = Wal::open(dir.path(), id(), config()).await;
    assert!(matches!(refused, Err(WalError::Damaged(_))), "{refused:?}");
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = config();
    for bad in [
        WalConfig {
            group_bytes_max: 1_000,
            ..good
        },
        WalConfig {
            segment_bytes: good.group_bytes_max - 1,
            ..good
        },
        WalConfig {
            max_bytes: 2 * u64::from(good.segment_bytes) - 1,
            ..good
        },
    ] {
        assert!(
            matches!(Wal::open(dir.path(), id(), bad).await, Err(WalError::Config(_))),
            "{bad:?}"
        );
    }
    let nameless = StreamId {
        stream: String::new(),
        ..id()
    };
    assert!(matches!(
        Wal::open(dir.path(), nameless, good).await,
        Err(WalError::Config(_))
    ));
}

#[tokio::test]
async fn cut_at_any_byte_the_last_segment_yields_its_durable_prefix() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=4, 4).await;
    fill(&mut wal, 5..=7, 1).await;
    drop(wal);
    let file = segment_files(dir.path())[0].clone();
    let whole = std::fs::read(&file).expect("the segment");
    let record = record::record_bytes(300);
    let first_group_ends = SEGMENT_HEADER_BYTES + 4 * record;
    for cut in first_group_ends..=whole.len() {
        let copy = tempfile::tempdir().expect("a directory");
        copy_dir(dir.path(), copy.path());
        std::fs::write(copy.path().join(file.file_name().expect("a name")), &whole[..cut]).expect("cut");
        let (wal, recovered) = open(copy.path()).await;
        let events = (cut - SEGMENT_HEADER_BYTES) / record;
        assert_eq!(wal.received(), position(events as u64), "cut at {cut}");
        assert_eq!(
            recovered.torn_bytes as usize,
            (cut - SEGMENT_HEADER_BYTES) % record,
            "cut at {cut}"
        );
        assert_eq!(all(&wal).await.len(), events);
    }
}

#[tokio::test]
async fn a_torn_tail_is_reported_once_and_gone_the_next_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=4, 2).await;
    drop(wal);
    let file = segment_files(dir.path())[0].clone();
    let image = std::fs::read(&file).expect("the segment");
    std::fs::write(&file, &image[..image.len() - 10]).expect("cut");
    let (mut wal, recovered) = open(dir.path()).await;
    assert_eq!((wal.received(), recovered.torn_bytes), (position(3), 346));
    fill(&mut wal, 4..=5, 2).await;
    drop(wal);
    let (wal, recovered) = open(dir.path()).await;
    assert_eq!(
        (wal.received(), recovered.torn_bytes, recovered.damaged.len()),
        (position(5), 0, 0)
    );
}

#[tokio::test]
async fn damage_is_refused_with_its_place_or_set_aside_and_fetched_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=10, 2).await;
    drop(wal);
    let file = segment_files(dir.path())[0].clone();
    let record = record::record_bytes(300);
    let fifth = SEGMENT_HEADER_BYTES + 4 * record;
    flip(&file, fifth + 100);

    let refused = Wal::open(dir.path(), id(), config())
        .await
        .map(drop)
        .expect_err("refused");
    let WalError::Damaged(report) = &refused else {
        panic!("{refused}")
    };
    let place = &report.places[0];
    assert_eq!(
        (place.file.as_path(), place.offset as usize, place.bytes as usize),
        (file.as_path(), fifth, record)
    );
    assert_eq!((place.after, place.before), (Some(seq(4)), Some(seq(6))));
    assert_eq!(report.missing, vec![(seq(5), seq(5))]);
    let text = refused.to_string();
    assert!(
        text.contains("between events 4 and 6")
            && text.contains("5..=5")
            && text.contains("SETTLEMENT_WAL__ON_DAMAGE=set_aside"),
        "{text}"
    );

    let lenient = WalConfig {
        on_damage: OnDamage::SetAside,
        ..config()
    };
    let (mut wal, recovered) = Wal::open(dir.path(), id(), lenient)
        .await
        .expect("opens without the record");
    assert_eq!(recovered.missing, vec![(seq(5), seq(5))]);
    assert_eq!((recovered.received, recovered.ahead.len()), (position(4), 5));
    drop(wal);
    // It was accepted: nobody is asked again, and the event can be put back.
    (wal, _) = open(dir.path()).await;
    fill(&mut wal, [5], 1).await;
    assert_eq!(wal.received(), position(10));
    drop(wal);
    let (wal, recovered) = open(dir.path()).await;
    assert_eq!((wal.received(), recovered.missing), (position(10), vec![]));
    assert_eq!(all(&wal).await.len(), 10);
}

#[tokio::test]
async fn a_lost_header_or_segment_is_damage_and_not_an_empty_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=600, 20).await;
    truncate(&mut wal, 250).await.expect("segments go");
    fill(&mut wal, 601..=900, 20).await;
    drop(wal);
    let lenient = WalConfig {
        on_damage: OnDamage::SetAside,
        ..config()
    };

    let headless = tempfile::tempdir().expect("a directory");
    copy_dir(dir.path(), headless.path());
    std::fs::remove_file(headless.path().join("HEADER")).expect("removed");
    let refused = Wal::open(headless.path(), id(), config()).await;
    assert!(matches!(refused, Err(WalError::Damaged(_))), "{refused:?}");
    let (wal, recovered) = Wal::open(headless.path(), id(), lenient).await.expect("rebuilt");
    assert_eq!((recovered.low_water, wal.received()), (position(250), position(900)));
    drop(wal);
    drop(open(headless.path()).await);

    let files = segment_files(dir.path());
    assert!(files.len() >= 3, "the test needs a segment in the middle");
    std::fs::remove_file(&files[1]).expect("removed");
    let refused = Wal::open(dir.path(), id(), config())
        .await
        .map(drop)
        .expect_err("refused");
    let name = files[1].file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(refused.to_string().contains(name), "{refused}");
    let (_, recovered) = Wal::open(dir.path(), id(), lenient).await.expect("opens without it");
    assert_eq!(
        recovered.missing.len(),
        1,
        "what it held is listed: {:?}",
        recovered.missing
    );
}

#[tokio::test]
async fn a_record_that_changed_on_disk_is_noticed_when_it_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=3, 3).await;
    flip(
        &segment_files(dir.path())[0],
        SEGMENT_HEADER_BYTES + record::record_bytes(300) + 200,
    );
    let refused = wal.read_from(seq(1), 10, usize::MAX).await.expect_err("noticed");
    let WalError::Damaged(report) = refused else {
        panic!("{refused}")
    };
    assert_eq!(report.missing, vec![(seq(2), seq(2))]);
}

#[tokio::test]
async fn a_database_that_holds_more_than_the_log_moves_the_beginning() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=3, 3).await;
    drop(wal);
    let config = WalConfig {
        start: position(10),
        ..config()
    };
    let (mut wal, recovered) = Wal::open(dir.path(), id(), config).await.expect("opens");
    assert_eq!((recovered.low_water, recovered.received), (position(0), position(10)));
    fill(&mut wal, [11], 1).await;
    assert_eq!(wal.received(), position(11));
}

/// A job that writes to a given file as if it were the log's open segment.
async fn job_writing_to(dir: &Path, device: &str) -> SyncJob {
    let file = tokio::fs::OpenOptions::new()
        .write(true)
        .open(device)
        .await
        .expect("the device opens");
    let mut group = group::Group::default();
    group.push(seq(4), &event(4));
    SyncJob {
        dir: dir.to_owned(),
        group,
        tail: Some(Tail {
            file,
            number: 1,
            bytes: 1_144,
        }),
        previous: (1, 1_144),
        next_number: 2,
        fingerprint: header::fingerprint(&id(), EPOCH),
        low_water: position(0),
    }
}

#[tokio::test]
async fn a_file_whose_fsync_fails_is_abandoned_and_its_group_written_to_a_new_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=3, 3).await;
    drop(wal);
    // The null device takes every write and cannot be fsynced: a disk that loses what it was given.
    let done = sync::run(job_writing_to(dir.path(), "/dev/null").await).await;
    assert_eq!(done.abandoned, 1);
    assert_eq!(
        done.outcome.expect("written elsewhere"),
        (2, SEGMENT_HEADER_BYTES as u32)
    );
    assert_eq!(done.tail.map(|tail| tail.number), Some(2));

    // What the abandoned file holds behind its durable part does not count, whatever it is.
    let abandoned = segment_files(dir.path())[0].clone();
    let mut image = std::fs::read(&abandoned).expect("the segment");
    assert_eq!(image.len(), 1_144);
    image.extend_from_slice(&[0xab; 500]);
    std::fs::write(&abandoned, image).expect("written");
    let (wal, recovered) = open(dir.path()).await;
    assert_eq!((wal.received(), recovered.torn_bytes), (position(4), 0));
}

#[tokio::test]
async fn a_full_disk_is_typed_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    fill(&mut wal, 1..=3, 3).await;
    let done = sync::run(job_writing_to(dir.path(), "/dev/full").await).await;
    assert!(
        matches!(done.outcome, Err(WalError::NoSpace { .. })),
        "{:?}",
        done.outcome
    );
    assert_eq!(done.group.waiting.len(), 1, "the group comes back");
}

#[tokio::test]
async fn a_sync_that_fails_keeps_its_events_first_in_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wal, _) = open(dir.path()).await;
    wal.append(seq(1), &event(1)).expect("room");
    let mut done = wal.begin_sync().expect("buffered").await;
    // As a full disk would have ended it.
    for file in segment_files(dir.path()) {
        std::fs::remove_file(file).expect("removed");
    }
    (done.outcome, done.tail) = (
        Err(WalError::NoSpace {
            doing: "writing",
            path: dir.path().to_owned(),
        }),
        None,
    );
    wal.append(seq(2), &event(2)).expect("the next group goes on");
    assert!(wal.finish_sync(done).expect_err("no space").is_transient());
    assert_eq!((wal.received(), wal.stats().buffered_events), (position(0), 2));
    assert_eq!(wal.append(seq(1), &event(1)).expect("known"), Appended::Kept);
    assert_eq!(sync(&mut wal).await, vec![seq(1)]);
    assert_eq!(sync(&mut wal).await, vec![seq(2)]);
    assert_eq!((wal.received(), wal.stats().syncs_failed), (position(2), 1));
    assert_eq!(
        wal.bytes(),
        2 * record::record_bytes(300) as u64 + SEGMENT_HEADER_BYTES as u64
    );
}
