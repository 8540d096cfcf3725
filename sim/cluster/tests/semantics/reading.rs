//! Reads: digests and repair, silent replicas, slices, deletions, pages, statics, scans.

use crate::harness::*;
use sim_cluster::core::{ClusterConfig, Event, Flavor, Msg};
use sim_cluster::model::read::Bound;
use sim_cluster::model::*;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// Writes a row to one replica only.
fn only_on(c: &mut Cluster, node: u8, set: WriteSet) {
    c.route = Box::new(|_, _, msg| if is_mutate(msg) { None } else { Some(300) });
    c.ok(node, WriteKind::Single, Consistency::One, set);
    c.route = healthy();
}

#[test]
fn a_digest_mismatch_is_repaired_before_the_reply() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        only_on(&mut c, 2, one(1, 5));
        assert_eq!((0..3).filter(|n| c.stored(*n, 1, 0).is_some()).count(), 1);
        // At ALL everybody is asked: the answer has the row, and by the time it comes everybody has it.
        let original = c.stored(2, 1, 0);
        assert_eq!(c.value(0, Consistency::All, 1, 0), Some(5));
        assert!(
            (0..3).all(|n| c.stored(n, 1, 0) == original),
            "with its original timestamp"
        );
        assert_eq!(c.saw(|e| matches!(e, Event::ReadRepair { replicas: 2 })), 1);
    }
}

#[test]
fn the_reply_waits_for_the_repair() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    only_on(&mut c, 2, one(1, 5));
    // The repair travels slowly.
    c.route = Box::new(|_, _, msg| if is_mutate(msg) { Some(400 * MS) } else { Some(300) });
    let started = c.now;
    assert_eq!(c.value(0, Consistency::All, 1, 0), Some(5));
    assert!(c.now - started >= 400 * MS);
    // And when it never arrives the read times out, though the data was there.
    only_on(&mut c, 2, one(2, 5));
    c.route = Box::new(|_, _, msg| if is_mutate(msg) { None } else { Some(300) });
    let command = ReadCommand::row(ROWS, pk(2), ck(0));
    let id = c.ask(
        0,
        Request::Read(ReadRequest {
            command,
            consistency: Consistency::All,
            timeout_ms: None,
        }),
    );
    let (_, r) = c.answer_within(id, 10 * S).unwrap();
    assert!(matches!(error(r), CoordinatorError::ReadTimeout { required: 3, .. }));
}

#[test]
fn once_read_at_quorum_never_lost_from_quorum_again() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    only_on(&mut c, 0, one(1, 5));
    let first = c.value(0, Consistency::Quorum, 1, 0);
    assert_eq!(first, Some(5), "node 0 asks itself and one more");
    c.kill(0);
    c.run_until(c.now + 25 * S);
    assert_eq!(c.value(1, Consistency::Quorum, 1, 0), Some(5));
}

#[test]
fn a_deletion_known_to_one_replica_hides_the_row_on_the_others() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 5));
    let mut set = WriteSet::new();
    set.begin(OpKind::RowDelete, ROWS, &1i64.to_be_bytes(), None)
        .clustering(&0i64.to_be_bytes())
        .end();
    only_on(&mut c, 1, set);
    assert_eq!(c.value(0, Consistency::All, 1, 0), None);
    assert!(
        (0..3).all(|n| c.stored(n, 1, 0).is_none()),
        "and the deletion was repaired"
    );
}

