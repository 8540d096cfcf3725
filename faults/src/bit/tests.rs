//! Small stories in which a fault has bitten, or has not.
use super::*;
use crate::plan::{BatchPoint, Lie, When};
use sim_world::trace::{CqlRecord, FaultRecord, HostId, WriteKind};

fn records(kinds: Vec<Kind>) -> Vec<Record> {
    let number = |(i, kind)| Record {
        at_ns: i as u64 * 300_000_000,
        ordinal: i as u64,
        host: None,
        kind,
    };
    kinds.into_iter().enumerate().map(number).collect()
}

fn fired(detail: &str) -> Kind {
    Kind::Fault(FaultRecord {
        id: 1,
        class: String::new(),
        stage: FaultStage::Fired,
        detail: detail.into(),
    })
}

fn fault(class: Class, action: Action) -> Fault {
    Fault {
        id: 1,
        class,
        when: When::AtMs(0),
        action,
    }
}

fn batch(event: u64) -> Kind {
    let op = CqlOp::Request { kind: "batch".into() };
    Kind::Cql(CqlRecord {
        node: HostId(1),
        conn: 0,
        stream: 0,
        op,
        label: format!("batch of event {event}"),
    })
}

fn host(name: &str, change: HostChange) -> Kind {
    Kind::Host {
        name: name.into(),
        change,
    }
}

fn note(text: &str) -> Kind {
    Kind::Note { text: text.into() }
}

#[test]
fn a_crash_before_the_batch_bites_only_if_the_batch_came_only_after_the_restart() {
    let action = Action::CrashSettlement {
        point: BatchPoint::Leaving,
        restart_after_ms: 5,
    };
    let fault = fault(Class::CrashBeforeBatch, action);
    let down = || {
        vec![
            fired("killed as the batch of event 7 leaves"),
            host("settlement", HostChange::Killed),
            host("settlement", HostChange::Restarted),
        ]
    };
    let mut good = down();
    good.push(batch(7));
    assert!(has_bitten(&fault, &records(good.clone())));
    assert!(!has_bitten(&fault, &records(down())), "the batch never came");
    good.insert(0, batch(7));
    assert!(!has_bitten(&fault, &records(good)), "the batch had been there before");
    assert!(!has_bitten(&fault, &records(vec![batch(7)])), "not fired");
}

#[test]
fn a_late_execution_bites_only_if_the_database_executed_late() {
    let fault = fault(
        Class::TimeoutExecutedLate,
        Action::TimeOutBatch(TimeoutWorld::ExecutedLate { after_ms: 9 }),
    );
    let timeout = Kind::Cluster(ClusterRecord::WriteTimeout {
        write: WriteKind::Batch,
        received: 1,
        required: 2,
        consistency: "QUORUM".into(),
    });
    let late = Kind::Cluster(ClusterRecord::ExecutedLate {
        label: String::new(),
        delay_ms: 9,
    });
    let at = |kinds: Vec<(u64, Kind)>| -> Vec<Record> {
        let mut all = records(kinds.iter().map(|(_, kind)| kind.clone()).collect());
        for (record, (at_ms, _)) in all.iter_mut().zip(kinds) {
            record.at_ns = at_ms * MS;
        }
        all
    };
    let story = |timeout_ms, late_ms| {
        at(vec![
            (100, fired("")),
            (timeout_ms, timeout.clone()),
            (late_ms, late.clone()),
        ])
    };
    assert!(has_bitten(&fault, &story(100, 109)));
    assert!(!has_bitten(&fault, &story(100, 109)[..2]), "not executed");
    assert!(!has_bitten(&fault, &story(101, 109)), "another one's timeout");
    assert!(!has_bitten(&fault, &story(100, 900)), "another one's execution");
    let replayed = |age_ms| ClusterRecord::BatchlogReplayed {
        batch: String::new(),
        holder: HostId(1),
        age_ms,
    };
    let by_replay = TimeoutWorld::AppliedByReplay { after_mutations: 1 };
    let fault = super::tests::fault(Class::TimeoutAppliedByReplay, Action::TimeOutBatch(by_replay));
    let story = |age_ms| {
        at(vec![
            (100, fired("")),
            (100, timeout.clone()),
            (5_100, Kind::Cluster(replayed(age_ms))),
        ])
    };
    assert!(has_bitten(&fault, &story(5_004)));
    assert!(!has_bitten(&fault, &story(2_000)), "another one's entry");
}

