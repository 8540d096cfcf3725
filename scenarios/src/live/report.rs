//! From what a run with real processes left to the report that every world gives.
use crate::evidence::{BalanceRead, Bounds, Durability, Ending, Evidence, Resettled};
use crate::facts::Facts;
use crate::job::Resolved;
use crate::protocol::{FaultOutcome, LiveJob, SeedReport, Verdict, Violation};
use crate::rows::Tables;
use crate::{aftermath, causes, invariants, tape, verdict};
use faults::Plan;
use faults::live::Outcome;
use faults::plan::Action;
use settlement_events::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a run left.
pub struct Found {
    /// The plan.
    pub plan: Plan,
    /// What became of each fault.
    pub outcomes: Vec<Outcome>,
    /// The engine's log.
    pub engine_log: Vec<u8>,
    /// Assets and symbols.
    pub registry: Registry,
    /// What a client reads in the end.
    pub found: Tables,
    /// What each replica held before that; empty where it cannot be asked.
    pub replicas: Vec<Arc<Tables>>,
    /// What the reader saw.
    pub reads: Vec<BalanceRead>,
    /// What settling again changed; None: it was not done.
    pub resettled: Option<Resettled>,
    /// How it ended.
    pub ending: Ending,
    /// Programs that crashed, or ended badly when they were asked to.
    pub crashes: Vec<String>,
    /// What a person should know besides.
    pub notes: Vec<String>,
    /// Settlement's counters.
    pub counts: Vec<(&'static str, u64)>,
}

/// The report of a run that found nothing out.
pub fn broken(job: &LiveJob, scenario: &str, message: String) -> SeedReport {
    SeedReport {
        seed: job.run.seed,
        scenario: scenario.into(),
        design: job.run.design.clone(),
        verdict: Verdict::Error { message },
        ..SeedReport::default()
    }
}

/// Judges it.
pub fn judge(job: &LiveJob, resolved: &Resolved, found: Found) -> SeedReport {
    let mut report = SeedReport {
        seed: job.run.seed,
        scenario: resolved.scenario.name.clone(),
        design: resolved.design.to_string(),
        plan: serde_json::to_value(&found.plan).unwrap_or_default(),
        faults: fault_outcomes(&found),
        counts: counts(&found),
        notes: found.notes.clone(),
        ..SeedReport::default()
    };
    let ended_badly = crashes(&found.crashes);
    let windows: Vec<_> = found.outcomes.iter().filter_map(|outcome| outcome.window).collect();
    let evidence = match evidence(resolved, found) {
        Ok(evidence) => evidence,
        Err(message) => {
            report.verdict = Verdict::Error { message };
            return report;
        }
    };
    report.violations = invariants::check(&evidence);
    report.violations.extend(ended_badly);
    if let Some((path, file)) = &resolved.tape
        && let Ok((_, engine::Source::Tape(imported))) = crate::setup::source(resolved, job.run.seed)
    {
        let (outcome, violation) = tape::judge(path, file, &imported.report, &evidence);
        report.violations.extend(violation);
        report.tape = Some(outcome);
    }
    if !report.violations.is_empty() {
        report.causes = causes::classify(&evidence);
        let events = verdict::events_of(&report.violations);
        report.notes.extend(aftermath::rows(&evidence, &events));
    }
    let is_absence = report.violations.is_empty() || invariants::absence::is_all(&evidence);
    report.verdict = verdict::of(
        &report.violations,
        is_absence,
        &report.plan,
        &windows,
        &mut report.notes,
    );
    if report.verdict == Verdict::Pass {
        report.verdict = tried(&report.faults, &mut report.notes);
    }
    report
}

/// A run has tried what it was to try, or nothing can be said. Whatever strikes settlement counts together, since a blow in
/// a quiet moment shows nothing; what strikes nodes counts by its class. What this world cannot do is not among them.
fn tried(faults: &[FaultOutcome], notes: &mut Vec<String>) -> Verdict {
    let has_bitten = |class: &str| faults.iter().any(|fault| fault.class == class && fault.bit);
    let mut tried: BTreeMap<String, bool> = BTreeMap::new();
    for fault in faults {
        if fault.detail.starts_with("not in this world") || !fault.fired && has_bitten(&fault.class) {
            continue;
        }
        // Whom it struck stands in its words: `kill -9 of node 2 at …`.
        let name = if fault.detail.contains(" of settlement ") {
            "what strikes settlement".to_string()
        } else {
            fault.class.clone()
        };
        *tried.entry(name).or_default() |= fault.bit;
    }
    let never: Vec<String> = tried
        .into_iter()
        .filter(|(_, is_bit)| !is_bit)
        .map(|(name, _)| name)
        .collect();
    notes.extend(
        never
            .iter()
            .map(|name| format!("{name} was to be tried and changed nothing")),
    );
    let none_fired = !faults.is_empty() && faults.iter().all(|fault| !fault.fired);
    if never.is_empty() && !none_fired {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    }
}

/// A program may end because the database is away; it may not crash.
fn crashes(crashed: &[String]) -> Vec<Violation> {
    let violation = |text: &String| Violation {
        invariant: 10,
        name: "liveness".into(),
        text: text.clone(),
        ..Violation::default()
    };
    crashed.iter().map(violation).collect()
}

fn fault_outcomes(found: &Found) -> Vec<FaultOutcome> {
    let of = |id: u32| found.outcomes.iter().find(|outcome| outcome.id == id);
    let faults = found.plan.faults.iter().map(|fault| {
        let outcome = of(fault.id).cloned().unwrap_or_default();
        FaultOutcome {
            id: fault.id,
            class: fault.class.name(),
            fired: outcome.fired,
            bit: outcome.bit,
            detail: outcome.detail,
        }
    });
    faults.collect()
}

fn counts(found: &Found) -> BTreeMap<String, u64> {
    let struck = found.outcomes.iter().filter(|outcome| outcome.in_flight.is_some());
    let with_events = struck.clone().filter(|outcome| outcome.in_flight > Some(0)).count() as u64;
    let trades = found.found.trades.values().map(|rows| rows.len() as u64).sum();
    let mut counts: BTreeMap<String, u64> = found.counts.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    for (name, value) in [
        ("events", found.ending.head),
        ("settled_trades", trades),
        ("reads", found.reads.len() as u64),
        ("replicas_read", found.replicas.len() as u64),
        ("settlement_struck", struck.count() as u64),
        ("settlement_struck_with_events_in_flight", with_events),
    ] {
        counts.insert(name.into(), value);
    }
    counts
}

fn evidence(resolved: &Resolved, found: Found) -> Result<Evidence, String> {
    let facts = Facts::read(&found.engine_log, &found.registry)?;
    // A node that was killed may have lost what it had not synced: from then on a read may miss an acknowledged version
    // until that is sent again.
    // A frozen one has everything.
    let killed = |id: u32| {
        let fault = found.plan.faults.iter().find(|fault| fault.id == id);
        fault.is_some_and(|fault| matches!(fault.action, Action::Kill { .. }))
    };
    let losses = found.outcomes.iter().filter(|outcome| killed(outcome.id));
    let losses = losses.filter_map(|outcome| outcome.window);
    let mut replica_losses_ms: Vec<u64> = losses.map(|window| window.from_ms).collect();
    replica_losses_ms.sort_unstable();
    Ok(Evidence {
        promises: verdict::promises(resolved.design),
        registry: found.registry,
        facts: facts.facts,
        digests: facts.digests,
        kinds: facts.kinds,
        times_ms: facts.times_ms,
        epoch: facts.epoch,
        event_ids: facts.event_ids,
        trade_meta: facts.trade_meta,
        refused: facts.refused,
        decisions: BTreeMap::new(),
        acknowledged_ms: Vec::new(),
        books: facts.books,
        found: found.found,
        replicas_before_heal: found.replicas,
        replicas_after_heal: Vec::new(),
        reads: found.reads,
        replica_losses_ms,
        durability: Durability::default(),
        untimely: Vec::new(),
        resettled: found.resettled,
        bounds: Bounds::default(),
        untrue_metrics: Vec::new(),
        trade_ids_reused: None,
        requests: None,
        ending: found.ending,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(class: &str, fired: bool, bit: bool) -> FaultOutcome {
        FaultOutcome {
            class: class.into(),
            fired,
            bit,
            ..FaultOutcome::default()
        }
    }

    #[test]
    fn a_run_in_which_a_class_changes_nothing_proves_nothing() {
        let mut notes = Vec::new();
        let fine = [fault("pause", true, false), fault("pause", true, true)];
        assert_eq!(tried(&fine, &mut notes), Verdict::Pass);
        assert!(notes.is_empty());
        let idle = [fault("pause", true, true), fault("process-kill", true, false)];
        assert_eq!(tried(&idle, &mut notes), Verdict::Inconclusive);
        assert_eq!(notes, ["process-kill was to be tried and changed nothing"]);
        assert_eq!(
            tried(&[fault("power-loss", false, false)], &mut notes),
            Verdict::Inconclusive
        );
        assert_eq!(tried(&[], &mut notes), Verdict::Pass);
    }
}