#[test]
fn every_kind_of_deletion_and_static_cell_is_repaired() {
    let p = 1i64.to_be_bytes();
    let mut sets: Vec<WriteSet> = (0..5).map(|_| WriteSet::new()).collect();
    sets[0].begin(OpKind::PartitionDelete, ROWS, &p, None).end();
    sets[1]
        .begin(OpKind::RangeDelete, ROWS, &p, None)
        .clustering(&2i64.to_be_bytes())
        .end_bound(&4i64.to_be_bytes())
        .exclusive(true, false)
        .end();
    sets[2]
        .begin(OpKind::Static, ROWS, &p, None)
        .cell(ST, &77i64.to_be_bytes())
        .end();
    sets[3]
        .begin(OpKind::Row, ROWS, &p, None)
        .clustering(&3i64.to_be_bytes())
        .null(V)
        .end();
    sets[4]
        .begin(OpKind::Row, ROWS, &p, None)
        .marker()
        .ttl(1000)
        .clustering(&9i64.to_be_bytes())
        .cell(V, &1i64.to_be_bytes())
        .end();
    for (i, set) in sets.into_iter().enumerate() {
        let mut c = Cluster::new(3, Flavor::Scylla);
        let mut rows = WriteSet::new();
        for r in 0..6 {
            insert(&mut rows, ROWS, 1, r, r, None);
        }
        c.ok(0, WriteKind::Unlogged, Consistency::All, rows);
        c.run_for(10 * MS);
        only_on(&mut c, 2, set);
        let merged = c.read(0, Consistency::All, ReadCommand::partition(ROWS, pk(1)));
        let repaired = c.saw(|e| matches!(e, Event::ReadRepair { .. }));
        assert_eq!(repaired, 1, "deletion {i}");
        for n in 0..3 {
            let own = c.read(n, Consistency::One, ReadCommand::partition(ROWS, pk(1)));
            assert_eq!(own.partitions, merged.partitions, "deletion {i}, node {n}");
        }
        let again = c.read(1, Consistency::All, ReadCommand::partition(ROWS, pk(1)));
        assert_eq!(again.partitions, merged.partitions);
        assert_eq!(
            c.saw(|e| matches!(e, Event::ReadRepair { .. })),
            1,
            "deletion {i}: nothing is left to repair"
        );
        let shape: Vec<i64> = merged.rows().map(|(_, r)| number(&r.clustering()[2..])).collect();
        let expected: Vec<i64> = match i {
            0 => vec![],
            1 => vec![0, 1, 2, 5],
            4 => vec![0, 1, 2, 3, 4, 5, 9],
            _ => vec![0, 1, 2, 3, 4, 5],
        };
        assert_eq!(shape, expected, "deletion {i}");
    }
}

#[test]
fn a_silent_replica_is_replaced_by_another_while_there_is_one() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.ok(0, WriteKind::Single, Consistency::All, one(1, 5));
        c.pause(2);
        for _ in 0..10 {
            let started = c.now;
            assert_eq!(c.value(0, Consistency::Quorum, 1, 0), Some(5));
            assert!(c.now - started < 50 * MS, "{flavor:?}");
        }
        let started = c.now;
        let command = ReadCommand::row(ROWS, pk(1), ck(0));
        let e = error(c.call(
            0,
            Request::Read(ReadRequest {
                command,
                consistency: Consistency::All,
                timeout_ms: None,
            }),
        ));
        assert_eq!(
            e,
            CoordinatorError::ReadTimeout {
                consistency: Consistency::All,
                received: 2,
                required: 3,
                data_present: true
            }
        );
        assert_eq!(c.now - started, 5 * S);
        c.run_until(30 * S);
        let command = ReadCommand::row(ROWS, pk(1), ck(0));
        let e = error(c.call(
            0,
            Request::Read(ReadRequest {
                command,
                consistency: Consistency::All,
                timeout_ms: None,
            }),
        ));
        assert_eq!(
            e,
            CoordinatorError::Unavailable {
                consistency: Consistency::All,
                required: 3,
                alive: 2,
                batchlog: false
            }
        );
    }
}

/// A cluster with a row in a table of this `speculative_retry`, one node of which is frozen.
fn beside_a_silent_replica(flavor: Flavor, policy: &str) -> Cluster {
    let mut config = ClusterConfig::new(3, flavor);
    let options = TableOptions {
        other: [("speculative_retry".to_owned(), policy.to_owned())].into(),
        ..TableOptions::default()
    };
    let change = SchemaChange::AlterOptions {
        keyspace: "k".into(),
        table: "rows".into(),
        options,
    };
    config.schema = Arc::new(schema(3).apply(&change, 0).expect("an option").0);
    let mut c = Cluster::with(config);
    c.ok(0, WriteKind::Single, Consistency::All, one(1, 5));
    c.pause(2);
    c
}

