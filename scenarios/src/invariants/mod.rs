//! The invariants, one checker per file. Each says what it verifies and what it does not, reads [`Evidence`] and
//! returns what it found wrong. A checker repairs nothing and computes no expectation of its own: those are the oracle's.
//!
//! A new invariant is a file here and one line in [`ALL`].
pub mod absence;
mod agreement;
mod bounds;
mod conservation;
mod dead_letters;
mod denormalised;
mod durability;
mod exactly_once;
mod idempotence;
mod liveness;
mod metrics;
mod orders;
mod ranges;
mod reads;
mod requests;
#[cfg(test)]
pub(crate) mod tests;

use crate::evidence::Evidence;
use crate::protocol::{TAccount, Violation};

/// One invariant.
pub struct Invariant {
    /// Its number in the domain's list.
    pub number: u32,
    /// A short name.
    pub name: &'static str,
    /// What it says.
    pub about: &'static str,
    /// Whether a violation is about progress rather than about the books.
    pub liveness: bool,
    check: fn(&Evidence) -> Vec<Finding>,
}

/// One thing found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// One sentence with names and amounts.
    pub text: String,
    /// The accounts concerned.
    pub accounts: Vec<TAccount>,
}

impl Finding {
    fn text(text: impl Into<String>) -> Finding {
        Finding {
            text: text.into(),
            accounts: Vec::new(),
        }
    }
}

macro_rules! invariants {
    ($($number:literal $name:literal $module:ident $liveness:literal: $about:literal;)*) => {
        /// Every invariant, by number.
        pub const ALL: &[Invariant] = &[$(Invariant {
            number: $number, name: $name, about: $about, liveness: $liveness, check: $module::check,
        }),*];
    };
}
invariants! {
    1 "conservation" conservation false: "per asset, what users hold equals deposits minus withdrawals";
    2 "agreement" agreement false: "every balance is the fold of its ledger and of the trades and events; versions contiguous, each present";
    3 "exactly once" exactly_once false: "settled trades and events are the engine's: none missing, none extra, every field equal";
    4 "ranges" ranges false: "nothing negative, nothing overflowed";
    5 "durability" durability false: "what a checkpoint calls durable is on the fsynced storage of a quorum, and what is published on the engine's";
    6 "orders" orders false: "orders agree with trades and went through legal transitions";
    7 "denormalised tables" denormalised false: "trades by user and ledger events agree with the base";
    9 "dead letters" dead_letters false: "every refused event is there with its reason, and nothing else";
    10 "liveness" liveness true: "after the last fault every event settles within the bound; settlement never stops by itself without a reason in the plan";
    11 "reads" reads false: "each balance read equals one version the engine produced, at least the acknowledged one";
    12 "idempotence" idempotence false: "settling everything again sends every event and changes no cell and no timestamp of any replica";
    13 "metrics" metrics false: "what settlement's metrics say is so";
    14 "bounds" bounds false: "memory, WAL, queues and retry rates stay within their stated bounds";
    16 "requests" requests false: "one LOGGED batch per event, at a quorum, the same bytes each time it is sent; every row under its version's timestamp";
}

/// At most this many findings of one invariant are kept: a broken design breaks thousands of rows the same way.
pub const FINDINGS_MAX: usize = 12;

/// Checks everything. Violations come in the order of [`ALL`].
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for invariant in ALL {
        let findings = (invariant.check)(evidence);
        let more = findings.len().saturating_sub(FINDINGS_MAX);
        for finding in findings.into_iter().take(FINDINGS_MAX) {
            violations.push(violation(invariant, finding));
        }
        if more > 0 {
            violations.push(violation(
                invariant,
                Finding::text(format!("and {more} more of the same kind")),
            ));
        }
    }
    violations
}

fn violation(invariant: &Invariant, finding: Finding) -> Violation {
    Violation {
        invariant: invariant.number,
        name: invariant.name.into(),
        text: finding.text,
        accounts: finding.accounts,
    }
}

/// Whether the invariant of that number is about progress.
pub fn is_liveness(number: u32) -> bool {
    ALL.iter().any(|i| i.number == number && i.liveness)
}