#[test]
fn an_anomaly_bites_only_if_the_database_showed_it_and_it_came_to_something() {
    let lied = |lie: &str| Kind::Cluster(ClusterRecord::Lied { lie: lie.into() });
    let replayed = || {
        Kind::Cluster(ClusterRecord::BatchlogReplayed {
            batch: String::new(),
            holder: HostId(1),
            age_ms: 5_000,
        })
    };
    let of = |class, lie| fault(class, Action::Lie { lie, for_ms: 9 });
    let held = of(Class::ReplayHeld, Lie::HoldReplay);
    assert!(has_bitten(
        &held,
        &records(vec![fired(""), lied("hold-replay"), replayed()])
    ));
    assert!(!has_bitten(
        &held,
        &records(vec![fired(""), replayed(), lied("hold-replay")])
    ));
    assert!(!has_bitten(
        &held,
        &records(vec![fired(""), lied("keep-batchlog"), replayed()])
    ));
    let torn = of(Class::PartitionTorn, Lie::TearPartitions);
    assert!(has_bitten(&torn, &records(vec![fired(""), lied("tear-partitions")])));
    assert!(!has_bitten(&torn, &records(vec![lied("tear-partitions"), fired("")])));
    let refused = fault(
        Class::UnavailableYetApplied,
        Action::RefuseYetApply { by_replay: false },
    );
    let told = Kind::Cluster(ClusterRecord::Unavailable { required: 2, alive: 1 });
    assert!(
        !has_bitten(&refused, &records(vec![fired(""), told.clone()])),
        "a true one"
    );
    let mut story = vec![fired(""), told, lied("unavailable-yet-applied")];
    assert!(has_bitten(&refused, &records(story.clone())));
    let later = fault(Class::UnavailableYetApplied, Action::RefuseYetApply { by_replay: true });
    assert!(!has_bitten(&later, &records(story.clone())), "not applied");
    story.push(replayed());
    assert!(has_bitten(&later, &records(story)));
}

#[test]
fn metrics_count_from_the_fault_on_and_a_watermark_is_held_up_only_while_events_wait() {
    let duplicate = fault(Class::DuplicateDelivery, Action::Duplicate { count: 1 });
    let before = note("metrics duplicates=2 gaps=0");
    assert!(!has_bitten(
        &duplicate,
        &records(vec![before.clone(), fired(""), before.clone()])
    ));
    assert!(has_bitten(
        &duplicate,
        &records(vec![before, fired(""), note("metrics duplicates=3 gaps=0")])
    ));
    let cut = fault(
        Class::PartitionClient,
        Action::CutClient {
            node: 0,
            to_node: true,
            from_node: true,
            for_ms: 9,
        },
    );
    let sample = |a, r| note(&format!("metrics acknowledged={a} received={r}"));
    assert!(has_bitten(
        &cut,
        &records(vec![fired(""), sample(5, 6), sample(5, 8), sample(5, 9)])
    ));
    assert!(!has_bitten(
        &cut,
        &records(vec![fired(""), sample(6, 6), sample(6, 6), sample(6, 6)])
    ));
    assert!(!has_bitten(
        &cut,
        &records(vec![fired(""), sample(5, 6), sample(6, 7), sample(7, 8)])
    ));
}

#[test]
fn a_fault_that_changed_nothing_has_not_bitten_whatever_it_is() {
    let nothing = [
        note("metrics duplicates=0 gaps=0 acknowledged=3 received=3"),
        host("db-1", HostChange::Started),
        batch(8),
        note("metrics duplicates=0 gaps=0 acknowledged=8 received=8"),
    ];
    let calm = |first: Kind| records([vec![first], nothing.to_vec()].concat());
    for info in crate::class::ALL {
        let fault = fault(info.class, Action::Duplicate { count: 1 });
        let name = info.class.name();
        assert!(!has_bitten(&fault, &calm(fired("batch of event 7"))), "{name}");
        assert!(!has_bitten(&fault, &calm(note(""))), "{name}, which was not even fired");
    }
}

#[test]
fn faults_of_the_stream_and_of_disks_bite_by_the_numbers_that_they_move() {
    use Class::*;
    for (class, metric, enough) in [
        (DuplicateDelivery, "duplicates", 1),
        (ReorderedDelivery, "gaps", 1),
        (ReorderedDelivery, "replays_requested", 1),
        (SequenceGap, "replays_requested", 1),
        (TailLoss, "replays_requested", 1),
        (GapSlowReplay, "replays_requested", 1),
        (GapPartialReplay, "replays_requested", 2),
        (GapRefusedReplay, "replays_refused", 1),
        (BatchRejected, "groups_taken_apart", 1),
        (BatchRejected, "retries", 1),
        (DamagedDelivery, "damaged", 1),
        (ForgedDelivery, "forks", 1),
        (RefusedEvent, "dead_letters", 1),
        (PartitionClient, "retries", 1),
        (DiskEio, "wal_sync_failures", 1),
        (DiskEio, "wal_files_abandoned", 1),
        (DiskFull, "wal_full", 1),
    ] {
        let fault = fault(class, Action::Duplicate { count: 1 });
        let story = |by: u64| {
            let before = note(&format!("metrics other=9 {metric}=4"));
            records(vec![
                before,
                fired(""),
                note(&format!("metrics other=99 {metric}={}", 4 + by)),
            ])
        };
        let name = class.name();
        assert!(has_bitten(&fault, &story(enough)), "{name} by {metric}");
        assert!(!has_bitten(&fault, &story(enough - 1)), "{name} by {metric}");
    }
}

