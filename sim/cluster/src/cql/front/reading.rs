//! SELECT: to a read of the core or to rows of the system tables, and the core's rows to the wire, page by page.

use super::{Answer, Call, Front, PendingKind};
use crate::cql::answer::{self, Words};
use crate::cql::bind::paging::PagingState;
use crate::cql::bind::{Plan, Prepared, TRACES, scanned};
use crate::cql::error::CqlError;
use crate::cql::frame::response::{self, RowsBody};
use crate::cql::frame::{Params, Value};
use crate::cql::functions::Moment;
use crate::cql::system;
use crate::model::{
    self, CasAction, CasRequest, Consistency, CoordinatorError, PartitionKey, Position, ReadRequest, ReadTarget,
};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct PendingRead {
    pub(super) statement: Arc<Prepared>,
    /// Bound values, kept only where filters, or words for the client, need them after the read.
    bound: Vec<Option<Vec<u8>>>,
    skip_metadata: bool,
    paged: bool,
    /// Rows this answer may have.
    most: u32,
    /// Rows left of LIMIT before this answer.
    remaining: u32,
    /// Where the page before ended, kept only where rows are counted after the read.
    resumed: Option<Position>,
    /// When it was asked.
    moment: Moment,
}

impl Front {
    pub(super) fn system_rows(
        &self,
        call: &mut Call<'_>,
        statement: &Prepared,
        rows: &[system::SystemRow],
        bound: &[Value<'_>],
        params: &Params<'_>,
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        let (Plan::Select(select), Some(columns)) = (&statement.plan, &statement.result) else {
            return Err(CqlError::server("a system read that selects nothing"));
        };
        let consistency = super::level(params.consistency)?;
        only_readable(consistency)?;
        only_reachable(call, &select.table.keyspace, consistency)?;
        let resumed = params.paging_state.map(PagingState::decode).transpose()?;
        let before = resumed.map_or(0, |state| state.after.rows_of_partition as usize);
        let mut cells = Vec::new();
        let moment = super::moment(call.node, &self.uuids);
        let count = select.put_system_rows(rows, (bound, &moment), &mut cells)?;
        let count = count as usize;
        let most = params.page_size.and_then(|n| usize::try_from(n).ok());
        let most = most.filter(|n| *n > 0 && !select.gathers()).unwrap_or(usize::MAX);
        let end = before.saturating_add(most).min(count);
        let (from, to) = (
            row_start(&cells, columns.count, before),
            row_start(&cells, columns.count, end),
        );
        let state = (end < count).then(|| system_page(end).encode());
        let page = RowsBody {
            count: end.saturating_sub(before),
            cells: &cells[from..to.max(from)],
            paging_state: state.as_deref(),
        };
        response::rows(
            call.out,
            call.stream,
            &call.warnings,
            columns,
            params.skip_metadata,
            &page,
        );
        Ok(None)
    }

    pub(super) fn select(
        &self,
        call: &mut Call<'_>,
        statement: &Arc<Prepared>,
        consistency: Consistency,
        bound: &[Value<'_>],
        params: &Params<'_>,
    ) -> Answer<Option<(model::Request, PendingKind)>> {
        let (Plan::Select(select), Some(columns)) = (&statement.plan, &statement.result) else {
            return Err(CqlError::server("a read that selects nothing"));
        };
        only_readable(consistency)?;
        if let Some(warning) = select
            .gathering_warning()
            .filter(|_| self.server.dialect.warns_of_gathering)
        {
            call.warnings.push(warning.into());
        }
        if select.sorts() && params.page_size.is_some_and(|n| n > 0) {
            return Err(CqlError::invalid(
                "Cannot page queries with both ORDER BY and a IN restriction on the partition key; you must either remove \
                 the ORDER BY or the IN and sort client side, or disable paging for this query",
            ));
        }
        let resumed = params.paging_state.map(PagingState::decode).transpose()?;
        let remaining = match &resumed {
            Some(state) => state.remaining,
            None => select.limit(bound)?,
        };
        let Some(mut command) = select.command(bound)? else {
            let mut cells = Vec::new();
            let mut count = 0;
            if select.gathers() {
                let moment = super::moment(call.node, &self.uuids);
                count = select.put_gathered(&[], (bound, &moment), u32::MAX, &mut cells)? as usize;
            }
            let page = RowsBody {
                count,
                cells: &cells,
                paging_state: None,
            };
            response::rows(
                call.out,
                call.stream,
                &call.warnings,
                columns,
                params.skip_metadata,
                &page,
            );
            return Ok(None);
        };
        if params.page_size == Some(0) && self.server.dialect.refuses_empty_pages {
            return Err(CqlError::protocol("The page size cannot be 0"));
        }
        let page_size = params
            .page_size
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0 && !select.gathers());
        let most = remaining.min(page_size.unwrap_or(u32::MAX));
        command.limit = match page_size {
            // Filters drop rows after the read, groups take in several, and the first of sorted ones may come last: LIMIT
            // cannot bound the read.
            _ if select.gathers() || select.sorts() => u32::MAX,
            size if select.has_filters() => size.map_or(u32::MAX, |n| n.max(FILTERED_ROWS)),
            _ => most,
        };
        command.after = resumed.map(|s| s.after);
        let may_warn = self.flavor.rules().read_tombstones_warn != u32::MAX;
        let read = PendingRead {
            statement: statement.clone(),
            bound: if select.has_filters() || select.computes() || select.sorts() || may_warn && select.restricts_rows()
            {
                bound.iter().map(owned).collect()
            } else {
                Vec::new()
            },
            moment: super::moment(call.node, &self.uuids),
            skip_metadata: params.skip_metadata,
            paged: page_size.is_some(),
            most,
            remaining,
            resumed: command.after.clone().filter(|_| select.has_filters()),
        };
        let consistency = match (&command.target, consistency) {
            // Nothing is agreed on over many partitions: Cassandra asks for a quorum of each (seen).
            (ReadTarget::Scan(_), Consistency::Serial) => Consistency::Quorum,
            (ReadTarget::Scan(_), Consistency::LocalSerial) => Consistency::LocalQuorum,
            (_, level) => level,
        };
        let request = match consistency {
            Consistency::Serial | Consistency::LocalSerial => model::Request::Cas(Box::new(CasRequest {
                read: command,
                action: CasAction::Read,
                serial: consistency,
                commit: consistency,
            })),
            _ => model::Request::Read(ReadRequest {
                command,
                consistency,
                timeout_ms: select.timeout_ms,
            }),
        };
        Ok(Some((request, PendingKind::Read(Box::new(read)))))
    }
}

/// Rows that are read at a time where filters leave few: a page is short only when fewer of so many pass than it holds.
const FILTERED_ROWS: u32 = 5_000;

impl PendingRead {
    /// What the client is told of tombstones, if there were more than so many.
    pub(super) fn tombstones(&self, result: &model::ReadResult, warn: u32) -> Vec<String> {
        let Plan::Select(select) = &self.statement.plan else {
            return Vec::new();
        };
        let many = result.scanned.iter().filter(|(_, scanned)| scanned.tombstones > warn);
        let bound: Vec<Value<'_>> = super::checks::values(&self.bound).collect();
        many.map(|(partition, seen)| scanned::warning(select, &bound, (partition.as_ref(), *seen), self.most))
            .collect()
    }

