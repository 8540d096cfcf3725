//! How integers are written: as they are in the binary encoding; in a human-readable one (JSON) as a number up to
//! 2^53 and as a decimal string above it, because JavaScript readers lose digits there. Both forms are read back.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserializer, Serializer};

/// The largest integer that a JSON number may hold here: 2^53, the last one from which every smaller integer is
/// exact in a double.
pub(crate) const JSON_INTEGER_MAX: u64 = 1 << 53;

/// Writes an unsigned integer.
pub(crate) fn serialize_u64<S: Serializer>(value: u64, serializer: S) -> Result<S::Ok, S::Error> {
    if value > JSON_INTEGER_MAX && serializer.is_human_readable() {
        return serializer.collect_str(&value);
    }
    serializer.serialize_u64(value)
}

/// Writes a signed integer.
pub(crate) fn serialize_i64<S: Serializer>(value: i64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.unsigned_abs() > JSON_INTEGER_MAX && serializer.is_human_readable() {
        return serializer.collect_str(&value);
    }
    serializer.serialize_i64(value)
}

/// Reads an unsigned integer in either form.
pub(crate) fn deserialize_u64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    if deserializer.is_human_readable() {
        return deserializer.deserialize_any(UnsignedVisitor);
    }
    deserializer.deserialize_u64(UnsignedVisitor)
}

/// Reads a signed integer in either form.
pub(crate) fn deserialize_i64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    if deserializer.is_human_readable() {
        return deserializer.deserialize_any(SignedVisitor);
    }
    deserializer.deserialize_i64(SignedVisitor)
}

struct UnsignedVisitor;

impl Visitor<'_> for UnsignedVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an unsigned integer, or a string of its decimal digits")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        text.parse()
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

struct SignedVisitor;

impl Visitor<'_> for SignedVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer, or a string of its decimal digits")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i64, E> {
        text.parse()
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// Implements `Serialize` and `Deserialize` for a tuple struct over `u64`.
macro_rules! unsigned_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::integer::serialize_u64(self.0, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::integer::deserialize_u64(deserializer).map(Self)
            }
        }
    };
}

pub(crate) use unsigned_serde;
