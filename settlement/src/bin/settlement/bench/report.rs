//! What a bench says: one table with a column per design, the ratio, and whose limit it was. Text and JSON; it measures
//! nothing.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets};
use hdrhistogram::Histogram;
use serde::Serialize;
use settlement::DesignName;

use super::usage::{Servers, Usage};
use super::verify::Readback;
use super::wire::Bytes;

/// From this share of the machine's processors on, they are what there is too little of.
const BUSY: f64 = 0.9;

/// One design, over all of its rounds.
pub struct Measured {
    /// Which design.
    pub design: DesignName,
    /// Trades settled, those given up left out.
    pub trades: u64,
    /// The time of its rounds together.
    pub elapsed: Duration,
    /// Trades per second of each round.
    pub rounds: Vec<f64>,
    /// From the place in flight to the answer, in microseconds.
    pub latencies: Histogram<u64>,
    /// Requests to the database.
    pub requests: u64,
    /// Bytes on the connections to the database.
    pub bytes: Option<Bytes>,
    /// Attempts that were not acknowledged.
    pub failed_attempts: u64,
    /// Attempts after the first one of an event.
    pub retries: u64,
    /// Events given up.
    pub given_up: u64,
    /// The limit of batches in flight at the end.
    pub in_flight_limit: u64,
    /// The most batches that were in flight.
    pub in_flight_peak: u64,
    /// Processor time.
    pub usage: Usage,
    /// What the tables held in the end.
    pub readback: Option<Readback>,
}

/// A run.
pub struct Report {
    /// The designs, in the order in which they took turns.
    pub designs: Vec<Measured>,
    /// Where the server runs.
    pub servers: Servers,
    /// What it was, for people: nodes, copies, rounds.
    pub setup: String,
}

/// The same in JSON.
#[derive(Serialize)]
struct DesignJson<'a> {
    design: DesignName,
    trades: u64,
    seconds: f64,
    trades_per_s: f64,
    trades_per_s_by_round: &'a [f64],
    p50_ms: f64,
    p99_ms: f64,
    requests_per_trade: f64,
    bytes_sent_per_trade: Option<f64>,
    bytes_received_per_trade: Option<f64>,
    failed_attempts: u64,
    retries: u64,
    given_up: u64,
    in_flight_limit: u64,
    in_flight_peak: u64,
    settlement_cpu_s: f64,
    server_cpu_s: Option<f64>,
    settlement_share: Option<f64>,
    machine_busy: Option<f64>,
    readback: &'a Option<Readback>,
}

impl Measured {
    /// Before the first round.
    pub fn nothing(design: DesignName) -> Self {
        Self {
            design,
            trades: 0,
            elapsed: Duration::ZERO,
            rounds: Vec::new(),
            latencies: super::service::histogram(),
            requests: 0,
            bytes: None,
            failed_attempts: 0,
            retries: 0,
            given_up: 0,
            in_flight_limit: 0,
            in_flight_peak: 0,
            usage: Usage::default(),
            readback: None,
        }
    }

    fn rate(&self) -> f64 {
        per(self.trades as f64, self.elapsed.as_secs_f64())
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1_000.0
    }

    fn of_a_trade(&self, count: u64) -> f64 {
        per(count as f64, self.trades as f64)
    }

    /// Of the processor time that settlement and the server used together.
    fn settlement_share(&self) -> Option<f64> {
        let server = self.usage.servers?.as_secs_f64();
        let own = self.usage.own.as_secs_f64();
        Some(per(own, own + server))
    }

    fn machine_busy(&self) -> Option<f64> {
        let machine = self.usage.machine?;
        let busy = machine.busy.as_secs_f64();
        Some(per(busy, busy + machine.idle.as_secs_f64()))
    }

    fn cores_of(&self, time: Duration) -> f64 {
        per(time.as_secs_f64(), self.elapsed.as_secs_f64())
    }

    fn json(&self) -> DesignJson<'_> {
        DesignJson {
            design: self.design,
            trades: self.trades,
            seconds: self.elapsed.as_secs_f64(),
            trades_per_s: self.rate(),
            trades_per_s_by_round: &self.rounds,
            p50_ms: self.quantile_ms(0.5),
            p99_ms: self.quantile_ms(0.99),
            requests_per_trade: self.of_a_trade(self.requests),
            bytes_sent_per_trade: self.bytes.map(|bytes| self.of_a_trade(bytes.sent)),
            bytes_received_per_trade: self.bytes.map(|bytes| self.of_a_trade(bytes.received)),
            failed_attempts: self.failed_attempts,
            retries: self.retries,
            given_up: self.given_up,
            in_flight_limit: self.in_flight_limit,
            in_flight_peak: self.in_flight_peak,
            settlement_cpu_s: self.usage.own.as_secs_f64(),
            server_cpu_s: self.usage.servers.map(|time| time.as_secs_f64()),
            settlement_share: self.settlement_share(),
            machine_busy: self.machine_busy(),
            readback: &self.readback,
        }
    }

    /// Whose limit it was, in a sentence.
    fn verdict(&self) -> String {
        let design = self.design;
        let own = self.cores_of(self.usage.own);
        let (Some(server), Some(machine), Some(busy)) = (self.usage.servers, self.usage.machine, self.machine_busy())
        else {
            return format!("{design}: settlement used {own:.2} processors; the server's are not known from here");
        };
        let server = self.cores_of(server);
        let others = (self.cores_of(machine.busy) - own - server).max(0.0);
        let used = format!(
            "of {} processors settlement used {own:.2}, the server {server:.2}, everything else {others:.2}",
            machine.cores
        );
        if busy < BUSY {
            let waits = "neither's processors were used up, so it is how long the server takes to answer";
            return format!(
                "{design}: {waits} ({used}; {:.0} in flight at most)",
                self.in_flight_peak
            );
        }
        let whose = if others > own && others > server {
            "the processors are the limit, and other programs had most of them: measure again on a quiet machine"
        } else if server >= own {
            "the server's processors are the limit"
        } else {
            "settlement's processors are the limit"
        };
        format!("{design}: {whose} ({used})")
    }
}

