//! A node in the place of a lost one: same address and tokens, an empty disk (`replace_address_first_boot`,
//! `replace_node_first_boot`).
//!
//! It starts with empty tables, hears who lives, and reads what it is to have from the other replicas (`sweep`) before it
//! serves anybody. If a source dies meanwhile it gives up and stops; whoever wants it has it replaced again. One whose
//! process died in the middle begins anew when it is started.
//!
//! Where the flavours differ (`Rules::replace_*`): Cassandra reads each range from *one* replica, so that what a quorum has
//! acknowledged without that one is missing on the new node until a repair. At the same address it keeps the host id of
//! the lost node, so that it gets the hints that wait for it; writes do not reach it until it has joined. ScyllaDB reads
//! each range from all replicas that live (repair-based node operations); its node has a new host id, hints for the old one
//! are dropped, and writes are sent to it from the moment it is known (a *pending* replica, which has to acknowledge them
//! beside those that the level wants).
//!
//! What the lost node kept for others, hints and batches, is lost with it, and what it had promised in conditional writes.
//! Simpler than the servers: it waits seconds for its peers where those wait half a minute, and one that is believed alive
//! can be replaced at once.

use super::log::EntryKind;
use super::message::{Event, Msg};
use super::node::{Cx, Node, Phase};
use super::ring::NodeSet;
use super::sweep::{Piece, SweepKind};
use super::timers::Timer;
use crate::model::{NodeIdx, TableId};
use uuid::Uuid;

/// From its start until it reads from others: two rounds of heartbeats, in which all that live have answered.
const JOIN_AFTER_MS: u64 = 2_500;

/// A node without the schema of any peer looks again after this.
const SCHEMA_LOOK_MS: u64 = 500;
/// And so often: half a minute, as long as C waits (`schema_delay`).
const SCHEMA_LOOKS_MAX: u32 = 60;

/// Whether this node has joined, as its log tells.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Its identity, if it is another one than was configured.
    pub host_id: Option<Uuid>,
    /// Whether it is getting its data.
    pub is_joining: bool,
    /// How often it looked for the schema of its peers.
    pub looks: u32,
}

impl Node {
    /// Whether it takes the place of a lost node and does not have the data yet.
    pub fn is_joining(&self) -> bool {
        self.membership.is_joining
    }

    /// This node's identity.
    pub fn host_id(&self) -> Uuid {
        let configured = self.config.nodes[usize::from(self.me.0)].host_id;
        self.membership.host_id.unwrap_or(configured)
    }

    /// A new node in the place of a lost one takes its identity, or a new one.
    pub(super) fn take_place(&mut self) {
        self.membership.is_joining = true;
        if self.rules.replace_has_new_id {
            let draw = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
            let id = uuid::Builder::from_random_bytes(draw.to_be_bytes());
            self.membership.host_id = Some(id.into_uuid());
        }
        self.facts[usize::from(self.me.0)].host_id = self.membership.host_id;
        self.log_membership(self.me);
    }

    /// The log says who this node is, or who a peer is (`system.peers`).
    pub(super) fn recover_membership(&mut self, payload: &[u8]) {
        let Some((id, [of, joining])) = payload.split_first_chunk::<16>() else {
            return;
        };
        let place = usize::from(*of);
        let (Some(fact), Some(node)) = (self.facts.get_mut(place), self.config.nodes.get(place)) else {
            return;
        };
        fact.host_id = Some(Uuid::from_bytes(*id)).filter(|id| *id != node.host_id);
        if *of == self.me.0 {
            self.membership.host_id = fact.host_id;
            self.membership.is_joining = *joining == 1;
        }
    }

    /// What the log has to say of who nodes are; nothing of those that are as they are configured.
    pub(super) fn membership_records(&self) -> impl Iterator<Item = [u8; 18]> {
        let is_own = |n: NodeIdx| n == self.me && self.membership.is_joining;
        let is_told = move |n: &NodeIdx| is_own(*n) || self.facts[usize::from(n.0)].host_id.is_some();
        let all = self.config.node_indices().filter(is_told);
        all.map(|n| self.membership_record(n))
    }

    fn membership_record(&self, of: NodeIdx) -> [u8; 18] {
        let place = usize::from(of.0);
        let id = self.facts[place].host_id.unwrap_or(self.config.nodes[place].host_id);
        let is_joining = of == self.me && self.membership.is_joining;
        let mut record = [0; 18];
        record[..16].copy_from_slice(id.as_bytes());
        record[16..].copy_from_slice(&[of.0, u8::from(is_joining)]);
        record
    }

    fn log_membership(&mut self, of: NodeIdx) {
        let record = self.membership_record(of);
        self.replica.log.append(EntryKind::Membership, &[&record]);
    }

    /// A node that does not have its data yet has started.
    pub(super) fn start_join(&mut self, cx: &mut Cx<'_>) {
        cx.event(Event::Joining {
            host_id: self.host_id(),
        });
        self.timers.set(cx.now_us + JOIN_AFTER_MS * 1000, Timer::Join);
    }

