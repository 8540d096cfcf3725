//! Writes of parts of a column: elements of collections, fields of user-defined types, counters; and collections written
//! whole, which are a deletion of all elements and the new ones. Statements with such operations take a way of their own, so
//! that all others cost what they did.

use super::terms::source;
use super::{Binds, Source, int_value};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::parse::ast::{Accessor, Change, SetOperation, Term};
use crate::cql::values;
use crate::model::parts::{Part, compare_list_paths};
use crate::model::{Column, ColumnId, CqlType, Row, WriteSet};

/// What is done to one column.
#[derive(Debug, Clone)]
pub(super) enum Action {
    /// A cell written whole; null deletes it.
    Whole(Source),
    /// A collection or user-defined type written whole.
    Overwrite(CqlType, Source),
    /// All elements deleted.
    Empty,
    /// Elements added: entries of a map, values of a set, behind a list.
    Add(CqlType, Source),
    /// Values put before a list.
    Prepend(CqlType, Source),
    /// Elements removed by keys of a map or values of a set; the type is that of the set of them.
    Remove(CqlType, Source),
    /// One element of a map.
    SetKey(Source, Source),
    /// One field of a user-defined type, by its number.
    SetField(u16, Source),
    /// One element of a map or set deleted.
    RemoveKey(Source),
    /// One field deleted.
    RemoveField(u16),
    /// The element at an index of a list.
    SetIndex(Source, Source),
    /// The element at an index of a list deleted.
    RemoveIndex(Source),
    /// All elements of a list with one of these values deleted.
    Discard(CqlType, Source),
    /// A counter, and whether it is decremented.
    Count(Source, bool),
}

impl Action {
    /// Whether the row must be read before it can be said what is written.
    pub fn needs_read(&self) -> bool {
        matches!(
            self,
            Action::SetIndex(..) | Action::RemoveIndex(_) | Action::Discard(..)
        )
    }
}

/// The operations of a statement that has any of parts.
#[derive(Debug, Default)]
pub(super) struct PartsPlan {
    /// On columns of rows, in order of column, those of one column as written.
    pub rows: Vec<(ColumnId, Action)>,
    /// On static columns.
    pub statics: Vec<(ColumnId, Action)>,
}

impl PartsPlan {
    /// Whether rows must be read before.
    pub fn needs_read(&self) -> bool {
        self.rows.iter().chain(&self.statics).any(|(_, a)| a.needs_read())
    }
}

fn invalid_operation(operation: &SetOperation, what: &str, column: &Column) -> CqlError {
    CqlError::invalid(format!(
        "Invalid operation ({}) for {what} column {}",
        operation.text(),
        column.name
    ))
}

fn is_frozen(ty: &CqlType) -> bool {
    matches!(ty, CqlType::Frozen(_))
}

fn is_collection(ty: &CqlType) -> bool {
    matches!(ty.unfrozen(), CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..))
}

