//! The counts of a real server and of ours, side by side, and what differs.
//!
//! A real server does not do the same twice: two runs of it, compared with each other as ours is with one of them, differ in
//! dozens of outcomes. So ours is compared with all runs that there are. Every outcome that any of them showed must be one of
//! ours, and none of ours that is more than rare may be one that none of them showed. Shares, and the median and the tenth and
//! ninetieth percentile of delays, lie within a factor of two of what the runs span, but for what is too little to tell: see
//! the constants.

use super::Explained;
use super::summary::{Delays, Effect, Group, Outcome, Summary};
use serde::Deserialize;
use std::fmt::Write;

/// Shares and delays may differ by this factor.
const FACTOR: f64 = 2.0;
/// Shares that differ by no more than this are not told apart: ten injections do not, and where in a second a strike falls
/// decides as much.
const SHARE_FLOOR: f64 = 0.03;
/// Delays that differ by no more are those of machines, links and looks (a look pauses up to 500 ms), not of databases,
/// whose timeouts and periods are seconds.
const DELAY_FLOOR_MS: u64 = 1000;
/// Delays of fewer statements are not compared: they may be those of one injection.
const DELAYS_FROM: u64 = 10;

/// An outcome of fewer statements than this share, that one run of the real server showed and no other, is chance: there is
/// no telling whether it would ever show it again.
const CHANCE: f64 = 0.01;

/// In what an outcome can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// The real server showed it, ours never does.
    NeverOurs,
    /// Ours shows it, more than rarely, and the real server never did.
    OnlyOurs,
    /// How often.
    Share,
    /// After how long it was answered.
    Answer,
    /// After how long it was there.
    Effect,
}

impl Difference {
    fn name(self) -> &'static str {
        match self {
            Difference::NeverOurs => "ours never shows it",
            Difference::OnlyOurs => "the real server never showed it",
            Difference::Share => "shares",
            Difference::Answer => "delay of the answer",
            Difference::Effect => "delay of the effect",
        }
    }
}

/// What the comparison says.
#[derive(Debug)]
pub struct Comparison {
    /// To print.
    pub text: String,
    /// Differences that are not explained.
    pub differences: usize,
    /// Differences that are.
    pub explained: usize,
    /// Outcomes that were compared.
    pub outcomes: usize,
    /// Statements that the real server was asked, and that ours was.
    pub statements: (u64, u64),
    /// Explanations that explained nothing.
    pub idle: Vec<String>,
}

/// Puts runs of a real server and ours side by side; the first of the runs is shown.
pub fn compare(real: &Summary, more: &[Summary], ours: &Summary, explained: &[Explained]) -> Comparison {
    let mut used = vec![false; explained.len()];
    let mut text = String::new();
    let (mut differences, mut known_ones, mut outcomes) = (0, 0, 0);
    for group in &real.groups {
        put(
            &mut text,
            &format!("\n{}: {}, {}\n", group.experiment, group.kind.name(), group.part.name()),
        );
        let same = |g: &&Group| g.experiment == group.experiment && g.kind == group.kind && g.part == group.part;
        let Some(mine) = ours.groups.iter().find(same) else {
            put(&mut text, "    DIFFERS: not measured on ours\n");
            differences += 1;
            continue;
        };
        put(
            &mut text,
            &format!(
                "    {:<78} {:<38} {}\n",
                "",
                format!("{}, {} of {}", real.server, group.total(), group.injections),
                format_args!("{}, {} of {}", ours.server, mine.total(), mine.injections)
            ),
        );
        let others = more.iter().flat_map(|run| run.groups.iter().find(same));
        let runs: Vec<&Group> = std::iter::once(group).chain(others).collect();
        for title in titles(&runs, mine) {
            outcomes += 1;
            let found = line(&title, &runs, mine);
            put(&mut text, &found.text);
            if found.is_chance {
                known_ones += 1;
                put(
                    &mut text,
                    "        explained: ours never shows it: nor did any other run of the real server\n",
                );
            }
            for wrong in found.wrong {
                let known = explained.iter().position(|e| e.explains(group, &title, wrong));
                match known {
                    Some(which) => {
                        used[which] = true;
                        known_ones += 1;
                        put(
                            &mut text,
                            &format!("        explained: {}: {}\n", wrong.name(), explained[which].why),
                        );
                    }
                    None => {
                        differences += 1;
                        put(&mut text, &format!("        DIFFERS: {}\n", wrong.name()));
                    }
                }
            }
        }
    }
    let unused = explained.iter().zip(&used).filter(|(_, used)| !**used);
    Comparison {
        text,
        differences,
        explained: known_ones,
        outcomes,
        statements: (real.statements(), ours.statements()),
        idle: unused.map(|(e, _)| e.line.clone()).collect(),
    }
}

