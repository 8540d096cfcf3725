//! Micro-batching: several whole events in one batch, as far as the database takes batches without a warning. What a batch
//! costs beside its rows (a request, an entry in the batchlog of two nodes and its removal, an answer) is paid once for
//! all of them. Nobody waits for company: a group is what was ready at the same moment.
//!
//! An event stays whole, in one batch, and its rows are the same in whichever batch they come; so a restart, a retry and a
//! second instance may group otherwise and write the same rows.

use super::Item;

/// How much may share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most events, at least 1.
    pub events: usize,
    /// The most bytes, by the database's count ([`schema::size`]). An event that weighs more goes alone.
    pub bytes: usize,
}

impl Bounds {
    /// One event, whatever it weighs.
    pub const ONE: Self = Self { events: 1, bytes: 0 };
}

/// A group that is being put together.
#[derive(Debug)]
pub struct Group {
    bounds: Bounds,
    items: Vec<Item>,
    bytes: usize,
}

impl Group {
    /// An empty one.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            items: Vec::new(),
            bytes: 0,
        }
    }

    /// Whether an event of that weight may be in it; the first one always may.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.items.is_empty() || (!self.is_full() && self.bytes.saturating_add(bytes) <= self.bounds.bytes)
    }

    /// Puts an event of that weight into it.
    pub fn add(&mut self, item: Item, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.items.push(item);
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether certainly nothing more fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.bounds.events.max(1)
    }

    /// Its events, in the order in which they came.
    #[must_use]
    pub fn into_items(self) -> Vec<Item> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use settlement_events::samples;
    use tokio::time::Instant;

    fn item() -> Item {
        let event = samples::stream().remove(0);
        Item {
            sequence: event.output_sequence,
            digest: event.digest(),
            event,
            arrived: Instant::now(),
        }
    }

    proptest! {
        /// Every event is in exactly one group; a group of several keeps both bounds; and none is closed too early.
        #[test]
        fn groups_keep_their_bounds(
            weights in prop::collection::vec(1..6_000_usize, 1..60),
            events in 1..8_usize,
            bytes in 0..10_000_usize,
        ) {
            let bounds = Bounds { events, bytes };
            let (mut group, mut groups) = (Group::new(bounds), Vec::<Vec<usize>>::new());
            let mut open: Vec<usize> = Vec::new();
            for weight in weights.iter().copied() {
                prop_assert_eq!(group.is_empty(), open.is_empty());
                if !group.has_room(weight) {
                    let full = std::mem::replace(&mut group, Group::new(bounds)).into_items();
                    prop_assert_eq!(full.len(), open.len());
                    prop_assert!(open.len() == events || open.iter().sum::<usize>() + weight > bytes);
                    groups.push(std::mem::take(&mut open));
                    prop_assert!(group.has_room(weight), "the first one always fits");
                }
                group.add(item(), weight);
                open.push(weight);
                prop_assert_eq!(group.is_full(), open.len() == events);
            }
            groups.push(open);
            prop_assert_eq!(groups.concat(), weights);
            for group in groups.iter().filter(|group| group.len() > 1) {
                prop_assert!(group.len() <= events && group.iter().sum::<usize>() <= bytes);
            }
        }
    }
}
