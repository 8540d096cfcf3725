//! The names of the settlement designs and the keyspace each lives in. How a design settles is in the settlement
//! crate; here is only what a name has to say about tables.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A settlement design. Each has tables of its own, so that designs can be compared on one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DesignName {
    /// Absolute postings keyed by account version, pinned timestamps, LOGGED batches of whole events.
    #[default]
    Ledger,
    /// Read, compute, LOGGED batch, existence check, retry: the policy that everyone writes first.
    LoggedRmw,
    /// Trade insert, then one counter update per account, one request after the other: the source's design as it was
    /// shipped.
    SequentialDelta,
}

impl DesignName {
    /// Every design there is, in the order in which help and reports list them.
    pub const ALL: &'static [Self] = &[Self::Ledger, Self::LoggedRmw, Self::SequentialDelta];

    /// The name on command lines and in configuration files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::LoggedRmw => "logged-rmw",
            Self::SequentialDelta => "sequential-delta",
        }
    }

    /// One line for help texts: what it does, and what to expect of it under faults.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Ledger => {
                "absolute postings keyed by account version, pinned timestamps, LOGGED batch; survives the budget"
            }
            Self::LoggedRmw => {
                "read, compute, LOGGED batch, existence check, retry; loses or doubles effects after timeouts"
            }
            Self::SequentialDelta => {
                "insert, then `available + delta` on counters, one after the other; partial, and doubles on retry; needs a \
                 real server: the simulator's judge does not read its counters"
            }
        }
    }

    /// The keyspace it lives in unless the configuration names another.
    #[must_use]
    pub const fn default_keyspace(self) -> &'static str {
        match self {
            Self::Ledger => "trading",
            Self::LoggedRmw => "trading_logged_rmw",
            Self::SequentialDelta => "trading_sequential_delta",
        }
    }

    /// Whether it has tables of counters, which not every server has: the simulated cluster refuses them.
    #[must_use]
    pub const fn needs_counters(self) -> bool {
        match self {
            Self::Ledger | Self::LoggedRmw => false,
            Self::SequentialDelta => true,
        }
    }
}

impl fmt::Display for DesignName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is not a design's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no settlement design {name:?}: use one of {}", known())]
pub struct UnknownDesign {
    /// What was asked for.
    pub name: String,
}

impl FromStr for DesignName {
    type Err = UnknownDesign;

    fn from_str(name: &str) -> Result<Self, UnknownDesign> {
        Self::ALL
            .iter()
            .copied()
            .find(|design| design.as_str() == name)
            .ok_or_else(|| UnknownDesign { name: name.to_owned() })
    }
}

fn known() -> String {
    let names: Vec<&str> = DesignName::ALL.iter().map(|design| design.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_no_two_share_a_keyspace() {
        let mut keyspaces = Vec::new();
        for design in DesignName::ALL {
            assert_eq!(design.to_string().parse(), Ok(*design));
            assert!(!keyspaces.contains(&design.default_keyspace()), "{design}");
            keyspaces.push(design.default_keyspace());
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "ledgr".parse::<DesignName>().expect_err("must be refused");
        assert_eq!(
            error.to_string(),
            "there is no settlement design \"ledgr\": use one of ledger, logged-rmw, sequential-delta"
        );
    }
}
