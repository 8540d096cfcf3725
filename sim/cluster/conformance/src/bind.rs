//! Values as cases write them: `bigint 5`, `text abc`, `text x*5000`, `bytes 00ff`, `null`, `unset`. Nothing checks that a
//! value fits its marker: that is the server's to refuse.

use scylla_cql::serialize::row::SerializedValues;
use scylla_cql::serialize::{RowWriter, SerializationError};
use scylla_cql::value::{CqlValue, MaybeUnset};

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// As bytes.
    Bytes(Vec<u8>),
    /// Null.
    Null,
    /// Not set: the column stays as it is.
    Unset,
}

/// Reads a value.
///
/// # Errors
/// What is wrong with it.
pub fn value(text: &str) -> Result<Value, String> {
    let (kind, literal) = text.split_once(' ').unwrap_or((text, ""));
    let number = || literal.parse::<i64>().map_err(|e| format!("value '{text}': {e}"));
    let bytes = match kind {
        "null" => return Ok(Value::Null),
        "unset" => return Ok(Value::Unset),
        "int" => i32::try_from(number()?)
            .map_err(|e| format!("value '{text}': {e}"))?
            .to_be_bytes()
            .to_vec(),
        "bigint" => number()?.to_be_bytes().to_vec(),
        "boolean" => vec![u8::from(literal == "true")],
        "text" => repeated(literal).into_bytes(),
        "bytes" => hex::decode(literal).map_err(|e| format!("value '{text}': {e}"))?,
        _ => return Err(format!("value '{text}': '{kind}' is no type that cases can write")),
    };
    Ok(Value::Bytes(bytes))
}

/// `x*5000` is 5000 times `x`; anything else is itself.
pub fn repeated(literal: &str) -> String {
    let parts = literal.rsplit_once('*');
    match parts.and_then(|(what, times)| Some((what, times.parse().ok()?))) {
        Some((what, times)) => what.repeat(times),
        None => literal.to_owned(),
    }
}

/// The values of a request.
///
/// # Errors
/// The first value that cannot be read.
pub fn values(texts: &[String]) -> Result<SerializedValues, String> {
    let values = texts.iter().map(|t| value(t)).collect::<Result<Vec<_>, _>>()?;
    let write = |writer: &mut RowWriter<'_>| {
        for value in &values {
            let cell = writer.make_cell_writer();
            let _written = match value {
                Value::Null => cell.set_null(),
                Value::Unset => cell.set_unset(),
                Value::Bytes(bytes) => cell.set_value(bytes).map_err(SerializationError::new)?,
            };
        }
        Ok(())
    };
    let (row, ()) = SerializedValues::from_closure(write).map_err(|e| e.to_string())?;
    Ok(row)
}

/// The values for the driver, which knows types.
///
/// # Errors
/// The first value that the driver cannot be given.
pub fn driver_values(texts: &[String]) -> Result<Vec<MaybeUnset<Option<CqlValue>>>, String> {
    let one = |text: &String| -> Result<MaybeUnset<Option<CqlValue>>, String> {
        let (kind, literal) = text.split_once(' ').unwrap_or((text, ""));
        let bad = |e: std::num::ParseIntError| format!("value '{text}': {e}");
        Ok(MaybeUnset::Set(match kind {
            "null" => None,
            "unset" => return Ok(MaybeUnset::Unset),
            "int" => Some(CqlValue::Int(literal.parse().map_err(bad)?)),
            "bigint" => Some(CqlValue::BigInt(literal.parse().map_err(bad)?)),
            "text" => Some(CqlValue::Text(repeated(literal))),
            _ => return Err(format!("value '{text}': the driver is given int, bigint and text only")),
        }))
    };
    texts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_their_bytes_and_nonsense_is_refused() {
        assert_eq!(value("bigint -5"), Ok(Value::Bytes((-5i64).to_be_bytes().to_vec())));
        assert_eq!(value("int 1"), Ok(Value::Bytes(vec![0, 0, 0, 1])));
        assert_eq!(value("text ab*3"), Ok(Value::Bytes(b"ababab".to_vec())));
        assert_eq!(value("text "), Ok(Value::Bytes(vec![])));
        assert_eq!(value("bytes 00ff"), Ok(Value::Bytes(vec![0, 255])));
        assert_eq!((value("null"), value("unset")), (Ok(Value::Null), Ok(Value::Unset)));
        for wrong in ["int x", "int 3000000000", "float 1", "bytes 0", "5"] {
            assert!(value(wrong).is_err(), "{wrong}");
        }
    }
}
