//! The engine without its I/O: exchange, stream and source together, one step per accepted command, and the way back to
//! where a log ends. Pure and deterministic; [`crate::serve`] gives it a log and sockets.

use std::collections::VecDeque;

use settlement_events::{Body, Envelope, Epoch, Event, Heartbeat, Registry, TimeMs, UserId};

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

/// Exchange and source: what would happen, before it becomes events of a stream.
#[derive(Debug)]
struct Course {
    exchange: Exchange,
    source: OpenSource,
    source_ended: bool,
    /// What the last command did.
    bodies: Vec<Body>,
}

impl Course {
    fn new(registry: Registry, source: &Source) -> Result<Self, WorkloadError> {
        let source = source.open(&registry)?;
        Ok(Self {
            exchange: Exchange::new(registry),
            source_ended: matches!(source, OpenSource::None),
            source,
            bodies: Vec::new(),
        })
    }

    /// Carries out the source's next command that is accepted; `None` when the source has ended.
    fn step(&mut self) -> Option<TimedCommand> {
        // Bounded: a tape ends, and a workload ends itself when too many of its commands are declined in a row.
        while !self.source_ended {
            let Some(timed) = self.source.next(&self.exchange) else {
                self.source_ended = true;
                break;
            };
            let result = self.exchange.execute(&timed.command, &mut self.bodies);
            self.source.executed(result.is_ok());
            if result.is_ok() {
                return Some(timed);
            }
        }
        None
    }
}

/// What a source will do, as far as it can be known before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// For each event, in order, the number of accepted commands before it.
    pub commands_before: Vec<u64>,
    /// Users with accounts, ascending.
    pub users: Vec<UserId>,
}

/// Carries out everything a source gives without making a stream of it: no event is encoded, no digest taken.
pub fn rehearse(registry: Registry, source: &Source) -> Result<Rehearsal, WorkloadError> {
    let mut course = Course::new(registry, source)?;
    let (mut commands_before, mut accepted) = (Vec::new(), 0);
    while course.step().is_some() {
        commands_before.extend(course.bodies.drain(..).map(|_| accepted));
        accepted += 1;
    }
    let mut users: Vec<UserId> = course.exchange.accounts().map(|(user, _, _)| user).collect();
    users.dedup();
    Ok(Rehearsal { commands_before, users })
}

/// Exchange, stream and source.
#[derive(Debug)]
pub struct Session {
    course: Course,
    stream: Stream,
    contradictions: VecDeque<Contradiction>,
    published_contradictions: u32,
    /// How many of the events that the next contradiction needs have been published.
    groundwork_laid: usize,
    /// Accepted commands so far.
    commands: u64,
    /// Records so far: commands, contradictions and what those need.
    records: u64,
    last_at: TimeMs,
}

impl Session {
    /// A session at the beginning of epoch 1.
    pub fn new(registry: Registry, source: &Source, contradictions: &[Contradiction]) -> Result<Self, WorkloadError> {
        let course = Course::new(registry, source)?;
        let mut contradictions = contradictions.to_vec();
        contradictions.sort();
        Ok(Self {
            course,
            stream: Stream::new(Epoch(1)),
            contradictions: contradictions.into(),
            published_contradictions: 0,
            groundwork_laid: 0,
            commands: 0,
            records: 0,
            last_at: TimeMs(0),
        })
    }

    /// The exchange as it is now.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.course.exchange
    }

    /// The last event made.
    #[must_use]
    pub const fn head(&self) -> Heartbeat {
        self.stream.head()
    }

    /// Whether the source has nothing more to give.
    #[must_use]
    pub const fn source_ended(&self) -> bool {
        self.course.source_ended
    }

    /// The time of the last command.
    #[must_use]
    pub const fn last_at(&self) -> TimeMs {
        self.last_at
    }

    /// Carries out the source's next command that is accepted (or publishes the contradiction that is due before it, and
    /// before that what the contradiction needs);
    /// `None` when the source has ended.
    pub fn step(&mut self) -> Option<Record> {
        if let Some(record) = self.step_contradiction() {
            return Some(record);
        }
        let timed = self.course.step()?;
        Some(self.accepted(Origin::Source, timed))
    }

    /// Carries out a command from outside.
    pub fn intake(&mut self, at: TimeMs, command: Command) -> Result<Record, Rejection> {
        let at = at.max(self.last_at);
        self.course.exchange.execute(&command, &mut self.course.bodies)?;
        Ok(self.accepted(Origin::Intake, TimedCommand { at, command }))
    }

    /// The record of a command that was just carried out.
    fn accepted(&mut self, origin: Origin, timed: TimedCommand) -> Record {
        self.last_at = timed.at;
        self.commands += 1;
        let mut bodies = std::mem::take(&mut self.course.bodies);
        let record = self.record(origin, timed.at, Some(timed.command), bodies.drain(..));
        self.course.bodies = bodies;
        record
    }

    fn step_contradiction(&mut self) -> Option<Record> {
        let due = self
            .contradictions
            .front()
            .filter(|c| c.before_command <= self.commands)
            .copied()?;
        let (nth, registry) = (self.published_contradictions, self.course.exchange.registry());
        if let Some(body) = due
            .falsehood
            .groundwork(nth, registry)
            .into_iter()
            .nth(self.groundwork_laid)
        {
            self.groundwork_laid += 1;
            return Some(self.record(Origin::Groundwork, self.last_at, None, [body]));
        }
        let body = due.falsehood.body(nth, registry);
        self.groundwork_laid = 0;
        self.contradictions.pop_front();
        self.published_contradictions += 1;
        Some(self.record(Origin::Contradiction(due.falsehood), self.last_at, None, [body]))
    }

    fn record(
        &mut self,
        origin: Origin,
        at: TimeMs,
        command: Option<Command>,
        bodies: impl IntoIterator<Item = Body>,
    ) -> Record {
        let index = self.records;
        self.records += 1;
        let behind = origin.bytes_too_many();
        let seal = |body| self.stream.seal(at, body, behind);
        let entries = bodies.into_iter().map(seal).collect();
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
) -> Result<Vec<(Envelope, Option<&'static str>)>, WorkloadError> {
    let mut session = Session::new(registry, source, contradictions)?;
    let mut events = Vec::new();
    while let Some(record) = session.step() {
        let code = record.contradictory();
        events.extend(record.entries.into_iter().map(|entry| (entry, code)));
    }
    Ok(events)
}
