//! The map of a table: from storage keys to rows, found by hash, walked in order.
//!
//! Writes are most of what a replica does, and they only ask for one row; so rows are found by a hash of their keys and
//! new ones stand at the end. The order is made when somebody walks: the places of rows sorted by key, in a large list
//! that is merged again only once the small one beside it has grown to a share of it, so that walking between writes stays
//! cheap however large the table is. Nothing depends on the order in which the hash map keeps its rows.

use super::key::Key;
use indexmap::IndexMap;
use indexmap::map::Entry;
use std::hash::{BuildHasher, Hash, Hasher};

/// The small list is merged into the large one when it is longer than the large one's length divided by this.
const SHARE: usize = 8;

/// Hashes keys by folding their words. Keys begin with a token, which is a hash already.
#[derive(Debug, Clone, Copy, Default)]
struct Folding(u64);

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u64(&mut self, word: u64) {
        // wyhash's mixing step.
        let wide = u128::from(self.0 ^ word ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for Folding {
    type Hasher = Folding;
    fn build_hasher(&self) -> Folding {
        *self
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words().iter().for_each(|word| state.write_u64(*word));
        if let Some(rest) = self.rest() {
            state.write(rest);
        }
    }
}

/// A map with storage keys.
#[derive(Debug)]
pub struct RowMap<V> {
    rows: IndexMap<Key, V, Folding>,
    /// Places of rows, by key.
    large: Vec<u32>,
    /// Places of younger rows, by key. What is in neither is younger still: the rows at the end.
    small: Vec<u32>,
}

impl<V> Default for RowMap<V> {
    fn default() -> Self {
        RowMap {
            rows: IndexMap::default(),
            large: Vec::new(),
            small: Vec::new(),
        }
    }
}

impl<V> RowMap<V> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row with this key.
    pub fn get(&self, key: &Key) -> Option<&V> {
        self.rows.get(key)
    }

    /// Changes the row with this key, or puts one there.
    pub fn upsert(&mut self, key: Key, new: impl FnOnce() -> V, change: impl FnOnce(&mut V)) {
        match self.rows.entry(key) {
            Entry::Occupied(mut row) => change(row.get_mut()),
            Entry::Vacant(free) => {
                free.insert(new());
            }
        }
    }

    /// Takes the row with this key away. The order has to be made anew.
    pub fn remove(&mut self, key: &Key) -> Option<V> {
        let row = self.rows.swap_remove(key)?;
        self.large.clear();
        self.small.clear();
        Some(row)
    }

    /// Takes all rows away.
    pub fn clear(&mut self) {
        *self = RowMap::default();
    }

    fn key(&self, place: u32) -> &Key {
        self.rows.get_index(place as usize).expect("a place of a row").0
    }

    fn unordered(&self) -> std::ops::Range<u32> {
        (self.large.len() + self.small.len()) as u32..self.rows.len() as u32
    }

    /// Makes the order of rows that came since the last time, so that walking does not have to.
    pub fn make_order(&mut self) {
        let young = self.unordered();
        if young.is_empty() {
            return;
        }
        self.small = self.merged(&self.small, &self.sorted(young));
        if self.small.len() > self.large.len() / SHARE {
            self.large = self.merged(&self.large, &self.small);
            self.small.clear();
        }
    }

    fn sorted(&self, places: std::ops::Range<u32>) -> Vec<u32> {
        let mut places: Vec<u32> = places.collect();
        places.sort_unstable_by(|a, b| self.key(*a).cmp(self.key(*b)));
        places
    }

    fn merged(&self, a: &[u32], b: &[u32]) -> Vec<u32> {
        let both = Walk {
            map: self,
            large: a,
            small: b.into(),
        };
        both.places()
    }

    /// Rows with `start <= key < end`, in order; without an end, all from `start` on.
    pub fn range<'a>(
        &'a self,
        start: &Key,
        end: Option<&Key>,
    ) -> impl DoubleEndedIterator<Item = (&'a Key, &'a V)> + use<'a, V> {
        let mut walk = self.walk();
        let below = |places: &[u32], key: &Key| places.partition_point(|place| self.key(*place) < key);
        let part = |places: &[u32]| {
            let from = below(places, start);
            from..end.map_or(places.len(), |end| below(places, end)).max(from)
        };
        walk.large = &walk.large[part(walk.large)];
        let small = part(walk.small.places());
        walk.small = walk.small.cut(small);
        walk
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.walk()
    }

    fn walk(&self) -> Walk<'_, V> {
        let young = self.unordered();
        let small = if young.is_empty() {
            Small::Lent(&self.small)
        } else {
            let places = self.merged(&self.small, &self.sorted(young));
            let part = 0..places.len();
            Small::Made(places, part)
        };
        Walk {
            map: self,
            large: &self.large,
            small,
        }
    }
}

/// The small list of a walk: the map's own, or one made for this walk because rows have come since.
enum Small<'a> {
    Lent(&'a [u32]),
    Made(Vec<u32>, std::ops::Range<usize>),
}

impl<'a> From<&'a [u32]> for Small<'a> {
    fn from(places: &'a [u32]) -> Self {
        Small::Lent(places)
    }
}

