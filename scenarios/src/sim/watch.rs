//! Looks on while a run goes on: samples settlement's metrics into the trace, and holds what is called durable against
//! the fsynced storage of the database's nodes. It judges nothing but durability, which can only be seen at the time.
use super::alarms::{Alarms, Engine};
use super::claims::Claims;
use super::plant::{EngineDisk, Instances, Plant};
use super::storage::Storage;
use crate::evidence::{Bounds, Durability, DurabilityBreach, Ending};
use faults::bit::METRICS_NOTE;
use settlement::config::{Config, DesignName};
use settlement::metrics::MetricsSnapshot;
use sim_cluster::host::sim::SimCluster;
use sim_world::trace::Kind;
use sim_world::{Host, HostState, World};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Simulated time between two looks.
pub const EVERY_MS: u64 = 100;
const EVERY: Duration = Duration::from_millis(EVERY_MS);
/// The feed must be connected again so long after the last fault. Silence is noticed and the next try made in less.
const FEED_BACK_MS: u64 = 10_000;
/// At most this many breaches are kept: one early checkpoint makes hundreds of the same kind.
const BREACHES_MAX: usize = 20;
/// Over so many looks retries are counted: a second, in which pauses that grow are told from those that do not.
const RETRY_LOOKS: usize = 10;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Durability against storage.
    pub durability: Durability,
    /// Largest values against bounds.
    pub bounds: Bounds,
    /// What settlement's metrics said that was not so.
    pub untrue_metrics: Vec<String>,
    /// Trades whose id was used before, as settlement counts them; None where it was started again.
    pub trade_ids_reused: Option<u64>,
    /// Where the acknowledged watermark was seen, whenever it had moved: simulated ms, and where.
    pub acknowledged_ms: Vec<(u64, u64)>,
    /// When database nodes lost unsynced data, simulated ms.
    pub losses_ms: Vec<u64>,
}

/// A running watch.
pub struct Watch {
    shared: Arc<Mutex<Looker>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// Starts looking, on the main node; `wal_losses` tells how often something of settlement's WAL was taken away so far.
    pub fn start(plant: &Plant, design: DesignName, wal_losses: impl Fn() -> usize + Send + 'static) -> Watch {
        let looker = Looker {
            world: plant.world.clone(),
            cluster: plant.cluster.clone(),
            instances: plant.instances.clone(),
            storage: Storage::new(plant),
            quorum: usize::from(plant.settlement_config.replication_factor) / 2 + 1,
            config: plant.settlement_config.clone(),
            durable_promised: crate::verdict::promises(design).durable,
            generations: Vec::new(),
            checked: 0,
            highest: 0,
            received: 0,
            wal_losses: Box::new(wal_losses),
            wal_losses_seen: 0,
            instance_of_loss: 0,
            instances_before: 0,
            instance_count: 0,
            last_note: String::new(),
            recent: VecDeque::new(),
            retries_each_peak: 0,
            engine_away: 0,
            engine: plant.engine_disk(),
            settlement: plant.settlement.clone(),
            alarms: Alarms::new(&plant.settlement_config),
            claims: Claims::new(&plant.settlement_config),
            watched: Watched::default(),
        };
        let shared = Arc::new(Mutex::new(looker));
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                loop {
                    tokio::time::sleep(EVERY).await;
                    shared.lock().unwrap_or_else(PoisonError::into_inner).look();
                }
            }
        });
        Watch { shared, task }
    }

    /// Looks once more and ends.
    /// `forks`: how many may have been counted.
    pub fn stop(self, ending: &Ending, forks: &RangeInclusive<u64>) -> Watched {
        self.task.abort();
        let mut looker = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        looker.look();
        looker.bounds();
        if ending.acknowledged >= ending.head {
            looker.totals(ending, forks);
        }
        looker.watched.clone()
    }
}

