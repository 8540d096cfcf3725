//! A plan from a seed and a profile, swarm style: each seed switches whole classes off and weights the rest wildly, so
//! that rare combinations and long quiet stretches both come up. What is drawn stays within the budget.
use crate::budget::{self, Window};
use crate::class::Class;
use crate::plan::{Action, BatchPoint, Fault, Forged, Lie, PLAN_VERSION, Plan, RotPlace, Target, TimeoutWorld, When};
use serde::{Deserialize, Serialize};
use sim_world::seed::Stream;

/// What a scenario asks of one fault class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The class.
    pub class: Class,
    /// Fewest and most faults of it in a seed that has it.
    #[serde(default = "Wish::once")]
    pub count: [u32; 2],
    /// In every seed; otherwise each seed switches the class off with probability 1/3.
    #[serde(default)]
    pub always: bool,
    /// Shortest and longest duration or restart delay, ms; each class has its own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<[u64; 2]>,
    /// Whom it strikes, where the class leaves it open; default: drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetKind>,
}

impl Wish {
    fn once() -> [u32; 2] {
        [1, 1]
    }
}

/// A kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// The settlement host.
    Settlement,
    /// The engine host.
    Engine,
    /// Any database node.
    Node,
}

/// What a draw must know of the run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Output sequences the engine will publish without any fault.
    pub events: u64,
    /// When the first is published, ms.
    pub first_event_ms: u64,
    /// When the last is published, ms.
    pub last_event_ms: u64,
    /// Database nodes.
    pub nodes: u16,
}

/// A profile that cannot be drawn from.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DrawError {
    /// A range is upside down.
    #[error("fault class `{class}`: {what} [{low}, {high}] is upside down; write the smaller number first")]
    Range {
        /// The class.
        class: String,
        /// Which range.
        what: &'static str,
        /// First number.
        low: u64,
        /// Second number.
        high: u64,
    },
}

/// Draws the plan of one seed. Every draw comes from `stream`, in a fixed order.
pub fn draw(wishes: &[Wish], shape: Shape, stream: &mut Stream) -> Result<Plan, DrawError> {
    for wish in wishes {
        check(wish)?;
    }
    let mut drawer = Drawer {
        shape,
        stream,
        windows: Vec::new(),
        faults: Vec::new(),
        taken: Vec::new(),
        struck: Vec::new(),
    };
    for wish in wishes {
        drawer.class(wish);
    }
    Ok(Plan {
        version: PLAN_VERSION,
        faults: drawer.faults,
    })
}

fn check(wish: &Wish) -> Result<(), DrawError> {
    let range = |what, low: u64, high: u64| {
        if low > high {
            Err(DrawError::Range {
                class: wish.class.name(),
                what,
                low,
                high,
            })
        } else {
            Ok(())
        }
    };
    range("count", wish.count[0].into(), wish.count[1].into())?;
    wish.duration_ms
        .map_or(Ok(()), |[low, high]| range("duration_ms", low, high))
}

/// How the engine answers who asks for what was lost.
#[derive(Clone, Copy, Default)]
struct Replay {
    slow_ms: u64,
    max_entries: u32,
    refused: bool,
}

struct Drawer<'a> {
    shape: Shape,
    stream: &'a mut Stream,
    windows: Vec<Window>,
    faults: Vec<Fault>,
    /// Events already named by a batch or feed fault: one event, one such fault, so that each can be told apart.
    taken: Vec<u64>,
    /// Events whose batch times out or is rejected, and on how many attempts so far.
    struck: Vec<(u64, u32)>,
}

