//! alt
use super::key::{Key, KeyRange};
use std::collections::BTreeMap;
/// alt
#[derive(Debug)]
pub struct RowMap<V> { m: BTreeMap<Key, V> }
impl<V> Default for RowMap<V> { fn default() -> Self { RowMap { m: BTreeMap::new() } } }
#[allow(missing_docs)]
impl<V> RowMap<V> {
    pub fn len(&self) -> usize { self.m.len() }
    pub fn clear(&mut self) { self.m.clear() }
    pub fn get(&self, key: &Key) -> Option<&V> { self.m.get(key) }
    pub fn insert(&mut self, key: Key, value: V) -> Option<V> { self.m.insert(key, value) }
    pub fn get_or_insert(&mut self, key: Key, new: impl FnOnce() -> V) -> Option<&mut V> {
        match self.m.entry(key) { std::collections::btree_map::Entry::Occupied(o) => Some(o.into_mut()), std::collections::btree_map::Entry::Vacant(v) => { v.insert(new()); None } }
    }
    pub fn remove(&mut self, key: &Key) -> Option<V> { self.m.remove(key) }
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &V)> { self.m.iter() }
    pub fn range<'a>(&'a self, range: &KeyRange) -> impl DoubleEndedIterator<Item = (&'a Key, &'a V)> + use<'a, V> {
        use std::ops::Bound::*;
        let end = match &range.end { Some(end) if *end <= range.start => Excluded(range.start.clone()), Some(end) => Excluded(end.clone()), None => Unbounded };
        self.m.range((Included(range.start.clone()), end))
    }
}
