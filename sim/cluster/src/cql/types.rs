//! CQL types: from the text of a statement, to the text of `system_schema`, and to their codes on the wire.

use super::error::CqlError;
use super::frame::response::{Columns, put_string};
use super::parse::ast::TypeAst;
use crate::model::CqlType;

/// Types without parameters, their CQL names and their codes in protocol 4.
const SIMPLE: [(CqlType, &str, u16); 19] = [
    (CqlType::Ascii, "ascii", 0x01),
    (CqlType::Bigint, "bigint", 0x02),
    (CqlType::Blob, "blob", 0x03),
    (CqlType::Boolean, "boolean", 0x04),
    (CqlType::Counter, "counter", 0x05),
    (CqlType::Decimal, "decimal", 0x06),
    (CqlType::Double, "double", 0x07),
    (CqlType::Float, "float", 0x08),
    (CqlType::Int, "int", 0x09),
    (CqlType::Timestamp, "timestamp", 0x0B),
    (CqlType::Uuid, "uuid", 0x0C),
    (CqlType::Text, "text", 0x0D),
    (CqlType::Varint, "varint", 0x0E),
    (CqlType::Timeuuid, "timeuuid", 0x0F),
    (CqlType::Inet, "inet", 0x10),
    (CqlType::Date, "date", 0x11),
    (CqlType::Time, "time", 0x12),
    (CqlType::Smallint, "smallint", 0x13),
    (CqlType::Tinyint, "tinyint", 0x14),
];

/// The class that stands for `duration`, which has no code of its own before protocol 5 (seen in Cassandra 5.0.5).
const DURATION_CLASS: &str = "org.apache.cassandra.db.marshal.DurationType";

/// The type a statement names.
///
/// # Errors
/// A type that does not exist, or one that the simulated cluster does not store.
pub fn resolve(ast: &TypeAst, keyspace: &str) -> Result<CqlType, CqlError> {
    Ok(match ast {
        TypeAst::Named(name) => return named(name, keyspace),
        TypeAst::Frozen(inner) => match resolve(inner, keyspace)? {
            inner @ (CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..)) => CqlType::Frozen(Box::new(inner)),
            other => {
                return Err(CqlError::invalid(format!(
                    "frozen<> is only allowed on collections, tuples, and user-defined types (got {})",
                    name(&other)
                )));
            }
        },
        TypeAst::List(inner) => CqlType::List(Box::new(element(inner, keyspace)?)),
        TypeAst::Set(inner) => CqlType::Set(Box::new(element(inner, keyspace)?)),
        TypeAst::Map(key, value) => {
            CqlType::Map(Box::new(element(key, keyspace)?), Box::new(element(value, keyspace)?))
        }
    })
}

fn named(name: &str, keyspace: &str) -> Result<CqlType, CqlError> {
    match name {
        "varchar" => return Ok(CqlType::Text),
        "duration" => return Ok(CqlType::Duration),
        "counter" => return Err(CqlError::unsupported("counter columns")),
        "vector" | "tuple" | "list" | "set" | "map" | "frozen" => {
            return Err(CqlError::invalid(format!("the type {name} needs parameters")));
        }
        _ => {}
    }
    match SIMPLE.iter().find(|(_, n, _)| *n == name) {
        Some((ty, _, _)) => Ok(ty.clone()),
        None => Err(CqlError::invalid(format!("Unknown type {keyspace}.{name}"))),
    }
}

fn element(ast: &TypeAst, keyspace: &str) -> Result<CqlType, CqlError> {
    match resolve(ast, keyspace)? {
        ty @ (CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..)) => Err(CqlError::invalid(format!(
            "Non-frozen collections are not allowed inside collections: {}",
            name(&ty)
        ))),
        ty => Ok(ty),
    }
}

/// The type as `system_schema.columns.type` shows it.
pub fn name(ty: &CqlType) -> String {
    match ty {
        CqlType::List(e) => format!("list<{}>", name(e)),
        CqlType::Set(e) => format!("set<{}>", name(e)),
        CqlType::Map(k, v) => format!("map<{}, {}>", name(k), name(v)),
        CqlType::Tuple(items) => format!(
            "frozen<tuple<{}>>",
            items.iter().map(name).collect::<Vec<_>>().join(", ")
        ),
        CqlType::Frozen(inner) => format!("frozen<{}>", name(inner)),
        CqlType::Duration => "duration".into(),
        simple => SIMPLE
            .iter()
            .find(|(ty, _, _)| ty == simple)
            .map_or_else(String::new, |(_, n, _)| (*n).into()),
    }
}

/// Whether values of the type are collections kept cell by cell on a real server.
pub fn is_multicell(ty: &CqlType) -> bool {
    matches!(ty, CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..))
}

/// The type without `frozen<>`, which does not show in values nor on the wire.
pub fn unfrozen(ty: &CqlType) -> &CqlType {
    match ty {
        CqlType::Frozen(inner) => unfrozen(inner),
        other => other,
    }
}

/// Appends the [option] that describes the type on the wire.
pub fn put_type(out: &mut Vec<u8>, ty: &CqlType) {
    let code = |out: &mut Vec<u8>, c: u16| out.extend(c.to_be_bytes());
    match ty {
        CqlType::Frozen(inner) => put_type(out, inner),
        CqlType::List(e) => {
            code(out, 0x20);
            put_type(out, e);
        }
        CqlType::Map(k, v) => {
            code(out, 0x21);
            put_type(out, k);
            put_type(out, v);
        }
        CqlType::Set(e) => {
            code(out, 0x22);
            put_type(out, e);
        }
        CqlType::Tuple(items) => {
            code(out, 0x31);
            code(out, items.len() as u16);
            items.iter().for_each(|i| put_type(out, i));
        }
        CqlType::Duration => {
            code(out, 0);
            put_string(out, DURATION_CLASS);
        }
        simple => code(
            out,
            SIMPLE.iter().find(|(t, _, _)| t == simple).map_or(0x03, |(_, _, c)| *c),
        ),
    }
}

/// Encodes column specifications of one table once and for all.
pub fn columns<'a>(
    keyspace: &str,
    table: &str,
    specs: impl ExactSizeIterator<Item = (&'a str, &'a CqlType)>,
) -> Columns {
    let count = specs.len();
    let mut out = Vec::new();
    if count > 0 {
        put_string(&mut out, keyspace);
        put_string(&mut out, table);
    }
    for (name, ty) in specs {
        put_string(&mut out, name);
        put_type(&mut out, ty);
    }
    Columns { count, specs: out }
}
