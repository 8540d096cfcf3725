//! What a cell of a row with parts says: an element of a collection, the deletion of a whole collection, the shards of a
//! counter. Such rows are records of their own kinds ([`super::OpKind::Parts`], [`super::OpKind::StaticParts`]), so that
//! rows without parts keep their layout and cost nothing more.
//!
//! A value of such a record begins with one byte that says what follows:
//!
//! | byte | what | follows |
//! |---|---|---|
//! | 0 | a whole cell | the value |
//! | 1 | a live element | `u32` little-endian length of its path, path, value |
//! | 2 | a deleted element | `u32` length of its path, path |
//! | 3 | every element older than the record is deleted, its own write is not | |
//! | 4 | every element up to the record's timestamp is deleted | |
//! | 5 | shards of a counter | see [`Shards`] |
//! | 6 | an addition to a counter, which a leader turns into shards | `i64` big-endian |
//!
//! The path of an element is the key of a map, the value of a set, a version 1 uuid for a list, and the big-endian number of
//! the field for a user-defined type.

use super::{ColumnId, WriteSet};
use std::cmp::Ordering;

const WHOLE: u8 = 0;
const ELEMENT: u8 = 1;
const NO_ELEMENT: u8 = 2;
const EMPTIED_BEFORE: u8 = 3;
const EMPTIED: u8 = 4;
const SHARDS: u8 = 5;
const ADDITION: u8 = 6;

/// Bytes of the path of a list's element.
pub const LIST_PATH_BYTES: usize = 16;
/// The paths of list elements that the coordinator has yet to make begin like this, which no version 1 uuid does.
const UNMADE: [u8; 15] = *b"\xff\xff\xff\xff\xff\xff\xff\xff\xffunmade";
/// The last byte of such a path: behind what is there, or before it.
const BEHIND: u8 = 0;
const BEFORE: u8 = 1;

/// What a cell of a row with parts says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The whole cell; `None` deletes it.
    Whole(Option<&'a [u8]>),
    /// An element, `None` deletes it.
    Element {
        /// Which.
        path: &'a [u8],
        /// Its value.
        value: Option<&'a [u8]>,
    },
    /// All elements are deleted: up to the record's timestamp, or only older ones.
    Emptied {
        /// Whether what the same write adds stays.
        only_older: bool,
    },
    /// The state of a counter.
    Counter(Shards<'a>),
    /// What is added to a counter.
    Addition(i64),
}

impl<'a> Part<'a> {
    /// Reads the value of a cell of a row with parts; `None` for bytes that are none.
    pub fn of(value: Option<&'a [u8]>) -> Option<Part<'a>> {
        let Some(bytes) = value else {
            return Some(Part::Whole(None));
        };
        let (kind, rest) = bytes.split_first()?;
        Some(match *kind {
            WHOLE => Part::Whole(Some(rest)),
            ELEMENT => {
                let (path, value) = split_path(rest)?;
                Part::Element {
                    path,
                    value: Some(value),
                }
            }
            NO_ELEMENT => Part::Element {
                path: split_path(rest)?.0,
                value: None,
            },
            EMPTIED_BEFORE => Part::Emptied { only_older: true },
            EMPTIED => Part::Emptied { only_older: false },
            SHARDS => Part::Counter(Shards { bytes: rest }),
            ADDITION => Part::Addition(i64::from_be_bytes(rest.try_into().ok()?)),
            _ => return None,
        })
    }
}

/// Cuts `u32` length, path, rest.
pub(crate) fn split_path(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// The state of a counter: per node the sum of what it led, and a clock that grows with every change of it. Of two states of
/// one node the one with the higher clock counts; the value is the sum over nodes. Per shard one byte node, then clock and
/// count, eight bytes big-endian each, by node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards<'a> {
    bytes: &'a [u8],
}

/// Bytes of one shard.
const SHARD_BYTES: usize = 17;

/// What one node led of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// The node.
    pub node: u8,
    /// Grows with every change.
    pub clock: i64,
    /// The sum.
    pub count: i64,
}

impl<'a> Shards<'a> {
    /// The shards in these bytes.
    pub fn new(bytes: &'a [u8]) -> Shards<'a> {
        Shards { bytes }
    }

    /// Each of them, by node.
    pub fn iter(&self) -> impl Iterator<Item = Shard> + use<'a> {
        let word = |b: &[u8]| i64::from_be_bytes(b.try_into().expect("8 bytes"));
        self.bytes.chunks_exact(SHARD_BYTES).map(move |c| Shard {
            node: c[0],
            clock: word(&c[1..9]),
            count: word(&c[9..]),
        })
    }

    /// The value of the counter.
    pub fn total(&self) -> i64 {
        self.iter().fold(0, |sum, shard| sum.wrapping_add(shard.count))
    }

    /// The bytes of both states merged.
    pub fn merged(&self, other: &Shards<'_>) -> Vec<u8> {
        let mut all: Vec<Shard> = self.iter().collect();
        for shard in other.iter() {
            match all.binary_search_by_key(&shard.node, |s| s.node) {
                Ok(i) if (all[i].clock, all[i].count) < (shard.clock, shard.count) => all[i] = shard,
                Ok(_) => {}
                Err(i) => all.insert(i, shard),
            }
        }
        let mut out = Vec::with_capacity(all.len() * SHARD_BYTES);
        all.iter().for_each(|s| s.put(&mut out));
        out
    }
}

impl Shard {
    /// Appends its bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(self.node);
        out.extend(self.clock.to_be_bytes());
        out.extend(self.count.to_be_bytes());
    }
}

