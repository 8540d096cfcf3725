//! Storage keys: token, partition key and clustering key in one order-preserving string of bytes.
//!
//! Keys compare as bytes, so one ordered map holds a table in the order reads want it: by token, then partition, then
//! clustering columns in their declared orders. Up to 40 bytes live inline as five big-endian words; the rare longer key
//! keeps its rest in a box. Every encoded component is prefix-free (fixed width, or escaped and terminated), hence no
//! key of a table is a prefix of another and zero padding needs no length.

use std::cmp::Ordering;

use crate::model::{ClusteringOrder, Components, CqlType, OpKind, OpView, Table, Token, partition_key_components};

/// Bytes of a key kept inline.
const INLINE_BYTES: usize = 40;

/// An encoded key, ordered as its bytes.
#[derive(Debug, Clone, Eq)]
pub struct Key {
    head: [u64; INLINE_BYTES / 8],
    // Boxed twice: the pointer must be thin, it is in every entry of every table.
    tail: Option<Box<Box<[u8]>>>,
}

impl Key {
    /// What is kept inline, in order.
    pub(super) fn words(&self) -> &[u64] {
        &self.head
    }

    /// What is beyond that.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        self.tail.as_deref().map(|rest| &**rest)
    }

    /// The order of two keys with the same token.
    #[inline]
    pub(super) fn cmp_below_token(&self, other: &Key) -> Ordering {
        for (a, b) in self.head.iter().zip(&other.head).skip(1) {
            if a != b {
                return a.cmp(b);
            }
        }
        self.tail.cmp(&other.tail)
    }

    /// A key of a token and some bytes.
    #[cfg(test)]
    pub(super) fn of_parts(token: Token, bytes: &[u8]) -> Key {
        let mut writer = Writer::new(token);
        writer.put(bytes);
        writer.finish()
    }
}

impl PartialEq for Key {
    // Written out: the derived one calls a function for five words.
    #[inline]
    fn eq(&self, other: &Key) -> bool {
        let words = self.head.iter().zip(&other.head);
        words.fold(0, |differing, (a, b)| differing | (a ^ b)) == 0 && self.tail == other.tail
    }
}

