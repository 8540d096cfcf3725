//! Rows as the driver binds them. A row is a struct with one field per column, in the order of the table's `.cql` file,
//! because value tuples end at sixteen; the names are compared with the database's once, when the statement is
//! prepared, so that binding itself compares nothing.

use bytes::Bytes;
use schema::RowTimestamp;
use scylla::frame::response::result::{ColumnType, NativeType};
use scylla::serialize::SerializationError;
use scylla::serialize::row::RowSerializationContext;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, RowWriter, WrittenCellProof};
use settlement_events::{
    Amount, AssetId, EventId, MatchSeq, OrderId, OutputSequence, Price, Quantity, SymbolId, TimeMs, TradeId, UserId,
    Version,
};

use super::fees::FeeBytes;

/// An unsigned number in a `bigint` column. Above `i64::MAX` it is an error here, at the edge, never a negative number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bigint(pub u64);

/// An unsigned number in an `int` column, with the same edge at `i32::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int(pub u32);

/// The bytes of a digest that rows carry.
pub type ShortDigest = [u8; 8];

macro_rules! bigint_from {
    ($($name:ident),+) => {
        $(impl From<$name> for Bigint {
            fn from(value: $name) -> Self {
                Self(value.0)
            }
        })+
    };
}

bigint_from!(
    UserId,
    OrderId,
    TradeId,
    MatchSeq,
    EventId,
    OutputSequence,
    Version,
    TimeMs,
    Amount,
    Price,
    Quantity
);

impl From<AssetId> for Int {
    fn from(value: AssetId) -> Self {
        Self(value.0)
    }
}

impl From<SymbolId> for Int {
    fn from(value: SymbolId) -> Self {
        Self(value.0)
    }
}

impl SerializeValue for Bigint {
    fn serialize<'b>(
        &self,
        typ: &ColumnType,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        i64::try_from(self.0)
            .map_err(SerializationError::new)?
            .serialize(typ, writer)
    }
}

impl SerializeValue for Int {
    fn serialize<'b>(
        &self,
        typ: &ColumnType,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        i32::try_from(self.0)
            .map_err(SerializationError::new)?
            .serialize(typ, writer)
    }
}

/// What `USING TIMESTAMP ?` binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub RowTimestamp);

/// A value on its way into a statement. Rows hand their fields over as these, so that one loop writes them all: code
/// for each field of each table would not stay in the processor's cache from one batch to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// An unsigned number for a `bigint` column.
    Bigint(Bigint),
    /// An unsigned number for an `int` column.
    Int(Int),
    /// A signed number for a `bigint` column.
    Signed(i64),
    /// A signed number for an `int` column.
    SignedInt(i32),
    /// A `boolean`.
    Bool(bool),
    /// A `text`.
    Text(&'a str),
    /// A `blob`.
    Blob(&'a [u8]),
}

/// What a row's field can be.
pub trait AsCell {
    /// The field as a value.
    fn cell(&self) -> Cell<'_>;
}

macro_rules! as_cell {
    ($($type:ty, $value:ident => $cell:expr;)+) => {
        $(impl AsCell for $type {
            fn cell(&self) -> Cell<'_> {
                let $value = self;
                $cell
            }
        })+
    };
}

as_cell! {
    Bigint, value => Cell::Bigint(*value);
    Int, value => Cell::Int(*value);
    Stamp, value => Cell::Signed(value.0.as_micros());
    i64, value => Cell::Signed(*value);
    i32, value => Cell::SignedInt(*value);
    bool, value => Cell::Bool(*value);
    &str, value => Cell::Text(value);
    String, value => Cell::Text(value);
    Vec<u8>, value => Cell::Blob(value);
    Bytes, value => Cell::Blob(value);
    FeeBytes, value => Cell::Blob(value.as_slice());
}

impl<const N: usize> AsCell for [u8; N] {
    fn cell(&self) -> Cell<'_> {
        Cell::Blob(self)
    }
}

