//! `knobs` of a scenario's cluster: which rules of the database that no source decides turn out the other way
//! (`sim_cluster::core::knobs`). Drawn by each seed, unless the scenario says otherwise.
use serde::{Deserialize, Serialize};
use sim_cluster::core::Flavor;
use sim_cluster::core::knobs::{Knob, UnknownKnob, names};
use std::collections::BTreeSet;

/// Where they are drawn, one in so many is turned: what is expected stays the rule, and seeds with several are not rare.
const TURNED_ONE_IN: u64 = 4;

/// What a scenario says of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Knobs {
    /// `"drawn"`: each seed draws.
    #[default]
    Drawn,
    /// Names, with commas between them: these are turned and no others. `"none"`: none is.
    Turned(BTreeSet<Knob>),
}

impl Knobs {
    /// The knobs that are turned in a cluster of this flavour; `below` draws a number below its argument.
    pub fn turned(&self, flavor: Flavor, mut below: impl FnMut(u64) -> u64) -> BTreeSet<Knob> {
        match self {
            Knobs::Turned(knobs) => knobs.clone(),
            Knobs::Drawn => Knob::of(flavor).filter(|_| below(TURNED_ONE_IN) == 0).collect(),
        }
    }

    /// A knob that is named and is not of this flavour.
    pub fn foreign(&self, flavor: Flavor) -> Option<Knob> {
        match self {
            Knobs::Drawn => None,
            Knobs::Turned(knobs) => knobs.iter().copied().find(|knob| knob.flavor() != flavor),
        }
    }
}

/// What a person should know of a seed that did not pass.
pub fn note(turned: &BTreeSet<Knob>) -> Option<String> {
    let names = names(turned);
    (!turned.is_empty()).then(|| {
        format!(
            "of the database's rules that no source decides, these turned out the other way: {names} ([cluster] knobs)"
        )
    })
}

impl TryFrom<String> for Knobs {
    type Error = UnknownKnob;

    fn try_from(text: String) -> Result<Knobs, UnknownKnob> {
        match text.as_str() {
            "drawn" => Ok(Knobs::Drawn),
            "none" => Ok(Knobs::Turned(BTreeSet::new())),
            some => some
                .split(',')
                .map(|name| name.trim().parse())
                .collect::<Result<_, _>>()
                .map(Knobs::Turned),
        }
    }
}

impl From<Knobs> for String {
    fn from(knobs: Knobs) -> String {
        match knobs {
            Knobs::Drawn => "drawn".to_owned(),
            Knobs::Turned(knobs) if knobs.is_empty() => "none".to_owned(),
            Knobs::Turned(knobs) => names(&knobs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scenario_can_say_and_what_it_means() {
        let of = |text: &str| Knobs::try_from(text.to_owned());
        for text in ["drawn", "none", "reset_is_failure", "reset_is_failure, lost_on_waking"] {
            assert_eq!(String::from(of(text).expect(text)), text);
        }
        let error = of("reset_is_failure, soon").expect_err("no such knob").to_string();
        assert!(error.starts_with("no knob is called 'soon'; there are "), "{error}");

        let all = Knobs::Drawn.turned(Flavor::Scylla, |_| 0);
        assert_eq!(all, Knob::of(Flavor::Scylla).collect());
        assert!(all.len() > 5);
        assert!(Knobs::Drawn.turned(Flavor::Scylla, |n| n - 1).is_empty());
        assert_eq!(
            Knobs::Drawn.turned(Flavor::Cassandra, |_| 0),
            BTreeSet::from([Knob::PaxosTruncation])
        );
        assert!(of("none").expect("a word").turned(Flavor::Scylla, |_| 0).is_empty());
        assert_eq!(note(&BTreeSet::new()), None);
        assert!(note(&all).expect("some").contains("reset_is_failure"));
    }
}