impl Ord for Key {
    // Written out: nearly every comparison is decided by the first word, the token, and the derived one loops.
    #[inline]
    fn cmp(&self, other: &Key) -> Ordering {
        if self.head[0] != other.head[0] {
            return if self.head[0] < other.head[0] {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        self.cmp_below_token(other)
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Builds a key without allocating while it stays inline.
#[derive(Debug, Clone)]
struct Writer {
    head: [u8; INLINE_BYTES],
    len: usize,
    tail: Vec<u8>,
}

impl Writer {
    fn new(token: Token) -> Writer {
        let mut w = Writer {
            head: [0; INLINE_BYTES],
            len: 0,
            tail: vec![],
        };
        w.put8(token.0 as u64 ^ (1 << 63));
        w
    }

    /// Eight bytes, the width of nearly every component.
    #[inline]
    fn put8(&mut self, word: u64) {
        if self.len + 8 > INLINE_BYTES {
            return self.put(&word.to_be_bytes());
        }
        self.head[self.len..self.len + 8].copy_from_slice(&word.to_be_bytes());
        self.len += 8;
    }

    fn put(&mut self, bytes: &[u8]) {
        let inline = bytes.len().min(INLINE_BYTES - self.len);
        self.head[self.len..self.len + inline].copy_from_slice(&bytes[..inline]);
        self.len += inline;
        self.tail.extend_from_slice(&bytes[inline..]);
    }

    #[inline(always)]
    fn finish(self) -> Key {
        Key {
            head: std::array::from_fn(|i| u64::from_be_bytes(self.head[i * 8..i * 8 + 8].try_into().expect("8 bytes"))),
            tail: (!self.tail.is_empty()).then(|| Box::new(self.tail.into_boxed_slice())),
        }
    }

    /// The least key above every key that starts with what was written; `None` when there is none.
    fn successor(mut self) -> Option<Key> {
        let mut bytes = self.head[..self.len].to_vec();
        bytes.append(&mut self.tail);
        while bytes.last() == Some(&0xff) {
            bytes.pop();
        }
        *bytes.last_mut()? += 1;
        let mut next = Writer {
            head: [0; INLINE_BYTES],
            len: 0,
            tail: vec![],
        };
        next.put(&bytes);
        Some(next.finish())
    }
}

/// Keys `start <= key < end`; an absent end is the end of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// First key that may belong.
    pub start: Key,
    /// First key that does not.
    pub end: Option<Key>,
}

impl KeyRange {
    /// Whether the key lies in the range.
    pub fn contains(&self, key: &Key) -> bool {
        *key >= self.start && self.end.as_ref().is_none_or(|end| key < end)
    }

    /// Whether a key could lie in both.
    pub fn meets(&self, other: &KeyRange) -> bool {
        let begins_before = |a: &KeyRange, b: &KeyRange| b.end.as_ref().is_none_or(|end| a.start < *end);
        begins_before(self, other) && begins_before(other, self)
    }
}

/// A component's bytes are not a value of its column's type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} component {index} of {table} has {length} bytes, which no {ty} has")]
pub struct KeyError {
    part: &'static str,
    index: usize,
    table: String,
    length: usize,
    ty: String,
}

/// How one component is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    /// This many bytes as they are: their unsigned order is the type's order (boolean, date), or no order is needed.
    Raw(usize),
    /// Two's complement of this many bytes: the sign bit is flipped.
    Signed(usize),
    /// IEEE 754 of this many bytes: the sign bit is flipped for positives, everything for negatives.
    Float(usize),
    /// Any length: 0x00 becomes 0x00 0xff, and 0x00 0x00 ends it.
    Escaped,
    /// Version first, then the time for version 1, then the bytes (Cassandra's UUIDType).
    Uuid,
    /// Time, then the rest as signed bytes (Cassandra's TimeUUIDType).
    Timeuuid,
    /// Length and sign, then magnitude.
    Varint,
    /// Of parts: the layout's nested codec with this number.
    Nested(u16),
}

/// How a value of parts is encoded: part by part, each behind a byte that says whether there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Nested {
    /// Entries of a collection: one part for a list or set, two for a map.
    Items(Vec<Codec>),
    /// Components of a tuple or user-defined type, which may be null or missing.
    Fields(Vec<Codec>),
}

/// Whether clustering columns of this type can be ordered by storage keys.
pub fn orderable(ty: &CqlType) -> bool {
    clustering_codec(ty, &mut vec![]).is_some()
}

/// The codec of a type; those of parts go into `nested`.
fn clustering_codec(ty: &CqlType, nested: &mut Vec<Nested>) -> Option<Codec> {
    let mut parts = |types: &mut dyn Iterator<Item = &CqlType>| -> Option<Vec<Codec>> {
        types.map(|t| clustering_codec(t, nested)).collect()
    };
    let of_parts = match ty {
        CqlType::Frozen(inner) => return clustering_codec(inner, nested),
        CqlType::List(e) | CqlType::Set(e) => Nested::Items(parts(&mut [&**e].into_iter())?),
        CqlType::Map(k, v) => Nested::Items(parts(&mut [&**k, &**v].into_iter())?),
        CqlType::Tuple(items) => Nested::Fields(parts(&mut items.iter())?),
        CqlType::Udt(udt) => Nested::Fields(parts(&mut udt.fields.iter().map(|(_, t)| t))?),
        simple => return simple_codec(simple),
    };
    nested.push(of_parts);
    Some(Codec::Nested(nested.len() as u16 - 1))
}

fn simple_codec(ty: &CqlType) -> Option<Codec> {
    Some(match ty {
        CqlType::Boolean => Codec::Raw(1),
        CqlType::Date => Codec::Raw(4),
        CqlType::Tinyint => Codec::Signed(1),
        CqlType::Smallint => Codec::Signed(2),
        CqlType::Int => Codec::Signed(4),
        CqlType::Bigint | CqlType::Timestamp | CqlType::Time => Codec::Signed(8),
        CqlType::Float => Codec::Float(4),
        CqlType::Double => Codec::Float(8),
        CqlType::Ascii | CqlType::Text | CqlType::Blob | CqlType::Inet => Codec::Escaped,
        CqlType::Uuid => Codec::Uuid,
        CqlType::Timeuuid => Codec::Timeuuid,
        CqlType::Varint => Codec::Varint,
        _ => return None,
    })
}

/// The order of two values of a type that can be ordered; `None` for other types, and for bytes that are no values.
pub fn compare(ty: &CqlType, a: &[u8], b: &[u8]) -> Option<Ordering> {
    let mut nested = vec![];
    let codec = clustering_codec(ty, &mut nested)?;
    let layout = KeyLayout {
        table: String::new(),
        partition: vec![],
        clustering: vec![(codec, false)],
        nested,
        types: vec![ty.clone()],
    };
    let key = |value| {
        let mut writer = Writer::new(Token(0));
        let written = layout.write(&mut writer, codec, false, value, 0, "value");
        written.ok().map(|()| writer.finish())
    };
    Some(key(a)?.cmp(&key(b)?))
}

/// The key encoding of one table, computed once per schema change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLayout {
    table: String,
    partition: Vec<Codec>,
    clustering: Vec<(Codec, bool)>,
    nested: Vec<Nested>,
    types: Vec<CqlType>,
}

