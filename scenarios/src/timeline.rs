//! The shortest timeline that explains a failure: what happened to the events that the violations are about, the faults
//! that struck them or the machines, what the cluster did late, and in simulated time. It chooses and words records; it
//! judges nothing.
use faults::plan::TimeoutWorld;
use faults::{Action, Fault, Plan, When};
use sim_world::trace::{
    ClusterRecord, CqlOp, FaultRecord, FaultStage, HostChange, HostId, Kind, Level, Record, WriteKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Longest timeline printed. Nine lines fit beside the T-accounts on one screen; a few more show a restart's end.
pub const LINES_MAX: usize = 14;
/// Where the story itself has fewer lines than this, what else was unusual is told too.
const LINES_ENOUGH: usize = 6;
/// At most this many events are followed.
const EVENTS_MAX: usize = 2;
/// Longest message of a program; what a driver says about an error fills pages.
const MESSAGE_CHARS_MAX: usize = 150;
/// A replay belongs to the fault at whose time its batch was written, give or take this.
const SAME_MOMENT_NS: u64 = 20_000_000;

/// What to tell.
pub struct Story<'a> {
    /// The records of the run, in their order.
    pub records: &'a [Record],
    /// The plan that was run.
    pub plan: &'a Plan,
    /// The events to follow; empty means all.
    pub followed: &'a BTreeSet<u64>,
    /// What the rows say at the end.
    pub rows: &'a [String],
}

/// A line with how much it explains.
struct Line {
    at_ns: u64,
    index: usize,
    /// 0 is kept first.
    rank: u8,
    place: String,
    text: String,
}

/// What turned the story: faults, and what the cluster did late.
const TURNS: u8 = 0;
/// What belongs to the story itself.
const STORY: u8 = 1;
/// What struck a machine.
const MACHINES: u8 = 2;
/// What else was unusual.
const BESIDES: u8 = 3;
/// A fault on a machine this long before the story begins may have turned it.
const BEFORE_NS: u64 = 10_000_000_000;

/// The lines, in order of time.
pub fn timeline(story: &Story<'_>) -> Vec<String> {
    let teller = Teller::new(story);
    let mut lines: Vec<Line> = story
        .records
        .iter()
        .enumerate()
        .filter_map(|r| teller.line(r))
        .collect();
    let told = lines.iter().filter(|line| line.rank <= STORY).map(|line| line.at_ns);
    if let (Some(first_ns), Some(last_ns)) = (told.clone().min(), told.max()) {
        let near = first_ns.saturating_sub(BEFORE_NS)..=last_ns;
        let is_near = |line: &&mut Line| line.place.starts_with("fault") && near.contains(&line.at_ns);
        lines.iter_mut().filter(is_near).for_each(|line| line.rank = TURNS);
    }
    let room = LINES_MAX.saturating_sub(story.rows.len());
    if lines.iter().filter(|line| line.rank < BESIDES).count() >= LINES_ENOUGH {
        lines.retain(|line| line.rank < BESIDES);
    }
    lines.sort_by_key(|line| (line.rank, line.index));
    let left_out = lines.len().saturating_sub(room);
    lines.truncate(room);
    lines.sort_by_key(|line| line.index);
    let width = lines.iter().map(|line| line.place.len()).max().unwrap_or(0);
    let mut texts: Vec<String> = lines
        .iter()
        .map(|l| format!("{:>12}  {:<width$}  {}", seconds(l.at_ns), l.place, l.text))
        .collect();
    if left_out > 0 {
        texts.push(format!("{:>12}  (and {left_out} more like these)", ""));
    }
    texts.extend(story.rows.iter().map(|row| format!("{:>12}  {row}", "in the end")));
    texts
}

/// The events to follow: those among `events`, which the violations name, whose batch or publication a fault struck; if
/// there are none, those under `suspicion`, else the first that are named.
pub fn followed(records: &[Record], plan: &Plan, events: &BTreeSet<u64>, suspicion: &BTreeSet<u64>) -> BTreeSet<u64> {
    let struck: Vec<_> = fired(records)
        .filter_map(|record| struck_events(plan, record))
        .collect();
    let is_struck = |event: &u64| struck.iter().any(|range| range.contains(event));
    let both: BTreeSet<u64> = events.iter().copied().filter(is_struck).collect();
    let first_struck = || struck.iter().map(|range| *range.start()).collect();
    let chosen = [&both, suspicion, events].into_iter().find(|set| !set.is_empty());
    let chosen = chosen.cloned().unwrap_or_else(first_struck);
    chosen.into_iter().take(EVENTS_MAX).collect()
}

