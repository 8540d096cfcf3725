//! The map of a table: from storage keys to rows, found by hash, walked in order.
//!
//! Writes are most of what a replica does, and they only ask for one row; so rows are found by a hash of their keys and
//! new ones stand at the end. The order is made when somebody walks: the places of rows sorted by key, in a large list
//! that is merged again only once the small one beside it has grown to a share of it, so that walking between writes stays
//! cheap however large the table is. Nothing depends on the order in which the hash table keeps its places.
//!
//! What a seed costs is the memory it touches: rows lie in chunks, so that no row is copied when there are more of them, and
//! the hash table holds a part of each hash, so that it grows without looking at a key.

use super::key::Key;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// The small list is merged into the large one when it is longer than the large one's length divided by this.
const SHARE: usize = 8;

/// Rows of a chunk.
const CHUNK: usize = 128;

/// A part of a key's hash, made by folding its words. Keys begin with a token, which is a hash already.
#[inline(always)]
fn tag(key: &Key) -> u32 {
    // wyhash's mixing step.
    let fold = |state: u64, word: u64| {
        let wide = u128::from(state ^ word ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db;
        (wide >> 64) as u64 ^ wide as u64
    };
    let mut state = key.words().iter().fold(0, |state, word| fold(state, *word));
    for chunk in key.rest().unwrap_or_default().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = fold(state, u64::from_le_bytes(word));
    }
    (state >> 32) as u32 ^ state as u32
}

/// Where a row is, and the tag of its key.
#[derive(Debug, Clone, Copy)]
struct Place {
    tag: u32,
    index: u32,
}

/// What the hash table goes by: the tag, spread over all bits (Fibonacci hashing).
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// What the hash table knows of a key.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    tag: u32,
    index: Option<u32>,
}

/// A map with storage keys.
#[derive(Debug)]
pub struct RowMap<V> {
    /// The rows, [`CHUNK`] at a time, in order of arrival.
    chunks: Vec<Vec<(Key, V)>>,
    count: u32,
    places: HashTable<Place>,
    /// Places of rows, by key.
    large: Vec<u32>,
    /// Places of younger rows, by key. What is in neither is younger still: the rows at the end.
    small: Vec<u32>,
}

impl<V> Default for RowMap<V> {
    fn default() -> Self {
        RowMap {
            chunks: Vec::new(),
            count: 0,
            places: HashTable::new(),
            large: Vec::new(),
            small: Vec::new(),
        }
    }
}

