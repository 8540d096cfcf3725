//! From what a run left to what the command prints: evidence, violations, causes, timeline, verdict.
use super::run::{Outcome, trouble};
use crate::convert;
use crate::evidence::{BySequence, Evidence, Promises};
use crate::invariants;
use crate::job::Resolved;
use crate::protocol::{Cost, FaultOutcome, SeedJob, SeedReport, Verdict, Violation};
use crate::timeline::Story;
use crate::{aftermath, causes, tape, timeline};
use faults::{Fault, Plan, budget};
use oracle::Books;
use settlement::config::DesignName;
use settlement_events::Body;
use sim_world::RunSummary;
use sim_world::trace::{ClusterRecord, FaultStage, Kind, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};

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

fn skeleton(job: &SeedJob, scenario: &str, design: &str) -> SeedReport {
    SeedReport {
        seed: job.seed,
        scenario: scenario.into(),
        design: design.into(),
        ..SeedReport::default()
    }
}

/// The report of a job that could not run at all.
pub fn broken(job: &SeedJob, message: String) -> SeedReport {
    SeedReport {
        verdict: trouble(message),
        ..skeleton(job, "", &job.design)
    }
}

/// The report of a run that broke down.
pub fn failed_run(job: &SeedJob, resolved: &Resolved, error: &sim_world::RunError) -> SeedReport {
    let summary = error.summary();
    SeedReport {
        verdict: trouble(error.to_string()),
        timeline: timeline::timeline(&Story {
            records: &summary.records,
            plan: &resolved.plan.clone().unwrap_or_default(),
            followed: &BTreeSet::new(),
            rows: &[],
        }),
        trace_hash: summary.hash_hex(),
        draws: summary.draws.clone(),
        sim_time_ms: summary.sim_time_ns / 1_000_000,
        ..skeleton(job, &resolved.scenario.name, &resolved.design.to_string())
    }
}

/// Judges a run that came to its end.
pub fn judge(job: &SeedJob, resolved: &Resolved, outcome: Outcome, summary: RunSummary, started_us: u64) -> SeedReport {
    let judge_from_us = sim_world::cpu_time_us();
    let mut report = skeleton(job, &resolved.scenario.name, &resolved.design.to_string());
    report.plan = serde_json::to_value(&outcome.plan).unwrap_or_default();
    report.faults = fault_outcomes(job, &outcome, &summary.records);
    report.trace_hash = summary.hash_hex();
    report.draws = summary.draws.clone();
    report.sim_time_ms = summary.sim_time_ns / 1_000_000;
    report.counts = counts(&outcome, &summary);
    let mut stages = outcome.stages_us.clone();
    let (windows, ended_ns) = (outcome.windows.clone(), outcome.ended_ns);
    let (imported, plan) = (outcome.tape.clone(), outcome.plan.clone());
    match (outcome.trouble.clone(), evidence(resolved, outcome)) {
        (Some(message), _) | (None, Err(message)) => report.verdict = trouble(message),
        (None, Ok(evidence)) => {
            report.counts.insert(
                "settled_trades".into(),
                evidence.found.trades.values().map(|t| t.len() as u64).sum(),
            );
            report.violations = invariants::check(&evidence);
            if let (Some((path, file)), Some(imported)) = (&resolved.tape, &imported) {
                let (outcome, violation) = tape::judge(path, file, imported, &evidence);
                report.violations.extend(violation);
                report.tape = Some(outcome);
            }
            if !report.violations.is_empty() {
                report.causes = causes::classify(&evidence);
                let events = events_of(&report.violations);
                // What the world does to end a run explains nothing.
                let ended = summary.records.partition_point(|record| record.at_ns < ended_ns);
                let records = &summary.records[..ended];
                let suspicion = aftermath::suspicion(&evidence);
                let followed = timeline::followed(records, &plan, &events, &suspicion);
                report.timeline = timeline::timeline(&Story {
                    records,
                    plan: &plan,
                    followed: &followed,
                    rows: &aftermath::rows(&evidence, &followed),
                });
            }
            report.verdict = verdict(&report.violations, &report.plan, &windows, &mut report.notes);
        }
    }
    let now_us = sim_world::cpu_time_us();
    stages.insert("judge".into(), now_us.saturating_sub(judge_from_us));
    report.cost = Cost {
        cpu_us: now_us.saturating_sub(started_us),
        stages_us: stages,
        ..Cost::default()
    };
    report
}

fn verdict(
    violations: &[Violation],
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
        some if some.iter().any(|v| !invariants::is_liveness(v.invariant)) && !only_unsettled(some) => Verdict::Safety,
        _ => Verdict::Liveness,
    }
}

/// What is not settled when waiting ends is missing from the tables too; that is one failure of liveness, not another
/// one of safety. Only a run in which nothing but liveness and absences is found counts as such.
fn only_unsettled(violations: &[Violation]) -> bool {
    violations.iter().any(|v| invariants::is_liveness(v.invariant))
        && violations.iter().all(|v| {
            invariants::is_liveness(v.invariant) || matches!(v.invariant, 1 | 2 | 3 | 6 | 7 | 9 | tape::NUMBER)
        })
}