fn fired(records: &[Record]) -> impl Iterator<Item = &FaultRecord> {
    records.iter().filter_map(|record| match &record.kind {
        Kind::Fault(fault) if fault.stage == FaultStage::Fired => Some(fault),
        _ => None,
    })
}

/// The events that a fault struck; None for one that struck a machine. A fault may pass events over, so its record says
/// which they were.
fn struck_events(plan: &Plan, record: &FaultRecord) -> Option<RangeInclusive<u64>> {
    let fault = plan.faults.iter().find(|fault| fault.id == record.id)?;
    match fault.when {
        When::AtMs(_) => None,
        When::Batch { output_sequence, .. } | When::Published { output_sequence } => {
            let first = number_after(&record.detail, "event ").unwrap_or(output_sequence);
            let last = number_after(&record.detail, "up to event ").unwrap_or(first);
            Some(first..=last.max(first))
        }
    }
}

/// What a fault did, for people.
pub fn fault_words(fault: &Fault, detail: &str) -> String {
    let Action::TimeOutBatch(world) = &fault.action else {
        return machines_named(detail);
    };
    // What the record says of the world behind the colon is its name in the code.
    let told = detail.split_once(": ").map_or(detail, |(told, _)| told);
    let world = match world {
        TimeoutWorld::NeverApplied => "and never applied".into(),
        TimeoutWorld::AppliedAtOnce => "although all of it is applied at once".into(),
        TimeoutWorld::AppliedByReplay { after_mutations: 0 } => "and applied by the batchlog's replay".into(),
        TimeoutWorld::AppliedByReplay { .. } => "applied in part, and wholly by the batchlog's replay".into(),
        TimeoutWorld::ExecutedLate { after_ms } => format!("and executed {} late", ms(*after_ms)),
    };
    match detail.contains("write timeout") {
        true => format!("{}, {world}", machines_named(told)),
        false => machines_named(detail),
    }
}

/// Machines as the rest of a report calls them: nodes count from 0 in a plan, and are `db-1` and so on by name.
fn machines_named(text: &str) -> String {
    let mut out = text.replace("Settlement", "settlement").replace("Engine", "the engine");
    for opening in ["Node(", "node "] {
        let mut rest = std::mem::take(&mut out);
        while let Some(at) = rest.find(opening) {
            let (before, after) = rest.split_at(at);
            out.push_str(before);
            let digits: String = after[opening.len()..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            let mut end = opening.len() + digits.len();
            match digits.parse::<u64>() {
                Ok(node) => out.push_str(&format!("db-{}", node + 1)),
                Err(_) => out.push_str(&after[..end]),
            }
            end += usize::from(opening.ends_with('(') && after[end..].starts_with(')'));
            rest = after[end..].to_string();
        }
        out.push_str(&rest);
    }
    out
}

struct Teller<'a> {
    plan: &'a Plan,
    names: BTreeMap<HostId, &'a str>,
    followed: &'a BTreeSet<u64>,
    /// When a fault fired.
    fired_ns: BTreeSet<u64>,
    /// Faults that struck a followed event: when, and which event.
    struck: Vec<(u64, u64)>,
}

