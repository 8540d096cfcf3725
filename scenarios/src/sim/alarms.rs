//! Whether settlement's alarms ring while there is a reason: gauges that a person is paged by. That they are silent in the
//! end is `watch`'s. What the reason is comes from counters, which count its single moments, and from the machines.
use settlement::config::Config;
use settlement::metrics::MetricsSnapshot;

/// A reason must have been there at so many looks: a single moment may come and go between two.
const REASONS: u32 = 3;
/// At so many looks in a row the watermark must have stayed where it is.
const STUCK: u32 = 5;
/// What the feed may take to notice a silence, over twice the silence itself.
const FEED_SLACK_MS: u64 = 2_000;

/// What is so of the engine, while settlement runs; nothing is said while settlement does not.
#[derive(Clone, Copy, Default)]
pub struct Engine {
    /// Its generation, if no engine runs.
    pub alone: Option<u32>,
    /// Its last event, if it runs.
    pub head: Option<u64>,
}

/// Looks at one run.
pub struct Alarms {
    silence_ms: u64,
    stalled_after: u64,
    /// How many starts of settlement there were, and what was seen of the last.
    starts: usize,
    seen: Seen,
    told: Vec<&'static str>,
}

/// Of one start of settlement.
#[derive(Default)]
struct Seen {
    before: MetricsSnapshot,
    /// The numbers when a batch last came to its end.
    last_end: MetricsSnapshot,
    durable_stalled: Alarm,
    wal_blocked: Alarm,
    refused_pending: bool,
    /// The engine said that it does not have events; for so many looks the watermark has stayed before what is missing.
    refused_for: Option<u32>,
    /// Since when the feed is connected, the engine's last event is this one, and the head is said to be before it.
    behind_since: Option<(u64, u64)>,
    /// Since when no engine runs while settlement does, simulated ms, and the engine's generation.
    alone_since: Option<(u64, u32)>,
}

#[derive(Default)]
struct Alarm {
    reasons: u32,
    has_rung: bool,
}

impl Alarm {
    /// Whether there was reason enough, and it never rang.
    fn is_silent(&mut self, reason: bool, rings: bool) -> bool {
        self.reasons += u32::from(reason);
        self.has_rung |= rings;
        self.reasons >= REASONS && !self.has_rung
    }
}

impl Alarms {
    /// Nothing looked at yet.
    pub fn new(config: &Config) -> Alarms {
        Alarms {
            silence_ms: config.feed.silence_ms,
            stalled_after: config.retry.stalled_after.into(),
            starts: 0,
            seen: Seen::default(),
            told: Vec::new(),
        }
    }

    /// Looks at the numbers of the last start. What should have rung, in words, each once.
    pub fn look(&mut self, at_ms: u64, starts: usize, now: &MetricsSnapshot, engine: Engine) -> Vec<&'static str> {
        if starts != self.starts {
            (self.starts, self.seen) = (starts, Seen::default());
        }
        // What has no room in the WAL waits outside, and the heartbeats behind it; when there is room again, old ones come
        // first.
        let listens = now.wal_full == 0 && now.wal_sync_failures == 0;
        let silent = [
            (
                self.seen.is_durable_silent(now),
                "again and again a node could not be asked, and durable_stalled was never 1",
            ),
            (
                self.seen.is_wal_silent(now),
                "again and again the WAL could not be written, and wal_blocked was never 1",
            ),
            (
                // A later start may find the decision there before it has looked at the event.
                self.seen.is_refusal_silent(now) && starts == 1,
                "an event was refused until a person skipped it, and refused_pending was never above 0",
            ),
            (
                self.seen.alone_ms(at_ms, engine.alone) > 2 * self.silence_ms + FEED_SLACK_MS && now.feed_connected > 0,
                "no engine runs, and feed_connected is 1",
            ),
            (
                self.seen.is_missing_silent(now),
                "the engine said that it does not have events, the watermark stays before them, and missing is 0",
            ),
            (
                self.seen.behind_ms(at_ms, engine.head.filter(|_| listens), now) > 2 * self.silence_ms + FEED_SLACK_MS,
                "the feed is connected, and the head is said to be before the engine's",
            ),
            (
                self.seen.failed_each(now) > self.stalled_after && now.stalled == 0,
                "a batch fails again and again, and stalled is 0",
            ),
        ];
        self.seen.before = *now;
        let silent = silent.into_iter().filter(|(is_silent, _)| *is_silent);
        let new: Vec<_> = silent
            .map(|(_, text)| text)
            .filter(|text| !self.told.contains(text))
            .collect();
        self.told.extend(&new);
        new
    }
}