    /// Its peers are known: it begins to read from them, once it has their schema.
    pub(super) fn on_join(&mut self, cx: &mut Cx<'_>) {
        let peers = self.alive().minus(NodeSet::one(self.me));
        if peers.is_empty() && !self.others().is_empty() {
            return self.join_over(cx, Err("Unable to gossip with any peers".to_owned()));
        }
        let version = Some(self.schema.version);
        let has_schema = peers
            .iter()
            .any(|n| self.facts[usize::from(n.0)].schema_version == version);
        if !has_schema && !peers.is_empty() {
            self.membership.looks += 1;
            if self.membership.looks >= SCHEMA_LOOKS_MAX {
                return self.join_over(cx, Err("it did not get the schema of any peer".to_owned()));
            }
            return self.timers.set(cx.now_us + SCHEMA_LOOK_MS * 1000, Timer::Join);
        }
        match self.plan_join() {
            Ok(pieces) => self.begin_sweep(cx, SweepKind::Join, pieces),
            Err(reason) => self.join_over(cx, Err(reason)),
        }
    }

    fn plan_join(&mut self) -> Result<Vec<Piece>, String> {
        let (me, alive) = (NodeSet::one(self.me), self.alive());
        let tables: Vec<TableId> = self.schema.all_tables().map(|t| t.id).collect();
        let mut pieces = vec![];
        let ranges: Vec<_> = tables.into_iter().flat_map(|t| self.ranges_of(t)).collect();
        for (table, range, replicas) in ranges {
            let others = replicas.minus(me);
            // Of what had one copy nothing is left (C `RangeStreamer` warns of it).
            if !replicas.contains(self.me) || others.is_empty() {
                continue;
            }
            let live = others.and(alive);
            if live.is_empty() {
                let keyspace = self
                    .schema
                    .table(table)
                    .map_or_else(String::new, |t| t.keyspace.clone());
                return Err(format!(
                    "Unable to find sufficient sources for streaming range in keyspace {keyspace} with RF={}",
                    replicas.len()
                ));
            }
            let mut sources = live;
            if self.rules.replace_reads_one {
                // Among equals, by chance: what a snitch's scores come to.
                let chosen = self.rng.below(u64::from(live.len())) as usize;
                sources = live.iter().nth(chosen).map_or(live, NodeSet::one);
            }
            pieces.push(Piece {
                table,
                range,
                sources,
                partial: false,
            });
        }
        Ok(pieces)
    }

    /// It has what others had, or cannot get it.
    pub(super) fn join_over(&mut self, cx: &mut Cx<'_>, outcome: Result<u64, String>) {
        let mutations = match outcome {
            Ok(mutations) => mutations,
            // It was told to stop: that is no failure.
            Err(_) if self.phase == Phase::Stopping => return,
            Err(reason) => return self.halt(cx, format!("it cannot take the place of the lost node: {reason}")),
        };
        self.membership.is_joining = false;
        self.log_membership(self.me);
        // Views came as tables (C `StorageService.markViewsAsBuilt`, S `mark_existing_views_as_built`).
        self.mark_views_built();
        self.log_dirty(cx);
        self.sync_log(cx);
        cx.event(Event::Joined { mutations });
        self.look_for_view_builds(cx);
        self.on_ready(cx);
        for peer in self.others().iter() {
            self.send_heartbeat(cx, peer);
            self.tell_view_builds(cx, peer);
        }
    }

    /// A peer says with every heartbeat who it is, and whether it has its data.
    pub(super) fn note_membership(&mut self, cx: &mut Cx<'_>, from: NodeIdx, host_id: Uuid, is_joining: bool) {
        let place = usize::from(from.0);
        let configured = self.config.nodes[place].host_id;
        let known = self.facts[place].host_id.unwrap_or(configured);
        self.facts[place].host_id = Some(host_id).filter(|id| *id != configured);
        match is_joining {
            true => self.pending.insert(from),
            false => self.pending.remove(from),
        }
        if is_joining {
            // The one before is gone, whether it was convicted or not.
            self.mark_down(cx, from);
        }
        if known != host_id {
            self.log_membership(from);
            self.log_dirty(cx);
            self.sync_log(cx);
            // They were for somebody else.
            self.lose_hints(cx, Some(from));
            self.renewed.insert(from);
        }
    }

    /// Replicas that get writes although they do not count yet.
    pub(super) fn pending(&self) -> NodeSet {
        match self.rules.replace_gets_writes {
            true => self.pending,
            false => NodeSet::default(),
        }
    }

    /// Whether joining is all that this node does.
    pub(super) fn only_joins(&self) -> bool {
        self.phase == Phase::Starting && self.membership.is_joining
    }

    pub(super) fn vitals(&self) -> Msg {
        Msg::Heartbeat {
            generation: self.generation,
            schema_change: self.schema.change,
            schema_version: self.schema.version,
            host_id: self.host_id(),
            is_joining: self.membership.is_joining,
        }
    }
}
