//! Links: when something that is sent now arrives, or that it never does. They know bytes and times, no protocols.
//!
//! A directed link delays by a drawn amount, loses packets (a loss costs a retransmission timeout, for both kinds of
//! traffic stand for TCP), has a bandwidth, and can be cut for one class of traffic or all, in one direction or both.

use crate::seed::Source;
use crate::trace::{Class, HostId};
use crate::world::Shared;
use std::fmt;
use std::sync::Arc;

/// Behaviour of one directed link. Times in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The least delay.
    pub base_ns: u64,
    /// Uniform addition to it, exclusive.
    pub jitter_ns: u64,
    /// How many of 2^32 packets are slow.
    pub tail: u32,
    /// Uniform addition for slow ones, exclusive.
    pub tail_extra_ns: u64,
    /// How many of 2^32 packets are lost; each loss costs a retransmission timeout, doubling.
    pub loss: u32,
    /// Bytes per second; 0: unlimited. Both classes share it.
    pub rate: u64,
}

impl Default for Link {
    /// A machine in the same data centre: 50 to 70 microseconds.
    fn default() -> Self {
        Link {
            base_ns: 50_000,
            jitter_ns: 20_000,
            tail: 0,
            tail_extra_ns: 0,
            loss: 0,
            rate: 0,
        }
    }
}

impl Link {
    /// A share of `num` in `den` as the links count it.
    pub fn share(num: u32, den: u32) -> u32 {
        let share = (u64::from(num) << 32) / u64::from(den.max(1));
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}

/// A packet is retransmitted at most this often before it gets through: a link that loses everything is a cut one, and
/// the doubling timeout would pass every time limit.
const LOSSES_MAX: u32 = 12;

/// A share of losses above this (15 in 16) is taken as this, so that delays stay finite; cut the link instead.
const LOSS_MAX: u32 = u32::MAX - u32::MAX / 16;

#[derive(Clone, Copy)]
struct Entry {
    link: Link,
    /// Bit per class.
    cut: u8,
    /// When the last byte on a link with a bandwidth has left.
    busy_until_ns: u64,
}

fn bit(class: Class) -> u8 {
    match class {
        Class::Client => 1,
        Class::Peer => 2,
    }
}

/// All links, as a square table.
pub(crate) struct LinkTable {
    default: Link,
    loopback: Link,
    grid_ns: u64,
    rto_ns: u64,
    /// `rows[from][to]`.
    rows: Vec<Vec<Entry>>,
    source: Option<Source>,
}

impl LinkTable {
    pub(crate) fn new(default: Link, loopback: Link, grid_ns: u64, rto_ns: u64) -> Self {
        LinkTable {
            default,
            loopback,
            grid_ns: grid_ns.max(1),
            rto_ns,
            rows: Vec::new(),
            source: None,
        }
    }

    pub(crate) fn set_source(&mut self, source: Source) {
        self.source = Some(source);
    }

    pub(crate) fn add_host(&mut self) {
        let entry = |link| Entry {
            link,
            cut: 0,
            busy_until_ns: 0,
        };
        for row in &mut self.rows {
            row.push(entry(self.default));
        }
        let mut row = vec![entry(self.default); self.rows.len()];
        row.push(entry(self.loopback));
        self.rows.push(row);
    }

    fn entry(&self, from: HostId, to: HostId) -> &Entry {
        &self.rows[from.index()][to.index()]
    }

    fn entry_mut(&mut self, from: HostId, to: HostId) -> &mut Entry {
        &mut self.rows[from.index()][to.index()]
    }

    pub(crate) fn link(&self, from: HostId, to: HostId) -> Link {
        self.entry(from, to).link
    }

    pub(crate) fn set(&mut self, from: HostId, to: HostId, link: Link) {
        self.entry_mut(from, to).link = link;
    }

    pub(crate) fn set_all(&mut self, link: Link) {
        self.default = link;
        for (from, row) in self.rows.iter_mut().enumerate() {
            for (to, entry) in row.iter_mut().enumerate() {
                if from != to {
                    entry.link = link;
                }
            }
        }
    }

