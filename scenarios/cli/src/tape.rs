//! What became of a tape, as a table: message by message type, and whether what was settled is what the file says. Text
//! and a sum only; the comparison itself is the judge's.
use crate::protocol::{SeedReport, TapeOutcome, TapeType};
use crate::table::{self, counted, thousands};
use comfy_table::{Cell, CellAlignment};
use serde::Serialize;

/// The sum over the seeds of one tape. What the importer made up differs from seed to seed; the lowest one is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TapeTally {
    /// Seeds that came to their end.
    pub seeds: u64,
    /// Seeds in which every execution of the file is one settled trade of equal size and price, and nothing else is.
    pub seeds_equal: u64,
    /// Wall time over all seeds, microseconds.
    pub wall_us: u64,
    /// The seed that `outcome` is about.
    pub seed: u64,
    /// What became of the file in that seed.
    pub outcome: TapeOutcome,
}

impl TapeTally {
    /// Adds a seed that had a tape.
    pub fn add(sum: &mut Option<TapeTally>, report: &SeedReport) {
        let Some(outcome) = &report.tape else { return };
        let sum = sum.get_or_insert_with(|| TapeTally {
            seed: u64::MAX,
            ..TapeTally::default()
        });
        sum.seeds += 1;
        sum.seeds_equal += u64::from(is_equal(report, outcome));
        sum.wall_us += report.cost.wall_us;
        if report.seed <= sum.seed {
            sum.seed = report.seed;
            sum.outcome = outcome.clone();
        }
    }
}

/// Equal at every place, and nothing besides.
fn is_equal(report: &SeedReport, outcome: &TapeOutcome) -> bool {
    let settled = report.counts.get("settled_trades").copied().unwrap_or(0);
    outcome.executions == outcome.settled_equal && outcome.executions == settled
}

/// The table and the lines under it. `sim_time_ms` and `cpu_us` are sums over the seeds.
pub fn of_tally(name: &str, tape: &TapeTally, sim_time_ms: u64, cpu_us: u64) -> String {
    let outcome = &tape.outcome;
    let file = outcome.file.rsplit('/').next().unwrap_or(&outcome.file);
    let mut table = table::new_table();
    table.set_header(["type of message", "messages", "replayed", "trades", "skipped"]);
    for entry in &outcome.types {
        table.add_row(row(&format!("{} {}", entry.number, entry.name), entry, &skipped(entry)));
    }
    let total = |of: fn(&TapeType) -> u64| outcome.types.iter().map(of).sum();
    let sum = TapeType {
        messages: total(|t| t.messages),
        replayed: total(|t| t.replayed),
        trades: total(|t| t.trades),
        ..TapeType::default()
    };
    let left = thousands(total(|t| t.skipped.values().sum()));
    table.add_row(row("all", &sum, &left));
    let equal = if tape.seeds_equal == tape.seeds {
        format!(
            "every message of types 4 and 5 became a trade of equal size and price: {} in the file and in the settled \
             rows, in the same order, in {}",
            thousands(outcome.executions),
            counted(tape.seeds, "seed")
        )
    } else {
        format!(
            "NOT every message of types 4 and 5 became a trade of equal size and price: in {} of {} the settled rows \
             are not the file's {} executions",
            thousands(tape.seeds - tape.seeds_equal),
            counted(tape.seeds, "seed"),
            thousands(outcome.executions)
        )
    };
    let each = |sum: u64| sum / tape.seeds.max(1);
    format!(
        "tape {file} in {name}, {}, seed {}\n\n{table}\n\n{equal}\n{} accepted, {}; {}, {} and {} were made up; {}\n{} of \
         simulated time per seed, {} of wall time, {} of CPU time\n",
        outcome.symbol,
        tape.seed,
        counted(outcome.commands, "command"),
        counted(outcome.events, "event"),
        counted(outcome.deposits, "deposit"),
        counted(outcome.orders_unplaced + outcome.restated, "resting order"),
        counted(outcome.aggressors, "aggressor"),
        if outcome.out_of_order == 0 {
            "every message in order of time".into()
        } else {
            format!(
                "{} out of order of time, replayed in the file's order",
                counted(outcome.out_of_order, "message")
            )
        },
        table::seconds(each(sim_time_ms) * 1_000),
        table::seconds(each(tape.wall_us)),
        table::seconds(each(cpu_us)),
    )
}