/// One replica is silent: of so many reads at QUORUM that had to choose among the two others, how long each took, and how
/// many replicas it asked.
fn reads_beside_a_silent_replica(flavor: Flavor, policy: &str) -> Vec<(u64, usize)> {
    let mut c = beside_a_silent_replica(flavor, policy);
    let mut found = vec![];
    for _ in 0..40 {
        let asked = Rc::new(Cell::new(0));
        let count = asked.clone();
        c.route = Box::new(move |_, _, msg| {
            count.set(count.get() + usize::from(matches!(msg, Msg::Read { .. })));
            Some(300)
        });
        let started = c.now;
        let read = ReadRequest {
            command: ReadCommand::row(ROWS, pk(1), ck(0)),
            consistency: Consistency::Quorum,
            timeout_ms: None,
        };
        let _ = c.call(0, Request::Read(read));
        found.push((c.now - started, asked.get()));
    }
    found
}

#[test]
fn the_option_of_the_table_says_when_a_silent_replica_is_replaced() {
    // Scylla has no snitch that would ask elsewhere now and then.
    let of = |policy| reads_beside_a_silent_replica(Flavor::Scylla, policy);
    let slowest = |reads: &[(u64, usize)]| reads.iter().map(|(took_us, _)| *took_us).max().unwrap();
    let prompt = |reads: &[(u64, usize)]| reads.iter().filter(|(took_us, _)| *took_us < 5 * MS).count();
    for (policy, wait_us) in [
        ("99.0PERCENTILE", 20 * MS),
        ("300.00ms", 300 * MS),
        ("NONE", 5 * S),
        ("6000.00ms", 5 * S),
    ] {
        let reads = of(policy);
        assert!((5..40).contains(&prompt(&reads)), "{policy}: {reads:?}");
        assert!(
            (wait_us..wait_us + 5 * MS).contains(&slowest(&reads)),
            "{policy}: {reads:?}"
        );
    }
    let reads = of("ALWAYS");
    assert_eq!(prompt(&reads), 40, "{reads:?}");
    assert!(reads.iter().all(|(_, asked)| *asked == 2), "both others: {reads:?}");
}

#[test]
fn cassandra_waits_for_the_one_it_asked_for_the_data_though_it_asked_all() {
    for (flavor, expected) in [(Flavor::Cassandra, 4..=60), (Flavor::Scylla, 0..=0)] {
        let mut c = beside_a_silent_replica(flavor, "ALWAYS");
        let asked: Vec<u64> = (0..400).map(|_| c.ask(0, quorum_read())).collect();
        let mut waited = 0;
        for id in asked {
            match c.answer_within(id, 10 * S).expect("answered").1 {
                Response::Rows(_) => {}
                Response::Error(CoordinatorError::ReadTimeout {
                    received: 2,
                    required: 2,
                    data_present: false,
                    ..
                }) => waited += 1,
                other => panic!("{flavor:?}: {other:?}"),
            }
        }
        assert!(expected.contains(&waited), "{flavor:?}: {waited} of 400");
    }
}

#[test]
fn a_scan_waits_for_the_replicas_it_chose() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.ok(0, WriteKind::Single, Consistency::All, one(1, 5));
        c.pause(2);
        let mut timeouts = 0;
        for _ in 0..20 {
            let started = c.now;
            let read = ReadRequest {
                command: ReadCommand::scan(ROWS),
                consistency: Consistency::Quorum,
                timeout_ms: None,
            };
            match c.call(0, Request::Read(read)) {
                Response::Rows(_) => assert!(c.now - started < 5 * MS, "{flavor:?}"),
                answer => {
                    assert!(matches!(
                        error(answer),
                        CoordinatorError::ReadTimeout {
                            received: 1,
                            required: 2,
                            ..
                        }
                    ));
                    assert_eq!(c.now - started, 10 * S, "{flavor:?}: the timeout of ranges");
                    timeouts += 1;
                }
            }
        }
        assert!((1..20).contains(&timeouts), "{flavor:?}: {timeouts}");
    }
}

#[test]
fn readers_can_see_part_of_a_batch_while_it_travels() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    // Mutations reach the peers late; the coordinator applies its own at once.
    c.route = Box::new(|_, _, msg| if is_mutate(msg) { Some(50 * MS) } else { Some(300) });
    let id = c.ask(0, write_request(WriteKind::Logged, Consistency::Quorum, batch(2, 1)));
    c.run_for(5 * MS);
    assert_eq!(c.value(0, Consistency::One, 1, 0), Some(1));
    assert_eq!(c.value(1, Consistency::One, 2, 0), None);
    c.answer_within(id, S).unwrap();
    assert_eq!(c.value(1, Consistency::One, 2, 0), Some(1));
}

