//! IF of a write: names become columns when the statement is prepared, values become bytes when it is executed. What the
//! outcome looks like is `crate::cql::cas`'s.

use super::relations::{self, InSource, KeyPart};
use super::terms::source;
use super::write::{Rows, WritePlan};
use super::{Binds, Context, Source, int_value, no_column};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::parse::ast::{self, Accessor, Object, Operator, Term};
use crate::cql::values;
use crate::model::{ClusteringKey, ColumnKind, CqlType, Table, partition_key_bytes};
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
    part: Option<PartSource>,
    /// Type of what is compared: of the column, or of the part.
    ty: CqlType,
    how: How,
}

/// A part of a column's value.
#[derive(Debug)]
enum PartSource {
    /// By key of a map or index of a list.
    Key(Source),
    /// By number of a field.
    Field(u16),
}

/// What a condition is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// Column, by index in the table.
    pub column: usize,
    /// Which part of it, if not all.
    pub part: Option<PartOf>,
    /// Type of what is compared.
    pub ty: CqlType,
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartOf {
    /// The entry of a map with this key.
    Key(Vec<u8>),
    /// The element of a list at this index.
    Index(i32),
    /// This field.
    Field(u16),
}

/// A part of a serialised value; `None` when it is not there.
pub fn part_of<'v>(ty: &CqlType, value: &'v [u8], part: &PartOf) -> Option<&'v [u8]> {
    match (ty.unfrozen(), part) {
        (CqlType::Udt(udt), PartOf::Field(i)) => {
            let fields = values::fields(value, udt.fields.iter().map(|(_, t)| t), "user type").ok()?;
            fields.get(usize::from(*i)).copied().flatten()
        }
        (ty @ CqlType::Map(..), PartOf::Key(key)) => {
            let items = values::items(value, ty).ok()?;
            items.chunks_exact(2).find(|e| e[0] == key).map(|e| e[1])
        }
        (ty @ CqlType::Set(_), PartOf::Key(key)) => values::items(value, ty).ok()?.into_iter().find(|e| e == key),
        (ty @ CqlType::List(_), PartOf::Index(i)) => {
            values::items(value, ty).ok()?.get(usize::try_from(*i).ok()?).copied()
        }
        _ => None,
    }
}

#[derive(Debug)]
enum How {
    Compare(Operator, Source),
    Differs(Source),
    In(InSource),
    Contains(Source),
    ContainsKey(Source),
}

/// A condition with its values. Columns by index in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowTest {
    /// The row must not be there.
    NotExists,
    /// The row must be there.
    Exists,
    /// Every column must pass.
    Columns(Vec<(Tested, ValueTest)>),
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
    /// A collection with this value.
    Contains(Vec<u8>),
    /// A map with this key.
    ContainsKey(Vec<u8>),
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
    if column.ty == CqlType::Counter {
        return Err(CqlError::invalid("Conditions on counters are not supported"));
    }
    let (part, marker, ty) = match &condition.part {
        None => (None, name.clone(), column.ty.clone()),
        Some(part) => {
            let (part, marker, ty) = resolve_part(part, name, &column.ty, binds)?;
            (Some(part), marker, ty)
        }
    };
    let one = |binds: &mut Binds, marker: &str, ty: &CqlType| match &condition.object {
        Object::One(term) => source(term, marker, ty, binds),
        Object::Many(_) => Err(CqlError::invalid(format!("Invalid list literal for {name}"))),
    };
    let how = match condition.operator {
        None => How::Differs(one(binds, &marker, &ty)?),
        Some(Operator::In) => How::In(in_list(&condition.object, &marker, &ty, binds)?),
        Some(Operator::Contains) => {
            let ty = contained(&ty, name, false)?;
            How::Contains(one(binds, &format!("value({name})"), &ty)?)
        }
        Some(Operator::ContainsKey) => {
            let ty = contained(&ty, name, true)?;
            How::ContainsKey(one(binds, &format!("key({name})"), &ty)?)
        }
        Some(operator) => How::Compare(operator, one(binds, &marker, &ty)?),
    };
    Ok(OnColumn {
        column: index,
        part,
        ty,
        how,
    })
}