fn row(what: &str, entry: &TapeType, skipped: &str) -> Vec<Cell> {
    vec![
        Cell::new(what),
        number(entry.messages),
        number(entry.replayed),
        number(entry.trades),
        Cell::new(skipped),
    ]
}

/// One line per reason, the most frequent first.
fn skipped(entry: &TapeType) -> String {
    let mut reasons: Vec<_> = entry.skipped.iter().collect();
    reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), (*reason).clone()));
    let width = reasons.first().map_or(0, |(_, count)| thousands(**count).len());
    let lines = reasons
        .iter()
        .map(|(reason, count)| format!("{:>width$}  {reason}", thousands(**count)));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        "·".into()
    } else {
        lines.join("\n")
    }
}

fn number(n: u64) -> Cell {
    let text = if n == 0 { "·".to_string() } else { thousands(n) };
    Cell::new(text).set_alignment(CellAlignment::Right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Cost;
    use std::collections::BTreeMap;

    fn report(seed: u64, settled_equal: u64) -> SeedReport {
        let entry = |number, name: &str, [messages, replayed, trades]: [u64; 3], skipped: &[(&str, u64)]| TapeType {
            number,
            name: name.into(),
            messages,
            replayed,
            trades,
            skipped: skipped.iter().map(|(why, n)| ((*why).to_string(), *n)).collect(),
        };
        let outcome = TapeOutcome {
            file: "/data/amzn.csv.gz".into(),
            symbol: "AMZN".into(),
            messages: 18_006,
            types: vec![
                entry(1, "new limit order", [11_022, 11_022, 0], &[]),
                entry(
                    3,
                    "delete",
                    [2_046, 2_000, 0],
                    &[
                        ("names an order that is not open any more", 6),
                        ("names an order that the file neither places nor executes", 40),
                    ],
                ),
                entry(4, "execution of a visible order", [4_938, 4_938, 4_938], &[]),
            ],
            trades: 4_938,
            commands: 21_000,
            events: 30_000 + seed,
            deposits: 1,
            executions: 4_938,
            settled_equal,
            ..TapeOutcome::default()
        };
        SeedReport {
            seed,
            counts: BTreeMap::from([("settled_trades".into(), 4_938)]),
            tape: Some(outcome),
            cost: Cost {
                wall_us: 3_400_000,
                ..Cost::default()
            },
            ..SeedReport::default()
        }
    }

    fn told(reports: &[SeedReport]) -> String {
        let mut sum = None;
        for report in reports {
            TapeTally::add(&mut sum, report);
        }
        let sum = sum.expect("tapes");
        let n = sum.seeds;
        of_tally("everything x ledger", &sum, 125_000 * n, 3_300_000 * n)
    }

    #[test]
    fn a_tape_as_people_read_it() {
        insta::assert_snapshot!("tape", told(&[report(2, 4_938), report(1, 4_938)]));
        let failing = told(&[report(1, 4_938), report(2, 4_937)]);
        assert!(
            failing.contains("NOT every message of types 4 and 5") && failing.contains("in 1 of 2 seeds"),
            "{failing}"
        );
    }

    #[test]
    fn trades_that_the_file_does_not_have_are_not_equal() {
        let mut more = report(1, 4_938);
        more.counts.insert("settled_trades".into(), 4_939);
        assert!(told(&[more]).contains("NOT every message"));
    }

    #[test]
    fn the_lowest_seed_is_shown_whatever_the_order() {
        assert_eq!(
            told(&[report(3, 4_938), report(1, 4_938)]),
            told(&[report(1, 4_938), report(3, 4_938)])
        );
    }
}
