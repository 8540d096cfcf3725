//! Rules of a flavour that no source decides: inferred from code and never seen (`[inf]` in [`super::flavor`]), or not known at
//! all. Each is a knob. Left alone a cluster does what is expected of its flavour; with a knob turned it does what the other
//! server does. Scenarios draw which are turned, seed by seed, so that what passes does so whichever is true; `scylla-sim
//! --knob` turns them by name.

use super::flavor::{Flavor, Rules};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

macro_rules! knobs {
    ($($knob:ident = $field:ident of $flavor:ident, $turned:literal;)*) => {
        /// A rule that can turn out either way; see [`Knob::turned`] for what it does then.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Knob {
            $(#[doc = $turned] $knob,)*
        }

        impl Knob {
            /// All of them.
            pub const ALL: &'static [Knob] = &[$(Knob::$knob),*];

            /// Its name: that of the field of [`Rules`].
            pub fn name(self) -> &'static str {
                match self { $(Knob::$knob => stringify!($field)),* }
            }

            /// The flavour in which it is not decided.
            pub fn flavor(self) -> Flavor {
                match self { $(Knob::$knob => Flavor::$flavor),* }
            }

            /// What that flavour does with the knob turned.
            pub fn turned(self) -> &'static str {
                match self { $(Knob::$knob => $turned),* }
            }

            fn turn(self, rules: &mut Rules) {
                let other = self.flavor().other().rules();
                match self { $(Knob::$knob => rules.$field.clone_from(&other.$field)),* }
            }
        }
    };
}

knobs! {
    ListOrder = list_order_is_timestamp of Scylla, "New elements of lists stand where the coordinator's clock puts them.";
    Resets = reset_is_failure of Scylla, "A reset connection between nodes is silence until the timeout, not a failure at once.";
    SerialBatches = serial_batches of Scylla, "Batches without conditions may be written at SERIAL, which then is QUORUM.";
    SerialReads = serial_read_times_out of Scylla, "A serial read whose Paxos round times out is a ReadTimeout.";
    PaxosTruncation = paxos_minds_truncation of Cassandra, "What was decided before its table was truncated is not applied after it.";
    LateAnswers = late_answers_time_out of Scylla, "Answers that waited for a frozen node until their deadline was over come too late.";
    ReplaceWrites = replace_gets_writes of Scylla, "A node in the place of a lost one gets hints, not writes, until it has joined.";
    LostRequests = lost_on_waking of Scylla, "Some of the requests that waited for a frozen node are never worked on.";
    LostMessages = lost_messages_on_waking_one_in of Scylla, "Some messages of writes to and from a node that goes on are lost.";
    DeafRounds = deaf_rounds_on_waking_one_in of Scylla, "Some Paxos rounds that waited for a frozen node hear no answer.";
    Unsent = unsent_at_strike_percent of Scylla, "Half of what a node was sending when it was killed or frozen has not left it.";
    ExpiredPass = expired_pass_on_waking_percent of Scylla, "Some messages that expired before a frozen node are taken all the same.";
}

impl Knob {
    /// Those of a flavour.
    pub fn of(flavor: Flavor) -> impl Iterator<Item = Knob> {
        Knob::ALL.iter().copied().filter(move |knob| knob.flavor() == flavor)
    }
}

/// The rules of a flavour with these knobs turned. Knobs of the other flavour turn nothing.
pub fn rules(flavor: Flavor, turned: &BTreeSet<Knob>) -> Rules {
    let mut rules = flavor.rules().clone();
    for knob in turned.iter().filter(|knob| knob.flavor() == flavor) {
        knob.turn(&mut rules);
    }
    rules
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no knob has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no knob is called '{0}'; there are {names}", names = names(Knob::ALL))]
pub struct UnknownKnob(String);

/// Their names, for people.
pub fn names<'a>(knobs: impl IntoIterator<Item = &'a Knob>) -> String {
    let names: Vec<&str> = knobs.into_iter().map(|knob| knob.name()).collect();
    names.join(", ")
}

impl FromStr for Knob {
    type Err = UnknownKnob;

    fn from_str(text: &str) -> Result<Knob, UnknownKnob> {
        let named = Knob::ALL.iter().copied().find(|knob| knob.name() == text);
        named.ok_or_else(|| UnknownKnob(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the table of flavours calls undecided, rule by rule.
    fn undecided() -> BTreeSet<String> {
        let table = include_str!("flavor.rs");
        let (_, rules) = table.split_once("pub struct Rules {").expect("the table");
        let (rules, _) = rules.split_once("\n}\n").expect("its end");
        let mut found = BTreeSet::new();
        let mut about = String::new();
        for line in rules.lines().map(str::trim) {
            match line.strip_prefix("pub ").and_then(|l| l.split_once(':')) {
                Some((field, _)) => {
                    if about.contains("[inf]") || about.contains("not known") {
                        found.insert(field.to_owned());
                    }
                    about.clear();
                }
                None => about += line,
            }
        }
        found
    }

    #[test]
    fn every_rule_that_is_not_decided_has_a_knob() {
        let names: BTreeSet<String> = Knob::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names, undecided());
    }

    #[test]
    fn a_turned_knob_changes_its_flavour_and_no_other() {
        for &knob in Knob::ALL {
            let turned = BTreeSet::from([knob]);
            let other = knob.flavor().other();
            assert_ne!(&rules(knob.flavor(), &turned), knob.flavor().rules(), "{knob}");
            assert_eq!(&rules(other, &turned), other.rules(), "{knob}");
            assert_eq!(knob.name().parse(), Ok(knob));
        }
        assert_eq!(&rules(Flavor::Scylla, &BTreeSet::new()), Flavor::Scylla.rules());
        let error = "resets".parse::<Knob>().expect_err("no such knob").to_string();
        assert!(
            error.starts_with("no knob is called 'resets'; there are list_order_is_timestamp, "),
            "{error}"
        );
    }
}
