//! The events that failed often and are still tried: a list for people, not a queue.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use settlement_events::OutputSequence;

/// Events with the reason of their last failed attempt. At most as many as are in flight.
#[derive(Debug, Default)]
pub struct Stalled(Mutex<BTreeMap<OutputSequence, String>>);

impl Stalled {
    /// Puts an event on the list, or its newer reason. Whether it was not on it, and how many are now.
    pub fn put(&self, sequence: OutputSequence, why: String) -> (bool, usize) {
        let mut events = self.lock();
        let is_new = events.insert(sequence, why).is_none();
        (is_new, events.len())
    }

    /// Takes an event off the list. How many are left.
    pub fn take(&self, sequence: OutputSequence) -> usize {
        let mut events = self.lock();
        events.remove(&sequence);
        events.len()
    }

    /// The events and their last reasons, first event first.
    #[must_use]
    pub fn list(&self) -> Vec<(OutputSequence, String)> {
        self.lock()
            .iter()
            .map(|(sequence, why)| (*sequence, why.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<OutputSequence, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
