//! SELECTs whose rows are looked at all together: groups and aggregates, and rows of several partitions sorted as one.

use super::relations::{KeyPart, Restriction, Restrictions};
use super::select::{Item, Partitions, SelectPlan};
use super::selection::{Groups, Scene};
use super::view::{PartitionView, RowView};
use super::{Context, no_column};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::functions::Moment;
use crate::cql::parse::ast;
use crate::cql::values;
use crate::model::{ClusteringOrder, ColumnKind, Components, PartitionRows, Table, partition_key_components};
use std::cmp::Ordering;

impl SelectPlan {
    /// Takes a row into its group.
    pub(super) fn gather<R: RowView>(
        &self,
        row: &R,
        (bound, moment): (&[Value<'_>], &Moment),
        groups: &mut Groups,
    ) -> Result<(), CqlError> {
        let key = (0..self.group_columns)
            .map(|i| row.value(i).unwrap_or_default().to_vec())
            .collect();
        let exprs: Vec<_> = self.exprs.iter().map(|(e, _)| e.clone()).collect();
        let scene = Scene {
            row: Some(row),
            table: &self.table,
            bound,
            moment,
            aggregates: &[],
        };
        groups.add(key, &exprs, &self.aggregates, &scene)
    }

    pub(super) fn put_groups<R: RowView>(
        &self,
        groups: Groups,
        (bound, moment): (&[Value<'_>], &Moment),
        most: u32,
        out: &mut Vec<u8>,
    ) -> Result<u32, CqlError> {
        let exprs: Vec<_> = self.exprs.iter().map(|(e, _)| e.clone()).collect();
        let scene: Scene<'_, R> = Scene {
            row: None,
            table: &self.table,
            bound,
            moment,
            aggregates: &[],
        };
        groups.put(&exprs, &self.aggregates, self.group_columns > 0, most, &scene, out)
    }

    /// Calls `f` for every row that passes the filters.
    fn each_row(
        &self,
        partitions: &[PartitionRows],
        bound: &[Value<'_>],
        mut f: impl FnMut(&PartitionView<'_>) -> Result<(), CqlError>,
    ) -> Result<(), CqlError> {
        for partition in partitions {
            let components =
                partition_key_components(&partition.key.bytes, self.table.partition_columns).unwrap_or_default();
            let mut view = PartitionView {
                table: &self.table,
                components,
                token: partition.key.token,
                statics: partition.statics.as_ref(),
                row: None,
                clustering: Vec::with_capacity(self.table.clustering_columns),
            };
            let is_static_row = partition.rows.is_empty() && partition.statics.is_some() && self.rows_unrestricted();
            if is_static_row && self.meets_filters(&view, bound)? {
                f(&view)?;
            }
            for row in &partition.rows {
                view.clustering.clear();
                view.clustering.extend(Components::new(row.clustering()));
                view.row = Some(row);
                if self.meets_filters(&view, bound)? {
                    f(&view)?;
                }
            }
        }
        Ok(())
    }

    /// Whether it names rows, and wants static columns and nothing of rows (C `Selection.containsOnlyStaticColumns`, seen).
    pub(super) fn asks_for_statics_of_a_row(&self) -> bool {
        let is = |i: usize, kinds: &[ColumnKind]| kinds.contains(&self.table.columns[i].kind);
        let selects = |kinds: &[ColumnKind]| {
            self.items.iter().any(|(item, _)| match item {
                Item::Column(i) | Item::Elements(i) | Item::WriteTime(i) | Item::Ttl(i) => is(*i, kinds),
                Item::Token => false,
                Item::Expr(i) => self.exprs[*i].0.any_column(&self.aggregates, &|i| is(i, kinds)),
            })
        };
        let of_rows = [ColumnKind::Clustering, ColumnKind::Regular];
        selects(&[ColumnKind::Static])
            && !selects(&of_rows)
            && self.all.iter().any(|(i, _)| is(*i, &[ColumnKind::Clustering]))
    }

    /// The groups of these partitions, at most `most` of them; returns how many.
    ///
    /// # Errors
    /// What functions refuse, and bad filter values.
    pub fn put_gathered(
        &self,
        partitions: &[PartitionRows],
        (bound, moment): (&[Value<'_>], &Moment),
        most: u32,
        out: &mut Vec<u8>,
    ) -> Result<u32, CqlError> {
        let per_partition = self.per_partition_limit(bound)? as usize;
        let mut groups = Groups::new(self.table.partition_columns);
        self.each_row(partitions, bound, |row| {
            let key: Vec<Vec<u8>> = (0..self.group_columns)
                .map(|i| row.value(i).unwrap_or_default().to_vec())
                .collect();
            let (there, is_last) = groups.count_of(&key);
            if !is_last && self.group_columns > 0 && there >= per_partition {
                return Ok(());
            }
            self.gather(row, (bound, moment), &mut groups)
        })?;
        self.put_groups::<PartitionView<'_>>(groups, (bound, moment), most, out)
    }

    /// The rows of these partitions sorted by clustering columns, at most `most` of them; returns how many.
    ///
    /// # Errors
    /// As [`SelectPlan::put_gathered`].
    pub fn put_sorted(
        &self,
        partitions: &[PartitionRows],
        (bound, moment): (&[Value<'_>], &Moment),
        most: u32,
        out: &mut Vec<u8>,
    ) -> Result<u32, CqlError> {
        let mut rows: Vec<(Vec<Vec<u8>>, Vec<u8>)> = Vec::new();
        self.each_row(partitions, bound, |row| {
            let key = self
                .sort
                .iter()
                .map(|(i, _)| row.value(*i).unwrap_or_default().to_vec());
            let mut cells = Vec::new();
            self.put_whole_row(row, (bound, moment), &mut cells)?;
            rows.push((key.collect(), cells));
            Ok(())
        })?;
        rows.sort_by(|a, b| {
            let columns = self.sort.iter().zip(a.0.iter().zip(&b.0));
            columns
                .map(|((i, descending), (a, b))| {
                    let order = values::compare(&self.table.columns[*i].ty, a, b);
                    if *descending { order.reverse() } else { order }
                })
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        });
        let count = rows.len().min(most as usize);
        rows.truncate(count);
        rows.iter().for_each(|(_, cells)| out.extend_from_slice(cells));
        Ok(count as u32)
    }
}

/// The columns by which rows are sorted after reading: those of ORDER BY where several partitions are named.
pub(super) fn sorting(
    table: &Table,
    select: &ast::Select,
    partitions: &Partitions,
) -> Result<Vec<(usize, bool)>, CqlError> {
    let is_several = matches!(partitions, Partitions::Keys(parts) if parts.iter().any(|p| matches!(p, KeyPart::In(_))));
    if !is_several {
        return Ok(Vec::new());
    }
    let place = |name: &str| table.columns.iter().position(|c| c.name == name);
    let each = select.order_by.iter();
    Ok(each.filter_map(|(name, d)| Some((place(name)?, *d))).collect())
}

/// How many columns of the primary key GROUP BY names, with those before them that are given.
pub(super) fn group_columns(
    context: &Context<'_>,
    table: &Table,
    select: &ast::Select,
    restrictions: &Restrictions,
) -> Result<usize, CqlError> {
    let keys = table.partition_columns + table.clustering_columns;
    let mut at = 0;
    for name in &select.group_by {
        let index = table.columns.iter().position(|c| c.name == *name);
        let index = index.ok_or_else(|| no_column(context, table, name))?;
        if index >= keys {
            return Err(CqlError::invalid(format!(
                "Group by is currently only supported on the columns of the PRIMARY KEY, got {name}"
            )));
        }
        while at < index && matches!(restrictions.column(at), Some(Restriction::Eq(_))) {
            at += 1;
        }
        if at != index {
            return Err(CqlError::invalid(
                "Group by currently only support groups of columns following their declared order in the PRIMARY KEY",
            ));
        }
        at += 1;
    }
    let is_scylla = context.server.dialect.is_scylla();
    if at > 0 && at < table.partition_columns {
        return Err(CqlError::invalid(match is_scylla {
            true => "GROUP BY must include the entire partition key",
            false => "Group by is not supported on only a part of the partition key",
        }));
    }
    if select.distinct && at > table.partition_columns {
        return Err(CqlError::invalid(
            "Grouping on clustering columns is not allowed for SELECT DISTINCT queries",
        ));
    }
    Ok(at)
}

/// Whether rows are asked for against the order of the table.
///
/// # Errors
/// Orders that no table has.
pub(super) fn is_reversed(
    context: &Context<'_>,
    table: &Table,
    select: &ast::Select,
    (partitions, restrictions): (&Partitions, &Restrictions),
) -> Result<bool, CqlError> {
    if select.order_by.is_empty() {
        return Ok(false);
    }
    let Partitions::Keys(parts) = partitions else {
        return Err(CqlError::invalid(
            "ORDER BY is only supported when the partition key is restricted by an EQ or an IN.",
        ));
    };
    debug_assert!(!parts.is_empty(), "a table has a partition key");
    let first = table.partition_columns;
    let is_fixed = |at: usize| {
        context.server.dialect.order_skips_fixed && matches!(restrictions.column(first + at), Some(Restriction::Eq(_)))
    };
    let mut reversed = None;
    let mut at = 0;
    for (name, descending) in &select.order_by {
        while is_fixed(at) && table.clustering().get(at).is_some_and(|c| c.name != *name) {
            at += 1;
        }
        let Some(column) = table.clustering().get(at).filter(|c| c.name == *name) else {
            return Err(CqlError::invalid(
                if table.clustering().iter().any(|c| c.name == *name) {
                    "Order by currently only supports the ordering of columns following their declared order in the PRIMARY KEY"
                    .to_string()
                } else {
                    format!(
                        "Order by is currently only supported on the clustered columns of the PRIMARY KEY, got {name}"
                    )
                },
            ));
        };
        let against = *descending != (column.order == ClusteringOrder::Desc);
        if reversed.is_some_and(|r| r != against) {
            return Err(CqlError::invalid("Unsupported order by relation"));
        }
        reversed = Some(against);
        at += 1;
    }
    Ok(reversed.unwrap_or(false))
}