impl Explained {
    fn explains(&self, group: &Group, title: &str, what: Difference) -> bool {
        self.what.contains(&what)
            && self.experiment.as_ref().is_none_or(|e| *e == group.experiment)
            && self.kind.as_ref().is_none_or(|k| k == group.kind.name())
            && title.contains(&self.line)
    }
}

/// The titles of all outcomes, those of the real server first.
fn titles(runs: &[&Group], ours: &Group) -> Vec<String> {
    let mut titles: Vec<String> = Vec::new();
    for outcome in runs.iter().chain([&ours]).flat_map(|group| &group.outcomes) {
        if !titles.contains(&outcome.title()) {
            titles.push(outcome.title());
        }
    }
    titles
}

struct Line {
    text: String,
    wrong: Vec<Difference>,
    /// Ours does not show it, and one run of the real server alone did, seldom (`CHANCE`).
    is_chance: bool,
}

fn line(title: &str, runs: &[&Group], ours: &Group) -> Line {
    let (there, here) = (runs.iter().map(|run| run.outcome(title)), ours.outcome(title));
    let shares: Vec<f64> = there.clone().zip(runs).map(|(o, run)| share(o, run)).collect();
    let mine = share(here, ours);
    let seen: Vec<&Outcome> = there.flatten().collect();
    let (mut wrong, mut is_chance) = (Vec::new(), false);
    match (&seen[..], here) {
        ([_], None) if runs.len() > 1 && shares.iter().all(|s| *s < CHANCE) => is_chance = true,
        ([_, ..], None) => wrong.push(Difference::NeverOurs),
        ([], _) if mine > SHARE_FLOOR => wrong.push(Difference::OnlyOurs),
        _ if is_outside(mine, shares.iter().copied(), SHARE_FLOOR) => wrong.push(Difference::Share),
        _ => {}
    }
    if let Some(here) = here.filter(|o| o.count >= DELAYS_FROM) {
        let there = seen.iter().filter(|o| o.count >= DELAYS_FROM);
        let answered: Vec<Delays> = there.clone().filter_map(|o| o.answered).collect();
        // When a look saw what was there at once says nothing but how long a look took.
        let late = there.filter(|o| o.effect == Some(Effect::Later));
        let effective: Vec<Delays> = late.filter_map(|o| o.effective).collect();
        for (what, theirs, mine) in [
            (Difference::Answer, answered, here.answered),
            (Difference::Effect, effective, here.effective),
        ] {
            if mine.is_some_and(|mine| delays_differ(&theirs, mine)) {
                wrong.push(what);
            }
        }
    }
    let text = format!(
        "    {title:<78} {:<38} {}\n",
        cell(runs[0].outcome(title), shares[0]),
        cell(here, mine)
    );
    Line { text, wrong, is_chance }
}

fn share(outcome: Option<&Outcome>, group: &Group) -> f64 {
    outcome.map_or(0.0, |o| o.count as f64 / group.total() as f64)
}

/// Whether a value lies further from what others span than it may.
fn is_outside(value: f64, others: impl Iterator<Item = f64> + Clone, floor: f64) -> bool {
    let low = others.clone().fold(f64::INFINITY, f64::min);
    let high = others.fold(f64::NEG_INFINITY, f64::max);
    value > high * FACTOR && value - high > floor || value * FACTOR < low && low - value > floor
}

fn delays_differ(runs: &[Delays], ours: Delays) -> bool {
    let percentiles: [fn(&Delays) -> u64; 3] = [|d| d.p10_ms, |d| d.median_ms, |d| d.p90_ms];
    !runs.is_empty()
        && percentiles.iter().any(|of| {
            let theirs = runs.iter().map(|d| of(d) as f64);
            is_outside(of(&ours) as f64, theirs, DELAY_FLOOR_MS as f64)
        })
}

fn cell(outcome: Option<&Outcome>, share: f64) -> String {
    let Some(outcome) = outcome else { return "-".into() };
    let mut text = format!("{:5.1} %", share * 100.0);
    let delays = |d: Delays| format!(" {} ({}-{}) ms", d.median_ms, d.p10_ms, d.p90_ms);
    if let Some(answered) = outcome.answered {
        text += &delays(answered);
    }
    let is_late = outcome.effect == Some(Effect::Later);
    if let Some(effective) = outcome.effective.filter(|_| is_late) {
        text += &format!(", there{}", delays(effective));
    }
    text
}

