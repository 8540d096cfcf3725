//! CQL types: from the text of a statement, to the text of `system_schema`, and to their codes on the wire.

use super::dialect::Dialect;
use super::error::CqlError;
use super::frame::response::{Columns, put_string};
use super::parse::ast::TypeAst;
use crate::model::{CqlType, Schema};

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

/// The class that stands for `vector`, which has no code of its own either (seen).
const VECTOR_CLASS: &str = "org.apache.cassandra.db.marshal.VectorType";

/// Elements of a vector at most (C guardrail-free limit: the length of a `u16`, as drivers read it).
const VECTOR_MAX: u32 = 65_535;

/// Where types are looked up.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The keyspace of the statement.
    pub keyspace: &'a str,
    /// The schema, for user-defined types.
    pub schema: &'a Schema,
    /// What the server's CQL is like.
    pub dialect: &'static Dialect,
}

/// The type a statement names.
///
/// # Errors
/// A type that does not exist, or one that cannot be so.
pub fn resolve(ast: &TypeAst, scope: Scope<'_>) -> Result<CqlType, CqlError> {
    resolve_in(ast, scope, false)
}

/// As [`resolve`]; what is inside of something frozen is so without saying it.
fn resolve_in(ast: &TypeAst, scope: Scope<'_>, is_frozen: bool) -> Result<CqlType, CqlError> {
    let element = |inner| element(inner, ast, scope, is_frozen);
    let key = |inner| key(inner, ast, scope, is_frozen);
    Ok(match ast {
        TypeAst::Named(name) => return named(name, scope),
        TypeAst::User(keyspace, name) => return user(keyspace.as_deref(), name, scope),
        TypeAst::Frozen(inner) => match resolve_in(inner, scope, true)? {
            inner if inner.is_multicell() => CqlType::Frozen(Box::new(inner)),
            // Tuples are frozen as they are.
            inner @ (CqlType::Tuple(_) | CqlType::Frozen(_) | CqlType::Vector(..)) => inner,
            _ => {
                return Err(CqlError::invalid(
                    "frozen<> is only allowed on collections, tuples, and user-defined types",
                ));
            }
        },
        TypeAst::List(inner) => CqlType::List(Box::new(element(inner)?)),
        TypeAst::Set(inner) => CqlType::Set(Box::new(key(inner)?)),
        TypeAst::Map(k, value) => CqlType::Map(Box::new(key(k)?), Box::new(element(value)?)),
        TypeAst::Tuple(items) => {
            let items: Result<Vec<CqlType>, CqlError> = items
                .iter()
                .map(|i| match resolve_in(i, scope, true)? {
                    CqlType::Counter => Err(CqlError::invalid("Counters are not allowed inside tuples")),
                    ty => Ok(frozen(ty)),
                })
                .collect();
            CqlType::Tuple(items?)
        }
        TypeAst::Vector(..) if !scope.dialect.has_vectors => {
            return Err(CqlError::unsupported("vectors (of ScyllaDB 2025.4)"));
        }
        TypeAst::Vector(inner, n) => {
            let dimensions = n.parse::<u32>().unwrap_or(0);
            if dimensions == 0 || dimensions > VECTOR_MAX {
                return Err(CqlError::invalid(format!(
                    "vectors may only have positive dimensions; given {n}"
                )));
            }
            CqlType::Vector(Box::new(frozen(resolve_in(inner, scope, true)?)), dimensions as u16)
        }
    })
}

/// The type, frozen if it can be: types inside tuples are so without saying it.
fn frozen(ty: CqlType) -> CqlType {
    match ty.is_multicell() {
        true => CqlType::Frozen(Box::new(ty)),
        false => ty,
    }
}

fn named(name: &str, scope: Scope<'_>) -> Result<CqlType, CqlError> {
    match name {
        "varchar" => return Ok(CqlType::Text),
        "duration" => return Ok(CqlType::Duration),
        "vector" | "tuple" | "list" | "set" | "map" | "frozen" => {
            return Err(CqlError::invalid(format!("the type {name} needs parameters")));
        }
        _ => {}
    }
    match SIMPLE.iter().find(|(_, n, _)| *n == name) {
        Some((ty, _, _)) => Ok(ty.clone()),
        None => user(None, name, scope),
    }
}

fn user(keyspace: Option<&str>, name: &str, scope: Scope<'_>) -> Result<CqlType, CqlError> {
    if let Some(other) = keyspace.filter(|k| *k != scope.keyspace) {
        return Err(CqlError::invalid(format!(
            "Statement on keyspace {} cannot refer to a user type in keyspace {other}; user types can only be used in \
             the keyspace they are defined in",
            scope.keyspace
        )));
    }
    match scope.schema.user_type(scope.keyspace, name) {
        Some(udt) => Ok(CqlType::Udt(Box::new(udt.clone()))),
        None => Err(CqlError::invalid(format!("Unknown type {}.{name}", scope.keyspace))),
    }
}

