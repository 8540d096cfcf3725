//! The clusters that cases run against. Each takes a list of cases and returns an outcome for every one of them.

#[cfg(not(madsim))]
pub mod scylla_sim;
#[cfg(not(madsim))]
pub mod server;
#[cfg(madsim)]
pub mod sim;

use crate::case::Case;
use crate::report::{Outcome, Verdict};
use crate::run;
use crate::target::Target;

/// Runs the cases that can run on a target one after another; `tell` is told of each.
pub async fn run_all(cases: &[Case], target: &Target, tell: &(dyn Fn(&Outcome) + Sync)) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for case in cases {
        let outcome = match run::obstacle(case, target) {
            Some(why) => not_run(case, &target.label, why),
            None => run::run(case, target).await,
        };
        tell(&outcome);
        outcomes.push(outcome);
    }
    outcomes
}

/// The outcome of a case that was not run.
pub fn not_run(case: &Case, label: &str, why: String) -> Outcome {
    Outcome {
        group: case.group.clone(),
        case: case.name.clone(),
        backend: label.to_owned(),
        verdict: Verdict::NotRun(why),
        took_ms: 0,
        transcript: Vec::new(),
    }
}

/// The outcome of a case whose cluster could not be had.
pub fn failed(case: &Case, label: &str, why: String) -> Outcome {
    Outcome {
        verdict: Verdict::Differs(vec![why]),
        ..not_run(case, label, String::new())
    }
}