struct Looker {
    world: World,
    cluster: SimCluster,
    instances: Instances,
    config: Config,
    storage: Storage,
    /// On how many nodes' disks a durable event must be.
    quorum: usize,
    durable_promised: bool,
    /// Of the database's hosts, at the last look.
    generations: Vec<u32>,
    /// Events up to this sequence were found on the fsynced storage of a quorum.
    checked: u64,
    /// The highest sequence that anything has called durable.
    highest: u64,
    /// The highest received watermark of any start of settlement since something of its WAL was taken away.
    received: u64,
    wal_losses: Box<dyn Fn() -> usize + Send>,
    wal_losses_seen: usize,
    /// How many starts there were when it was last taken away.
    instance_of_loss: usize,
    /// And how many at the last look.
    instances_before: usize,
    instance_count: usize,
    last_note: String,
    /// At the last looks, how many starts there were and the numbers of the last of them.
    recent: VecDeque<(usize, MetricsSnapshot)>,
    /// The most retries of a batch within [`RETRY_LOOKS`].
    retries_each_peak: u64,
    engine: EngineDisk,
    /// At how many looks in a row the engine was away.
    engine_away: u32,
    settlement: Host,
    alarms: Alarms,
    claims: Claims,
    watched: Watched,
}

impl Looker {
    fn look(&mut self) {
        self.sample();
        self.engine_log();
        let lost = self.lost_data();
        if self.durable_promised {
            self.promises(lost);
            self.durability(lost);
        }
    }

    /// What settlement says of itself while there is a reason to say it.
    fn promises(&mut self, lost: bool) {
        let all = self.instances.all();
        let Some(now) = all.last().map(|instance| instance.metrics.snapshot()) else {
            return;
        };
        let at_ms = self.now_ms();
        let engine = match (self.settlement.state(), self.engine.is_left_alone()) {
            (HostState::Up, true) => Engine {
                alone: Some(self.engine.generation()),
                head: None,
            },
            (HostState::Up, false) => Engine {
                alone: None,
                head: Some(self.engine.published()),
            },
            _ => Engine::default(),
        };
        for text in self.alarms.look(at_ms, all.len(), &now, engine) {
            self.untrue(text.into());
        }
        let acknowledged_ms = &self.watched.acknowledged_ms;
        for text in self.claims.look(at_ms, all.len(), &now, acknowledged_ms, lost) {
            if self.watched.durability.early.len() < BREACHES_MAX {
                self.watched.durability.early.push(format!("at {at_ms} ms: {text}"));
            }
        }
    }

    /// Writes settlement's metrics into the trace when they have changed.
    fn sample(&mut self) {
        let all = self.instances.all();
        let snapshots: Vec<MetricsSnapshot> = all.iter().map(|instance| instance.metrics.snapshot()).collect();
        let Some(last) = snapshots.last() else { return };
        let sum = |of: fn(&MetricsSnapshot) -> u64| snapshots.iter().map(of).sum::<u64>();
        let mut note = String::from(METRICS_NOTE);
        for (name, value) in [
            ("received", last.received),
            ("acknowledged", last.acknowledged),
            ("durable", last.durable),
            ("duplicates", sum(|m| m.duplicates)),
            ("gaps", sum(|m| m.gaps)),
            ("replays_requested", sum(|m| m.replays_requested)),
            ("replays_refused", sum(|m| m.replays_refused)),
            ("retries", sum(|m| m.retries)),
            ("dead_letters", sum(|m| m.dead_letters)),
            ("damaged", sum(|m| m.damaged)),
            ("forks", sum(|m| m.forks)),
            ("wal_sync_failures", sum(|m| m.wal_sync_failures)),
            ("wal_files_abandoned", sum(|m| m.wal_files_abandoned)),
            ("wal_full", sum(|m| m.wal_full)),
            ("groups_taken_apart", sum(|m| m.groups_taken_apart)),
        ] {
            let _ = write!(note, "{name}={value} ");
        }
        if note != self.last_note {
            self.world.trace().emit(
                None,
                Kind::Note {
                    text: note.trim_end().to_string(),
                },
            );
            self.last_note = note;
        }
        self.received_goes_on(all.len(), last.received);
        let at_ms = self.now_ms();
        if self
            .watched
            .acknowledged_ms
            .last()
            .is_none_or(|(_, was)| *was < last.acknowledged)
        {
            self.watched.acknowledged_ms.push((at_ms, last.acknowledged));
        }
        self.consistent(all.len(), last);
    }

