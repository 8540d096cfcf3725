//! Captures the `tracing` events of simulated programs into the trace, stamped with simulated time and machine.
//!
//! Installed only where a run is to be told, not in ordinary runs. Captured events are annotations: they take no ordinal
//! and do not enter the hash, so that a run has the same hash whether or not it is told. Spans are ignored, above all
//! madsim's own, which would cost every poll of every task.

use crate::task;
use crate::trace::{Kind, Level};
use crate::world::World;
use std::fmt::{Debug, Write};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest, set_default};
use tracing::{Event, Metadata, Subscriber};

/// Captures events of these targets and what is below them (`settlement` also means `settlement::feed`), up to a level,
/// on this thread, until the guard drops.
#[must_use = "events are captured until the guard drops"]
pub fn capture(targets: &'static [&'static str], level: Level) -> DefaultGuard {
    set_default(Capture { targets, level })
}

struct Capture {
    targets: &'static [&'static str],
    level: Level,
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

impl Capture {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let below = |target: &&str| {
            metadata
                .target()
                .strip_prefix(target)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        metadata.is_event() && level_of(metadata) <= self.level && self.targets.iter().any(below)
    }
}

impl Subscriber for Capture {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(world) = World::try_current() else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let kind = Kind::Log {
            target: metadata.target().to_owned(),
            level: level_of(metadata),
            message: text.finish(),
        };
        world.trace().annotate(Some(task::place().host), kind);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message, followed by the other fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(self) -> String {
        self.message + &self.fields
    }

    fn put(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value}")
        } else {
            write!(self.fields, " {}={value}", field.name())
        };
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostId, Seed, WorldConfig};

    fn run(told: bool) -> crate::RunSummary {
        let ((), summary) = World::run(Seed(1), WorldConfig::default(), |world| async move {
            let _guard = told.then(|| capture(&["settlement"], Level::Info));
            let host = world.host("db", [10, 0, 0, 1].into());
            let told = host.spawn(async {
                tracing::info!(target: "settlement", seq = 7, what = "x", "batch timed out");
                tracing::warn!(target: "settlement::feed", "gap");
                tracing::debug!(target: "settlement", "too detailed");
                tracing::error!(target: "settlements", "another target");
            });
            told.await.expect("joined");
        })
        .expect("a run");
        summary
    }

    #[test]
    fn events_are_captured_with_machine_and_time_and_do_not_change_the_hash() {
        let (told, untold) = (run(true), run(false));
        let lines: Vec<_> = told
            .records
            .iter()
            .filter(|record| matches!(record.kind, Kind::Log { .. }))
            .collect();
        let text: Vec<String> = lines.iter().map(|record| format!("{:?}", record.kind)).collect();
        assert_eq!(lines.len(), 2, "{text:?}");
        assert!(
            lines
                .iter()
                .all(|record| record.host == Some(HostId(1)) && record.at_ns > 0)
        );
        assert!(
            matches!(&lines[0].kind, Kind::Log { target, level: Level::Info, message } if target == "settlement" && message == "batch timed out seq=7 what=x")
        );
        assert_eq!((told.trace_hash, told.events), (untold.trace_hash, untold.events));
        assert!(
            !untold
                .records
                .iter()
                .any(|record| matches!(record.kind, Kind::Log { .. }))
        );
    }
}
