//! The token ring and replica placement.
//!
//! Topology is fixed for the life of a cluster; what changes is the schema, and with it the placement of each keyspace.
//! A placement is computed once per replication setting and answers with a set of nodes.

use super::config::ClusterConfig;
use crate::model::{NodeIdx, Replication, Token};
use std::collections::BTreeSet;

/// A set of nodes, iterated in index order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeSet(pub u64);

impl NodeSet {
    /// The first `n` nodes.
    pub fn first(n: usize) -> NodeSet {
        NodeSet(if n >= 64 { u64::MAX } else { (1 << n) - 1 })
    }
    /// Just this node.
    pub fn one(n: NodeIdx) -> NodeSet {
        NodeSet(1 << n.0)
    }
    /// Adds a node.
    pub fn insert(&mut self, n: NodeIdx) {
        self.0 |= 1 << n.0;
    }
    /// Takes a node out.
    pub fn remove(&mut self, n: NodeIdx) {
        self.0 &= !(1 << n.0);
    }
    /// Whether the node is in.
    pub fn contains(self, n: NodeIdx) -> bool {
        self.0 & (1 << n.0) != 0
    }
    /// Number of nodes.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Nodes in both.
    pub fn and(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & other.0)
    }
    /// Nodes in either.
    pub fn or(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 | other.0)
    }
    /// Nodes of this set that are not in the other.
    pub fn minus(self, other: NodeSet) -> NodeSet {
        NodeSet(self.0 & !other.0)
    }
    /// The nodes, lowest first.
    pub fn iter(self) -> impl Iterator<Item = NodeIdx> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let n = bits.trailing_zeros() as u8;
            bits &= bits - 1;
            Some(NodeIdx(n))
        })
    }
}

/// Tokens and the nodes that own them, and which nodes share a data centre.
#[derive(Debug, Clone)]
pub struct Ring {
    /// (token, owner), by token.
    tokens: Vec<(Token, NodeIdx)>,
    /// Per node: data centre and rack, as numbers.
    places: Vec<(usize, usize)>,
    dcs: Vec<String>,
    racks: Vec<usize>,
}

impl Ring {
    /// The ring of a cluster: `tokens_per_node` tokens each, evenly spaced and interleaved.
    pub fn new(config: &ClusterConfig) -> Ring {
        let mut dcs: Vec<String> = config.nodes.iter().map(|n| n.dc.clone()).collect();
        dcs.sort();
        dcs.dedup();
        let mut racks: Vec<(usize, &str)> = vec![];
        let mut places = vec![];
        for n in &config.nodes {
            let dc = dcs.iter().position(|d| *d == n.dc).expect("collected above");
            let rack = racks.iter().position(|r| *r == (dc, &n.rack[..])).unwrap_or_else(|| {
                racks.push((dc, &n.rack));
                racks.len() - 1
            });
            places.push((dc, rack));
        }
        let racks_per_dc = (0..dcs.len())
            .map(|d| racks.iter().filter(|r| r.0 == d).count())
            .collect();
        let count = config.nodes.len();
        let total = (count * config.tokens_per_node.max(1)) as i128;
        let tokens = (0..total)
            .map(|i| {
                let token = i128::from(i64::MIN) + 1 + i * ((1i128 << 64) / total.max(1));
                (Token(token as i64), NodeIdx((i % count.max(1) as i128) as u8))
            })
            .collect();
        Ring {
            tokens,
            places,
            dcs,
            racks: racks_per_dc,
        }
    }

    /// Tokens of one node, ascending.
    pub fn tokens_of(&self, node: NodeIdx) -> impl Iterator<Item = Token> {
        self.tokens.iter().filter(move |t| t.1 == node).map(|t| t.0)
    }

    /// Nodes in the same data centre as `node`, itself included.
    pub fn local_dc(&self, node: NodeIdx) -> NodeSet {
        self.dc_nodes(self.places[usize::from(node.0)].0)
    }