/// Cells with parts, of an operation begun with a kind that has them.
impl WriteSet {
    fn tagged(&mut self, column: ColumnId, tag: u8, path: Option<&[u8]>, value: &[u8]) {
        let mut bytes = Vec::with_capacity(5 + path.map_or(0, <[u8]>::len) + value.len());
        bytes.push(tag);
        if let Some(path) = path {
            bytes.extend((path.len() as u32).to_le_bytes());
            bytes.extend_from_slice(path);
        }
        bytes.extend_from_slice(value);
        self.cell(column, &bytes);
    }

    /// Any part, as it is.
    pub fn part(&mut self, column: ColumnId, part: Part<'_>) {
        match part {
            Part::Whole(Some(value)) => self.tagged(column, WHOLE, None, value),
            Part::Whole(None) => {
                self.null(column);
            }
            Part::Element {
                path,
                value: Some(value),
            } => self.tagged(column, ELEMENT, Some(path), value),
            Part::Element { path, value: None } => {
                self.tagged(column, NO_ELEMENT, Some(path), &[]);
                self.deletes();
            }
            Part::Emptied { only_older } => {
                self.tagged(column, if only_older { EMPTIED_BEFORE } else { EMPTIED }, None, &[]);
                self.deletes();
            }
            Part::Counter(shards) => self.tagged(column, SHARDS, None, shards.bytes),
            Part::Addition(n) => self.tagged(column, ADDITION, None, &n.to_be_bytes()),
        }
    }

    /// A new element of a list, behind those there are or before them. Its place is made by the coordinator's clock.
    pub fn list_element(&mut self, column: ColumnId, value: &[u8], before: bool) {
        let mut path = [0; LIST_PATH_BYTES];
        path[..UNMADE.len()].copy_from_slice(&UNMADE);
        path[UNMADE.len()] = if before { BEFORE } else { BEHIND };
        self.part(
            column,
            Part::Element {
                path: &path,
                value: Some(value),
            },
        );
        self.wants_paths();
    }
}

/// Time of version 1 uuids begins in 1582: 100 ns from there to the Unix epoch.
const UUID_EPOCH: u64 = 0x01B2_1DD2_1381_4000;
/// What prepended elements count back from, microseconds: 2010-01-01 (C and S `PrecisionTime.REFERENCE_TIME`).
const PREPEND_FROM_US: i64 = 1_262_304_000_000_000;

/// The version 1 uuid of this time; `low` tells apart those of the same time.
pub fn time_uuid(ticks: u64, low: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&(ticks as u32).to_be_bytes());
    bytes[4..6].copy_from_slice(&((ticks >> 32) as u16).to_be_bytes());
    bytes[6..8].copy_from_slice(&(((ticks >> 48) as u16 & 0x0fff) | 0x1000).to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    bytes
}

/// Ticks of a version 1 uuid at a Unix time in microseconds, `tick` ticks of 100 ns later.
pub fn uuid_ticks(unix_us: i64, tick: u64) -> u64 {
    UUID_EPOCH
        .wrapping_add((unix_us as u64).wrapping_mul(10))
        .wrapping_add(tick)
}

