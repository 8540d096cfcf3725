//! CQL's types, user-defined ones among them.

use serde::{Deserialize, Serialize};

/// CQL types. The core stores every value, and every element of a collection, as opaque bytes and needs a type only to
/// order clustering columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "CQL's own names")]
pub enum CqlType {
    Ascii,
    Bigint,
    Blob,
    Boolean,
    Counter,
    Date,
    Decimal,
    Double,
    Duration,
    Float,
    Inet,
    Int,
    Smallint,
    Text,
    Time,
    Timestamp,
    Timeuuid,
    Tinyint,
    Uuid,
    Varint,
    List(Box<CqlType>),
    Set(Box<CqlType>),
    Map(Box<CqlType>, Box<CqlType>),
    Tuple(Vec<CqlType>),
    Frozen(Box<CqlType>),
    Udt(Box<UserType>),
    Vector(Box<CqlType>, u16),
}

/// A user-defined type: fields in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserType {
    /// Keyspace it belongs to.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Names and types of its fields.
    pub fields: Vec<(String, CqlType)>,
}

impl CqlType {
    /// Serialized length in bytes of every value of the type, or `None` when lengths vary.
    pub fn fixed_bytes(&self) -> Option<usize> {
        Some(match self {
            CqlType::Boolean | CqlType::Tinyint => 1,
            CqlType::Smallint => 2,
            CqlType::Int | CqlType::Float | CqlType::Date => 4,
            CqlType::Bigint | CqlType::Counter | CqlType::Double | CqlType::Time | CqlType::Timestamp => 8,
            CqlType::Uuid | CqlType::Timeuuid => 16,
            CqlType::Frozen(inner) => return inner.fixed_bytes(),
            _ => return None,
        })
    }

    /// Whether values of the type are kept element by element: collections and user-defined types that are not frozen.
    pub fn is_multicell(&self) -> bool {
        matches!(
            self,
            CqlType::List(_) | CqlType::Set(_) | CqlType::Map(..) | CqlType::Udt(_)
        )
    }

    /// The type without `frozen<>`, which does not show in values nor on the wire.
    pub fn unfrozen(&self) -> &CqlType {
        match self {
            CqlType::Frozen(inner) => inner.unfrozen(),
            other => other,
        }
    }

    /// Calls `f` for every user-defined type in it, inner ones first.
    pub fn user_types_mut(&mut self, f: &mut impl FnMut(&mut UserType)) {
        match self {
            CqlType::List(e) | CqlType::Set(e) | CqlType::Frozen(e) | CqlType::Vector(e, _) => e.user_types_mut(f),
            CqlType::Map(k, v) => {
                k.user_types_mut(f);
                v.user_types_mut(f);
            }
            CqlType::Tuple(items) => items.iter_mut().for_each(|i| i.user_types_mut(f)),
            CqlType::Udt(udt) => {
                udt.fields.iter_mut().for_each(|(_, t)| t.user_types_mut(f));
                f(udt);
            }
            _ => {}
        }
    }

    /// Whether it contains this user-defined type.
    pub fn uses(&self, keyspace: &str, name: &str) -> bool {
        let mut found = false;
        self.clone()
            .user_types_mut(&mut |udt| found |= udt.keyspace == keyspace && udt.name == name);
        found
    }
}