impl Report {
    fn rate_of(&self, design: DesignName) -> Option<&Measured> {
        self.designs.iter().find(|measured| measured.design == design)
    }

    /// How many times as many trades a second the ledger settles as the source's design as it was shipped.
    pub fn ratio(&self) -> Option<f64> {
        let ledger = self.rate_of(DesignName::Ledger)?.rate();
        let sequential = self.rate_of(DesignName::SequentialDelta)?.rate();
        (sequential > 0.0).then(|| ledger / sequential)
    }

    /// The ratio of each pair of rounds that stood beside each other.
    fn ratios(&self) -> Vec<f64> {
        let pair = (
            self.rate_of(DesignName::Ledger),
            self.rate_of(DesignName::SequentialDelta),
        );
        let (Some(ledger), Some(sequential)) = pair else {
            return Vec::new();
        };
        let rounds = ledger.rounds.iter().zip(&sequential.rounds);
        rounds.map(|(ledger, sequential)| per(*ledger, *sequential)).collect()
    }

    /// What is wrong with the tables of the designs, in lines.
    pub fn differences(&self) -> Vec<String> {
        let of = |measured: &Measured| {
            let found = measured.readback.as_ref().map(|readback| readback.differences.clone());
            let design = measured.design;
            found
                .unwrap_or_default()
                .into_iter()
                .map(move |text| format!("{design}: {text}"))
        };
        self.designs.iter().flat_map(of).collect()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.setup, self.table());
        if let Servers::Unknown(why) = &self.servers {
            let _ = writeln!(text, "\nCPU of the server: unknown: {why}");
        }
        text.push('\n');
        for measured in &self.designs {
            let rounds: Vec<String> = measured
                .rounds
                .iter()
                .map(|rate| thousands(rate.round() as u64))
                .collect();
            let _ = writeln!(
                text,
                "by round, {}: {} trades per second",
                measured.design,
                rounds.join(" ")
            );
        }
        for measured in &self.designs {
            let _ = writeln!(text, "whose limit, {}", measured.verdict());
        }
        for measured in &self.designs {
            if let Some(readback) = &measured.readback {
                let _ = writeln!(
                    text,
                    "read back, {}: {} trades, {} accounts as they must be, balances sum to {}",
                    measured.design,
                    thousands(readback.trades),
                    thousands(readback.accounts),
                    readback.balance_sum
                );
            }
        }
        if let Some(ratio) = self.ratio() {
            let rounds: Vec<String> = self.ratios().iter().map(|ratio| format!("{ratio:.1}")).collect();
            let _ = writeln!(
                text,
                "\nledger : sequential-delta = {ratio:.1} in settled trades per second (by round: {})",
                rounds.join(", ")
            );
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "version": 1,
            "setup": self.setup,
            "designs": self.designs.iter().map(Measured::json).collect::<Vec<_>>(),
            "ratio": self.ratio(),
            "ratio_by_round": self.ratios(),
            "server_cpu_unknown": match &self.servers {
                Servers::Known(_) => None,
                Servers::Unknown(why) => Some(why),
            },
            "limits": self.designs.iter().map(Measured::verdict).collect::<Vec<_>>(),
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        // As wide as it needs to be: files and logs have no width.
        table
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_style(TableComponent::HeaderLines, '─')
            .set_style(TableComponent::MiddleHeaderIntersections, '─');
        let names = self.designs.iter().map(|measured| measured.design.to_string());
        table.set_header(std::iter::once("measure".to_owned()).chain(names));
        for (measure, of) in MEASURES {
            let mut row = vec![Cell::new(measure)];
            let values = self.designs.iter().map(of);
            row.extend(values.map(|value| Cell::new(value).set_alignment(CellAlignment::Right)));
            table.add_row(row);
        }
        table
    }
}

