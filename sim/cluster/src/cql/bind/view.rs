//! Rows as SELECT looks at them, of the core or of a system table, and whether they meet what WHERE requires of them.

use super::Source;
use super::conditions::{PartOf, contains, part_of};
use super::parts::{assembled, times};
use super::relations::{Holds, InSource, Restriction, in_values};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::values;
use crate::model::{Column, ColumnId, ColumnKind, Row, Table, Token};
use std::cmp::Ordering;

/// Whether a value meets a restriction; null meets none.
pub(super) fn passes(
    restriction: &Restriction,
    column: &Column,
    value: Option<&[u8]>,
    bound: &[Value<'_>],
) -> Result<bool, CqlError> {
    let wanted = |s: &Source| -> Result<Vec<u8>, CqlError> {
        match s.value(bound) {
            Value::Bytes(b) => Ok(b.to_vec()),
            Value::Null if matches!(restriction, Restriction::Holds(_)) => Err(CqlError::invalid(format!(
                "Unsupported null value for column {}",
                column.name
            ))),
            Value::Null => Err(CqlError::invalid(format!(
                "Invalid null value in condition for column {}",
                column.name
            ))),
            Value::Unset => Err(CqlError::invalid(format!(
                "Invalid unset value for column {}",
                column.name
            ))),
        }
    };
    let side = |b: &Option<(Source, bool)>, value: &[u8], outside: Ordering| -> Result<bool, CqlError> {
        let Some((s, inclusive)) = b else { return Ok(true) };
        let order = values::compare(&column.ty, value, &wanted(s)?);
        Ok(order != outside && (*inclusive || order != Ordering::Equal))
    };
    let Some(value) = value else { return Ok(false) };
    Ok(match restriction {
        Restriction::Eq(s) => values::same(&column.ty, value, &wanted(s)?),
        Restriction::In(list) => match list {
            InSource::Marker(i) if bound[usize::from(*i)] == Value::Null => false,
            list => in_values(list, column, bound)?
                .iter()
                .any(|v| values::same(&column.ty, value, v)),
        },
        Restriction::Holds(list) => {
            for holds in list {
                let held = match holds {
                    Holds::Value(s) => contains(&column.ty, value, &wanted(s)?, false),
                    Holds::Key(s) => contains(&column.ty, value, &wanted(s)?, true),
                    Holds::Entry(key, s) => {
                        part_of(&column.ty, value, &PartOf::Key(wanted(key)?)) == Some(&wanted(s)?[..])
                    }
                };
                if !held {
                    return Ok(false);
                }
            }
            true
        }
        Restriction::Slice { lower, upper } => {
            side(lower, value, Ordering::Less)? && side(upper, value, Ordering::Greater)?
        }
    })
}

/// A row to be tested and written; columns by index in the table.
pub(super) trait RowView {
    fn value(&self, column: usize) -> Option<&[u8]>;
    /// A column that is kept by its elements.
    fn assembled(&self, column: usize) -> Option<Vec<u8>>;
    /// Write time in microseconds and TTL left in seconds of a cell.
    fn written(&self, column: usize) -> Option<(i64, Option<u32>)>;
    fn token(&self) -> i64;
    /// Times of all elements of a collection, in its order.
    fn elements_written(&self, column: usize) -> Vec<(i64, Option<u32>)>;
    /// Times of one.
    fn element_written(&self, column: usize, path: &[u8]) -> Option<(i64, Option<u32>)>;
}

pub(super) struct PartitionView<'a> {
    pub table: &'a Table,
    pub components: Vec<&'a [u8]>,
    pub token: Token,
    pub statics: Option<&'a Row>,
    pub row: Option<&'a Row>,
    pub clustering: Vec<&'a [u8]>,
}

impl<'a> PartitionView<'a> {
    fn cells(&self, column: usize) -> Option<(&'a Row, ColumnId)> {
        let c = &self.table.columns[column];
        let row = if c.kind == ColumnKind::Static {
            self.statics
        } else {
            self.row
        };
        row.map(|r| (r, c.id))
    }
}

impl RowView for PartitionView<'_> {
    #[inline(always)]
    fn value(&self, column: usize) -> Option<&[u8]> {
        if let Some(component) = self
            .components
            .get(column)
            .filter(|_| column < self.table.partition_columns)
        {
            return Some(component);
        }
        let clustering = column.wrapping_sub(self.table.partition_columns);
        if clustering < self.table.clustering_columns {
            return self.clustering.get(clustering).copied();
        }
        let (row, id) = self.cells(column)?;
        row.cell(id).map(|c| c.value)
    }

    fn assembled(&self, column: usize) -> Option<Vec<u8>> {
        let (row, id) = self.cells(column)?;
        assembled(&self.table.columns[column].ty, row, id)
    }

    fn written(&self, column: usize) -> Option<(i64, Option<u32>)> {
        let (row, id) = self.cells(column)?;
        row.cell(id).map(|c| (c.timestamp_us, c.ttl_s))
    }

    fn token(&self) -> i64 {
        self.token.0
    }

    fn elements_written(&self, column: usize) -> Vec<(i64, Option<u32>)> {
        let found = self.cells(column);
        found.map_or_else(Vec::new, |(row, id)| times(&self.table.columns[column].ty, row, id))
    }

    fn element_written(&self, column: usize, path: &[u8]) -> Option<(i64, Option<u32>)> {
        let (row, id) = self.cells(column)?;
        let found = row.elements(id).find(|e| e.path == Some(path));
        found.map(|e| (e.timestamp_us, e.ttl_s))
    }
}

pub(super) struct SystemRow<'a>(pub &'a [Option<Vec<u8>>]);

impl RowView for SystemRow<'_> {
    fn value(&self, column: usize) -> Option<&[u8]> {
        self.0[column].as_deref()
    }
    fn assembled(&self, column: usize) -> Option<Vec<u8>> {
        self.0[column].clone()
    }
    fn written(&self, _: usize) -> Option<(i64, Option<u32>)> {
        None
    }
    fn token(&self) -> i64 {
        0
    }
    fn elements_written(&self, _: usize) -> Vec<(i64, Option<u32>)> {
        Vec::new()
    }
    fn element_written(&self, _: usize, _: &[u8]) -> Option<(i64, Option<u32>)> {
        None
    }
}
