//! Schemas that nodes do not share: a node that was not told of a change, and what it makes of what others ask of it.
//!
//! A node learns of changes from whoever makes them, or from a heartbeat that names a later schema. One that stands still, is
//! cut off or is down learns when it is back. On command a node is kept from learning ([`Node::hold_schema`]): it goes on with
//! the schema that it has, says so in its heartbeats, and what it is told meanwhile it takes over when the hold ends.
//! Changes that its own clients make through it, it knows.
//!
//! A replica that is asked about a table or a column that it has not heard of does what its server does (`Rules`):
//! Cassandra cannot read the message and says that it failed (`UnknownTableException`, INCOMPATIBLE_SCHEMA); ScyllaDB
//! fetches the schema from the sender first, hold or not, and then does what it was asked.

use super::message::{Event, Msg, Which};
use super::node::{Cx, Node};
use super::seal::Sealed;
use crate::model::{NodeIdx, OpView, Schema, TableId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Requests that wait for a schema; further ones are lost, as they are when a server is out of memory for them. As many as
/// a coordinator has under way.
const WAITING_MAX: usize = 10_000;

/// What a node has of schemas that it does not use yet, and what waits for them.
#[derive(Debug, Default)]
pub(super) struct Behind {
    is_held: bool,
    /// The newest that it was told of meanwhile.
    newest: Option<Arc<Schema>>,
    /// Requests of peers that cannot be understood without.
    waiting: VecDeque<(NodeIdx, Msg)>,
}

impl Node {
    /// Keeps the node from learning of changes to the schema, or lets it learn again.
    pub(super) fn hold_schema(&mut self, cx: &mut Cx<'_>, on: bool) {
        self.behind.is_held = on;
        if let Some(newest) = self.behind.newest.take_if(|_| !on) {
            self.take_over_schema(cx, newest);
        }
    }

    /// The newest schema that this node has, whether it uses it or not.
    pub(super) fn newest_schema(&self) -> &Arc<Schema> {
        self.behind.newest.as_ref().unwrap_or(&self.schema)
    }

    /// Whether a schema is put aside, because the node is kept from learning of it.
    pub(super) fn puts_aside(&mut self, schema: &Arc<Schema>) -> bool {
        let newest = self.newest_schema();
        if self.behind.is_held && is_later(schema, newest) {
            self.behind.newest = Some(schema.clone());
        }
        self.behind.is_held && is_later(schema, &self.schema)
    }

    /// What was put aside is known to the node now, or something later is.
    pub(super) fn forget_put_aside(&mut self) {
        let schema = self.schema.clone();
        self.behind.newest.take_if(|newest| !is_later(newest, &schema));
    }

    /// Whether a write is about something that this node has not heard of. Costs nothing where schemas are the same.
    pub(super) fn is_news(&self, sealed: &Sealed, which: &Which) -> bool {
        sealed.schema_change() > self.schema.change
            && which.indices().any(|i| sealed.ops(i).any(|op| !self.understands(&op)))
    }

    fn understands(&self, op: &OpView<'_>) -> bool {
        let Some(table) = self.schema.table(op.table()) else {
            return !self.is_unheard_of(op.table());
        };
        // Numbers of columns only grow.
        let columns = table.columns.len() + table.dropped.len();
        op.cells().all(|(column, _)| usize::from(column.0) < columns)
    }

    /// Whether a table is none that this node knows, nor one that it knows to be dropped.
    pub(super) fn is_unheard_of(&self, table: TableId) -> bool {
        usize::from(table.0) >= self.schema.tables.len()
    }

    /// A peer asks for something that this node's schema does not have yet. True if it waits for the schema; otherwise the
    /// node has to say that it cannot do it.
    pub(super) fn waits_for_schema(&mut self, cx: &mut Cx<'_>, from: NodeIdx, msg: impl FnOnce() -> Msg) -> bool {
        cx.event(Event::SchemaUnknown { from });
        if !self.rules.fetches_schema {
            return false;
        }
        if self.behind.waiting.len() < WAITING_MAX {
            self.behind.waiting.push_back((from, msg()));
            self.send(cx, from, Msg::PullSchema { is_needed: true });
        }
        true
    }

    /// The schema is another one: what waited for it is done now, or asks again.
    pub(super) fn serve_those_behind(&mut self, cx: &mut Cx<'_>) {
        for (from, msg) in std::mem::take(&mut self.behind.waiting) {
            self.peer(cx, from, msg);
        }
    }
}

/// Of two schemas the one with more changes wins, then the larger version.
pub(super) fn is_later(one: &Schema, other: &Schema) -> bool {
    (one.change, one.version) > (other.change, other.version)
}
