//! Which replicas a read asks: what snitches do.

use crate::core::node::Node;
use crate::core::ring::NodeSet;
use crate::model::NodeIdx;

impl Node {
    /// Where the data come from afar though this node has them, the percentile of latencies is beyond the timeout (seen; see
    /// `Rules::data_from_afar_one_in`). `others` are not chosen.
    pub(super) fn is_percentile_out_of_reach(&self, chosen: &[NodeIdx], others: NodeSet) -> bool {
        let is_not_first = others.contains(self.me) || chosen.iter().skip(1).any(|node| *node == self.me);
        self.rules.data_from_afar_one_in > 0 && is_not_first
    }

    /// The replicas to ask: this node first if it is one, then others at random (what a snitch does among equals).
    pub(in crate::core) fn choose_replicas(&mut self, scope: NodeSet, need: u32) -> Vec<NodeIdx> {
        let live = scope.and(self.alive());
        let mut others: Vec<NodeIdx> = live.minus(NodeSet::one(self.me)).iter().collect();
        self.rng.shuffle(&mut others);
        let me = live.contains(self.me).then_some(self.me);
        let mut chosen: Vec<NodeIdx> = me
            .into_iter()
            .chain(others.iter().copied())
            .take(need as usize)
            .collect();
        let elsewhere_one_in = self.rules.data_elsewhere_one_in;
        let spare = live.len().saturating_sub(need) > 0;
        if elsewhere_one_in > 0 && need > 1 && spare && self.rng.below(elsewhere_one_in) == 0 {
            chosen = others.into_iter().take(need as usize).collect();
        }
        let afar_one_in = self.rules.data_from_afar_one_in;
        if afar_one_in > 0 && chosen.len() > 1 && self.rng.below(afar_one_in) == 0 {
            chosen.rotate_left(1);
        }
        chosen
    }
}