    /// Watermarks follow each other and never go back, and retries come at most as fast as their pauses allow.
    fn consistent(&mut self, starts: usize, now: &MetricsSnapshot) {
        let (before_starts, before) = self.recent.back().copied().unwrap_or_default();
        self.recent.push_back((starts, *now));
        if now.acknowledged > now.received || now.durable > now.acknowledged {
            self.untrue(format!(
                "received {}, acknowledged {}, durable {}: a later watermark is ahead of an earlier one",
                now.received, now.acknowledged, now.durable
            ));
        }
        if starts != before_starts {
            return;
        }
        for (name, was, is) in [
            ("received", before.received, now.received),
            ("acknowledged", before.acknowledged, now.acknowledged),
            ("durable", before.durable, now.durable),
        ] {
            if is < was {
                self.untrue(format!("{name} went back from {was} to {is}"));
            }
        }
        self.retry_rate(starts, now);
    }

    /// While no batch comes to its end, every retry is one of those in flight, each of which makes growing pauses.
    fn retry_rate(&mut self, starts: usize, now: &MetricsSnapshot) {
        if self.recent.len() <= RETRY_LOOKS {
            return;
        }
        let ended = |m: &MetricsSnapshot| m.batches_acknowledged + m.groups_taken_apart;
        if let Some((began, then)) = self.recent.pop_front()
            && began == starts
            && ended(&then) == ended(now)
            && now.in_flight > 0
        {
            let each = now.retries.saturating_sub(then.retries).div_ceil(now.in_flight);
            self.retries_each_peak = self.retries_each_peak.max(each);
        }
    }

    /// The counters at the end, when everything is settled up to `head`.
    fn totals(&mut self, ending: &Ending, forks: &RangeInclusive<u64>) {
        let head = ending.head;
        let all = self.instances.all();
        let snapshots: Vec<MetricsSnapshot> = all.iter().map(|instance| instance.metrics.snapshot()).collect();
        let Some(last) = snapshots.last() else { return };
        let sum = |of: fn(&MetricsSnapshot) -> u64| snapshots.iter().map(of).sum::<u64>();
        self.watched.trade_ids_reused = (snapshots.len() == 1).then_some(last.trade_ids_reused);
        let (sent, retries) = (sum(|m| m.batches_sent), sum(|m| m.retries));
        let (acknowledged, events) = (sum(|m| m.batches_acknowledged), sum(|m| m.events_acknowledged));
        // Batches of several events that were refused, and what was in flight when settlement ended.
        let earlier = &snapshots[..snapshots.len() - 1];
        let cut_short = sum(|m| m.groups_taken_apart) + earlier.iter().map(|m| m.in_flight_peak).sum::<u64>();
        // With one start, nothing sent again and nothing refused, the counters are the stream's own numbers.
        let (is_first, refused) = (earlier.is_empty(), sum(|m| m.refused));
        let (received, again) = (sum(|m| m.events_received), sum(|m| m.windows_sent_again));
        let wrong = [
            (
                is_first && received != head,
                format!("{received} events received for the first time, of {head}"),
            ),
            (
                is_first && again == 0 && refused == 0 && sum(|m| m.duplicates_settled) == 0 && events != head,
                format!("{events} events acknowledged of {head}, and none was sent again"),
            ),
            (
                last.received != head,
                format!("received is {}, the head is {head}", last.received),
            ),
            (
                last.acknowledged != head,
                format!("acknowledged is {}, the head is {head}", last.acknowledged),
            ),
            (
                events + sum(|m| m.refused) < head,
                format!(
                    "{events} events acknowledged and {} refused, of {head}",
                    sum(|m| m.refused)
                ),
            ),
            (
                sent < retries + acknowledged,
                format!("{sent} batches sent, of which {retries} again, but {acknowledged} were acknowledged"),
            ),
            (
                sent > retries + acknowledged + cut_short,
                format!(
                    "{sent} batches sent, but only {retries} of them again, {acknowledged} acknowledged, and {cut_short} \
                     may have been cut short"
                ),
            ),
            (
                last.refused_pending > 0,
                format!("{} refused events still wait", last.refused_pending),
            ),
            (sum(|m| m.failed_trades) > 0, "events were given up".into()),
            (last.stalled > 0, format!("{} events are stalled", last.stalled)),
            (last.missing > 0, format!("{} events are missing", last.missing)),
            (last.wal_blocked > 0, "the WAL cannot be written".into()),
            (
                last.durable_stalled > 0,
                "the durable watermark waits for a node, and every node answers".into(),
            ),
            (
                last.feed_connected != 1 && ending.waited_ms >= FEED_BACK_MS,
                "the feed is not connected, and the engine is up".into(),
            ),
            (
                last.in_flight > 0,
                format!("{} batches are on their way", last.in_flight),
            ),
            (
                !forks.contains(&sum(|m| m.forks)),
                format!(
                    "{} forks of the stream were counted; of what was forged, {} to {} must be",
                    sum(|m| m.forks),
                    forks.start(),
                    forks.end()
                ),
            ),
            (
                last.lookups > 0,
                format!("{} old duplicates are still being compared", last.lookups),
            ),
        ];
        for (_, text) in wrong.into_iter().filter(|(is_wrong, _)| *is_wrong) {
            self.untrue(text);
        }
    }