impl Seen {
    fn is_durable_silent(&mut self, now: &MetricsSnapshot) -> bool {
        let reason = now.probes_stalled > self.before.probes_stalled;
        self.durable_stalled.is_silent(reason, now.durable_stalled > 0)
    }

    fn is_wal_silent(&mut self, now: &MetricsSnapshot) -> bool {
        let reason = now.wal_sync_failures > self.before.wal_sync_failures;
        self.wal_blocked.is_silent(reason, now.wal_blocked > 0)
    }

    fn is_refusal_silent(&mut self, now: &MetricsSnapshot) -> bool {
        self.refused_pending |= now.refused_pending > 0;
        now.refused > 0 && now.skipped > 0 && !self.refused_pending
    }

    fn is_missing_silent(&mut self, now: &MetricsSnapshot) -> bool {
        if now.replays_refused > self.before.replays_refused {
            self.refused_for = Some(0);
        }
        // What came meanwhile and is not yet fsynced is neither missing nor received.
        let is_on_its_way = now.wal_blocked > 0 || now.unsynced > 0;
        if now.received != self.before.received || now.missing > 0 || is_on_its_way {
            self.refused_for = None;
        }
        self.refused_for = self.refused_for.map(|looks| looks + 1);
        self.refused_for.is_some_and(|looks| looks > STUCK)
    }

    fn behind_ms(&mut self, at_ms: u64, head: Option<u64>, now: &MetricsSnapshot) -> u64 {
        let behind = head.filter(|head| now.feed_connected > 0 && now.head < *head);
        let began = self.behind_since.filter(|(_, head)| Some(*head) == behind);
        self.behind_since = behind.map(|head| began.unwrap_or((at_ms, head)));
        self.behind_since.map_or(0, |(since_ms, _)| at_ms - since_ms)
    }

    fn alone_ms(&mut self, at_ms: u64, alone: Option<u32>) -> u64 {
        // One that ran for a moment between two looks was one to be connected to.
        let began = self.alone_since.filter(|(_, engines)| Some(*engines) == alone);
        self.alone_since = alone.map(|engines| began.unwrap_or((at_ms, engines)));
        self.alone_since.map_or(0, |(since_ms, _)| at_ms - since_ms)
    }

    /// How often the batches in flight have failed since one came to its end, on average: one of them has failed at least
    /// as often, because every retry is one of theirs.
    fn failed_each(&mut self, now: &MetricsSnapshot) -> u64 {
        let ended = |m: &MetricsSnapshot| m.batches_acknowledged + m.groups_taken_apart;
        if ended(now) != ended(&self.last_end) || now.in_flight == 0 {
            self.last_end = *now;
        }
        let retries = now.retries.saturating_sub(self.last_end.retries);
        retries.checked_div(now.in_flight).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarms() -> Alarms {
        Alarms::new(&Config::new(
            Vec::new(),
            "",
            "",
            "",
            settlement_events::Registry::example(),
        ))
    }

    /// What is told when these are the numbers of one start at looks that lie 100 ms apart.
    fn told(alone: Option<u32>, looks: impl IntoIterator<Item = MetricsSnapshot>) -> Vec<&'static str> {
        let mut alarms = alarms();
        let engine = Engine { alone, head: None };
        let look = |(n, now): (usize, MetricsSnapshot)| alarms.look(n as u64 * 100, 1, &now, engine);
        looks.into_iter().enumerate().flat_map(look).collect()
    }

    fn numbers(set: impl FnOnce(&mut MetricsSnapshot)) -> MetricsSnapshot {
        let mut numbers = MetricsSnapshot::default();
        set(&mut numbers);
        numbers
    }

