//! What was found, as JSON lines between programs and as a table for people.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How a case ended on a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As the real server.
    Ok,
    /// Otherwise, in the way that `DIFFERENCES.md` lists.
    Listed,
    /// Otherwise: what and how.
    Differs(Vec<String>),
    /// Not run, and why.
    NotRun(String),
}

/// One case on one backend.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Its file.
    pub group: String,
    /// Its name.
    pub case: String,
    /// The column.
    pub backend: String,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took, milliseconds of the backend's time.
    pub took_ms: u64,
    /// What was asked and answered.
    pub transcript: Vec<String>,
}

/// The table of all outcomes, the differences in detail, and the closing lines.
#[derive(Debug)]
pub struct Report {
    /// What to print.
    pub text: String,
    /// Whether nothing differs and something ran.
    pub is_good: bool,
}

/// Puts the outcomes of all backends side by side. `backends` are columns of which nothing may have come, and why.
pub fn report(outcomes: &[Outcome], absent: &BTreeMap<String, String>) -> Report {
    let mut columns: Vec<String> = Vec::new();
    let mut cases: Vec<(String, String)> = Vec::new();
    for outcome in outcomes {
        if !columns.contains(&outcome.backend) {
            columns.push(outcome.backend.clone());
        }
        let case = (outcome.group.clone(), outcome.case.clone());
        if !cases.contains(&case) {
            cases.push(case);
        }
    }
    columns.extend(absent.keys().cloned());
    let find = |case: &(String, String), column: &String| {
        let is_it = |o: &&Outcome| o.group == case.0 && o.case == case.1 && o.backend == *column;
        // A case may run twice on a backend, on clusters of different size: what ran counts.
        let ran = outcomes
            .iter()
            .filter(is_it)
            .find(|o| !matches!(o.verdict, Verdict::NotRun(_)));
        ran.or_else(|| outcomes.iter().find(is_it))
    };
    let mut text = String::new();
    table(&mut text, &columns, &cases, &find);
    differences(&mut text, outcomes);
    let is_good = closing(&mut text, &columns, &cases, &find, absent);
    Report { text, is_good }
}

type Find<'a> = dyn Fn(&(String, String), &String) -> Option<&'a Outcome> + 'a;

fn cell(outcome: Option<&Outcome>) -> &'static str {
    match outcome.map(|o| &o.verdict) {
        Some(Verdict::Ok) => "ok",
        Some(Verdict::Listed) => "differs (listed)",
        Some(Verdict::Differs(_)) => "DIFFERS",
        Some(Verdict::NotRun(_)) | None => "-",
    }
}

fn table(text: &mut String, columns: &[String], cases: &[(String, String)], find: &Find<'_>) {
    let width = cases.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0);
    let mut group = "";
    for case in cases {
        if case.0 != group {
            group = &case.0;
            put(text, format_args!("\n{group:<width$}"));
            columns.iter().for_each(|c| put(text, format_args!("  {c:<18}")));
            text.push('\n');
        }
        put(text, format_args!("{:<width$}", case.1));
        columns
            .iter()
            .for_each(|c| put(text, format_args!("  {:<18}", cell(find(case, c)))));
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

fn differences(text: &mut String, outcomes: &[Outcome]) {
    for outcome in outcomes {
        if let Verdict::Differs(lines) = &outcome.verdict {
            put(
                text,
                format_args!("\nDIFFERS  {}: {} [{}]\n", outcome.group, outcome.case, outcome.backend),
            );
            lines.iter().for_each(|l| put(text, format_args!("    {l}\n")));
        }
    }
}

fn closing(
    text: &mut String,
    columns: &[String],
    cases: &[(String, String)],
    find: &Find<'_>,
    absent: &BTreeMap<String, String>,
) -> bool {
    text.push('\n');
    let (mut differ, mut ran) = (0, 0);
    for column in columns {
        if let Some(why) = absent.get(column) {
            put(text, format_args!("{column:<22} not run: {why}\n"));
            continue;
        }
        let mut counts = BTreeMap::<&str, usize>::new();
        let mut reasons = BTreeMap::<&str, usize>::new();
        for case in cases {
            let outcome = find(case, column);
            *counts.entry(cell(outcome)).or_default() += 1;
            if let Some(Verdict::NotRun(why)) = outcome.map(|o| &o.verdict) {
                *reasons.entry(why).or_default() += 1;
            }
        }
        let of = |what: &str| counts.get(what).copied().unwrap_or(0);
        put(
            text,
            format_args!(
                "{column:<22} {} ok, {} differ (listed), {} DIFFER, {} not run",
                of("ok"),
                of("differs (listed)"),
                of("DIFFERS"),
                of("-")
            ),
        );
        let reasons: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
        if !reasons.is_empty() {
            put(text, format_args!(" ({})", reasons.join("; ")));
        }
        text.push('\n');
        differ += of("DIFFERS");
        ran += of("ok") + of("differs (listed)");
    }
    put(text, format_args!("{} cases\n", cases.len()));
    differ == 0 && ran > 0
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _never = text.write_fmt(what);
}