/// What an operation of SET does to a column.
///
/// # Errors
/// What does not fit the column, in real servers' words.
pub(super) fn set(operation: &SetOperation, column: &Column, binds: &mut Binds) -> Result<Action, CqlError> {
    let (name, ty) = (&column.name, &column.ty);
    match operation {
        SetOperation::Assign { value, .. } => {
            if *ty == CqlType::Counter {
                return Err(CqlError::invalid(format!(
                    "Cannot set the value of counter column {name} (counters can only be incremented/decremented, not set)"
                )));
            }
            assigned(source(value, name, ty, binds)?, ty)
        }
        SetOperation::Part { part, value, .. } => set_part(operation, part, value, column, binds),
        SetOperation::Delta { change, value, .. } => {
            if *change == Change::Prepend {
                return match ty {
                    CqlType::List(_) => Ok(Action::Prepend(ty.clone(), source(value, name, ty, binds)?)),
                    CqlType::Frozen(list) if matches!(**list, CqlType::List(_)) => {
                        Err(invalid_operation(operation, "frozen list", column))
                    }
                    _ => Err(invalid_operation(operation, "non list", column)),
                };
            }
            match (ty, change) {
                (CqlType::Counter, _) => {
                    if *value == Term::Null {
                        return Err(CqlError::invalid("Invalid null value for counter increment/decrement"));
                    }
                    let value = source(value, name, ty, binds)?;
                    Ok(Action::Count(value, *change == Change::Subtract))
                }
                (CqlType::List(_), Change::Subtract) => {
                    Ok(Action::Discard(ty.clone(), source(value, name, ty, binds)?))
                }
                (CqlType::Set(_), Change::Subtract) => Ok(Action::Remove(ty.clone(), source(value, name, ty, binds)?)),
                (CqlType::Map(k, _), Change::Subtract) => {
                    if matches!(value, Term::Map(_)) {
                        return Err(CqlError::invalid(format!(
                            "Value for a map substraction has to be a set, but was: '{}'",
                            value.text()
                        )));
                    }
                    let keys = CqlType::Set(k.clone());
                    let value = source(value, name, &keys, binds)?;
                    Ok(Action::Remove(keys, value))
                }
                (CqlType::Map(..), _) if matches!(value, Term::Set(items) if !items.is_empty()) => {
                    Err(CqlError::invalid(format!(
                        "Value for a map addition has to be a map, but was: '{}'",
                        value.text()
                    )))
                }
                (CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..), _) => {
                    Ok(Action::Add(ty.clone(), source(value, name, ty, binds)?))
                }
                _ if is_frozen(ty) && is_collection(ty) => {
                    Err(invalid_operation(operation, "frozen collection", column))
                }
                _ => Err(invalid_operation(operation, "non counter", column)),
            }
        }
    }
}

/// A column written whole.
pub(super) fn assigned(value: Source, ty: &CqlType) -> Result<Action, CqlError> {
    Ok(match ty.is_multicell() {
        true => Action::Overwrite(ty.clone(), value),
        false => Action::Whole(value),
    })
}

fn set_part(
    operation: &SetOperation,
    part: &Accessor,
    value: &Term,
    column: &Column,
    binds: &mut Binds,
) -> Result<Action, CqlError> {
    let (name, ty) = (&column.name, &column.ty);
    match (part, ty) {
        (Accessor::Key(key), CqlType::Map(k, v)) => Ok(Action::SetKey(
            source(key, &format!("key({name})"), k, binds)?,
            source(value, &format!("value({name})"), v, binds)?,
        )),
        (Accessor::Key(index), CqlType::List(e)) => Ok(Action::SetIndex(
            source(index, &format!("idx({name})"), &CqlType::Int, binds)?,
            source(value, &format!("value({name})"), e, binds)?,
        )),
        (Accessor::Key(_), CqlType::Set(_)) => Err(invalid_operation(operation, "set", column)),
        (Accessor::Key(_), ty) if is_frozen(ty) && is_collection(ty) => {
            Err(invalid_operation(operation, "frozen collection", column))
        }
        (Accessor::Key(_), _) => Err(invalid_operation(operation, "non collection", column)),
        (Accessor::Field(field), CqlType::Udt(udt)) => {
            let (at, ty) = field_of(udt, field, name)?;
            Ok(Action::SetField(
                at,
                source(value, &format!("{name}.{field}"), &ty, binds)?,
            ))
        }
        (Accessor::Field(_), CqlType::Frozen(inner)) if matches!(**inner, CqlType::Udt(_)) => {
            Err(invalid_operation(operation, "frozen UDT", column))
        }
        (Accessor::Field(_), _) => Err(invalid_operation(operation, "non-UDT", column)),
    }
}

/// Number and type of a field.
pub(super) fn field_of(udt: &crate::model::UserType, field: &str, column: &str) -> Result<(u16, CqlType), CqlError> {
    let at = udt.fields.iter().position(|(n, _)| n == field);
    match at {
        Some(i) => Ok((i as u16, udt.fields[i].1.clone())),
        None => Err(CqlError::invalid(format!(
            "UDT column {column} does not have a field named {field}"
        ))),
    }
}

