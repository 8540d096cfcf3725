//! The log: whatever a crash leaves of it, recovery goes on with the same events; what a disk loses is not taken for a
//! crash.

mod common;

use std::path::Path;
use std::sync::OnceLock;

use engine::contradiction::UNREADABLE;
use engine::log::{FactsError, LogError, read_facts, scan};
use engine::{
    Contradiction, EngineConfig, EngineError, EngineExit, Falsehood, LOG_FILE, Pacing, Source, WorkloadSpec, run, serve,
};
use proptest::prelude::*;
use settlement_events::{Digest, RefusalCode, Registry};

/// The length of a log's header.
const HEADER_BYTES: usize = 52;

fn config(data_dir: &Path) -> EngineConfig {
    let source = Source::Workload(WorkloadSpec {
        seed: 11,
        trades: 15,
        ..WorkloadSpec::default()
    });
    // Port 0: every engine of these tests gets ports of its own.
    let any_port = "tcp://127.0.0.1:0";
    let mut config = EngineConfig::new(Registry::example(), source, data_dir.to_owned(), any_port, any_port);
    // Small groups, so that a log has many fsync points.
    config.pacing = Pacing {
        events_per_s: 0,
        tick_ms: 0,
        group_events_max: 4,
        ..Pacing::default()
    };
    config.contradictions = [
        (10, Falsehood::Arithmetic),
        (14, Falsehood::Discontinuity),
        (15, Falsehood::Unreadable),
    ]
    .map(|(before_command, falsehood)| Contradiction {
        before_command,
        falsehood,
    })
    .into();
    config.exit_when_done = true;
    config
}

/// Lets an engine run to its end from this log (none if it is empty), and says what its log is then. The directory is
/// this world's: of the machine, or of the simulator.
fn run_from(log: &[u8], edit: fn(&mut EngineConfig)) -> (Result<EngineExit, EngineError>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    edit(&mut config);
    let path = dir.path().join(LOG_FILE);
    runtime.block_on(async {
        tokio::fs::create_dir_all(dir.path()).await.expect("a directory");
        if !log.is_empty() {
            tokio::fs::write(&path, log).await.expect("written");
        }
        let exit = serve(config).await;
        (exit, tokio::fs::read(&path).await.expect("its log"))
    })
}

/// A whole log, made once.
fn whole_log() -> &'static [u8] {
    static LOG: OnceLock<Vec<u8>> = OnceLock::new();
    LOG.get_or_init(|| {
        let (exit, log) = run_from(&[], |_| {});
        exit.expect("an engine runs to its end");
        log
    })
}

/// What the log becomes when an engine goes on from this one to its end.
fn go_on_from(log: &[u8]) -> Result<Vec<u8>, EngineError> {
    let (exit, log) = run_from(log, |_| {});
    assert!(exit?.source_ended);
    Ok(log)
}

fn heads(log: &[u8]) -> Vec<Digest> {
    read_facts(log)
        .expect("a good log")
        .iter()
        .map(|fact| fact.digest)
        .collect()
}

#[test]
fn the_log_of_a_run_holds_what_its_source_gives() {
    let facts = read_facts(whole_log()).expect("a good log");
    let config = config(Path::new("unused"));
    let stream = run(config.registry.clone(), &config.source, &config.contradictions).expect("a good spec");
    assert_eq!(facts.len(), stream.len());
    for (fact, (envelope, code)) in facts.iter().zip(&stream) {
        assert_eq!((fact.digest, fact.contradictory), (envelope.digest, *code));
        let is_whole = fact.event.digest() == fact.digest;
        assert_eq!(is_whole, *code != Some(UNREADABLE));
    }
    assert_eq!(
        facts.iter().filter_map(|fact| fact.contradictory).collect::<Vec<_>>(),
        [
            RefusalCode::Contradiction.as_str(),
            RefusalCode::Contradiction.as_str(),
            UNREADABLE
        ]
    );
    common::Follower::follow(&stream, &config.registry);
}

#[test]
fn a_finished_engine_started_again_adds_nothing() {
    assert_eq!(go_on_from(whole_log()).expect("goes on"), whole_log());
}

#[test]
fn a_crash_at_birth_leaves_a_log_that_can_be_used() {
    for log in [
        &[][..],
        &whole_log()[..1],
        &whole_log()[..HEADER_BYTES - 1],
        &[0; 30],
        &[0; HEADER_BYTES],
    ] {
        assert_eq!(scan(log).expect("torn at birth").records.len(), 0);
        assert_eq!(
            heads(&go_on_from(log).expect("goes on")),
            heads(whole_log()),
            "{} bytes",
            log.len()
        );
    }
}