#[test]
fn a_disk_was_lost_or_unreadable_if_settlement_says_so_when_it_is_back() {
    use Class::*;
    let back = [
        host("settlement", HostChange::Killed),
        host("settlement", HostChange::Restarted),
    ];
    let told = |class, kinds: &[Kind]| {
        let all = [&[fired("")][..], &back[..], kinds].concat();
        let fault = fault(class, Action::DiskLost { restart_after_ms: 1 });
        has_bitten(&fault, &records(all))
    };
    let stop = |kind: &str| note(&format!("{STOPPED_NOTE}{kind}"));
    assert!(told(DiskRot, &[stop(STOP_DAMAGE)]));
    assert!(!told(DiskRot, &[stop(STOP_DISK)]) && !told(DiskRot, &[]));
    assert!(told(DiskUnreadable, &[stop(STOP_DISK)]));
    assert!(!told(DiskUnreadable, &[stop(STOP_DAMAGE)]) && !told(DiskUnreadable, &[]));
    let (replaced, asked) = (
        host("settlement", HostChange::DiskReplaced),
        note("metrics replays_requested=1"),
    );
    assert!(told(DiskLost, &[replaced.clone(), asked.clone()]));
    assert!(!told(DiskLost, &[replaced]) && !told(DiskLost, &[asked]));
}

#[test]
fn a_machine_was_struck_if_it_went_down_and_came_back_and_a_node_if_the_database_noticed() {
    use Class::*;
    let down_and_up = |name: &str| vec![host(name, HostChange::PoweredOff), host(name, HostChange::Restarted)];
    let story = |names: &[&str], more: Vec<Kind>| {
        let all: Vec<Kind> = names.iter().flat_map(|name| down_and_up(name)).collect();
        records([vec![fired("")], all, more].concat())
    };
    let kill = |target| Action::Kill {
        target,
        restart_after_ms: 5,
    };
    for (class, action, needed) in [
        (EngineCrash, kill(Target::Engine), &["engine"][..]),
        (EnginePowerLoss, kill(Target::Engine), &["engine"][..]),
        (ProcessKill, kill(Target::Settlement), &["settlement"][..]),
        (PowerLoss, kill(Target::Engine), &["engine"][..]),
        (
            ProcessKillAll,
            kill(Target::Engine),
            &["settlement", "engine", "db-1"][..],
        ),
        (
            PowerLossAll,
            kill(Target::Engine),
            &["settlement", "engine", "db-1"][..],
        ),
        (PowerLossDatabase, kill(Target::Engine), &["db-1", "db-2", "db-3"][..]),
    ] {
        let fault = fault(class, action);
        let name = class.name();
        assert!(has_bitten(&fault, &story(needed, vec![])), "{name}");
        assert!(
            !has_bitten(&fault, &story(&needed[1..], vec![])),
            "{name}: one of them did not"
        );
        let only_down = records(vec![fired(""), host(needed[0], HostChange::Killed)]);
        assert!(!has_bitten(&fault, &only_down), "{name}: it never came back");
    }
    let node = fault(ProcessKill, kill(Target::Node(1)));
    let recovered = Kind::Cluster(ClusterRecord::LogRecovered { bytes: 9 });
    assert!(has_bitten(&node, &story(&["db-2"], vec![recovered.clone()])));
    assert!(!has_bitten(&node, &story(&["db-2"], vec![])), "nobody noticed");
    assert!(!has_bitten(&node, &story(&["db-1"], vec![recovered])), "another node");
    let torn = fault(DiskTornTail, kill(Target::Settlement));
    let lost = note(&format!("{DISK_LOST_NOTE}90 bytes"));
    assert!(has_bitten(&torn, &story(&["settlement"], vec![lost])));
    assert!(!has_bitten(&torn, &story(&["settlement"], vec![])), "no byte was lost");
}

