//! WHERE: relations resolved to restrictions per column, and the keys they name. What a statement may restrict, and in
//! which combination, is decided by its own file.

use super::conditions::contained;
use super::terms::{Compute, fits_key, place, resolve as resolve_term, source, wrong_argument};
use super::{Binds, Context, Source, no_column};
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::parse::ast::{Object, Operator, Relation, Subject, Term};
use crate::cql::types;
use crate::model::{Column, ColumnKind, CqlType, Table, WriteSet};

/// Keys that one statement may name at most. A bound on the product of several INs; Scylla has 100 per statement
/// (`max-partition-key-restrictions-per-query`), Cassandra none.
const PRODUCT_MAX: usize = 10_000;

/// The values of an IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InSource {
    /// Listed one by one.
    Values(Vec<Source>),
    /// One marker with a list.
    Marker(u16),
}

/// What is required of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restriction {
    /// `=`
    Eq(Source),
    /// `IN`
    In(InSource),
    /// Bounds, each with whether it is included.
    Slice {
        /// `>` or `>=`.
        lower: Option<(Source, bool)>,
        /// `<` or `<=`.
        upper: Option<(Source, bool)>,
    },
    /// `CONTAINS`, `CONTAINS KEY`, `column[key] =`: tested on each row, all of them.
    Holds(Vec<Holds>),
}

/// What a collection must have in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// This value.
    Value(Source),
    /// This key.
    Key(Source),
    /// This value under this key.
    Entry(Source, Source),
}

/// One component of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// One value.
    One(Source),
    /// Several.
    In(InSource),
}

impl Restriction {
    /// The key component this names, unless it is a range.
    pub fn key_part(&self) -> Option<KeyPart> {
        match self {
            Restriction::Eq(s) => Some(KeyPart::One(s.clone())),
            Restriction::In(s) => Some(KeyPart::In(s.clone())),
            Restriction::Slice { .. } | Restriction::Holds(_) => None,
        }
    }
}

/// `(a, b) > (…)`: bounds over several clustering columns at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TupleSlice {
    /// Columns by index in the table.
    pub columns: Vec<usize>,
    /// Lower bound, with whether it is included.
    pub lower: Option<(TupleSource, bool)>,
    /// Upper bound.
    pub upper: Option<(TupleSource, bool)>,
    /// `IN`, `= ?`: these, instead of bounds.
    pub among: Option<TupleList>,
}

/// Values of several columns at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TupleSource {
    /// One by one.
    Each(Vec<Source>),
    /// One value that is a tuple.
    Whole(Source),
}

/// Several of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TupleList {
    /// Listed.
    Values(Vec<TupleSource>),
    /// One marker with a list of tuples.
    Marker(u16),
}

fn tuple_type(columns: &[&Column]) -> CqlType {
    CqlType::Tuple(columns.iter().map(|c| c.ty.clone()).collect())
}

impl TupleSource {
    /// The values for these bound ones.
    ///
    /// # Errors
    /// Nulls, and bytes that are no such tuple.
    pub fn values<'a>(&'a self, columns: &[&Column], bound: &[Value<'a>]) -> Result<Vec<&'a [u8]>, CqlError> {
        match self {
            TupleSource::Each(sources) => {
                let each = sources.iter().zip(columns);
                each.map(|(s, c)| key_value(s.value(bound), c)).collect()
            }
            TupleSource::Whole(source) => match source.value(bound) {
                Value::Bytes(bytes) => components(bytes, columns),
                _ => Err(CqlError::invalid("Invalid null value for a tuple")),
            },
        }
    }
}

fn components<'a>(bytes: &'a [u8], columns: &[&Column]) -> Result<Vec<&'a [u8]>, CqlError> {
    let parts = crate::cql::values::fields(bytes, columns.iter().map(|c| &c.ty), "tuple")?;
    let each = parts.into_iter().zip(columns);
    each.map(|(part, c)| key_value(part.map_or(Value::Null, Value::Bytes), c))
        .collect()
}

