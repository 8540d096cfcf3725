//! From what was found to what is said about a run, in every world alike: what each design promises, and whether a
//! violation is about the books or about progress.
use crate::evidence::Promises;
use crate::protocol::{Verdict, Violation};
use crate::{invariants, tape};
use faults::{Plan, budget};
use settlement::config::DesignName;
use std::collections::BTreeSet;

/// What each design promises. A design that promises less is judged by less, never by other rules.
pub fn promises(design: DesignName) -> Promises {
    match design {
        DesignName::Ledger => Promises {
            ledger: true,
            identity: true,
            dead_letters: true,
            durable: true,
            idempotent: true,
        },
        DesignName::LoggedRmw | DesignName::SequentialDelta => Promises {
            ledger: false,
            identity: false,
            dead_letters: false,
            durable: false,
            idempotent: false,
        },
    }
}

/// The verdict on what was found; `is_absence` says whether nothing is wrong but what is not there (`invariants::absence`).
/// Beyond the budget nothing can be said; that goes to `notes`.
pub fn of(
    violations: &[Violation],
    is_absence: bool,
    plan: &serde_json::Value,
    windows: &[budget::Window],
    notes: &mut Vec<String>,
) -> Verdict {
    let plan: Plan = serde_json::from_value(plan.clone()).unwrap_or_default();
    if let Err(beyond) = budget::judge_plan(&plan).and_then(|()| budget::judge_windows(windows)) {
        notes.push(format!("beyond the fault budget: {beyond}"));
        return Verdict::Inconclusive;
    }
    match violations {
        [] => Verdict::Pass,
        some if some.iter().all(|v| invariants::is_liveness(v.invariant)) => Verdict::Liveness,
        some if !is_absence || !only_unsettled(some) => Verdict::Safety,
        _ => Verdict::Liveness,
    }
}

/// What is not settled when waiting ends is missing from the tables too; that is one failure of liveness, not another
/// one of safety. Only invariants that speak of what is missing may have been violated beside liveness.
fn only_unsettled(violations: &[Violation]) -> bool {
    violations.iter().any(|v| invariants::is_liveness(v.invariant))
        && violations.iter().all(|v| {
            invariants::is_liveness(v.invariant) || matches!(v.invariant, 1 | 2 | 3 | 6 | 7 | 9 | tape::NUMBER)
        })
}

/// The sequences that violations name, as far as their words do.
pub fn events_of(violations: &[Violation]) -> BTreeSet<u64> {
    let mut events = BTreeSet::new();
    let first = violations.iter().take(3);
    for text in first.flat_map(|v| {
        let lines = v
            .accounts
            .iter()
            .flat_map(|a| &a.lines)
            .filter(|line| line.expected != line.found);
        std::iter::once(v.text.clone()).chain(lines.map(|line| line.what.clone()))
    }) {
        for part in text.split("event ").skip(1) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            events.extend(digits.parse::<u64>().ok());
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(numbers: &[u32], is_absence: bool) -> Verdict {
        let violations: Vec<Violation> = numbers
            .iter()
            .map(|number| Violation {
                invariant: *number,
                ..Violation::default()
            })
            .collect();
        let plan = serde_json::to_value(Plan::empty()).expect("a plan");
        of(&violations, is_absence, &plan, &[], &mut Vec::new())
    }

    #[test]
    fn a_run_that_is_only_late_is_one_of_liveness_and_wrong_money_is_not() {
        assert_eq!(said(&[], true), Verdict::Pass);
        assert_eq!(said(&[10], false), Verdict::Liveness);
        assert_eq!(said(&[1, 2, 3, 10], true), Verdict::Liveness);
        assert_eq!(
            said(&[1, 2, 3, 10], false),
            Verdict::Safety,
            "something that is there is wrong"
        );
        assert_eq!(said(&[1, 2, 3], true), Verdict::Safety, "nothing is late");
        assert_eq!(said(&[4, 10], true), Verdict::Safety);
    }
}