impl<V> RowMap<V> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    fn entry(&self, place: u32) -> &(Key, V) {
        &self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }

    fn entry_mut(&mut self, place: u32) -> &mut (Key, V) {
        &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }

    /// The row with this key.
    pub fn get(&self, key: &Key) -> Option<&V> {
        let tag = tag(key);
        let same = |place: &Place| place.tag == tag && self.entry(place.index).0 == *key;
        let found = self.places.find(spread(tag), same)?;
        Some(&self.entry(found.index).1)
    }

    /// Where the row with this key is, as far as the hash table alone can tell: rows are not looked at, so that many keys
    /// can be asked for while the memory of none of them is waited for.
    pub fn sight(&self, key: &Key) -> Sight {
        let tag = tag(key);
        let found = self.places.find(spread(tag), |place| place.tag == tag);
        let index = found.map(|place| place.index);
        Sight { tag, index }
    }

    /// The value at a sighted place; another row's where two keys have one tag.
    pub fn at_sight(&self, sight: Sight) -> Option<&V> {
        let index = sight.index? as usize;
        let row = self.chunks.get(index / CHUNK)?.get(index % CHUNK)?;
        Some(&row.1)
    }

    /// Changes the row with this key, or puts one there.
    pub fn upsert(&mut self, key: &Key, new: impl FnOnce() -> V, change: impl FnOnce(&mut V)) {
        self.upsert_sighted(key, self.sight(key), new, change);
    }

    /// As [`RowMap::upsert`], with what [`RowMap::sight`] said of the key; rows may have come since.
    pub fn upsert_sighted(&mut self, key: &Key, sight: Sight, new: impl FnOnce() -> V, change: impl FnOnce(&mut V)) {
        if let Some(index) = sight.index {
            let chunk = self.chunks.get_mut(index as usize / CHUNK);
            let row = chunk.and_then(|chunk| chunk.get_mut(index as usize % CHUNK));
            if let Some((_, value)) = row.filter(|(found, _)| found == key) {
                return change(value);
            }
        }
        let (tag, chunks) = (sight.tag, &mut self.chunks);
        let at = |index: u32| (index as usize / CHUNK, index as usize % CHUNK);
        let same = |place: &Place| {
            let (chunk, row) = at(place.index);
            place.tag == tag && chunks[chunk][row].0 == *key
        };
        match self.places.entry(spread(tag), same, |place| spread(place.tag)) {
            Entry::Occupied(found) => {
                let (chunk, row) = at(found.get().index);
                change(&mut chunks[chunk][row].1);
            }
            Entry::Vacant(free) => {
                free.insert(Place { tag, index: self.count });
                let (chunk, _) = at(self.count);
                if chunk == chunks.len() {
                    chunks.push(Vec::with_capacity(CHUNK));
                }
                chunks[chunk].push((key.clone(), new()));
                self.count += 1;
            }
        }
    }

    /// Takes the row with this key away. The order has to be made anew.
    pub fn remove(&mut self, key: &Key) -> Option<V> {
        let tag = tag(key);
        let chunks = &self.chunks;
        let same = |place: &Place| {
            let index = place.index as usize;
            place.tag == tag && chunks[index / CHUNK][index % CHUNK].0 == *key
        };
        let found = self.places.find_entry(spread(tag), same).ok()?;
        let (gone, _) = found.remove();
        self.large.clear();
        self.small.clear();
        // The last row takes its place.
        self.count -= 1;
        let mut row = self.chunks.last_mut().and_then(Vec::pop)?;
        if self.chunks.last().is_some_and(Vec::is_empty) {
            self.chunks.pop();
        }
        if gone.index != self.count {
            let (moved, last) = (self::tag(&row.0), self.count);
            let place = self.places.find_mut(spread(moved), |place| place.index == last)?;
            place.index = gone.index;
            std::mem::swap(self.entry_mut(gone.index), &mut row);
        }
        Some(row.1)
    }

    /// Takes all rows away.
    pub fn clear(&mut self) {
        *self = RowMap::default();
    }

    fn key(&self, place: u32) -> &Key {
        &self.entry(place).0
    }

    fn unordered(&self) -> std::ops::Range<u32> {
        (self.large.len() + self.small.len()) as u32..self.count
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
        // By the first word, which is the token and decides most, without going to the rows for it. Word and place are one
        // number, because numbers are sorted without a branch per comparison.
        let one = |place: u32| u128::from(self.key(place).words()[0]) << 32 | u128::from(place);
        let mut heads: Vec<u128> = places.map(one).collect();
        heads.sort_unstable();
        for partition in heads
            .chunk_by_mut(|a, b| a >> 32 == b >> 32)
            .filter(|rows| rows.len() > 1)
        {
            partition.sort_unstable_by(|a, b| self.key(*a as u32).cmp_below_token(self.key(*b as u32)));
        }
        heads.into_iter().map(|head| head as u32).collect()
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

    /// All rows, in the order in which they came (while none was taken away): the order in which they lie.
    pub fn arrivals(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.chunks.iter().flatten().map(|(key, value)| (key, value))
    }

    /// All values, to be changed, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.chunks.iter_mut().flatten().map(|(_, value)| value)
    }

    /// All rows, their values to be changed, in the order of [`RowMap::arrivals`].
    pub fn entries_mut(&mut self) -> impl Iterator<Item = (&Key, &mut V)> {
        self.chunks.iter_mut().flatten().map(|(key, value)| (&*key, value))
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
        let (key, value) = self.map.entry(place);
        Some((key, value))
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
                        rows.upsert(&key, || value, |old: &mut u32| *old = old.wrapping_add(value));
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
            let mut arrived: Vec<_> = rows.arrivals().collect();
            arrived.sort();
            prop_assert_eq!(arrived, plain.iter().collect::<Vec<_>>());
        }

        #[test]
        fn rows_may_come_after_they_were_looked_for(keys in prop::collection::vec(key(), 0..40), there in 0usize..40) {
            let (mut rows, mut plain) = (RowMap::default(), BTreeMap::new());
            let mut put = |rows: &mut RowMap<u32>, key: &Key, sight: Sight| {
                rows.upsert_sighted(key, sight, || 1, |n| *n += 1);
                *plain.entry(key.clone()).or_insert(0) += 1;
            };
            let (early, late) = keys.split_at(there.min(keys.len()));
            for key in early {
                let sight = rows.sight(key);
                put(&mut rows, key, sight);
            }
            let sights: Vec<Sight> = late.iter().map(|key| rows.sight(key)).collect();
            for (key, sight) in late.iter().zip(sights) {
                let seen = rows.at_sight(sight).copied();
                prop_assert!(!early.contains(key) || seen.is_some());
                put(&mut rows, key, sight);
            }
            prop_assert!(rows.iter().eq(plain.iter()));
        }
    }
}