impl Small<'_> {
    fn places(&self) -> &[u32] {
        match self {
            Small::Lent(places) => places,
            Small::Made(places, part) => &places[part.clone()],
        }
    }

    fn cut(self, to: std::ops::Range<usize>) -> Self {
        match self {
            Small::Lent(places) => Small::Lent(&places[to]),
            Small::Made(places, part) => Small::Made(places, part.start + to.start..part.start + to.end),
        }
    }
}

/// A walk over rows in order, from both ends: two sorted lists at a time.
struct Walk<'a, V> {
    map: &'a RowMap<V>,
    large: &'a [u32],
    small: Small<'a>,
}

impl<'a, V> Walk<'a, V> {
    fn places(mut self) -> Vec<u32> {
        let mut places = Vec::with_capacity(self.large.len() + self.small.places().len());
        while let Some(place) = self.first() {
            places.push(place);
        }
        places
    }

    fn take_small(&mut self, front: bool) {
        match &mut self.small {
            Small::Lent(places) if front => *places = &places[1..],
            Small::Lent(places) => *places = &places[..places.len() - 1],
            Small::Made(_, part) if front => part.start += 1,
            Small::Made(_, part) => part.end -= 1,
        }
    }

    fn first(&mut self) -> Option<u32> {
        let (large, small) = (self.large.first().copied(), self.small.places().first().copied());
        match (large, small) {
            (Some(l), Some(s)) if self.map.key(s) < self.map.key(l) => {
                self.take_small(true);
                Some(s)
            }
            (Some(l), _) => {
                self.large = &self.large[1..];
                Some(l)
            }
            (None, Some(s)) => {
                self.take_small(true);
                Some(s)
            }
            (None, None) => None,
        }
    }

    fn last(&mut self) -> Option<u32> {
        let (large, small) = (self.large.last().copied(), self.small.places().last().copied());
        match (large, small) {
            (Some(l), Some(s)) if self.map.key(s) > self.map.key(l) => {
                self.take_small(false);
                Some(s)
            }
            (Some(l), _) => {
                self.large = &self.large[..self.large.len() - 1];
                Some(l)
            }
            (None, Some(s)) => {
                self.take_small(false);
                Some(s)
            }
            (None, None) => None,
        }
    }

    fn row(&self, place: u32) -> Option<(&'a Key, &'a V)> {
        self.map.rows.get_index(place as usize)
    }
}

impl<'a, V> Iterator for Walk<'a, V> {
    type Item = (&'a Key, &'a V);
    fn next(&mut self) -> Option<Self::Item> {
        let place = self.first()?;
        self.row(place)
    }
}

impl<V> DoubleEndedIterator for Walk<'_, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let place = self.last()?;
        self.row(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Few tokens, so that partitions share them; some keys are longer than what is kept inline.
    fn key() -> impl Strategy<Value = Key> {
        let bytes = prop_oneof![
            prop::collection::vec(0u8..4, 0..3),
            prop::collection::vec(0u8..2, 38..42)
        ];
        (0i64..4, bytes).prop_map(|(token, bytes)| Key::of_parts(crate::model::Token(token - 2), &bytes))
    }

    #[derive(Clone, Debug)]
    enum Op {
        Put(Key, u32),
        Remove(Key),
        Clear,
        Order,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            40 => (key(), any::<u32>()).prop_map(|(k, v)| Op::Put(k, v)),
            3 => key().prop_map(Op::Remove),
            1 => Just(Op::Clear),
            6 => Just(Op::Order),
        ]
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(ops in prop::collection::vec(op(), 0..150), a in key(), b in key()) {
            let (mut rows, mut plain) = (RowMap::default(), BTreeMap::new());
            for op in ops {
                match op {
                    Op::Put(key, value) => {
                        rows.upsert(key.clone(), || value, |old: &mut u32| *old = old.wrapping_add(value));
                        plain.entry(key).and_modify(|old: &mut u32| *old = old.wrapping_add(value)).or_insert(value);
                    }
                    Op::Remove(key) => prop_assert_eq!(rows.remove(&key), plain.remove(&key)),
                    Op::Clear => {
                        rows.clear();
                        plain.clear();
                    }
                    Op::Order => rows.make_order(),
                }
                prop_assert_eq!(rows.len(), plain.len());
            }
            prop_assert!(rows.iter().eq(plain.iter()));
            prop_assert_eq!(rows.get(&a), plain.get(&a));
            let inside = |(k, _): &(&Key, &u32)| **k >= a && **k < b;
            let expected: Vec<_> = plain.iter().filter(inside).collect();
            prop_assert_eq!(rows.range(&a, Some(&b)).collect::<Vec<_>>(), expected.clone());
            let mut back: Vec<_> = rows.range(&a, Some(&b)).rev().collect();
            back.reverse();
            prop_assert_eq!(back, expected);
            let rest: Vec<_> = plain.range(a.clone()..).collect();
            prop_assert_eq!(rows.range(&a, None).collect::<Vec<_>>(), rest);
            // From both ends at once, everything is met once.
            let (mut walk, mut met) = (rows.range(&a, None), Vec::new());
            while let Some(row) = if met.len() % 3 == 0 { walk.next_back() } else { walk.next() } {
                met.push(row);
            }
            met.sort();
            prop_assert_eq!(met, plain.range(a.clone()..).collect::<Vec<_>>());
        }
    }
}
