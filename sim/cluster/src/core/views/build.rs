//! Building a view: rows of the base that were there before it. Every replica of the base goes through its own rows and sends
//! for each what its partner is to have, as for a write; it tells everybody when it begins and when it is done
//! (`system.built_views`, `view_build_status`). Writes meanwhile send their updates as always, and merging sorts it out.
//!
//! A build that a restart interrupts begins anew: it writes nothing that was not written.

use super::{Then, ViewBuilds, Views};
use crate::core::key::{Key, KeyLayout, KeyRange};
use crate::core::log::EntryKind;
use crate::core::message::{Event, Msg};
use crate::core::node::{Cx, Node};
use crate::core::row::RowState;
use crate::core::timers::Timer;
use crate::model::{NodeIdx, TableId, Token};
use std::collections::BTreeMap;

/// After a step that failed the same rows are tried again after this (C `ViewBuilder`: 5 minutes).
const RETRY_AFTER_REFUSAL_MS: u64 = 300_000;
/// S `view_builder::do_build_step` begins with this.
const RETRY_AFTER_FAILURE_MS: u64 = 1_000;

/// How far a build is.
#[derive(Debug, Default)]
pub(super) struct Build {
    /// The last row that was sent.
    sent: Option<Key>,
    /// The last row of the step under way, and whether it ends the build.
    step: Option<(Option<Key>, bool)>,
}

/// A row of the base.
struct Row {
    key: Key,
    token: Token,
    partition: Vec<u8>,
    state: RowState,
}

impl Views {
    /// The log says that a view was built here.
    pub(in crate::core) fn recover_built(&mut self, view: TableId) {
        self.built.insert(view);
    }

    /// Views whose part on this node is built.
    pub(in crate::core) fn built(&self) -> impl Iterator<Item = TableId> {
        self.built.iter().copied()
    }

    /// A node said how far its part of a view is.
    pub(in crate::core) fn set_status(&mut self, view: TableId, of: NodeIdx, is_built: bool) {
        self.status.insert((view, of), is_built);
    }
}

impl Node {
    /// By view and node, whether that node has built its part, as far as this node was told.
    pub fn view_builds(&self) -> &ViewBuilds {
        &self.views.status
    }

    /// After a start or a change of the schema: views that are new here are to be built, those that are gone are forgotten.
    pub(in crate::core) fn look_for_view_builds(&mut self, cx: &mut Cx<'_>) {
        if self.only_joins() {
            // What there is to build from is not here yet.
            return;
        }
        let schema = self.schema.clone();
        let is_there = |view: &TableId| schema.views.contains_key(view);
        self.views.builds.retain(|view, _| is_there(view));
        self.views.built.retain(is_there);
        self.views.status.retain(|(view, _), _| is_there(view));
        for view in schema.views.keys() {
            let is_built = self.views.built.contains(view);
            if !is_built && !self.views.builds.contains_key(view) {
                self.views.builds.insert(*view, Build::default());
                let (low, high) = self.config.views.build_after_ms;
                let at_us = cx.now_us + self.rng.between(low * 1000, high * 1000);
                self.timers.set(at_us, Timer::ViewBuild(*view));
            }
            // Others are told when the build begins, and whoever comes up.
            self.views.set_status(*view, self.me, is_built);
        }
    }

    /// This node's parts of all views came from others.
    pub(in crate::core) fn mark_views_built(&mut self) {
        let views: Vec<TableId> = self.schema.views.keys().copied().collect();
        for view in views {
            if self.views.built.insert(view) {
                self.replica.log.append(EntryKind::ViewBuilt, &[&view.0.to_le_bytes()]);
            }
        }
    }

    fn announce_build(&mut self, cx: &mut Cx<'_>, view: TableId, is_built: bool) {
        self.views.set_status(view, self.me, is_built);
        for peer in self.others().iter() {
            self.send(cx, peer, Msg::ViewStatus { view, is_built });
        }
    }

    /// A peer came up: it may not know how far this node's builds are.
    pub(in crate::core) fn tell_view_builds(&mut self, cx: &mut Cx<'_>, peer: NodeIdx) {
        let me = self.me;
        let own = self.views.status.iter().filter(|((_, node), _)| *node == me);
        let told: Vec<(TableId, bool)> = own.map(|((view, _), is_built)| (*view, *is_built)).collect();
        for (view, is_built) in told {
            self.send(cx, peer, Msg::ViewStatus { view, is_built });
        }
    }

