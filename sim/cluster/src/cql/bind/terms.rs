//! Values of a statement: terms to bytes where they are constants, to markers, or to something computed when the statement
//! is executed (functions, literals with markers inside). Computed values are put behind the bound ones, so that the rest of
//! a plan sees only values by their positions.

use super::{Binds, Source};
use crate::core::murmur3;
use crate::cql::error::CqlError;
use crate::cql::frame::Value;
use crate::cql::functions::{self, Function, Moment};
use crate::cql::parse::ast::{Literal, Term};
use crate::cql::{types, values};
use crate::model::{CqlType, Schema, UserType, partition_key_bytes};

/// A value that is known when a statement is executed.
#[derive(Debug, Clone, PartialEq)]
pub enum Compute {
    /// The bound value at this position.
    Marker(u16),
    /// This.
    Constant(Vec<u8>),
    /// Null.
    Null,
    /// A function of others.
    Call(Function, Vec<Compute>),
    /// A list of these.
    List(Vec<Compute>),
    /// A set of these, of this type.
    Set(CqlType, Vec<Compute>),
    /// A map of these, with keys of this type.
    Map(CqlType, Vec<(Compute, Compute)>),
    /// A tuple or user-defined type of these.
    Fields(Vec<Compute>),
    /// A vector of these, of this type.
    Vector(CqlType, Vec<Compute>),
    /// The token of a partition key of these.
    Token(Vec<Compute>),
}

fn null_inside(what: &str) -> CqlError {
    CqlError::invalid(format!("null is not supported inside {what}"))
}