/// The sequences that violations name, as far as their words do.
fn events_of(violations: &[Violation]) -> BTreeSet<u64> {
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

fn fault_outcomes(job: &SeedJob, outcome: &Outcome, records: &[Record]) -> Vec<FaultOutcome> {
    // Whether a fault has bitten must not depend on whether the run is told.
    let lean: Vec<Record>;
    let records = if job.record_all {
        lean = records
            .iter()
            .filter(|record| is_always_kept(record))
            .cloned()
            .collect();
        &lean
    } else {
        records
    };
    let one = |fault: &Fault| {
        let detail = records.iter().find_map(|record| match &record.kind {
            Kind::Fault(f) if f.id == fault.id && f.stage != FaultStage::Planned => {
                Some(timeline::fault_words(fault, &f.detail))
            }
            _ => None,
        });
        let fired = outcome.fired.contains(&fault.id);
        FaultOutcome {
            id: fault.id,
            class: fault.class.name(),
            fired,
            bit: fired && faults::bit::has_bitten(fault, records),
            detail: detail.unwrap_or_else(|| "its moment did not come".into()),
        }
    };
    outcome.plan.faults.iter().map(one).collect()
}

/// Whether a record is kept in a run that does not record all.
fn is_always_kept(record: &Record) -> bool {
    match &record.kind {
        Kind::Delivery { .. } | Kind::DiskOp { .. } | Kind::Draw { .. } | Kind::Log { .. } => false,
        Kind::Cluster(cluster) => !matches!(
            cluster,
            ClusterRecord::BatchlogWritten { .. }
                | ClusterRecord::BatchlogRemoved { .. }
                | ClusterRecord::MutationApplied { .. }
                | ClusterRecord::HintStored { .. }
                | ClusterRecord::HintDelivered { .. }
        ),
        _ => true,
    }
}

/// The kept records, one JSON line each.
pub fn write_trace(path: &str, records: &[Record]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in records {
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

fn counts(outcome: &Outcome, summary: &RunSummary) -> BTreeMap<String, u64> {
    let mut counts = outcome.counters.clone();
    counts.insert("events".into(), outcome.ending.head);
    counts.insert("reads".into(), outcome.reads.len() as u64);
    counts.insert("durability_checks".into(), outcome.watch.durability.looked_at);
    counts.insert("deliveries".into(), summary.net.events);
    counts.insert("network_bytes".into(), summary.net.bytes);
    counts.insert("peer_messages".into(), summary.net.messages);
    counts.insert(
        "disk_ops".into(),
        summary.disk.reads + summary.disk.writes + summary.disk.syncs,
    );
    counts.insert("trace_events".into(), summary.events);
    counts
}

/// Puts the engine's facts beside what was found.
fn evidence(resolved: &Resolved, outcome: Outcome) -> Result<Evidence, String> {
    let facts = engine::log::read_facts(&outcome.engine_log).map_err(|error| format!("the engine's log: {error}"))?;
    let registry = outcome.registry.clone();
    let mut books = Books::new(convert::market(&registry));
    let mut evidence_facts = Vec::with_capacity(facts.len());
    let (mut digests, mut kinds) = (BySequence::default(), BySequence::default());
    let (mut event_ids, mut trade_meta) = (BySequence::default(), BySequence::default());
    let (mut times_ms, mut refused, mut epoch) = (BySequence::default(), BTreeMap::new(), 0);
    for fact in &facts {
        let event = &fact.event;
        let seq = event.output_sequence.0;
        digests.insert(seq, fact.digest);
        times_ms.insert(seq, event.event_time_ms.0);
        epoch = event.epoch.0;
        if let Some(code) = fact.contradictory {
            refused.insert(seq, code.as_str().to_string());
            continue;
        }
        kinds.insert(seq, event.kind().as_str());
        match &event.body {
            Body::Deposit { event_id, .. } | Body::Withdrawal { event_id, .. } => {
                event_ids.insert(seq, event_id.0);
            }
            Body::Trade(trade) => {
                trade_meta.insert(seq, (trade.match_seq.0, trade.buyer_is_maker));
            }
            _ => {}
        }
        if let Some(fact) = convert::fact(event) {
            books
                .apply(seq, &fact)
                .map_err(|error| format!("the engine's own facts contradict each other: {error}"))?;
            evidence_facts.push((seq, fact));
        }
    }
    Ok(Evidence {
        promises: promises(resolved.design),
        registry,
        facts: evidence_facts,
        digests,
        kinds,
        times_ms,
        epoch,
        event_ids,
        trade_meta,
        refused,
        decided_ms: outcome.decisions,
        acknowledged_ms: outcome.watch.acknowledged_ms,
        books,
        found: outcome.found,
        replicas_before_heal: outcome.before_heal,
        replicas_after_heal: outcome.after_heal,
        reads: outcome.reads,
        replica_losses_ms: outcome.watch.losses_ms,
        durability: outcome.watch.durability,
        resettled: outcome.resettled,
        bounds: outcome.watch.bounds,
        untrue_metrics: outcome.watch.untrue_metrics,
        requests: outcome.requests,
        ending: outcome.ending,
    })
}
