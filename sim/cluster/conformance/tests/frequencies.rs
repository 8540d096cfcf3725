//! The measured faults as data: they load, a real server was measured in all of them, and each bit it.

use conformance::frequency::statement::Kind;
use conformance::frequency::summary::{Effect, Group};
use conformance::frequency::{self, Part};

/// The groups of each run.
fn recorded() -> Vec<Vec<Group>> {
    let runs = frequency::recorded().unwrap_or_else(|e| panic!("{e}"));
    assert!(runs.len() >= 2, "one run does not show how far runs lie apart");
    runs.into_iter().map(|run| run.groups).collect()
}

#[test]
fn every_experiment_was_measured_on_a_real_server_with_enough_statements() {
    let (experiments, _) = frequency::all().unwrap_or_else(|e| panic!("{e}"));
    assert!(experiments.len() >= 5);
    for (experiment, recorded) in experiments
        .iter()
        .flat_map(|e| recorded().into_iter().map(move |r| (e, r)))
    {
        let groups: Vec<&Group> = recorded.iter().filter(|g| g.experiment == experiment.name).collect();
        assert!(groups.iter().all(|g| g.injections >= 10), "{}", experiment.name);
        if experiment.before_ms + experiment.until_ms < experiment.every_ms {
            let total: u64 = groups.iter().map(|g| g.total()).sum();
            assert!(
                total >= 100 && groups.iter().all(|g| g.part == Part::InFlight),
                "{}: {total}",
                experiment.name
            );
            continue;
        }
        for kind in Kind::ALL {
            for part in [Part::Other, Part::Struck] {
                let of = groups.iter().find(|g| g.kind == kind && g.part == part);
                let total = of.map_or(0, |g| g.total());
                assert!(
                    total >= 100,
                    "{}: {}, {}: {total}",
                    experiment.name,
                    kind.name(),
                    part.name()
                );
            }
        }
    }
}

#[test]
fn every_fault_changed_outcomes_of_the_real_server() {
    for recorded in recorded() {
        for (experiment, kind) in [
            ("a node killed", Kind::Logged),
            ("a node frozen until it is convicted", Kind::Logged),
            ("a node frozen for 4 s", Kind::Logged),
            ("two nodes frozen for 7 s", Kind::Write),
            ("a node cut off from the others", Kind::Cas),
        ] {
            let of = |g: &&Group| g.experiment == experiment && g.kind == kind;
            let outcomes = recorded.iter().filter(of).flat_map(|g| &g.outcomes);
            let errors: u64 = outcomes.filter(|o| o.answer != "ok").map(|o| o.count).sum();
            assert!(
                errors > 0,
                "{experiment}: every {} was answered as if nothing were",
                kind.name()
            );
        }
        let mut outcomes = recorded.iter().flat_map(|g| &g.outcomes);
        let later = outcomes.any(|o| o.effect == Some(Effect::Later));
        assert!(later, "nothing ever took effect after it was answered with an error");
    }
}

#[test]
fn explanations_name_what_there_is() {
    let (experiments, explained) = frequency::all().unwrap_or_else(|e| panic!("{e}"));
    for one in explained {
        assert!(
            one.experiment
                .is_none_or(|name| experiments.iter().any(|e| e.name == name)),
            "{}",
            one.line
        );
        assert!(
            one.kind.is_none_or(|name| Kind::ALL.iter().any(|k| k.name() == name)),
            "{}",
            one.line
        );
        assert!(one.why.len() > 20, "{}: why?", one.line);
    }
}