/// Makes the paths of new list elements in a finished record with parts, in order. `at_us` is the coordinator's time, `low`
/// the lower half of its uuids.
pub(crate) fn make_paths(cells: &mut [u8], at_us: i64, low: u64) {
    // Those put before the list are in order among themselves and before all that was put there earlier.
    let count = |cells: &[u8], last: u8| {
        let whole: Vec<u8> = UNMADE.iter().copied().chain([last]).collect();
        cells.windows(LIST_PATH_BYTES).filter(|w| **w == whole).count() as u64
    };
    let before = count(cells, BEFORE);
    let (mut behind_seen, mut before_seen, mut at) = (0, 0, 0);
    while at + LIST_PATH_BYTES <= cells.len() {
        if cells[at..at + UNMADE.len()] != UNMADE {
            at += 1;
            continue;
        }
        let ticks = if cells[at + UNMADE.len()] == BEFORE {
            before_seen += 1;
            let back_us = PREPEND_FROM_US - (at_us - PREPEND_FROM_US);
            uuid_ticks(back_us, 0).wrapping_sub(before - before_seen + 1)
        } else {
            behind_seen += 1;
            uuid_ticks(at_us, behind_seen - 1)
        };
        cells[at..at + LIST_PATH_BYTES].copy_from_slice(&time_uuid(ticks, low));
        at += LIST_PATH_BYTES;
    }
}

/// The order of list paths: by time, then by the rest as it is.
pub fn compare_list_paths(a: &[u8], b: &[u8]) -> Ordering {
    let time = |u: &[u8]| match u.first_chunk::<8>() {
        Some([a, b, c, d, e, f, g, h]) => u64::from_be_bytes([g & 0x0f, *h, *e, *f, *a, *b, *c, *d]),
        None => 0,
    };
    time(a).cmp(&time(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{OpKind, TableId};

    fn shards(list: &[(u8, i64, i64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (node, clock, count) in list {
            let (node, clock, count) = (*node, *clock, *count);
            Shard { node, clock, count }.put(&mut out);
        }
        out
    }

    #[test]
    fn every_part_comes_back_from_a_record() {
        let counter = shards(&[(1, 5, -7)]);
        let parts = [
            Part::Whole(Some(b"v")),
            Part::Whole(None),
            Part::Element {
                path: b"key",
                value: Some(b""),
            },
            Part::Element { path: b"", value: None },
            Part::Emptied { only_older: true },
            Part::Emptied { only_older: false },
            Part::Counter(Shards::new(&counter)),
            Part::Addition(-3),
        ];
        let mut set = WriteSet::new();
        set.begin(OpKind::Parts, TableId(0), b"k", Some(1));
        for (i, part) in parts.iter().enumerate() {
            set.part(ColumnId(i as u16), *part);
        }
        set.end();
        let op = set.op(0);
        let read: Vec<Part<'_>> = op.cells().filter_map(|(_, v)| Part::of(v)).collect();
        assert_eq!(read, parts);
        assert_eq!(Part::of(Some(&[9])), None);
        assert_eq!(
            Part::of(Some(&[ELEMENT, 9, 0, 0, 0])),
            None,
            "a path longer than the value"
        );
    }

    #[test]
    fn of_a_nodes_shards_the_higher_clock_counts_whatever_the_order() {
        let (a, b) = (shards(&[(0, 1, 10), (2, 9, 1)]), shards(&[(0, 2, 15), (1, 1, 100)]));
        let (a, b) = (Shards::new(&a), Shards::new(&b));
        assert_eq!(a.merged(&b), b.merged(&a));
        assert_eq!(Shards::new(&a.merged(&b)).total(), 116);
        assert_eq!(Shards::new(&a.merged(&a)).total(), 11, "twice the same is once");
    }

    #[test]
    fn new_elements_stand_in_the_order_written_on_their_side_of_the_list() {
        let order = |us: i64, before: bool| -> Vec<Vec<u8>> {
            let mut set = WriteSet::new();
            set.begin(OpKind::Parts, TableId(0), b"k", Some(1));
            for n in 0..3u8 {
                set.list_element(ColumnId(1), &[n], before);
            }
            set.end();
            let mut bytes = set.op(0).bytes().to_vec();
            make_paths(&mut bytes, us, 7);
            let op = crate::model::OpView::at(&bytes, 0);
            op.cells()
                .map(|(_, v)| match Part::of(v) {
                    Some(Part::Element { path, .. }) => path.to_vec(),
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let all = [
            order(2_000_000_000_000_000, true),
            order(1_900_000_000_000_000, true),
            order(1_900_000_000_000_000, false),
            order(2_000_000_000_000_000, false),
        ]
        .concat();
        assert!(
            all.windows(2)
                .all(|w| compare_list_paths(&w[0], &w[1]) == Ordering::Less)
        );
    }
}