    fn untrue(&mut self, text: String) {
        if self.watched.untrue_metrics.len() < BREACHES_MAX {
            let at_ms = self.now_ms();
            self.watched.untrue_metrics.push(format!("at {at_ms} ms: {text}"));
        }
    }

    /// What was received is fsynced in the WAL, so a later start of settlement must know it again. A new start shows its
    /// watermark a moment after it began, so zero says nothing.
    fn received_goes_on(&mut self, instances: usize, received: u64) {
        let losses = (self.wal_losses)();
        if losses != self.wal_losses_seen {
            (self.wal_losses_seen, self.received) = (losses, 0);
            self.instance_of_loss = self.instances_before;
        }
        self.instances_before = instances;
        // The numbers are still those of the process that had it.
        if instances == self.instance_of_loss {
            return;
        }
        if instances != self.instance_count && received > 0 {
            self.instance_count = instances;
            if received < self.received && self.durable_promised {
                let (before, at_ms) = (self.received, self.now_ms());
                self.breach(DurabilityBreach {
                    at_ms,
                    durable: before,
                    output_sequence: received + 1,
                    on_nodes: 0,
                    when: "settlement started again and had forgotten events that it had called received".into(),
                });
            }
        }
        self.received = self.received.max(received);
    }

    /// The engine publishes what is on its disk. So while it is away, its disk has all that settlement has received; the
    /// second look of that time knows what was still on its way.
    fn engine_log(&mut self) {
        self.engine_away = if self.engine.is_left_alone() {
            self.engine_away + 1
        } else {
            0
        };
        if self.engine_away != 2 {
            return;
        }
        let text = match self.engine.last_event() {
            Ok(last) if last >= self.received => return,
            Ok(last) => format!(
                "the engine's disk has events up to {last}, and settlement has received {}",
                self.received
            ),
            Err(error) => format!("the engine's log cannot be read: {error}"),
        };
        let at_ms = self.now_ms();
        self.watched.durability.unlogged.push(format!("at {at_ms} ms: {text}"));
    }

    fn now_ms(&self) -> u64 {
        self.world.now_ns() / 1_000_000
    }

    /// Whether a node went down since the last look, and so may have lost what it had not synced.
    fn lost_data(&mut self) -> bool {
        let generations: Vec<u32> = self
            .cluster
            .nodes()
            .map(|node| self.cluster.host(node).generation())
            .collect();
        let lost = !self.generations.is_empty() && self.generations != generations;
        self.generations = generations;
        if lost {
            let now_ms = self.now_ms();
            self.watched.losses_ms.push(now_ms.saturating_sub(EVERY_MS));
        }
        lost
    }

