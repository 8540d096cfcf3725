//! Failure detection with its real delays, Unavailable against timeouts, generations.

use crate::harness::*;
use sim_cluster::core::Flavor;
use sim_cluster::model::*;

fn seen_by(c: &Cluster, observer: u8, peer: u8) -> Vec<(u64, bool)> {
    c.statuses
        .iter()
        .filter(|s| s.1.0 == observer && s.2.0 == peer)
        .map(|s| (s.0, s.3))
        .collect()
}

#[test]
fn a_kill_is_noticed_after_18_to_20_s_and_a_restart_within_a_second() {
    for flavor in [Flavor::Scylla, Flavor::Cassandra] {
        let mut c = Cluster::new(3, flavor);
        c.run_until(10 * S + 123 * MS);
        let killed = c.now;
        c.kill(2);
        c.run_for(30 * S);
        for observer in [0, 1] {
            let (at, up) = seen_by(&c, observer, 2)[0];
            let after = (at - killed) / MS;
            assert!(!up && (17_900..=20_100).contains(&after), "{flavor:?}: {after} ms");
        }
        let restarted = c.now;
        c.restart(2);
        c.run_for(2 * S);
        assert!(c.hosts[2].ready);
        for observer in [0, 1] {
            let (at, up) = seen_by(&c, observer, 2)[1];
            assert!(up && (300..=900).contains(&((at - restarted) / MS)));
        }
        // The restarted node knew its peers before it served.
        assert!(c.node(2).sees_up(NodeIdx(0)) && c.node(2).sees_up(NodeIdx(1)));
    }
}

#[test]
fn a_freeze_is_noticed_alike_and_its_end_in_a_fraction_of_a_second() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.run_until(7 * S);
    c.pause(1);
    c.run_for(30 * S);
    assert_eq!(seen_by(&c, 0, 1).len(), 1);
    let resumed = c.now;
    c.resume(1);
    c.run_for(2 * S);
    let (at, up) = seen_by(&c, 0, 1)[1];
    assert!(
        up && (150..=1_400).contains(&((at - resumed) / MS)),
        "{} ms",
        (at - resumed) / MS
    );
    assert_eq!(seen_by(&c, 1, 0), [], "who slept does not blame the others");
}

#[test]
fn a_freeze_shorter_than_the_conviction_is_never_noticed() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.pause(1);
    c.run_for(15 * S);
    c.resume(1);
    c.run_for(30 * S);
    assert_eq!(c.statuses, []);
}

#[test]
fn an_orderly_stop_is_announced_at_once_and_finishes_what_it_has() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.run_until(S);
    let id = c.ask(2, write_request(WriteKind::Logged, Consistency::Quorum, batch(3, 1)));
    c.input(2, sim_cluster::core::Input::Shutdown);
    let refused = c.ask(2, write_request(WriteKind::Single, Consistency::One, one(9, 9)));
    assert!(matches!(
        c.replies.remove(&refused).unwrap().1,
        Response::Error(CoordinatorError::Overloaded { .. })
    ));
    assert!(matches!(c.answer_within(id, S).unwrap().1, Response::Done { .. }));
    c.run_for(100 * MS);
    assert!(
        seen_by(&c, 0, 2)
            .first()
            .is_some_and(|(at, up)| !up && *at < S + 100 * MS)
    );
    c.run_for(5 * S);
    assert!(c.hosts[2].stopped, "it stopped");
    assert_eq!(c.hosts[2].synced, c.hosts[2].file.len(), "with its log on the disk");
}

#[test]
fn until_conviction_writes_that_need_the_dead_time_out_and_then_they_are_unavailable() {
    let mut c = Cluster::new(3, Flavor::Cassandra);
    c.kill(2);
    let e = error(c.write(0, WriteKind::Single, Consistency::All, one(1, 1)));
    let write_type = WriteType::Simple;
    assert_eq!(
        e,
        CoordinatorError::WriteTimeout {
            consistency: Consistency::All,
            received: 2,
            required: 3,
            write_type
        }
    );
    c.run_until(25 * S);
    let e = error(c.write(0, WriteKind::Single, Consistency::All, one(1, 1)));
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

#[test]
fn a_one_way_cut_convicts_on_one_side_only() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.route = Box::new(|from, to, _| if (from.0, to.0) == (2, 0) { None } else { Some(300) });
    c.run_until(30 * S);
    assert!(!c.node(0).sees_up(NodeIdx(2)), "0 hears nothing from 2");
    assert!(
        c.node(2).sees_up(NodeIdx(0)) && c.node(1).sees_up(NodeIdx(2)),
        "everybody else is content"
    );
    c.route = healthy();
    c.run_for(3 * S);
    assert!(c.node(0).sees_up(NodeIdx(2)));
}

#[test]
fn generations_grow_with_every_start_even_within_one_second() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.run_for(S);
    let first = c.node(1).generation();
    c.kill(1);
    c.restart(1);
    let second = c.node(1).generation();
    c.run_for(S);
    c.kill(1);
    c.restart(1);
    assert!(first < second && second < c.node(1).generation());
    c.run_for(2 * S);
    assert_eq!(c.node(0).peer_generation(NodeIdx(1)), c.node(1).generation());
}

#[test]
fn a_restart_before_the_conviction_is_seen_as_down_and_up() {
    let mut c = Cluster::new(3, Flavor::Scylla);
    c.run_until(5 * S);
    c.kill(2);
    c.run_for(2 * S);
    c.restart(2);
    c.run_for(2 * S);
    let seen: Vec<bool> = seen_by(&c, 0, 2).into_iter().map(|s| s.1).collect();
    assert_eq!(seen, [false, true]);
}
