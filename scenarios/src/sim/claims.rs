//! Whether settlement calls an event durable by rule 8: once it has been acknowledged for a sync period and its slack, and
//! not before it was sent again when a node had become another process meanwhile. Seen from settlement's own watermarks
//! and the nodes' processes; on which disks the rows are is `storage`'s. A claim against the rule may happen to be true,
//! which is why the disks alone do not show it.
use super::watch::EVERY_MS;
use settlement::config::Config;
use settlement::metrics::MetricsSnapshot;

/// Looks at one run.
pub struct Claims {
    settle_ms: u64,
    /// An answer that a node gave before it died may come so late.
    probe_ms: u64,
    /// The highest claim so far.
    durable: u64,
    losses: Vec<Loss>,
}

/// A node that became another process while something was acknowledged and not durable.
struct Loss {
    at_ms: u64,
    starts: usize,
    acknowledged: u64,
    windows_sent_again: u64,
}

impl Claims {
    /// Nothing looked at yet.
    pub fn new(config: &Config) -> Claims {
        Claims {
            settle_ms: config.durable.sync_period_ms + config.durable.slack_ms,
            probe_ms: config.durable.probe_timeout_ms,
            durable: 0,
            losses: Vec::new(),
        }
    }

    /// Looks at the numbers of the last start. `acknowledged_ms` has the looks until now at which more was acknowledged than
    /// ever, simulated ms, and how much; `lost` is whether a node became another process since the look before. The claims
    /// against the rule, in words.
    pub fn look(
        &mut self,
        at_ms: u64,
        starts: usize,
        now: &MetricsSnapshot,
        acknowledged_ms: &[(u64, u64)],
        lost: bool,
    ) -> Vec<String> {
        let mut found = Vec::from_iter(self.early(at_ms, now.durable, acknowledged_ms));
        self.durable = self.durable.max(now.durable);
        if lost && now.acknowledged > now.durable {
            self.losses.push(Loss {
                at_ms,
                starts,
                acknowledged: now.acknowledged,
                windows_sent_again: now.windows_sent_again,
            });
        }
        self.losses.retain(|loss| {
            let is_answered = starts != loss.starts || now.windows_sent_again > loss.windows_sent_again;
            let is_claimed = now.durable >= loss.acknowledged;
            if !is_answered && is_claimed && at_ms > loss.at_ms + self.probe_ms + 2 * EVERY_MS {
                found.push(format!(
                    "events up to {} are called durable; a node became another process at {} ms, when they were \
                     acknowledged, and they were not sent again",
                    now.durable, loss.at_ms
                ));
            }
            !is_answered && !is_claimed
        });
        found
    }

    /// A new claim that comes too early even if its last event was acknowledged right after the look before the one at
    /// which that was seen.
    fn early(&self, at_ms: u64, durable: u64, acknowledged_ms: &[(u64, u64)]) -> Option<String> {
        if durable <= self.durable {
            return None;
        }
        let first = acknowledged_ms.partition_point(|(_, mark)| *mark < durable);
        let (seen_ms, _) = acknowledged_ms.get(first)?;
        let for_ms = (at_ms + EVERY_MS).saturating_sub(*seen_ms);
        (for_ms < self.settle_ms).then(|| {
            format!(
                "event {durable} is called durable and has been acknowledged for {for_ms} ms at most; the sync period and \
                 its slack are {} ms",
                self.settle_ms
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of looks (at, start, acknowledged, durable, windows sent again, node lost): what is found.
    fn found(looks: &[(u64, usize, u64, u64, u64, bool)]) -> usize {
        let config = Config::new(Vec::new(), "", "", "", settlement_events::Registry::example());
        assert_eq!(
            (config.durable.sync_period_ms, config.durable.slack_ms),
            (10_000, 2_000)
        );
        let (mut claims, mut marks) = (Claims::new(&config), Vec::new());
        let look =
            |(at_ms, starts, acknowledged, durable, windows_sent_again, lost): &(u64, usize, u64, u64, u64, bool)| {
                let now = MetricsSnapshot {
                    acknowledged: *acknowledged,
                    durable: *durable,
                    windows_sent_again: *windows_sent_again,
                    ..MetricsSnapshot::default()
                };
                if marks.last().is_none_or(|(_, most)| most < acknowledged) {
                    marks.push((*at_ms, *acknowledged));
                }
                claims.look(*at_ms, *starts, &now, &marks, *lost).len()
            };
        looks.iter().map(look).sum()
    }

    #[test]
    fn what_is_durable_was_acknowledged_a_sync_period_and_its_slack_before() {
        let claimed = |at_ms, durable| {
            found(&[
                (100, 1, 5, 0, 0, false),
                (200, 1, 9, 0, 0, false),
                (at_ms, 1, 9, durable, 0, false),
            ])
        };
        assert_eq!((claimed(11_999, 5), claimed(12_000, 5)), (1, 0));
        assert_eq!((claimed(12_050, 9), claimed(12_100, 9)), (1, 0));
        // What was durable before a restart is durable behind it.
        let restarted = [
            (100, 1, 5, 0, 0, false),
            (12_100, 1, 5, 5, 0, false),
            (12_200, 2, 5, 5, 0, false),
        ];
        assert_eq!(found(&restarted), 0);
    }

    #[test]
    fn what_a_node_may_have_lost_is_sent_again_before_it_is_durable() {
        let lost = |then: (u64, usize, u64, u64, u64, bool)| {
            found(&[(100, 1, 5, 0, 0, false), (9_000, 1, 5, 0, 0, true), then])
        };
        assert_eq!(lost((13_000, 1, 5, 5, 0, false)), 1);
        assert_eq!(lost((13_000, 1, 5, 5, 1, false)), 0, "sent again");
        assert_eq!(lost((13_000, 2, 5, 5, 0, false)), 0, "settlement started again");
        assert_eq!(lost((13_000, 1, 5, 4, 0, false)), 0, "not all of it is claimed");
        let late = [
            (100, 1, 5, 0, 0, false),
            (12_100, 1, 5, 0, 0, true),
            (13_000, 1, 5, 5, 0, false),
        ];
        assert_eq!(found(&late), 0, "the node may have answered before");
    }
}
