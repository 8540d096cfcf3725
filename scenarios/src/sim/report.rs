//! From what a run left to what the command prints: evidence, violations, causes, timeline, verdict.
use super::run::{Outcome, trouble};
use crate::evidence::Evidence;
use crate::facts::Facts;
use crate::invariants;
use crate::job::Resolved;
use crate::protocol::{Cost, FaultOutcome, SeedJob, SeedReport, Verdict};
use crate::timeline::Story;
use crate::{aftermath, causes, tape, timeline, verdict};
use faults::Fault;
use sim_world::RunSummary;
use sim_world::trace::{ClusterRecord, FaultStage, Kind, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};

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
    let knobs = outcome.knobs.clone();
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
                let events = verdict::events_of(&report.violations);
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
            let is_absence = report.violations.is_empty() || invariants::absence::is_all(&evidence);
            report.verdict = verdict::of(
                &report.violations,
                is_absence,
                &report.plan,
                &windows,
                &mut report.notes,
            );
            if report.verdict != Verdict::Pass {
                report.notes.extend(crate::knobs::note(&knobs));
            }
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
    let registry = outcome.registry.clone();
    let facts = Facts::read(&outcome.engine_log, &registry)?;
    Ok(Evidence {
        promises: verdict::promises(resolved.design),
        registry,
        facts: facts.facts,
        digests: facts.digests,
        kinds: facts.kinds,
        times_ms: facts.times_ms,
        epoch: facts.epoch,
        event_ids: facts.event_ids,
        trade_meta: facts.trade_meta,
        refused: facts.refused,
        decisions: outcome.decisions,
        acknowledged_ms: outcome.watch.acknowledged_ms,
        books: facts.books,
        found: outcome.found,
        replicas_before_heal: outcome.before_heal,
        replicas_after_heal: outcome.after_heal,
        reads: outcome.reads,
        replica_losses_ms: outcome.watch.losses_ms,
        durability: outcome.watch.durability,
        resettled: outcome.resettled,
        bounds: outcome.watch.bounds,
        untrue_metrics: outcome.watch.untrue_metrics,
        trade_ids_reused: outcome.watch.trade_ids_reused,
        requests: outcome.requests,
        untimely: outcome.untimely,
        ending: outcome.ending,
    })
}