impl KeyLayout {
    /// The layout of a table. Clustering columns were checked with [`orderable`] when it was created.
    pub fn new(table: &Table) -> KeyLayout {
        let partition = table
            .partition_key()
            .iter()
            .map(|c| c.ty.fixed_bytes().map_or(Codec::Escaped, Codec::Raw))
            .collect();
        let mut nested = vec![];
        let clustering = table
            .clustering()
            .iter()
            .map(|c| {
                (
                    clustering_codec(&c.ty, &mut nested).unwrap_or(Codec::Escaped),
                    c.order == ClusteringOrder::Desc,
                )
            })
            .collect();
        let types = table.columns[..table.partition_columns + table.clustering_columns]
            .iter()
            .map(|c| c.ty.clone())
            .collect();
        KeyLayout {
            table: format!("{}.{}", table.keyspace, table.name),
            partition,
            clustering,
            nested,
            types,
        }
    }

    /// The least key of any partition with this token or a later one.
    pub fn token_start(token: Token) -> Key {
        Writer::new(token).finish()
    }

    /// The storage key of a row.
    pub fn row(&self, token: Token, partition: &[u8], clustering: &[u8]) -> Result<Key, KeyError> {
        let mut w = self.partition_writer(token, partition)?;
        self.write_clustering(&mut w, clustering)?;
        Ok(w.finish())
    }

    /// The storage key of the row an operation is about, or of the partition when it is about more than a row.
    pub fn of_op(&self, op: &OpView<'_>) -> Result<Key, KeyError> {
        match op.kind() {
            OpKind::Row | OpKind::RowDelete | OpKind::Parts => {
                self.row(op.token(), op.partition_key(), op.clustering())
            }
            OpKind::RangeDelete | OpKind::PartitionDelete | OpKind::Static | OpKind::StaticParts => {
                self.partition(op.token(), op.partition_key())
            }
        }
    }

    /// The key under which partition-wide state (partition and range tombstones, static cells) is kept.
    pub fn partition(&self, token: Token, partition: &[u8]) -> Result<Key, KeyError> {
        Ok(self.partition_writer(token, partition)?.finish())
    }