/// What DELETE of a column, or of a part of it, does.
///
/// # Errors
/// What does not fit the column.
pub(super) fn delete(part: Option<&Accessor>, column: &Column, binds: &mut Binds) -> Result<Action, CqlError> {
    let (name, ty) = (&column.name, &column.ty);
    let refuse = |what: &str| {
        Err(CqlError::invalid(format!(
            "Invalid deletion operation for {what} column {name}"
        )))
    };
    match (part, ty) {
        (None, ty) if ty.is_multicell() => Ok(Action::Empty),
        (None, _) => Ok(Action::Whole(Source::Null)),
        (Some(Accessor::Key(key)), CqlType::Map(k, _)) => {
            Ok(Action::RemoveKey(source(key, &format!("key({name})"), k, binds)?))
        }
        (Some(Accessor::Key(key)), CqlType::Set(e)) => {
            Ok(Action::RemoveKey(source(key, &format!("value({name})"), e, binds)?))
        }
        (Some(Accessor::Key(index)), CqlType::List(_)) => Ok(Action::RemoveIndex(source(
            index,
            &format!("idx({name})"),
            &CqlType::Int,
            binds,
        )?)),
        (Some(Accessor::Key(_)), ty) if is_frozen(ty) && is_collection(ty) => refuse("frozen collection"),
        (Some(Accessor::Key(_)), _) => refuse("non collection"),
        (Some(Accessor::Field(field)), CqlType::Udt(udt)) => Ok(Action::RemoveField(field_of(udt, field, name)?.0)),
        (Some(Accessor::Field(_)), CqlType::Frozen(inner)) if matches!(**inner, CqlType::Udt(_)) => {
            refuse("frozen UDT")
        }
        (Some(Accessor::Field(_)), _) => refuse("non-UDT"),
    }
}

/// Whether two operations on one column may stand in one statement (C `Operation.isCompatibleWith`).
pub(super) fn compatible(a: &SetOperation, b: &SetOperation) -> bool {
    let is_whole = |o: &SetOperation| matches!(o, SetOperation::Assign { .. });
    match (a, b) {
        (a, b) if is_whole(a) || is_whole(b) => false,
        (
            SetOperation::Part {
                part: Accessor::Field(x),
                ..
            },
            SetOperation::Part {
                part: Accessor::Field(y),
                ..
            },
        ) => x != y,
        _ => true,
    }
}

/// The elements of a list as it was read, in order: path and value.
fn list_of(row: Option<&Row>, column: ColumnId) -> Vec<(Vec<u8>, Vec<u8>)> {
    let elements = row.into_iter().flat_map(|r| r.elements(column));
    let mut list: Vec<_> = elements
        .map(|e| (e.path.unwrap_or_default().to_vec(), e.value.to_vec()))
        .collect();
    list.sort_by(|a, b| compare_list_paths(&a.0, &b.0));
    list
}

/// The place of an index in a list that was read.
fn at_index<'l>(
    list: &'l [(Vec<u8>, Vec<u8>)],
    index: &Source,
    bound: &[Value<'_>],
    what: &str,
) -> Result<&'l [u8], CqlError> {
    let index = match index.value(bound) {
        Value::Null => return Err(CqlError::invalid("Invalid null value for list index")),
        Value::Unset => return Err(CqlError::invalid("Invalid unset value for list index")),
        Value::Bytes(b) => int_value(b),
    };
    if list.is_empty() {
        return Err(CqlError::invalid(format!("Attempted to {what} a list which is null")));
    }
    let found = usize::try_from(index).ok().and_then(|i| list.get(i));
    found
        .map(|(path, _)| path.as_slice())
        .ok_or_else(|| CqlError::invalid(format!("List index {index} out of bound, list has size {}", list.len())))
}