fn put(text: &mut String, what: &str) {
    // Writing to a string does not fail.
    let _never = text.write_str(what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frequency::Part;
    use crate::frequency::statement::Kind;

    fn summary(server: &str, outcomes: &[(&str, u64, u64)]) -> Summary {
        let outcome = |(answer, count, ms): &(&str, u64, u64)| Outcome {
            answer: (*answer).into(),
            effect: Some(Effect::AtOnce),
            count: *count,
            answered: Delays::of(vec![*ms; *count as usize]),
            effective: None,
        };
        Summary {
            server: server.into(),
            groups: vec![Group {
                experiment: "x".into(),
                injections: 10,
                kind: Kind::Write,
                part: Part::Other,
                outcomes: outcomes.iter().map(outcome).collect(),
            }],
        }
    }

    fn differences(real: &[(&str, u64, u64)], ours: &[(&str, u64, u64)]) -> usize {
        compare(&summary("real", real), &[], &summary("ours", ours), &[]).differences
    }

    #[test]
    fn what_the_real_server_showed_must_be_shown_however_rare() {
        assert_eq!(differences(&[("a", 999, 1), ("b", 1, 1)], &[("a", 100, 1)]), 1);
        assert_eq!(
            differences(&[("a", 999, 1), ("b", 1, 1)], &[("a", 100, 1), ("b", 1, 1)]),
            0
        );
    }

    #[test]
    fn what_it_never_showed_may_only_be_rare() {
        assert_eq!(differences(&[("a", 100, 1)], &[("a", 99, 1), ("b", 1, 1)]), 0);
        assert_eq!(differences(&[("a", 100, 1)], &[("a", 90, 1), ("b", 10, 1)]), 1);
    }

    #[test]
    fn shares_and_delays_lie_within_a_factor_of_two() {
        assert_eq!(
            differences(&[("a", 80, 1), ("b", 20, 1)], &[("a", 65, 1), ("b", 35, 1)]),
            0
        );
        assert_eq!(
            differences(&[("a", 80, 1), ("b", 20, 1)], &[("a", 55, 1), ("b", 45, 1)]),
            1
        );
        assert_eq!(differences(&[("a", 100, 2000)], &[("a", 100, 3900)]), 0);
        assert_eq!(differences(&[("a", 100, 2000)], &[("a", 100, 4100)]), 1);
        // Milliseconds are the machine's.
        assert_eq!(differences(&[("a", 100, 2)], &[("a", 100, 200)]), 0);
    }

    #[test]
    fn ours_lies_within_a_factor_of_two_of_what_the_runs_span() {
        let runs = |a: &[(&str, u64, u64)], b: &[(&str, u64, u64)], ours: &[(&str, u64, u64)]| {
            let compared = compare(&summary("real", a), &[summary("real", b)], &summary("ours", ours), &[]);
            (compared.differences, compared.explained)
        };
        let (few, many) = ([("a", 95, 1), ("b", 5, 1)], [("a", 60, 1), ("b", 40, 1)]);
        assert_eq!(runs(&few, &many, &[("a", 85, 1), ("b", 15, 1)]), (0, 0), "between them");
        assert_eq!(
            runs(&few, &many, &[("a", 15, 1), ("b", 85, 1)]),
            (2, 0),
            "far from both"
        );
        assert_eq!(runs(&[("a", 99, 100)], &[("a", 99, 9000)], &[("a", 99, 4000)]), (0, 0));
        assert_eq!(
            runs(&[("a", 99, 100)], &[("a", 99, 9000)], &[("a", 99, 20_000)]),
            (1, 0)
        );
        // What one of them showed must be shown, but for what it showed by chance.
        assert_eq!(runs(&few, &[("a", 100, 1)], &[("a", 100, 1)]), (1, 0));
        assert_eq!(
            runs(&[("a", 999, 1), ("b", 1, 1)], &[("a", 100, 1)], &[("a", 100, 1)]),
            (0, 1)
        );
        assert_eq!(
            runs(
                &[("a", 999, 1), ("b", 1, 1)],
                &[("a", 999, 1), ("b", 1, 1)],
                &[("a", 100, 1)]
            ),
            (1, 0)
        );
    }

    #[test]
    fn what_is_explained_is_not_counted_and_an_idle_explanation_is_told() {
        let why = |line: &str, what: Difference| Explained {
            experiment: None,
            kind: None,
            line: line.into(),
            what: vec![what],
            why: "so".into(),
        };
        let (real, ours) = (
            summary("real", &[("first", 100, 1)]),
            summary("ours", &[("second", 100, 1)]),
        );
        let known = [
            why("first", Difference::NeverOurs),
            why("second", Difference::OnlyOurs),
            why("third", Difference::Share),
        ];
        let compared = compare(&real, &[], &ours, &known);
        assert_eq!((compared.differences, compared.explained), (0, 2));
        assert_eq!(compared.idle, ["third"]);
        assert_eq!(compared.statements, (100, 100));
    }

    #[test]
    fn an_explanation_excuses_only_the_difference_that_it_names() {
        let shares = Explained {
            experiment: None,
            kind: None,
            line: "a".into(),
            what: vec![Difference::Share],
            why: "so".into(),
        };
        let (real, ours) = (
            summary("real", &[("a", 100, 2000)]),
            summary("ours", &[("a", 100, 9000)]),
        );
        let compared = compare(&real, &[], &ours, &[shares]);
        assert_eq!((compared.differences, compared.explained), (1, 0));
    }
}