    /// Holds what is called durable against storage: new claims, and after a loss all of them. A refused event that was
    /// passed over has no row; whatever is a dead letter on some replica is one of those.
    fn durability(&mut self, lost: bool) {
        let claimed = self.claimed();
        self.highest = self.highest.max(claimed);
        let (from, when) = if lost {
            (1, "a node lost data")
        } else {
            (self.checked + 1, "a checkpoint")
        };
        if from > self.highest {
            return;
        }
        self.watched.durability.looked_at += self.highest + 1 - from;
        let doubtful: Vec<u64> = (from..=self.highest)
            .filter(|sequence| self.storage.known_durable(&self.cluster, *sequence) < self.quorum)
            .collect();
        self.checked = self.checked.max(self.highest);
        if doubtful.is_empty() {
            return;
        }
        let disks = self.storage.read_disks(&self.cluster);
        for sequence in doubtful {
            let on_nodes = disks.holding(sequence);
            if on_nodes < self.quorum && !disks.dead_letters.contains(&sequence) {
                let (at_ms, durable) = (self.now_ms(), self.highest);
                self.breach(DurabilityBreach {
                    at_ms,
                    durable,
                    output_sequence: sequence,
                    on_nodes,
                    when: when.into(),
                });
            }
        }
    }

    /// The highest sequence called durable: by settlement's own watermark, by its WAL, which drops nothing else, or by the
    /// checkpoint that a node serves. Notes the checkpoints on the way.
    fn claimed(&mut self) -> u64 {
        let last = self.instances.last().map(|instance| instance.metrics.snapshot());
        let mut highest = last.map_or(0, |last| last.durable.max(last.wal_low_water));
        for (durable, digest) in self.storage.checkpoints(&self.cluster) {
            highest = highest.max(durable);
            let seen = self.watched.durability.checkpoints.entry(durable).or_default();
            if !seen.contains(&digest) {
                seen.insert(digest);
            }
        }
        highest
    }

    fn breach(&mut self, breach: DurabilityBreach) {
        if self.watched.durability.breaches.len() < BREACHES_MAX {
            self.watched.durability.breaches.push(breach);
        }
    }

    /// Peaks of every start of settlement against the configuration.
    fn bounds(&mut self) {
        let limits = &self.config.limits;
        let snapshots: Vec<MetricsSnapshot> = self.instances.all().iter().map(|i| i.metrics.snapshot()).collect();
        let peak = |of: fn(&MetricsSnapshot) -> u64| snapshots.iter().map(of).max().unwrap_or(0);
        self.watched.bounds.seen = vec![
            (
                "batches in flight".into(),
                peak(|m| m.in_flight_peak),
                limits.in_flight_max as u64,
            ),
            (
                "events waiting in memory".into(),
                peak(|m| m.ready_peak),
                limits.ready_max as u64,
            ),
            (
                "old duplicates being compared".into(),
                peak(|m| m.lookups_peak),
                limits.lookups_max as u64,
            ),
            (
                "WAL bytes".into(),
                peak(|m| m.wal_bytes_peak),
                self.config.wal.max_bytes,
            ),
            (
                format!("retries of one batch in {} ms", RETRY_LOOKS as u64 * EVERY_MS),
                self.retries_each_peak,
                retries_max(RETRY_LOOKS as u64 * EVERY_MS, self.config.retry.pause_min_ms),
            ),
        ];
    }
}

/// How often a batch is sent again within so long at most, when the first pause is this one and each is twice the one
/// before.
fn retries_max(within_ms: u64, pause_min_ms: u64) -> u64 {
    let mut pauses_ms = std::iter::successors(Some(pause_min_ms.max(1)), |pause| Some(pause * 2));
    let mut left_ms = within_ms;
    let fit = std::iter::from_fn(|| {
        left_ms = left_ms.checked_sub(pauses_ms.next()?)?;
        Some(())
    });
    fit.count() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::retries_max;

    #[test]
    fn so_many_retries_fit_into_a_time_when_each_pause_is_twice_the_one_before() {
        assert_eq!(retries_max(19, 20), 1);
        assert_eq!(retries_max(20, 20), 2);
        assert_eq!(retries_max(620, 20), 6, "after 0, 20, 60, 140, 300 and 620 ms");
        assert_eq!(retries_max(1_000, 20), 6);
    }
}
