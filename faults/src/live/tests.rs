//! On a clock that runs: the world of real processes has no other. The executor against processes that are only written down: order, left-out faults, and when one has bitten.
use super::*;
use crate::class::Class;
use crate::plan::{BatchPoint, PLAN_VERSION, TimeoutWorld};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Default)]
struct Notes {
    said: Arc<std::sync::Mutex<Vec<String>>>,
    in_flight: u64,
    troubles: Arc<AtomicU64>,
    /// A node that is away gives trouble.
    is_noticed: bool,
    is_held_up: bool,
    never_in_flight: bool,
    start_fails: bool,
}

impl Notes {
    fn say(&self, text: String) {
        self.said.lock().expect("not poisoned").push(text);
    }

    fn struck(&self, target: Target) -> Struck {
        if self.is_noticed {
            self.troubles.fetch_add(1, Ordering::Relaxed);
        }
        Struck {
            seen: "as seen".into(),
            at_work: target != Target::Settlement || self.in_flight > 0,
            in_flight: (target == Target::Settlement).then_some(self.in_flight),
        }
    }
}

impl Hands for Notes {
    async fn kill(&self, target: Target) -> Result<Struck, String> {
        self.say(format!("kill {}", name(target)));
        Ok(self.struck(target))
    }

    async fn start(&self, target: Target) -> Result<(), String> {
        self.say(format!("start {}", name(target)));
        if self.start_fails {
            Err("it does not start".into())
        } else {
            Ok(())
        }
    }

    async fn freeze(&self, target: Target) -> Result<Struck, String> {
        self.say(format!("freeze {}", name(target)));
        Ok(self.struck(target))
    }

    async fn resume(&self, target: Target) -> Result<(), String> {
        self.say(format!("resume {}", name(target)));
        Ok(())
    }

    async fn until_up(&self, _: Target) {}

    fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    async fn until_in_flight(&self, _: u64) -> bool {
        !self.never_in_flight
    }

    fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::Relaxed)
    }
}

fn fault(id: u32, at_ms: u64, action: Action) -> Fault {
    Fault {
        id,
        class: Class::ProcessKill,
        when: When::AtMs(at_ms),
        action,
    }
}

fn kill(target: Target) -> Action {
    Action::Kill {
        target,
        restart_after_ms: 300,
    }
}

async fn run(notes: &Notes, faults: Vec<Fault>, nodes: u16) -> (Vec<Outcome>, Vec<String>) {
    let plan = Plan {
        version: PLAN_VERSION,
        faults,
    };
    let outcomes = carry_out(notes, &plan, nodes, Instant::now(), Duration::from_millis(20)).await;
    let said = notes.said.lock().expect("not poisoned").clone();
    (outcomes, said)
}

#[tokio::test]
async fn a_target_is_struck_again_only_when_it_is_back_and_others_meanwhile() {
    let pause = Action::Pause {
        target: Target::Node(1),
        for_ms: 1_500,
    };
    let faults = vec![
        fault(0, 100, kill(Target::Settlement)),
        fault(1, 200, pause),
        fault(2, 300, kill(Target::Settlement)),
    ];
    let (_, said) = run(&Notes::default(), faults, 3).await;
    let expected = [
        "kill settlement",
        "freeze node 2",
        "start settlement",
        "kill settlement",
        "start settlement",
        "resume node 2",
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn one_node_is_away_at_a_time() {
    let faults = vec![fault(0, 0, kill(Target::Node(0))), fault(1, 100, kill(Target::Node(1)))];
    let (outcomes, said) = run(&Notes::default(), faults, 3).await;
    assert_eq!(said, ["kill node 1", "start node 1", "kill node 2", "start node 2"]);
    let windows: Vec<Window> = outcomes.iter().filter_map(|outcome| outcome.window).collect();
    assert!(windows[0].to_ms <= windows[1].from_ms, "{windows:?}");
}

#[tokio::test]
async fn a_fault_has_bitten_when_settlement_was_working_or_noticed() {
    let faults = || {
        vec![
            fault(0, 0, kill(Target::Settlement)),
            fault(1, 500, kill(Target::Node(0))),
        ]
    };
    let idle = run(&Notes::default(), faults(), 3).await.0;
    assert_eq!(
        idle.iter().map(|o| (o.fired, o.bit)).collect::<Vec<_>>(),
        [(true, false); 2]
    );
    let busy = Notes {
        in_flight: 7,
        is_noticed: true,
        ..Notes::default()
    };
    let busy = run(&busy, faults(), 3).await.0;
    assert_eq!(
        busy.iter().map(|o| (o.fired, o.bit)).collect::<Vec<_>>(),
        [(true, true); 2]
    );
    assert_eq!(busy[0].in_flight, Some(7));
    let window = busy[1].window.expect("a node was away");
    assert!(window.node == 0 && window.to_ms - window.from_ms >= 300, "{window:?}");
    // Settlement that waits to begin counts nothing yet, and has noticed all the same; its own death is no such sign.
    let starting = Notes {
        is_held_up: true,
        ..Notes::default()
    };
    let starting = run(&starting, faults(), 3).await.0;
    assert_eq!(starting.iter().map(|o| o.bit).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn what_cannot_be_done_is_not_done_and_says_why() {
    let timeout = Action::TimeOutBatch(TimeoutWorld::NeverApplied);
    let faults = vec![fault(0, 0, timeout), fault(1, 0, kill(Target::Node(2)))];
    let (outcomes, said) = run(&Notes::default(), faults.clone(), 0).await;
    assert!(said.is_empty());
    assert!(
        outcomes
            .iter()
            .all(|o| !o.fired && o.detail.starts_with("not in this world: "))
    );
    let (outcomes, _) = run(&Notes::default(), faults, 2).await;
    assert_eq!(outcomes[1].detail, "not in this world: the database has no node 3");
}

#[tokio::test]
async fn a_moment_that_does_not_come_and_a_start_that_fails_are_told_apart() {
    let crash = Fault {
        when: When::Batch {
            output_sequence: 9,
            attempt: 1,
        },
        ..fault(
            0,
            0,
            Action::CrashSettlement {
                point: BatchPoint::Leaving,
                restart_after_ms: 10,
            },
        )
    };
    let late = Notes {
        never_in_flight: true,
        ..Notes::default()
    };
    let (outcomes, said) = run(&late, vec![crash.clone()], 0).await;
    assert!(said.is_empty() && !outcomes[0].fired && outcomes[0].trouble.is_none());
    let broken = Notes {
        start_fails: true,
        ..Notes::default()
    };
    let (outcomes, _) = run(&broken, vec![crash], 0).await;
    assert_eq!(outcomes[0].trouble.as_deref(), Some("it does not start"));
}

#[tokio::test]
async fn after_a_node_that_does_not_come_back_no_other_is_struck() {
    let broken = Notes {
        start_fails: true,
        ..Notes::default()
    };
    let kill = |id: u32, node: u16| Fault {
        id,
        class: Class::ProcessKill,
        when: When::AtMs(u64::from(id)),
        action: Action::Kill {
            target: Target::Node(node),
            restart_after_ms: 1,
        },
    };
    let (outcomes, said) = run(&broken, vec![kill(0, 0), kill(1, 1), kill(2, 2)], 3).await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert_eq!(said, ["kill node 1", "start node 1"]);
}
