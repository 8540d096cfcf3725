//! Carries a plan out on real processes: kill -9, SIGSTOP and starts again, of settlement, of the engine and, where a
//! command for it is configured, of database nodes. What this world cannot do is said by [`cannot`] before anything runs;
//! such a fault is left out and counted as not fired, never approximated in silence.
//!
//! The faults of one program wait for one another, and so do those of all database nodes, because the budget has one node
//! away at a time and a real one comes back when it can; everything else runs side by side, as the plan says. How a process
//! is struck is the business of whoever has it: see [`Hands`].
use crate::budget::Window;
use crate::plan::{Action, Fault, Plan, Target, When};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// After a fault has ended its symptoms are waited for so long before it is judged whether it has bitten: a client's
/// patience with one request (4 s) and a retry.
pub const AFTERMATH: Duration = Duration::from_secs(6);

/// What strikes processes.
pub trait Hands: Clone + Send + Sync + 'static {
    /// kill -9. Returns what was seen in that moment, in words.
    fn kill(&self, target: Target) -> impl Future<Output = Result<Struck, String>> + Send;
    /// Starts what was killed.
    fn start(&self, target: Target) -> impl Future<Output = Result<(), String>> + Send;
    /// SIGSTOP.
    fn freeze(&self, target: Target) -> impl Future<Output = Result<Struck, String>> + Send;
    /// SIGCONT.
    fn resume(&self, target: Target) -> impl Future<Output = Result<(), String>> + Send;
    /// Waits until the process works again after a blow, within a bound of its own: what is only just starting is not worth
    /// striking. A database node works for settlement: nobody would notice a blow while settlement is away.
    fn until_up(&self, target: Target) -> impl Future<Output = ()> + Send;
    /// Whether settlement has been running for some seconds and has not got as far as answering about itself: it cannot
    /// begin without the database.
    fn is_held_up(&self) -> bool;
    /// Waits until settlement has received this event, and a batch of it or of a later one is on its way; false if nothing
    /// more will be.
    fn until_in_flight(&self, output_sequence: u64) -> impl Future<Output = bool> + Send;
    /// How often settlement has been in trouble with the database so far: retries, unknown outcomes, windows sent again,
    /// nodes that could not be asked.
    fn troubles(&self) -> u64;
}

/// What was seen in the moment of a blow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// In words.
    pub seen: String,
    /// Whether the program had something to do, so that striking it could change an outcome.
    pub at_work: bool,
    /// Events that settlement had received and not yet had acknowledged, where settlement was struck.
    pub in_flight: Option<u64>,
}

/// What became of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The fault.
    pub id: u32,
    /// Its moment came, and it could be carried out.
    pub fired: bool,
    /// It changed an outcome: settlement was struck with events in flight, or had trouble with the database from the
    /// blow until a little after its end, or could not begin before that end. The engine was struck: it was away while it still had events to publish.
    pub bit: bool,
    /// What it did, when; or why it did not.
    pub detail: String,
    /// Events in flight when settlement was struck.
    pub in_flight: Option<u64>,
    /// The span in which a database node was away.
    pub window: Option<Window>,
    /// What went wrong with carrying it out: the run proves nothing then.
    pub trouble: Option<String>,
}