fn load(c: &mut Cluster, partitions: i64, rows: i64) {
    for p in 1..=partitions {
        let mut set = WriteSet::new();
        for r in 0..rows {
            insert(&mut set, ROWS, p, r, p * 100 + r, None);
        }
        c.ok(0, WriteKind::Unlogged, Consistency::All, set);
    }
}

fn values(r: &ReadResult) -> Vec<i64> {
    r.rows().map(|(_, row)| number(row.cell(V).unwrap().value)).collect()
}

/// Reads a command page by page through changing nodes.
fn paged(c: &mut Cluster, command: ReadCommand, page: u32, consistency: Consistency) -> Vec<i64> {
    let mut out = vec![];
    let mut after = None;
    for i in 0.. {
        assert!(i < 10_000, "pages come to an end");
        let node = (i % c.hosts.len()) as u8;
        let r = c.read(
            node,
            consistency,
            ReadCommand {
                limit: page,
                after: after.take(),
                ..command.clone()
            },
        );
        assert!(r.row_count() <= page as usize);
        out.extend(values(&r));
        after = r.more;
        if after.is_none() {
            break;
        }
    }
    out
}

#[test]
fn slices_and_pages_give_the_same_rows_in_either_direction() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    load(&mut c, 2, 20);
    let whole = ReadCommand::partition(ROWS, pk(2));
    let t = c.node(0).schema().table(ROWS).unwrap().clone();
    let bytes = |v: i64| v.to_be_bytes();
    let slice = Slice::relations(&t, &[], Some((&bytes(5), false)), Some((&bytes(15), true)));
    let part = ReadCommand {
        clustering: ClusteringSelect::Slices(vec![slice]),
        ..whole.clone()
    };
    let points = [17, 3, 9].map(|r| Slice::prefix(ck(r))).to_vec();
    let some = ReadCommand {
        clustering: ClusteringSelect::Slices(points),
        ..whole.clone()
    };
    let cases = [
        (whole, (200..220).collect::<Vec<i64>>()),
        (part, (206..=215).collect()),
        (some, vec![203, 209, 217]),
    ];
    for (command, expected) in cases {
        for page in [1, 3, 7, 100] {
            assert_eq!(
                paged(&mut c, command.clone(), page, Consistency::Quorum),
                expected,
                "page {page}"
            );
            let backwards: Vec<i64> = expected.iter().rev().copied().collect();
            let reversed = ReadCommand {
                reversed: true,
                ..command.clone()
            };
            assert_eq!(
                paged(&mut c, reversed, page, Consistency::Quorum),
                backwards,
                "page {page}"
            );
        }
    }
}

#[test]
fn an_open_bound_excludes_only_its_own_row() {
    let mut c = Cluster::new(1, Flavor::Scylla);
    load(&mut c, 1, 5);
    let start = Bound {
        prefix: ck(1),
        inclusive: false,
    };
    let command = ReadCommand {
        clustering: ClusteringSelect::Slices(vec![Slice {
            start,
            end: Bound::open(),
        }]),
        ..ReadCommand::partition(ROWS, pk(1))
    };
    assert_eq!(values(&c.read(0, Consistency::One, command)), [102, 103, 104]);
}