    /// Rack number of a node, unique over data centres.
    pub fn rack(&self, node: NodeIdx) -> usize {
        self.places[usize::from(node.0)].1
    }

    /// The nodes of each data centre.
    pub fn dc_sets(&self) -> Vec<NodeSet> {
        (0..self.dcs.len()).map(|d| self.dc_nodes(d)).collect()
    }

    /// Nodes of a set in the order in which the ring names them from a token on.
    pub fn in_order(&self, set: NodeSet, token: Token) -> Vec<NodeIdx> {
        let first = self.tokens.partition_point(|(end, _)| *end < token);
        let (mut left, mut order) = (set, vec![]);
        for (_, node) in self.tokens[first..].iter().chain(&self.tokens[..first]) {
            if left.contains(*node) {
                left.remove(*node);
                order.push(*node);
            }
        }
        order
    }

    /// Number of nodes.
    pub fn node_count(&self) -> usize {
        self.places.len()
    }

    fn dc_nodes(&self, dc: usize) -> NodeSet {
        let mut set = NodeSet::default();
        for (n, place) in self.places.iter().enumerate() {
            if place.0 == dc {
                set.insert(NodeIdx(n as u8));
            }
        }
        set
    }

    /// Where the keyspace's partitions live.
    pub fn placement(&self, replication: &Replication) -> Placement {
        let sets: Vec<NodeSet> = (0..self.tokens.len())
            .map(|i| self.replicas_at(i, replication))
            .collect();
        match sets.first() {
            Some(first) if sets.iter().all(|s| s == first) => Placement {
                ends: vec![],
                sets: vec![*first],
            },
            _ => Placement {
                ends: self.tokens.iter().map(|t| t.0).collect(),
                sets,
            },
        }
    }

    /// Replicas of the range that ends at the `i`-th token, walking the ring from there.
    fn replicas_at(&self, i: usize, replication: &Replication) -> NodeSet {
        let walk = || (0..self.tokens.len()).map(move |k| self.tokens[(i + k) % self.tokens.len()].1);
        let mut set = NodeSet::default();
        match replication {
            Replication::Simple { factor } => {
                for n in walk() {
                    if set.len() < u32::from(*factor) {
                        set.insert(n);
                    }
                }
            }
            Replication::NetworkTopology(factors) => {
                for (name, factor) in factors {
                    if let Some(dc) = self.dcs.iter().position(|d| d == name) {
                        set = set.or(self.replicas_in_dc(dc, *factor, walk()));
                    }
                }
            }
        }
        set
    }

    /// NetworkTopologyStrategy within one data centre: a new rack each time while there are racks left, then whoever
    /// was skipped, in ring order.
    fn replicas_in_dc(&self, dc: usize, factor: u8, walk: impl Iterator<Item = NodeIdx>) -> NodeSet {
        let wanted = u32::from(factor).min(self.dc_nodes(dc).len());
        let mut repeats = (factor as usize).saturating_sub(self.racks[dc]);
        let (mut set, mut racks, mut skipped) = (NodeSet::default(), BTreeSet::new(), vec![]);
        for n in walk {
            if set.len() >= wanted {
                break;
            }
            if self.places[usize::from(n.0)].0 != dc || set.contains(n) || skipped.contains(&n) {
                continue;
            }
            if racks.insert(self.rack(n)) {
                set.insert(n);
            } else if repeats > 0 {
                repeats -= 1;
                set.insert(n);
            } else {
                skipped.push(n);
            }
        }
        for n in skipped {
            if set.len() < wanted {
                set.insert(n);
            }
        }
        set
    }
}

/// Replica sets of one replication setting, by token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Upper ends (inclusive) of the ranges, ascending; empty when every token has the same replicas.
    ends: Vec<Token>,
    /// Replicas of each range.
    sets: Vec<NodeSet>,
}