#[test]
fn any_cut_leaves_a_prefix_of_the_facts() {
    let (log, all) = (whole_log(), heads(whole_log()));
    let mut last = 0;
    for cut in HEADER_BYTES..=log.len() {
        let facts = read_facts(&log[..cut]).expect("a torn tail is no damage").len();
        assert!(facts >= last, "cut at {cut}");
        last = facts;
    }
    assert_eq!(last, all.len());
}

#[test]
fn fsynced_bytes_that_rot_are_an_error_not_a_torn_tail() {
    let log = whole_log();
    let mut rotten = log.to_vec();
    rotten[HEADER_BYTES + 30] ^= 0x10;
    let error = scan(&rotten).expect_err("damage before the last fsync");
    assert!(
        matches!(
            error,
            LogError::Corrupt {
                offset: 52,
                index: 0,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(go_on_from(&rotten), Err(EngineError::Log { .. })));
    assert!(matches!(read_facts(&rotten), Err(FactsError::Log(_))));

    let mut header = log.to_vec();
    header[20] ^= 1;
    assert!(matches!(scan(&header), Err(LogError::Corrupt { offset: 0, .. })));
}

#[test]
fn other_files_and_other_formats_are_refused() {
    assert_eq!(
        scan(b"PK\x03\x04 something else").map(|s| s.valid_bytes),
        Err(LogError::NotALog)
    );
    assert_eq!(scan(&[b'x'; 500]).map(|s| s.valid_bytes), Err(LogError::NotALog));
    let mut newer = whole_log()[..HEADER_BYTES].to_vec();
    newer[8] = 9;
    let crc = crc32c::crc32c(&newer[..HEADER_BYTES - 4]).to_le_bytes();
    newer[HEADER_BYTES - 4..].copy_from_slice(&crc);
    assert_eq!(scan(&newer).map(|s| s.valid_bytes), Err(LogError::Format { found: 9 }));
}

#[test]
fn a_log_is_not_continued_under_another_source() {
    for edit in [
        (|config| {
            config.source = Source::Workload(WorkloadSpec {
                seed: 12,
                trades: 15,
                ..WorkloadSpec::default()
            })
        }) as fn(&mut EngineConfig),
        |config| config.contradictions.clear(),
        |config| config.source = Source::None,
    ] {
        let (exit, log) = run_from(whole_log(), edit);
        let error = exit.expect_err("another source");
        assert!(
            matches!(
                &error,
                EngineError::Log {
                    source: LogError::OtherIdentity { .. },
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(log, whole_log(), "nothing is lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn an_engine_goes_on_from_any_cut(cut in any::<prop::sample::Index>(), garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut log = whole_log()[..HEADER_BYTES + cut.index(whole_log().len() - HEADER_BYTES)].to_vec();
        log.extend(garbage);
        prop_assert_eq!(heads(&go_on_from(&log).expect("goes on")), heads(whole_log()));
    }
}

proptest! {
    #[test]
    fn a_torn_last_group_is_cut_off_wherever_it_is_torn(
        cut in any::<prop::sample::Index>(), zeroed in any::<prop::sample::Index>(), length in 1..64_usize,
    ) {
        // After a power loss any part of what was not fsynced may be zeros: here a part of the last two records.
        let log = whole_log();
        let records = scan(log).expect("a good log").records;
        let before = &records[..records.len() - 2];
        let start = usize::try_from(records[before.len()].offset).expect("a small log");
        let mut torn = log[..start + 1 + cut.index(log.len() - start)].to_vec();
        let at = start + zeroed.index(torn.len() - start);
        let until = (at + length).min(torn.len());
        torn[at..until].fill(0);
        // The last record may say that the one before it was fsynced; then its loss is damage, not a tear.
        match scan(&torn) {
            Ok(scan) => prop_assert!(scan.records.len() >= before.len()),
            Err(LogError::Corrupt { offset, .. }) => prop_assert_eq!(offset, start as u64),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn any_bytes_are_a_log_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), with_header in any::<bool>()) {
        let mut log = if with_header { whole_log()[..HEADER_BYTES].to_vec() } else { Vec::new() };
        log.extend(&bytes);
        match scan(&log) {
            Ok(scan) => prop_assert!(scan.records.is_empty() && scan.torn_bytes <= log.len() as u64),
            Err(error) => prop_assert!(!with_header, "{}", error),
        }
    }
}
