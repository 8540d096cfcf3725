//! What was seen of statements, counted: shares of outcomes and their delays.

use super::Part;
use super::statement::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// All of it was there at the first look after the answer.
    AtOnce,
    /// All of it was there, but not at once.
    Later,
    /// It was not there, and a serial read brought it.
    OnSerialRead,
    /// Some of it, to the end.
    Part,
    /// A counter counted it more than once.
    Twice,
    /// Nothing of it, to the end.
    Never,
    /// No look was answered, to the end.
    Unknown,
}

impl Effect {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Effect::AtOnce => "there at once",
            Effect::Later => "there later",
            Effect::OnSerialRead => "there after a serial read",
            Effect::Part => "there in part",
            Effect::Twice => "counted twice",
            Effect::Never => "never there",
            Effect::Unknown => "not to be seen",
        }
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Its kind.
    pub kind: Kind,
    /// Through which coordinator.
    pub part: Part,
    /// What was answered, in short.
    pub answer: String,
    /// After how many milliseconds.
    pub answer_ms: u64,
    /// What became of it, if it is a write.
    pub effect: Option<Effect>,
    /// How many milliseconds after it was sent it was first seen whole.
    pub effect_ms: Option<u64>,
}

/// Median, and the tenth and ninetieth percentile, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// A tenth took no longer.
    pub p10_ms: u64,
    /// Half took no longer.
    pub median_ms: u64,
    /// Nine tenths took no longer.
    pub p90_ms: u64,
}

impl Delays {
    /// Of nothing there are none.
    pub fn of(mut ms: Vec<u64>) -> Option<Delays> {
        ms.sort_unstable();
        let last = ms.len().checked_sub(1)?;
        // The nearest rank.
        let at = |percent: usize| ms[(last * percent + 50) / 100];
        Some(Delays {
            p10_ms: at(10),
            median_ms: at(50),
            p90_ms: at(90),
        })
    }
}

/// An outcome of statements of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was answered.
    pub answer: String,
    /// What became of it.
    pub effect: Option<Effect>,
    /// Statements that ended so.
    pub count: u64,
    /// Delays of the answers.
    pub answered: Option<Delays>,
    /// Delays of the effect, from the sending.
    pub effective: Option<Delays>,
}

impl Outcome {
    /// For tables.
    pub fn title(&self) -> String {
        match self.effect {
            Some(effect) => format!("{}; {}", self.answer, effect.name()),
            None => self.answer.clone(),
        }
    }
}

/// Statements of one kind through one coordinator in one experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The experiment.
    pub experiment: String,
    /// How often it was done.
    pub injections: u64,
    /// The kind.
    pub kind: Kind,
    /// The coordinator.
    pub part: Part,
    /// How they ended, the most frequent first.
    pub outcomes: Vec<Outcome>,
}

impl Group {
    /// Statements.
    pub fn total(&self) -> u64 {
        self.outcomes.iter().map(|o| o.count).sum()
    }

    /// The outcome of this title.
    pub fn outcome(&self, title: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|o| o.title() == title)
    }
}

/// All groups of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Which server.
    pub server: String,
    /// The groups, in order of experiments, kinds and coordinators.
    pub groups: Vec<Group>,
}

impl Summary {
    /// How many statements there were.
    pub fn statements(&self) -> u64 {
        self.groups.iter().map(Group::total).sum()
    }
}

/// The groups of one experiment.
pub fn count(experiment: &str, injections: u64, seen: &[Observation]) -> Vec<Group> {
    let mut groups = BTreeMap::<(Kind, Part), BTreeMap<(String, Option<Effect>), Vec<&Observation>>>::new();
    for one in seen {
        let group = groups.entry((one.kind, one.part)).or_default();
        group.entry((one.answer.clone(), one.effect)).or_default().push(one);
    }
    let outcome = |((answer, effect), of): ((String, Option<Effect>), Vec<&Observation>)| Outcome {
        answer,
        effect,
        count: of.len() as u64,
        answered: Delays::of(of.iter().map(|o| o.answer_ms).collect()),
        effective: Delays::of(of.iter().filter_map(|o| o.effect_ms).collect()),
    };
    groups
        .into_iter()
        .map(|((kind, part), outcomes)| {
            let mut outcomes: Vec<Outcome> = outcomes.into_iter().map(outcome).collect();
            outcomes.sort_by_key(|o| std::cmp::Reverse(o.count));
            Group {
                experiment: experiment.to_owned(),
                injections,
                kind,
                part,
                outcomes,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        assert_eq!(Delays::of(vec![]), None);
        let delays = Delays::of((1..=11).rev().collect()).expect("eleven of them");
        assert_eq!((delays.p10_ms, delays.median_ms, delays.p90_ms), (2, 6, 10));
    }

    #[test]
    fn statements_are_counted_by_kind_coordinator_answer_and_effect() {
        let one = |part, answer: &str, effect, answer_ms| Observation {
            kind: Kind::Write,
            part,
            answer: answer.into(),
            answer_ms,
            effect: Some(effect),
            effect_ms: (effect != Effect::Never).then_some(answer_ms + 1),
        };
        let seen = [
            one(Part::Other, "ok", Effect::AtOnce, 1),
            one(Part::Other, "ok", Effect::AtOnce, 3),
            one(Part::Other, "late", Effect::Never, 9),
            one(Part::Struck, "ok", Effect::Later, 5),
        ];
        let groups = count("x", 2, &seen);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].total(), 3);
        assert_eq!(groups[0].outcomes[0].count, 2);
        let late = groups[0].outcome("late; never there").expect("it is counted");
        assert_eq!((late.count, late.effective), (1, None));
        let later = groups[1].outcome("ok; there later").expect("it is counted");
        assert_eq!(later.effective.map(|d| d.median_ms), Some(6));
    }
}