impl<'a> Teller<'a> {
    fn new(story: &Story<'a>) -> Teller<'a> {
        let names = story.records.iter().filter_map(|record| match &record.kind {
            Kind::Host { name, .. } => Some((record.host?, name.as_str())),
            _ => None,
        });
        let followed = story.followed;
        let is_fired = |record: &&Record| matches!(&record.kind, Kind::Fault(f) if f.stage == FaultStage::Fired);
        let struck = story.records.iter().filter_map(|record| match &record.kind {
            Kind::Fault(fault) if fault.stage == FaultStage::Fired => {
                let events = struck_events(story.plan, fault)?;
                Some((record.at_ns, *followed.range(events).next()?))
            }
            _ => None,
        });
        Teller {
            plan: story.plan,
            names: names.collect(),
            struck: struck.collect(),
            fired_ns: story
                .records
                .iter()
                .filter(is_fired)
                .map(|record| record.at_ns)
                .collect(),
            followed,
        }
    }

    fn name(&self, host: HostId) -> String {
        self.names
            .get(&host)
            .map_or_else(|| host.to_string(), ToString::to_string)
    }

    fn line(&self, (index, record): (usize, &Record)) -> Option<Line> {
        let place = record.host.map_or(String::new(), |host| self.name(host));
        let (rank, place, text) = match &record.kind {
            Kind::Fault(fault) => {
                let (rank, text) = self.fault(fault)?;
                (rank, format!("fault {}", fault.id), text)
            }
            // That everything starts explains nothing.
            Kind::Host {
                change: HostChange::Started | HostChange::Exited,
                ..
            } => return None,
            // Its fault says so.
            Kind::Host {
                change: HostChange::Killed | HostChange::PoweredOff | HostChange::Paused,
                ..
            } if self.fired_ns.contains(&record.at_ns) => return None,
            Kind::Host { name, change } => (MACHINES, name.clone(), host_change(*change).into()),
            Kind::Cluster(cluster) => {
                let (rank, text) = self.cluster(record.at_ns, cluster)?;
                (rank, place, text)
            }
            Kind::Cql(cql) => {
                let event = self.followed_in(&cql.label)?;
                let text = match &cql.op {
                    CqlOp::Request { .. } => format!("receives the batch of event {event}"),
                    CqlOp::Response { outcome, .. } => {
                        format!("answers the batch of event {event}: {}", short(outcome))
                    }
                };
                (STORY, place, text)
            }
            Kind::Log { level, message, .. } => {
                let (rank, text) = self.log(*level, message)?;
                (rank, place, text)
            }
            Kind::Note { text } if text.starts_with(faults::bit::METRICS_NOTE) => return None,
            Kind::Note { text } => (MACHINES, place, machines_named(text)),
            Kind::Panic { message } => (TURNS, place, format!("panics: {}", short(message))),
            Kind::Link { from, to, cut, .. } => {
                let (from, to) = (self.name(*from), self.name(*to));
                let what = if *cut { "lost" } else { "delivered again" };
                (
                    BESIDES,
                    "network".into(),
                    format!("what {from} sends to {to} is {what}"),
                )
            }
            Kind::Delivery { .. } | Kind::DiskOp { .. } | Kind::Draw { .. } => return None,
        };
        Some(Line {
            at_ns: record.at_ns,
            index,
            rank,
            place,
            text,
        })
    }

    fn fault(&self, record: &FaultRecord) -> Option<(u8, String)> {
        let fault = self.plan.faults.iter().find(|fault| fault.id == record.id);
        let words = fault.map_or_else(|| record.detail.clone(), |fault| fault_words(fault, &record.detail));
        let rank = match struck_events(self.plan, record) {
            Some(events) if self.followed.range(events.clone()).next().is_some() => TURNS,
            // It struck another event.
            Some(_) => return None,
            None => MACHINES,
        };
        match record.stage {
            FaultStage::Fired => Some((rank, format!("{}: {words}", record.class))),
            // What it did stands in the records of the machines.
            FaultStage::Planned | FaultStage::Bit | FaultStage::Healed => None,
        }
    }

    /// The followed event whose batch a fault struck at that time.
    fn struck_at(&self, at_ns: u64, tolerance_ns: u64) -> Option<u64> {
        let near = |(struck_ns, _): &&(u64, u64)| struck_ns.abs_diff(at_ns) <= tolerance_ns;
        self.struck.iter().find(near).map(|(_, event)| *event)
    }

    fn cluster(&self, at_ns: u64, record: &ClusterRecord) -> Option<(u8, String)> {
        let named = |id: &HostId| self.name(*id);
        Some(match record {
            ClusterRecord::BatchlogReplayed { age_ms, .. } => {
                let written_ns = at_ns.saturating_sub(age_ms * 1_000_000);
                match self.struck_at(written_ns, SAME_MOMENT_NS) {
                    Some(event) => (
                        TURNS,
                        format!(
                            "replays the batch of event {event}, {} old, with its old timestamps",
                            ms(*age_ms)
                        ),
                    ),
                    None => (
                        BESIDES,
                        format!("replays a batch, {} old, with its old timestamps", ms(*age_ms)),
                    ),
                }
            }
            ClusterRecord::ExecutedLate { delay_ms, .. } => {
                let asked_ns = at_ns.saturating_sub(delay_ms * 1_000_000);
                match self.struck_at(asked_ns, SAME_MOMENT_NS) {
                    Some(event) => (
                        TURNS,
                        format!(
                            "wakes up and executes the batch of event {event}, {} late, with a new timestamp where none was bound",
                            ms(*delay_ms)
                        ),
                    ),
                    None => return None,
                }
            }
            ClusterRecord::WriteTimeout {
                write,
                received,
                required,
                ..
            } => {
                let what = match self.struck_at(at_ns, 0) {
                    Some(event) => (STORY, format!("the batch of event {event} with ")),
                    // Another event's fault.
                    None if self.fired_ns.contains(&at_ns) => return None,
                    None => (BESIDES, String::new()),
                };
                let (rank, whose) = what;
                let counts = format!("{}, {received} of {required} acknowledgements", write_name(*write));
                (rank, format!("answers {whose}a write timeout ({counts})"))
            }
            // The fault that commands it says so, once.
            ClusterRecord::Lied { .. } => return None,
            ClusterRecord::WriteFailure { write, failures, .. } => (
                BESIDES,
                format!("answers a write failure ({}, {failures} failed)", write_name(*write)),
            ),
            ClusterRecord::Unavailable { required, alive } => (
                BESIDES,
                format!("answers unavailable: {alive} of {required} replicas are alive"),
            ),
            ClusterRecord::ReadTimeout { received, required } => (
                BESIDES,
                format!("answers a read timeout: {received} of {required} replicas answered"),
            ),
            ClusterRecord::NodeDown { node, .. } => (BESIDES, format!("takes {} for down", named(node))),
            ClusterRecord::NodeUp { node, .. } => (BESIDES, format!("takes {} for up", named(node))),
            ClusterRecord::HintDropped { target, .. } => (BESIDES, format!("gives up a hint for {}", named(target))),
            ClusterRecord::LogLost { bytes } => (MACHINES, format!("has lost {bytes} bytes of its commit log")),
            ClusterRecord::LogRecovered { bytes } => (BESIDES, format!("reads {bytes} bytes of its commit log back")),
            ClusterRecord::Other { what, detail } if what == "halted" => (MACHINES, format!("cannot go on: {detail}")),
            ClusterRecord::Other { what, detail } if what == "rolled back" => {
                (MACHINES, format!("rolls batch {detail} back"))
            }
            ClusterRecord::Other { what, detail } if what == "replay incomplete" => (
                BESIDES,
                format!("replays a batch and not every replica answers: {detail}"),
            ),
            // Verdicts are told by their fault; the others happen all the time.
            ClusterRecord::Other { .. }
            | ClusterRecord::MutationApplied { .. }
            | ClusterRecord::BatchlogWritten { .. }
            | ClusterRecord::BatchlogRemoved { .. }
            | ClusterRecord::HintStored { .. }
            | ClusterRecord::HintDelivered { .. }
            | ClusterRecord::ReadRepair { .. } => return None,
        })
    }

    /// A program's own words. Those about a followed event belong to the story, the others only if they are unusual.
    fn log(&self, level: Level, message: &str) -> Option<(u8, String)> {
        let (said, fields) = fields(message);
        let number = |name: &str| {
            let field = fields.iter().find(|(key, _)| *key == name);
            field.and_then(|(_, value)| number_after(value, ""))
        };
        let concerned = match (number("seq"), number("from"), number("to")) {
            (Some(seq), _, _) => Some(self.followed.contains(&seq)),
            (None, Some(from), Some(to)) => Some(self.followed.range(from..=to.max(from)).next().is_some()),
            _ => None,
        };
        let rank = match concerned {
            // How far what is durable has come explains little of an event.
            Some(true) if ["checkpoint", "durable"].iter().any(|word| said.starts_with(word)) => BESIDES,
            Some(true) => STORY,
            None if level <= Level::Info => BESIDES,
            _ => return None,
        };
        let mut text = match (number("seq"), number("attempt")) {
            (Some(seq), Some(attempt)) => format!("event {seq}, attempt {attempt}: "),
            (Some(seq), None) => format!("event {seq}: "),
            _ => String::new(),
        };
        text.push_str(if text.is_empty() {
            said
        } else {
            said.strip_prefix("attempt ").unwrap_or(said)
        });
        for (key, value) in fields.iter().filter(|(key, _)| !["seq", "attempt"].contains(key)) {
            let word = match *key {
                "error" | "outcome" | "why" | "reason" => format!(": {}", short(value)),
                "kind" => format!(", {}", value.replace('_', " ")),
                "from" | "to" => format!(" {key} {value}"),
                _ => format!(", {} {value}", key.replace('_', " ")),
            };
            text.push_str(&word);
        }
        Some((rank, text))
    }

    fn followed_in(&self, label: &str) -> Option<u64> {
        number_after(label, "event ").filter(|event| self.followed.contains(event))
    }
}

/// The message of a log record, and its fields: `batch sent seq=7 attempt=1`.
fn fields(message: &str) -> (&str, Vec<(&str, &str)>) {
    let is_key = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let starts: Vec<usize> = message
        .match_indices(' ')
        .map(|(at, _)| at + 1)
        .filter(|at| message[*at..].split_once('=').is_some_and(|(key, _)| is_key(key)))
        .collect();
    let said = starts.first().map_or(message, |first| &message[..first - 1]);
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([message.len()]);
    let pairs = starts
        .iter()
        .zip(ends)
        .filter_map(|(start, end)| message[*start..end].split_once('='));
    (said, pairs.collect())
}

/// The number right behind the first `what` in a text.
fn number_after(text: &str, what: &str) -> Option<u64> {
    let (_, rest) = text.split_once(what)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Simulated time as `12.345678 s`.
fn seconds(at_ns: u64) -> String {
    format!("{}.{:06} s", at_ns / 1_000_000_000, at_ns % 1_000_000_000 / 1_000)
}

/// A span as `9.878 s`.
fn ms(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    // Every error of the driver's begins like this.
    let mut line = line.strip_prefix("Database returned an error: ").unwrap_or(line);
    // What stands in brackets at the end of a long message are details of the driver's.
    if let Some((head, _)) = line.split_once(" (").filter(|_| line.len() > MESSAGE_CHARS_MAX) {
        line = head;
    }
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{} …", line[..end].trim_end()),
        None => line.to_string(),
    }
}

fn host_change(change: HostChange) -> &'static str {
    match change {
        HostChange::Started => "starts",
        HostChange::Exited => "ends",
        HostChange::Killed => "is killed (kill -9)",
        HostChange::PoweredOff => "loses power",
        HostChange::Restarted => "is started again",
        HostChange::Paused => "stands still",
        HostChange::Resumed => "goes on",
        HostChange::Interrupted => "is asked to stop",
        HostChange::DiskReplaced => "is given an empty disk",
    }
}