#[test]
fn a_pause_of_a_program_bites_by_itself_and_one_of_a_node_if_somebody_waited() {
    let of = |target| fault(Class::Pause, Action::Pause { target, for_ms: 9 });
    let stood = |name: &str, more: Vec<Kind>| {
        let pause = vec![
            fired(""),
            host(name, HostChange::Paused),
            host(name, HostChange::Resumed),
        ];
        records([pause, more].concat())
    };
    assert!(has_bitten(&of(Target::Settlement), &stood("settlement", vec![])));
    assert!(
        !has_bitten(&of(Target::Settlement), &stood("settlement", vec![])[..2]),
        "for good"
    );
    let hint = Kind::Cluster(ClusterRecord::HintStored {
        holder: HostId(1),
        target: HostId(2),
    });
    assert!(has_bitten(&of(Target::Node(0)), &stood("db-1", vec![hint.clone()])));
    assert!(
        !has_bitten(&of(Target::Node(0)), &stood("db-1", vec![])),
        "nobody waited"
    );
    let cut = fault(
        Class::PartitionPeer,
        Action::Pause {
            target: Target::Node(0),
            for_ms: 9,
        },
    );
    assert!(has_bitten(&cut, &records(vec![fired(""), hint.clone()])));
    assert!(!has_bitten(&cut, &records(vec![hint, fired("")])), "before it");
}

#[test]
fn a_coordinator_killed_bites_if_its_batch_came_again_or_was_replayed() {
    let fault = fault(
        Class::CoordinatorKillMidBatch,
        Action::KillCoordinatorMidBatch {
            mutations: 1,
            restart_after_ms: 9,
        },
    );
    let killed = |more: Vec<Kind>| {
        let mut all = records(
            [
                vec![fired("at batch of event 7"), host("db-1", HostChange::Killed)],
                more,
            ]
            .concat(),
        );
        all[1].at_ns = all[0].at_ns;
        all
    };
    assert!(has_bitten(&fault, &killed(vec![batch(7)])));
    assert!(!has_bitten(&fault, &killed(vec![batch(8)])), "another batch");
    let replayed = ClusterRecord::BatchlogReplayed {
        batch: String::new(),
        holder: HostId(1),
        age_ms: 1,
    };
    assert!(has_bitten(&fault, &killed(vec![Kind::Cluster(replayed)])));
    let mut late = killed(vec![batch(7)]);
    late[1].at_ns += 1;
    assert!(!has_bitten(&fault, &late), "it died of something else");
}

#[test]
fn a_crash_after_the_batch_bites_if_the_batch_comes_again() {
    let action = Action::CrashSettlement {
        point: BatchPoint::Answering,
        restart_after_ms: 5,
    };
    let fault = fault(Class::CrashAfterBatch, action);
    let story = |again: u64| {
        let down = host("settlement", HostChange::Killed);
        let up = host("settlement", HostChange::Restarted);
        records(vec![batch(7), fired("at batch of event 7"), down, up, batch(again)])
    };
    assert!(has_bitten(&fault, &story(7)));
    assert!(!has_bitten(&fault, &story(8)), "another batch");
    assert!(!has_bitten(&fault, &story(7)[..4]), "it never came again");
}

#[test]
fn a_timeout_that_is_never_or_at_once_applied_bites_if_it_was_told_then() {
    for (class, world) in [
        (Class::TimeoutNeverApplied, TimeoutWorld::NeverApplied),
        (Class::TimeoutAppliedAtOnce, TimeoutWorld::AppliedAtOnce),
    ] {
        let fault = fault(class, Action::TimeOutBatch(world));
        let timeout = Kind::Cluster(ClusterRecord::WriteTimeout {
            write: WriteKind::Batch,
            received: 1,
            required: 2,
            consistency: "QUORUM".into(),
        });
        let mut story = records(vec![fired(""), timeout]);
        let name = class.name();
        assert!(!has_bitten(&fault, &story), "{name}: another one's timeout");
        story[1].at_ns = story[0].at_ns;
        assert!(has_bitten(&fault, &story), "{name}");
    }
}

#[test]
fn each_anomaly_bites_by_its_own_name() {
    use Class::*;
    for (class, lie, shown, sequel) in [
        (BatchlogKept, Lie::KeepBatchlog, "keep-batchlog", true),
        (PaxosForgotten, Lie::ForgetPaxos { node: 0 }, "forget-paxos", false),
        (ViewUpdatesLost, Lie::LoseViewUpdates, "lose-view-updates", false),
        (
            ClockAhead,
            Lie::ClockAhead { node: 0, by_ms: 200 },
            "wrong-clock",
            false,
        ),
    ] {
        let fault = fault(class, Action::Lie { lie, for_ms: 9 });
        let told = |lie: &str| Kind::Cluster(ClusterRecord::Lied { lie: lie.into() });
        let replayed = Kind::Cluster(ClusterRecord::BatchlogReplayed {
            batch: String::new(),
            holder: HostId(1),
            age_ms: 5_000,
        });
        let name = class.name();
        assert!(
            has_bitten(&fault, &records(vec![fired(""), told(shown), replayed.clone()])),
            "{name}"
        );
        let other = records(vec![fired(""), told("another"), replayed]);
        assert!(!has_bitten(&fault, &other), "{name}: it showed another");
        let alone = records(vec![fired(""), told(shown)]);
        assert_eq!(has_bitten(&fault, &alone), !sequel, "{name}: nothing was replayed");
    }
}