impl TupleList {
    /// All of them for these bound values, each once.
    ///
    /// # Errors
    /// As [`TupleSource::values`].
    pub fn values<'a>(&'a self, columns: &[&Column], bound: &[Value<'a>]) -> Result<Vec<Vec<&'a [u8]>>, CqlError> {
        let all: Vec<Vec<&[u8]>> = match self {
            TupleList::Values(list) => list
                .iter()
                .map(|t| t.values(columns, bound))
                .collect::<Result<_, _>>()?,
            TupleList::Marker(i) => match bound[usize::from(*i)] {
                Value::Bytes(bytes) => crate::cql::values::list_elements(bytes, &tuple_type(columns))?
                    .into_iter()
                    .map(|t| components(t, columns))
                    .collect::<Result<_, _>>()?,
                _ => return Err(CqlError::invalid("Invalid null value for IN restriction")),
            },
        };
        let mut unique: Vec<Vec<&[u8]>> = Vec::with_capacity(all.len());
        for tuple in all {
            if !unique.contains(&tuple) {
                unique.push(tuple);
            }
        }
        Ok(unique)
    }
}

/// Everything WHERE requires.
#[derive(Debug, Default)]
pub struct Restrictions {
    /// Column index in the table and restriction, in the order of the text.
    columns: Vec<(usize, Restriction)>,
    /// token(): lower and upper bound.
    token: Option<Restriction>,
    tuple: Option<TupleSlice>,
}

impl Restrictions {
    /// What is required of the column with this index.
    pub fn column(&self, index: usize) -> Option<&Restriction> {
        self.columns.iter().find(|(i, _)| *i == index).map(|(_, r)| r)
    }

    /// All restricted columns in the order of the text.
    pub fn columns(&self) -> &[(usize, Restriction)] {
        &self.columns
    }

    /// The restriction of token().
    pub fn token(&self) -> Option<&Restriction> {
        self.token.as_ref()
    }

    /// Whether token() is restricted.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The restriction of several clustering columns at once.
    pub fn tuple(&self) -> Option<&TupleSlice> {
        self.tuple.as_ref()
    }

    /// Whether several clustering columns are restricted at once by a range.
    pub fn has_tuple_slice(&self) -> bool {
        self.tuple.is_some()
    }

    /// Names of restricted columns outside the primary key.
    pub fn value_columns(&self, table: &Table) -> Vec<String> {
        let is_value = |i: usize| matches!(table.columns[i].kind, ColumnKind::Regular | ColumnKind::Static);
        self.columns
            .iter()
            .filter(|(i, _)| is_value(*i))
            .map(|(i, _)| table.columns[*i].name.clone())
            .collect()
    }

    /// Takes `IN` of one value for `=`.
    pub fn take_single_in_for_equal(&mut self) {
        for (_, restriction) in &mut self.columns {
            if let Restriction::In(InSource::Values(values)) = restriction
                && let [one] = values.as_slice()
            {
                *restriction = Restriction::Eq(one.clone());
            }
        }
    }