    /// Returns whether that changed anything.
    pub(crate) fn cut(&mut self, from: HostId, to: HostId, class: Class, cut: bool) -> bool {
        let flags = &mut self.entry_mut(from, to).cut;
        let before = *flags;
        *flags = if cut { before | bit(class) } else { before & !bit(class) };
        *flags != before
    }

    pub(crate) fn is_cut(&self, from: HostId, to: HostId, class: Class) -> bool {
        self.entry(from, to).cut & bit(class) != 0
    }

    /// When something sent now arrives; None when it vanishes in a cut.
    pub(crate) fn travel(&mut self, from: HostId, to: HostId, now_ns: u64, bytes: usize, class: Class) -> Option<u64> {
        let entry = &mut self.rows[from.index()][to.index()];
        if entry.cut & bit(class) != 0 {
            return None;
        }
        let source = self
            .source
            .as_mut()
            .expect("a world gives its network a stream of draws");
        let link = entry.link;
        let mut at_ns = now_ns;
        if let Some(sending_ns) = (bytes as u64).saturating_mul(1_000_000_000).checked_div(link.rate) {
            at_ns = at_ns.max(entry.busy_until_ns) + sending_ns;
            entry.busy_until_ns = at_ns;
        }
        at_ns += link.base_ns + source.below(link.jitter_ns);
        if source.hit(link.tail) {
            at_ns += source.below(link.tail_extra_ns);
        }
        let loss = link.loss.min(LOSS_MAX);
        for lost in 0..LOSSES_MAX {
            if !source.hit(loss) {
                break;
            }
            at_ns += self.rto_ns << lost;
        }
        Some(at_ns.next_multiple_of(self.grid_ns))
    }
}

/// The links of a world.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

impl Links {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Links { shared }
    }

    /// The behaviour of one directed link.
    pub fn get(&self, from: HostId, to: HostId) -> Link {
        self.shared.net.with(&self.shared, |state| state.links.link(from, to))
    }

    /// Sets the behaviour of one directed link. What is already on its way keeps its time of arrival.
    pub fn set(&self, from: HostId, to: HostId, link: Link) {
        self.shared
            .net
            .with(&self.shared, |state| state.links.set(from, to, link));
    }

    /// Sets every link between different machines, present and future ones.
    pub fn set_default(&self, link: Link) {
        self.shared.net.with(&self.shared, |state| state.links.set_all(link));
    }

    /// Cuts or heals both classes of traffic in one direction.
    pub fn cut(&self, from: HostId, to: HostId, cut: bool) {
        self.cut_class(Class::Client, from, to, cut);
        self.cut_class(Class::Peer, from, to, cut);
    }

    /// Cuts or heals both classes in both directions between each of `a` and each of `b`.
    pub fn cut_between(&self, a: &[HostId], b: &[HostId], cut: bool) {
        for x in a {
            for y in b.iter().filter(|y| *y != x) {
                self.cut(*x, *y, cut);
                self.cut(*y, *x, cut);
            }
        }
    }

    /// Cuts or heals one class of traffic in one direction. Healed connections go on at the next step of their
    /// exponential backoff, not at once.
    pub fn cut_class(&self, class: Class, from: HostId, to: HostId, cut: bool) {
        self.shared.net.cut(&self.shared, from, to, class, cut);
    }

    /// Whether this class of traffic is cut in this direction.
    pub fn is_cut(&self, class: Class, from: HostId, to: HostId) -> bool {
        self.shared
            .net
            .with(&self.shared, |state| state.links.is_cut(from, to, class))
    }

    /// Heals every cut.
    pub fn heal_all(&self) {
        let cut = self.shared.net.with(&self.shared, |state| state.links.all_cut());
        for (from, to, class) in cut {
            self.cut_class(class, from, to, false);
        }
    }

    /// When a message of `bytes` sent now arrives, in nanoseconds since the run began; None when it vanishes: the link
    /// is cut, or no process runs at the receiver. Messages of one link may overtake each other.
    pub fn travel(&self, from: HostId, to: HostId, bytes: usize, class: Class) -> Option<u64> {
        let now_ns = self.shared.clock.now_ns();
        self.shared.net.with(&self.shared, |state| {
            state.travel_message(from, to, now_ns, bytes, class)
        })
    }
}

