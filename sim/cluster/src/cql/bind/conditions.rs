//! IF of a write: names become columns when the statement is prepared, values become bytes when it is executed. What the
//! outcome looks like is `crate::cql::cas`'s.

use super::relations::{self, InSource, KeyPart};
use super::write::{Rows, WritePlan};
use super::{Binds, Context, Source, no_column, source};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::parse::ast::{self, Object, Operator, Term};
use crate::cql::values;
use crate::model::{ClusteringKey, ColumnId, ColumnKind, CqlType, Table, partition_key_bytes};
use std::cmp::Ordering;

/// IF, resolved.
#[derive(Debug)]
pub enum Conditions {
    /// IF NOT EXISTS.
    NotExists,
    /// IF EXISTS.
    Exists,
    /// Conditions on columns, in the order of the text.
    Columns(Vec<OnColumn>),
}

/// A condition on one column, by its index in the table.
#[derive(Debug)]
pub struct OnColumn {
    column: usize,
    how: How,
}

#[derive(Debug)]
enum How {
    Compare(Operator, Source),
    Differs(Source),
    In(InSource),
}

/// A condition with its values. Columns by index in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowTest {
    /// The row must not be there.
    NotExists,
    /// The row must be there.
    Exists,
    /// Every column must pass.
    Columns(Vec<(usize, ValueTest)>),
}

/// What a column's value must be; `None` is null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueTest {
    /// Compared with this.
    Compare(Operator, Option<Vec<u8>>),
    /// Anything but this.
    Differs(Option<Vec<u8>>),
    /// One of these.
    In(Vec<Option<Vec<u8>>>),
}

/// Resolves IF.
///
/// # Errors
/// Unknown columns, key columns, constants of the wrong type.
pub(super) fn resolve(
    context: &Context<'_>,
    table: &Table,
    conditions: Option<&ast::Conditions>,
    binds: &mut Binds,
) -> Result<Option<Conditions>, CqlError> {
    Ok(match conditions {
        None => None,
        Some(ast::Conditions::NotExists) => Some(Conditions::NotExists),
        Some(ast::Conditions::Exists) => Some(Conditions::Exists),
        Some(ast::Conditions::Columns(list)) => {
            let list: Result<_, _> = list.iter().map(|c| on_column(context, table, c, binds)).collect();
            Some(Conditions::Columns(list?))
        }
    })
}

fn on_column(
    context: &Context<'_>,
    table: &Table,
    condition: &ast::ColumnCondition,
    binds: &mut Binds,
) -> Result<OnColumn, CqlError> {
    let name = &condition.column;
    let index = table.columns.iter().position(|c| c.name == *name);
    let index = index.ok_or_else(|| no_column(context, table, name))?;
    let column = &table.columns[index];
    if !matches!(column.kind, ColumnKind::Regular | ColumnKind::Static) {
        return Err(CqlError::invalid(format!(
            "PRIMARY KEY column '{name}' cannot have IF conditions"
        )));
    }
    let one = |binds: &mut Binds| match &condition.object {
        Object::One(term) => source(term, name, &column.ty, binds),
        Object::Many(_) => Err(CqlError::invalid(format!("Invalid list literal for {name}"))),
    };
    let how = match condition.operator {
        None => How::Differs(one(binds)?),
        Some(Operator::In) => How::In(in_list(&condition.object, name, &column.ty, binds)?),
        Some(operator) => How::Compare(operator, one(binds)?),
    };
    Ok(OnColumn { column: index, how })
}

fn in_list(object: &Object, name: &str, ty: &CqlType, binds: &mut Binds) -> Result<InSource, CqlError> {
    match object {
        Object::Many(terms) => {
            let sources: Result<_, _> = terms.iter().map(|t| source(t, name, ty, binds)).collect();
            Ok(InSource::Values(sources?))
        }
        Object::One(Term::Marker(i)) => {
            binds.set(*i, &format!("in({name})"), CqlType::List(Box::new(ty.clone())));
            let marker = u16::try_from(*i).map_err(|_| CqlError::invalid("too many bind markers"))?;
            Ok(InSource::Marker(marker))
        }
        Object::One(_) => Err(CqlError::invalid(format!("Invalid list literal for in({name})"))),
    }
}

impl Conditions {
    /// The columns that conditions name, in the order of the text; `None` where existence is asked for.
    pub fn columns(&self) -> Option<Vec<usize>> {
        let Conditions::Columns(list) = self else { return None };
        Some(list.iter().map(|c| c.column).collect())
    }

    /// Whether some condition is on a column of rows, rather than a static one: then a row must be named.
    pub(super) fn needs_row(&self, table: &Table) -> bool {
        match self {
            Conditions::NotExists | Conditions::Exists => false,
            Conditions::Columns(list) => list.iter().any(|c| table.columns[c.column].kind == ColumnKind::Regular),
        }
    }