/// The type of what a collection contains, or of a map's keys.
///
/// # Errors
/// CONTAINS on what is no collection, CONTAINS KEY on what is no map.
pub(super) fn contained(ty: &CqlType, column: &str, key: bool) -> Result<CqlType, CqlError> {
    match ty.unfrozen() {
        CqlType::Map(k, _) if key => Ok((**k).clone()),
        CqlType::Map(_, e) | CqlType::List(e) | CqlType::Set(e) if !key => Ok((**e).clone()),
        _ if key => Err(CqlError::invalid(format!(
            "Cannot use CONTAINS KEY on non-map column {column}"
        ))),
        _ => Err(CqlError::invalid(format!(
            "Cannot use CONTAINS on non-collection column {column}"
        ))),
    }
}

/// A part, the name of a marker compared with it, and its type.
fn resolve_part(
    part: &Accessor,
    name: &str,
    ty: &CqlType,
    binds: &mut Binds,
) -> Result<(PartSource, String, CqlType), CqlError> {
    match (part, ty.unfrozen()) {
        (Accessor::Key(key), CqlType::Map(k, v)) => {
            let key = source(key, &format!("key({name})"), k, binds)?;
            Ok((PartSource::Key(key), format!("value({name})"), (**v).clone()))
        }
        (Accessor::Key(index), CqlType::List(e)) => {
            let index = source(index, &format!("idx({name})"), &CqlType::Int, binds)?;
            Ok((PartSource::Key(index), format!("value({name})"), (**e).clone()))
        }
        (Accessor::Key(_), CqlType::Set(_)) => Err(CqlError::invalid(format!(
            "Invalid element access syntax for set column {name}"
        ))),
        (Accessor::Key(_), _) => Err(CqlError::invalid(format!(
            "Invalid element access syntax for non-collection column {name}"
        ))),
        (Accessor::Field(field), CqlType::Udt(udt)) => {
            let (at, ty) = super::parts::field_of(udt, field, name)?;
            Ok((PartSource::Field(at), format!("{name}.{field}"), ty))
        }
        (Accessor::Field(field), _) => Err(CqlError::invalid(format!(
            "Cannot refer to field {field} of column {name}, which is of no user-defined type"
        ))),
    }
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

    /// Whether all conditions are on static columns.
    pub fn is_of_statics_alone(&self, table: &Table) -> bool {
        match self {
            Conditions::NotExists | Conditions::Exists => false,
            Conditions::Columns(list) => list.iter().all(|c| table.columns[c.column].kind == ColumnKind::Static),
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
                    .map(|c| Ok::<_, CqlError>((c.tested(table, bound)?, c.how.with(&c.ty, bound)?)))
                    .collect();
                RowTest::Columns(list?)
            }
        })
    }
}