impl Compute {
    /// The value, for these bound ones.
    ///
    /// # Errors
    /// Nulls and unset values where none may be, and what functions refuse.
    pub fn value(&self, bound: &[Value<'_>], moment: &Moment) -> Result<Option<Vec<u8>>, CqlError> {
        let all = |list: &[Compute], what: &str| -> Result<Vec<Vec<u8>>, CqlError> {
            list.iter()
                .map(|c| c.value(bound, moment)?.ok_or_else(|| null_inside(what)))
                .collect()
        };
        Ok(Some(match self {
            Compute::Marker(i) => match bound.get(usize::from(*i)) {
                Some(Value::Bytes(b)) => b.to_vec(),
                Some(Value::Null) => return Ok(None),
                Some(Value::Unset) | None => {
                    return Err(CqlError::invalid(
                        "Invalid unset value for argument in call to function",
                    ));
                }
            },
            Compute::Constant(bytes) => bytes.clone(),
            Compute::Null => return Ok(None),
            Compute::Call(function, arguments) => {
                let arguments: Result<Vec<_>, _> = arguments.iter().map(|a| a.value(bound, moment)).collect();
                return function.call(&arguments?, moment);
            }
            Compute::List(items) => {
                let items = all(items, "collections")?;
                values::collection(items.len(), items.iter().map(Vec::as_slice))
            }
            Compute::Set(ty, items) => set_of(ty, all(items, "collections")?),
            Compute::Map(ty, entries) => {
                let (keys, mapped): (Vec<_>, Vec<_>) = entries.iter().cloned().unzip();
                let pairs = all(&keys, "collections")?.into_iter().zip(all(&mapped, "collections")?);
                map_of(ty, pairs.collect())
            }
            Compute::Fields(items) => {
                let items: Result<Vec<_>, _> = items.iter().map(|c| c.value(bound, moment)).collect();
                values::put_fields(items?.iter().map(Option::as_deref))
            }
            Compute::Token(items) => {
                let parts = all(items, "a partition key")?;
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                let mut key = Vec::new();
                partition_key_bytes(&parts, &mut key);
                murmur3::token(&key).0.to_be_bytes().to_vec()
            }
            Compute::Vector(ty, items) => values::put_vector(ty, &all(items, "vectors")?),
        }))
    }

    fn is_constant(&self) -> bool {
        match self {
            Compute::Marker(_) | Compute::Call(..) => false,
            Compute::Constant(_) | Compute::Null => true,
            Compute::List(items)
            | Compute::Set(_, items)
            | Compute::Fields(items)
            | Compute::Vector(_, items)
            | Compute::Token(items) => items.iter().all(Compute::is_constant),
            Compute::Map(_, entries) => entries.iter().all(|(k, v)| k.is_constant() && v.is_constant()),
        }
    }
}

/// The bytes of a set: in order, each once.
pub fn set_of(ty: &CqlType, mut items: Vec<Vec<u8>>) -> Vec<u8> {
    items.sort_by(|a, b| values::compare(ty, a, b));
    items.dedup();
    values::collection(items.len(), items.iter().map(Vec::as_slice))
}

/// The bytes of a map: by key, of equal keys the last one written.
pub fn map_of(key: &CqlType, mut entries: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    entries.sort_by(|a, b| values::compare(key, &a.0, &b.0));
    entries.reverse();
    entries.dedup_by(|a, b| a.0 == b.0);
    entries.reverse();
    let parts = entries.iter().flat_map(|(k, v)| [k.as_slice(), v.as_slice()]);
    values::collection(entries.len(), parts)
}

/// Resolves a term for something called `name` of type `ty`.
///
/// # Errors
/// Constants and literals of another type, unknown functions; 0x2200.
pub(super) fn source(term: &Term, name: &str, ty: &CqlType, binds: &mut Binds) -> Result<Source, CqlError> {
    let compute = resolve(term, name, ty, binds)?;
    place(compute, binds)
}

/// Where a value is found when the statement is executed.
pub(super) fn place(compute: Compute, binds: &mut Binds) -> Result<Source, CqlError> {
    match compute {
        Compute::Marker(i) => Ok(Source::Marker(i)),
        Compute::Constant(bytes) => Ok(Source::Constant(bytes)),
        Compute::Null => Ok(Source::Null),
        constant if constant.is_constant() => {
            let moment = Moment {
                wall_us: 0,
                node: 0,
                drawn: std::cell::Cell::new(0),
            };
            Ok(constant.value(&[], &moment)?.map_or(Source::Null, Source::Constant))
        }
        computed => binds.compute(computed),
    }
}

/// As [`source`], without saying where the value will be.
pub(super) fn resolve(term: &Term, name: &str, ty: &CqlType, binds: &mut Binds) -> Result<Compute, CqlError> {
    match term {
        Term::Marker(i) => {
            binds.set(*i, name, ty.clone());
            // The frame holds at most 65535 values.
            u16::try_from(*i)
                .map(Compute::Marker)
                .map_err(|_| CqlError::invalid("too many bind markers"))
        }
        Term::Null => Ok(Compute::Null),
        // A constant for a tuple is its first component (seen).
        Term::Literal(l) => match ty.unfrozen() {
            CqlType::Tuple(items) => Ok(Compute::Fields(vec![resolve(term, name, &items[0], binds)?])),
            _ => values::constant(l, ty, name).map(Compute::Constant),
        },
        Term::Call(function, arguments) => call(function, arguments, name, ty, binds),
        Term::Cast(cast, inner) => {
            let nothing = Schema::default();
            let scope = types::Scope {
                keyspace: "",
                schema: &nothing,
                dialect: binds.dialect,
            };
            let to = types::resolve(cast, scope)?;
            if to.unfrozen() != ty.unfrozen() {
                return Err(CqlError::invalid(format!(
                    "Cannot assign value {} to {name} of type {}",
                    term.text(),
                    types::name(ty)
                )));
            }
            resolve(inner, name, ty, binds)
        }
        Term::List(items) => list(items, name, ty, binds),
        Term::Set(items) => set(items, name, ty, binds),
        Term::Map(entries) => map(entries, name, ty, binds),
        Term::Tuple(items) => tuple(items, name, ty, binds),
        Term::Fields(entries) => match ty.unfrozen() {
            CqlType::Udt(udt) => user_type(entries, udt, name, binds),
            _ => Err(CqlError::invalid(format!(
                "Invalid user type literal for {name} of type {}",
                types::name(ty)
            ))),
        },
    }
}

/// An element of a literal; `what` and `which` word the refusal of one of another type.
fn part(
    term: &Term,
    (what, which): (&str, &str),
    name: &str,
    ty: &CqlType,
    binds: &mut Binds,
) -> Result<Compute, CqlError> {
    if *term == Term::Null {
        return Err(null_inside(if what == "vector" { "vectors" } else { "collections" }));
    }
    if !binds.dialect.markers_inside_collections && what != "vector" && holds_markers(term) {
        return Err(CqlError::invalid(format!(
            "Invalid {what} literal for {name}: bind variables are not supported inside collection literals"
        )));
    }
    let marker = format!("value({name})");
    resolve(term, if what == "vector" { name } else { &marker }, ty, binds).map_err(|e| match term {
        Term::Literal(_) => CqlError::invalid(format!(
            "Invalid {what} literal for {name}: {which} {} is not of type {}",
            term.text(),
            types::name(ty)
        )),
        _ => e,
    })
}

fn holds_markers(term: &Term) -> bool {
    match term {
        Term::Marker(_) => true,
        Term::Literal(_) | Term::Null => false,
        Term::List(items) | Term::Set(items) | Term::Tuple(items) | Term::Call(_, items) => {
            items.iter().any(holds_markers)
        }
        Term::Map(entries) => entries.iter().any(|(k, v)| holds_markers(k) || holds_markers(v)),
        Term::Fields(entries) => entries.iter().any(|(_, v)| holds_markers(v)),
        Term::Cast(_, inner) => holds_markers(inner),
    }
}

fn list(items: &[Term], name: &str, ty: &CqlType, binds: &mut Binds) -> Result<Compute, CqlError> {
    match ty.unfrozen() {
        CqlType::List(e) => {
            let parts: Result<_, _> = items
                .iter()
                .map(|t| part(t, ("list", "value"), name, e, binds))
                .collect();
            Ok(Compute::List(parts?))
        }
        CqlType::Vector(e, n) => {
            if items.len() != usize::from(*n) {
                return Err(CqlError::invalid(format!(
                    "Invalid vector literal for {name} of type {}; expected {n} elements, but given {}",
                    types::name(ty),
                    items.len()
                )));
            }
            let parts: Result<_, _> = items
                .iter()
                .map(|t| part(t, ("vector", "value"), name, e, binds))
                .collect();
            Ok(Compute::Vector((**e).clone(), parts?))
        }
        _ if binds.dialect.is_scylla() => Err(CqlError::invalid(format!(
            "Invalid list literal for {name} of type {}",
            types::name(ty)
        ))),
        _ => Err(CqlError::invalid(format!(
            "Unexpected receiver type '{}'; only list and vector are expected",
            types::name(ty)
        ))),
    }
}

fn set(items: &[Term], name: &str, ty: &CqlType, binds: &mut Binds) -> Result<Compute, CqlError> {
    match ty.unfrozen() {
        CqlType::Map(k, _) if items.is_empty() => Ok(Compute::Map((**k).clone(), vec![])),
        CqlType::Udt(udt) if items.is_empty() => user_type(&[], udt, name, binds),
        CqlType::Set(e) => {
            let parts: Result<_, _> = items
                .iter()
                .map(|t| part(t, ("set", "value"), name, e, binds))
                .collect();
            Ok(Compute::Set((**e).clone(), parts?))
        }
        _ => Err(CqlError::invalid(format!(
            "Invalid set literal for {name} of type {}",
            types::name(ty)
        ))),
    }
}

fn map(entries: &[(Term, Term)], name: &str, ty: &CqlType, binds: &mut Binds) -> Result<Compute, CqlError> {
    let CqlType::Map(k, v) = ty.unfrozen() else {
        return Err(CqlError::invalid(format!(
            "Invalid map literal for {name} of type {}",
            types::name(ty)
        )));
    };
    let mut parts = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        parts.push((
            part(key, ("map", "key"), name, k, binds)?,
            part(value, ("map", "value"), name, v, binds)?,
        ));
    }
    Ok(Compute::Map((**k).clone(), parts))
}