/// Binds a row's values, one for each marker of the statement.
pub fn write_cells(
    cells: &[Cell<'_>],
    ctx: &RowSerializationContext<'_>,
    writer: &mut RowWriter<'_>,
) -> Result<(), SerializationError> {
    let columns = ctx.columns();
    if columns.len() != cells.len() {
        return Err(SerializationError::new(WrongWidth {
            markers: columns.len(),
            fields: cells.len(),
        }));
    }
    for (cell, column) in cells.iter().zip(columns) {
        cell.write(column.typ(), writer.make_cell_writer())?;
    }
    Ok(())
}

impl Cell<'_> {
    /// What fits is written here; what does not is the driver's to complain about, in its words.
    fn write(&self, typ: &ColumnType<'_>, writer: CellWriter<'_>) -> Result<(), SerializationError> {
        let ColumnType::Native(native) = typ else {
            return self.write_by_driver(typ, writer);
        };
        let written = match (self, native) {
            (Self::Bigint(value), NativeType::BigInt) if i64::try_from(value.0).is_ok() => {
                writer.set_value(&value.0.to_be_bytes())
            }
            (Self::Signed(value), NativeType::BigInt | NativeType::Counter) => writer.set_value(&value.to_be_bytes()),
            (Self::Int(value), NativeType::Int) if i32::try_from(value.0).is_ok() => {
                writer.set_value(&value.0.to_be_bytes())
            }
            (Self::SignedInt(value), NativeType::Int) => writer.set_value(&value.to_be_bytes()),
            (Self::Bool(value), NativeType::Boolean) => writer.set_value(&[u8::from(*value)]),
            (Self::Text(value), NativeType::Text | NativeType::Ascii) => writer.set_value(value.as_bytes()),
            (Self::Blob(value), NativeType::Blob) => writer.set_value(value),
            _ => return self.write_by_driver(typ, writer),
        };
        written.map(drop).map_err(SerializationError::new)
    }

    #[cold]
    #[inline(never)]
    fn write_by_driver(&self, typ: &ColumnType<'_>, writer: CellWriter<'_>) -> Result<(), SerializationError> {
        let written = match self {
            Self::Bigint(value) => value.serialize(typ, writer),
            Self::Int(value) => value.serialize(typ, writer),
            Self::Signed(value) => value.serialize(typ, writer),
            Self::SignedInt(value) => value.serialize(typ, writer),
            Self::Bool(value) => value.serialize(typ, writer),
            Self::Text(value) => value.serialize(typ, writer),
            Self::Blob(value) => value.serialize(typ, writer),
        };
        written.map(drop)
    }
}

/// A statement with another number of columns than the row has fields. Preparing compares names, so only a table
/// altered under a running program can cause it.
#[derive(Debug, thiserror::Error)]
#[error("the statement binds {markers} values and the row has {fields}: the table was altered; restart settlement")]
pub struct WrongWidth {
    pub(crate) markers: usize,
    pub(crate) fields: usize,
}

/// A row type: its columns in the order in which it binds them.
pub trait Columns {
    /// The names.
    const COLUMNS: &'static [&'static str];
}

/// Declares a row: a struct, the names of its columns, and how it is bound. With `stamped` the last field is not a
/// column but the timestamp.
macro_rules! row {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty,)+ }) => {
        row!(@ $(#[$meta])* $name { $($field: $type,)+ } {});
    };
    ($(#[$meta:meta])* stamped $name:ident { $($field:ident: $type:ty,)+ }) => {
        row!(@ $(#[$meta])* $name { $($field: $type,)+ } { timestamp: $crate::designs::row::Stamp, });
    };
    (@ $(#[$meta:meta])* $name:ident { $($field:ident: $type:ty,)+ } { $($stamp:ident: $stamp_type:ty,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name {
            $(pub $field: $type,)+
            $(pub $stamp: $stamp_type,)?
        }

        impl $crate::designs::row::Columns for $name {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),+];
        }

        impl scylla::serialize::row::SerializeRow for $name {
            fn serialize(
                &self,
                ctx: &scylla::serialize::row::RowSerializationContext<'_>,
                writer: &mut scylla::serialize::writers::RowWriter,
            ) -> Result<(), scylla::serialize::SerializationError> {
                let cells = [
                    $($crate::designs::row::AsCell::cell(&self.$field),)+
                    $($crate::designs::row::AsCell::cell(&self.$stamp),)?
                ];
                $crate::designs::row::write_cells(&cells, ctx, writer)
            }

            fn is_empty(&self) -> bool {
                false
            }
        }
    };
}

pub(crate) use row;
