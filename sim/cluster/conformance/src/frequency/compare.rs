//! The counts of a real server and of ours, side by side, and what differs.
//!
//! Every outcome that the real server showed must be one of ours, and none of ours that is more than rare may be one that it
//! did not show. Shares, and the median and the tenth and ninetieth percentile of delays, lie within a factor of two, but for
//! what is too little to tell: see the constants.

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

/// Puts two summaries side by side.
pub fn compare(real: &Summary, ours: &Summary, explained: &[Explained]) -> Comparison {
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
        for title in titles(group, mine) {
            outcomes += 1;
            let found = line(&title, group, mine);
            put(&mut text, &found.text);
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
fn titles(real: &Group, ours: &Group) -> Vec<String> {
    let mut titles: Vec<String> = real.outcomes.iter().map(Outcome::title).collect();
    for outcome in &ours.outcomes {
        if !titles.contains(&outcome.title()) {
            titles.push(outcome.title());
        }
    }
    titles
}

struct Line {
    text: String,
    wrong: Vec<Difference>,
}

fn line(title: &str, real: &Group, ours: &Group) -> Line {
    let (there, here) = (real.outcome(title), ours.outcome(title));
    let shares = (share(there, real), share(here, ours));
    let mut wrong = Vec::new();
    match (there, here) {
        (Some(_), None) => wrong.push(Difference::NeverOurs),
        (None, _) if shares.1 > SHARE_FLOOR => wrong.push(Difference::OnlyOurs),
        _ if far(shares.0, shares.1, SHARE_FLOOR) => wrong.push(Difference::Share),
        _ => {}
    }
    if let (Some(there), Some(here)) = (there, here) {
        let many = there.count.min(here.count) >= DELAYS_FROM;
        // When a look saw what was there at once says nothing but how long a look took.
        let is_late = there.effect == Some(Effect::Later);
        for (what, a, b) in [
            (Difference::Answer, there.answered, here.answered),
            (Difference::Effect, there.effective.filter(|_| is_late), here.effective),
        ] {
            if let (Some(a), Some(b)) = (a, b)
                && many
                && delays_differ(a, b)
            {
                wrong.push(what);
            }
        }
    }
    let text = format!(
        "    {title:<78} {:<38} {}\n",
        cell(there, shares.0),
        cell(here, shares.1)
    );
    Line { text, wrong }
}

fn share(outcome: Option<&Outcome>, group: &Group) -> f64 {
    outcome.map_or(0.0, |o| o.count as f64 / group.total() as f64)
}

fn far(a: f64, b: f64, floor: f64) -> bool {
    let (low, high) = (a.min(b), a.max(b));
    high > low * FACTOR && high - low > floor
}

fn delays_differ(a: Delays, b: Delays) -> bool {
    let far = |a: u64, b: u64| far(a as f64, b as f64, DELAY_FLOOR_MS as f64);
    far(a.median_ms, b.median_ms) || far(a.p10_ms, b.p10_ms) || far(a.p90_ms, b.p90_ms)
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
        compare(&summary("real", real), &summary("ours", ours), &[]).differences
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
        let compared = compare(&real, &ours, &known);
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
        let compared = compare(&real, &ours, &[shares]);
        assert_eq!((compared.differences, compared.explained), (1, 0));
    }
}