    fn add(&mut self, table: &Table, index: usize, new: Restriction) -> Result<(), CqlError> {
        let name = &table.columns[index].name;
        let Some((_, old)) = self.columns.iter_mut().find(|(i, _)| *i == index) else {
            self.columns.push((index, new));
            return Ok(());
        };
        merge(old, new, name)
    }
}

/// Joins two restrictions of one thing: only two bounds of a range can be joined.
fn merge(old: &mut Restriction, new: Restriction, name: &str) -> Result<(), CqlError> {
    if let (Restriction::Holds(list), Restriction::Holds(more)) = (&mut *old, &new) {
        list.extend(more.iter().cloned());
        return Ok(());
    }
    let (Restriction::Slice { lower, upper }, Restriction::Slice { lower: l, upper: u }) = (&mut *old, new) else {
        return Err(CqlError::invalid(format!(
            "{name} cannot be restricted by more than one relation if it includes an Equal"
        )));
    };
    if lower.is_some() && l.is_some() {
        return Err(CqlError::invalid(format!(
            "More than one restriction was found for the start bound on {name}"
        )));
    }
    if upper.is_some() && u.is_some() {
        return Err(CqlError::invalid(format!(
            "More than one restriction was found for the end bound on {name}"
        )));
    }
    *lower = lower.take().or(l);
    *upper = upper.take().or(u);
    Ok(())
}

/// Resolves the relations of WHERE.
///
/// # Errors
/// Unknown columns, wrong constants, relations that cannot stand together.
pub fn resolve(
    context: &Context<'_>,
    table: &Table,
    relations: &[Relation],
    binds: &mut Binds,
) -> Result<Restrictions, CqlError> {
    let mut all = Restrictions::default();
    for relation in relations {
        match &relation.subject {
            Subject::Column(name) => {
                let index = column_index(context, table, name)?;
                let restriction = column_restriction(relation, &table.columns[index], binds)?;
                all.add(table, index, restriction)?;
            }
            Subject::Element(name, key) => {
                let index = column_index(context, table, name)?;
                let restriction = element_restriction(relation, key, &table.columns[index], binds)?;
                all.add(table, index, restriction)?;
            }
            Subject::Token(names) => token(context, table, names, relation, binds, &mut all)?,
            Subject::Tuple(names) => tuple(context, table, names, relation, binds, &mut all)?,
        }
    }
    Ok(all)
}

fn column_index(context: &Context<'_>, table: &Table, name: &str) -> Result<usize, CqlError> {
    table
        .columns
        .iter()
        .position(|c| c.name == name)
        .ok_or_else(|| no_column(context, table, name))
}

fn one(relation: &Relation) -> Result<&Term, CqlError> {
    match &relation.object {
        Object::One(term) => Ok(term),
        Object::Many(_) => Err(CqlError::invalid("a list of values is only allowed with IN")),
    }
}

fn compared(operator: Operator, value: Source) -> Restriction {
    match operator {
        Operator::Lt => Restriction::Slice {
            lower: None,
            upper: Some((value, false)),
        },
        Operator::Le => Restriction::Slice {
            lower: None,
            upper: Some((value, true)),
        },
        Operator::Gt => Restriction::Slice {
            lower: Some((value, false)),
            upper: None,
        },
        Operator::Ge => Restriction::Slice {
            lower: Some((value, true)),
            upper: None,
        },
        Operator::Contains => Restriction::Holds(vec![Holds::Value(value)]),
        Operator::ContainsKey => Restriction::Holds(vec![Holds::Key(value)]),
        Operator::Eq | Operator::In => Restriction::Eq(value),
    }
}

fn column_restriction(relation: &Relation, column: &Column, binds: &mut Binds) -> Result<Restriction, CqlError> {
    let name = &column.name;
    if let Operator::Contains | Operator::ContainsKey = relation.operator {
        let is_key = relation.operator == Operator::ContainsKey;
        let ty = contained(&column.ty, name, is_key)?;
        let marker = if is_key {
            format!("key({name})")
        } else {
            format!("value({name})")
        };
        return Ok(compared(
            relation.operator,
            source(one(relation)?, &marker, &ty, binds)?,
        ));
    }
    if column.ty.is_multicell() {
        let what = match column.ty {
            CqlType::Udt(_) => "Non-frozen UDT column",
            _ => "Collection column",
        };
        return Err(CqlError::invalid(format!(
            "{what} '{name}' ({}) cannot be restricted by a '{}' relation",
            types::name(&column.ty),
            relation.operator.text()
        )));
    }
    if column.ty == CqlType::Duration && !matches!(relation.operator, Operator::Eq | Operator::In) {
        return Err(CqlError::invalid(
            "Slice restrictions are not supported on duration columns",
        ));
    }
    if relation.operator != Operator::In {
        return Ok(compared(
            relation.operator,
            source(one(relation)?, &column.name, &column.ty, binds)?,
        ));
    }
    let list = match &relation.object {
        Object::Many(terms) => InSource::Values(
            terms
                .iter()
                .map(|t| source(t, &column.name, &column.ty, binds))
                .collect::<Result<_, _>>()?,
        ),
        Object::One(Term::Marker(i)) => {
            binds.set(
                *i,
                &format!("in({})", column.name),
                CqlType::List(Box::new(column.ty.clone())),
            );
            InSource::Marker(u16::try_from(*i).map_err(|_| CqlError::invalid("too many bind markers"))?)
        }
        Object::One(_) => {
            return Err(CqlError::invalid(format!(
                "Invalid list literal for in({})",
                column.name
            )));
        }
    };
    Ok(Restriction::In(list))
}

/// `column[key] = value`.
fn element_restriction(
    relation: &Relation,
    key: &Term,
    column: &Column,
    binds: &mut Binds,
) -> Result<Restriction, CqlError> {
    let name = &column.name;
    let CqlType::Map(k, v) = column.ty.unfrozen() else {
        return Err(CqlError::invalid(format!("Column {name} cannot be used as a map")));
    };
    if relation.operator != Operator::Eq {
        return Err(CqlError::invalid(format!(
            "Only EQ relations are supported on map entries, but '{}' was used",
            relation.operator.text()
        )));
    }
    let key = source(key, &format!("key({name})"), k, binds)?;
    let value = source(one(relation)?, &format!("value({name})"), v, binds)?;
    Ok(Restriction::Holds(vec![Holds::Entry(key, value)]))
}

fn token(
    context: &Context<'_>,
    table: &Table,
    names: &[String],
    relation: &Relation,
    binds: &mut Binds,
    all: &mut Restrictions,
) -> Result<(), CqlError> {
    for name in names {
        column_index(context, table, name)?;
    }
    let key: Vec<&str> = table.partition_key().iter().map(|c| c.name.as_str()).collect();
    if names.iter().map(String::as_str).collect::<Vec<_>>() != key {
        let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let mut wanted = key.clone();
        wanted.sort_unstable();
        return Err(CqlError::invalid(if sorted == wanted {
            format!(
                "The token function arguments must be in the partition key order: {}",
                key.join(", ")
            )
        } else {
            "The token() function must be applied to all partition key components or none of them".to_string()
        }));
    }
    let value = match one(relation)? {
        Term::Call(function, arguments) if function == "token" => token_of(arguments, table, binds)?,
        term => source(term, "partition key token", &CqlType::Bigint, binds)?,
    };
    let new = compared(relation.operator, value);
    match &mut all.token {
        None => all.token = Some(new),
        Some(old) => merge(old, new, "token")?,
    }
    Ok(())
}

/// `token(a, b)` of values.
fn token_of(arguments: &[Term], table: &Table, binds: &mut Binds) -> Result<Source, CqlError> {
    let key = table.partition_key();
    if arguments.len() != key.len() {
        return Err(CqlError::invalid(format!(
            "Invalid number of arguments in call to function system.token: {} required but {} provided",
            key.len(),
            arguments.len()
        )));
    }
    let mut parts = Vec::with_capacity(key.len());
    for (i, (term, column)) in arguments.iter().zip(key).enumerate() {
        if !fits_key(term, &column.ty) {
            return Err(wrong_argument(term, i, "token", &column.ty));
        }
        parts.push(resolve_term(term, &format!("arg{i}(system.token)"), &column.ty, binds)?);
    }
    place(Compute::Token(parts), binds)
}

fn tuple(
    context: &Context<'_>,
    table: &Table,
    names: &[String],
    relation: &Relation,
    binds: &mut Binds,
    all: &mut Restrictions,
) -> Result<(), CqlError> {
    let columns = names
        .iter()
        .map(|n| column_index(context, table, n))
        .collect::<Result<Vec<_>, _>>()?;
    let clustering = table.partition_columns..table.partition_columns + table.clustering_columns;
    if let Some(i) = columns.iter().find(|i| !clustering.contains(i)) {
        return Err(CqlError::invalid(format!(
            "Multi-column relations can only be applied to clustering columns but was applied to: {}",
            table.columns[*i].name
        )));
    }
    if columns.windows(2).any(|w| w[1] != w[0] + 1) {
        return Err(CqlError::invalid(format!(
            "Clustering columns must appear in the PRIMARY KEY order in multi-column relations: ({})",
            names.join(", ")
        )));
    }
    let of_columns: Vec<&Column> = columns.iter().map(|i| &table.columns[*i]).collect();
    let whole = format!("({})", names.join(","));
    let one_tuple = |terms: &[Term], binds: &mut Binds| -> Result<TupleSource, CqlError> {
        if terms.len() != of_columns.len() {
            return Err(CqlError::invalid(format!(
                "Expected {} elements in value tuple, but got {}",
                of_columns.len(),
                terms.len()
            )));
        }
        let each = terms.iter().zip(&of_columns);
        let each: Result<_, _> = each.map(|(t, c)| source(t, &c.name, &c.ty, binds)).collect();
        Ok(TupleSource::Each(each?))
    };
    let marker = |term: &Term, name: &str, binds: &mut Binds| -> Result<TupleSource, CqlError> {
        Ok(TupleSource::Whole(source(term, name, &tuple_type(&of_columns), binds)?))
    };
    if relation.operator == Operator::In {
        let among = match &relation.object {
            Object::Many(tuples) => {
                let list: Result<_, _> = tuples
                    .iter()
                    .map(|t| match t {
                        Term::Tuple(terms) => one_tuple(terms, binds),
                        other => marker(other, &whole, binds),
                    })
                    .collect();
                TupleList::Values(list?)
            }
            Object::One(Term::Marker(i)) => {
                let ty = CqlType::List(Box::new(tuple_type(&of_columns)));
                binds.set(*i, &format!("in{whole}"), ty);
                TupleList::Marker(u16::try_from(*i).map_err(|_| CqlError::invalid("too many bind markers"))?)
            }
            Object::One(_) => return Err(CqlError::unsupported("IN of several columns in something but a list")),
        };
        return add_tuples(all, columns, among, names);
    }
    let value = match &relation.object {
        Object::Many(terms) => one_tuple(terms, binds)?,
        Object::One(Term::Tuple(terms)) => one_tuple(terms, binds)?,
        Object::One(term) => marker(term, &whole, binds)?,
    };
    if relation.operator == Operator::Eq {
        let TupleSource::Each(values) = value else {
            return add_tuples(all, columns, TupleList::Values(vec![value]), names);
        };
        for (index, value) in columns.into_iter().zip(values) {
            all.add(table, index, Restriction::Eq(value))?;
        }
        return Ok(());
    }
    let slice = all.tuple.get_or_insert_with(|| TupleSlice {
        columns: columns.clone(),
        lower: None,
        upper: None,
        among: None,
    });
    if slice.columns != columns || slice.among.is_some() {
        return Err(CqlError::unsupported(
            "two relations over several clustering columns that do not join",
        ));
    }
    let inclusive = matches!(relation.operator, Operator::Le | Operator::Ge);
    let bound = if matches!(relation.operator, Operator::Gt | Operator::Ge) {
        &mut slice.lower
    } else {
        &mut slice.upper
    };
    if bound.replace((value, inclusive)).is_some() {
        return Err(CqlError::invalid(format!(
            "More than one restriction was found for one bound on ({})",
            names.join(", ")
        )));
    }
    Ok(())
}

fn add_tuples(all: &mut Restrictions, columns: Vec<usize>, among: TupleList, names: &[String]) -> Result<(), CqlError> {
    let new = TupleSlice {
        columns,
        lower: None,
        upper: None,
        among: Some(among),
    };
    match all.tuple.replace(new) {
        None => Ok(()),
        Some(_) => Err(CqlError::invalid(format!(
            "({}) cannot be restricted by more than one relation if it includes an IN",
            names.join(", ")
        ))),
    }
}

/// Positions of the markers that make these key parts, in order; empty if some part is not one marker.
pub fn markers_of(parts: &[KeyPart]) -> Vec<u16> {
    let markers: Option<Vec<u16>> = parts
        .iter()
        .map(|p| match p {
            KeyPart::One(Source::Marker(i)) => Some(*i),
            _ => None,
        })
        .collect();
    markers.unwrap_or_default()
}

/// Every key that these parts name, in the order of the parts' values. No parts name one empty key.
///
/// # Errors
/// Null and unset values, and more keys than [`PRODUCT_MAX`].
pub fn product<'a>(
    parts: &'a [KeyPart],
    columns: &[Column],
    bound: &[Value<'a>],
) -> Result<Vec<Vec<&'a [u8]>>, CqlError> {
    let mut keys: Vec<Vec<&'a [u8]>> = vec![Vec::with_capacity(parts.len())];
    for (part, column) in parts.iter().zip(columns) {
        let values = match part {
            KeyPart::One(s) => vec![key_value(s.value(bound), column)?],
            KeyPart::In(s) => in_values(s, column, bound)?,
        };
        if keys.len().saturating_mul(values.len()) > PRODUCT_MAX {
            return Err(CqlError::unsupported(format!(
                "a statement that names more than {PRODUCT_MAX} keys"
            )));
        }
        let mut next = Vec::with_capacity(keys.len() * values.len());
        for key in &keys {
            for value in &values {
                let mut longer = key.clone();
                longer.push(value);
                next.push(longer);
            }
        }
        keys = next;
    }
    Ok(keys)
}

