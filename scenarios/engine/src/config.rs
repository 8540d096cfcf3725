//! What an engine is run with: [`EngineConfig`] for whoever starts one in a program, [`ConfigFile`] for the TOML file that
//! the binary reads.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use settlement_events::{Digest, Registry};

use crate::contradiction::Contradiction;
use crate::control::Controls;
use crate::source::Source;
use crate::tape::{Tape, TapeSpec};
use crate::workload::WorkloadSpec;

/// How fast the source is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pacing {
    /// Events in a second; 0 for as fast as the disk syncs.
    pub events_per_s: u64,
    /// How long a group is: one write and one fsync in this time.
    pub tick_ms: u64,
    /// The most events in a group (more only if a single command causes more): bounds a write, and how long the engine
    /// is deaf.
    pub group_events_max: u64,
    /// A pause before the first command, so that subscribers are there to hear it.
    pub start_after_ms: u64,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            events_per_s: 2_000,
            tick_ms: 5,
            group_events_max: 512,
            start_after_ms: 0,
        }
    }
}

/// Everything an engine needs. Clone it to start the same engine again after a crash.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Assets, symbols and fee accounts. With a tape, the tape's.
    pub registry: Registry,
    /// What drives it.
    pub source: Source,
    /// Events to publish that contradict themselves. One whose command never comes is never published.
    pub contradictions: Vec<Contradiction>,
    /// Where its log is.
    pub data_dir: PathBuf,
    /// Where it publishes, such as `tcp://0.0.0.0:5555`.
    pub publish_addr: String,
    /// Where it serves replay.
    pub replay_addr: String,
    /// Where it takes commands, if it does.
    pub intake_addr: Option<String>,
    /// The interval of heartbeats.
    pub heartbeat_ms: u64,
    /// How many events replay keeps, in memory: about 350 bytes each.
    pub retention_events: usize,
    /// The most entries in a replay's reply.
    pub reply_entries_max: usize,
    /// How fast the source is drained.
    pub pacing: Pacing,
    /// The time of intake commands counts from here, milliseconds since the Unix epoch.
    pub clock_base_ms: u64,
    /// Whether to end when the source has nothing more to give, instead of going on serving.
    pub exit_when_done: bool,
    /// What it says of itself while it runs.
    pub controls: Controls,
}

impl EngineConfig {
    /// A configuration with the given source and addresses, and defaults for the rest.
    #[must_use]
    pub fn new(registry: Registry, source: Source, data_dir: PathBuf, publish_addr: &str, replay_addr: &str) -> Self {
        let defaults = ConfigFile::default();
        Self {
            registry,
            source,
            contradictions: Vec::new(),
            data_dir,
            publish_addr: publish_addr.to_owned(),
            replay_addr: replay_addr.to_owned(),
            intake_addr: None,
            heartbeat_ms: defaults.heartbeat_ms,
            retention_events: defaults.retention_events,
            reply_entries_max: defaults.reply_entries_max,
            pacing: defaults.pacing,
            clock_base_ms: 0,
            exit_when_done: false,
            controls: Controls::default(),
        }
    }

    /// A digest of everything the stream is a function of, so that a log is not continued under another configuration.
    #[must_use]
    pub fn identity(&self) -> Digest {
        let contradictions = serde_json::to_string(&self.contradictions).expect("plain data has a JSON form");
        Digest::of(
            format!(
                "{} {} {contradictions}",
                self.source.identity(),
                self.registry.to_toml()
            )
            .as_bytes(),
        )
    }
}

/// A tape in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapeFile {
    /// The message file, plain or gzip.
    pub path: PathBuf,
    /// How to read it.
    #[serde(default)]
    pub options: TapeSpec,
}

/// The configuration file of `engine serve`. Every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// Where the log is.
    pub data_dir: PathBuf,
    /// Where to publish.
    pub publish_addr: String,
    /// Where to serve replay.
    pub replay_addr: String,
    /// Where to take commands; nowhere if it is not given.
    pub intake_addr: Option<String>,
    /// The interval of heartbeats.
    pub heartbeat_ms: u64,
    /// How many events replay keeps.
    pub retention_events: usize,
    /// The most entries in a replay's reply.
    pub reply_entries_max: usize,
    /// Whether to end when the source has nothing more to give.
    pub exit_when_done: bool,
    /// A file with the registry; the built-in example if it is not given.
    pub registry: Option<PathBuf>,
    /// How fast the source is drained.
    pub pacing: Pacing,
    /// A generated source.
    pub workload: Option<WorkloadSpec>,
    /// A tape as the source.
    pub tape: Option<TapeFile>,
    /// Events that contradict themselves.
    pub contradictions: Vec<Contradiction>,
}

impl Default for ConfigFile {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("engine-data"),
            publish_addr: "tcp://127.0.0.1:5555".to_owned(),
            replay_addr: "tcp://127.0.0.1:5556".to_owned(),
            intake_addr: None,
            heartbeat_ms: 200,
            retention_events: 200_000,
            reply_entries_max: 512,
            exit_when_done: false,
            registry: None,
            pacing: Pacing::default(),
            workload: None,
            tape: None,
            contradictions: Vec::new(),
        }
    }
}

impl ConfigFile {
    /// The configuration, with the source and the registry that the file names and the caller has read.
    #[must_use]
    pub fn into_config(self, registry: Registry, tape: Option<Arc<Tape>>, clock_base_ms: u64) -> EngineConfig {
        let (registry, source) = match (tape, self.workload) {
            (Some(tape), _) => (tape.registry.clone(), Source::Tape(tape)),
            (None, Some(workload)) => (registry, Source::Workload(workload)),
            (None, None) => (registry, Source::None),
        };
        EngineConfig {
            intake_addr: self.intake_addr,
            contradictions: self.contradictions,
            heartbeat_ms: self.heartbeat_ms,
            retention_events: self.retention_events,
            reply_entries_max: self.reply_entries_max,
            pacing: self.pacing,
            clock_base_ms,
            exit_when_done: self.exit_when_done,
            ..EngineConfig::new(registry, source, self.data_dir, &self.publish_addr, &self.replay_addr)
        }
    }
}