type Measure = (&'static str, fn(&Measured) -> String);

const MEASURES: [Measure; 17] = [
    ("trades settled", |m| thousands(m.trades)),
    ("trades per second", |m| thousands(m.rate().round() as u64)),
    ("p50 of one trade, ms", |m| format!("{:.1}", m.quantile_ms(0.5))),
    ("p99 of one trade, ms", |m| format!("{:.1}", m.quantile_ms(0.99))),
    ("database requests per trade", |m| {
        format!("{:.2}", m.of_a_trade(m.requests))
    }),
    ("bytes sent per trade", |m| bytes(m, |bytes| bytes.sent)),
    ("bytes received per trade", |m| bytes(m, |bytes| bytes.received)),
    ("in flight, most", |m| thousands(m.in_flight_peak)),
    ("in flight, limit at the end", |m| thousands(m.in_flight_limit)),
    ("failed attempts", |m| thousands(m.failed_attempts)),
    ("retries", |m| thousands(m.retries)),
    ("given up", |m| thousands(m.given_up)),
    ("CPU of settlement, s", |m| format!("{:.2}", m.usage.own.as_secs_f64())),
    ("  of which per trade, us", |m| {
        format!("{:.0}", per(m.usage.own.as_secs_f64() * 1e6, m.trades as f64))
    }),
    ("CPU of the server, s", |m| {
        known(m.usage.servers.map(|time| format!("{:.2}", time.as_secs_f64())))
    }),
    ("settlement's share of both", |m| {
        known(m.settlement_share().map(|share| format!("{:.0}%", share * 100.0)))
    }),
    ("this machine's processors busy", |m| {
        known(m.machine_busy().map(|share| format!("{:.0}%", share * 100.0)))
    }),
];

fn known(text: Option<String>) -> String {
    text.unwrap_or_else(|| "unknown".to_owned())
}

fn bytes(measured: &Measured, of: fn(&Bytes) -> u64) -> String {
    let text = measured.bytes.as_ref().map(|bytes| {
        let of_a_trade = measured.of_a_trade(of(bytes));
        thousands(of_a_trade.round() as u64)
    });
    known(text)
}

fn per(amount: f64, of: f64) -> f64 {
    if of > 0.0 { amount / of } else { 0.0 }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::usage::Machine;

    /// `trades` in ten seconds on two processors, of which so many seconds were used by settlement, the server, others.
    fn measured(design: DesignName, trades: u64, (own, server, others): (u64, u64, u64)) -> Measured {
        let seconds = Duration::from_secs;
        let mut measured = Measured {
            trades,
            elapsed: seconds(10),
            rounds: vec![trades as f64 / 10.0; 2],
            requests: trades,
            bytes: Some(Bytes {
                sent: trades * 2_640,
                received: trades * 13,
            }),
            in_flight_limit: 96,
            in_flight_peak: 128,
            usage: Usage {
                own: seconds(own),
                servers: Some(seconds(server)),
                machine: Some(Machine {
                    busy: seconds(own + server + others),
                    idle: seconds(20 - own - server - others),
                    cores: 2,
                }),
            },
            readback: Some(Readback {
                trades,
                accounts: 17,
                balance_sum: 4_000,
                differences: Vec::new(),
            }),
            ..Measured::nothing(design)
        };
        for ms in 1..=100 {
            measured.latencies.saturating_record(ms * 1_000);
        }
        measured
    }

    fn report(designs: Vec<Measured>) -> Report {
        Report {
            designs,
            servers: Servers::Known(vec![7]),
            setup: "1 node, 1 copy".to_owned(),
        }
    }

    #[test]
    fn the_report_says_the_ratio_and_whose_limit_it_was() {
        let mut unknown = measured(DesignName::LoggedRmw, 5_000, (1, 9, 2));
        unknown.usage.servers = None;
        unknown.bytes = None;
        let report = report(vec![
            measured(DesignName::Ledger, 40_000, (2, 16, 1)),
            unknown,
            measured(DesignName::SequentialDelta, 4_000, (3, 8, 1)),
        ]);
        assert_eq!(report.ratio(), Some(10.0));
        insta::assert_snapshot!("report", report.text());
        insta::assert_snapshot!("json", format!("{:#}", report.json()));
    }

    #[test]
    fn the_limit_is_that_of_whoever_used_most_of_what_was_used_up() {
        let verdict = |used| measured(DesignName::Ledger, 10, used).verdict();
        for (used, part) in [
            ((2, 16, 1), "the server's processors are the limit"),
            ((16, 2, 1), "settlement's processors are the limit"),
            ((2, 3, 14), "other programs had most of them"),
            ((2, 8, 1), "how long the server takes to answer"),
        ] {
            assert!(verdict(used).contains(part), "{used:?}: {}", verdict(used));
        }
    }

    #[test]
    fn a_difference_of_any_design_is_told_with_its_name() {
        let mut wrong = measured(DesignName::Ledger, 10, (1, 1, 1));
        wrong
            .readback
            .as_mut()
            .expect("it was read")
            .differences
            .push("trades: 9, and must be 10".to_owned());
        let report = report(vec![wrong, measured(DesignName::SequentialDelta, 10, (1, 1, 1))]);
        assert_eq!(report.differences(), ["ledger: trades: 9, and must be 10"]);
    }
}
