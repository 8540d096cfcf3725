//! Executing writes of parts of columns: records whose cells are parts, and for lists by index the reads that come first.

use super::parts::{self, PartsPlan};
use super::relations;
use super::write::{Rows, Verb, WritePlan};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::model::{
    ClusteringKey, ClusteringSelect, OpKind, PartitionKey, ReadCommand, ReadResult, Row, Slice, WriteSet,
    partition_key_bytes,
};

/// What was read for a statement, one result for each read it asked for.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a>(&'a [ReadResult]);

impl<'a> Found<'a> {
    /// For a statement that needs nothing.
    pub fn nothing() -> Found<'a> {
        Found(&[])
    }

    /// These.
    pub fn of(results: &'a [ReadResult]) -> Found<'a> {
        Found(results)
    }

    fn row(&self, key: &[u8], clustering: &[u8]) -> Option<&'a Row> {
        let mut partitions = self.0.iter().flat_map(|r| &r.partitions);
        let partition = partitions.find(|p| p.key.bytes == key)?;
        partition.rows.iter().find(|r| r.clustering() == clustering)
    }

    fn statics(&self, key: &[u8]) -> Option<&'a Row> {
        let mut partitions = self.0.iter().flat_map(|r| &r.partitions);
        partitions.find(|p| p.key.bytes == key)?.statics.as_ref()
    }
}

impl WritePlan {
    /// Whether rows must be read before it can be said what is written.
    pub fn needs_read(&self) -> bool {
        self.parts.as_ref().is_some_and(|p| p.needs_read())
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
                parts::put(&plan.statics, bound, found.statics(&key), out)?;
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
        Ok(())
    }
}