    /// The range of rows of one partition between two clustering bounds in storage order (prefix, inclusive).
    pub fn slice(
        &self,
        token: Token,
        partition: &[u8],
        start: (&[u8], bool),
        end: (&[u8], bool),
    ) -> Result<KeyRange, KeyError> {
        let base = self.partition_writer(token, partition)?;
        let mut first = base.clone();
        self.write_clustering(&mut first, start.0)?;
        let mut last = base;
        self.write_clustering(&mut last, end.0)?;
        // Nothing lies above an exclusive start whose successor does not exist: the empty range says so.
        let start_key = match start.1 || start.0.is_empty() {
            true => first.finish(),
            false => match first.clone().successor() {
                Some(k) => k,
                None => {
                    return Ok(KeyRange {
                        start: first.clone().finish(),
                        end: Some(first.finish()),
                    });
                }
            },
        };
        let end_key = match end.1 || end.0.is_empty() {
            true => last.successor(),
            false => Some(last.finish()),
        };
        Ok(KeyRange {
            start: start_key,
            end: end_key,
        })
    }

    fn partition_writer(&self, token: Token, partition: &[u8]) -> Result<Writer, KeyError> {
        let mut w = Writer::new(token);
        if let [codec] = self.partition[..] {
            self.write(&mut w, codec, false, partition, 0, "partition key")?;
            return Ok(w);
        }
        // The common shape (two fixed components) avoids the vector of components.
        let mut rest = partition;
        for (i, codec) in self.partition.iter().enumerate() {
            let component =
                split_component(&mut rest).ok_or_else(|| self.error("partition key", i, partition.len()))?;
            self.write(&mut w, *codec, false, component, i, "partition key")?;
        }
        match rest.is_empty() {
            true => Ok(w),
            false => Err(self.error("partition key", self.partition.len() - 1, partition.len())),
        }
    }

    fn write_clustering(&self, w: &mut Writer, clustering: &[u8]) -> Result<(), KeyError> {
        for (i, component) in Components::new(clustering).enumerate() {
            let (codec, descending) = *self
                .clustering
                .get(i)
                .ok_or_else(|| self.error("clustering key", i, component.len()))?;
            self.write(w, codec, descending, component, i, "clustering key")?;
        }
        Ok(())
    }

    fn write(
        &self,
        w: &mut Writer,
        codec: Codec,
        descending: bool,
        value: &[u8],
        i: usize,
        part: &'static str,
    ) -> Result<(), KeyError> {
        let flip = if descending { 0xff } else { 0 };
        match codec {
            Codec::Raw(n) | Codec::Signed(n) | Codec::Float(n) if n != value.len() => {
                Err(self.error(part, i, value.len()))
            }
            Codec::Raw(8) => {
                w.put8(word(value) ^ if descending { u64::MAX } else { 0 });
                Ok(())
            }
            Codec::Signed(8) => {
                w.put8(word(value) ^ (1 << 63) ^ if descending { u64::MAX } else { 0 });
                Ok(())
            }
            Codec::Raw(_) if !descending => {
                w.put(value);
                Ok(())
            }
            Codec::Raw(n) => put_mapped(w, &value[..n], |_, b| b ^ flip),
            Codec::Signed(4) => {
                let number = u32::from_be_bytes(value.try_into().expect("the length was checked"));
                let mapped = number ^ (1 << 31) ^ if descending { u32::MAX } else { 0 };
                w.put(&mapped.to_be_bytes());
                Ok(())
            }
            Codec::Signed(n) => put_mapped(w, &value[..n], |at, b| b ^ flip ^ if at == 0 { 0x80 } else { 0 }),
            Codec::Float(n) => {
                let negative = value[0] & 0x80 != 0;
                put_mapped(w, &value[..n], |at, b| {
                    flip ^ if negative {
                        !b
                    } else {
                        b ^ if at == 0 { 0x80 } else { 0 }
                    }
                })
            }
            Codec::Escaped => {
                if !descending && !value.contains(&0) {
                    w.put(value);
                    w.put(&[0, 0]);
                    return Ok(());
                }
                for b in value {
                    match b {
                        0 => w.put(&[flip, 0xff ^ flip]),
                        b => w.put(&[b ^ flip]),
                    }
                }
                w.put(&[flip, flip]);
                Ok(())
            }
            Codec::Uuid | Codec::Timeuuid if value.len() != 16 => Err(self.error(part, i, value.len())),
            Codec::Uuid => {
                let version = value[6] >> 4;
                w.put(&[version ^ flip]);
                if version == 1 {
                    put_mapped(w, &uuid_time(value), |_, b| b ^ flip)?;
                }
                put_mapped(w, value, |_, b| b ^ flip)
            }
            Codec::Timeuuid => {
                put_mapped(w, &uuid_time(value), |_, b| b ^ flip)?;
                put_mapped(w, &value[8..], |_, b| b ^ flip ^ 0x80)
            }
            Codec::Nested(n) => self.write_nested(w, &self.nested[usize::from(n)], descending, value, (i, part)),
            Codec::Varint if value.is_empty() => Err(self.error(part, i, 0)),
            Codec::Varint => {
                let negative = value[0] & 0x80 != 0;
                let padding = if negative { 0xff } else { 0 };
                let magnitude = &value[value.iter().position(|b| *b != padding).unwrap_or(value.len() - 1)..];
                let length = (magnitude.len() as u32).to_be_bytes();
                w.put(&[(if negative { 0 } else { 1 }) ^ flip]);
                put_mapped(w, &length, |_, b| flip ^ if negative { !b } else { b })?;
                put_mapped(w, magnitude, |_, b| b ^ flip)
            }
        }
    }

