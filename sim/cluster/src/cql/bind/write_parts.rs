//! Executing writes of parts of columns: records whose cells are parts, and for lists by index the reads that come first.

use super::parts::{self, PartsPlan};
use super::relations;
use super::write::{Rows, Verb, WritePlan};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::model::{
    ClusteringKey, ClusteringSelect, ColumnId, OpKind, PartitionKey, ReadCommand, ReadResult, Row, Slice, WriteSet,
    partition_key_bytes,
};

/// What was read for a statement.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// One for each read it asked for.
    results: &'a [ReadResult],
    /// The static columns that were read; `None` stands for all.
    statics: Option<&'a [ColumnId]>,
}

impl<'a> Found<'a> {
    /// For a statement that needs nothing.
    pub fn nothing() -> Found<'a> {
        Found::of(&[])
    }

    /// These.
    pub fn of(results: &'a [ReadResult]) -> Found<'a> {
        Found { results, statics: None }
    }

    /// What a round of Paxos read, of static columns these.
    pub fn of_round(results: &'a [ReadResult], statics: Option<&'a [ColumnId]>) -> Found<'a> {
        Found { results, statics }
    }

    fn row(&self, key: &[u8], clustering: &[u8]) -> Option<&'a Row> {
        let mut partitions = self.results.iter().flat_map(|r| &r.partitions);
        let partition = partitions.find(|p| p.key.bytes == key)?;
        partition.rows.iter().find(|r| r.clustering() == clustering)
    }

    /// The static row, if that column was read.
    fn statics(&self, key: &[u8], column: ColumnId) -> Option<&'a Row> {
        if self.statics.is_some_and(|read| !read.contains(&column)) {
            return None;
        }
        let mut partitions = self.results.iter().flat_map(|r| &r.partitions);
        partitions.find(|p| p.key.bytes == key)?.statics.as_ref()
    }
}

impl WritePlan {
    /// Whether rows must be read before it can be said what is written.
    pub fn needs_read(&self) -> bool {
        self.parts.as_ref().is_some_and(|p| p.needs_read())
    }

    /// Whether it writes static columns.
    pub fn writes_statics(&self) -> bool {
        match &self.parts {
            Some(plan) => !plan.statics.is_empty(),
            None => !self.statics.is_empty(),
        }
    }

    /// The reads for that.
    ///
    /// # Errors
    /// Bad key values.
    pub fn reads(&self, bound: &[Value<'_>]) -> Result<Vec<ReadCommand>, CqlError> {
        let (partitions, rows) = self.named_rows(bound)?;
        let mut reads = Vec::with_capacity(partitions.len());
        for components in partitions {
            let mut key = Vec::new();
            partition_key_bytes(&components, &mut key);
            relations::check_partition_key(&key)?;
            let slices = rows.iter().map(|r| Slice::prefix(ClusteringKey::of(r))).collect();
            let all = self.table.clustering_columns == 0 || !matches!(self.rows, Rows::Exact(_));
            reads.push(ReadCommand {
                clustering: if all {
                    ClusteringSelect::All
                } else {
                    ClusteringSelect::Slices(slices)
                },
                ..ReadCommand::partition(self.table.id, PartitionKey::new(key))
            });
        }
        Ok(reads)
    }

    /// As [`WritePlan::execute`], given what its reads found.
    ///
    /// # Errors
    /// As [`WritePlan::execute`]; and indexes outside a list.
    pub fn execute_with(&self, bound: &[Value<'_>], found: &Found<'_>, out: &mut WriteSet) -> Result<(), CqlError> {
        let (timestamp_us, ttl_s) = (self.own_timestamp(bound)?, self.ttl_s(bound)?);
        match &self.parts {
            Some(plan) => self.execute_parts(plan, bound, out, timestamp_us, ttl_s, found),
            None => Err(CqlError::server("a plain write was read for")),
        }
    }

    /// As [`WritePlan::execute_in_cas`], given what the round read.
    ///
    /// # Errors
    /// As [`WritePlan::execute_with`].
    pub fn execute_in_cas_with(
        &self,
        bound: &[Value<'_>],
        found: &Found<'_>,
        out: &mut WriteSet,
    ) -> Result<(), CqlError> {
        match &self.parts {
            Some(plan) => self.execute_parts(plan, bound, out, None, self.ttl_s(bound)?, found),
            None => Err(CqlError::server("a plain write was read for")),
        }
    }

    #[expect(clippy::type_complexity, reason = "partition keys and clustering keys, by component")]
    fn named_rows<'a>(&'a self, bound: &[Value<'a>]) -> Result<(Vec<Vec<&'a [u8]>>, Vec<Vec<&'a [u8]>>), CqlError> {
        let partitions = relations::product(&self.partition, self.table.partition_key(), bound)?;
        let row_parts = match &self.rows {
            Rows::Exact(parts) => &parts[..],
            Rows::None | Rows::Range { .. } => &[],
        };
        let rows = relations::product(row_parts, self.table.clustering(), bound)?;
        Ok((partitions, rows))
    }

    pub(super) fn execute_parts(
        &self,
        plan: &PartsPlan,
        bound: &[Value<'_>],
        out: &mut WriteSet,
        timestamp_us: Option<i64>,
        ttl_s: u32,
        found: &Found<'_>,
    ) -> Result<(), CqlError> {
        let ttl_s = if self.verb == Verb::Delete { 0 } else { ttl_s };
        let (partitions, rows) = self.named_rows(bound)?;
        for components in partitions {
            let mut key = Vec::new();
            partition_key_bytes(&components, &mut key);
            relations::check_partition_key(&key)?;
            if parts::has_effect(&plan.statics, bound) {
                out.begin(OpKind::StaticParts, self.table.id, &key, timestamp_us)
                    .ttl(ttl_s);
                for action in &plan.statics {
                    parts::put(std::slice::from_ref(action), bound, found.statics(&key, action.0), out)?;
                }
                out.end();
            }
            let writes_rows = matches!(self.rows, Rows::Exact(_))
                && (self.verb == Verb::Insert || parts::has_effect(&plan.rows, bound));
            for row in rows.iter().filter(|_| writes_rows) {
                out.begin(OpKind::Parts, self.table.id, &key, timestamp_us).ttl(ttl_s);
                if self.verb == Verb::Insert {
                    out.marker();
                }
                row.iter().for_each(|c| {
                    out.clustering(c);
                });
                let clustering = ClusteringKey::of(row);
                parts::put(&plan.rows, bound, found.row(&key, &clustering.0), out)?;
                out.end();
            }
        }
        relations::check_clustering(out)
    }
}