impl OnColumn {
    fn tested(&self, table: &Table, bound: &[Value<'_>]) -> Result<Tested, CqlError> {
        let part = match &self.part {
            None => None,
            Some(PartSource::Field(i)) => Some(PartOf::Field(*i)),
            Some(PartSource::Key(s)) => {
                let is_list = matches!(table.columns[self.column].ty.unfrozen(), CqlType::List(_));
                match (s.value(bound), is_list) {
                    (Value::Bytes(b), true) => Some(PartOf::Index(int_value(b))),
                    (Value::Bytes(b), false) => Some(PartOf::Key(b.to_vec())),
                    (Value::Null, _) => {
                        return Err(CqlError::invalid("Invalid null value for element access"));
                    }
                    (Value::Unset, _) => return Err(CqlError::invalid("Invalid unset value for element access")),
                }
            }
        };
        Ok(Tested {
            column: self.column,
            part,
            ty: self.ty.clone(),
        })
    }
}

impl How {
    fn with(&self, ty: &CqlType, bound: &[Value<'_>]) -> Result<ValueTest, CqlError> {
        Ok(match self {
            How::Differs(s) => ValueTest::Differs(given(s.value(bound))?),
            How::Contains(s) => ValueTest::Contains(wanted(s.value(bound))?),
            How::ContainsKey(s) => ValueTest::ContainsKey(wanted(s.value(bound))?),
            How::Compare(operator, s) => {
                let value = given(s.value(bound))?;
                if value.is_none() && *operator != Operator::Eq {
                    return Err(CqlError::invalid(format!(
                        "Invalid comparison with null for operator \"{}\"",
                        operator.text()
                    )));
                }
                let is_empty = value.as_ref().is_some_and(|v| is_empty_collection(ty, v));
                if is_empty && *operator != Operator::Eq {
                    return Err(CqlError::invalid(format!(
                        "Invalid comparison with an empty {} for operator \"{}\"",
                        kind_of_collection(ty),
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

/// Whether it is a collection that is not frozen, and has nothing in it.
fn is_empty_collection(ty: &CqlType, value: &[u8]) -> bool {
    let is_of_cells = matches!(ty, CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..));
    is_of_cells && values::items(value, ty).is_ok_and(|items| items.is_empty())
}

fn kind_of_collection(ty: &CqlType) -> &'static str {
    match ty.unfrozen() {
        CqlType::List(_) => "list",
        CqlType::Map(..) => "map",
        _ => "set",
    }
}

fn wanted(value: Value<'_>) -> Result<Vec<u8>, CqlError> {
    given(value)?.ok_or_else(|| CqlError::invalid("Invalid comparison with null for operator \"CONTAINS\""))
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
            ValueTest::Differs(value) => !equal(ty, found, value.as_deref()),
            ValueTest::Contains(value) => found.is_some_and(|f| contains(ty, f, value, false)),
            ValueTest::ContainsKey(key) => found.is_some_and(|f| contains(ty, f, key, true)),
            ValueTest::In(values) => values.iter().any(|v| equal(ty, found, v.as_deref())),
            ValueTest::Compare(Operator::Eq, value) => equal(ty, found, value.as_deref()),
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
                    _ => order == Ordering::Equal,
                }
            }
        }
    }
}

/// Whether two values are the same to a condition: an empty collection whose elements are cells of their own is none.
fn equal(ty: &CqlType, found: Option<&[u8]>, wanted: Option<&[u8]>) -> bool {
    let is_none = |value: &&[u8]| is_empty_collection(ty, value);
    let (found, wanted) = (found.filter(|v| !is_none(v)), wanted.filter(|v| !is_none(v)));
    match (found, wanted) {
        (Some(found), Some(wanted)) => values::same(ty, found, wanted),
        (found, wanted) => found.is_none() && wanted.is_none(),
    }
}

/// Whether a serialised collection has this value, or a map this key.
pub(super) fn contains(ty: &CqlType, collection: &[u8], wanted: &[u8], key: bool) -> bool {
    let items = values::items(collection, ty).unwrap_or_default();
    match ty.unfrozen() {
        CqlType::Map(..) => items.chunks_exact(2).any(|e| e[usize::from(!key)] == wanted),
        _ => items.contains(&wanted),
    }
}

/// What a conditional DELETE must name (C `DeleteStatement.prepareInternal`).
pub(super) fn check_delete(
    table: &Table,
    conditions: Option<&Conditions>,
    rows: &Rows,
    has_statics: bool,
) -> Result<(), CqlError> {
    let Some(conditions) = conditions else { return Ok(()) };
    let names_a_row = matches!(rows, Rows::Exact(_)) || table.clustering_columns == 0;
    let rule = "DELETE statements must restrict all PRIMARY KEY columns with equality relations in order to";
    if !names_a_row && !has_statics {
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
    /// The partition that a statement of a conditional request writes, and for one with conditions, or that needs a read, the
    /// row that is read: `None` for the static part.
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
            // Nothing is asked about the row of such a statement.
            _ if self.conditions.is_none() && !self.needs_read() => None,
            Rows::Exact(parts) if is_in(parts) && self.conditions.is_none() => None,
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
