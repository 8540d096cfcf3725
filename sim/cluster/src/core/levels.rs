//! What a consistency level asks of a set of replicas.

use super::ring::{NodeSet, Ring};
use crate::model::{Consistency, NodeIdx};

/// Consistency levels as one coordinator understands them.
#[derive(Debug, Clone)]
pub struct Levels {
    local: NodeSet,
    dcs: Vec<NodeSet>,
}

impl Levels {
    /// For a coordinator in this place.
    pub fn new(ring: &Ring, me: NodeIdx) -> Levels {
        Levels {
            local: ring.local_dc(me),
            dcs: ring.dc_sets(),
        }
    }

    /// Nodes of the coordinator's data centre.
    pub fn local(&self) -> NodeSet {
        self.local
    }

    /// Whether there is one data centre only, so that a quorum of each is a quorum.
    pub fn is_one_dc(&self) -> bool {
        self.dcs.len() == 1
    }

    /// The replicas whose answers count, and how many are needed. For EACH_QUORUM this is the total; see `reached`.
    pub fn need(&self, level: Consistency, replicas: NodeSet) -> (NodeSet, u32) {
        let local = replicas.and(self.local);
        match level {
            Consistency::Any | Consistency::One => (replicas, 1),
            Consistency::Two => (replicas, 2),
            Consistency::Three => (replicas, 3),
            Consistency::Quorum | Consistency::Serial => (replicas, quorum(replicas)),
            Consistency::All => (replicas, replicas.len()),
            Consistency::LocalQuorum | Consistency::LocalSerial => (local, quorum(local)),
            Consistency::LocalOne => (local, 1),
            Consistency::EachQuorum => {
                let parts = self.dcs.iter().map(|dc| replicas.and(*dc)).filter(|s| !s.is_empty());
                (replicas, parts.map(quorum).sum())
            }
        }
    }

    /// Whether `answered` replicas are enough.
    pub fn reached(&self, level: Consistency, replicas: NodeSet, answered: NodeSet) -> bool {
        if level == Consistency::EachQuorum {
            let mut parts = self.dcs.iter().map(|dc| replicas.and(*dc)).filter(|s| !s.is_empty());
            return parts.all(|s| answered.and(s).len() >= quorum(s));
        }
        let (scope, count) = self.need(level, replicas);
        answered.and(scope).len() >= count
    }
}

fn quorum(set: NodeSet) -> u32 {
    set.len() / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::ClusterConfig;
    use crate::core::flavor::Flavor;

    #[test]
    fn levels_count_what_they_should() {
        let mut config = ClusterConfig::new(6, Flavor::Scylla);
        for n in &mut config.nodes[3..] {
            n.dc = "dc2".to_owned();
        }
        let levels = Levels::new(&Ring::new(&config), NodeIdx(0));
        let all = NodeSet::first(6);
        let need = |l| levels.need(l, all).1;
        use Consistency::*;
        assert_eq!(
            [Any, One, Two, Three, Quorum, All, LocalQuorum, LocalOne, EachQuorum].map(need),
            [1, 1, 2, 3, 4, 6, 2, 1, 4]
        );
        let remote = all.minus(levels.local());
        assert!(
            !levels.reached(LocalQuorum, all, remote),
            "only the local data centre counts"
        );
        assert!(levels.reached(Quorum, all, remote.or(NodeSet::one(NodeIdx(1)))));
        assert!(!levels.reached(EachQuorum, all, remote.or(NodeSet::one(NodeIdx(1)))));
    }
}
