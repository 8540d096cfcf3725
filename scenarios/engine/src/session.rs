//! The engine without its I/O: exchange, stream and source together, one step per accepted command, and the way back to
//! where a log ends. Pure and deterministic; [`crate::serve`] gives it a log and sockets.

use std::collections::VecDeque;

use settlement_events::{Body, Envelope, Epoch, Event, Heartbeat, RefusalCode, Registry, TimeMs};

use crate::command::{Command, Rejection, TimedCommand};
use crate::contradiction::Contradiction;
use crate::exchange::Exchange;
use crate::log::{LoggedRecord, Record};
use crate::source::{OpenSource, Origin, Source};
use crate::stream::Stream;
use crate::workload::WorkloadError;

/// Why a log cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Carrying out the logged commands again gives other events.
    #[error(
        "record {index} of the log ({command}) does not repeat: the log says event {logged}, this program makes \
         {made}. The log is from another source, registry or version of the engine: give the engine that one, or an \
         empty data_dir"
    )]
    DoesNotRepeat {
        /// The index of the record.
        index: u64,
        /// What it was about.
        command: String,
        /// The sequence and digest in the log.
        logged: String,
        /// The sequence and digest made now.
        made: String,
    },
    /// A logged intake command is declined now.
    #[error("record {index} of the log was accepted then and is declined now: {rejection}")]
    Declined {
        /// The index of the record.
        index: u64,
        /// Why.
        rejection: Rejection,
    },
}

/// Exchange, stream and source.
#[derive(Debug)]
pub struct Session {
    exchange: Exchange,
    stream: Stream,
    source: OpenSource,
    contradictions: VecDeque<Contradiction>,
    published_contradictions: u32,
    /// Accepted commands so far.
    commands: u64,
    /// Records so far: commands and contradictions.
    records: u64,
    last_at: TimeMs,
    source_ended: bool,
    bodies: Vec<Body>,
}

impl Session {
    /// A session at the beginning of epoch 1.
    pub fn new(registry: Registry, source: &Source, contradictions: &[Contradiction]) -> Result<Self, WorkloadError> {
        let source = source.open(&registry)?;
        let mut contradictions = contradictions.to_vec();
        contradictions.sort();
        Ok(Self {
            exchange: Exchange::new(registry),
            stream: Stream::new(Epoch(1)),
            source_ended: matches!(source, OpenSource::None),
            source,
            contradictions: contradictions.into(),
            published_contradictions: 0,
            commands: 0,
            records: 0,
            last_at: TimeMs(0),
            bodies: Vec::new(),
        })
    }

    /// The exchange as it is now.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The last event made.
    #[must_use]
    pub const fn head(&self) -> Heartbeat {
        self.stream.head()
    }

    /// Whether the source has nothing more to give.
    #[must_use]
    pub const fn source_ended(&self) -> bool {
        self.source_ended
    }

    /// The time of the last command.
    #[must_use]
    pub const fn last_at(&self) -> TimeMs {
        self.last_at
    }

    /// Carries out the source's next command that is accepted (or publishes the contradiction that is due before it);
    /// `None` when the source has ended.
    pub fn step(&mut self) -> Option<Record> {
        if let Some(record) = self.step_contradiction() {
            return Some(record);
        }
        // Bounded: a tape ends, and a workload ends itself when too many of its commands are declined in a row.
        while !self.source_ended {
            let Some(timed) = self.source.next(&self.exchange) else {
                self.source_ended = true;
                break;
            };
            let result = self.execute(Origin::Source, timed);
            self.source.executed(result.is_ok());
            if let Ok(record) = result {
                return Some(record);
            }
        }
        None
    }

    /// Carries out a command from outside.
    pub fn intake(&mut self, at: TimeMs, command: Command) -> Result<Record, Rejection> {
        let at = at.max(self.last_at);
        self.execute(Origin::Intake, TimedCommand { at, command })
    }

    fn execute(&mut self, origin: Origin, timed: TimedCommand) -> Result<Record, Rejection> {
        self.exchange.execute(&timed.command, &mut self.bodies)?;
        self.last_at = timed.at;
        self.commands += 1;
        let bodies = std::mem::take(&mut self.bodies);
        Ok(self.record(origin, timed.at, Some(timed.command), bodies))
    }

    fn step_contradiction(&mut self) -> Option<Record> {
        let due = self
            .contradictions
            .front()
            .filter(|c| c.before_command <= self.commands)
            .copied()?;
        self.contradictions.pop_front();
        let body = due
            .falsehood
            .body(self.published_contradictions, self.exchange.registry());
        self.published_contradictions += 1;
        Some(self.record(Origin::Contradiction(due.falsehood), self.last_at, None, vec![body]))
    }

    fn record(&mut self, origin: Origin, at: TimeMs, command: Option<Command>, bodies: Vec<Body>) -> Record {
        let index = self.records;
        self.records += 1;
        let entries = bodies.into_iter().map(|body| self.stream.seal(at, body)).collect();
        Record {
            index,
            origin,
            at,
            command,
            entries,
        }
    }

    /// Does again what a record of the log says was done, and compares the events byte by byte. Returns the record as
    /// made now (with its digests).
    pub fn repeat(&mut self, logged: &LoggedRecord<'_>) -> Result<Record, RecoveryError> {
        let made = match (logged.origin, logged.command) {
            (Origin::Intake, Some(command)) => {
                self.intake(logged.at, command)
                    .map_err(|rejection| RecoveryError::Declined {
                        index: logged.index,
                        rejection,
                    })?
            }
            _ => self.step().ok_or_else(|| does_not_repeat(logged, None))?,
        };
        let same = made.origin == logged.origin
            && made.at == logged.at
            && made.command == logged.command
            && made
                .entries
                .iter()
                .map(|entry| entry.bytes.as_ref())
                .eq(logged.entries.iter().copied());
        if same {
            Ok(made)
        } else {
            Err(does_not_repeat(logged, Some(&made)))
        }
    }
}

fn does_not_repeat(logged: &LoggedRecord<'_>, made: Option<&Record>) -> RecoveryError {
    let name = |bytes: &[u8]| match Event::decode(bytes) {
        Ok(event) => format!("{} {} ({:.16})", event.output_sequence, event.kind(), event.digest()),
        Err(error) => error.to_string(),
    };
    let made_entries = made.map_or(&[][..], |made| &made.entries);
    let differs = |(at, logged): (usize, &&[u8])| made_entries.get(at).is_none_or(|made| made.bytes != *logged);
    let at = logged.entries.iter().enumerate().position(differs).unwrap_or(0);
    RecoveryError::DoesNotRepeat {
        index: logged.index,
        command: logged
            .command
            .map_or_else(|| format!("{:?}", logged.origin), |command| command.to_string()),
        logged: logged
            .entries
            .get(at)
            .map_or_else(|| "none".to_owned(), |bytes| name(bytes)),
        made: made_entries
            .get(at)
            .map_or_else(|| "none".to_owned(), |entry| name(&entry.bytes)),
    }
}

/// Everything a source gives, without any I/O: the events in order, with the code of those that are contradictions.
pub fn run(
    registry: Registry,
    source: &Source,
    contradictions: &[Contradiction],
) -> Result<Vec<(Envelope, Option<RefusalCode>)>, WorkloadError> {
    let mut session = Session::new(registry, source, contradictions)?;
    let mut events = Vec::new();
    while let Some(record) = session.step() {
        let code = record.contradictory();
        events.extend(record.entries.into_iter().map(|entry| (entry, code)));
    }
    Ok(events)
}
