//! Rows with parts: elements of collections merge one by one whatever the order, travel by read repair and hints, and
//! survive what whole rows survive.

use crate::harness::*;
use proptest::prelude::*;
use sim_cluster::core::Flavor;
use sim_cluster::model::parts::Part;
use sim_cluster::model::*;

/// One write of the collection in column V of row (1, 0).
#[derive(Debug, Clone, Copy)]
enum Write {
    Element(u8, Option<u8>),
    Emptied(bool),
    Row(bool),
}

fn put(set: &mut WriteSet, write: Write, ts: i64) {
    let p = 1i64.to_be_bytes();
    if let Write::Row(delete) = write {
        let kind = if delete { OpKind::RowDelete } else { OpKind::Row };
        set.begin(kind, ROWS, &p, Some(ts)).clustering(&0i64.to_be_bytes());
        if !delete {
            set.cell(W, &ts.to_be_bytes());
        }
        return set.end();
    }
    set.begin(OpKind::Parts, ROWS, &p, Some(ts))
        .clustering(&0i64.to_be_bytes());
    match write {
        Write::Element(path, value) => set.part(
            V,
            Part::Element {
                path: &[path],
                value: value.as_ref().map(std::slice::from_ref),
            },
        ),
        Write::Emptied(only_older) => set.part(V, Part::Emptied { only_older }),
        Write::Row(_) => {}
    }
    set.end();
}

fn written(write: Write, ts: i64) -> WriteSet {
    let mut set = WriteSet::new();
    put(&mut set, write, ts);
    set
}

/// Paths and values of the collection as a client sees it.
fn seen(result: &ReadResult) -> Vec<(u8, u8)> {
    let rows = result.partitions.iter().flat_map(|p| &p.rows);
    rows.flat_map(|r| r.elements(V))
        .map(|e| (e.path.expect("an element")[0], e.value[0]))
        .collect()
}

fn writes() -> impl Strategy<Value = Vec<(Write, i64)>> {
    let write = prop_oneof![
        4 => (0u8..3, prop::option::of(0u8..3)).prop_map(|(p, v)| Write::Element(p, v)),
        1 => any::<bool>().prop_map(Write::Emptied),
        1 => any::<bool>().prop_map(Write::Row),
    ];
    prop::collection::vec((write, 1i64..5), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn elements_merge_to_the_same_in_any_order(list in writes(), seed in any::<u64>()) {
        let mut shuffled = list.clone();
        let mut state = seed | 1;
        for i in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(i, (state >> 33) as usize % (i + 1));
        }
        let after = |list: &[(Write, i64)]| {
            let mut c = Cluster::new(1, Flavor::Cassandra);
            for (write, ts) in list {
                c.ok(0, WriteKind::Single, Consistency::One, written(*write, *ts));
            }
            c.read(0, Consistency::One, ReadCommand::partition(ROWS, pk(1)))
        };
        prop_assert_eq!(after(&list), after(&shuffled));
    }
}

#[test]
fn an_element_survives_kill_and_recovery_with_its_time() {
    let mut c = Cluster::new(1, Flavor::Cassandra);
    for (write, ts) in [
        (Write::Element(1, Some(10)), 100),
        (Write::Element(2, Some(20)), 200),
        (Write::Emptied(true), 200),
        (Write::Element(3, Some(30)), 300),
        (Write::Element(3, None), 400),
        (Write::Element(4, Some(40)), 400),
    ] {
        c.ok(0, WriteKind::Single, Consistency::One, written(write, ts));
    }
    let command = || ReadCommand::partition(ROWS, pk(1));
    let before = c.read(0, Consistency::One, command());
    assert_eq!(seen(&before), [(2, 20), (4, 40)]);
    c.run_for(S);
    c.kill(0);
    c.restart(0);
    c.run_for(5 * S);
    let after = c.read(0, Consistency::One, command());
    assert_eq!(after, before);
    c.ok(
        0,
        WriteKind::Single,
        Consistency::One,
        written(Write::Element(3, Some(3)), 350),
    );
    assert_eq!(
        seen(&c.read(0, Consistency::One, command())),
        [(2, 20), (4, 40)],
        "the deletion of an element is remembered too"
    );
}

#[test]
fn read_repair_carries_single_elements_and_the_deletion_of_all() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    let only_to =
        |wanted: u8| -> Route { Box::new(move |_, to, msg| (!is_mutate(msg) || to.0 == wanted).then_some(300)) };
    c.route = only_to(0);
    c.ok(
        0,
        WriteKind::Single,
        Consistency::One,
        written(Write::Element(1, Some(1)), 100),
    );
    c.ok(
        0,
        WriteKind::Single,
        Consistency::One,
        written(Write::Emptied(false), 150),
    );
    c.ok(
        0,
        WriteKind::Single,
        Consistency::One,
        written(Write::Element(2, Some(2)), 200),
    );
    c.route = only_to(1);
    c.ok(
        1,
        WriteKind::Single,
        Consistency::One,
        written(Write::Element(3, Some(3)), 300),
    );
    c.ok(
        1,
        WriteKind::Single,
        Consistency::One,
        written(Write::Element(4, Some(4)), 120),
    );
    c.route = healthy();
    let all = c.read(2, Consistency::All, ReadCommand::partition(ROWS, pk(1)));
    assert_eq!(seen(&all), [(2, 2), (3, 3)]);
    for n in 0..3 {
        let own = c.read(n, Consistency::One, ReadCommand::partition(ROWS, pk(1)));
        assert_eq!(seen(&own), [(2, 2), (3, 3)], "node {n} was repaired");
    }
}

/// Values of the list in column V, in its order.
fn list(c: &mut Cluster) -> Vec<u8> {
    let read = c.read(0, Consistency::One, ReadCommand::partition(ROWS, pk(1)));
    let row = read.partitions[0].rows[0].clone();
    let mut elements: Vec<_> = row.elements(V).collect();
    elements.sort_by(|a, b| parts::compare_list_paths(a.path.unwrap_or_default(), b.path.unwrap_or_default()));
    elements.iter().map(|e| e.value[0]).collect()
}

/// The order of a list whose elements were added with timestamps that go back.
pub fn list_added_backwards(like: impl Behaviour) -> Vec<u8> {
    let mut c = Cluster::new(1, like);
    for (value, ts) in [(1u8, 200), (2, 100), (3, 100), (4, 100)] {
        let mut set = WriteSet::new();
        set.begin(OpKind::Parts, ROWS, &1i64.to_be_bytes(), Some(ts))
            .clustering(&0i64.to_be_bytes());
        set.list_element(V, &[value], false);
        set.end();
        c.ok(0, WriteKind::Single, Consistency::One, set);
    }
    list(&mut c)
}

#[test]
fn a_list_is_in_the_order_of_the_clock_in_cassandra_and_of_timestamps_in_scylla() {
    assert_eq!(list_added_backwards(Flavor::Cassandra), [1, 2, 3, 4]);
    let those_of_equal_timestamps_are_apart = [2, 3, 4, 1];
    assert_eq!(
        list_added_backwards(Flavor::Scylla),
        those_of_equal_timestamps_are_apart
    );
}