    /// Parts in order, so that a value which is the beginning of another comes first.
    fn write_nested(
        &self,
        w: &mut Writer,
        nested: &Nested,
        descending: bool,
        value: &[u8],
        (i, part): (usize, &'static str),
    ) -> Result<(), KeyError> {
        let flip = if descending { 0xff } else { 0 };
        let bad = || self.error(part, i, value.len());
        let length = |rest: &mut &[u8]| -> Option<i32> {
            let (n, tail) = rest.split_first_chunk::<4>()?;
            *rest = tail;
            Some(i32::from_be_bytes(*n))
        };
        let mut rest = value;
        match nested {
            Nested::Items(codecs) => {
                let count = length(&mut rest).ok_or_else(bad)?;
                for at in 0..count.max(0) as usize * codecs.len() {
                    let n = length(&mut rest).ok_or_else(bad)?;
                    let n = usize::try_from(n).map_err(|_| bad())?;
                    let (item, tail) = rest.split_at_checked(n).ok_or_else(bad)?;
                    w.put(&[1 ^ flip]);
                    self.write(w, codecs[at % codecs.len()], descending, item, i, part)?;
                    rest = tail;
                }
                w.put(&[flip]);
            }
            Nested::Fields(codecs) => {
                for codec in codecs {
                    // Missing, null, or there.
                    match (rest.is_empty(), length(&mut rest).map(usize::try_from)) {
                        (true, _) => w.put(&[flip]),
                        (false, None) => return Err(bad()),
                        (false, Some(Err(_))) => w.put(&[1 ^ flip]),
                        (false, Some(Ok(n))) => {
                            let (item, tail) = rest.split_at_checked(n).ok_or_else(bad)?;
                            w.put(&[2 ^ flip]);
                            self.write(w, *codec, descending, item, i, part)?;
                            rest = tail;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn error(&self, part: &'static str, index: usize, length: usize) -> KeyError {
        let at = if part == "partition key" {
            index
        } else {
            self.partition.len() + index
        };
        let ty = self
            .types
            .get(at)
            .map_or_else(|| "column".to_owned(), |t| format!("{t:?}"));
        KeyError {
            part,
            index,
            table: self.table.clone(),
            length,
            ty,
        }
    }

    /// Whether these bytes have the shape of a partition key of this table.
    pub fn is_partition_key(&self, bytes: &[u8]) -> bool {
        partition_key_components(bytes, self.partition.len()).is_some() && self.partition(Token(0), bytes).is_ok()
    }

    /// Number of clustering columns.
    pub fn clustering_columns(&self) -> usize {
        self.clustering.len()
    }
}

fn word(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().expect("the length was checked"))
}

fn put_mapped(w: &mut Writer, bytes: &[u8], map: impl Fn(usize, u8) -> u8) -> Result<(), KeyError> {
    for (at, b) in bytes.iter().enumerate() {
        w.put(&[map(at, *b)]);
    }
    Ok(())
}

/// The next component of a composite partition key: `u16` length, bytes, zero.
fn split_component<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, tail) = rest.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len));
    let component = tail.get(..len)?;
    *rest = tail.get(len + 1..)?;
    Some(component)
}

/// The 60-bit time of a version 1 uuid, most significant byte first.
fn uuid_time(u: &[u8]) -> [u8; 8] {
    [u[6] & 0x0f, u[7], u[4], u[5], u[0], u[1], u[2], u[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusteringKey, ColumnKind, NewColumn, NewTable, Schema, SchemaChange, TableOptions};
    use proptest::prelude::*;

    fn layout(partition: &[CqlType], clustering: &[(CqlType, ClusteringOrder)]) -> KeyLayout {
        let column = |i: usize, kind, order, ty: &CqlType| NewColumn {
            name: format!("c{i}{kind:?}"),
            kind,
            order,
            ty: ty.clone(),
        };
        let columns = (partition.iter().enumerate())
            .map(|(i, t)| column(i, ColumnKind::PartitionKey, ClusteringOrder::Asc, t))
            .chain(
                clustering
                    .iter()
                    .enumerate()
                    .map(|(i, (t, o))| column(i, ColumnKind::Clustering, *o, t)),
            )
            .collect();
        let replication = crate::model::Replication::Simple { factor: 1 };
        let ks = SchemaChange::CreateKeyspace {
            name: "k".into(),
            replication,
            durable_writes: true,
            if_not_exists: false,
        };
        let table = NewTable {
            keyspace: "k".into(),
            name: "t".into(),
            columns,
            options: TableOptions::default(),
        };
        let (s, _) = Schema::default().apply(&ks, 0).unwrap();
        let (s, _) = s
            .apply(
                &SchemaChange::CreateTable {
                    table,
                    if_not_exists: false,
                },
                0,
            )
            .unwrap();
        KeyLayout::new(s.table_named("k", "t").unwrap())
    }

    fn key(l: &KeyLayout, c: &[&[u8]]) -> Key {
        l.row(Token(5), &1i64.to_be_bytes(), &ClusteringKey::of(c).0).unwrap()
    }

    #[test]
    fn a_key_is_48_bytes_and_the_ledgers_key_is_inline() {
        assert_eq!(std::mem::size_of::<Key>(), 48);
        let l = layout(
            &[CqlType::Bigint, CqlType::Bigint],
            &[(CqlType::Bigint, ClusteringOrder::Desc)],
        );
        let mut pk = vec![];
        crate::model::partition_key_bytes(&[&1i64.to_be_bytes(), &2i64.to_be_bytes()], &mut pk);
        let k = l
            .row(Token(5), &pk, &ClusteringKey::of(&[&3i64.to_be_bytes()]).0)
            .unwrap();
        assert!(k.tail.is_none());
    }

    #[test]
    fn tokens_come_first_and_are_signed() {
        let l = layout(&[CqlType::Bigint], &[]);
        let at = |t| l.row(Token(t), &9i64.to_be_bytes(), &[]).unwrap();
        assert!(at(i64::MIN + 1) < at(-1) && at(-1) < at(0) && at(0) < at(i64::MAX));
    }

    #[test]
    fn wrong_lengths_are_refused_with_the_column_named() {
        let l = layout(&[CqlType::Bigint], &[(CqlType::Int, ClusteringOrder::Asc)]);
        let e = l
            .row(Token(0), &1i64.to_be_bytes(), &ClusteringKey::of(&[&[1, 2, 3]]).0)
            .unwrap_err();
        assert_eq!(
            e.to_string(),
            "clustering key component 0 of k.t has 3 bytes, which no Int has"
        );
        assert!(l.row(Token(0), &[1], &[]).is_err());
    }

    #[test]
    fn slices_respect_inclusion_at_both_ends() {
        let l = layout(
            &[CqlType::Bigint],
            &[
                (CqlType::Bigint, ClusteringOrder::Asc),
                (CqlType::Text, ClusteringOrder::Asc),
            ],
        );
        let pk = 1i64.to_be_bytes();
        let one = ClusteringKey::of(&[&1i64.to_be_bytes()]).0;
        let three = ClusteringKey::of(&[&3i64.to_be_bytes()]).0;
        let rows: Vec<Key> = (0..5i64).map(|n| key(&l, &[&n.to_be_bytes(), b"x"])).collect();
        let inside = |start: bool, end: bool| {
            let r = l.slice(Token(5), &pk, (&one, start), (&three, end)).unwrap();
            rows.iter().map(|k| r.contains(k)).collect::<Vec<_>>()
        };
        assert_eq!(inside(true, true), [false, true, true, true, false]);
        assert_eq!(inside(false, false), [false, false, true, false, false]);
    }

    fn i64s() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), -3i64..3, Just(i64::MIN), Just(i64::MAX)]
    }