impl Placement {
    /// Replicas of a token.
    pub fn replicas(&self, token: Token) -> NodeSet {
        if self.ends.is_empty() {
            return self.sets.first().copied().unwrap_or_default();
        }
        // A token belongs to the first range end at or after it; past the last end the ring wraps.
        let i = self.ends.partition_point(|end| *end < token);
        self.sets[if i == self.ends.len() { 0 } else { i }]
    }

    /// The ring from its lowest token to its highest, as runs with equal replicas: (last token of the run, replicas).
    /// The last run reaches the highest token.
    pub fn runs(&self) -> Vec<(Token, NodeSet)> {
        let mut runs: Vec<(Token, NodeSet)> = vec![];
        let wrap = self.sets.first().map(|s| (Token(i64::MAX), *s));
        for (end, set) in self.ends.iter().copied().zip(self.sets.iter().copied()).chain(wrap) {
            match runs.last_mut() {
                Some(last) if last.1 == set => last.0 = end,
                _ => runs.push((end, set)),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::flavor::Flavor;
    use std::collections::BTreeMap;

    fn nts(rf: u8) -> Replication {
        Replication::NetworkTopology(BTreeMap::from([("dc1".to_owned(), rf)]))
    }

    #[test]
    fn with_as_many_replicas_as_nodes_every_token_lives_everywhere() {
        let ring = Ring::new(&ClusterConfig::new(3, Flavor::Scylla));
        for r in [nts(3), Replication::Simple { factor: 3 }, nts(5)] {
            let p = ring.placement(&r);
            assert_eq!(p.replicas(Token(0)), NodeSet::first(3));
            assert_eq!(p.runs(), [(Token(i64::MAX), NodeSet::first(3))]);
        }
    }

    #[test]
    fn six_nodes_in_three_racks_give_one_replica_per_rack() {
        let ring = Ring::new(&ClusterConfig::new(6, Flavor::Scylla));
        let p = ring.placement(&nts(3));
        for t in (-50..50).map(|i| Token(i * (i64::MAX / 50))) {
            let set = p.replicas(t);
            assert_eq!(set.len(), 3);
            assert_eq!(
                set.iter().map(|n| ring.rack(n)).collect::<BTreeSet<_>>().len(),
                3,
                "{t:?}"
            );
        }
    }

    #[test]
    fn a_token_belongs_to_the_first_ring_token_at_or_after_it_and_the_ring_wraps() {
        let mut config = ClusterConfig::new(4, Flavor::Scylla);
        config.tokens_per_node = 1;
        let ring = Ring::new(&config);
        let p = ring.placement(&Replication::Simple { factor: 1 });
        let first = ring.tokens_of(NodeIdx(1)).next().unwrap();
        assert_eq!(p.replicas(first), NodeSet::one(NodeIdx(1)));
        assert_eq!(p.replicas(Token(first.0 + 1)), NodeSet::one(NodeIdx(2)));
        assert_eq!(p.replicas(Token(i64::MAX)), NodeSet::one(NodeIdx(0)));
        assert_eq!(p.runs().len(), 5, "four ranges, the wrapping one in two pieces");
    }

    #[test]
    fn fewer_racks_than_replicas_repeat_racks() {
        let mut config = ClusterConfig::new(4, Flavor::Scylla);
        for n in &mut config.nodes {
            n.rack = "r1".to_owned();
        }
        let p = Ring::new(&config).placement(&nts(3));
        assert_eq!(p.replicas(Token(7)).len(), 3);
    }

    #[test]
    fn each_data_centre_has_its_own_factor() {
        let mut config = ClusterConfig::new(6, Flavor::Scylla);
        for n in &mut config.nodes[3..] {
            n.dc = "dc2".to_owned();
        }
        let ring = Ring::new(&config);
        let r = Replication::NetworkTopology(BTreeMap::from([("dc1".to_owned(), 3), ("dc2".to_owned(), 1)]));
        let set = ring.placement(&r).replicas(Token(123));
        assert_eq!(set.and(ring.local_dc(NodeIdx(0))).len(), 3);
        assert_eq!(set.and(ring.local_dc(NodeIdx(5))).len(), 1);
    }
}