    pub(super) fn answer(
        &self,
        result: &model::ReadResult,
        stream: i16,
        warnings: &[String],
        out: &mut Vec<u8>,
    ) -> Answer<()> {
        let (Plan::Select(select), Some(columns)) = (&self.statement.plan, &self.statement.result) else {
            return Err(CqlError::server("a read that selects nothing"));
        };
        let bound: Vec<Value<'_>> = super::checks::values(&self.bound).collect();
        let mut cells = Vec::with_capacity(expected_bytes(result, columns.count));
        let mut count = 0;
        let mut counted = self.resumed.clone();
        // Where the page was full.
        let mut full: Option<Position> = None;
        let scene = (&bound[..], &self.moment);
        if select.gathers() {
            count = select.put_gathered(&result.partitions, scene, self.most, &mut cells)?;
        } else if select.sorts() {
            count = select.put_sorted(&result.partitions, scene, self.most, &mut cells)?;
        } else {
            let per_partition = match select.has_filters() {
                true => select.per_partition_limit(&bound)?,
                false => u32::MAX,
            };
            for partition in &result.partitions {
                let before = rows_of(&partition.key, counted.as_ref());
                let room = per_partition.saturating_sub(before).min(self.most - count);
                let put = select.put_partition(partition, scene, room, &mut cells)?;
                count += put.count;
                let at = Position {
                    partition: partition.key.clone(),
                    clustering: put.last,
                    rows_of_partition: before + put.count,
                };
                // Whether anything comes after it is for the next page to see, as without filters.
                if select.has_filters() && self.paged && count >= self.most {
                    full = Some(at);
                    break;
                }
                counted = Some(Position { clustering: None, ..at });
            }
        }
        let remaining = if self.remaining == u32::MAX {
            u32::MAX
        } else {
            self.remaining - count
        };
        let state = match full.as_ref().or(result.more.as_ref()) {
            Some(after) if self.paged && remaining > 0 => {
                let mut after = after.clone();
                if select.has_filters() && full.is_none() {
                    after.rows_of_partition = rows_of(&after.partition, counted.as_ref());
                }
                Some(PagingState { after, remaining }.encode())
            }
            _ => None,
        };
        let page = RowsBody {
            count: count as usize,
            cells: &cells,
            paging_state: state.as_deref(),
        };
        response::rows(out, stream, warnings, columns, self.skip_metadata, &page);
        Ok(())
    }
}

/// How many rows of a partition were counted so far.
fn rows_of(partition: &PartitionKey, counted: Option<&Position>) -> u32 {
    let same = counted.filter(|at| at.partition == *partition);
    same.map_or(0, |at| at.rows_of_partition)
}

/// Room for the rows of an answer: their bytes with those of their keys, and a length for each column.
fn expected_bytes(result: &model::ReadResult, columns: usize) -> usize {
    let row = |key: &model::PartitionKey, row: &model::Row| key.bytes.len() + row.size_bytes() + 4 * columns;
    result.rows().map(|(key, of)| row(key, of)).sum()
}

fn owned(value: &Value<'_>) -> Option<Vec<u8>> {
    match value {
        Value::Bytes(b) => Some(b.to_vec()),
        Value::Null | Value::Unset => None,
    }
}

/// Where the row of this number begins, among the cells of rows of so many columns.
fn row_start(cells: &[u8], columns: usize, row: usize) -> usize {
    let mut at = 0;
    for _ in 0..row * columns {
        let Some(length) = cells.get(at..).and_then(<[u8]>::first_chunk::<4>) else {
            break;
        };
        at += 4 + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    }
    at
}

/// The next page of the server's own rows begins after so many: they have no keys that a position could name.
fn system_page(rows: usize) -> PagingState {
    PagingState {
        after: Position {
            partition: PartitionKey::new(Vec::new()),
            clustering: None,
            rows_of_partition: rows as u32,
        },
        remaining: u32::MAX,
    }
}

/// A node answers by itself for every copy of what is the server's own; a level that wants more copies than there are cannot be
/// had. (Of traces Cassandra keeps two; of the rest every node has its own.)
fn only_reachable(call: &Call<'_>, keyspace: &str, consistency: Consistency) -> Answer<()> {
    let copies = if keyspace == TRACES { 2 } else { 1 };
    let required = match consistency {
        Consistency::Two => 2,
        Consistency::Three => 3,
        Consistency::Quorum | Consistency::All if keyspace == TRACES => copies,
        _ => 1,
    };
    let alive = copies.min(call.node.config.nodes.len() as u32);
    if required <= alive || keyspace.starts_with("system_v") {
        return Ok(());
    }
    let error = CoordinatorError::Unavailable {
        consistency,
        required,
        alive,
        batchlog: false,
    };
    let words = Words {
        flavor: call.node.config.flavor,
        config: call.node.config,
        table: None,
    };
    Err(answer::error(&words, &error))
}

fn only_readable(consistency: Consistency) -> Answer<()> {
    match consistency {
        Consistency::Any => Err(CqlError::invalid("ANY ConsistencyLevel is only supported for writes")),
        _ => Ok(()),
    }
}