impl Drawer<'_> {
    fn class(&mut self, wish: &Wish) {
        let off = self.stream.below(3) == 0;
        let count = self.between(wish.count[0].into(), wish.count[1].into());
        if off && !wish.always {
            return;
        }
        for _ in 0..count {
            let (when, action) = self.one(wish);
            self.push(wish.class, when, action);
        }
    }

    /// Adds the fault, moved later where it would impair a second node at once.
    fn push(&mut self, class: Class, when: When, action: Action) {
        let mut fault = Fault {
            id: self.faults.len() as u32,
            class,
            when,
            action,
        };
        while let Some(window) = budget::window(&fault) {
            let Some(clash) = self.windows.iter().find(|other| other.clashes(&window)) else {
                self.windows.push(window);
                break;
            };
            fault.when = When::AtMs(clash.to_ms + budget::REST_MS);
        }
        self.faults.push(fault);
    }

    fn one(&mut self, wish: &Wish) -> (When, Action) {
        use Class::*;
        match wish.class {
            CrashBeforeBatch => self.crash(wish, &[BatchPoint::Leaving]),
            CrashAfterBatch => self.crash(wish, &[BatchPoint::Arrived, BatchPoint::Answering]),
            CoordinatorKillAfterBatchlog => {
                let restart_after_ms = self.duration(wish, 1_000, 15_000);
                (self.batch(), Action::KillCoordinatorAfterBatchlog { restart_after_ms })
            }
            CoordinatorKillMidBatch => {
                let (mutations, restart_after_ms) = (self.between(1, 9) as u32, self.duration(wish, 1_000, 15_000));
                (
                    self.batch(),
                    Action::KillCoordinatorMidBatch {
                        mutations,
                        restart_after_ms,
                    },
                )
            }
            TimeoutNeverApplied => self.timeout(TimeoutWorld::NeverApplied),
            TimeoutAppliedAtOnce => self.timeout(TimeoutWorld::AppliedAtOnce),
            TimeoutAppliedByReplay => {
                // Some before any mutation: nothing is seen until the replay. Otherwise a part is, in the order of hashed
                // keys: with balances and without the trade, a check finds nothing and what is read holds the effect.
                let after_mutations = if self.stream.below(4) == 0 {
                    0
                } else {
                    self.between(1, 6) as u16
                };
                self.timeout(TimeoutWorld::AppliedByReplay { after_mutations })
            }
            TimeoutExecutedLate => {
                let after_ms = self.duration(wish, 200, 20_000);
                self.timeout(TimeoutWorld::ExecutedLate { after_ms })
            }
            DuplicateDelivery => {
                let count = self.between(1, 5) as u32;
                (self.published(count.into()), Action::Duplicate { count })
            }
            ReorderedDelivery => {
                let by = self.between(1, 4) as u32;
                (self.published(u64::from(by) + 1), Action::Delay { by })
            }
            SequenceGap => self.drop_events(Replay::default(), 0),
            TailLoss => {
                let silence_ms = self.duration(wish, 3_000, 8_000);
                self.drop_events(Replay::default(), silence_ms)
            }
            GapSlowReplay => {
                let slow_ms = self.duration(wish, 500, 8_000);
                let replay = Replay {
                    slow_ms,
                    ..Replay::default()
                };
                self.drop_events(replay, 0)
            }
            GapPartialReplay => {
                let max_entries = self.between(1, 3) as u32;
                let replay = Replay {
                    max_entries,
                    ..Replay::default()
                };
                self.drop_events(replay, 0)
            }
            GapRefusedReplay => {
                let replay = Replay {
                    refused: true,
                    ..Replay::default()
                };
                self.drop_events(replay, 0)
            }
            DamagedDelivery => {
                let count = self.between(1, 3) as u32;
                (self.published(count.into()), Action::Damage { count })
            }
            ForgedDelivery => {
                let ways = [Forged::Instead, Forged::Behind, Forged::Old, Forged::Head];
                let how = ways[self.stream.below(4) as usize];
                (self.published(1), Action::Forge { how })
            }
            RefusedEvent => {
                let kind = self.stream.below(1 << 16) as u32;
                (self.published(1), Action::PublishRefused { kind })
            }
            EngineCrash => {
                let restart_after_ms = self.duration(wish, 100, 10_000);
                (
                    self.moment(),
                    Action::Kill {
                        target: Target::Engine,
                        restart_after_ms,
                    },
                )
            }
            EnginePowerLoss => {
                let restart_after_ms = self.duration(wish, 500, 10_000);
                (
                    self.published(1),
                    Action::PowerLoss {
                        target: Target::Engine,
                        restart_after_ms,
                    },
                )
            }
            ProcessKill => {
                let (target, restart_after_ms) = (self.target(wish), self.duration(wish, 100, 25_000));
                (
                    self.moment(),
                    Action::Kill {
                        target,
                        restart_after_ms,
                    },
                )
            }
            PowerLoss => {
                let (target, restart_after_ms) = (self.target(wish), self.duration(wish, 1_000, 25_000));
                (
                    self.moment(),
                    Action::PowerLoss {
                        target,
                        restart_after_ms,
                    },
                )
            }
            ProcessKillAll => {
                let restart_after_ms = self.duration(wish, 100, 10_000);
                (self.moment(), Action::KillAll { restart_after_ms })
            }
            PowerLossAll => {
                let restart_after_ms = self.duration(wish, 1_000, 10_000);
                (self.moment(), Action::PowerLossAll { restart_after_ms })
            }
            PowerLossDatabase => {
                let (restart_after_ms, apart_ms) = (self.duration(wish, 500, 8_000), self.between(0, 2_000));
                (
                    self.moment(),
                    Action::PowerLossDatabase {
                        restart_after_ms,
                        apart_ms,
                    },
                )
            }
            Pause => {
                let (target, for_ms) = (self.target(wish), self.duration(wish, 500, 30_000));
                (self.moment(), Action::Pause { target, for_ms })
            }
            PartitionClient => {
                let (node, (to_node, from_node)) = (self.node(), self.directions());
                let for_ms = self.duration(wish, 1_000, 30_000);
                (
                    self.moment(),
                    Action::CutClient {
                        node,
                        to_node,
                        from_node,
                        for_ms,
                    },
                )
            }
            PartitionPeer => {
                let (node, (to_node, from_node)) = (self.node(), self.directions());
                let for_ms = self.duration(wish, 1_000, 30_000);
                (
                    self.moment(),
                    Action::CutPeer {
                        node,
                        to_node,
                        from_node,
                        for_ms,
                    },
                )
            }
            DiskTornTail => {
                let restart_after_ms = self.duration(wish, 500, 10_000);
                (self.moment(), Action::TornTail { restart_after_ms })
            }
            DiskEio => {
                let kinds = self.stream.below(3);
                let (writes, fsyncs) = (self.between(1, 3) as u32, self.between(1, 2) as u32);
                let action = match kinds {
                    0 => Action::DiskEio { writes, fsyncs: 0 },
                    1 => Action::DiskEio { writes: 0, fsyncs },
                    _ => Action::DiskEio { writes, fsyncs },
                };
                (self.moment(), action)
            }
            DiskFull => {
                let for_ms = self.duration(wish, 500, 10_000);
                (self.moment(), Action::DiskFull { for_ms })
            }
            DiskLost => {
                let restart_after_ms = self.duration(wish, 500, 10_000);
                (self.moment(), Action::DiskLost { restart_after_ms })
            }
            DiskRot => {
                let place = [RotPlace::Header, RotPlace::LastHead, RotPlace::Anywhere][self.stream.below(3) as usize];
                let (at_permille, bit) = (self.stream.below(1_000) as u16, self.stream.below(8) as u8);
                let restart_after_ms = self.duration(wish, 500, 10_000);
                (
                    self.moment(),
                    Action::DiskRot {
                        place,
                        at_permille,
                        bit,
                        restart_after_ms,
                    },
                )
            }
            DiskUnreadable => {
                let (reads, restart_after_ms) = (self.between(1, 4) as u32, self.duration(wish, 500, 10_000));
                (
                    self.moment(),
                    Action::DiskUnreadable {
                        reads,
                        restart_after_ms,
                    },
                )
            }
            BatchRejected => (self.batch_again(), Action::RejectBatch),
            UnavailableYetApplied => {
                let by_replay = self.stream.below(3) == 0;
                (self.batch(), Action::RefuseYetApply { by_replay })
            }
            BatchlogKept => self.lie(wish, Lie::KeepBatchlog, 2_000, 20_000),
            // Until after the first replay (30 s), and for no longer than until the next (60 s later).
            ReplayHeld => self.lie(wish, Lie::HoldReplay, 30_000, 60_000),
            PartitionTorn => self.lie(wish, Lie::TearPartitions, 1_000, 10_000),
            PaxosForgotten => {
                let node = self.node();
                self.lie(wish, Lie::ForgetPaxos { node }, 1_000, 10_000)
            }
            ViewUpdatesLost => self.lie(wish, Lie::LoseViewUpdates, 500, 5_000),
            ClockAhead => {
                let (node, by_ms) = (self.node(), self.between(500, 60_000));
                self.lie(wish, Lie::ClockAhead { node, by_ms }, 1_000, 10_000)
            }
        }
    }

    fn lie(&mut self, wish: &Wish, lie: Lie, low_ms: u64, high_ms: u64) -> (When, Action) {
        let for_ms = self.duration(wish, low_ms, high_ms);
        (self.moment(), Action::Lie { lie, for_ms })
    }

    fn crash(&mut self, wish: &Wish, points: &[BatchPoint]) -> (When, Action) {
        let point = points[self.stream.below(points.len() as u64) as usize];
        let restart_after_ms = self.duration(wish, 50, 10_000);
        (
            self.batch(),
            Action::CrashSettlement {
                point,
                restart_after_ms,
            },
        )
    }

    fn timeout(&mut self, world: TimeoutWorld) -> (When, Action) {
        (self.batch_again(), Action::TimeOutBatch(world))
    }

    /// A retry's own failure is where many retry policies end, so a batch that is struck already may be struck again.
    fn batch_again(&mut self) -> When {
        let again = self.stream.below(3) == 0;
        match self.struck.last_mut() {
            Some((output_sequence, attempts)) if again => {
                *attempts += 1;
                When::Batch {
                    output_sequence: *output_sequence,
                    attempt: *attempts,
                }
            }
            _ => {
                let output_sequence = self.event(1);
                self.struck.push((output_sequence, 1));
                When::Batch {
                    output_sequence,
                    attempt: 1,
                }
            }
        }
    }

    fn drop_events(&mut self, replay: Replay, silence_ms: u64) -> (When, Action) {
        let count = self.between(1, 12) as u32;
        (
            self.published(count.into()),
            Action::Drop {
                count,
                replay_slow_ms: replay.slow_ms,
                replay_max_entries: replay.max_entries,
                replay_refused: replay.refused,
                silence_ms,
            },
        )
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.stream.below(high - low + 1)
    }

    fn duration(&mut self, wish: &Wish, low: u64, high: u64) -> u64 {
        let [low, high] = wish.duration_ms.unwrap_or([low, high]);
        self.between(low, high)
    }

    /// A time while events are being published.
    fn moment(&mut self) -> When {
        When::AtMs(self.between(
            self.shape.first_event_ms,
            self.shape.last_event_ms.max(self.shape.first_event_ms),
        ))
    }

    /// The first sending of some event's batch.
    fn batch(&mut self) -> When {
        When::Batch {
            output_sequence: self.event(1),
            attempt: 1,
        }
    }

    fn published(&mut self, span: u64) -> When {
        When::Published {
            output_sequence: self.event(span),
        }
    }

    /// An event with `span - 1` successors, none of which another fault names; the last try stands when all are taken.
    fn event(&mut self, span: u64) -> u64 {
        let mut first = 1;
        for _ in 0..16 {
            first = self.between(1, self.shape.events.saturating_sub(span).max(1));
            if (first..first + span).all(|seq| !self.taken.contains(&seq)) {
                break;
            }
        }
        self.taken.extend(first..first + span);
        first
    }

    fn node(&mut self) -> u16 {
        self.stream.below(self.shape.nodes.into()) as u16
    }

    fn target(&mut self, wish: &Wish) -> Target {
        let (kind, node) = (self.stream.below(4), self.node());
        match wish.target {
            Some(TargetKind::Settlement) => Target::Settlement,
            Some(TargetKind::Engine) => Target::Engine,
            Some(TargetKind::Node) => Target::Node(node),
            None if kind == 0 => Target::Settlement,
            None if kind == 1 => Target::Engine,
            None => Target::Node(node),
        }
    }

    /// Which directions a cut takes: both, or one of the two.
    fn directions(&mut self) -> (bool, bool) {
        [(true, true), (true, false), (false, true)][self.stream.below(3) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sim_world::seed::Seed;

    const SHAPE: Shape = Shape {
        events: 1_000,
        first_event_ms: 100,
        last_event_ms: 30_000,
        nodes: 3,
    };

    fn every_class() -> Vec<Wish> {
        crate::class::ALL
            .iter()
            .map(|info| Wish {
                class: info.class,
                count: [1, 3],
                always: false,
                duration_ms: None,
                target: None,
            })
            .collect()
    }

    #[test]
    fn a_wish_that_is_always_on_is_in_every_plan_and_others_come_and_go() {
        let mut wishes = every_class();
        wishes[0].always = true;
        let plans: Vec<_> = (0..60)
            .map(|n| draw(&wishes, SHAPE, &mut Seed(n).stream("plan")).unwrap())
            .collect();
        assert!(plans.iter().all(|plan| plan.planned().contains_key(&wishes[0].class)));
        for wish in &wishes[1..] {
            let with = plans
                .iter()
                .filter(|plan| plan.planned().contains_key(&wish.class))
                .count();
            assert!((20..60).contains(&with), "{}: in {with} of 60 plans", wish.class.name());
        }
    }

    #[test]
    fn an_upside_down_range_is_refused_by_name() {
        let mut wishes = every_class();
        wishes[3].count = [4, 2];
        let error = draw(&wishes, SHAPE, &mut Seed(1).stream("plan")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fault class `coordinator-kill-mid-batch`: count [4, 2] is upside down; write the smaller number first"
        );
    }

    proptest! {
        #[test]
        fn plans_stay_within_the_budget_and_repeat(seed: u64) {
            let plan = draw(&every_class(), SHAPE, &mut Seed(seed).stream("plan")).unwrap();
            prop_assert_eq!(budget::judge_plan(&plan), Ok(()));
            prop_assert_eq!(&plan, &draw(&every_class(), SHAPE, &mut Seed(seed).stream("plan")).unwrap());
            prop_assert_eq!(&plan, &Plan::from_json(&serde_json::to_string(&plan).unwrap()).unwrap());
        }
    }
}