/// A key of a map or value of a set.
fn key_of<'v>(key: &'v Source, bound: &[Value<'v>]) -> Result<&'v [u8], CqlError> {
    match key.value(bound) {
        Value::Bytes(b) => Ok(b),
        Value::Null => Err(CqlError::invalid("Invalid null map key")),
        Value::Unset => Err(CqlError::invalid("Invalid unset map key")),
    }
}

/// Writes the cells of a record with parts that was begun. `row` is what was read where an action needs it.
///
/// # Errors
/// Nulls where none may be, indexes outside a list.
pub(super) fn put(
    actions: &[(ColumnId, Action)],
    bound: &[Value<'_>],
    row: Option<&Row>,
    out: &mut WriteSet,
) -> Result<(), CqlError> {
    for (column, action) in actions {
        put_one(*column, action, bound, row, out)?;
    }
    Ok(())
}

fn put_one(
    column: ColumnId,
    action: &Action,
    bound: &[Value<'_>],
    row: Option<&Row>,
    out: &mut WriteSet,
) -> Result<(), CqlError> {
    let element = |out: &mut WriteSet, path: &[u8], value: Option<&[u8]>| {
        out.part(column, Part::Element { path, value });
    };
    match action {
        Action::Whole(s) => match s.value(bound) {
            Value::Bytes(b) => out.part(column, Part::Whole(Some(b))),
            Value::Null => out.part(column, Part::Whole(None)),
            Value::Unset => {}
        },
        Action::Overwrite(ty, s) => {
            let value = s.value(bound);
            if value != Value::Unset {
                out.part(column, Part::Emptied { only_older: true });
            }
            if let Value::Bytes(b) = value {
                put_elements(column, ty, b, false, out)?;
            }
        }
        Action::Empty => out.part(column, Part::Emptied { only_older: false }),
        Action::Add(ty, s) | Action::Prepend(ty, s) => {
            if let Value::Bytes(b) = s.value(bound) {
                put_elements(column, ty, b, matches!(action, Action::Prepend(..)), out)?;
            }
        }
        Action::Remove(ty, s) => {
            if let Value::Bytes(b) = s.value(bound) {
                for key in values::items(b, ty)? {
                    element(out, key, None);
                }
            }
        }
        Action::SetKey(key, value) => {
            let key = key_of(key, bound)?;
            match value.value(bound) {
                Value::Bytes(b) => element(out, key, Some(b)),
                Value::Null => element(out, key, None),
                Value::Unset => {}
            }
        }
        Action::SetField(at, value) => match value.value(bound) {
            Value::Bytes(b) => element(out, &at.to_be_bytes(), Some(b)),
            Value::Null => element(out, &at.to_be_bytes(), None),
            Value::Unset => {}
        },
        Action::RemoveKey(key) => element(out, key_of(key, bound)?, None),
        Action::RemoveField(at) => element(out, &at.to_be_bytes(), None),
        Action::SetIndex(index, value) => {
            let list = list_of(row, column);
            let path = at_index(&list, index, bound, "set an element on")?;
            match value.value(bound) {
                Value::Bytes(b) => element(out, path, Some(b)),
                Value::Null => element(out, path, None),
                Value::Unset => {}
            }
        }
        Action::RemoveIndex(index) => {
            let list = list_of(row, column);
            element(out, at_index(&list, index, bound, "delete an element from")?, None);
        }
        Action::Discard(ty, s) => {
            if let Value::Bytes(b) = s.value(bound) {
                let discarded = values::items(b, ty)?;
                for (path, value) in list_of(row, column) {
                    if discarded.contains(&value.as_slice()) {
                        element(out, &path, None);
                    }
                }
            }
        }
        Action::Count(s, negative) => match s.value(bound) {
            Value::Null => return Err(CqlError::invalid("Invalid null value for counter increment")),
            Value::Unset => {}
            Value::Bytes(b) => {
                let n = b.try_into().map_or(0, i64::from_be_bytes);
                let n = if *negative { n.wrapping_neg() } else { n };
                out.part(column, Part::Addition(n));
            }
        },
    }
    Ok(())
}

/// The elements of a serialised collection or user-defined type.
fn put_elements(
    column: ColumnId,
    ty: &CqlType,
    bytes: &[u8],
    before: bool,
    out: &mut WriteSet,
) -> Result<(), CqlError> {
    match ty {
        CqlType::List(_) => {
            for item in values::items(bytes, ty)? {
                out.list_element(column, item, before);
            }
        }
        CqlType::Set(_) => {
            for path in values::items(bytes, ty)? {
                let value = Some(&[][..]);
                out.part(column, Part::Element { path, value });
            }
        }
        CqlType::Udt(udt) => {
            let fields = values::fields(bytes, udt.fields.iter().map(|(_, t)| t), "user type")?;
            for (i, value) in fields.into_iter().enumerate().filter(|(_, v)| v.is_some()) {
                let path = &(i as u16).to_be_bytes();
                out.part(column, Part::Element { path, value });
            }
        }
        _ => {
            for entry in values::items(bytes, ty)?.chunks_exact(2) {
                let (path, value) = (entry[0], Some(entry[1]));
                out.part(column, Part::Element { path, value });
            }
        }
    }
    Ok(())
}

/// Whether actions write anything for these values: unset ones do not.
pub(super) fn has_effect(actions: &[(ColumnId, Action)], bound: &[Value<'_>]) -> bool {
    actions.iter().any(|(_, action)| match action {
        Action::Whole(s)
        | Action::Overwrite(_, s)
        | Action::Add(_, s)
        | Action::Prepend(_, s)
        | Action::Remove(_, s)
        | Action::SetKey(_, s)
        | Action::SetField(_, s)
        | Action::SetIndex(_, s)
        | Action::Discard(_, s)
        | Action::Count(s, _) => s.value(bound) != Value::Unset,
        Action::Empty | Action::RemoveKey(_) | Action::RemoveField(_) | Action::RemoveIndex(_) => true,
    })
}

/// A collection or user-defined type as its elements make it, serialised; `None` when it has none.
pub fn assembled(ty: &CqlType, row: &Row, column: ColumnId) -> Option<Vec<u8>> {
    let mut elements: Vec<(&[u8], &[u8])> = row
        .elements(column)
        .map(|e| (e.path.unwrap_or_default(), e.value))
        .collect();
    if elements.is_empty() {
        return None;
    }
    let count = elements.len();
    Some(match ty {
        CqlType::List(_) => {
            elements.sort_by(|a, b| compare_list_paths(a.0, b.0));
            values::collection(count, elements.iter().map(|(_, v)| *v))
        }
        CqlType::Set(e) => {
            elements.sort_by(|a, b| values::compare(e, a.0, b.0));
            values::collection(count, elements.iter().map(|(p, _)| *p))
        }
        CqlType::Udt(udt) => {
            let value = |i: usize| {
                let path = (i as u16).to_be_bytes();
                elements.iter().find(|(p, _)| *p == path).map(|(_, v)| *v)
            };
            values::put_fields((0..udt.fields.len()).map(value))
        }
        CqlType::Map(k, _) => {
            elements.sort_by(|a, b| values::compare(k, a.0, b.0));
            values::collection(count, elements.iter().flat_map(|(p, v)| [*p, *v]))
        }
        _ => elements[0].1.to_vec(),
    })
}

/// Times of the elements of a collection, in its order: write time in microseconds and TTL left in seconds.
pub fn times(ty: &CqlType, row: &Row, column: ColumnId) -> Vec<(i64, Option<u32>)> {
    let mut elements: Vec<_> = row.elements(column).collect();
    elements.sort_by(|a, b| {
        let (a, b) = (a.path.unwrap_or_default(), b.path.unwrap_or_default());
        match ty {
            CqlType::List(_) => compare_list_paths(a, b),
            CqlType::Set(e) | CqlType::Map(e, _) => values::compare(e, a, b),
            _ => a.cmp(b),
        }
    });
    elements.iter().map(|e| (e.timestamp_us, e.ttl_s)).collect()
}