    /// Time for the next rows of a build.
    pub(in crate::core) fn on_view_build(&mut self, cx: &mut Cx<'_>, view: TableId) {
        let Some(sent) = self.views.builds.get(&view).map(|b| b.sent.clone()) else {
            return;
        };
        if sent.is_none() {
            self.announce_build(cx, view, false);
        }
        let rows = self.rows_to_build(view, sent.as_ref());
        let is_last = rows.len() < self.config.views.build_rows;
        let last = rows.last().map(|r| r.key.clone()).or(sent);
        let waiter = self.rules.view_build_waits.then(|| self.views.begin_wait());
        for row in rows {
            if !self.build_row(cx, view, row, waiter) {
                return self.retry_build(cx, view, RETRY_AFTER_REFUSAL_MS);
            }
        }
        if let Some(build) = self.views.builds.get_mut(&view) {
            build.step = Some((last, is_last));
        }
        match waiter {
            Some(waiter) => self.wait_then(cx, waiter, Then::Build(view)),
            None => self.view_step_over(cx, view, false),
        }
    }

    fn rows_to_build(&mut self, view: TableId, sent: Option<&Key>) -> Vec<Row> {
        let Some(base) = self.schema.view(view).map(|v| v.base) else {
            return vec![];
        };
        self.replica.store.make_order(base);
        let (log, Some(table)) = (&self.replica.log, self.replica.store.table(base)) else {
            return vec![];
        };
        let start = sent.cloned().unwrap_or_else(|| KeyLayout::token_start(Token(i64::MIN)));
        let rows = table.range(log, &KeyRange { start, end: None });
        let after = rows.skip_while(|(key, _)| Some(*key) == sent);
        let row = |(key, stored): (&Key, crate::core::store::StoredRow<'_>)| {
            let (token, partition) = stored.partition();
            let mut state = stored.state();
            state.shadow(table.covering(key, stored));
            let (key, partition) = (key.clone(), partition.to_vec());
            Row {
                key,
                token,
                partition,
                state,
            }
        };
        after.take(self.config.views.build_rows).map(row).collect()
    }

    /// Sends what a view is to have for a row that is there. False if it cannot be sent now.
    fn build_row(&mut self, cx: &mut Cx<'_>, view: TableId, row: Row, waiter: Option<u64>) -> bool {
        let schema = self.schema.clone();
        let Some(view) = schema.view(view) else { return true };
        let Some(generator) = self.generator(view, &row.partition, cx.now_us) else {
            return true;
        };
        let blank = RowState::empty(row.state.clustering());
        let mut updates = BTreeMap::new();
        let rows = generator.updates(&blank, &row.state);
        for new in rows.into_iter().filter(|new| self.is_row_of(view, new)) {
            let key = (view.table, new.partition.clone());
            super::emit::emit(view.table, &new, updates.entry(key).or_default());
        }
        self.send_view_updates(cx, row.token, updates, waiter)
    }

    fn retry_build(&mut self, cx: &mut Cx<'_>, view: TableId, after_ms: u64) {
        self.timers.set(cx.now_us + after_ms * 1000, Timer::ViewBuild(view));
    }

    /// A step of a build is over.
    pub(super) fn view_step_over(&mut self, cx: &mut Cx<'_>, view: TableId, failed: bool) {
        let Some(build) = self.views.builds.get_mut(&view) else {
            return;
        };
        let Some((sent, is_last)) = build.step.take() else {
            return;
        };
        if failed {
            return self.retry_build(cx, view, RETRY_AFTER_FAILURE_MS);
        }
        build.sent = sent;
        if !is_last {
            return self.retry_build(cx, view, self.config.views.build_every_ms);
        }
        self.views.builds.remove(&view);
        self.views.built.insert(view);
        self.replica.log.append(EntryKind::ViewBuilt, &[&view.0.to_le_bytes()]);
        self.log_dirty(cx);
        cx.event(Event::ViewBuilt { view });
        self.announce_build(cx, view, true);
    }
}
