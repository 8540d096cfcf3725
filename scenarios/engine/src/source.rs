//! Where commands come from: generated, from a tape, or from nowhere (only from the intake). A source is a deterministic
//! function of the exchange it sees, so that after a crash it is brought back to where it was by letting it produce the
//! logged commands again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use settlement_events::{Digest, Registry};

use crate::command::TimedCommand;
use crate::contradiction::Falsehood;
use crate::exchange::Exchange;
use crate::tape::Tape;
use crate::workload::{Workload, WorkloadError, WorkloadSpec};

/// What drives the engine.
#[derive(Clone, Debug, Default)]
pub enum Source {
    /// Generated order flow.
    Workload(WorkloadSpec),
    /// A tape imported before (its registry must be the engine's).
    Tape(Arc<Tape>),
    /// Nothing but what comes over the intake.
    #[default]
    None,
}

impl Source {
    /// A digest of everything the source is a function of, so that a log is not continued by another source.
    #[must_use]
    pub fn identity(&self) -> Digest {
        let text = match self {
            Self::Workload(spec) => format!("workload {}", plain(spec)),
            Self::Tape(tape) => format!("tape {}", tape.identity),
            Self::None => "none".to_owned(),
        };
        Digest::of(text.as_bytes())
    }

    pub(crate) fn open(&self, registry: &Registry) -> Result<OpenSource, WorkloadError> {
        Ok(match self {
            Self::Workload(spec) => OpenSource::Workload(Box::new(Workload::new(spec, registry)?)),
            Self::Tape(tape) => OpenSource::Tape {
                tape: tape.clone(),
                next: 0,
            },
            Self::None => OpenSource::None,
        })
    }
}

fn plain<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain numbers and strings always have a JSON form")
}

/// A source at some point of its flow.
#[derive(Debug)]
pub(crate) enum OpenSource {
    Workload(Box<Workload>),
    Tape { tape: Arc<Tape>, next: usize },
    None,
}

impl OpenSource {
    /// The next command; `None` when the flow has ended.
    pub(crate) fn next(&mut self, exchange: &Exchange) -> Option<TimedCommand> {
        match self {
            Self::Workload(workload) => workload.next(exchange),
            Self::Tape { tape, next } => {
                let command = tape.commands.get(*next).copied();
                *next += 1;
                command
            }
            Self::None => None,
        }
    }

    /// Tells the source what became of its last command.
    pub(crate) fn executed(&mut self, accepted: bool) {
        if let Self::Workload(workload) = self {
            workload.executed(accepted);
        }
    }
}

/// What caused a record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The engine's own source.
    Source,
    /// A client of the intake.
    Intake,
    /// A contradiction published on purpose.
    Contradiction(Falsehood),
    /// A true event, for the contradiction that follows.
    Groundwork,
}

impl Origin {
    /// What stands behind the encoding of its event and makes it unreadable.
    pub(crate) const fn bytes_too_many(self) -> &'static [u8] {
        match self {
            Self::Contradiction(Falsehood::Unreadable) => &[0],
            _ => &[],
        }
    }
}