fn tuple(items: &[Term], name: &str, ty: &CqlType, binds: &mut Binds) -> Result<Compute, CqlError> {
    let CqlType::Tuple(item_types) = ty.unfrozen() else {
        return Err(CqlError::invalid(format!(
            "Invalid tuple type literal for {name} of type {}",
            types::name(ty)
        )));
    };
    if items.len() > item_types.len() {
        return Err(CqlError::invalid(format!(
            "Invalid tuple literal for {name}: too many elements. Type {} expects {} but got {}",
            types::name(ty),
            item_types.len(),
            items.len()
        )));
    }
    let mut parts = Vec::with_capacity(items.len());
    for (i, (term, ty)) in items.iter().zip(item_types).enumerate() {
        parts.push(
            resolve(term, &format!("{name}[{i}]"), ty, binds).map_err(|e| match term {
                Term::Literal(_) => CqlError::invalid(format!(
                    "Invalid tuple literal for {name}: component {i} is not of type {}",
                    types::name(ty)
                )),
                _ => e,
            })?,
        );
    }
    Ok(Compute::Fields(parts))
}

fn user_type(entries: &[(String, Term)], udt: &UserType, name: &str, binds: &mut Binds) -> Result<Compute, CqlError> {
    if let Some((unknown, _)) = entries.iter().find(|(n, _)| !udt.fields.iter().any(|(f, _)| f == n)) {
        return Err(CqlError::invalid(format!(
            "Unknown field '{unknown}' in value of user defined type {}",
            udt.name
        )));
    }
    let mut parts = Vec::with_capacity(udt.fields.len());
    for (field, ty) in &udt.fields {
        let Some((_, term)) = entries.iter().find(|(n, _)| n == field) else {
            parts.push(Compute::Null);
            continue;
        };
        parts.push(
            resolve(term, &format!("{name}.{field}"), ty, binds).map_err(|e| match term {
                Term::Literal(_) => CqlError::invalid(format!(
                    "Invalid user type literal for {name}: field {field} is not of type {}",
                    types::name(ty)
                )),
                _ => e,
            })?,
        );
    }
    Ok(Compute::Fields(parts))
}

