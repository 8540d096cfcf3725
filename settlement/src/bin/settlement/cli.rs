//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use serde::Serialize;
use settlement::DesignName;

use crate::bench::BenchArgs;

/// Lands every event of the matching engine in the database exactly once.
///
/// Everything it needs to know stands in a TOML file; every value can be overridden by a variable, such as
/// SETTLEMENT_CONTACT_POINTS='["10.0.1.1:9042"]' or SETTLEMENT_DURABLE__SLACK_MS=3000.
///
/// First `migrate`, which creates the keyspace and its tables, then `serve`. A crash at any moment is fine: the next
/// start sends again whatever is not durable.
#[derive(Debug, Parser)]
#[command(name = "settlement", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(short, long, global = true, default_value = "settlement.toml", value_name = "FILE")]
    pub config: PathBuf,

    /// Use another design than the file says: ledger (survives everything within the fault budget) or logged-rmw (what
    /// everyone writes first; loses or doubles effects when a batch that timed out lands late) or sequential-delta (insert,
    /// then add to counters one by one; partial, doubles on retry).
    #[arg(long, global = true, value_name = "NAME")]
    pub design: Option<DesignName>,

    /// Use another keyspace than the file says. Each design has one of its own.
    #[arg(long, global = true, value_name = "NAME")]
    pub keyspace: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Settle until interrupted.
    ///
    /// Waits out a database that is down, a full disk and missing events, and says so in its metrics; ends only where a
    /// person is needed: a fork of the stream, a change of epoch, the wrong keyspace, the WAL of another stream.
    Serve,

    /// Show how far the stream is durable, which nodes answer, and which events are refused.
    ///
    /// Reads the database and touches nothing. The numbers of a running service are at its metrics_addr.
    Status,

    /// Record the decision to pass over one refused event.
    ///
    /// An event whose content contradicts itself or what came before is refused: it stands in dead_letters, and the
    /// checkpoint stays before it. This records that it is to be passed over, for ever; a running service follows
    /// within seconds. An event that is merely late or stalled cannot be skipped.
    Skip {
        /// The event's output sequence, as `settlement status` shows it.
        seq: u64,

        /// Why. Recorded with the decision; it cannot be changed later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },

    /// Send every event from N to the head of the stream again.
    ///
    /// Changes nothing that is right and restores whatever is missing. A service may run beside it. The events come
    /// from the matching engine's replay, so it must still keep them.
    Resettle {
        /// The first event.
        #[arg(long, value_name = "N")]
        from: u64,
    },

    /// Create the keyspace and the tables of the design, or check those that are there.
    ///
    /// Safe to run twice and from two machines at once. Adds what is missing and never alters or drops: a table that
    /// differs is an error.
    Migrate,

    /// Measure how many trades per second the designs settle on this database, side by side.
    ///
    /// Makes its own events and settles them with the code of `serve`, in keyspaces of its own (quench_bench_…), which
    /// it creates and drops; one that is there already is not touched. The designs take turns. Then everything is read
    /// back: the exit code is 0 only if the tables hold what was settled. Says what the processors of settlement and of
    /// the server did, so that it shows whose limit was met.
    Bench(BenchArgs),
}

/// What the command line says over the file.
#[derive(Debug, Serialize)]
pub struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    design: Option<DesignName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyspace: Option<String>,
}

impl Cli {
    /// What the command line says over the file.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            design: self.design,
            keyspace: self.keyspace.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_teaches() {
        let mut command = Cli::command().term_width(100);
        let mut text = command.render_long_help().to_string();
        for name in ["serve", "status", "skip", "resettle", "migrate", "bench"] {
            let sub = command.find_subcommand_mut(name).expect("is there");
            text.push_str(&format!("\n=== {name}\n{}", sub.render_long_help()));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_skip_without_a_reason_and_an_unknown_design_are_refused() {
        let parse = |arguments: &[&str]| Cli::try_parse_from(arguments).expect_err("must be refused").to_string();
        insta::assert_snapshot!(
            [
                parse(&["settlement", "skip", "17"]),
                parse(&["settlement", "serve", "--design", "ledgr"]),
                parse(&["settlement", "resettle"]),
            ]
            .join("\n")
        );
    }
}