    /// The conditions with these values.
    ///
    /// # Errors
    /// Unset values, and order compared with null.
    pub fn with(&self, table: &Table, bound: &[Value<'_>]) -> Result<RowTest, CqlError> {
        Ok(match self {
            Conditions::NotExists => RowTest::NotExists,
            Conditions::Exists => RowTest::Exists,
            Conditions::Columns(list) => {
                let list: Result<_, _> = list
                    .iter()
                    .map(|c| Ok::<_, CqlError>((c.column, c.how.with(&table.columns[c.column].ty, bound)?)))
                    .collect();
                RowTest::Columns(list?)
            }
        })
    }
}

impl How {
    fn with(&self, ty: &CqlType, bound: &[Value<'_>]) -> Result<ValueTest, CqlError> {
        Ok(match self {
            How::Differs(s) => ValueTest::Differs(given(s.value(bound))?),
            How::Compare(operator, s) => {
                let value = given(s.value(bound))?;
                if value.is_none() && *operator != Operator::Eq {
                    return Err(CqlError::invalid(format!(
                        "Invalid comparison with null for operator \"{}\"",
                        operator.text()
                    )));
                }
                ValueTest::Compare(*operator, value)
            }
            How::In(InSource::Values(sources)) => {
                let values: Result<_, _> = sources.iter().map(|s| given(s.value(bound))).collect();
                ValueTest::In(values?)
            }
            How::In(InSource::Marker(i)) => match given(bound[usize::from(*i)])? {
                None => return Err(CqlError::invalid("Invalid null list in IN condition")),
                Some(bytes) => {
                    let items = values::list_elements(&bytes, ty)?;
                    ValueTest::In(items.into_iter().map(|b| Some(b.to_vec())).collect())
                }
            },
        })
    }
}

fn given(value: Value<'_>) -> Result<Option<Vec<u8>>, CqlError> {
    match value {
        Value::Bytes(bytes) => Ok(Some(bytes.to_vec())),
        Value::Null => Ok(None),
        Value::Unset => Err(CqlError::invalid("Invalid 'unset' value in condition")),
    }
}

impl ValueTest {
    /// Whether a value of this type passes; `None` is a value that is not there.
    pub fn passes(&self, ty: &CqlType, found: Option<&[u8]>) -> bool {
        match self {
            ValueTest::Differs(value) => found != value.as_deref(),
            ValueTest::In(values) => values.iter().any(|v| v.as_deref() == found),
            ValueTest::Compare(Operator::Eq, value) => found == value.as_deref(),
            ValueTest::Compare(operator, value) => {
                let (Some(found), Some(value)) = (found, value) else {
                    return false;
                };
                let order = values::compare(ty, found, value);
                match operator {
                    Operator::Lt => order == Ordering::Less,
                    Operator::Le => order != Ordering::Greater,
                    Operator::Gt => order == Ordering::Greater,
                    Operator::Ge => order != Ordering::Less,
                    Operator::Eq | Operator::In => order == Ordering::Equal,
                }
            }
        }
    }
}

/// What a conditional DELETE must name (C `DeleteStatement.prepareInternal`).
pub(super) fn check_delete(
    table: &Table,
    conditions: Option<&Conditions>,
    rows: &Rows,
    statics: &[(ColumnId, Source)],
) -> Result<(), CqlError> {
    let Some(conditions) = conditions else { return Ok(()) };
    let names_a_row = matches!(rows, Rows::Exact(_)) || table.clustering_columns == 0;
    let rule = "DELETE statements must restrict all PRIMARY KEY columns with equality relations in order to";
    if !names_a_row && statics.is_empty() {
        return Err(CqlError::invalid(format!("{rule} delete non static columns")));
    }
    if !names_a_row && conditions.needs_row(table) {
        return Err(CqlError::invalid(format!(
            "{rule} use IF condition on non static columns"
        )));
    }
    Ok(())
}

impl WritePlan {
    /// The partition that a statement of a conditional request writes, and for one with conditions the row that they are
    /// about: `None` for the static part.
    ///
    /// # Errors
    /// Keys by IN, and bad key values.
    pub fn conditional_target(&self, bound: &[Value<'_>]) -> Result<(Vec<u8>, Option<ClusteringKey>), CqlError> {
        let is_in = |parts: &[KeyPart]| parts.iter().any(|p| matches!(p, KeyPart::In(_)));
        if is_in(&self.partition) {
            return Err(CqlError::invalid(
                "IN on the partition key is not supported with conditional updates",
            ));
        }
        let keys = relations::product(&self.partition, self.table.partition_key(), bound)?;
        let mut key = Vec::new();
        partition_key_bytes(keys.first().map_or(&[][..], Vec::as_slice), &mut key);
        relations::check_partition_key(&key)?;
        let row = match &self.rows {
            _ if self.conditions.is_none() => None,
            Rows::Exact(parts) if is_in(parts) => {
                return Err(CqlError::invalid(
                    "IN on the clustering key columns is not supported with conditional updates",
                ));
            }
            Rows::Exact(parts) => {
                let rows = relations::product(parts, self.table.clustering(), bound)?;
                rows.first().map(|components| ClusteringKey::of(components))
            }
            // A DELETE of the one row of a partition is a deletion of the partition.
            Rows::None if self.table.clustering_columns == 0 => Some(ClusteringKey::default()),
            Rows::None | Rows::Range { .. } => None,
        };
        Ok((key, row))
    }
}
