//! The cases as data: they load, there are enough of each group, and the list of differences is the one they have.

use conformance::case::{self, Case};
use std::collections::{BTreeMap, BTreeSet};

const DIFFERENCES: &str = include_str!("../../DIFFERENCES.md");

fn all() -> Vec<Case> {
    case::all().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn there_are_enough_cases_of_each_group() {
    let mut groups = BTreeMap::<String, usize>::new();
    for case in all() {
        *groups.entry(case.group).or_default() += 1;
    }
    for (group, least) in [
        ("timestamps", 8),
        ("batches", 8),
        ("refusals", 15),
        ("paging", 5),
        ("writetime", 5),
        ("prepared", 5),
        ("faults", 6),
    ] {
        assert!(groups[group] >= least, "{group}: {} of {least}", groups[group]);
    }
    assert!(groups.values().sum::<usize>() >= 150);
}

#[test]
fn every_answer_is_known() {
    for case in all() {
        for step in &case.steps {
            let unknown = step.answer.iter().chain(&step.one_of).any(|a| a.lines() == ["?"]);
            assert!(!unknown, "{}: {}", case.name, step.title());
        }
    }
}

#[test]
fn the_list_of_differences_is_that_of_the_cases() {
    let in_cases: BTreeSet<String> = all().into_iter().filter(Case::is_listed).map(|c| c.name).collect();
    let rows = DIFFERENCES.lines().filter_map(|l| l.strip_prefix("| `"));
    let listed: BTreeSet<String> = rows
        .filter_map(|l| l.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(listed, in_cases);
}

#[test]
fn a_case_that_makes_no_sense_is_refused_with_its_name() {
    for (steps, why) in [
        ("", "it has no steps"),
        ("{ cql = 'a' }", "a request needs `answer` or `one_of`"),
        ("{ cql = 'a', prepare = 'b', answer = 'void' }", "exactly one thing"),
        ("{ fault = 'kill' }", "belong together"),
        ("{ cql = 'a', answer = 'void', one_of = ['void'] }", "both"),
        ("{ cql = 'a', answer = 'void', ours = 'void' }", "no difference"),
        ("{ cql = 'a', answer = 'void', scylla = 'rows' }", "from which source"),
        ("{ cql = 'a', answr = 'void' }", "unknown field"),
    ] {
        let text = format!("[[case]]\nname = 'odd'\nsteps = [{steps}]\n");
        let error = case::parse("group", &text).expect_err(steps);
        assert!(error.contains("group.toml") && error.contains(why), "{steps}: {error}");
    }
}