/// Bytes of a serialized partition key, or of one clustering component, at most.
const KEY_BYTES_MAX: usize = 65_535;

/// The bytes of a key value.
///
/// # Errors
/// Null and unset values, and values that a key cannot hold.
#[inline(always)]
pub(super) fn key_value<'a>(value: Value<'a>, column: &Column) -> Result<&'a [u8], CqlError> {
    match value {
        Value::Bytes(bytes) => {
            if bytes.len() > KEY_BYTES_MAX {
                return Err(too_long(bytes.len()));
            }
            if bytes.is_empty() && column.ty.fixed_bytes().is_some() {
                return Err(CqlError::unsupported(format!(
                    "an empty value for the key column {}",
                    column.name
                )));
            }
            Ok(bytes)
        }
        Value::Null => Err(CqlError::invalid(format!(
            "Invalid null value in condition for column {}",
            column.name
        ))),
        Value::Unset => Err(CqlError::invalid(format!(
            "Invalid unset value for column {}",
            column.name
        ))),
    }
}

/// Whether all clustering keys fit into what was written (C `ClusteringPrefix.validate`).
///
/// # Errors
/// One is too long.
pub(super) fn check_clustering(written: &WriteSet) -> Result<(), CqlError> {
    match written.oversized_bytes() {
        0 => Ok(()),
        bytes => Err(too_long(bytes)),
    }
}

