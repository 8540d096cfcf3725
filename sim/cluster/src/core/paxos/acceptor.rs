//! A replica's part of Paxos. Its state is a row per partition, as in both servers' `system.paxos`; in ScyllaDB it is synced
//! before it is told, whatever `commitlog_sync` says (`Rules::paxos_is_synced`). It is kept for good here; the servers forget it after `paxos_grace_seconds`
//! (S) or a TTL of at least three hours (C).

use super::{Ballot, PaxosKey, Promise, Proposal};
use crate::core::log::EntryKind;
use crate::core::message::{Event, Msg, OpId, Which};
use crate::core::node::{Cx, Node};
use crate::core::seal::Sealed;
use crate::core::views::Pushed;
use crate::model::NodeIdx;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a replica knows of one partition.
#[derive(Debug, Clone, Default)]
pub(in crate::core) struct PaxosRow {
    promised: Ballot,
    accepted: Option<Proposal>,
    committed: Option<Proposal>,
}

/// A row as the log keeps it.
#[derive(Serialize, Deserialize)]
struct Record {
    key: PaxosKey,
    promised: Ballot,
    accepted: Option<(Ballot, Option<Vec<u8>>)>,
    committed: Option<(Ballot, Option<Vec<u8>>)>,
}

impl PaxosRow {
    fn to_record(&self, key: &PaxosKey) -> Record {
        let kept = |p: &Option<Proposal>| {
            let p = p.as_ref()?;
            Some((p.ballot, p.update.as_ref().map(|sealed| sealed.bytes().to_vec())))
        };
        Record {
            key: key.clone(),
            promised: self.promised,
            accepted: kept(&self.accepted),
            committed: kept(&self.committed),
        }
    }

    fn of_record(record: Record) -> (PaxosKey, PaxosRow) {
        let proposal = |kept: Option<(Ballot, Option<Vec<u8>>)>| {
            let (ballot, bytes) = kept?;
            let update = bytes.and_then(|b| Sealed::from_entries(&b)).map(Arc::new);
            Some(Proposal { ballot, update })
        };
        let row = PaxosRow {
            promised: record.promised,
            accepted: proposal(record.accepted),
            committed: proposal(record.committed),
        };
        (record.key, row)
    }
}

impl Node {
    pub(in crate::core) fn replica_prepare(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: OpId,
        ballot: Ballot,
        key: &PaxosKey,
        expires_us: u64,
    ) {
        if self.has_expired(cx, expires_us) {
            return cx.event(Event::Expired { from });
        }
        self.maybe_forget_paxos(cx, key);
        let row = self.replica.paxos.entry(key.clone()).or_default();
        let granted = ballot > row.promised;
        if granted {
            row.promised = ballot;
        }
        let promise = Promise {
            granted,
            promised: row.promised,
            accepted: row.accepted.clone(),
            committed: row.committed.clone(),
        };
        let promise = Box::new(promise);
        let answer = Msg::Promised { op, ballot, promise };
        self.tell_paxos(cx, from, key, granted, answer);
    }

    pub(in crate::core) fn replica_propose(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: OpId,
        key: &PaxosKey,
        proposal: Proposal,
        expires_us: u64,
    ) {
        if self.has_expired(cx, expires_us) {
            return cx.event(Event::Expired { from });
        }
        let ballot = proposal.ballot;
        self.maybe_forget_paxos(cx, key);
        let row = self.replica.paxos.entry(key.clone()).or_default();
        let granted = ballot >= row.promised;
        if granted {
            row.promised = ballot;
            row.accepted = Some(proposal);
        }
        self.tell_paxos(cx, from, key, granted, Msg::Accepted { op, ballot, granted });
    }

    /// Learns an outcome: applies it, and forgets what it makes obsolete.
    pub(in crate::core) fn replica_commit(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeIdx,
        op: Option<OpId>,
        key: &PaxosKey,
        proposal: Proposal,
    ) {
        let ballot = proposal.ballot;
        let mut pushed = Pushed::Done;
        if let Some(sealed) = proposal
            .update
            .as_ref()
            .filter(|_| !self.is_truncated_since(key, ballot))
        {
            let last = sealed.mutations().len().saturating_sub(1) as u16;
            pushed = self.push_view_updates(cx, sealed, &Which::Range(0, last));
            if pushed == Pushed::Refused {
                return;
            }
            // A table dropped meanwhile wants nothing.
            self.apply_here(cx, sealed, &Which::Range(0, last));
        }
        let row = self.replica.paxos.entry(key.clone()).or_default();
        if row.accepted.as_ref().is_some_and(|accepted| accepted.ballot <= ballot) {
            row.accepted = None;
        }
        if row.committed.as_ref().is_none_or(|committed| committed.ballot < ballot) {
            row.committed = Some(proposal);
        }
        self.log_paxos(cx, key);
        if let (None, Pushed::Awaited(waiter)) = (op, pushed) {
            self.views.forget_waiter(waiter);
        }
        match op {
            Some(op) => {
                let committed = Msg::Committed { op, ballot };
                match pushed {
                    Pushed::Awaited(waiter) => {
                        // Of what a view does not get nothing is told: an answer to a ballot that there is not.
                        let ballot = Ballot::default();
                        let answers = [committed, Msg::Committed { op, ballot }];
                        self.acknowledge_after_views(cx, waiter, from, answers);
                    }
                    _ => self.tell_kept(cx, from, committed),
                }
            }
            None if self.rules.paxos_is_synced => self.sync_log(cx),
            None => {}
        }
    }

    /// Whether what was decided with this ballot lies before the truncation of its table, where that is looked at.
    fn is_truncated_since(&self, key: &PaxosKey, ballot: Ballot) -> bool {
        let truncated_us = self.replica.store.table(key.table).and_then(|t| t.truncated_at_us());
        self.rules.paxos_minds_truncation
            && truncated_us.is_some_and(|at_us| ballot.time_us < self.clock.wall_us(at_us))
    }

    /// Answers once what changed is where the flavour wants it.
    fn tell_paxos(&mut self, cx: &mut Cx<'_>, to: NodeIdx, key: &PaxosKey, changed: bool, answer: Msg) {
        if changed {
            self.log_paxos(cx, key);
            self.tell_kept(cx, to, answer);
        } else {
            self.send(cx, to, answer);
        }
    }

    fn tell_kept(&mut self, cx: &mut Cx<'_>, to: NodeIdx, answer: Msg) {
        if self.rules.paxos_is_synced {
            self.sync_then(cx, to, answer);
        } else {
            self.acknowledge(cx, to, answer);
        }
    }

    fn log_paxos(&mut self, cx: &mut Cx<'_>, key: &PaxosKey) {
        let row = self.replica.paxos.get(key).cloned().unwrap_or_default();
        match postcard::to_stdvec(&row.to_record(key)) {
            Ok(bytes) => {
                self.replica.log.append(EntryKind::Paxos, &[&bytes]);
                self.log_dirty(cx);
            }
            Err(error) => self.halt(cx, format!("a row of system.paxos cannot be written: {error}")),
        }
    }

    /// What the log says of conditional writes, one record for each partition.
    pub(in crate::core) fn paxos_records(&self) -> impl Iterator<Item = Vec<u8>> {
        let rows = self.replica.paxos.iter();
        rows.filter_map(|(key, row)| postcard::to_stdvec(&row.to_record(key)).ok())
    }

    pub(in crate::core) fn recover_paxos(&mut self, payload: &[u8]) {
        if let Ok(record) = postcard::from_bytes::<Record>(payload) {
            let (key, row) = PaxosRow::of_record(record);
            self.replica.paxos.insert(key, row);
        }
    }
}