    #[test]
    fn a_reason_that_comes_back_must_have_rung_once() {
        let stalled =
            |rings| (1..=9).map(move |n| numbers(|m| (m.probes_stalled, m.durable_stalled) = (n, rings * n / 3)));
        assert_eq!(told(None, stalled(0)).len(), 1, "told once");
        assert_eq!(told(None, stalled(1)), [""; 0]);
        let blocked = |rings| (1..=9).map(move |n| numbers(|m| (m.wal_sync_failures, m.wal_blocked) = (n, rings)));
        assert_eq!((told(None, blocked(0)).len(), told(None, blocked(1)).len()), (1, 0));
        assert_eq!(
            told(None, stalled(0).take(2)),
            [""; 0],
            "it may have come and gone between two looks"
        );
    }

    #[test]
    fn a_refused_event_waits_until_it_is_skipped() {
        let skipped = numbers(|m| (m.refused, m.skipped) = (1, 1));
        let waits = numbers(|m| (m.refused, m.refused_pending) = (1, 1));
        assert_eq!(told(None, [skipped]).len(), 1);
        assert_eq!(told(None, [waits, skipped]), [""; 0]);
        assert_eq!(
            alarms().look(0, 2, &skipped, Engine::default()),
            [""; 0],
            "a later start may know the decision"
        );
    }

    #[test]
    fn a_feed_without_an_engine_is_not_connected_for_long() {
        let connected = |looks: usize| std::iter::repeat_n(numbers(|m| m.feed_connected = 1), looks);
        assert_eq!(told(Some(1), connected(40)), [""; 0]);
        assert_eq!(told(Some(1), connected(42)).len(), 1);
        assert_eq!(told(None, connected(99)), [""; 0]);
        let mut alarms = alarms();
        let now = numbers(|m| m.feed_connected = 1);
        let for_a_moment = |n: u64| Engine {
            alone: Some(n as u32 / 40),
            head: None,
        };
        let in_between = (0..99).flat_map(|n| alarms.look(n * 100, 1, &now, for_a_moment(n)));
        assert_eq!(in_between.count(), 0, "engines that ran for a moment");
        assert_eq!(
            told(Some(1), std::iter::repeat_n(MetricsSnapshot::default(), 99)),
            [""; 0]
        );
    }

    #[test]
    fn what_the_engine_does_not_have_is_missing_until_it_comes() {
        let stuck = |missing, moves| {
            (0..20_u64).map(move |n| {
                numbers(|m| (m.replays_refused, m.received, m.missing) = (u64::from(n > 2), n / moves, missing))
            })
        };
        assert_eq!(told(None, stuck(0, 99)).len(), 1);
        assert_eq!(told(None, stuck(2, 99)), [""; 0]);
        assert_eq!(told(None, stuck(0, 3)), [""; 0], "the watermark moves");
    }

    #[test]
    fn whoever_is_connected_knows_the_head() {
        let heads = |said: u64, connected| {
            let mut alarms = alarms();
            let now = numbers(|m| (m.head, m.feed_connected) = (said, connected));
            let engine = Engine {
                alone: None,
                head: Some(7),
            };
            (0..99)
                .flat_map(|n| alarms.look(n * 100, 1, &now, engine))
                .collect::<Vec<_>>()
                .len()
        };
        assert_eq!((heads(6, 1), heads(7, 1), heads(6, 0)), (1, 0, 0));
        let full = numbers(|m| (m.head, m.feed_connected, m.wal_full) = (6, 1, 1));
        let engine = Engine {
            alone: None,
            head: Some(7),
        };
        let mut alarms = alarms();
        let told = (0..99).flat_map(|n| alarms.look(n * 100, 1, &full, engine));
        assert_eq!(told.count(), 0, "it does not listen");
        let now = numbers(|m| m.feed_connected = 1);
        let goes_on = |n: u64| Engine {
            alone: None,
            head: Some(n / 30),
        };
        let told = (0..99).flat_map(|n| alarms.look(20_000 + n * 100, 1, &now, goes_on(n)));
        assert_eq!(told.count(), 0, "the head was another one a moment ago");
    }

    #[test]
    fn of_batches_that_fail_one_fails_as_often_as_all_on_average() {
        let failing = |stalled, ended| {
            (0..30).map(move |n| {
                numbers(|m| {
                    (m.in_flight, m.retries, m.stalled) = (2, n, stalled);
                    m.batches_acknowledged = n * ended / 20;
                })
            })
        };
        assert_eq!(told(None, failing(0, 0)).len(), 1);
        assert_eq!(told(None, failing(1, 0)), [""; 0]);
        assert_eq!(told(None, failing(0, 1)), [""; 0], "one of them came to its end");
    }
}