/// As the protocol names it.
fn write_name(write: WriteKind) -> &'static str {
    match write {
        WriteKind::Simple => "SIMPLE",
        WriteKind::Batch => "BATCH",
        WriteKind::UnloggedBatch => "UNLOGGED_BATCH",
        WriteKind::Counter => "COUNTER",
        WriteKind::BatchLog => "BATCH_LOG",
        WriteKind::Cas => "CAS",
        WriteKind::View => "VIEW",
        WriteKind::Cdc => "CDC",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faults::Class;

    const DB: HostId = HostId(1);
    const SETTLEMENT: HostId = HostId(5);

    fn record(at_ms: u64, host: Option<HostId>, kind: Kind) -> Record {
        Record {
            at_ns: at_ms * 1_000_000,
            ordinal: at_ms,
            host,
            kind,
        }
    }

    fn host(at_ms: u64, host: HostId, name: &str, change: HostChange) -> Record {
        record(
            at_ms,
            Some(host),
            Kind::Host {
                name: name.into(),
                change,
            },
        )
    }

    fn log(at_ms: u64, level: Level, message: &str) -> Record {
        let (target, message) = ("settlement".into(), message.into());
        record(at_ms, Some(SETTLEMENT), Kind::Log { target, level, message })
    }

    fn fired(at_ms: u64, id: u32, class: Class, detail: &str) -> Record {
        let (class, stage, detail) = (class.name(), FaultStage::Fired, detail.into());
        record(
            at_ms,
            None,
            Kind::Fault(FaultRecord {
                id,
                class,
                stage,
                detail,
            }),
        )
    }

    fn cluster(at_ms: u64, kind: ClusterRecord) -> Record {
        record(at_ms, Some(DB), Kind::Cluster(kind))
    }

    fn batch_fault(id: u32, class: Class, event: u64, world: TimeoutWorld) -> Fault {
        let when = When::Batch {
            output_sequence: event,
            attempt: 1,
        };
        Fault {
            id,
            class,
            when,
            action: Action::TimeOutBatch(world),
        }
    }

    fn plan() -> Plan {
        let late = TimeoutWorld::ExecutedLate { after_ms: 9_878 };
        let mut plan = Plan::empty();
        plan.faults = vec![
            batch_fault(0, Class::TimeoutExecutedLate, 7, late),
            batch_fault(1, Class::TimeoutNeverApplied, 99, TimeoutWorld::NeverApplied),
        ];
        plan
    }

    /// A batch that times out, is sent again and is executed late, among much else.
    fn records() -> Vec<Record> {
        let timeout = || ClusterRecord::WriteTimeout {
            write: WriteKind::BatchLog,
            received: 0,
            required: 1,
            consistency: "ONE".into(),
        };
        let forced = ClusterRecord::Other {
            what: "forced".into(),
            detail: "Timeout { write_type: BatchLog }".into(),
        };
        let late = ClusterRecord::ExecutedLate {
            label: "default timestamp 1".into(),
            delay_ms: 9_878,
        };
        let mut records = vec![
            host(0, DB, "db-1", HostChange::Started),
            host(0, SETTLEMENT, "settlement", HostChange::Started),
            log(90, Level::Info, "started from=1"),
        ];
        for seq in 1..40 {
            records.push(log(100 + seq, Level::Debug, &format!("received seq={seq} kind=trade")));
            records.push(log(200 + seq, Level::Debug, &format!("batch sent seq={seq} attempt=1")));
        }
        let seven = "batch of event 7 answered with a write timeout by node 0: ExecutedLate { after_ms: 9878 }";
        let other = "batch of event 99 answered with a write timeout by node 0: NeverApplied";
        records.extend([
            fired(300, 0, Class::TimeoutExecutedLate, seven),
            cluster(300, forced),
            cluster(300, timeout()),
            log(
                301,
                Level::Debug,
                "attempt failed seq=7 attempt=1 error=Database returned an error: too few\nnodes",
            ),
            log(401, Level::Debug, "batch sent seq=7 attempt=2"),
            log(402, Level::Debug, "settled seq=7 attempt=2"),
            fired(500, 1, Class::TimeoutNeverApplied, other),
            cluster(500, timeout()),
            cluster(10_178, late),
        ]);
        records
    }

    fn told(records: &[Record], plan: &Plan, events: &[u64], rows: &[&str]) -> Vec<String> {
        let events = events.iter().copied().collect();
        let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
        timeline(&Story {
            records,
            plan,
            followed: &followed(records, plan, &events, &BTreeSet::new()),
            rows: &rows,
        })
    }

    #[test]
    fn the_story_of_the_event_that_a_fault_struck() {
        let rows = ["user 4, BTC: available is 1.20, expected 1.30"];
        insta::assert_snapshot!("story", told(&records(), &plan(), &[6, 7, 8], &rows).join("\n"));
    }

    #[test]
    fn a_machine_that_was_struck_is_told_where_no_event_was() {
        let mut plan = plan();
        let action = Action::Kill {
            target: faults::plan::Target::Node(0),
            restart_after_ms: 700,
        };
        plan.faults.push(Fault {
            id: 3,
            class: Class::ProcessKill,
            when: When::AtMs(300),
            action,
        });
        let mut records = records();
        records.push(fired(
            20_000,
            3,
            Class::ProcessKill,
            "Node(0) killed, back after 700 ms",
        ));
        records.push(host(20_000, DB, "db-1", HostChange::Killed));
        records.push(log(
            20_100,
            Level::Warn,
            "durable stalled: a node cannot be asked durable=31",
        ));
        records.push(host(20_700, DB, "db-1", HostChange::Restarted));
        insta::assert_snapshot!("machine", told(&records, &plan, &[31], &[]).join("\n"));
    }

    #[test]
    fn a_long_story_is_cut_at_its_end_and_says_so() {
        let mut records = records();
        records.extend((0..30).map(|n| log(11_000 + n, Level::Warn, &format!("stalled seq=7 attempt={n}"))));
        let lines = told(&records, &plan(), &[7], &["row"]);
        assert_eq!(lines.len(), LINES_MAX + 1, "{lines:#?}");
        assert!(lines[LINES_MAX - 1].contains("more like these") && lines[LINES_MAX].contains("in the end  row"));
    }

    /// Every record that there is, in words: no line shows how the code writes it.
    #[test]
    fn nothing_is_printed_as_the_code_has_it() {
        let batch = || "0/1/2".to_string();
        let (holder, target, node, seen_by) = (DB, SETTLEMENT, DB, SETTLEMENT);
        let kinds = [
            ClusterRecord::BatchlogWritten {
                batch: batch(),
                holder,
                entries: 1,
            },
            ClusterRecord::BatchlogReplayed {
                batch: batch(),
                holder,
                age_ms: 60_000,
            },
            ClusterRecord::BatchlogRemoved { batch: batch(), holder },
            ClusterRecord::HintStored { holder, target },
            ClusterRecord::HintDelivered {
                holder,
                target,
                hints: 1,
            },
            ClusterRecord::HintDropped {
                holder,
                target,
                hints: 1,
            },
            ClusterRecord::NodeDown { node, seen_by },
            ClusterRecord::NodeUp { node, seen_by },
            ClusterRecord::WriteFailure {
                write: WriteKind::Batch,
                received: 1,
                required: 2,
                failures: 1,
            },
            ClusterRecord::ReadTimeout {
                received: 1,
                required: 2,
            },
            ClusterRecord::Unavailable { required: 2, alive: 1 },
            ClusterRecord::ReadRepair { replica: DB },
            ClusterRecord::ExecutedLate {
                label: "x".into(),
                delay_ms: 1,
            },
            ClusterRecord::LogLost { bytes: 1 },
            ClusterRecord::LogRecovered { bytes: 1 },
            ClusterRecord::Other {
                what: "forced".into(),
                detail: "Timeout { then: NeverApply }".into(),
            },
            ClusterRecord::Other {
                what: "applied".into(),
                detail: "1 mutations".into(),
            },
        ];
        for kind in kinds {
            let lines = told(&[cluster(1, kind.clone())], &Plan::empty(), &[], &[]).concat();
            assert!(
                !lines.contains(['{', '(', '_']) || lines.contains("(BATCH,"),
                "{kind:?}: {lines}"
            );
        }
        let worlds = [
            TimeoutWorld::NeverApplied,
            TimeoutWorld::AppliedAtOnce,
            TimeoutWorld::AppliedByReplay { after_mutations: 0 },
            TimeoutWorld::AppliedByReplay { after_mutations: 3 },
            TimeoutWorld::ExecutedLate { after_ms: 1_500 },
        ];
        let words = worlds.map(|world| {
            let detail = format!("batch of event 7 answered with a write timeout by node 1: {world:?}");
            fault_words(&batch_fault(0, Class::TimeoutNeverApplied, 7, world), &detail)
        });
        insta::assert_snapshot!("worlds", words.join("\n"));
        assert_eq!(machines_named("Settlement stands still"), "settlement stands still");
        assert_eq!(
            machines_named("Node(2) and node 10, and nodes"),
            "db-3 and db-11, and nodes"
        );
    }

    #[test]
    fn fields_of_a_message() {
        assert_eq!(
            fields("batch sent seq=7 attempt=1"),
            ("batch sent", vec![("seq", "7"), ("attempt", "1")])
        );
        assert_eq!(fields("failed error=a = b c"), ("failed", vec![("error", "a = b c")]));
        assert_eq!(fields("plain words"), ("plain words", vec![]));
    }
}