#[test]
fn scans_give_every_partition_once_in_token_order_whatever_the_page() {
    // A table that knows of deletions is scanned in another way than one of nothing but rows.
    for (nodes, has_deletions) in [(3, false), (3, true), (6, false), (6, true)] {
        let mut c = Cluster::new(nodes, Flavor::Scylla);
        load(&mut c, 30, 3);
        if has_deletions {
            let mut set = WriteSet::new();
            for p in 31..=60i64 {
                set.begin(OpKind::PartitionDelete, ROWS, &p.to_be_bytes(), None).end();
            }
            c.ok(0, WriteKind::Unlogged, Consistency::All, set);
        }
        let mut order: Vec<i64> = (1..=30).collect();
        order.sort_by_key(|p| pk(*p).token);
        let expected: Vec<i64> = order.iter().flat_map(|p| (0..3).map(move |r| p * 100 + r)).collect();
        for page in [1, 4, 1000] {
            assert_eq!(
                paged(&mut c, ReadCommand::scan(ROWS), page, Consistency::Quorum),
                expected,
                "{nodes} nodes, page {page}, deletions: {has_deletions}"
            );
        }
        let limited = ReadCommand {
            per_partition_limit: 2,
            ..ReadCommand::scan(ROWS)
        };
        let expected: Vec<i64> = order.iter().flat_map(|p| (0..2).map(move |r| p * 100 + r)).collect();
        assert_eq!(paged(&mut c, limited, 5, Consistency::Quorum), expected);
        let from = pk(order[10]).token;
        let range = TokenRange {
            start: Some((from, false)),
            end: Some((pk(order[20]).token, true)),
        };
        let part = ReadCommand {
            target: ReadTarget::Scan(range),
            ..ReadCommand::scan(ROWS)
        };
        let expected: Vec<i64> = order[11..=20]
            .iter()
            .flat_map(|p| (0..3).map(move |r| p * 100 + r))
            .collect();
        assert_eq!(paged(&mut c, part, 7, Consistency::One), expected);
    }
}

#[test]
fn in_reads_its_partitions_in_the_order_given_and_pages_through_them() {
    let mut c = Cluster::new(6, Flavor::Scylla);
    load(&mut c, 10, 3);
    let keys = [4, 9, 77, 2].map(pk).to_vec();
    let command = ReadCommand {
        target: ReadTarget::Partitions(keys),
        ..ReadCommand::scan(ROWS)
    };
    let expected = vec![400, 401, 402, 900, 901, 902, 200, 201, 202];
    for page in [1, 2, 5, 50] {
        assert_eq!(
            paged(&mut c, command.clone(), page, Consistency::Quorum),
            expected,
            "page {page}"
        );
    }
}

#[test]
fn a_limit_is_filled_although_replicas_disagree_about_what_is_deleted() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    load(&mut c, 1, 30);
    // Each replica alone knows of the deletion of some rows.
    for n in 0..3u8 {
        let mut set = WriteSet::new();
        for r in (i64::from(n)..24).step_by(4) {
            set.begin(OpKind::RowDelete, ROWS, &1i64.to_be_bytes(), None)
                .clustering(&r.to_be_bytes())
                .end();
        }
        only_on(&mut c, n, set);
    }
    let command = ReadCommand {
        limit: 8,
        ..ReadCommand::partition(ROWS, pk(1))
    };
    let first = c.read(1, Consistency::All, command);
    assert_eq!(values(&first), [103, 107, 111, 115, 119, 123, 124, 125]);
}

#[test]
fn static_cells_come_with_their_partition_and_alone() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    let mut set = WriteSet::new();
    set.begin(OpKind::Static, ROWS, &5i64.to_be_bytes(), None)
        .cell(ST, &42i64.to_be_bytes())
        .end();
    c.ok(0, WriteKind::Single, Consistency::Quorum, set);
    for command in [ReadCommand::partition(ROWS, pk(5)), ReadCommand::scan(ROWS)] {
        let r = c.read(1, Consistency::Quorum, command);
        assert_eq!((r.partitions.len(), r.row_count()), (1, 1));
        assert_eq!(
            number(r.partitions[0].statics.as_ref().unwrap().cell(ST).unwrap().value),
            42
        );
    }
    c.ok(0, WriteKind::Single, Consistency::Quorum, one(5, 1));
    let r = c.read(2, Consistency::Quorum, ReadCommand::row(ROWS, pk(5), ck(0)));
    assert_eq!((r.row_count(), r.partitions[0].rows.len()), (1, 1));
}

#[test]
fn a_row_with_ttl_expires_by_the_wall_clock() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    let mut set = WriteSet::new();
    set.begin(OpKind::Row, ROWS, &1i64.to_be_bytes(), None)
        .marker()
        .ttl(10)
        .clustering(&0i64.to_be_bytes())
        .cell(V, &1i64.to_be_bytes())
        .end();
    c.ok(0, WriteKind::Single, Consistency::All, set);
    c.run_for(4 * S);
    let r = c.read(0, Consistency::Quorum, ReadCommand::partition(ROWS, pk(1)));
    assert_eq!(r.rows().next().unwrap().1.cell(V).unwrap().ttl_s, Some(6));
    c.run_for(7 * S);
    assert_eq!(c.value(0, Consistency::Quorum, 1, 0), None);
}