impl LinkTable {
    pub(crate) fn all_cut(&self) -> Vec<(HostId, HostId, Class)> {
        let mut cut = Vec::new();
        for (from, row) in self.rows.iter().enumerate() {
            for (to, entry) in row.iter().enumerate() {
                for class in [Class::Client, Class::Peer] {
                    if entry.cut & bit(class) != 0 {
                        cut.push((HostId(from as u16), HostId(to as u16), class));
                    }
                }
            }
        }
        cut
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use proptest::prelude::*;

    const A: HostId = HostId(0);
    const B: HostId = HostId(1);

    fn table(link: Link, grid_ns: u64) -> LinkTable {
        let mut table = LinkTable::new(link, Link::default(), grid_ns, 200);
        table.set_source(Seed(1).source("links", None));
        table.add_host();
        table.add_host();
        table
    }

    proptest! {
        /// The reference: bounds that follow from the settings alone.
        #[test]
        fn arrivals_stay_within_what_the_link_allows(
            base_ns in 0u64..1000, jitter_ns in 0u64..1000, tail: u32, tail_extra_ns in 0u64..1000, loss in 0u32..LOSS_MAX,
            grid_ns in 1u64..100, sends in prop::collection::vec((0u64..10_000, 0usize..5_000), 1..50),
        ) {
            let link = Link { base_ns, jitter_ns, tail, tail_extra_ns, loss, rate: 0 };
            let mut table = table(link, grid_ns);
            for (now_ns, bytes) in sends {
                let at_ns = table.travel(A, B, now_ns, bytes, Class::Client).expect("nothing is cut");
                let losses = if loss == 0 { 0 } else { 200 * ((1 << LOSSES_MAX) - 1) };
                prop_assert!(at_ns >= now_ns + base_ns);
                prop_assert!(at_ns < now_ns + base_ns + jitter_ns + tail_extra_ns + losses + grid_ns + 1);
                prop_assert_eq!(at_ns % grid_ns, 0);
            }
        }

        /// The reference: a queue that serves one packet after another.
        #[test]
        fn bandwidth_is_a_queue(rate in 1u64..1_000_000_000, sends in prop::collection::vec((0u64..1_000_000, 0usize..100_000), 1..50)) {
            let link = Link { base_ns: 0, jitter_ns: 0, rate, ..Link::default() };
            let mut table = table(link, 1);
            let (mut now_ns, mut free_ns) = (0, 0);
            for (pause_ns, bytes) in sends {
                now_ns += pause_ns;
                free_ns = free_ns.max(now_ns) + bytes as u64 * 1_000_000_000 / rate;
                prop_assert_eq!(table.travel(A, B, now_ns, bytes, Class::Peer), Some(free_ns));
            }
        }

        /// The reference: a set of what is cut.
        #[test]
        fn cuts_are_directed_and_per_class(ops in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..40)) {
            let mut table = table(Link::default(), 1);
            let mut cut_now = std::collections::BTreeSet::new();
            for (forth, client, cut) in ops {
                let (from, to) = if forth { (A, B) } else { (B, A) };
                let class = if client { Class::Client } else { Class::Peer };
                let changed = if cut { cut_now.insert((from, to, class)) } else { cut_now.remove(&(from, to, class)) };
                prop_assert_eq!(table.cut(from, to, class, cut), changed);
                for from_to in [(A, B), (B, A)] {
                    for class in [Class::Client, Class::Peer] {
                        let gone = table.travel(from_to.0, from_to.1, 0, 1, class).is_none();
                        prop_assert_eq!(gone, cut_now.contains(&(from_to.0, from_to.1, class)));
                    }
                }
                prop_assert_eq!(table.all_cut().len(), cut_now.len());
            }
        }
    }

    #[test]
    fn a_share_of_losses_costs_that_share_of_timeouts() {
        let link = Link {
            base_ns: 0,
            jitter_ns: 0,
            loss: Link::share(1, 10),
            ..Link::default()
        };
        let mut table = table(link, 1);
        let late = (0..10_000)
            .filter(|_| table.travel(A, B, 0, 1, Class::Client) != Some(0))
            .count();
        assert!((900..1100).contains(&late), "{late} of 10000 were late");
    }
}