/// Why this fault cannot be carried out on real processes; None if it can. `nodes` is the number of database nodes that
/// can be struck, 0 where no command for it is configured.
pub fn cannot(fault: &Fault, nodes: u16) -> Option<String> {
    let node = |target: Target| match target {
        Target::Node(_) if nodes == 0 => Some("no command is given that strikes database nodes".into()),
        Target::Node(node) if node >= nodes => Some(format!("the database has no node {}", node + 1)),
        _ => None,
    };
    match fault.action {
        Action::CrashSettlement { .. } => None,
        Action::Kill { target, .. } | Action::Pause { target, .. } => match fault.when {
            When::AtMs(_) => node(target),
            _ => Some("a real process is struck at a time, not at a message".into()),
        },
        Action::KillCoordinatorAfterBatchlog { .. } | Action::KillCoordinatorMidBatch { .. } => {
            Some("which node coordinates a batch, and how far it is, cannot be seen from outside".into())
        }
        Action::TimeOutBatch(_) => {
            Some("a real server cannot be told to answer a timeout; freeze a node instead".into())
        }
        Action::Duplicate { .. }
        | Action::Delay { .. }
        | Action::Drop { .. }
        | Action::Damage { .. }
        | Action::Forge { .. }
        | Action::PublishRefused { .. } => Some("nothing stands in the way of the feed here".into()),
        Action::KillAll { .. } => Some("processes are killed one by one here".into()),
        Action::PowerLoss { .. }
        | Action::PowerLossAll { .. }
        | Action::PowerLossDatabase { .. }
        | Action::TornTail { .. } => Some("a machine that loses power takes this run with it".into()),
        Action::CutClient { .. } | Action::CutPeer { .. } => {
            Some("cutting real links needs the rights of an administrator".into())
        }
        Action::DiskEio { .. }
        | Action::DiskFull { .. }
        | Action::DiskLost { .. }
        | Action::DiskRot { .. }
        | Action::DiskUnreadable { .. } => Some("the disk is this machine's own".into()),
        Action::RefuseYetApply { .. } | Action::Lie { .. } => {
            Some("a real server cannot be told to show an anomaly".into())
        }
        Action::RejectBatch => Some("a real server's limits are its configuration's".into()),
    }
}

/// Carries out every fault of the plan that can be, times counting from `began`. Returns what became of each, in the order
/// of the plan, when the last has ended and `aftermath` ([`AFTERMATH`] but in tests) has passed; or of those until the first
/// that could not be carried out, at once: then no further one is begun.
pub async fn carry_out<H: Hands>(
    hands: &H,
    plan: &Plan,
    nodes: u16,
    began: Instant,
    aftermath: Duration,
) -> Vec<Outcome> {
    let (settlement, engine, database): (Lock, Lock, Lock) = Default::default();
    let lock_of = |fault: &Fault| match target(fault)? {
        Target::Settlement => Some(Arc::clone(&settlement)),
        Target::Engine => Some(Arc::clone(&engine)),
        Target::Node(_) => Some(Arc::clone(&database)),
    };
    let mut tasks = JoinSet::new();
    let mut ids = BTreeMap::new();
    let mut outcomes = BTreeMap::new();
    for fault in &plan.faults {
        if let Some(why) = cannot(fault, nodes) {
            let detail = format!("not in this world: {why}");
            outcomes.insert(
                fault.id,
                Outcome {
                    id: fault.id,
                    detail,
                    ..Outcome::default()
                },
            );
        } else if let Some(lock) = lock_of(fault) {
            let (hands, fault) = (hands.clone(), fault.clone());
            let id = fault.id;
            let task = tasks.spawn(async move { one(&hands, &fault, &lock, (began, aftermath)).await });
            ids.insert(task.id(), id);
        }
    }
    while let Some(ended) = tasks.join_next_with_id().await {
        let outcome = match ended {
            Ok((_, outcome)) => outcome,
            Err(broken) => Outcome {
                id: ids.get(&broken.id()).copied().unwrap_or_default(),
                trouble: Some(format!("carrying it out broke down: {broken}")),
                ..Outcome::default()
            },
        };
        let is_over = outcome.trouble.is_some();
        outcomes.insert(outcome.id, outcome);
        // A node that does not come back must not be joined by the next: whoever carries this out puts things right.
        if is_over {
            tasks.abort_all();
            break;
        }
    }
    outcomes.into_values().collect()
}