#[test]
fn a_message_that_comes_after_its_deadline_is_dropped() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.route = Box::new(|_, _, msg| {
        if matches!(msg, Msg::Mutate { .. }) {
            Some(2_100 * MS)
        } else {
            Some(300)
        }
    });
    let e = error(c.write(0, WriteKind::Single, Consistency::Quorum, one(1, 1)));
    assert!(matches!(
        e,
        CoordinatorError::WriteTimeout {
            received: 1,
            required: 2,
            ..
        }
    ));
    c.run_for(S);
    assert_eq!(c.saw(|e| matches!(e, Event::Expired { .. })), 2);
    assert_eq!(c.stored(1, 1, 0), None);
}

#[test]
fn a_request_may_bring_a_timeout_of_its_own() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.pause(1);
    c.pause(2);
    let mut took = |request: Request| {
        let started = c.now;
        let told = error(c.call(0, request));
        (told, c.now - started)
    };
    for timeout_ms in [300, 4_000] {
        let (told, took_us) = took(Request::Read(ReadRequest {
            command: ReadCommand::row(ROWS, pk(1), ck(0)),
            consistency: Consistency::Quorum,
            timeout_ms: Some(timeout_ms),
        }));
        assert!(matches!(told, CoordinatorError::ReadTimeout { .. }), "{told}");
        assert_eq!(took_us, u64::from(timeout_ms) * MS);
        for kind in [WriteKind::Single, WriteKind::Unlogged] {
            let mut request = write_request(kind, Consistency::Quorum, one(1, 1));
            if let Request::Write(write) = &mut request {
                write.timeout_ms = Some(timeout_ms);
            }
            let (told, took_us) = took(request);
            assert!(matches!(told, CoordinatorError::WriteTimeout { .. }), "{told}");
            assert_eq!(took_us, u64::from(timeout_ms) * MS);
        }
    }
}

/// Rows of a partition of the table below.
const ROWS_OF_PARTITION: i64 = 100;

/// A node with so many rows.
fn filled(rows: i64) -> Cluster {
    let mut config = ClusterConfig::new(1, Flavor::Cassandra);
    config.schema = Arc::new(schema(1));
    let mut c = Cluster::with(config);
    for p in 0..rows / ROWS_OF_PARTITION {
        let mut set = WriteSet::new();
        for r in 0..ROWS_OF_PARTITION {
            insert(&mut set, ROWS, p, r, r, Some(1));
        }
        c.ok(0, WriteKind::Unlogged, Consistency::One, set);
    }
    c
}

/// How long some reads take that touch little: a row, the first rows of a partition, the first rows of a scan.
#[expect(
    clippy::disallowed_methods,
    reason = "what is measured is the machine's time, of two runs side by side"
)]
fn little(c: &mut Cluster) -> std::time::Duration {
    let began = std::time::Instant::now();
    for p in 0..100 {
        let row = c.read(0, Consistency::One, ReadCommand::row(ROWS, pk(p), ck(50)));
        assert_eq!(row.row_count(), 1);
        for mut command in [ReadCommand::partition(ROWS, pk(p)), ReadCommand::scan(ROWS)] {
            command.limit = 10;
            assert_eq!(c.read(0, Consistency::One, command).row_count(), 10);
        }
    }
    began.elapsed()
}

#[test]
fn reads_touch_the_rows_that_they_need_however_many_there_are() {
    let [mut small, mut large] = [10_000, 200_000].map(filled);
    // The order of rows is made by the first read that walks.
    for table in [&mut small, &mut large] {
        little(table);
    }
    let [small, large] = [small, large].map(|mut c| little(&mut c).min(little(&mut c)).min(little(&mut c)));
    // Twenty times as many rows. Whoever looked at all of them would take twenty times as long.
    assert!(large < small * 6, "{large:?} where a small table takes {small:?}");
}
