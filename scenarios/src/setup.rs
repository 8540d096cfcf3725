//! What the engine and settlement are started with, from a resolved job: the same workload, bounds and patience in every
//! world. Where they run, and how their processes are had, each world knows for itself.
use crate::job::Resolved;
use crate::scenario::{CommitlogSync, PUBLISH_S_MAX};
use engine::EngineConfig;
use engine::session;
use engine::source::Source;
use engine::tape::{Tape, TapeSpec};
use engine::workload::WorkloadSpec;
use faults::draw::Shape;
use settlement_events::Registry;
use std::path::Path;

/// What the engine keeps where the scenario does not say that it forgets: more than any run has, because at the end of one
/// everything is settled again.
const RETENTION_ALL: u32 = 1 << 30;
/// Roughly when the first event is published: the programs have started by then.
pub const START_MS: u64 = 100;

/// Every event must settle within this after the last fault.
pub const LIVENESS_BOUND_MS: u64 = 180_000;

/// Where the engine is spoken to, `tcp://host:port`.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Where it publishes.
    pub publish: String,
    /// Where it answers replay requests.
    pub replay: String,
}

/// What the workload will be, known before anything runs.
pub struct Preview {
    /// What a draw must know.
    pub shape: Shape,
    /// Users with accounts.
    pub users: Vec<u64>,
    /// For each event, in order, the number of accepted commands before it.
    pub commands_before: Vec<u64>,
}

/// Rehearses the engine's source to learn what the workload will be.
pub fn preview(config: &EngineConfig, nodes: u16) -> Result<Preview, String> {
    let rehearsal =
        session::rehearse(config.registry.clone(), &config.source).map_err(|error| format!("the workload: {error}"))?;
    let events = rehearsal.commands_before.len() as u64;
    let shape = Shape {
        events,
        first_event_ms: START_MS,
        last_event_ms: START_MS + events * 1_000 / config.pacing.events_per_s.max(1),
        nodes,
    };
    Ok(Preview {
        shape,
        users: rehearsal.users.iter().map(|user| user.0).collect(),
        commands_before: rehearsal.commands_before,
    })
}

/// The registry and what drives the engine: the tape, or the generated workload.
pub fn source(job: &Resolved, seed: u64) -> Result<(Registry, Source), String> {
    if let Some((path, bytes)) = &job.tape {
        let spec = TapeSpec {
            seed,
            ..TapeSpec::default()
        };
        let tape = Tape::import(path, bytes, &spec).map_err(|error| format!("the tape {path}: {error}"))?;
        return Ok((tape.registry.clone(), Source::Tape(tape)));
    }
    let registry = Registry::example();
    let workload = &job.scenario.workload;
    let symbols = registry
        .symbols()
        .iter()
        .take(workload.symbols as usize)
        .map(|symbol| symbol.name.clone());
    let spec = WorkloadSpec {
        seed,
        trades: workload.trades.into(),
        users: workload.users,
        symbols: symbols.collect(),
        ..WorkloadSpec::default()
    };
    Ok((registry, Source::Workload(spec)))
}

/// What the engine is started with.
pub fn engine_config(
    job: &Resolved,
    registry: &Registry,
    source: Source,
    data_dir: &Path,
    addresses: &Addresses,
) -> EngineConfig {
    let mut config = EngineConfig::new(
        registry.clone(),
        source,
        data_dir.into(),
        &addresses.publish,
        &addresses.replay,
    );
    config.pacing.events_per_s = pace(job.scenario.workload.events_per_s.into(), &config.source);
    config.retention_events = job.scenario.programs.retention_events.unwrap_or(RETENTION_ALL) as usize;
    config
}

/// Events per second: the scenario's, or what a tape needs to be out within the time that a run has.
fn pace(scenario: u64, source: &Source) -> u64 {
    match source {
        Source::Tape(tape) => scenario.max(tape.report.events.div_ceil(PUBLISH_S_MAX)),
        Source::Workload(_) | Source::None => scenario,
    }
}

/// What settlement is started with.
pub fn settlement_config(
    job: &Resolved,
    registry: &Registry,
    contact_points: Vec<String>,
    data_dir: &Path,
    addresses: &Addresses,
) -> settlement::Config {
    let mut config = settlement::Config::new(
        contact_points,
        addresses.publish.clone(),
        addresses.replay.clone(),
        data_dir,
        registry.clone(),
    );
    config.design = job.design;
    config.replication_factor = u8::try_from(job.scenario.cluster.replication_factor).unwrap_or(u8::MAX);
    let programs = &job.scenario.programs;
    if let Some(max) = programs.in_flight_max {
        config.limits.in_flight_max = max as usize;
    }
    if let Some(max) = programs.ready_max {
        config.limits.ready_max = max as usize;
    }
    if let Some(max) = programs.ahead_max {
        config.limits.ahead_max = max.into();
    }
    if let Some(max) = programs.verify_entries_max {
        config.limits.verify_entries_max = max as usize;
    }
    if let Some(bytes) = programs.wal_segment_bytes {
        config.wal.segment_bytes = bytes;
        config.wal.group_bytes_max = config.wal.group_bytes_max.min(bytes);
    }
    if let Some(bytes) = programs.wal_max_bytes {
        config.wal.max_bytes = bytes.into();
    }
    config.durable.sync_period_ms = match job.scenario.cluster.commitlog_sync {
        CommitlogSync::Periodic => job.scenario.cluster.commitlog_period_ms,
        CommitlogSync::Batch => 0,
    };
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job;
    use crate::protocol::{ScenarioSource, SeedJob};

    #[test]
    fn every_bound_of_a_scenario_reaches_its_program() {
        let toml = "version = 1\nname = \"mine\"\nabout = \"Mine.\"\n[workload]\ntrades = 10\n[programs]\nin_flight_max = 3\n\
                    ready_max = 5\nahead_max = 7\nverify_entries_max = 9\nwal_segment_bytes = 70000\n\
                    wal_max_bytes = 300000\nretention_events = 11\n";
        let job = SeedJob {
            scenario: ScenarioSource::Inline {
                origin: "mine.toml".into(),
                toml: toml.into(),
            },
            ..SeedJob::default()
        };
        let job = job::resolve(&job).expect("a scenario");
        let (registry, addresses) = (
            Registry::example(),
            Addresses {
                publish: "tcp://a:1".into(),
                replay: "tcp://a:2".into(),
            },
        );
        let config = settlement_config(&job, &registry, Vec::new(), "dir".as_ref(), &addresses);
        let limits = &config.limits;
        assert_eq!((limits.in_flight_max, limits.ready_max), (3, 5));
        assert_eq!((limits.ahead_max, limits.verify_entries_max), (7, 9));
        assert_eq!((config.wal.segment_bytes, config.wal.max_bytes), (70_000, 300_000));
        let engine = engine_config(&job, &registry, Source::None, "dir".as_ref(), &addresses);
        assert_eq!(engine.retention_events, 11);
    }
}