/// Whether a term could be a value of the type: what chooses among signatures.
fn could_be(term: &Term, ty: &CqlType) -> bool {
    match term {
        Term::Marker(_) | Term::Null => true,
        Term::Literal(l) => is_for(l, ty),
        Term::Call(name, _) => functions::named(name).iter().any(|f| assignable(&f.result, ty)),
        Term::List(_) => matches!(ty.unfrozen(), CqlType::List(_) | CqlType::Vector(..)),
        Term::Set(_) => matches!(ty.unfrozen(), CqlType::Set(_)),
        Term::Map(_) => matches!(ty.unfrozen(), CqlType::Map(..)),
        Term::Fields(_) => matches!(ty.unfrozen(), CqlType::Udt(_)),
        Term::Tuple(_) => matches!(ty.unfrozen(), CqlType::Tuple(_)),
        Term::Cast(cast, _) => cast.text() == types::name(ty),
    }
}

/// Whether a constant is one for the type, without making it: a text that is no date is still one for dates (seen).
fn is_for(literal: &Literal, ty: &CqlType) -> bool {
    use CqlType as T;
    match literal {
        Literal::Str(_) => matches!(ty, T::Ascii | T::Text | T::Inet | T::Timestamp | T::Date | T::Time),
        Literal::Integer(_) => matches!(
            ty,
            T::Bigint
                | T::Counter
                | T::Date
                | T::Decimal
                | T::Double
                | T::Duration
                | T::Float
                | T::Int
                | T::Smallint
                | T::Time
                | T::Timestamp
                | T::Tinyint
                | T::Varint
        ),
        Literal::Float(_) => matches!(ty, T::Decimal | T::Double | T::Float),
        Literal::Boolean(_) => *ty == T::Boolean,
        Literal::Uuid(_) => matches!(ty, T::Uuid | T::Timeuuid),
        Literal::Hex(_) => *ty == T::Blob,
        Literal::Duration(_) => *ty == T::Duration,
    }
}

/// Whether a result of one type serves as the other (C `AbstractType.isValueCompatibleWith`, of native types).
fn assignable(from: &CqlType, to: &CqlType) -> bool {
    use CqlType::{Ascii, Blob, Text, Timeuuid, Uuid};
    from.unfrozen() == to.unfrozen() || matches!((from, to), (Timeuuid, Uuid) | (Ascii, Text) | (_, Blob))
}

/// The signature that fits these arguments; `fits` says whether argument `i` could be of a type.
///
/// # Errors
/// None fits, or several do.
pub(super) fn choose(name: &str, count: usize, fits: impl Fn(usize, &CqlType) -> bool) -> Result<Function, CqlError> {
    let known = functions::named(name);
    let mut fitting: Vec<Function> = known
        .iter()
        .filter(|f| f.arguments.len() == count && f.arguments.iter().enumerate().all(|(i, t)| fits(i, t)))
        .cloned()
        .collect();
    match fitting.len() {
        0 => Err(functions::no_match(name, &known)),
        1 => Ok(fitting.remove(0)),
        _ => Err(functions::ambiguous(name, &fitting)),
    }
}

fn call(function: &str, arguments: &[Term], name: &str, ty: &CqlType, binds: &mut Binds) -> Result<Compute, CqlError> {
    let known = functions::named(function);
    if known.is_empty() {
        return Err(CqlError::invalid(format!("Unknown function {function} called")));
    }
    let chosen = match known.as_slice() {
        [only] if only.arguments.len() == arguments.len() => {
            for (i, (term, ty)) in arguments.iter().zip(&only.arguments).enumerate() {
                if !could_be(term, ty) {
                    return Err(wrong_argument(term, i, function, ty));
                }
            }
            only.clone()
        }
        _ => choose(function, arguments.len(), |i, ty| could_be(&arguments[i], ty))?,
    };
    if !assignable(&chosen.result, ty) {
        return Err(CqlError::invalid(format!(
            "Type error: cannot assign result of function system.{function} (type {}) to {name} (type {})",
            types::name(&chosen.result),
            types::name(ty)
        )));
    }
    let mut computed = Vec::with_capacity(arguments.len());
    for (i, (term, ty)) in arguments.iter().zip(&chosen.arguments).enumerate() {
        computed.push(resolve(term, &format!("arg{i}(system.{function})"), ty, binds)?);
    }
    Ok(Compute::Call(chosen, computed))
}

/// The refusal of an argument of another type.
pub(super) fn wrong_argument(term: &Term, i: usize, function: &str, ty: &CqlType) -> CqlError {
    CqlError::invalid(format!(
        "Type error: {} cannot be passed as argument {i} of function system.{function} of type {}",
        term.text(),
        types::name(ty)
    ))
}

/// Whether a term could be argument `i` of token() for a key column of this type.
pub(super) fn fits_key(term: &Term, ty: &CqlType) -> bool {
    could_be(term, ty)
}