    proptest! {
        #[test]
        fn integers_order_as_numbers(a in i64s(), b in i64s()) {
            for (order, sign) in [(ClusteringOrder::Asc, 1), (ClusteringOrder::Desc, -1)] {
                let l = layout(&[CqlType::Bigint], &[(CqlType::Bigint, order)]);
                let c = key(&l, &[&a.to_be_bytes()]).cmp(&key(&l, &[&b.to_be_bytes()])) as i32;
                prop_assert_eq!(c * sign, a.cmp(&b) as i32);
            }
        }

        #[test]
        fn doubles_order_as_numbers(a in any::<f64>(), b in any::<f64>()) {
            let l = layout(&[CqlType::Bigint], &[(CqlType::Double, ClusteringOrder::Asc)]);
            prop_assert_eq!(key(&l, &[&a.to_be_bytes()]).cmp(&key(&l, &[&b.to_be_bytes()])), a.total_cmp(&b));
        }

        #[test]
        fn bytes_of_any_length_order_as_bytes_and_never_touch_their_neighbours(
            a in prop::collection::vec(0u8..3, 0..60), b in prop::collection::vec(0u8..3, 0..60), x in 0i64..2, y in 0i64..2,
        ) {
            for (order, sign) in [(ClusteringOrder::Asc, 1), (ClusteringOrder::Desc, -1)] {
                let l = layout(&[CqlType::Bigint], &[(CqlType::Blob, order), (CqlType::Bigint, ClusteringOrder::Asc)]);
                let c = key(&l, &[&a, &x.to_be_bytes()]).cmp(&key(&l, &[&b, &y.to_be_bytes()]));
                let expected = match a.cmp(&b) as i32 * sign { 0 => x.cmp(&y), n => n.cmp(&0) };
                prop_assert_eq!(c, expected);
            }
        }

        #[test]
        fn varints_order_as_numbers(a in any::<i128>(), b in any::<i128>(), shift in 0u32..127) {
            let l = layout(&[CqlType::Bigint], &[(CqlType::Varint, ClusteringOrder::Asc)]);
            let (a, b) = (a >> shift, b >> shift);
            prop_assert_eq!(key(&l, &[&a.to_be_bytes()]).cmp(&key(&l, &[&b.to_be_bytes()])), a.cmp(&b));
        }
    }
}