/// Whose process a fault strikes; None for what cannot be carried out here.
fn target(fault: &Fault) -> Option<Target> {
    match fault.action {
        Action::CrashSettlement { .. } => Some(Target::Settlement),
        Action::Kill { target, .. } | Action::Pause { target, .. } => Some(target),
        _ => None,
    }
}

/// What is done to a target, and for how long.
struct Blow {
    target: Target,
    is_kill: bool,
    for_ms: u64,
}

fn blow(fault: &Fault) -> Option<Blow> {
    let (target, is_kill, for_ms) = match fault.action {
        Action::CrashSettlement { restart_after_ms, .. } => (Target::Settlement, true, restart_after_ms),
        Action::Kill {
            target,
            restart_after_ms,
        } => (target, true, restart_after_ms),
        Action::Pause { target, for_ms } => (target, false, for_ms),
        _ => return None,
    };
    Some(Blow {
        target,
        is_kill,
        for_ms,
    })
}

/// The start of the run, and how long symptoms are waited for.
type Times = (Instant, Duration);

/// Held while a program is struck; and whether it could not be put right, after which nobody strikes.
type Lock = Arc<Mutex<bool>>;

async fn one<H: Hands>(hands: &H, fault: &Fault, lock: &Mutex<bool>, times: Times) -> Outcome {
    let mut outcome = Outcome {
        id: fault.id,
        detail: "its moment did not come".into(),
        ..Outcome::default()
    };
    let Some(blow) = blow(fault) else {
        return outcome;
    };
    let moment = async || match fault.when {
        When::AtMs(at_ms) => {
            sleep_until(times.0 + Duration::from_millis(at_ms)).await;
            true
        }
        When::Batch { output_sequence, .. } | When::Published { output_sequence } => {
            hands.until_in_flight(output_sequence).await
        }
    };
    let mut due = moment().await;
    let mut is_broken = lock.lock().await;
    if *is_broken {
        return outcome;
    }
    // The one before may have taken its time, and the moment with it.
    hands.until_up(blow.target).await;
    due = due && moment().await;
    if due && let Err(trouble) = strike(hands, &blow, times, &mut outcome).await {
        *is_broken = true;
        outcome.detail = trouble.clone();
        outcome.trouble = Some(trouble);
    }
    outcome
}

async fn strike<H: Hands>(
    hands: &H,
    blow: &Blow,
    (began, aftermath): Times,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let (troubles, from_ms) = (hands.troubles(), ms(began));
    let struck = if blow.is_kill {
        hands.kill(blow.target).await?
    } else {
        hands.freeze(blow.target).await?
    };
    outcome.fired = true;
    sleep(Duration::from_millis(blow.for_ms)).await;
    let is_held_up = hands.is_held_up();
    if blow.is_kill {
        hands.start(blow.target).await?;
    } else {
        hands.resume(blow.target).await?;
    }
    let to_ms = ms(began);
    let what = if blow.is_kill { "kill -9" } else { "SIGSTOP" };
    outcome.detail = format!(
        "{what} of {} at {:.1} s for {:.1} s{}",
        name(blow.target),
        from_ms as f64 / 1_000.0,
        to_ms.saturating_sub(from_ms) as f64 / 1_000.0,
        if struck.seen.is_empty() {
            String::new()
        } else {
            format!(": {}", struck.seen)
        }
    );
    outcome.in_flight = struck.in_flight;
    if let Target::Node(node) = blow.target {
        outcome.window = Some(Window { node, from_ms, to_ms });
        sleep(aftermath).await;
        outcome.bit = is_held_up || hands.troubles() > troubles;
    } else {
        outcome.bit = struck.at_work;
    }
    Ok(())
}

fn ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// As people call it; database nodes count from 1, like their addresses.
pub fn name(target: Target) -> String {
    match target {
        Target::Settlement => "settlement".into(),
        Target::Engine => "the engine".into(),
        Target::Node(node) => format!("node {}", node + 1),
    }
}

#[cfg(test)]
mod tests;
