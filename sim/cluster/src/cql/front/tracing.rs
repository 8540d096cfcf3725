//! Requests that ask for a trace: they are answered with its id, and what becomes of them is kept for `system_traces`.

use super::{Call, Connection, Front, Pending, PendingKind};
use crate::core::levels::Levels;
use crate::core::ring::NodeSet;
use crate::cql::frame::{HEADER_BYTES, Header, Request, flag};
use crate::cql::system::{NodeView, SystemRow};
use crate::cql::traces::{Begun, Traces};
use crate::model::{self, Consistency, ReadTarget, Response, Scanned, Table, TableId, Token, WriteSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use uuid::Uuid;

/// Where the frame begins that is put into a buffer next, and the trace that it will name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traced {
    id: Uuid,
    start: usize,
}

fn level(code: u16) -> String {
    Consistency::from_code(code).map_or_else(|| code.to_string(), |level| level.to_string())
}

impl Front {
    /// Traces requests that ask for it from now on.
    #[must_use]
    pub fn tracing_to(mut self, traces: Option<Arc<Traces>>) -> Front {
        self.traces = traces;
        self
    }

    /// Begins a trace, if the request asks for one and is of a kind that has them.
    pub(super) fn begin_trace(
        &self,
        call: &mut Call<'_>,
        connection: &Connection,
        header: &Header,
        request: &Request<'_>,
    ) -> Option<Traced> {
        if header.flags & flag::TRACING == 0 {
            return None;
        }
        let Some(traces) = &self.traces else {
            let not_here = "quench: tracing is not supported by the simulated cluster";
            call.warnings.push(not_here.into());
            return None;
        };
        let (request, params, text) = match request {
            Request::Query { text, params } => ("Execute CQL3 query", Some(params), Some((*text).to_owned())),
            Request::Prepare { text, .. } => ("Preparing CQL3 query", None, Some((*text).to_owned())),
            Request::Execute { params, .. } => ("Execute CQL3 prepared query", Some(params), None),
            Request::Batch(_) => ("Execute batch of CQL3 queries", None, None),
            _ => return None,
        };
        let mut parameters = Vec::new();
        if let Some(params) = params {
            parameters.push(("consistency_level", level(params.consistency)));
            if let Some(size) = params.page_size {
                parameters.push(("page_size", size.to_string()));
            }
        }
        parameters.extend(text.clone().map(|text| ("query", text)));
        if let Some(params) = params {
            let serial = params.serial_consistency.map_or_else(|| "SERIAL".to_owned(), level);
            parameters.push(("serial_consistency_level", serial));
        }
        let id = traces.begin(Begun {
            request,
            parameters,
            client: connection.client,
            coordinator: call.node.config.nodes[usize::from(call.node.me.0)].ip,
            port: call.node.port,
        });
        if request == "Execute CQL3 query" {
            traces.event(id, &format!("Parsing {}", text.unwrap_or_default()));
            traces.event(id, "Preparing statement");
        }
        let start = call.out.len();
        Some(Traced { id, start })
    }

    /// A request that was answered at once: its answer names the trace.
    pub(super) fn end_trace(&self, traced: Option<Traced>, out: &mut Vec<u8>) {
        let (Some(traced), Some(traces)) = (traced, &self.traces) else {
            return;
        };
        traces.end(traced.id);
        name_trace(out, traced);
    }

    /// A request went to the core: what it and the replicas it will ask are about to do, and the id to remember.
    pub(super) fn submit_trace(
        &self,
        traced: Option<Traced>,
        node: &NodeView<'_>,
        (request, kind): (&model::Request, &PendingKind),
        is_batch: bool,
    ) -> Option<NonZeroU32> {
        let (id, traces) = (traced?.id, self.traces.as_ref()?);
        match kind {
            PendingKind::Write { .. } if is_batch => traces.event(id, "Determining replicas for atomic batch"),
            PendingKind::Write { .. } => traces.event(id, "Determining replicas for mutation"),
            PendingKind::Read(_) => traces.event(id, "Executing query"),
            PendingKind::Cas { .. } => traces.event(id, "Executing conditional statement"),
            PendingKind::Schema { .. } => {}
        }
        let word = match request {
            model::Request::Write(_) => "Appending to commitlog",
            _ => "Executing single-partition query",
        };
        for replica in asked(node, request).iter().filter(|n| *n != node.me) {
            let ip = node.config.nodes[usize::from(replica.0)].ip;
            traces.event_at(id, Some(ip), word);
        }
        traces.number(id)
    }