/// An element of a collection: frozen, and no counter.
fn element(ast: &TypeAst, whole: &TypeAst, scope: Scope<'_>, is_frozen: bool) -> Result<CqlType, CqlError> {
    match resolve_in(ast, scope, is_frozen)? {
        ty if is_frozen && ty.is_multicell() => Ok(frozen(ty)),
        ty @ (CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..)) => Err(CqlError::invalid(format!(
            "Non-frozen collections are not allowed inside collections: {}",
            whole.text().replace(&ast.text(), &name(&ty))
        ))),
        CqlType::Udt(_) => Err(CqlError::invalid(format!(
            "Non-frozen UDTs are not allowed inside collections: {}",
            whole.text()
        ))),
        CqlType::Counter => Err(CqlError::invalid(format!(
            "Counters are not allowed inside collections: {}",
            whole.text()
        ))),
        ty => Ok(ty),
    }
}

/// The element of a set, or the key of a map.
fn key(ast: &TypeAst, whole: &TypeAst, scope: Scope<'_>, is_frozen: bool) -> Result<CqlType, CqlError> {
    match element(ast, whole, scope, is_frozen)? {
        CqlType::Duration if matches!(whole, TypeAst::Set(_)) => Err(CqlError::invalid(format!(
            "Durations are not allowed inside sets: {}",
            whole.text()
        ))),
        CqlType::Duration => Err(CqlError::invalid(format!(
            "Durations are not allowed as map keys: {}",
            whole.text()
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
        CqlType::Udt(udt) => super::describe::identifier(&udt.name),
        CqlType::Vector(e, n) => format!("vector<{}, {n}>", name(e)),
        CqlType::Duration => "duration".into(),
        simple => SIMPLE
            .iter()
            .find(|(ty, _, _)| ty == simple)
            .map_or_else(String::new, |(_, n, _)| (*n).into()),
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
        CqlType::Udt(udt) => {
            code(out, 0x30);
            put_string(out, &udt.keyspace);
            put_string(out, &udt.name);
            code(out, udt.fields.len() as u16);
            for (name, ty) in &udt.fields {
                put_string(out, name);
                put_type(out, ty);
            }
        }
        CqlType::Vector(..) => {
            code(out, 0);
            put_string(out, &class(ty));
        }
        simple => code(
            out,
            SIMPLE.iter().find(|(t, _, _)| t == simple).map_or(0x03, |(_, _, c)| *c),
        ),
    }
}

/// The class of a type, as Cassandra names it where protocol 4 has no code.
fn class(ty: &CqlType) -> String {
    const PACKAGE: &str = "org.apache.cassandra.db.marshal";
    let short = match ty {
        CqlType::Vector(e, n) => return format!("{VECTOR_CLASS}({} , {n})", class(e)),
        CqlType::Frozen(inner) => return format!("{PACKAGE}.FrozenType({})", class(inner)),
        CqlType::List(e) => return format!("{PACKAGE}.ListType({})", class(e)),
        CqlType::Set(e) => return format!("{PACKAGE}.SetType({})", class(e)),
        CqlType::Map(k, v) => return format!("{PACKAGE}.MapType({},{})", class(k), class(v)),
        CqlType::Tuple(items) => {
            let items: Vec<String> = items.iter().map(class).collect();
            return format!("{PACKAGE}.TupleType({})", items.join(","));
        }
        CqlType::Udt(udt) => {
            let hex = |s: &str| s.bytes().map(|b| format!("{b:02x}")).collect::<String>();
            let fields = udt.fields.iter().map(|(n, t)| format!(",{}:{}", hex(n), class(t)));
            let fields: String = fields.collect();
            return format!("{PACKAGE}.UserType({},{}{fields})", udt.keyspace, hex(&udt.name));
        }
        CqlType::Ascii => "AsciiType",
        CqlType::Bigint => "LongType",
        CqlType::Blob => "BytesType",
        CqlType::Boolean => "BooleanType",
        CqlType::Counter => "CounterColumnType",
        CqlType::Date => "SimpleDateType",
        CqlType::Decimal => "DecimalType",
        CqlType::Double => "DoubleType",
        CqlType::Duration => "DurationType",
        CqlType::Float => "FloatType",
        CqlType::Inet => "InetAddressType",
        CqlType::Int => "Int32Type",
        CqlType::Smallint => "ShortType",
        CqlType::Text => "UTF8Type",
        CqlType::Time => "TimeType",
        CqlType::Timestamp => "TimestampType",
        CqlType::Timeuuid => "TimeUUIDType",
        CqlType::Tinyint => "ByteType",
        CqlType::Uuid => "UUIDType",
        CqlType::Varint => "IntegerType",
    };
    format!("{PACKAGE}.{short}")
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
    Columns {
        count,
        specs: out,
        apart: false,
    }
}

/// The same of columns that each name their keyspace and table.
pub fn columns_apart<'a>(
    specs: impl ExactSizeIterator<Item = ((&'a str, &'a str), (&'a str, &'a CqlType))>,
) -> Columns {
    let count = specs.len();
    let mut out = Vec::new();
    for ((keyspace, table), (name, ty)) in specs {
        put_string(&mut out, keyspace);
        put_string(&mut out, table);
        put_string(&mut out, name);
        put_type(&mut out, ty);
    }
    Columns {
        count,
        specs: out,
        apart: true,
    }
}
