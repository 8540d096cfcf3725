//! The shortest timeline that explains a failure: the faults that struck, what they did to machines and batches, and
//! what settlement said about the events concerned, in simulated time. It chooses and words records; it judges nothing.
use sim_world::trace::{ClusterRecord, FaultStage, HostChange, Kind, Record};
use std::collections::BTreeSet;

/// Longest timeline printed. Nine lines fit beside the T-accounts on one screen; a few more show a restart's end.
pub const LINES_MAX: usize = 14;

/// A line with how much it explains.
struct Line {
    at_ns: u64,
    ordinal: u64,
    /// 0 is kept first.
    rank: u8,
    text: String,
}

/// Lines for `records`, in time order. `events` are the sequences that the violation is about; empty means all.
pub fn timeline(records: &[Record], events: &BTreeSet<u64>) -> Vec<String> {
    let mut lines: Vec<Line> = records.iter().filter_map(|record| line(record, events)).collect();
    lines.sort_by_key(|line| (line.rank, line.ordinal));
    let left_out = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    lines.sort_by_key(|line| line.ordinal);
    let mut texts: Vec<String> = lines
        .iter()
        .map(|l| format!("{:>12}  {}", seconds(l.at_ns), l.text))
        .collect();
    if left_out > 0 {
        texts.push(format!("{:>12}  ({left_out} further records are in the trace)", ""));
    }
    texts
}

/// Simulated time as `12.345678 s`.
fn seconds(at_ns: u64) -> String {
    format!("{}.{:06} s", at_ns / 1_000_000_000, at_ns % 1_000_000_000 / 1_000)
}

fn line(record: &Record, events: &BTreeSet<u64>) -> Option<Line> {
    let (rank, text) = match &record.kind {
        Kind::Fault(fault) => match fault.stage {
            FaultStage::Planned => return None,
            FaultStage::Fired => (
                u8::from(!concerns(&fault.detail, events)),
                format!("fault {} {}: {}", fault.id, fault.class, fault.detail),
            ),
            FaultStage::Bit | FaultStage::Healed => {
                (4, format!("fault {} {}: {}", fault.id, fault.class, fault.detail))
            }
        },
        Kind::Host { name, change } => (2, format!("{name} {}", host_change(*change))),
        Kind::Cluster(cluster) => cluster_line(cluster)?,
        Kind::Log { target, message, .. } => {
            let rank = if concerns(message, events) && !events.is_empty() {
                1
            } else {
                5
            };
            (rank, format!("{target}: {message}"))
        }
        Kind::Note { text } if text.starts_with(faults::bit::METRICS_NOTE) => return None,
        Kind::Note { text } => (if concerns(text, events) { 1 } else { 3 }, text.clone()),
        Kind::Panic { message } => (0, format!("panic: {message}")),
        Kind::Link { from, to, cut, .. } => (
            3,
            format!("link {from} to {to} {}", if *cut { "cut" } else { "healed" }),
        ),
        _ => return None,
    };
    let place = record.host.map_or(String::new(), |host| format!("[{host}] "));
    Some(Line {
        at_ns: record.at_ns,
        ordinal: record.ordinal,
        rank,
        text: format!("{place}{text}"),
    })
}

fn host_change(change: HostChange) -> &'static str {
    match change {
        HostChange::Started => "started",
        HostChange::Exited => "exited",
        HostChange::Killed => "killed (kill -9)",
        HostChange::PoweredOff => "lost power",
        HostChange::Restarted => "restarted",
        HostChange::Paused => "paused",
        HostChange::Resumed => "resumed",
        HostChange::Interrupted => "asked to stop",
        HostChange::DiskReplaced => "was given an empty disk",
    }
}

fn cluster_line(cluster: &ClusterRecord) -> Option<(u8, String)> {
    Some(match cluster {
        ClusterRecord::BatchlogReplayed { batch, age_ms, .. } => {
            (1, format!("batchlog replays {batch}, written {age_ms} ms ago"))
        }
        ClusterRecord::WriteTimeout {
            write,
            received,
            required,
            consistency,
        } => (
            2,
            format!("answers write timeout {write:?} at {consistency}: {received} of {required}"),
        ),
        ClusterRecord::MutationApplied { .. }
        | ClusterRecord::BatchlogRemoved { .. }
        | ClusterRecord::BatchlogWritten { .. } => {
            return None;
        }
        other => (4, format!("{other:?}")),
    })
}

/// Whether a text names one of the events, as `event N`, `seq=N` or `seq: N`.
fn concerns(text: &str, events: &BTreeSet<u64>) -> bool {
    events.is_empty() || numbers(text).any(|number| events.contains(&number))
}

fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_world::trace::{FaultRecord, HostId};

    fn record(ordinal: u64, kind: Kind) -> Record {
        Record {
            at_ns: ordinal * 1_000_000,
            ordinal,
            host: Some(HostId(3)),
            kind,
        }
    }

    #[test]
    fn what_concerns_the_event_is_kept_and_order_is_that_of_time() {
        let fault = |id, event| FaultRecord {
            id,
            class: "timeout".into(),
            stage: FaultStage::Fired,
            detail: format!("batch of event {event}"),
        };
        let mut records: Vec<_> = (0..40)
            .map(|n| {
                record(
                    n,
                    Kind::Log {
                        target: "settlement".into(),
                        level: sim_world::trace::Level::Info,
                        message: format!("seq={n}"),
                    },
                )
            })
            .collect();
        records.push(record(40, Kind::Fault(fault(0, 7))));
        records.push(record(41, Kind::Fault(fault(1, 99))));
        let lines = timeline(&records, &[7].into());
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert!(lines.iter().any(|l| l.contains("seq=7")) && lines.iter().any(|l| l.contains("event 99")));
        assert!(lines[LINES_MAX - 1].contains("event 99") && lines[LINES_MAX].contains("further records"));
        assert!(lines[LINES_MAX - 2].starts_with("  0.040000 s  [host 3] fault 0"));
    }
}