    /// Before the core's answer is written: where it will begin.
    pub(super) fn resume_trace(&self, pending: &Pending, response: &Response, out: &[u8]) -> Option<Traced> {
        let (number, traces) = (pending.trace?, self.traces.as_ref()?);
        let id = traces.id(number)?;
        match response {
            Response::Rows(result) => {
                let own = |of: fn(&Scanned) -> u32| result.scanned.iter().map(|(_, s)| of(s)).sum::<u32>();
                let (live, tombstones) = match result.scanned.is_empty() {
                    true => (result.rows().count() as u32, 0),
                    false => (own(|s| s.live), own(|s| s.tombstones)),
                };
                traces.event(id, &format!("Read {live} live rows and {tombstones} tombstone cells"));
            }
            Response::Error(error) => traces.event(id, &error.to_string()),
            _ => {}
        }
        let start = out.len();
        Some(Traced { id, start })
    }

    /// The rows of `system_traces`; `None` of another keyspace.
    pub(super) fn trace_rows(&self, table: &Table) -> Option<Vec<SystemRow>> {
        if table.keyspace != "system_traces" {
            return None;
        }
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        let traces = self.traces.as_ref();
        Some(traces.map_or_else(Vec::new, |t| t.rows(&table.name, &names)))
    }
}

impl Front {
    /// Deletes cells or rows of traces.
    pub(super) fn delete_traces(&self, table: &Table, writes: &WriteSet) {
        let Some(traces) = &self.traces else {
            return;
        };
        for op in writes.ops() {
            let columns: Vec<&str> = op
                .cells()
                .filter_map(|(id, _)| table.columns.iter().find(|c| c.id == id))
                .map(|c| c.name.as_str())
                .collect();
            if let Ok(id) = Uuid::from_slice(op.partition_key()) {
                traces.delete(id, &table.name, &columns);
            }
        }
    }
}

/// The replicas that will be asked: as many as the level wants of a read, the coordinator first of all; all of a write.
fn asked(node: &NodeView<'_>, request: &model::Request) -> NodeSet {
    let replicas = |table: TableId, token: Token| -> NodeSet {
        let keyspace = node.schema.table(table).map(|t| &t.keyspace);
        let keyspace = keyspace.and_then(|name| node.schema.keyspaces.get(name));
        keyspace.map_or_else(NodeSet::default, |k| {
            node.ring.placement(&k.replication).replicas(token)
        })
    };
    match request {
        model::Request::Write(write) => write
            .writes
            .ops()
            .map(|op| replicas(op.table(), op.token()))
            .fold(NodeSet::default(), NodeSet::or),
        model::Request::Read(read) => {
            let ReadTarget::Partitions(keys) = &read.command.target else {
                return NodeSet::default();
            };
            let of_key = |key: &model::PartitionKey| {
                let all = replicas(read.command.table, key.token);
                let (scope, wanted) = Levels::new(node.ring, node.me).need(read.consistency, all);
                let mine = scope.and(NodeSet::one(node.me));
                let others = scope
                    .minus(mine)
                    .iter()
                    .take((wanted - mine.len().min(wanted)) as usize);
                others.fold(mine, |set, n| set.or(NodeSet::one(n)))
            };
            keys.iter().map(of_key).fold(NodeSet::default(), NodeSet::or)
        }
        _ => NodeSet::default(),
    }
}

/// Puts the trace's id in front of the body of the frame that begins there.
fn name_trace(out: &mut Vec<u8>, traced: Traced) {
    let Some(header) = out.get_mut(traced.start..traced.start + HEADER_BYTES) else {
        return;
    };
    header[1] |= flag::TRACING;
    let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) + 16;
    header[5..].copy_from_slice(&length.to_be_bytes());
    let body = traced.start + HEADER_BYTES;
    out.splice(body..body, *traced.id.as_bytes());
}
