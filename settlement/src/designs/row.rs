//! Rows as the driver binds them. A row is a struct with one field per column, in the order of the table's `.cql` file,
//! because value tuples end at sixteen; the names are compared with the database's once, when the statement is
//! prepared, so that binding itself compares nothing.

use schema::RowTimestamp;
use scylla::frame::response::result::ColumnType;
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use settlement_events::{
    Amount, AssetId, EventId, MatchSeq, OrderId, OutputSequence, Price, Quantity, SymbolId, TimeMs, TradeId, UserId,
    Version,
};

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

impl SerializeValue for Stamp {
    fn serialize<'b>(
        &self,
        typ: &ColumnType,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        self.0.as_micros().serialize(typ, writer)
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
                const FIELDS: usize = [$(stringify!($field),)+ $(stringify!($stamp),)?].len();
                let columns: &[_; FIELDS] = ctx.columns().try_into().map_err(|_| {
                    let wrong = $crate::designs::row::WrongWidth { markers: ctx.columns().len(), fields: FIELDS };
                    scylla::serialize::SerializationError::new(wrong)
                })?;
                let mut at = 0;
                $(
                    scylla::serialize::value::SerializeValue::serialize(
                        &self.$field, columns[at].typ(), writer.make_cell_writer(),
                    )?;
                    at += 1;
                )+
                $(
                    scylla::serialize::value::SerializeValue::serialize(
                        &self.$stamp, columns[at].typ(), writer.make_cell_writer(),
                    )?;
                    at += 1;
                )?
                debug_assert_eq!(at, FIELDS);
                Ok(())
            }

            fn is_empty(&self) -> bool {
                false
            }
        }
    };
}

pub(crate) use row;