fn too_long(bytes: usize) -> CqlError {
    CqlError::invalid(format!(
        "Key length of {bytes} is longer than maximum of {KEY_BYTES_MAX}"
    ))
}

/// Checks the length of a serialized partition key.
pub(super) fn check_partition_key(key: &[u8]) -> Result<(), CqlError> {
    match key.len() {
        0 => Err(CqlError::invalid("Key may not be empty")),
        n if n > KEY_BYTES_MAX => Err(too_long(n)),
        _ => Ok(()),
    }
}

/// The values of an IN for these bound values, each once, in order of appearance.
pub(super) fn in_values<'a>(
    source: &'a InSource,
    column: &Column,
    bound: &[Value<'a>],
) -> Result<Vec<&'a [u8]>, CqlError> {
    let mut list = Vec::new();
    match source {
        InSource::Values(sources) => {
            for s in sources {
                list.push(key_value(s.value(bound), column)?);
            }
        }
        InSource::Marker(i) => match bound[usize::from(*i)] {
            Value::Bytes(bytes) => {
                for item in crate::cql::values::list_elements(bytes, &column.ty)? {
                    list.push(key_value(Value::Bytes(item), column)?);
                }
            }
            other => {
                key_value(other, column)?;
            }
        },
    }
    let mut unique: Vec<&[u8]> = Vec::with_capacity(list.len());
    for item in list {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    Ok(unique)
}
