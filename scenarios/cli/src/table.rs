//! The one table at the end of a run, and the lines under it. Text only: it decides nothing.
use crate::tally::{FaultTally, HUNG_MAX, Tally};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableComponent, presets};

/// The table: a row per scenario and design.
pub fn of_tallies(tallies: &[Tally]) -> String {
    let mut table = new_table();
    table.set_header([
        "scenario",
        "design",
        "seeds",
        "pass",
        "safety",
        "live",
        "incon",
        "hung",
        "error",
        "fault: planned, fired, bit",
        "cpu",
    ]);
    for tally in tallies {
        let numbers = [
            tally.seeds,
            tally.pass,
            tally.safety + tally.non_determinism,
            tally.liveness,
            tally.inconclusive,
            tally.hung,
            tally.error,
        ];
        let mut row = vec![Cell::new(&tally.scenario), Cell::new(&tally.design)];
        row.extend(numbers.iter().map(|n| number(*n)));
        row.push(Cell::new(fault_lines(tally)));
        row.push(Cell::new(seconds(tally.cpu_us)).set_alignment(CellAlignment::Right));
        table.add_row(row);
    }
    table.to_string()
}

/// A table in the style of all tables here.
pub fn new_table() -> Table {
    let mut table = Table::new();
    // As wide as it needs to be: a cut name cannot be pasted, and files and CI logs have no width.
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─');
    table
}

/// A count; zero is a dot, so that the eye finds the others.
fn number(n: u64) -> Cell {
    let text = if n == 0 { "·".to_string() } else { thousands(n) };
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn fault_lines(tally: &Tally) -> String {
    let width = tally.faults.keys().map(String::len).max().unwrap_or(0);
    let line = |(class, sum): (&String, &FaultTally)| {
        let share = |n| percent(n, tally.seeds);
        format!(
            "{class:<width$} {:>4} {:>4} {:>4}",
            share(sum.planned),
            share(sum.fired),
            share(sum.bit)
        )
    };
    tally.faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What the table cannot say: causes, classes that never bit, too much undecided, what the first seed noted.
pub fn remarks(tallies: &[Tally]) -> Vec<String> {
    let mut lines = Vec::new();
    for tally in tallies {
        let name = format!("{} x {}", tally.scenario, tally.design);
        if tally.failing() > 0 {
            let causes = tally.seeds_with;
            let named = [
                ("lost", causes.lost),
                ("doubled", causes.doubled),
                ("clobbered", causes.clobbered),
                ("partial", causes.partial),
            ];
            let named: Vec<_> = named
                .iter()
                .filter(|(_, n)| *n > 0)
                .map(|(what, n)| format!("{what} in {}", thousands(*n)))
                .collect();
            let why = if named.is_empty() {
                String::new()
            } else {
                format!(": {}", named.join(", "))
            };
            let (failing, seeds) = (thousands(tally.failing()), counted(tally.seeds, "seed"));
            lines.push(format!(
                "{name}: {failing} of {seeds} fail ({}){why}",
                percent(tally.failing(), tally.seeds)
            ));
        }
        if tally.hung >= HUNG_MAX {
            lines.push(format!(
                "{name}: given up after {}, because {} hung",
                counted(tally.seeds, "seed"),
                tally.hung
            ));
        }
        if tally.too_inconclusive() {
            let share = percent(tally.inconclusive, tally.seeds);
            lines.push(format!(
                "{name}: {share} inconclusive, tolerated are {}%",
                tally.inconclusive_max_percent
            ));
        }
        for class in tally.never_bit() {
            let seeds = counted(tally.seeds, "seed");
            lines.push(format!(
                "{name}: {class} never changed an outcome in {seeds}, so nothing is shown about it"
            ));
        }
        lines.extend(tally.notes.iter().map(|note| format!("{name}: {note}")));
    }
    lines
}

/// A share in whole percent, never rounded down to nothing or up to everything.
pub fn percent(part: u64, whole: u64) -> String {
    match (part, whole) {
        (0, _) | (_, 0) => "0%".into(),
        (part, whole) if part == whole => "100%".into(),
        (part, whole) => format!("{}%", (part * 100 / whole).max(1)),
    }
}

/// A number with commas.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 seed`, `2 seeds`.
pub fn counted(n: u64, what: &str) -> String {
    format!("{} {what}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// Seconds with one decimal.
pub fn seconds(us: u64) -> String {
    format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Causes;
    use std::collections::BTreeMap;

    /// Two rows: one that passes, one that loses money.
    pub fn two() -> Vec<Tally> {
        let fault = |planned, fired, bit| FaultTally { planned, fired, bit };
        vec![
            Tally {
                scenario: "sequence-gap".into(),
                design: "ledger".into(),
                seeds: 200,
                pass: 199,
                inconclusive: 1,
                faults: BTreeMap::from([
                    ("sequence-gap".into(), fault(200, 198, 150)),
                    ("tail-loss".into(), fault(90, 90, 1)),
                ]),
                cpu_us: 2_345_678,
                inconclusive_max_percent: 0,
                ..Tally::default()
            },
            Tally {
                scenario: "mid-batch-timeout".into(),
                design: "logged-rmw".into(),
                seeds: 1_200,
                pass: 1_159,
                safety: 40,
                hung: 1,
                seeds_with: Causes {
                    lost: 30,
                    doubled: 12,
                    ..Causes::default()
                },
                faults: BTreeMap::from([("timeout-never-applied".into(), fault(1_000, 999, 0))]),
                cpu_us: 12_000_000,
                inconclusive_max_percent: 5,
                notes: vec!["the tape has 6,928 executions".into()],
                ..Tally::default()
            },
        ]
    }

    #[test]
    fn the_table_of_a_run() {
        insta::assert_snapshot!("table", of_tallies(&two()));
        insta::assert_snapshot!("remarks", remarks(&two()).join("\n"));
    }

    #[test]
    fn shares_and_numbers_are_readable() {
        assert_eq!(percent(1, 1_000), "1%");
        assert_eq!(percent(999, 1_000), "99%");
        assert_eq!(percent(0, 0), "0%");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(999), "999");
        assert_eq!(seconds(1_250_000), "1.2 s");
        assert_eq!(
            (counted(1, "seed").as_str(), counted(1_000, "seed").as_str()),
            ("1 seed", "1,000 seeds")
        );
    }
}
